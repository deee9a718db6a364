"""AutoencoderVidTok, causal and continuous: caches on its layers; decoding looks one latent ahead."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from vidlatent.grid import Grid
from vidlatent.models.causal import TimeState
from vidlatent.models.diffusers.clip import ClipMemory, Network, chunks, lent
from vidlatent.models.diffusers.row import Config, Row, encode_whole, own_cuts
from vidlatent.windows import Plan, TimeRule

FRAMES = 16


def encode(network: Network, video: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Pixels [B, 3, T, H, W] → moments [B, 2C, t, h, w]; copies of the first frame stand before it."""
    memory, time = ClipMemory.of(network, state), network.spec.grid.time
    if video.shape[2] and state.begins(network.vae.encoder):
        video = torch.cat([video[:, :, :1]] * (time - 1) + [video], dim=2)
    for chunk in chunks(memory, video, (time, FRAMES), time, state.more):
        yield _run(network.vae.encoder, chunk, memory, first=memory.taken == time)


def decode(network: Network, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Latents [B, C, t, h, w] → pixels [B, 3, T, H, W], as the class's own tiled decoding cuts time.

    A chunk waits until the one after it is known to be full: at the end of a clip a short one joins it.
    """
    memory, time = ClipMemory.of(network, state), network.spec.grid.time
    size = FRAMES // time
    memory.add(latents)
    while (count := _next_count(memory, size, state.more)) is not None:
        first, ahead = not memory.taken, memory.first(count + 1)
        memory.take(count)
        video = _run(network.vae.decoder, ahead, memory, first)
        last = (ahead.shape[2] - count) * time  # frames of the latent that was only looked at
        yield video[:, :, time - 1 if first else 0 : video.shape[2] - last]


def _next_count(memory: ClipMemory, size: int, more: bool) -> int | None:
    """Latents of the next chunk; None where there is none yet."""
    if not memory.waiting:
        return None
    if not memory.taken:
        return 1 if memory.waiting > 1 or not more else None
    if memory.waiting >= 2 * size:
        return size
    return None if more else memory.waiting


def _run(part: nn.Module, x: Tensor, memory: ClipMemory, first: bool) -> Tensor:
    """What the encoder or the decoder makes of a chunk."""
    for layer in part.modules():
        if "is_first_chunk" in vars(layer):
            layer.is_first_chunk = first
    with lent(part, "causal_cache", memory, _keep):
        return part(x)


def _keep(layer: nn.Module, cache: Tensor) -> Tensor:
    """As many frames as a convolution needs of what it keeps, which is all; others keep what they need."""
    needed = vars(layer).get("time_pad", cache.shape[2])
    return cache[:, :, cache.shape[2] - needed :].clone()


def prepare(vae: nn.Module) -> None:
    """Tell the decoder's layers how many of their frames are those of the latent that is only looked at."""
    decoder, ahead = vae.decoder, 1
    levels = []
    for level in reversed(range(decoder.num_resolutions)):
        levels.append((decoder.up_temporal[level], ahead))
        if level in decoder.spatial_us and level in decoder.tempo_us:
            ahead *= 2
            levels.append((decoder.up_temporal[level].upsample, ahead))
    for part, frames in [(decoder, 1), *levels, (decoder.conv_out, ahead)]:
        for layer in part.modules():
            if "cache_offset" in vars(layer):
                layer.cache_offset = frames


def _grid_of(c: Config) -> Grid:
    levels = len(c["ch_mult"])
    in_space = c["spatial_ds"] if c["spatial_ds"] is not None else range(levels - 1)
    in_time = c["tempo_ds"] if c["tempo_ds"] is not None else range(2)
    return Grid(2 ** len(in_time), 2 ** len(in_space))


def _encode_whole_clip(vae: nn.Module, video: Tensor) -> Tensor:
    before = vae.temporal_compression_ratio - 1
    return encode_whole(vae, torch.cat([video[:, :, :1]] * before + [video], dim=2))


def _decode_whole_clip(vae: nn.Module, latents: Tensor) -> Tensor:
    side = 2 ** len(vae.encoder.spatial_ds) * max(latents.shape[-2:])
    vae.enable_tiling(side, side)  # one tile, but cut in time
    return vae.decode(latents)


ROW = Row(
    grid=_grid_of,
    plan=lambda c: Plan(
        TimeRule(FRAMES, batches=True),
        TimeRule(FRAMES // _grid_of(c).time, batches=True),
    ),
    encode=encode,
    decode=decode,
    channels="z_channels",
    defaults={"ch_mult": [1, 2, 4, 4], "z_channels": 4, "spatial_ds": None, "tempo_ds": None},
    demands={"regularizer": "kl", "is_causal": True},
    prepare=prepare,
    encode_whole=_encode_whole_clip,
    decode_whole=_decode_whole_clip,
    narrow=lambda c: {"ch": 8, "num_res_blocks": 1},
    windows=own_cuts,
)
