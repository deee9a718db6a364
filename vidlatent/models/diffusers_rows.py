"""The video VAEs that run through diffusers: a row of facts for each of its classes.

What a class loses, leaves blank or cannot do is in its row: which lengths a clip is filled to, how it is cut,
and which configs are refused. None of the classes' own tiling is used but that of MiniMax-H3, whose authors
publish what it gives.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor, nn

from vidlatent.errors import BadWeights, UsageError
from vidlatent.grid import Grid
from vidlatent.models import diffusers_drivers as drive
from vidlatent.models.base import WindowRule
from vidlatent.models.horizon import Horizon, Step, back, narrowed, widened
from vidlatent.models.layers import as_clip, as_frames
from vidlatent.models.options import Option
from vidlatent.windows import Plan, Tiling, TimeRule

Config = Mapping[str, object]
Whole = Callable[[nn.Module, Tensor], Tensor]


def _as_it_is(vae: nn.Module) -> None:
    pass


def _encode_whole(vae: nn.Module, video: Tensor) -> Tensor:
    return vae.encode(video).latent_dist.mode()


def _decode_whole(vae: nn.Module, latents: Tensor) -> Tensor:
    return vae.decode(latents).sample


def own_cuts(frames: int) -> tuple[TimeRule, TimeRule]:
    """Refuse windows that a user asks for: the class is cut as its authors cut it."""
    raise UsageError("this model is cut in time as its authors cut it", "leave it out")


@dataclass(frozen=True)
class Row:
    """What is known of a class: facts that follow from its config, and what drives it.

    `defaults` are those of the class, as far as facts follow from them. `narrow` makes a small network of a
    config, and `encode_whole` and `decode_whole` are the class's own calls, all for the test at load.
    """

    grid: Callable[[Config], Grid]
    plan: Callable[[Config], Plan]
    encode: drive.Drive
    decode: drive.Drive
    narrow: Callable[[Config], Config]
    defaults: Config = field(default_factory=dict)
    channels: str = "latent_channels"  # the config's name for them
    demands: Config = field(default_factory=dict)  # what a config must say, if it says anything
    prepare: Callable[[nn.Module], None] = _as_it_is
    encode_whole: Whole = _encode_whole
    decode_whole: Whole = _decode_whole
    windows: WindowRule | None = None
    horizon: Callable[[Config], Horizon | None] = lambda said: None
    options: tuple[Option, ...] = ()
    side: int = 16  # of the pictures of the test at load
    half: bool = True  # whether it may run in half precision

    def check(self, config: Config) -> Config:
        """The config with the class's defaults; raises BadWeights where it is of another kind."""
        said = {**self.defaults, **config}
        for name, wanted in self.demands.items():
            if said.get(name, wanted) != wanted:
                raise BadWeights(
                    f"config of {config['_class_name']}: {name} = {said[name]!r} is not supported",
                    f"supported through diffusers: {name} = {wanted!r}",
                )
        return said


def _narrow_tree(c: Config) -> Config:
    return {
        "block_out_channels": [8] * len(c["block_out_channels"]),
        "norm_num_groups": 4,
        "layers_per_block": 1,
    }


def _of_magvit(c: Config) -> Grid:
    halved = [kind == "SpatialTemporalDownBlock3D" for kind in c["down_block_types"][:-1]]
    return Grid(2 ** sum(halved), 2 ** len(halved))


def _horizon_of_magvit(c: Config) -> Horizon | None:
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
    return Horizon.count(_of_magvit(c), down, up)


def _plan_of_magvit(c: Config) -> Plan:
    """Exact where norms look at one frame; else chunks are those of the class."""
    rules = {"batches": not c["spatial_group_norm"]}
    return Plan(TimeRule(4, **rules), TimeRule(1, **rules))


