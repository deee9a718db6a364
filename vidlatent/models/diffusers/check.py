"""What may be said of a class of diffusers, found out when a model is loaded: on a small copy of its network.

Another version of diffusers, or a config that nobody tried, may behave otherwise than the class's row says.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from vidlatent.models.causal import TimeState, whole
from vidlatent.models.diffusers.network import AdaptedVae, build_class, spec_of
from vidlatent.models.diffusers.row import Config
from vidlatent.models.diffusers.table import row_of
from vidlatent.precision import true_float32

CLOSE = 1e-4  # of a chunked result to the class's own, over its deviation: measured at up to 1e-6
Apply = Callable[[Tensor, TimeState], object]


@dataclass(frozen=True)
class Findings:
    """What a class does: whether every frame comes back, and whether chunks give its own numbers."""

    frames: int  # that went in
    back: int  # that came back
    encode_error: float
    decode_error: float

    @property
    def lossless(self) -> bool:
        """Whether no frame was lost or added."""
        return self.frames == self.back

    @property
    def equal(self) -> bool:
        """Whether both ways gave the numbers of the class's own whole call."""
        return max(self.encode_error, self.decode_error) <= CLOSE


def examine(config: Config) -> Findings:
    """Send a short clip through a small network of this kind, in two chunks and by the class itself."""
    return _examine(json.dumps(dict(config), sort_keys=True))


@cache
def _examine(config: str) -> Findings:
    with torch.random.fork_rng(devices=[]), torch.inference_mode(), true_float32():
        torch.manual_seed(0)
        ours, theirs = small_pair(json.loads(config))
        spec, row = ours.spec, ours.row
        frames = spec.grid.least + spec.grid.step + max(spec.grid.step, spec.plan.encode_time.stride)
        frames += spec.grid.missing_frames(frames)
        video = torch.rand(1, 3, frames, row.side, row.side) * 2 - 1
        latents = row.encode_whole(theirs, video)
        moments = in_two(ours.encode, video, spec.plan.encode_time.carries)
        pixels = row.decode_whole(theirs, latents)
        back = in_two(ours.decode, latents, spec.plan.decode_time.carries)
    mean = moments.chunk(2, dim=1)[0]
    return Findings(frames, back.shape[2], difference(mean, latents), difference(back, pixels))


def small_pair(config: Config) -> tuple[AdaptedVae, nn.Module]:
    """A narrow network of this kind as it is driven, and the class itself, of the same random weights."""
    row = row_of(config)
    small = {**config, **row.narrow(row.check(config))}
    ours, theirs = AdaptedVae(spec_of(small)), build_class(small, prepared=False)
    for parameter in theirs.parameters():
        parameter += 0.05 * torch.randn_like(parameter)  # gains are 1, and some weights 0, to begin with
    ours.vae.load_state_dict(theirs.state_dict())
    return ours, theirs


def in_two(apply: Apply, x: Tensor, carries: bool) -> Tensor:
    """What `apply` makes of a clip [B, C, T, H, W] in two chunks; in one where it carries no state."""
    state = TimeState(more=carries)
    first = x.shape[2] // 2 + 1 if carries else x.shape[2]
    parts = list(apply(x[:, :, :first], state))
    if carries:
        state.more = False
        parts += apply(x[:, :, first:], state)
    return whole(parts)


def difference(got: Tensor, wanted: Tensor) -> float:
    """The largest difference of two clips over the deviation of `wanted`; inf for other shapes."""
    if got.shape != wanted.shape:
        return float("inf")
    return float((got - wanted).abs().max() / wanted.std())
