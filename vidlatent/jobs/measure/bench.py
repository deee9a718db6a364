"""Bench: clips through models and codecs and back, timed and measured, one row for each."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from vidlatent.errors import UsageError, VidlatentError, parameter
from vidlatent.jobs.measure.bench_options import EQUAL, BenchOptions, settings, under
from vidlatent.jobs.measure.clip import Clip
from vidlatent.jobs.measure.codecs import CODECS, Codec, coded, decoded
from vidlatent.jobs.measure.deltas import deltas
from vidlatent.jobs.measure.journal import Journal
from vidlatent.jobs.measure.machine import Clocked, machine
from vidlatent.jobs.measure.results import Report, Row, Speed
from vidlatent.jobs.measure.roundtrip import See, Subject, latent_bits, measure
from vidlatent.jobs.measure.score import Score, Scoreboard, definitions
from vidlatent.jobs.measure.witness import Witness
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
    asked = settings(options, subjects)
    if resume and "fvd" in options.metrics:
        raise UsageError(
            "fvd looks at all clips together: it cannot be resumed", f"leave out fvd or {parameter('resume')}"
        )
    run = _Run(options, [under(options, s) for s in subjects], progress)
    known = definitions([*run.metrics(), *run.sets("")])  # complains of metrics before any work is done
    journal = Journal(resume, asked) if resume else None
    rows: list[Row] = []
    for clip in clips:
        for row in run.rows(str(clip), journal):
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
        machine=machine(subjects[0].model.runtime.device),
        settings=asked,
        deltas=tuple(deltas(rows, known, baseline)) if baseline else (),
        overall=run.overall(),
    )


def keep_worst_pictures(rows: list[Row], count: int) -> list[Row]:
    """Let go of the frames of all rows but the `count` worst ones: memory does not grow with the clips.

    Gives the rows that lost theirs.
    """
    seen = [i for i, row in enumerate(rows) if row.witness]
    seen.sort(key=lambda i: rows[i].witness.error, reverse=True)
    for i in seen[count:]:
        rows[i] = replace(rows[i], witness=None)
    return [rows[i] for i in seen[count:]]


class _Run:
    """A bench under way: what it measures with, and what is gathered over all clips."""

    def __init__(self, options: BenchOptions, subjects: list[Subject], progress: Progress) -> None:
        self._options = options
        self._subjects = subjects
        self._progress = progress
        self._sets: dict[str, list[Fvd]] = {}

    def metrics(self) -> list[Metric]:
        """Fresh metrics for one clip."""
        names = [name for name in self._options.metrics if name != "fvd"]
        return self._options.protocol.metrics(names, self._options.files)

    def sets(self, subject: str) -> list[Fvd]:
        """Metrics that look at all clips of a subject together: FVD, where asked."""
        if "fvd" not in self._options.metrics:
            return []
        if subject not in self._sets:
            self._sets[subject] = self._options.protocol.metrics(["fvd"], self._options.files)
        return self._sets[subject]

    def overall(self) -> dict[str, dict[str, Score]]:
        """The scores of `sets`."""
        return {
            subject: {metric.name: Score(metric.result()) for metric in metrics}
            for subject, metrics in self._sets.items()
            if subject
        }

    def rows(self, path: str, journal: Journal | None) -> Iterator[Row]:
        """The rows of one clip: models first, since codecs may aim at their rates."""
        equal = []
        for subject in self._subjects:
            blank = Row(path, subject.name, "model", subject.name)
            row = self._row(blank, partial(self._model, subject=subject), journal)
            equal.append((subject.name, row.bits_per_pixel))
            yield row
        for name in self._options.codecs:
            for label, family, rate in self._targets(name, equal):
                work = partial(self._codec, codec=CODECS[name], rate=rate)
                yield self._row(Row(path, label, "codec", family), work, journal)

    def _targets(self, name: str, equal: list[tuple[str, float | None]]) -> Iterator[tuple[str, str, float]]:
        """Name, family and bits per pixel of what a codec is to aim at; only chosen rates make its curve."""
        if CODECS[name].lossless:
            yield name, "", 0.0
            return
        for rate in self._options.rates:
            if rate == EQUAL:
                yield from ((f"{name} as {subject}", "", bpp) for subject, bpp in equal if bpp)
            else:
                yield f"{name} {rate:g} bpp", name, float(rate)

    def _row(self, blank: Row, work: Callable[..., Row], journal: Journal | None) -> Row:
        """The row from the journal, or measured now; an error of ours becomes the row."""
        done = journal.find(blank.clip, blank.subject) if journal else None
        if done:
            return done
        try:
            clip = Clip(blank.clip, self._options.read, self._options.protocol)
            self._progress.begin(f"{blank.clip} · {blank.subject}", self._options.frames)
            return self._measured(blank, clip, work)
        except VidlatentError as e:
            return replace(blank, error=e.what)

    def _measured(self, blank: Row, clip: Clip, work: Callable[..., Row]) -> Row:
        """`work` with metrics watching, and what they and the clip have to say added to its row."""
        device = self._subjects[0].model.runtime.device
        board = Scoreboard(self.metrics(), device, self.sets(blank.subject))
        witness = Witness()

        def see(reference: np.ndarray, distorted: np.ndarray) -> None:
            board.update(reference, distorted)
            witness.update(reference, distorted)
            self._progress.frames(board.frames)

        row = work(blank, clip=clip, see=see)
        scores = board.scores()
        for metric in self.sets(blank.subject):
            metric.end_clip()
        return replace(
            row,
            frames=board.frames,
            width=clip.size[0],
            height=clip.size[1],
            fps=clip.fps,
            scores=scores,
            notices=clip.notices,
            witness=witness,
        )

    def _model(self, blank: Row, subject: Subject, clip: Clip, see: See) -> Row:
        found = measure(subject, clip.frames, self._options.runs, see)
        pixels = found.last.frames * clip.size[0] * clip.size[1]
        return replace(
            blank,
            bits_per_pixel=latent_bits(subject, found.last) / pixels,
            speed=found.speed,
            peak_host_bytes=found.peak_host_bytes,
            peak_device_bytes=found.peak_device_bytes,
        )

    def _codec(self, blank: Row, codec: Codec, rate: float, clip: Clip, see: See) -> Row:
        with coded(codec, rate, clip.frames) as stream, closing(clip.frames()) as again:
            back = Clocked(decoded(stream))
            for reference, distorted in zip(again, back, strict=True):
                see(reference, distorted)
        speed = Speed(stream.encode_s, back.seconds, runs=1)
        return replace(blank, bits_per_pixel=stream.bits_per_pixel, speed=speed)