MAGVIT = Row(
    grid=_of_magvit,
    plan=_plan_of_magvit,
    horizon=_horizon_of_magvit,
    encode=drive.encode_magvit,
    decode=drive.decode_magvit,
    defaults={
        "down_block_types": ["SpatialDownBlock3D"] + ["SpatialTemporalDownBlock3D"] * 3,
        "up_block_types": ["SpatialUpBlock3D"] + ["SpatialTemporalUpBlock3D"] * 3,
        "layers_per_block": 2,
        "spatial_group_norm": True,
        "block_out_channels": [128, 256, 512, 512],
        "scaling_factor": 0.7125,
        "latent_channels": 16,
    },
    narrow=_narrow_tree,
)

KVAE = Row(
    grid=lambda c: Grid(
        c["temporal_compress_times"],
        2 ** (len(c["ch_mult"]) - 1),
        stride=2 * c["temporal_compress_times"],  # others end in a chunk of one latent, and lose frames there
    ),
    plan=lambda c: Plan(
        TimeRule(drive.KVAE_FRAMES, batches=True),
        TimeRule(drive.KVAE_FRAMES // c["temporal_compress_times"], batches=True),
    ),
    encode=drive.encode_kvae,
    decode=drive.decode_kvae,
    channels="z_channels",
    defaults={"ch_mult": [1, 2, 4, 8], "temporal_compress_times": 4, "z_channels": 16},
    narrow=lambda c: {"ch": 32, "ch_mult": [1] * len(c["ch_mult"]), "num_res_blocks": 1},
    windows=own_cuts,
)


def _of_vidtok(c: Config) -> Grid:
    levels = len(c["ch_mult"])
    in_space = c["spatial_ds"] if c["spatial_ds"] is not None else range(levels - 1)
    in_time = c["tempo_ds"] if c["tempo_ds"] is not None else range(2)
    return Grid(2 ** len(in_time), 2 ** len(in_space))


def _encode_vidtok_whole(vae: nn.Module, video: Tensor) -> Tensor:
    before = vae.temporal_compression_ratio - 1
    return _encode_whole(vae, torch.cat([video[:, :, :1]] * before + [video], dim=2))


def _decode_vidtok_whole(vae: nn.Module, latents: Tensor) -> Tensor:
    side = 2 ** len(vae.encoder.spatial_ds) * max(latents.shape[-2:])
    vae.enable_tiling(side, side)  # one tile, but cut in time
    return vae.decode(latents)


VIDTOK = Row(
    grid=_of_vidtok,
    plan=lambda c: Plan(
        TimeRule(drive.VIDTOK_FRAMES, batches=True),
        TimeRule(drive.VIDTOK_FRAMES // _of_vidtok(c).time, batches=True),
    ),
    encode=drive.encode_vidtok,
    decode=drive.decode_vidtok,
    channels="z_channels",
    defaults={"ch_mult": [1, 2, 4, 4], "z_channels": 4, "spatial_ds": None, "tempo_ds": None},
    demands={"regularizer": "kl", "is_causal": True},
    prepare=drive.prepare_vidtok,
    encode_whole=_encode_vidtok_whole,
    decode_whole=_decode_vidtok_whole,
    narrow=lambda c: {"ch": 8, "num_res_blocks": 1},
    windows=own_cuts,
)

# fmt: off
MOCHI_LATENTS = (  # mean and deviation of each channel
    (-0.06730895953510081, -0.038011381506090416, -0.07477820912866141, -0.05565264470995561,
     0.012767231469026969, -0.04703542746246419, 0.043896967884726704, -0.09346305707025976,
     -0.09918314763016893, -0.008729793427399178, -0.011931556316503654, -0.0321993391887285),
    (0.9263795028493863, 0.9248894543193766, 0.9393059390890617, 0.959253732819592,
     0.8244560132752793, 0.917259975397747, 0.9294154431013696, 1.3720942357788521,
     0.881393668867029, 0.9168315692124348, 0.9185249279345552, 0.9274757570805041),
)
# fmt: on
MOCHI_LEAD = 25  # frames before a window of its encoder, where it is not given the whole clip
MOCHI = Row(
    grid=lambda c: Grid(prod(c["temporal_expansions"]), prod(c["spatial_expansions"])),
    plan=lambda c: Plan(TimeRule(0, MOCHI_LEAD), TimeRule(2)),
    encode=drive.encode_mochi,
    decode=drive.decode_mochi,
    defaults={
        "temporal_expansions": [1, 2, 3],
        "spatial_expansions": [2, 2, 2],
        "latent_channels": 12,
        "scaling_factor": 1.0,
        "latents_mean": MOCHI_LATENTS[0],
        "latents_std": MOCHI_LATENTS[1],
    },
    prepare=drive.prepare_mochi,
    narrow=lambda c: {
        "encoder_block_out_channels": [32] * (1 + len(c["temporal_expansions"])),
        "decoder_block_out_channels": [32] * (1 + len(c["temporal_expansions"])),
        "layers_per_block": [1] * (2 + len(c["temporal_expansions"])),
    },
)


def _prepare_cosmos(vae: nn.Module) -> None:
    """Make the constants of its wavelets, which no file holds."""
    for part, name in ((vae.encoder, "patch_embed"), (vae.decoder, "unpatch_embed")):
        layer = getattr(part, name)
        setattr(part, name, _made_here(lambda: type(layer)(layer.patch_size, layer.patch_method)))  # noqa: B023


def _made_here(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("cpu"):  # not on meta, as the network around it may be
        return make()


COSMOS = Row(
    grid=lambda c: Grid(c["temporal_compression_ratio"], c["spatial_compression_ratio"]),
    plan=lambda c: Plan(TimeRule(0, 17), TimeRule(0, 1 + 16 // c["temporal_compression_ratio"])),
    encode=drive.encode_cosmos,
    decode=drive.decode_cosmos,
    defaults={
        "temporal_compression_ratio": 8,
        "spatial_compression_ratio": 8,
        "latent_channels": 16,
        "encoder_block_out_channels": [128, 256, 512, 512],
    },
    prepare=_prepare_cosmos,
    narrow=lambda c: {
        "encoder_block_out_channels": [8] * len(c["encoder_block_out_channels"]),
        "decode_block_out_channels": [8] * len(c["encoder_block_out_channels"]),
        "num_layers": 1,
    },
)


def _encode_svd_whole(vae: nn.Module, video: Tensor) -> Tensor:
    return as_clip(_encode_whole(vae, as_frames(video)), len(video))


def _decode_svd_whole(vae: nn.Module, latents: Tensor) -> Tensor:
    """As its pipeline: so many frames at a time."""
    parts = latents.split(SVD_CHUNK, dim=2)
    return torch.cat([as_clip(vae.decode(as_frames(z), z.shape[2]).sample, len(z)) for z in parts], dim=2)


SVD_CHUNK = 14
SVD = Row(
    grid=lambda c: Grid(1, 2 ** (len(c["block_out_channels"]) - 1)),
    plan=lambda c: Plan(TimeRule(15), TimeRule(SVD_CHUNK, batches=True)),
    encode=drive.encode_svd,
    decode=drive.decode_svd,
    defaults={"block_out_channels": [64], "scaling_factor": 0.18215, "latent_channels": 4},
    encode_whole=_encode_svd_whole,
    decode_whole=_decode_svd_whole,
    narrow=lambda c: {"block_out_channels": [32] * len(c["block_out_channels"]), "layers_per_block": 1},
    windows=own_cuts,
    options=(Option("chunk", SVD_CHUNK, "frames that are decoded together", least=1, most=1024),),
)

ALLEGRO_TILES = (  # rows and columns, of pixels and of latents
    (Tiling(320, 200, 15, 25), Tiling(40, 25, 120, 200)),
    (Tiling(320, 240, 10, 30), Tiling(40, 30, 80, 240)),
)


def _plan_of_allegro(c: Config) -> Plan:
    (rows, latent_rows), (columns, latent_columns) = ALLEGRO_TILES
    hop = drive.ALLEGRO_FRAMES - drive.ALLEGRO_SHARED
    return Plan(
        TimeRule(hop, batches=True),
        TimeRule(hop // c["temporal_compression_ratio"], batches=True),
        encode_tiles=rows,
        decode_tiles=latent_rows,
        encode_columns=columns,
        decode_columns=latent_columns,
    )


def _as_one_tile(vae: nn.Module, height: int, width: int) -> None:
    vae.use_tiling = True
    vae.kernel = (drive.ALLEGRO_FRAMES, height, width)
    vae.stride = (drive.ALLEGRO_FRAMES - drive.ALLEGRO_SHARED, height, width)


def _encode_allegro_whole(vae: nn.Module, video: Tensor) -> Tensor:
    _as_one_tile(vae, *video.shape[-2:])
    return _encode_whole(vae, video)


def _decode_allegro_whole(vae: nn.Module, latents: Tensor) -> Tensor:
    _as_one_tile(vae, *(side * vae.spatial_compression_ratio for side in latents.shape[-2:]))
    return _decode_whole(vae, latents).transpose(1, 2)


ALLEGRO = Row(
    grid=lambda c: Grid(
        c["temporal_compression_ratio"],
        2 ** (len(c["block_out_channels"]) - 1),
        head=c["temporal_compression_ratio"],
        least=drive.ALLEGRO_FRAMES,
        stride=drive.ALLEGRO_FRAMES - drive.ALLEGRO_SHARED,
    ),
    plan=_plan_of_allegro,
    encode=drive.encode_allegro,
    decode=drive.decode_allegro,
    defaults={
        "temporal_compression_ratio": 4,
        "block_out_channels": [128, 256, 512, 512],
        "latent_channels": 4,
        "scaling_factor": 0.13,
    },
    demands={"sample_size": 320, "temporal_compression_ratio": 4},
    encode_whole=_encode_allegro_whole,
    decode_whole=_decode_allegro_whole,
    narrow=_narrow_tree,
    windows=own_cuts,
)


def _encode_h3_whole(vae: nn.Module, video: Tensor) -> Tensor:
    return _encode_whole(vae, drive.to_imagenet(video))


def _decode_h3_whole(vae: nn.Module, latents: Tensor) -> Tensor:
    return drive.from_imagenet(_decode_whole(vae, latents))


def _prepare_h3(vae: nn.Module) -> None:
    """Make the angles of its decoder, which no file holds."""
    c, decoder = vae.config, vae.decoder
    width = int(c.decoder_attention_head_dim * c.decoder_rope_dim_ratio)
    decoder.rope = _made_here(lambda: type(decoder.rope)(width, theta=c.decoder_rope_theta))


MINIMAX_H3 = Row(
    grid=lambda c: Grid(4, prod(c["spatial_downsample_factors"]), run=5, least=22, stride=17),
    plan=lambda c: Plan(TimeRule(17, batches=True), TimeRule(5, batches=True)),
    encode=drive.encode_minimax_h3,
    decode=drive.decode_minimax_h3,
    defaults={
        "spatial_downsample_factors": [2, 2, 2, 2, 1, 1],
        "temporal_downsample_factors": [1, 2, 2, 1, 1, 1],
        "latent_channels": 24,
        "latents_mean": [0.0] * 24,
        "latents_std": [1.0] * 24,
    },
    demands={"clip_length": 17, "token_drop": 3},
    prepare=_prepare_h3,
    encode_whole=_encode_h3_whole,
    decode_whole=_decode_h3_whole,
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

ROWS = {
    "AutoencoderKLMagvit": MAGVIT,
    "AutoencoderKLKVAEVideo": KVAE,
    "AutoencoderVidTok": VIDTOK,
    "AutoencoderKLMochi": MOCHI,
    "AutoencoderKLCosmos": COSMOS,
    "AutoencoderKLTemporalDecoder": SVD,
    "AutoencoderKLAllegro": ALLEGRO,
    "AutoencoderKLMiniMaxH3": MINIMAX_H3,
}


def row_of(config: Config) -> Row:
    """The row of the class that a config names."""
    return ROWS[str(config["_class_name"])]
