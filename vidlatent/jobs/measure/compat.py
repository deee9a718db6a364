"""Compat: does an image VAE understand the latents of a video VAE, and the other way round?

CV-VAE's claim is that its latents, one per four frames, are pictures to the decoder of an image
model. Everything here is measured on a clip, from posterior means in raw units: no scale or shift of
a diffusion model is applied.
"""

from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vidlatent.engine import pixels
from vidlatent.engine.load import load_model
from vidlatent.engine.memory import settle
from vidlatent.engine.model import Model
from vidlatent.errors import UsageError, parameter
from vidlatent.files import replace_on_close
from vidlatent.io.read.source import ReadOptions, open_video
from vidlatent.io.write.images import encode_image
from vidlatent.jobs.measure.likeness import MAPS, Likeness, Score, most_similar, stand_ins
from vidlatent.models.base import ModelSpec

MAX_GAP_DB = 3.0  # a crossing may lose this much against the decoder's own latents
MIN_PEARSON = 0.9  # and latents must go along this well
MAX_FITTED = 0.5  # of the distance may remain after the best scale and shift, to blame those for it
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
class Side:
    """The facts of one model that matter here."""

    name: str
    channels: int
    time: int
    space: int
    scale: tuple[float, ...]
    shift: tuple[float, ...]
    quant_convs: bool
    dtype: str
    weights_sha256: str


@dataclass(frozen=True)
class Crossing:
    """Latents of one model through the decoder of the other: the score, and dB lost against its own."""

    score: Score
    gap_db: float


@dataclass(frozen=True)
class Crossings:
    """All that can be measured where latents have one shape."""

    first_frame: Crossing  # video encoder → image decoder, frame 0, which is a latent of its own
    maps: dict[str, Crossing]  # video encoder → image decoder, by what stands for each group of frames
    best: Crossing  # the same, against the most similar frame of each group
    image_mode: Crossing  # image encoder → video decoder, each frame alone
    video_mode: Crossing  # image encoder → video decoder, one latent per group; informative
    still: Likeness  # frame 0 alone through both encoders
    latents: Likeness  # each video latent and the image latent of the last frame of its group


@dataclass(frozen=True)
class Verdict:
    """In a word, and why."""

    word: str  # compatible, scale mismatch, incompatible, channel mismatch or grid mismatch
    reasons: tuple[str, ...]

    @property
    def compatible(self) -> bool:
        """Whether latents may be exchanged as they are."""
        return self.word == "compatible"


@dataclass(frozen=True)
class CompatReport:
    """What was measured on one clip; `crossings` is None where latents have different shapes."""

    clip: str
    frames: int
    width: int
    height: int
    video: Side
    image: Side
    video_alone: Score
    image_alone: Score
    crossings: Crossings | None
    verdict: Verdict
    thresholds: dict[str, float]
    notices: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """As plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Compared:
    """A report, and the pictures it speaks of: [1, 3, t, H, W] in [-1, 1] by name."""

    report: CompatReport
    pictures: dict[str, Tensor]

    def contact_sheet(self) -> np.ndarray:
        """The pictures side by side, [H, W, 3] uint8: a row each, a column per latent, the first ones."""
        height, width = self.report.height, self.report.width
        rows = [pixels.to_frames(video[:, :, :SHOWN], height, width) for video in self.pictures.values()]
        return np.concatenate([np.concatenate(list(row), axis=1) for row in rows])


class Coder:
    """A model as this job uses it: means of whole clips, cut as memory demands."""

    def __init__(self, model: Model, size: tuple[int, int], limit: int | None) -> None:
        self.spec = model.spec
        self._model = model
        plan = model.spec.plan
        self._encode, self._decode = (settle(model, plan, size, limit, way) for way in (True, False))
        self.notices = (*self._encode.notices, *self._decode.notices)

    def encode(self, video: Tensor) -> Tensor:
        """[1, 3, T, H, W] → the mean [1, C, t, h, w]."""
        return self._model.encode(video, self._encode.plan).mean

    def decode(self, latents: Tensor) -> Tensor:
        """[1, C, t, h, w] → [1, 3, T, H, W]."""
        return self._model.decode(latents, self._decode.plan)

    def decode_each(self, latents: Tensor) -> Tensor:
        """Every latent as a clip of its own: [1, C, t, h, w] → [1, 3, t, H, W]."""
        return torch.cat([self.decode(latent) for latent in latents.split(1, dim=2)], dim=2)


def load_pair(
    video: tuple[str, Path | None],
    image: tuple[str, Path | None],
    device: str | None = None,
    dtype: str = "fp32",
) -> tuple[Model, Model]:
    """Both models, each from its name (or folder, or file) and the weights to use with it, if others."""
    return tuple(load_model(model, device, dtype, weights) for model, weights in (video, image))


def compat(
    video_vae: Model, image_vae: Model, clip: Path | str, options: CompatOptions | None = None
) -> Compared:
    """Measure how well two models understand each other's latents on a clip."""
    options = options or CompatOptions()
    check_roles(video_vae.spec, image_vae.spec)
    video, notices = read_clip(clip, options.read, video_vae.spec)
    size = (video.shape[-2], video.shape[-1])
    v, i = (Coder(model, size, options.max_memory) for model in (video_vae, image_vae))
    zv, zi = v.encode(video), i.encode(video)
    alone = {"video": v.decode(zv), "image": i.decode(zi)}
    scores = {name: Score.of(pictures, video) for name, pictures in alone.items()}
    time = video_vae.spec.grid.time
    shown = {"source": video, "video alone": alone["video"], "image alone": alone["image"]}
    shown = {name: pictures[:, :, ::time] for name, pictures in shown.items()}
    crossings, verdict = None, mismatch(video_vae.spec, image_vae.spec)
    if verdict is None:
        crossings, crossed = cross(v, i, (video, zv, zi), scores, options)
        verdict, shown = judge(crossings), shown | crossed
    report = CompatReport(
        clip=str(clip),
        frames=video.shape[2],
        width=size[1],
        height=size[0],
        video=side_of(video_vae),
        image=side_of(image_vae),
        video_alone=scores["video"],
        image_alone=scores["image"],
        crossings=crossings,
        verdict=verdict,
        thresholds={"gap_db": MAX_GAP_DB, "pearson": MIN_PEARSON, "fitted_share": MAX_FITTED},
        notices=(*notices, *v.notices, *i.notices),
    )
    return Compared(report, shown)


