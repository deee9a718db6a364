"""CV-VAE (arXiv 2405.20279): video VAEs whose latents the image VAE of SD 2.1, or of SD 3, understands.

Half of the image VAE's convolutions become 3-D, causal in the encoder only. Norms look at the
whole clip and the decoder looks ahead, so a clip is cut into windows that share one frame, as the
authors do; the state is not used. Rules were read in the authors' code at 375f18a, `models/`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

from torch import Tensor, nn

from vidlatent.errors import BadWeights, UsageError
from vidlatent.grid import Grid
from vidlatent.models.base import Family, ModelSpec
from vidlatent.models.causal import TimeState
from vidlatent.models.kl import (
    Attention,
    Border,
    Decoder,
    Downsample,
    Encoder,
    FrameConv,
    Parts,
    Shape,
    Upsample,
    VideoConv,
    from_ldm,
)
from vidlatent.models.published import hub_of
from vidlatent.windows import Plan, Tiling, TimeRule

_TILING = {
    "en_de_n_frames_a_time": 16,
    "time_n_compress": 4,
    "spatial_n_compress": 8,
    "tile_spatial_size": 576,
    "tile_overlap_ratio": 0.2222,
    "num_video_frames": None,  # only how the authors' code regroups batches of images
    "reshape_z_dim_to_4": False,
    "reshape_x_dim_to_4": False,
}
SD21 = {
    "_class_name": "CVVAEModel",
    "double_z": True,
    "z_channels": 4,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": (1, 2, 4, 4),
    "num_res_blocks": 2,
    "attn_resolutions": (),
    "dropout": 0.0,
    "use_3d_conv": True,
    "half_3d": True,
    "causal_encoder": True,
    "causal_decoder": False,
    "encoder_attn_type": "vanilla-xformers",
    "decoder_attn_type": "spatial-temporal-xformer",
    "scaling_factor": 0.18215,
    "force_upcast": True,
    **_TILING,
}
SD3 = {
    "_class_name": "CVVAESD3Model",
    "double_z": True,
    "in_channels": 3,
    "out_channels": 16,  # of the latents
    "down_block_types": ("DownEncoderBlock3D",) * 4,
    "up_block_types": ("UpDecoderBlock3D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "act_fn": "silu",
    "mid_block_add_attention": True,
    "half_3d": True,
    "causal_encoder": True,
    "causal_decoder": False,
    **_TILING,
}
DEFAULTS = {each["_class_name"]: each for each in (SD21, SD3)}
SD3_SCALE, SD3_SHIFT = 1.5305, 0.0609  # of the SD 3 image VAE: the authors' config has no keys for them
LDM_RESOLUTION = 256  # nominal side of the finest level, against which attn_resolutions is read
ATTENTIONS = {
    "vanilla": False,
    "vanilla-xformers": False,
    "spatial-temporal-xformer": True,
}  # → over time too?


class CVVAE(nn.Module):
    """One CV-VAE; clips are independent windows, so `state` is ignored."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        config = complete(spec.config)
        shape = shape_of(config)
        self.encoder = Encoder(shape, _parts(config, "encoder"))
        self.decoder = Decoder(shape, _parts(config, "decoder"))

    def encode(self, video: Tensor, state: TimeState) -> Iterator[Tensor]:
        """Pixels [B, 3, T, H, W] in [-1, 1] → moments [B, 2C, t, h, w], mean then raw logvar."""
        yield self.encoder(video)

    def decode(self, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
        """Latents [B, C, t, h, w] → pixels [B, 3, 1 + 4(t-1), H, W], not clamped."""
        yield self.decoder(latents)


def complete(config: Mapping[str, object]) -> dict[str, object]:
    """The config with every key of its class; a value that cannot be meant is an error."""
    full = {**DEFAULTS[str(config.get("_class_name", "CVVAEModel"))], **config}
    grid = grid_of(shape_of(full))
    supported = {
        "double_z": (True,),
        "act_fn": ("silu", "swish"),
        "encoder_attn_type": (*ATTENTIONS, "none"),
        "decoder_attn_type": (*ATTENTIONS, "none"),
    }
    if full["en_de_n_frames_a_time"]:  # these two are only read where clips and frames are cut
        supported["time_n_compress"] = (grid.time,)
    if full["tile_spatial_size"]:
        supported["spatial_n_compress"] = (grid.space,)
    for key, good in supported.items():
        if full.get(key, good[0]) not in good:
            raise BadWeights(
                f"config of {full['_class_name']}: {key} = {full[key]!r} is not supported",
                f"supported: {', '.join(map(repr, good))}",
            )
    return full


def shape_of(config: Mapping[str, object]) -> Shape:
    """Widths and depths of a complete config of either class."""
    if config["_class_name"] == "CVVAESD3Model":
        widths = tuple(config["block_out_channels"])
        top = len(widths) - 1
        return Shape(
            stem=widths[0],
            widths=widths,
            blocks=config["layers_per_block"],
            pixels=config["in_channels"],
            latents=config["out_channels"],
            attended_middle=config["mid_block_add_attention"],
            down_in_time=frozenset(range(0, top, 2)),
            up_in_time=frozenset(range(top, 0, -2)),
        )
    ch, levels = config["ch"], range(len(config["ch_mult"]))
    return Shape(
        stem=ch,
        widths=tuple(ch * m for m in config["ch_mult"]),
        blocks=config["num_res_blocks"],
        pixels=config["in_channels"],
        latents=config["z_channels"],
        attended=frozenset(i for i in levels if LDM_RESOLUTION >> i in config["attn_resolutions"]),
        finest_first=True,
        down_in_time=frozenset(levels[:-1:2]),
        up_in_time=frozenset(levels[1::2]),
    )


def grid_of(shape: Shape) -> Grid:
    """Compression that a tree of this shape has."""
    return Grid(time=2 ** len(shape.down_in_time), space=2**shape.halvings)


def _parts(config: Mapping[str, object], half: str) -> Parts:
    """The layers of the encoder or decoder that a complete config asks for."""
    causal = config[f"causal_{half}"]
    if config["_class_name"] == "CVVAESD3Model":
        return _sd3_parts(config, half, causal)
    return _sd21_parts(config, half, causal)


def _sd21_parts(config: Mapping[str, object], half: str, causal: bool) -> Parts:
    """SD 2.1 type: zeros around frames; in time copies of the first frame (causal), or zeros at both ends.

    The samplers keep their own manner whatever the flags say: down causal, up with copies at both ends.
    """
    border, zeros = (Border(before=2), (0, 1, 1)) if causal else (Border(), (1, 1, 1))
    if config["use_3d_conv"]:
        conv = partial(VideoConv, border=border, zeros=zeros)
        shortcut = partial(VideoConv, border=Border(), kernel=1)
    else:
        conv, shortcut = FrameConv, partial(FrameConv, kernel=1)
    down = partial(_down, border=Border(before=2, high=1, zeros=True))
    up = partial(_up, border=Border(before=1, after=1), zeros=(0, 1, 1))
    kind = config[f"{half}_attn_type"]
    return Parts(
        conv=conv,
        conv2=FrameConv if config["half_3d"] else conv,
        shortcut=shortcut,
        sampler=down if half == "encoder" else up,
        attention=nn.Identity if kind == "none" else partial(Attention, over_time=ATTENTIONS[kind]),
        groups=32,
        eps=1e-5,
    )


def _sd3_parts(config: Mapping[str, object], half: str, causal: bool) -> Parts:
    """SD 3 type: every 3-D convolution stands in copies of the edge, in space and in time."""
    border = Border(before=2, low=1, high=1) if causal else Border(before=1, after=1, low=1, high=1)
    conv = partial(VideoConv, border=border)
    return Parts(
        conv=conv,
        conv2=FrameConv if config["half_3d"] else conv,
        shortcut=partial(FrameConv, kernel=1),
        sampler=partial(_down if half == "encoder" else _up, border=border),
        attention=Attention,
        groups=config["norm_num_groups"],
        eps=1e-6,
    )


def _down(channels: int, in_time: bool, border: Border) -> Downsample:
    """Halve the sides, and the frames if `in_time`."""
    return Downsample(VideoConv(channels, channels, border, stride=(2 if in_time else 1, 2, 2)))


def _up(channels: int, in_time: bool, border: Border, zeros: tuple[int, int, int] = (0, 0, 0)) -> Upsample:
    """Double the sides; the channels of its convolution hold two frames if `in_time`."""
    return Upsample(VideoConv(channels, channels * (2 if in_time else 1), border, zeros))


def tilings(space: int, pixels: int, overlap: float) -> tuple[Tiling, Tiling]:
    """Tiles of `pixels` sharing a fraction `overlap` with their neighbour: (encode, decode).

    The authors round pixels and latents apart (half to even); where the two disagree, tiles would
    silently be put beside their place, so such a size is an error.
    """
    size = pixels // space
    step, blend = round(pixels * (1 - overlap)), round(size * overlap)
    encode = (pixels, step, blend, size - blend)
    step, blend = round(size * (1 - overlap)), round(pixels * overlap)
    decode = (size, step, blend, pixels - blend)
    if not _fits(space, pixels, overlap):
        raise UsageError(
            f"tiles of {pixels} px with overlap {overlap} do not fit a grid of {space} px: "
            f"pixels would step by {encode[1]}, latents by {encode[3]} × {space} = {encode[3] * space}",
            f"sizes that fit this overlap: {' and '.join(map(str, _nearest(space, pixels, overlap)))}",
        )
    return Tiling(*encode), Tiling(*decode)


def _fits(space: int, pixels: int, overlap: float) -> bool:
    """Whether pixel and latent strides agree in both directions."""
    size = pixels // space
    encode = round(pixels * (1 - overlap)) == space * (size - round(size * overlap))
    decode = pixels - round(pixels * overlap) == space * round(size * (1 - overlap))
    return pixels > 0 and pixels % space == 0 and encode and decode


def _nearest(space: int, pixels: int, overlap: float) -> list[int]:
    """The nearest tile sizes that fit, at most one below and one above."""
    below = range(pixels // space * space, 0, -space)
    above = range(-(-pixels // space) * space, 4 * pixels + 64 * space, space)
    found = (next((n for n in side if _fits(space, n, overlap)), None) for side in (below, above))
    return [n for n in found if n is not None]


def plan_of(config: Mapping[str, object], grid: Grid) -> Plan:
    """How a complete config says that clips and frames are cut."""
    frames, pixels = config["en_de_n_frames_a_time"], config["tile_spatial_size"]
    tiles = tilings(grid.space, pixels, config["tile_overlap_ratio"]) if pixels else (None, None)
    frames = frames or 0  # null: undivided
    if frames % grid.time:
        raise BadWeights(
            f"config: en_de_n_frames_a_time = {frames} is no multiple of {grid.time}, the frames of a latent"
        )
    return Plan(TimeRule(frames, 1), TimeRule(frames // grid.time, 1), *tiles)


def spec_of(config: Mapping[str, object]) -> ModelSpec:
    """Spec of a CV-VAE with this config of the authors'."""
    full = complete(config)
    shape = shape_of(full)
    grid = grid_of(shape)
    sd3 = full["_class_name"] == "CVVAESD3Model"
    return ModelSpec(
        name="cv-vae-sd3" if sd3 else "cv-vae-sd2.1",
        family="cv_vae",
        grid=grid,
        channels=shape.latents,
        plan=plan_of(full, grid),
        scale=(SD3_SCALE,) if sd3 else (full["scaling_factor"],),
        shift=(SD3_SHIFT,) if sd3 else (0.0,),
        tiles=partial(tilings, grid.space),
        tile_overlap=full["tile_overlap_ratio"] or _TILING["tile_overlap_ratio"],
        licence=LICENCE,
        summary=f"video VAE whose latents the image VAE of SD {'3' if sd3 else '2.1'} understands",
        config=full,
    )


# The hub tags the weights so, but the code has no licence file and they derive from Stability AI weights.
LICENCE = "unclear (tagged Apache-2.0)"


def _published(name: str, folder: str, config: Mapping[str, object]) -> ModelSpec:
    """Spec of one sub-folder of the authors' repository. The pickles beside the weights are never opened."""
    hub = hub_of(
        repo="AILab-CVC/CV-VAE",
        file=f"{folder}/diffusion_pytorch_model.safetensors",
        config=f"{folder}/config.json",
    )
    return replace(spec_of(config), name=name, hub=hub)


FAMILY = Family(
    name="cv_vae",
    class_names=tuple(DEFAULTS),
    specs=(
        _published("cv-vae-sd2.1", "vae3d", SD21),
        _published("cv-vae-sd2.1-v1.1", "vae3d_v1-1", SD21),
        _published("cv-vae-sd3", "vae3d_sd3", SD3),
    ),
    spec_of=spec_of,
    build=CVVAE,
    rename=from_ldm,
)
