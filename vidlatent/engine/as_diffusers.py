"""A model in the place of a VAE of diffusers: what its pipelines call and read, with flat memory behind it.

diffusers itself is imported when such a VAE is asked for.
"""

import inspect
import warnings
from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor, nn

from vidlatent.engine.checks import check_latents, check_video
from vidlatent.engine.model import Model
from vidlatent.errors import BadInput, UsageError
from vidlatent.models.base import ModelSpec
from vidlatent.windows import Plan

THEIRS = {  # the class of diffusers whose place a family takes, where its config names none
    "wan_vae": "AutoencoderKLWan",
    "hunyuan_vae": "AutoencoderKLHunyuanVideo",
    "hunyuan15_vae": "AutoencoderKLHunyuanVideo15",
    "cogvideox_vae": "AutoencoderKLCogVideoX",
    "ltx_vae": "AutoencoderKLLTXVideo",
}
CLAMPING = ("AutoencoderKLWan", "AutoencoderKLQwenImage")  # those that give pixels within [-1, 1]


def as_diffusers(model: Model, plan: Plan | None = None) -> "DiffusersVae":
    """A `vae` for pipelines of diffusers: `pipe.vae = vidlatent.as_diffusers(model)`.

    Its numbers are those of diffusers' own class, and it decodes a clip of any length in the memory of a few
    frames, beside the pixels that it gives. Clips are cut as `plan` says, or else as the model's own plan.
    The weights are those of `model`, not a copy: moving the one to a device moves the other.
    """
    try:
        import diffusers  # noqa: F401  only to see that it is there
    except ImportError as e:
        raise UsageError("diffusers is not installed", "pip install 'vidlatent[diffusers]'") from e
    return DiffusersVae(model, plan)


