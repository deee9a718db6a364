"""AutoencoderKLAllegro: windows of 24 frames (6 latents) that share 8 (2), in tiles of 320 pixels."""

from collections.abc import Iterator

from torch import Tensor, nn

from vidlatent.grid import Grid
from vidlatent.models.causal import TimeState
from vidlatent.models.clips import as_clip, as_frames
from vidlatent.models.diffusers.clip import ClipMemory, Network, demand_rest
from vidlatent.models.diffusers.row import Config, Row, decode_whole, encode_whole, narrow_tree, own_cuts
from vidlatent.windows import Plan, Tiling, TimeRule

FRAMES, SHARED = 24, 8


def encode(network: Network, video: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Pixels [B, 3, T, H, W] → moments [B, 2C, t, h, w]."""
    vae = network.vae
    windows = _windows(network, video, state, (FRAMES, SHARED), vae.encoder)
    yield from (as_clip(vae.quant_conv(as_frames(h)), len(h)) for h in windows)


def decode(network: Network, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Latents [B, C, t, h, w] → pixels [B, 3, T, H, W]."""
    vae, time = network.vae, network.spec.grid.time
    z = as_clip(vae.post_quant_conv(as_frames(latents)), len(latents)) if latents.shape[2] else latents
    sizes = (FRAMES // time, SHARED // time)
    yield from _windows(network, z, state, sizes, vae.decoder)


def _windows(
    network: Network, x: Tensor, state: TimeState, sizes: tuple[int, int], part: nn.Module
) -> Iterator[Tensor]:
    """What `part` makes of windows of so many inputs, of which so many are shared with the next."""
    memory, (size, shared) = ClipMemory.of(network, state), sizes
    memory.add(x)
    while memory.waiting >= size:
        window = memory.first(size)
        memory.take(size - shared)
        y = part(window)
        yield memory.hold(memory.cross_fade(y), y.shape[2] * shared // size)
    if not state.more:
        demand_rest(memory, shared if memory.held is not None else 0, network.spec)
        yield from memory.release()


TILES = (  # rows and columns, of pixels and of latents
    (Tiling(320, 200, 15, 25), Tiling(40, 25, 120, 200)),
    (Tiling(320, 240, 10, 30), Tiling(40, 30, 80, 240)),
)


def _plan_of(c: Config) -> Plan:
    (rows, latent_rows), (columns, latent_columns) = TILES
    hop = FRAMES - SHARED
    return Plan(
        TimeRule(hop, batches=True),
        TimeRule(hop // c["temporal_compression_ratio"], batches=True),
        encode_tiles=rows,
        decode_tiles=latent_rows,
        encode_columns=columns,
        decode_columns=latent_columns,
    )


def _as_one_tile(vae: nn.Module, height: int, width: int) -> None:
    """Without tiles the class does nothing, so frames are one."""
    vae.use_tiling = True
    vae.kernel = (FRAMES, height, width)
    vae.stride = (FRAMES - SHARED, height, width)


def _encode_whole_clip(vae: nn.Module, video: Tensor) -> Tensor:
    _as_one_tile(vae, *video.shape[-2:])
    return encode_whole(vae, video)


def _decode_whole_clip(vae: nn.Module, latents: Tensor) -> Tensor:
    _as_one_tile(vae, *(side * vae.spatial_compression_ratio for side in latents.shape[-2:]))
    return decode_whole(vae, latents).transpose(1, 2)


ROW = Row(
    grid=lambda c: Grid(
        c["temporal_compression_ratio"],
        2 ** (len(c["block_out_channels"]) - 1),
        head=c["temporal_compression_ratio"],
        least=FRAMES,
        stride=FRAMES - SHARED,
    ),
    plan=_plan_of,
    encode=encode,
    decode=decode,
    defaults={
        "temporal_compression_ratio": 4,
        "block_out_channels": [128, 256, 512, 512],
        "latent_channels": 4,
        "scaling_factor": 0.13,
    },
    demands={"sample_size": 320, "temporal_compression_ratio": 4},
    encode_whole=_encode_whole_clip,
    decode_whole=_decode_whole_clip,
    narrow=narrow_tree,
    windows=own_cuts,
)
