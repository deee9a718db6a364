"""The KL autoencoders of Stable Diffusion 1.x, 2.x, XL, 3 and of FLUX, applied to each frame alone.

They know no time, so every frame is a latent frame and any cut in time equals the whole clip. A
checkpoint may use today's diffusers names, the older ones of its attention, or those of the
original latent diffusion code, on its own or inside a whole single-file model.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from vidlatent.errors import BadWeights
from vidlatent.grid import Grid
from vidlatent.models.base import Family, ModelSpec
from vidlatent.models.causal import TimeState
from vidlatent.models.clips import as_clip, as_frames
from vidlatent.models.horizon import Horizon
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
    from_ldm,
)
from vidlatent.models.published import hub_of
from vidlatent.windows import Plan, TimeRule, even_tiles

SD = {
    "_class_name": "AutoencoderKL",
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "act_fn": "silu",
    "latent_channels": 4,
    "norm_num_groups": 32,
    "scaling_factor": 0.18215,
    "shift_factor": None,
    "latents_mean": None,
    "latents_std": None,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
    "mid_block_add_attention": True,
}
_SIXTEEN = {**SD, "latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}
SDXL = {**SD, "scaling_factor": 0.13025}
SD3 = {**_SIXTEEN, "scaling_factor": 1.5305, "shift_factor": 0.0609}
FLUX = {**_SIXTEEN, "scaling_factor": 0.3611, "shift_factor": 0.1159}
BATCH_PX = 2**20  # pixels of all frames that go through the network together: enough to fill a device


class ImageVAE(nn.Module):
    """An image autoencoder; `state` is ignored, for a frame knows nothing of its neighbours."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        config = complete(spec.config)
        shape = shape_of(config)
        self.encoder = Encoder(shape, _parts(config, "encoder"))
        self.decoder = Decoder(shape, _parts(config, "decoder"))
        c = shape.latents
        self.quant_conv = FrameConv(2 * c, 2 * c, kernel=1) if config["use_quant_conv"] else nn.Identity()
        self.post_quant_conv = FrameConv(c, c, kernel=1) if config["use_post_quant_conv"] else nn.Identity()

    def encode(self, video: Tensor, state: TimeState) -> Iterator[Tensor]:
        """Pixels [B, 3, T, H, W] in [-1, 1] → moments [B, 2C, T, h, w], mean then raw logvar."""
        yield _per_frame(lambda frames: self.quant_conv(self.encoder(frames)), video, zoom=1)

    def decode(self, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
        """Latents [B, C, T, h, w] → pixels [B, 3, T, H, W], not clamped."""
        zoom = self.spec.grid.space
        yield _per_frame(lambda frames: self.decoder(self.post_quant_conv(frames)), latents, zoom)


def _per_frame(network: Callable[[Tensor], Tensor], x: Tensor, zoom: int) -> Tensor:
    """`network` on each frame of `x` [B, C, T, H, W], as many at once as BATCH_PX allows."""
    frames = as_frames(x)[:, :, None]  # [B·T, C, 1, H, W]
    pixels = x.shape[-2] * x.shape[-1] * zoom**2
    batches = frames.split(max(1, BATCH_PX // pixels))
    return as_clip(torch.cat([network(batch)[:, :, 0] for batch in batches]), x.shape[0])


def complete(config: Mapping[str, object]) -> dict[str, object]:
    """The config with every key of its class; a value that cannot be meant is an error."""
    full = {**SD, **config}
    levels = len(full["block_out_channels"])
    supported = {
        "act_fn": ("silu", "swish"),
        "down_block_types": (("DownEncoderBlock2D",) * levels,),
        "up_block_types": (("UpDecoderBlock2D",) * levels,),
    }
    for key, good in supported.items():
        value = tuple(full[key]) if isinstance(full[key], list) else full[key]
        if value not in good:
            raise BadWeights(
                f"config of AutoencoderKL: {key} = {value!r} is not supported", f"supported: {good}"
            )
    return full


def shape_of(config: Mapping[str, object]) -> Shape:
    """Widths and depths of a complete config."""
    widths = tuple(config["block_out_channels"])
    return Shape(
        stem=widths[0],
        widths=widths,
        blocks=config["layers_per_block"],
        pixels=config["in_channels"],
        latents=config["latent_channels"],
        attended_middle=config["mid_block_add_attention"],
    )


def _parts(config: Mapping[str, object], half: str) -> Parts:
    """2-D convolutions among zeros; the strided ones have zeros below and at the right only."""
    return Parts(
        conv=FrameConv,
        conv2=FrameConv,
        shortcut=partial(FrameConv, kernel=1),
        sampler=_down if half == "encoder" else _up,
        attention=Attention,
        groups=config["norm_num_groups"],
        eps=1e-6,
    )


def _down(channels: int, in_time: bool) -> Downsample:
    """Halve the sides; there is no time here."""
    return Downsample(FrameConv(channels, channels, stride=2, border=Border(high=1, zeros=True)))


def _up(channels: int, in_time: bool) -> Upsample:
    """Double the sides."""
    return Upsample(FrameConv(channels, channels))


def spec_of(config: Mapping[str, object]) -> ModelSpec:
    """Spec of an image autoencoder with this config of diffusers."""
    full = complete(config)
    shape = shape_of(full)
    spread = full["latents_std"] or (1.0,)
    return ModelSpec(
        name="image-vae",
        family="image_vae",
        grid=Grid(time=1, space=2**shape.halvings),
        channels=shape.latents,
        plan=Plan(encode_time=TimeRule(15), decode_time=TimeRule(15)),
        scale=tuple(full["scaling_factor"] / std for std in spread),
        shift=tuple(full["latents_mean"] or (full["shift_factor"] or 0.0,)),
        tiles=partial(even_tiles, space=2**shape.halvings),
        tile_overlap=0.25,  # as in diffusers
        licence="unclear",
        summary="image autoencoder, each frame alone",
        config=full,
        horizon=Horizon(0, 0),
    )


def rename(key: str) -> str | None:
    """A key of any known naming → today's diffusers name; None for what is no part of the autoencoder."""
    if key.startswith(OTHER_PARTS):
        return None
    key = key.removeprefix("first_stage_model.")
    if not re.match(r"(encoder|decoder)\.", key):
        return key
    key = re.sub(r"^decoder\.up\.(\d+)\.", lambda m: f"decoder.up.{LDM_LEVELS - 1 - int(m[1])}.", key)
    for old, new in _OLD_ATTENTION.items():
        key = key.replace(f".{old}.", f".{new}.")
    return from_ldm(key)


OTHER_PARTS = (  # of a single-file model, and of an autoencoder in training
    "model.",
    "model_ema.",
    "cond_stage_model.",
    "conditioner.",
    "text_encoders.",
    "loss.",
)
LDM_LEVELS = 4  # of every autoencoder published in the original naming, which counts levels from the finest
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def _known(
    name: str, config: Mapping[str, object], of: str, licence: str, repo: str | None = None
) -> ModelSpec:
    """Spec of a published autoencoder; without a repository it comes from a file or folder of the user's."""
    summary = f"image autoencoder of {of}, each frame alone"
    folder = "vae/" if repo in PIPELINES else ""
    hub = repo and hub_of(repo, f"{folder}diffusion_pytorch_model.safetensors", f"{folder}config.json")
    return replace(spec_of(config), name=name, summary=summary, licence=licence, hub=hub)


# Repositories of whole pipelines, the autoencoder in a folder of its own. SD 3's asks for an account.
SD3_REPO = "stabilityai/stable-diffusion-3-medium-diffusers"
FLUX_REPO = "black-forest-labs/FLUX.1-schnell"
PIPELINES = (SD3_REPO, FLUX_REPO)

FAMILY = Family(
    name="image_vae",
    class_names=("AutoencoderKL",),
    specs=(
        _known(
            "sd-vae-1.5",
            SD,
            "Stable Diffusion 1.x",
            "unclear (MIT or OpenRAIL-M)",
            "stabilityai/sd-vae-ft-mse",
        ),
        _known("sd-vae-2.1", SD, "Stable Diffusion 2.x", "unclear (MIT or OpenRAIL++-M)"),
        _known(
            "sdxl-vae", SDXL, "Stable Diffusion XL", "unclear (MIT or OpenRAIL++-M)", "stabilityai/sdxl-vae"
        ),
        _known("sd3-vae", SD3, "Stable Diffusion 3", "unclear (Stability community)", SD3_REPO),
        _known("flux-vae", FLUX, "FLUX.1", "unclear (Apache-2.0 or non-commercial)", FLUX_REPO),
    ),
    spec_of=spec_of,
    build=ImageVAE,
    rename=rename,
)
