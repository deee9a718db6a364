"""AutoencoderKLMagvit (EasyAnimate): caches on its layers; a first frame, then four; a latent at a time."""

from collections.abc import Iterator

from torch import Tensor, nn

from vidlatent.grid import Grid
from vidlatent.models.causal import TimeState
from vidlatent.models.diffusers.clip import ClipMemory, Network, chunks, lent
from vidlatent.models.diffusers.row import Config, Row, narrow_tree
from vidlatent.models.horizon import Horizon, Step, back, narrowed, widened
from vidlatent.windows import Plan, TimeRule


def encode(network: Network, video: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Pixels [B, 3, T, H, W] → moments [B, 2C, t, h, w]."""
    memory, vae = ClipMemory.of(network, state), network.vae
    for chunk in chunks(memory, video, (1, 4), network.spec.grid.time, state.more):
        with lent(vae.encoder, "prev_features", memory, _keep):
            h = vae.encoder(chunk)
        yield vae.quant_conv(h)


def decode(network: Network, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Latents [B, C, t, h, w] → pixels [B, 3, T, H, W]."""
    memory, vae = ClipMemory.of(network, state), network.vae
    for chunk in chunks(memory, latents, (1, 1), 1, state.more):
        with lent(vae.decoder, "prev_features", memory, _keep):
            video = vae.decoder(vae.post_quant_conv(chunk))
        yield video


def _keep(layer: nn.Module, cache: Tensor) -> Tensor:
    """All of a convolution's cache; an up-sampler only wants to know that there was a frame."""
    return cache if isinstance(layer, nn.Conv3d) else cache.new_empty(0)


def _grid_of(c: Config) -> Grid:
    halved = [kind == "SpatialTemporalDownBlock3D" for kind in c["down_block_types"][:-1]]
    return Grid(2 ** sum(halved), 2 ** len(halved))


def _horizon_of(c: Config) -> Horizon | None:
    """How far back its convolutions see; where norms look at a chunk, all of it counts."""
    if not c["spatial_group_norm"]:
        return None
    blocks, kernel = c["layers_per_block"], back(2)
    down: list[Step] = [kernel]
    for kind in c["down_block_types"][:-1]:
        down += [back(4)] * blocks
        down.append(narrowed(2, 3) if kind == "SpatialTemporalDownBlock3D" else kernel)
    down += [back(4)] * (2 * blocks) + [kernel]  # the last level and the middle
    up: list[Step] = [kernel] + [back(4)] * blocks
    for kind in c["up_block_types"][:-1]:
        up += [back(4)] * (blocks + 1) + [kernel]
        up += [widened(2)] if kind == "SpatialTemporalUpBlock3D" else []
    up += [back(4)] * (blocks + 1) + [kernel]
    return Horizon.count(_grid_of(c), down, up)


def _plan_of(c: Config) -> Plan:
    """Exact where norms look at one frame; else chunks are those of the class."""
    rules = {"batches": not c["spatial_group_norm"]}
    return Plan(TimeRule(4, **rules), TimeRule(1, **rules))


ROW = Row(
    grid=_grid_of,
    plan=_plan_of,
    horizon=_horizon_of,
    encode=encode,
    decode=decode,
    defaults={
        "down_block_types": ["SpatialDownBlock3D"] + ["SpatialTemporalDownBlock3D"] * 3,
        "up_block_types": ["SpatialUpBlock3D"] + ["SpatialTemporalUpBlock3D"] * 3,
        "layers_per_block": 2,
        "spatial_group_norm": True,
        "block_out_channels": [128, 256, 512, 512],
        "scaling_factor": 0.7125,
        "latent_channels": 16,
    },
    narrow=narrow_tree,
)
