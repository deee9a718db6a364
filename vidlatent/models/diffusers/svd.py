"""AutoencoderKLTemporalDecoder (Stable Video Diffusion): frames encoded alone, decoded so many together."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from vidlatent.grid import Grid
from vidlatent.models.causal import TimeState
from vidlatent.models.clips import as_clip, as_frames
from vidlatent.models.diffusers.clip import ClipMemory, Network, chunks
from vidlatent.models.diffusers.row import Row, encode_whole, own_cuts
from vidlatent.models.options import Option
from vidlatent.windows import Plan, TimeRule

CHUNK = 14  # frames that its pipeline decodes together


def encode(network: Network, video: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Pixels [B, 3, T, H, W] → moments [B, 2C, T, h, w], each frame by itself."""
    for frame in video.unbind(2):
        yield network.vae.quant_conv(network.vae.encoder(frame))[:, :, None]


def decode(network: Network, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Latents [B, C, T, h, w] → pixels [B, 3, T, H, W], so many frames together as the setting says."""
    memory, size = ClipMemory.of(network, state), int(network.spec.setting("chunk"))
    for chunk in chunks(memory, latents, (size, size), 1, state.more):
        batch, _, frames = chunk.shape[:3]
        still = chunk.new_zeros(batch, frames)
        video = network.vae.decoder(as_frames(chunk), num_frames=frames, image_only_indicator=still)
        yield as_clip(video, batch)


def _encode_whole_clip(vae: nn.Module, video: Tensor) -> Tensor:
    return as_clip(encode_whole(vae, as_frames(video)), len(video))


def _decode_whole_clip(vae: nn.Module, latents: Tensor) -> Tensor:
    """As its pipeline: so many frames at a time."""
    parts = latents.split(CHUNK, dim=2)
    return torch.cat([as_clip(vae.decode(as_frames(z), z.shape[2]).sample, len(z)) for z in parts], dim=2)


ROW = Row(
    grid=lambda c: Grid(1, 2 ** (len(c["block_out_channels"]) - 1)),
    plan=lambda c: Plan(TimeRule(15), TimeRule(CHUNK, batches=True)),
    encode=encode,
    decode=decode,
    defaults={"block_out_channels": [64], "scaling_factor": 0.18215, "latent_channels": 4},
    encode_whole=_encode_whole_clip,
    decode_whole=_decode_whole_clip,
    narrow=lambda c: {"block_out_channels": [32] * len(c["block_out_channels"]), "layers_per_block": 1},
    windows=own_cuts,
    options=(Option("chunk", CHUNK, "frames that are decoded together", least=1, most=1024),),
)
