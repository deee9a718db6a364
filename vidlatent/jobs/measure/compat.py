"""Compat: does an image VAE understand the latents of a video VAE, and the other way round?

CV-VAE claims that the decoder of an image model takes its latents, one for four frames, for those of
pictures. Everything here is measured on a clip, from posterior means in raw units: no scale or shift of a
diffusion model is applied.
"""

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vidlatent.engine import pixels
from vidlatent.engine.demand import Workload
from vidlatent.engine.load import load_model
from vidlatent.engine.memory import settle
from vidlatent.engine.model import Model
from vidlatent.errors import UsageError, parameter
from vidlatent.files import replace_on_close
from vidlatent.io.read.source import ReadOptions, open_video
from vidlatent.io.write.images import encode_image
from vidlatent.jobs.measure.compat_report import (
    THRESHOLDS,
    CompatReport,
    Crossing,
    Crossings,
    Side,
    find_mismatch,
    judge,
)
from vidlatent.jobs.measure.likeness import MAPS, Likeness, PictureScore, make_stand_ins, pick_most_similar
from vidlatent.models import registry
from vidlatent.models.base import ModelSpec

SHOWN = 5  # columns of the picture at most


@dataclass(frozen=True)
class CompatOptions:
    """What to read of the clip, and which pictures latents are held against.

    A latent stands for a group of frames: "first" looks at frame 0 alone, "slice" takes the last frame
    of each group, "average" its mean, "random" one drawn with `seed`.
    """

    read: ReadOptions = field(default_factory=lambda: ReadOptions(frames=17))
    maps: tuple[str, ...] = MAPS
    seed: int = 0
    max_memory: int | None = None

    def __post_init__(self) -> None:
        for name in self.maps:
            if name not in MAPS:
                raise UsageError(f"{parameter('maps')} {name}: unknown", f"one or more of {', '.join(MAPS)}")


@dataclass(frozen=True)
class CompatResult:
    """The report, and the pictures it speaks of by name: [1, 3, t, H, W] in [-1, 1]."""

    report: CompatReport
    pictures: dict[str, Tensor]

    def contact_sheet(self) -> np.ndarray:
        """The first pictures side by side, [H, W, 3] uint8: a row for each name, a column for each latent."""
        height, width = self.report.height, self.report.width
        rows = [pixels.to_frames(video[:, :, :SHOWN], height, width) for video in self.pictures.values()]
        return np.concatenate([np.concatenate(list(row), axis=1) for row in rows])


class Coder:
    """A model as compat uses it: it encodes whole clips into means, in pieces that fit into memory."""

    def __init__(self, model: Model, clip: Tensor, limit: int | None) -> None:
        self.spec = model.spec
        self._model = model
        frames, height, width = clip.shape[2:]
        ways = (Workload(height, width, frames, encode) for encode in (True, False))
        self._encode, self._decode = (settle(model, model.spec.plan, work, limit) for work in ways)
        self.notices = (*self._encode.notices, *self._decode.notices)

    def encode(self, video: Tensor) -> Tensor:
        """[1, 3, T, H, W] → the mean [1, C, t, h, w]."""
        return self._model.encode(video, self._encode.plan).mean

    def decode(self, latents: Tensor) -> Tensor:
        """[1, C, t, h, w] → [1, 3, T, H, W]."""
        return self._model.decode(latents, self._decode.plan)

    def decode_each(self, latents: Tensor) -> Tensor:
        """Decode every latent as a clip of its own: [1, C, t, h, w] → [1, 3, t, H, W]."""
        return torch.cat([self.decode(latent) for latent in latents.split(1, dim=2)], dim=2)


def load_pair(
    video: tuple[str, Path | None],
    image: tuple[str, Path | None],
    device: str | None = None,
    dtype: str = "fp32",
) -> tuple[Model, Model]:
    """Load both models, each from its name (or folder, or file) and other weights where those are given.

    Raises UsageError before that where the second is no image model.
    """
    check_roles(*(registry.foresee(*each) for each in (video, image)))
    return tuple(load_model(model, device, dtype, weights) for model, weights in (video, image))


