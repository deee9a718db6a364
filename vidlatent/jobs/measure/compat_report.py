"""What compat found on one clip, and the verdict on it."""

from dataclasses import asdict, dataclass

import numpy as np

from vidlatent.jobs.measure.likeness import Likeness, PictureScore
from vidlatent.models.base import ModelSpec

MAX_GAP_DB = 3.0  # a crossing may lose this much against the decoder's own latents
MIN_PEARSON = 0.9  # and latents must go along this well
MAX_FITTED = 0.5  # of the distance may remain after the best scale and shift, to blame those for it
THRESHOLDS = {"gap_db": MAX_GAP_DB, "pearson": MIN_PEARSON, "fitted_share": MAX_FITTED}


@dataclass(frozen=True)
class Side:
    """The facts of one model that matter to the question."""

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
    """Latents of one model, decoded by the other: the score, and the dB lost against its own latents."""

    score: PictureScore
    gap_db: float


@dataclass(frozen=True)
class Crossings:
    """All that can be measured where the latents of both models have one shape."""

    first_frame: Crossing  # video encoder → image decoder, frame 0, which is a latent of its own
    maps: dict[str, Crossing]  # video encoder → image decoder, by what stands for each group of frames
    best: Crossing  # the same, against the most similar frame of each group
    image_mode: Crossing  # image encoder → video decoder, each frame alone
    video_mode: Crossing  # image encoder → video decoder, one latent per group; informative
    still: Likeness  # frame 0 alone through both encoders
    latents: Likeness  # each video latent and the image latent of the last frame of its group


@dataclass(frozen=True)
class Verdict:
    """Whether the models understand each other, in a word, and the reasons."""

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
    video_alone: PictureScore
    image_alone: PictureScore
    crossings: Crossings | None
    verdict: Verdict
    thresholds: dict[str, float]
    notices: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """The report as plain values."""
        return asdict(self)


def judge(crossings: Crossings) -> Verdict:
    """The verdict where the latents of both models have one shape."""
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


def find_mismatch(video: ModelSpec, image: ModelSpec) -> Verdict | None:
    """The verdict where latents of the two cannot even be exchanged; None where they can."""
    if video.channels != image.channels:
        counts = f"{video.name} has {video.channels} latent channels, {image.name} has {image.channels}"
        return Verdict("channel mismatch", (counts,))
    if video.grid.space != image.grid.space:
        sides = f"a latent of {video.name} is {video.grid.space} px wide, of {image.name} {image.grid.space}"
        return Verdict("grid mismatch", (sides,))
    return None
