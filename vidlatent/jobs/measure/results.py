"""What bench and compare find out, as plain facts: rows, their summary, and what they were made with."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from vidlatent.jobs.measure.pictures import KeptPictures
from vidlatent.jobs.measure.score import Definition, Score
from vidlatent.jobs.measure.sources import SourceFile
from vidlatent.jobs.measure.spread import Spread


@dataclass(frozen=True)
class Speed:
    """Seconds of work, without those of reading the source; the median of `runs` passes, and each of them."""

    encode_s: float
    decode_s: float
    runs: int
    encode_runs_s: tuple[float, ...] = ()
    decode_runs_s: tuple[float, ...] = ()


@dataclass(frozen=True)
class Coding:
    """How a codec was run: what makes the same stream again of the same pixels.

    `wanted` is the rate it aimed at, in bits per pixel; None where it is lossless. The commands read and
    write raw frames, and call the file between them coded.mkv.
    """

    settings: str
    crf: float | None
    wanted: float | None
    encode: str
    decode: str


@dataclass(frozen=True)
class ReportRow:
    """One clip through one subject: a model, a codec at a rate, or another video.

    `clip` is the source as it was named. Bits per pixel count the latents (or the codec's stream) over the
    pixels of all frames; a row with an `error` has no numbers.
    """

    clip: str
    subject: str
    kind: str  # "model", "codec" or "video"
    family: str = ""  # rows of one family on one clip are points of one rate curve; "" is none
    frames: int = 0
    width: int = 0
    height: int = 0
    fps: float = 0.0
    times_s: tuple[float, ...] = field(default=(), repr=False)  # of each frame, from the first
    scores: Mapping[str, Score] = field(default_factory=dict)
    bits_per_pixel: float | None = None
    stored: str | None = None  # the form that a model's latents are kept in, which the rate counts
    coding: Coding | None = None
    speed: Speed | None = None
    peak_host_bytes: int | None = None
    peak_device_bytes: int | None = None
    notices: tuple[str, ...] = ()
    error: str | None = None
    pictures: KeptPictures | None = field(default=None, repr=False, compare=False)

    @property
    def ratio(self) -> float | None:
        """How many times smaller than RGB of 8 bits."""
        return 24 / self.bits_per_pixel if self.bits_per_pixel else None

    @property
    def encode_fps(self) -> float | None:
        """Frames encoded per second."""
        return self.frames / self.speed.encode_s if self.speed else None

    @property
    def decode_fps(self) -> float | None:
        """Frames decoded per second."""
        return self.frames / self.speed.decode_s if self.speed else None


@dataclass(frozen=True)
class Delta:
    """BD-rate and BD-quality of one family of rows against the baseline's curve, on one clip by one metric.

    Each of the two is None where the curves share no quality, or no rate; `why` and `quality_why` then say
    so, and what to ask for. `left_out` are rows that are no points of their curve: no gain over smaller ones.
    """

    clip: str
    metric: str
    baseline: str
    subject: str
    rate_percent: float | None = None
    quality: float | None = None
    why: str | None = None
    quality_why: str | None = None
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """Everything that a report says."""

    kind: str  # "bench" or "compare"
    rows: tuple[ReportRow, ...]
    metrics: Mapping[str, Definition]
    machine: Mapping[str, object]
    settings: Mapping[str, object]
    deltas: tuple[Delta, ...] = ()
    overall: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)  # FVD, subject by subject
    sources: Mapping[str, SourceFile] = field(default_factory=dict)  # the clips' files, by name
    command: str | None = None  # that made it, where it was made on the command line

    @property
    def failed(self) -> list[ReportRow]:
        """The rows that have an error instead of numbers."""
        return [row for row in self.rows if row.error]


@dataclass(frozen=True)
class Summary:
    """One subject over all clips that worked: means of the clips' numbers, and sums of frames and seconds."""

    subject: str
    kind: str
    family: str
    clips: int
    failed: int
    frames: int
    means: Mapping[str, float]
    bits_per_pixel: float | None
    encode_fps: float | None
    decode_fps: float | None
    encode_realtime: float | None
    decode_realtime: float | None
    peak_host_bytes: int | None
    peak_device_bytes: int | None
    stored: str | None
    spread: Mapping[str, Spread]  # of metrics over the clips, of fps over all runs of all clips


def summarise(report: Report) -> list[Summary]:
    """One summary for each subject, in the order they were measured."""
    subjects = dict.fromkeys(row.subject for row in report.rows)
    return [
        _summarise_subject(report, [r for r in report.rows if r.subject == subject]) for subject in subjects
    ]


def _summarise_subject(report: Report, rows: list[ReportRow]) -> Summary:
    good = [row for row in rows if not row.error]
    subject = rows[0].subject
    timed = [row for row in good if row.speed]
    means = {
        name: mean(row.scores[name].mean for row in good if name in row.scores) for name in report.metrics
    }
    means |= {name: score.mean for name, score in report.overall.get(subject, {}).items()}
    return Summary(
        subject=subject,
        kind=rows[0].kind,
        family=rows[0].family,
        clips=len(good),
        failed=len(rows) - len(good),
        frames=sum(row.frames for row in good),
        means={name: value for name, value in means.items() if value is not None},
        bits_per_pixel=_pool_rates(good),
        encode_fps=_count_per_second(timed, lambda row: row.speed.encode_s),
        decode_fps=_count_per_second(timed, lambda row: row.speed.decode_s),
        encode_realtime=_count_realtime(timed, lambda row: row.speed.encode_s),
        decode_realtime=_count_realtime(timed, lambda row: row.speed.decode_s),
        peak_host_bytes=max((r.peak_host_bytes for r in good if r.peak_host_bytes), default=None),
        peak_device_bytes=max((r.peak_device_bytes for r in good if r.peak_device_bytes), default=None),
        stored=next((row.stored for row in good if row.stored), None),
        spread=_spread_over_clips(report, good),
    )


def _spread_over_clips(report: Report, rows: list[ReportRow]) -> dict[str, Spread]:
    kinds = {name: [r.scores[name].mean for r in rows if name in r.scores] for name in report.metrics}
    timed = [row for row in rows if row.speed]
    kinds["encode_fps"] = [row.frames / s for row in timed for s in row.speed.encode_runs_s]
    kinds["decode_fps"] = [row.frames / s for row in timed for s in row.speed.decode_runs_s]
    found = {name: Spread.of(values) for name, values in kinds.items()}
    return {name: spread for name, spread in found.items() if spread}


def spread_over_row(row: ReportRow) -> dict[str, Spread]:
    """How far the numbers of one row lie apart: metrics over frames, seconds over runs."""
    kinds = {name: score.per_frame for name, score in row.scores.items()}
    if row.speed:
        kinds |= {"encode_s": row.speed.encode_runs_s, "decode_s": row.speed.decode_runs_s}
    found = {name: Spread.of(values) for name, values in kinds.items()}
    return {name: spread for name, spread in found.items() if spread}


def mean(values: Iterable[float]) -> float | None:
    """The mean of the finite values; infinite where no value is finite, None where there are none."""
    known = list(values)
    finite = [value for value in known if math.isfinite(value)]
    if not known:
        return None
    return sum(finite) / len(finite) if finite else known[0]


def _pool_rates(rows: list[ReportRow]) -> float | None:
    """The bits of all clips over the pixels of all clips."""
    known = [(row.bits_per_pixel, row.frames * row.width * row.height) for row in rows if row.bits_per_pixel]
    pixels = sum(n for _, n in known)
    return sum(bpp * n for bpp, n in known) / pixels if pixels else None


def _count_per_second(rows: list[ReportRow], seconds: Callable[[ReportRow], float]) -> float | None:
    total = sum(seconds(row) for row in rows)
    return sum(row.frames for row in rows) / total if total else None


def _count_realtime(rows: list[ReportRow], seconds: Callable[[ReportRow], float]) -> float | None:
    known = [row for row in rows if row.fps]
    total = sum(seconds(row) for row in known)
    return sum(row.frames / row.fps for row in known) / total if total else None
