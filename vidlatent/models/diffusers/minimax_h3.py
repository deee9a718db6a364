"""AutoencoderKLMiniMaxH3: clips of 17 frames, each 5 latents; the last three of a whole clip are dropped."""

from collections.abc import Iterator
from math import prod

import torch
from torch import Tensor, nn

from vidlatent.grid import Grid
from vidlatent.models.causal import TimeState
from vidlatent.models.diffusers.clip import ClipMemory, Network, demand_rest
from vidlatent.models.diffusers.row import Config, Row, decode_whole, encode_whole, made_here, own_cuts
from vidlatent.models.options import Option
from vidlatent.windows import Plan, TimeRule

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def encode(network: Network, video: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Pixels [B, 3, T, H, W] → moments [B, 2C, t, h, w]."""
    memory, vae = ClipMemory.of(network, state), network.vae
    length, drop = vae.config.clip_length, vae.config.token_drop
    memory.add(to_imagenet(video))
    while memory.waiting >= length or (memory.waiting and not state.more):
        clip = memory.take(length)
        short = length - clip.shape[2]
        clip = torch.cat([clip] + [clip[:, :, -1:]] * short, dim=2)
        yield from memory.release()
        yield memory.hold(_tiled(network)._encode_clip(clip), drop)


def decode(network: Network, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Latents [B, C, t, h, w] → pixels [B, 3, T, H, W]."""
    memory, vae = ClipMemory.of(network, state), network.vae
    chunk, overlap, before = vae.tokens_chunk_size, vae.token_overlap, vae.frame_pre_padding
    frames = chunk * network.spec.grid.time
    memory.add(latents)
    while memory.waiting >= chunk + overlap:
        z = memory.first(chunk + overlap)
        memory.take(chunk)
        clip = _tiled(network)._decode_clip(z)
        video = memory.cross_fade(clip[:, :, before:frames])
        memory.held = clip[:, :, frames + before :].clone()
        yield from_imagenet(video)
    if not state.more:
        demand_rest(memory, overlap if memory.held is not None else 0, network.spec)
        yield from map(from_imagenet, memory.release())


def _tiled(network: Network) -> nn.Module:
    """The VAE, which cuts frames into tiles if the setting says so."""
    network.vae.use_tiling = bool(network.spec.setting("tiles"))
    return network.vae


def to_imagenet(video: Tensor) -> Tensor:
    """Pixels in [-1, 1] → what the class takes: [0, 1] less a mean, over a deviation."""
    mean, std = (video.new_tensor(values).view(-1, 1, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return ((video + 1) / 2 - mean) / std


def from_imagenet(video: Tensor) -> Tensor:
    """What the class gives → pixels in [-1, 1]."""
    mean, std = (video.new_tensor(values).view(-1, 1, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (video * std + mean) * 2 - 1


def _encode_whole_clip(vae: nn.Module, video: Tensor) -> Tensor:
    return encode_whole(vae, to_imagenet(video))


def _decode_whole_clip(vae: nn.Module, latents: Tensor) -> Tensor:
    return from_imagenet(decode_whole(vae, latents))


def prepare(vae: nn.Module) -> None:
    """Make the angles of its decoder, which no file holds."""
    c, decoder = vae.config, vae.decoder
    width = int(c.decoder_attention_head_dim * c.decoder_rope_dim_ratio)
    decoder.rope = made_here(lambda: type(decoder.rope)(width, theta=c.decoder_rope_theta))


def _grid_of(c: Config) -> Grid:
    if prod(c["temporal_downsample_factors"]) != 4:
        raise ValueError("its clips are of 17 frames and 5 latents, so latents must be of 4 frames")
    return Grid(4, prod(c["spatial_downsample_factors"]), run=5, least=22, stride=17)


ROW = Row(
    grid=_grid_of,
    plan=lambda c: Plan(TimeRule(17, batches=True), TimeRule(5, batches=True)),
    encode=encode,
    decode=decode,
    defaults={
        "spatial_downsample_factors": [2, 2, 2, 2, 1, 1],
        "temporal_downsample_factors": [1, 2, 2, 1, 1, 1],
        "latent_channels": 24,
        "latents_mean": [0.0] * 24,
        "latents_std": [1.0] * 24,
    },
    demands={"clip_length": 17, "token_drop": 3},
    prepare=prepare,
    encode_whole=_encode_whole_clip,
    decode_whole=_decode_whole_clip,
    narrow=lambda c: {
        "block_out_channels": [8] * len(c["spatial_downsample_factors"]),
        "norm_num_groups": 4,
        "layers_per_block": 1,
        "decoder_num_layers": 1,
        "decoder_num_attention_heads": 2,
        "decoder_attention_head_dim": 16,
    },
    windows=own_cuts,
    options=(Option("tiles", True, "cut frames into tiles of 256 px, as the authors do", latents=True),),
    side=32,
    half=False,
)