def write_picture(compared: Compared, path: Path) -> None:
    """The contact sheet as a PNG."""
    with replace_on_close(path) as partial:
        partial.write_bytes(encode_image(compared.contact_sheet()))


def cross(
    v: Coder, i: Coder, clip: tuple[Tensor, Tensor, Tensor], alone: dict[str, Score], options: CompatOptions
) -> tuple[Crossings, dict[str, Tensor]]:
    """Every latent through the decoder of the other model. `clip` is the video and both its latents."""
    video, zv, zi = clip
    time = v.spec.grid.time
    own = alone["image"].psnr
    pictures = i.decode(zv)  # [1, 3, t, H, W]
    maps = {}
    for name in options.maps:
        wanted = stand_ins(video, name, time, options.seed)
        score = Score.of(pictures[:, :, : wanted.shape[2]], wanted)
        maps[name] = Crossing(score, own - score.psnr)
    best = Score.of(pictures, most_similar(video, pictures, time))
    frame0 = Score.of(pictures[:, :, :1], video[:, :, :1])
    stills, moving = v.decode_each(zi), v.decode(zi[:, :, ::time])
    still_score, moving_score = Score.of(stills, video), Score.of(moving, video)
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


def judge(crossings: Crossings) -> Verdict:
    """The verdict on latents of one shape."""
    gaps = {"frame 0": crossings.first_frame.gap_db, "image mode": crossings.image_mode.gap_db}
    latents = crossings.latents
    reasons = [f"{name} loses {gap:.1f} dB" for name, gap in gaps.items() if gap > MAX_GAP_DB]
    if latents.pearson < MIN_PEARSON:
        reasons.append(f"latents correlate at {latents.pearson:.2f}")
    if not reasons:
        return Verdict("compatible", ("every gap and the correlation keep within the thresholds",))
    along = np.mean([abs(channel.pearson) for channel in latents.channels])
    if along >= MIN_PEARSON and latents.rel_l2_fitted < MAX_FITTED * latents.rel_l2:
        fit = f"a scale and shift per channel take the distance from {latents.rel_l2:.2f} to "
        return Verdict("scale mismatch", (*reasons, f"{fit}{latents.rel_l2_fitted:.2f}"))
    return Verdict("incompatible", tuple(reasons))


def mismatch(video: ModelSpec, image: ModelSpec) -> Verdict | None:
    """The verdict where latents of the two cannot even be exchanged; None where they can."""
    if video.channels != image.channels:
        counts = f"{video.name} has {video.channels} latent channels, {image.name} has {image.channels}"
        return Verdict("channel mismatch", (counts,))
    if video.grid.space != image.grid.space:
        sides = f"a latent of {video.name} is {video.grid.space} px wide, of {image.name} {image.grid.space}"
        return Verdict("grid mismatch", (sides,))
    return None


def check_roles(video: ModelSpec, image: ModelSpec) -> None:
    """Raise UsageError unless the second model is one for images."""
    if image.grid.time != 1:
        raise UsageError(
            f"{parameter('image_vae')} {image.name}: makes one latent of {image.grid.time} frames, "
            "is no image model",
            f"was it meant as {parameter('video_vae')}, and {video.name} as {parameter('image_vae')}?",
        )


def read_clip(clip: Path | str, read: ReadOptions, spec: ModelSpec) -> tuple[Tensor, tuple[str, ...]]:
    """The clip as [1, 3, 1 + k·time, H, W] in [-1, 1], sides cut to the grid; and what must be said of it."""
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


def side_of(model: Model) -> Side:
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
