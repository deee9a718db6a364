"""Compare: any two videos, frame by frame, paired by their times."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from vidlatent.engine.runtime import pick_device
from vidlatent.errors import BadInput, UsageError, parameter
from vidlatent.io.read.source import ReadOptions, VideoInfo, VideoSource, check_reading, open_video
from vidlatent.jobs.measure.align import MODES, Aligner, Mode, TimedFrame
from vidlatent.jobs.measure.film import Film
from vidlatent.jobs.measure.journal import BenchJournal
from vidlatent.jobs.measure.machine import describe_machine
from vidlatent.jobs.measure.pictures import KeptPictures
from vidlatent.jobs.measure.results import Report, ReportRow
from vidlatent.jobs.measure.score import Scoreboard, define_metrics
from vidlatent.jobs.measure.sources import identify
from vidlatent.jobs.progress import SILENT, Progress
from vidlatent.metrics.table import check_metrics, make_metrics
from vidlatent.prefetch import prefetch

READ_AHEAD_FRAMES = 8


@dataclass(frozen=True)
class CompareOptions:
    """Which metrics, where they are computed, and how frames are paired.

    `scale` resizes the second video to the size of the first; without it sizes must agree. `files` has the
    files of metrics that need one, by the metric's name.
    """

    metrics: tuple[str, ...] = ("psnr", "ssim")
    files: Mapping[str, Path] = field(default_factory=dict)
    align: Mode = "exact"
    scale: bool = False
    frames: int | None = None
    device: str | None = None  # the best there is
    play_s: float = 0.0  # seconds that a report can play

    def __post_init__(self) -> None:
        check_metrics(self.metrics, self.files)
        check_reading(ReadOptions(frames=self.frames))


def compare(
    first: Path | str,
    second: Path | str,
    options: CompareOptions | None = None,
    progress: Progress = SILENT,
    resume: Path | None = None,
) -> Report:
    """Score `second` against `first`, the reference. Raises BadInput where frames have no counterpart.

    What is found in the file `resume` is not measured again, and what is measured is added to it.
    """
    options = options or CompareOptions()
    if options.align not in MODES:
        raise UsageError(
            f"{parameter('align')} {options.align}: no such way", f"there are {', '.join(MODES)}"
        )
    metrics = make_metrics(list(options.metrics), options.files)
    device = pick_device(options.device)
    journal = BenchJournal(resume, describe_making(second, options)) if resume else None
    row = journal.find(str(first), str(second)) if journal else None
    if row is None:
        row = measure_pair(first, second, options, Scoreboard(metrics, device), progress)
        if journal:
            journal.add(row)
    return Report(
        kind="compare",
        rows=(row,),
        metrics=define_metrics(metrics),
        machine=describe_machine(device),
        settings={"align": options.align, "scale": options.scale, "frames": options.frames},
        sources=identify([str(first), str(second)]),
    )


def describe_making(second: Path | str, options: CompareOptions) -> dict[str, object]:
    """All that decides over the numbers of a comparison beside the first video, as plain values."""
    stat = Path(second).stat() if Path(second).exists() else None
    files = {name: str(path) for name, path in options.files.items()}
    return {
        **asdict(options),
        "kind": "compare",
        "files": files,
        "second": [stat.st_size, stat.st_mtime_ns] if stat else None,
    }


def measure_pair(
    first: Path | str, second: Path | str, options: CompareOptions, board: Scoreboard, progress: Progress
) -> ReportRow:
    """The row of two videos, whose frames `board` scores."""
    pictures, identical = KeptPictures(), True
    film, times = Film(options.play_s), list[Fraction]()
    read = ReadOptions(frames=options.frames)
    with open_video(first, read) as a, open_video(second, match_size(read, a.info, options)) as b:
        refuse_other_sizes(a.info, b.info)
        aligner = Aligner(options.align, choose_tolerance(a.info, b.info), (str(first), str(second)))
        progress.begin(str(second), options.frames or a.info.header_frames)
        with closing(read_timed(a)) as left, closing(read_timed(b)) as right:
            for reference, distorted in aligner.pairs(left, right):
                times.append(aligner.alignment.at)
                time_s = float(times[-1] - times[0])
                board.update(reference, distorted)
                pictures.update(reference, distorted, time_s)
                film.update(reference, distorted, time_s)
                identical = identical and np.array_equal(reference, distorted)
                progress.frames(board.frames)
        scores, pictures.film = board.scores(), film.finish()
        return ReportRow(
            clip=str(first),
            subject=str(second),
            kind="video",
            frames=board.frames,
            width=a.info.width,
            height=a.info.height,
            fps=float(a.info.average_rate or 0),
            times_s=tuple(float(time - times[0]) for time in times),
            scores=scores,
            notices=(
                f"aligned: {aligner.alignment}",
                *describe_differences(a, b, options),
                *(describe_sameness(options) if identical else ()),
            ),
            pictures=pictures,
        )


def match_size(read: ReadOptions, first: VideoInfo, options: CompareOptions) -> ReadOptions:
    """How to read the second video: scaled to the size of the first, where that was asked for."""
    return replace(read, size=(first.width, first.height)) if options.scale else read


def refuse_other_sizes(first: VideoInfo, second: VideoInfo) -> None:
    """Raise BadInput where frames of the two differ in size."""
    sizes = [(info.width, info.height) for info in (first, second)]
    if sizes[0] != sizes[1]:
        words = [f"{w}×{h}" for w, h in sizes]
        raise BadInput(
            f"{second.path} is {words[1]}, {first.path} is {words[0]}",
            f"add {parameter('scale')} to resize the second to the first; the numbers then include that",
        )


def choose_tolerance(first: VideoInfo, second: VideoInfo) -> Fraction:
    """By how many seconds times may differ: one tick of the coarser clock, but half a frame at most."""
    tick = max(first.time_base, second.time_base)
    rate = first.average_rate
    return min(tick, 1 / rate / 2) if rate else tick


def read_timed(video: VideoSource) -> Iterator[TimedFrame]:
    """The frames of a video with their times in seconds, read a little ahead."""
    with closing(prefetch(video.frames(), READ_AHEAD_FRAMES)) as ahead:
        for frame in ahead:
            yield TimedFrame(np.ascontiguousarray(frame.rgb), frame.pts * video.info.time_base)


def describe_sameness(options: CompareOptions) -> list[str]:
    """What a reader of the numbers must know where all frames are identical."""
    motion = "all frames are identical; vmaf gives those 100, but 97.4 where nothing moves (as in the first)"
    return [motion if "vmaf" in options.metrics else "all frames are identical"]


def describe_differences(first: VideoSource, second: VideoSource, options: CompareOptions) -> list[str]:
    """What a reader of the numbers must know about how the two videos were made comparable."""
    notes = [*first.notices, *second.notices]
    if options.scale:
        notes.append(f"{second.info.path} was scaled to {first.info.width}×{first.info.height}")
    depths = (first.info.bit_depth, second.info.bit_depth)
    if first.info.deep != second.info.deep:
        notes.append(f"depths differ ({depths[0]} and {depths[1]} bits): compared in 16 bits")
    return notes