def compat(
    video_vae: Model, image_vae: Model, clip: Path | str, options: CompatOptions | None = None
) -> CompatResult:
    """Measure how well two models understand each other's latents on a clip."""
    options = options or CompatOptions()
    check_roles(video_vae.spec, image_vae.spec)
    video, notices = read_clip(clip, options.read, video_vae.spec)
    size = (video.shape[-2], video.shape[-1])
    v, i = (Coder(model, video, options.max_memory) for model in (video_vae, image_vae))
    zv, zi = v.encode(video), i.encode(video)
    alone = {"video": v.decode(zv), "image": i.decode(zi)}
    scores = {name: PictureScore.of(pictures, video) for name, pictures in alone.items()}
    time = video_vae.spec.grid.time
    shown = {"source": video, "video alone": alone["video"], "image alone": alone["image"]}
    shown = {name: pictures[:, :, ::time] for name, pictures in shown.items()}
    crossings, verdict = None, find_mismatch(video_vae.spec, image_vae.spec)
    if verdict is None:
        crossings, crossed = cross(v, i, (video, zv, zi), scores, options)
        verdict, shown = judge(crossings), shown | crossed
    report = CompatReport(
        clip=str(clip),
        frames=video.shape[2],
        width=size[1],
        height=size[0],
        video=describe_side(video_vae),
        image=describe_side(image_vae),
        video_alone=scores["video"],
        image_alone=scores["image"],
        crossings=crossings,
        verdict=verdict,
        thresholds=THRESHOLDS,
        notices=(*notices, *v.notices, *i.notices),
    )
    return CompatResult(report, shown)


def write_picture(compared: CompatResult, path: Path) -> None:
    """Write the contact sheet as a PNG."""
    with replace_on_close(path) as partial:
        partial.write_bytes(encode_image(compared.contact_sheet()))


def cross(
    v: Coder,
    i: Coder,
    clip: tuple[Tensor, Tensor, Tensor],
    alone: dict[str, PictureScore],
    options: CompatOptions,
) -> tuple[Crossings, dict[str, Tensor]]:
    """Decode each model's latents by the other model. `clip` is the video and the latents of both."""
    video, zv, zi = clip
    time = v.spec.grid.time
    own = alone["image"].psnr
    pictures = i.decode(zv)  # [1, 3, t, H, W]
    maps = {}
    for name in options.maps:
        wanted = make_stand_ins(video, name, time, options.seed)
        score = PictureScore.of(pictures[:, :, : wanted.shape[2]], wanted)
        maps[name] = Crossing(score, own - score.psnr)
    best = PictureScore.of(pictures, pick_most_similar(video, pictures, time))
    frame0 = PictureScore.of(pictures[:, :, :1], video[:, :, :1])
    stills, moving = v.decode_each(zi), v.decode(zi[:, :, ::time])
    still_score, moving_score = PictureScore.of(stills, video), PictureScore.of(moving, video)
    crossings = Crossings(
        first_frame=Crossing(frame0, alone["image"].frames[0] - frame0.psnr),
        maps=maps,
        best=Crossing(best, own - best.psnr),
        image_mode=Crossing(still_score, alone["video"].psnr - still_score.psnr),
        video_mode=Crossing(moving_score, alone["video"].psnr - moving_score.psnr),
        still=Likeness.of(v.encode(video[:, :, :1]), zi[:, :, :1]),
        latents=Likeness.of(zv, zi[:, :, ::time]),
    )
    return crossings, {"video to image": pictures, "image to video": stills[:, :, ::time]}


def check_roles(video: ModelSpec, image: ModelSpec) -> None:
    """Raise UsageError unless the second model is one for images."""
    if image.grid.time != 1:
        raise UsageError(
            f"{parameter('image_vae')} {image.name}: makes one latent of {image.grid.time} frames, "
            "is no image model",
            f"was it meant as {parameter('video_vae')}, and {video.name} as {parameter('image_vae')}?",
        )


def read_clip(clip: Path | str, read: ReadOptions, spec: ModelSpec) -> tuple[Tensor, tuple[str, ...]]:
    """Read the clip, cut to whole latents, [1, 3, 1 + k·time, H, W] in [-1, 1]; and what was cut."""
    grid = spec.grid
    with open_video(clip, read) as source, closing(source.frames()) as frames:
        stack = [frame.rgb for frame in frames]
        notices = list(source.notices)
    count, (height, width) = len(stack) - (len(stack) - 1) % grid.step, stack[0].shape[:2]
    kept = [side // grid.space * grid.space for side in (height, width)]
    if 0 in kept:
        raise UsageError(
            f"{clip}: {width}x{height} is smaller than a latent", f"give a larger {parameter('size')}"
        )
    if count < len(stack):
        notices.append(f"the last {len(stack) - count} frames fill no latent and were left out")
    if [height, width] != kept:
        notices.append(f"cut from {width}x{height} to {kept[1]}x{kept[0]}, whole latents")
    cut = [np.ascontiguousarray(frame[: kept[0], : kept[1]]) for frame in stack[:count]]
    return pixels.to_model(cut, grid, torch.device("cpu"), torch.float32), tuple(notices)


def describe_side(model: Model) -> Side:
    """The facts of a model for the report."""
    spec = model.spec
    return Side(
        name=spec.name,
        channels=spec.channels,
        time=spec.grid.time,
        space=spec.grid.space,
        scale=spec.scale,
        shift=spec.shift,
        quant_convs=bool(spec.config.get("use_quant_conv", False)),
        dtype=model.runtime.dtype_name,
        weights_sha256=model.weights_sha256,
    )