class DiffusersVae(nn.Module):
    """Encodes and decodes as the VAEs of diffusers do, by a model of ours; made by `as_diffusers`."""

    def __init__(self, model: Model, plan: Plan | None = None) -> None:
        super().__init__()
        self.network = model.network
        self._model, self._plan = model, plan

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""
        return self._model.dtype

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self._model.device

    @cached_property
    def config(self) -> Mapping[str, object]:
        """What pipelines read of a model: the config of diffusers' class, or where there is none, all facts.

        Its members can be read as attributes too.
        """
        from diffusers.configuration_utils import FrozenDict

        spec, theirs = self._model.spec, self._their_class
        facts = facts_of(spec)
        if theirs is None:
            return FrozenDict({**spec.config, **facts})
        known = {
            name: spec.config.get(name, argument.default)
            for name, argument in inspect.signature(theirs.__init__).parameters.items()
            if name != "self"
        }
        return FrozenDict({**known, **{name: facts[name] for name in facts.keys() & known.keys()}})

    @cached_property
    def _their_class(self) -> type | None:
        import diffusers

        spec = self._model.spec
        named = spec.config.get("_class_name") or ""
        name = named if hasattr(diffusers, str(named)) else THEIRS.get(spec.family)
        return name and getattr(diffusers, name)

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels along a side of a latent."""
        return self._model.spec.grid.space

    @property
    def temporal_compression_ratio(self) -> int:
        """Frames of a latent."""
        return self._model.spec.grid.time

    @property
    def temperal_downsample(self) -> list[bool]:
        """Which halvings of the sides halve the frame rate too; so spelled in Wan and Qwen-Image."""
        return list(self.config.temperal_downsample)

    @property
    def latents_mean(self) -> Tensor:
        """Of each channel of latents, [C]: what pipelines of LTX take off."""
        return torch.tensor(facts_of(self._model.spec)["latents_mean"], device=self.device)

    @property
    def latents_std(self) -> Tensor:
        """Of each channel of latents, [C]: what pipelines of LTX divide by."""
        return torch.tensor(facts_of(self._model.spec)["latents_std"], device=self.device)

    def encode(self, x: Tensor, return_dict: bool = True) -> object:
        """Video [B, 3, T, H, W] in [-1, 1] → a posterior, as the `latent_dist` of what is returned.

        As in diffusers, trailing frames that fill no latent give none.
        """
        from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
        from diffusers.models.modeling_outputs import AutoencoderKLOutput

        check_video(x)
        model, total = self._ready(), x.shape[2]
        clips = [
            torch.cat(list(model.encode_stream(clip.unbind(2), self._plan, total)), 2) for clip in x.split(1)
        ]
        moments = torch.cat(clips).to(x.device, self.dtype).clone()  # not of inference mode
        posterior = DiagonalGaussianDistribution(moments)
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    def decode(self, z: Tensor, temb: Tensor | None = None, return_dict: bool = True) -> object:
        """Latents [B, C, t, h, w] in raw posterior units → video [B, 3, T, H, W], as the `sample` of it.

        `temb` is how noisy the latents are, for each clip or for all, where a model asks that (LTX-Video).
        """
        from diffusers.models.autoencoders.vae import DecoderOutput

        spec = self._model.spec
        check_latents(z, spec.channels)
        frames, *sides = spec.grid.frames(z.shape[2]), *(side * spec.grid.space for side in z.shape[-2:])
        video = torch.empty(len(z), 3, frames, *sides, dtype=self.dtype, device=z.device)
        for clip, latents, timestep in zip(video, z, _one_each(temb, len(z)), strict=True):
            self._decode_into(clip, latents[None], timestep)
        if self._their_class is not None and self._their_class.__name__ in CLAMPING:
            video.clamp_(-1, 1)
        return DecoderOutput(sample=video) if return_dict else (video,)

    def _decode_into(self, clip: Tensor, latents: Tensor, timestep: float | None) -> None:
        """Decode latents [1, C, t, h, w] into `clip` [3, T, H, W]."""
        model, done = self._ready(), 0
        if timestep is not None and any(option.name == "timestep" for option in model.spec.options):
            model = model.choose(timestep=timestep)
        for piece in model.decode_stream(latents.unbind(2), self._plan, latents.shape[2]):
            clip[:, done : done + piece.shape[2]] = piece[0]
            done += piece.shape[2]
        if done != clip.shape[1]:
            raise BadInput(f"{latents.shape[2]} latents gave {done} frames, expected {clip.shape[1]}")

    def _ready(self) -> Model:
        """The model; where pipelines have moved its weights away, they are fetched first."""
        hook = getattr(self, "_hf_hook", None)  # of accelerate, as diffusers' own classes heed it
        if hook is not None:
            hook.pre_forward(self)
        return self._model

    def enable_tiling(self, *args: object, **kwargs: object) -> None:
        """Accepted for the sake of pipelines, and said: clips stream in flat memory as it is."""
        _say("tiles are cut as its plan says: vidlatent.as_diffusers(model, model.plan(tile=256))")

    def enable_slicing(self) -> None:
        """Accepted, and said: clips of a batch always go one by one."""
        _say("clips of a batch always go through one by one")

    def disable_tiling(self) -> None:
        """Accepted: see `enable_tiling`."""

    def disable_slicing(self) -> None:
        """Accepted: see `enable_slicing`."""


def facts_of(spec: ModelSpec) -> dict[str, object]:
    """What pipelines ask of a model, under all the names that diffusers has for it."""
    per_channel = len(spec.scale) > 1
    scaling = float(spec.config.get("scaling_factor", 1.0)) if per_channel else spec.scale[0]
    scale, shift = (values * (spec.channels // len(values)) for values in (spec.scale, spec.shift))
    time, space = spec.grid.time, spec.grid.space
    return {
        "latent_channels": spec.channels,
        "z_dim": spec.channels,
        "temporal_compression_ratio": time,
        "spatial_compression_ratio": space,
        "scale_factor_temporal": time,
        "scale_factor_spatial": space,
        "scaling_factor": scaling,
        "latents_mean": list(shift),
        "latents_std": [scaling / each for each in scale],
        "timestep_conditioning": any(option.name == "timestep" for option in spec.options),
    }


def _one_each(temb: Tensor | None, clips: int) -> list[float | None]:
    """How noisy the latents of each clip are; None where nobody says."""
    if temb is None:
        return [None] * clips
    values = temb.flatten().tolist()
    return values * clips if len(values) == 1 else values


def _say(what: str) -> None:
    warnings.warn(f"vidlatent: {what}", stacklevel=3)
