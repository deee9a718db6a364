"""Bench: sends clips through models and codecs and back, and measures each, a row for every pair."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from vidlatent.engine.demand import Workload
from vidlatent.engine.memory import settle_both
from vidlatent.errors import UsageError, VidlatentError, parameter
from vidlatent.jobs.measure.bench_options import BenchOptions, apply_protocol, describe_settings
from vidlatent.jobs.measure.clip import MeasuredClip
from vidlatent.jobs.measure.codecs import CODECS, Codec, decode_coded, encode_with_codec
from vidlatent.jobs.measure.deltas import compute_deltas
from vidlatent.jobs.measure.film import Film
from vidlatent.jobs.measure.journal import BenchJournal
from vidlatent.jobs.measure.machine import Clocked, describe_machine
from vidlatent.jobs.measure.packed import pack_clip
from vidlatent.jobs.measure.pictures import KeptPictures
from vidlatent.jobs.measure.rates import list_rates
from vidlatent.jobs.measure.results import Report, ReportRow, Speed
from vidlatent.jobs.measure.roundtrip import See, Subject, measure
from vidlatent.jobs.measure.score import Score, Scoreboard, define_metrics
from vidlatent.jobs.measure.sources import identify
from vidlatent.jobs.measure.stored import find_drop
from vidlatent.jobs.progress import SILENT, Progress
from vidlatent.metrics.base import Metric
from vidlatent.metrics.fvd import Fvd


def bench(
    clips: Iterable[Path | str],
    subjects: list[Subject],
    options: BenchOptions | None = None,
    resume: Path | None = None,
    progress: Progress = SILENT,
) -> Report:
    """Measure every clip with every subject and codec; what fails becomes a row that says why.

    Rows found in the file `resume` are not measured again, and new ones are added to it as they are done.
    """
    options = options or BenchOptions()
    asked = describe_settings(options, subjects)
    if resume and "fvd" in options.metrics:
        raise UsageError(
            "fvd looks at all clips together: it cannot be resumed", f"leave out fvd or {parameter('resume')}"
        )
    run = _Run(options, [apply_protocol(options, s) for s in subjects], progress)
    known = define_metrics([*run.metrics(), *run.sets("")])  # complains of metrics before any work is done
    journal = BenchJournal(resume, asked) if resume else None
    rows: list[ReportRow] = []
    named = [str(clip) for clip in clips]
    run.expect(len(named))
    for clip in named:
        for row in run.rows(clip, journal):
            rows.append(row)
            unseen = keep_worst_pictures(rows, options.pictures)
            if journal:
                journal.add(rows[-1])
                journal.drop_pictures(unseen if options.pictures else ())
    baseline = options.reference
    return Report(
        kind="bench",
        rows=tuple(rows),
        metrics=known,
        machine=describe_machine(subjects[0].model.runtime.device, ffmpeg=bool(options.codecs)),
        settings=asked,
        deltas=tuple(compute_deltas(rows, known, baseline)) if baseline else (),
        overall=run.overall(),
        sources=identify(named),
    )


def keep_worst_pictures(rows: list[ReportRow], count: int) -> list[ReportRow]:
    """Drop the pictures of all rows but the `count` worst ones, so that memory does not grow with the clips.

    Models come before codecs, which are bad at low rates because they were asked to be. Returns the rows that
    lost theirs.
    """
    seen = [i for i, row in enumerate(rows) if row.pictures]
    seen.sort(key=lambda i: (rows[i].kind != "codec", rows[i].pictures.error), reverse=True)
    for i in seen[count:]:
        rows[i] = replace(rows[i], pictures=None)
    return [rows[i] for i in seen[count:]]


class _Run:
    """What a bench measures with, and the metrics that gather over all clips."""

    def __init__(self, options: BenchOptions, subjects: list[Subject], progress: Progress) -> None:
        self._options = options
        self._subjects = subjects
        self._progress = progress
        self._sets: dict[str, list[Fvd]] = {}
        self._row = self._rows = self._clips = 0  # the number of the one in hand; of all; clips to come

    def expect(self, clips: int) -> None:
        """Guess how many rows so many clips will have: rates of codecs are known once models are measured."""
        targets = self._list_all_targets([(subject.name, 1.0) for subject in self._subjects])
        self._clips, self._rows = clips, clips * (len(self._subjects) + len(targets))

    def metrics(self) -> list[Metric]:
        """Fresh metrics for one clip."""
        names = [name for name in self._options.metrics if name != "fvd"]
        return self._options.protocol.metrics(names, self._options.files)

    def sets(self, subject: str) -> list[Fvd]:
        """The metrics that look at all clips of a subject together: FVD, where it was asked for."""
        if "fvd" not in self._options.metrics:
            return []
        if subject not in self._sets:
            self._sets[subject] = self._options.protocol.metrics(["fvd"], self._options.files)
        return self._sets[subject]

    def overall(self) -> dict[str, dict[str, Score]]:
        """The scores of the metrics in `sets`."""
        return {
            subject: {metric.name: Score(metric.result()) for metric in metrics}
            for subject, metrics in self._sets.items()
            if subject
        }

    def rows(self, path: str, journal: BenchJournal | None) -> Iterator[ReportRow]:
        """The rows of one clip: models first, because codecs may aim at their rates."""
        equal, self._clips = [], self._clips - 1
        for subject in self._subjects:
            blank = ReportRow(path, subject.name, "model", subject.name)
            row = self._make_row(blank, partial(self._model, subject=subject), journal)
            equal.append((subject.name, row.bits_per_pixel))
            yield row
        targets = self._list_all_targets(equal)
        self._rows = self._row + len(targets) + self._clips * (len(equal) + len(targets))
        for name, label, family, rate in targets:
            work = partial(self._codec, codec=CODECS[name], rate=rate)
            yield self._make_row(ReportRow(path, label, "codec", family), work, journal)

    def _list_all_targets(self, equal: list[tuple[str, float | None]]) -> list[tuple[str, str, str, float]]:
        """Every target of every codec, the codec's name in front; `equal` are the rates of the models."""
        names = self._options.codecs
        return [(name, *target) for name in names for target in self._list_targets(name, equal)]

    def _list_targets(
        self, name: str, equal: list[tuple[str, float | None]]
    ) -> Iterator[tuple[str, str, float]]:
        """Name, family and bits per pixel of a codec's targets; those with a rate are points of its curve."""
        if CODECS[name].lossless:
            yield name, "", 0.0
            return
        for label, rate in list_rates(self._options.rates, equal):
            yield f"{name} {label}", name, rate

    def _make_row(
        self, blank: ReportRow, work: Callable[..., ReportRow], journal: BenchJournal | None
    ) -> ReportRow:
        """The row from the journal, or measured now. An error of ours becomes a row that says it."""
        self._row += 1
        done = journal.find(blank.clip, blank.subject) if journal else None
        if done:
            return done
        try:
            clip = MeasuredClip(blank.clip, self._options.read, self._options.protocol)
            what = f"{self._row} of {self._rows}: {Path(blank.clip).name} · {blank.subject}"
            self._progress.begin(what, self._options.frames)
            return self._measure(blank, clip, work)
        except VidlatentError as e:
            return replace(blank, error=e.what)

    def _measure(self, blank: ReportRow, clip: MeasuredClip, work: Callable[..., ReportRow]) -> ReportRow:
        """Do the `work` while metrics watch, and add to its row what they and the clip have to say."""
        device = self._subjects[0].model.runtime.device
        board = Scoreboard(self.metrics(), device, self.sets(blank.subject))
        pictures, film = KeptPictures(), Film(self._options.play_s if self._options.pictures else 0.0)

        def see(reference: np.ndarray, distorted: np.ndarray) -> None:
            time_s = clip.times_s[board.frames]
            board.update(reference, distorted)
            pictures.update(reference, distorted, time_s)
            film.update(reference, distorted, time_s)
            self._progress.frames(board.frames)

        row = work(blank, clip=clip, see=see)
        scores, pictures.film = board.scores(), film.finish()
        for metric in self.sets(blank.subject):
            metric.end_clip()
        return replace(
            row,
            frames=board.frames,
            width=clip.size[0],
            height=clip.size[1],
            fps=clip.fps,
            times_s=tuple(clip.times_s[: board.frames]),
            scores=scores,
            notices=(*clip.notices, *row.notices),
            pictures=pictures,
        )

    def _model(self, blank: ReportRow, subject: Subject, clip: MeasuredClip, see: See) -> ReportRow:
        subject, notices = self._fit(subject, clip)
        drop = find_drop(subject.store)
        if drop is not None:
            subject, measured = pack_clip(subject, drop, clip.frames)
            notices += measured
        found = measure(subject, clip.frames, self._options.runs, see)
        pixels = found.last.frames * clip.size[0] * clip.size[1]
        return replace(
            blank,
            bits_per_pixel=found.last.bits / pixels,
            stored=subject.store,
            notices=tuple(f"{blank.subject}: {notice}" for notice in notices),
            speed=found.speed,
            peak_host_bytes=found.peak_host_bytes,
            peak_device_bytes=found.peak_device_bytes,
        )

    def _fit(self, subject: Subject, clip: MeasuredClip) -> tuple[Subject, tuple[str, ...]]:
        """The subject with a plan that keeps a clip within what is allowed, and what must be said of it."""
        limit = self._options.max_memory
        if limit is None:
            return subject, ()
        with closing(clip.frames()) as frames:
            height, width, _ = next(frames).shape
        work = Workload(height, width, self._options.frames or clip.info.header_frames)
        fitted = settle_both(subject.model, subject.plan, work, limit)
        return replace(subject, plan=fitted.plan), fitted.notices

    def _codec(self, blank: ReportRow, codec: Codec, rate: float, clip: MeasuredClip, see: See) -> ReportRow:
        with encode_with_codec(codec, rate, clip.frames) as stream, closing(clip.frames()) as again:
            back = Clocked(decode_coded(stream))
            for reference, distorted in zip(again, back, strict=True):
                see(reference, distorted)
        missed = None if codec.lossless else stream.miss(rate)
        return replace(
            blank,
            bits_per_pixel=stream.bits_per_pixel,
            coding=stream.describe(None if codec.lossless else rate),
            speed=Speed(stream.encode_s, back.seconds, runs=1),
            notices=(f"{blank.subject}: {missed}",) if missed else (),
        )
