"""What a bench is asked to do, and the same as plain values for its report."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vidlatent.engine.load import load_model
from vidlatent.engine.plan import PlanWishes, plan_for
from vidlatent.errors import BadVideo, UsageError, parameter
from vidlatent.io.read.source import ReadOptions, check_reading
from vidlatent.jobs.measure.codecs import CODECS
from vidlatent.jobs.measure.protocols import Protocol
from vidlatent.jobs.measure.rates import EQUAL, LADDER
from vidlatent.jobs.measure.roundtrip import Subject
from vidlatent.jobs.measure.stored import check_name
from vidlatent.metrics.table import check_metrics
from vidlatent.models import registry
from vidlatent.quantities import to_bytes

VIDEO_SUFFIXES = (
    *(".264", ".265", ".avi", ".gif", ".h264", ".h265", ".m2v", ".m4v"),
    *(".mkv", ".mov", ".mp4", ".mpg", ".mts", ".ts", ".webm", ".y4m"),
)


@dataclass(frozen=True)
class BenchOptions:
    """What to measure.

    `frames` is the most of each clip, `size` (width, height) what clips are scaled to first. `rates` are bits
    per pixel that codecs aim at, or "equal": those of every model's latents, or "ladder": five powers of two
    below those. `runs` are timed passes over each clip; metrics are taken in the last one. `baseline` names
    the codec that BD-rates refer to, by default the first. `pictures` is how many rows, the worst ones, keep
    frames to be shown, and `play_s` how many seconds of those may be played. Within `max_memory`, "4G" or
    bytes, each model encodes and decodes; frames and metrics come on top of that.
    """

    metrics: tuple[str, ...] = ("psnr", "ssim", "lpips")
    files: Mapping[str, Path] = field(default_factory=dict)
    frames: int | None = None
    size: tuple[int, int] | None = None
    protocol: Protocol = field(default_factory=Protocol)
    codecs: tuple[str, ...] = ()
    rates: tuple[float | str, ...] = (EQUAL, LADDER)
    baseline: str | None = None
    runs: int = 3
    seed: int = 0
    pictures: int = 0
    play_s: float = 0.0
    max_memory: int | str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_memory", to_bytes(self.max_memory))
        check_metrics(self.metrics, self.files)
        check_reading(self.read)
        for name in self.codecs:
            if name not in CODECS:
                raise UsageError(f"{name}: no such codec", f"there are {', '.join(CODECS)}")
        if self.baseline and self.baseline not in self.codecs:
            raise UsageError(
                f"{self.baseline}: baseline, but not measured", f"add {parameter('codecs')} {self.baseline}"
            )
        if self.runs < 1:
            raise UsageError(f"{self.runs} runs measure nothing", f"give {parameter('runs')} 1 at least")

    @property
    def read(self) -> ReadOptions:
        """How clips are read."""
        return ReadOptions(frames=self.frames, size=self.size)

    @property
    def reference(self) -> str | None:
        """The codec that BD-rates refer to; None where no codec has a rate."""
        with_rate = (name for name in self.codecs if not CODECS[name].lossless)
        return self.baseline or next(with_rate, None)


@dataclass(frozen=True)
class Loading:
    """How models are to run, see `load_model`, and how they are to cut clips."""

    device: str | None = None
    dtype: str | None = None
    cut: PlanWishes = field(default_factory=PlanWishes)
    settings: Mapping[str, object] = field(default_factory=dict)
    weights: Path | None = None
    config: Path | None = None


def load_subjects(names: Sequence[str], stores: Iterable[str], how: Loading | None = None) -> list[Subject]:
    """Every model with its latents kept in each of the dtypes `stores`, by default the one it computes in.

    Without names it is the bundled model. Raises UsageError before the first is loaded where one of them is
    unknown, or cannot be cut or kept so.
    """
    how, kept = how or Loading(), list(stores)
    names = names or [None if how.weights else registry.DEFAULT]
    for store in kept:
        check_name(store)
    for name in names:
        plan_for(registry.foresee(name, how.weights, how.config).chosen(how.settings), how.cut)
    subjects = []
    for name in names:
        model = load_model(name, how.device, how.dtype, how.weights, how.config, how.settings)
        plan = plan_for(model.spec, how.cut)
        for store in kept or [model.runtime.dtype_name]:
            label = f"{model.spec.name} {store}" if kept else model.spec.name
            subjects.append(Subject(label, model, store, plan))
    return _tell_apart(subjects)


def _tell_apart(subjects: list[Subject]) -> list[Subject]:
    """Add the hash of their weights to models of one name: two checkpoints are two subjects."""
    names = [subject.name for subject in subjects]
    return [
        replace(s, name=f"{s.name} {s.model.weights_sha256[:8]}") if names.count(s.name) > 1 else s
        for s in subjects
    ]


def apply_protocol(options: BenchOptions, subject: Subject) -> Subject:
    """The subject, treating latents and pixels as the protocol demands."""
    seed = options.seed if options.protocol.sample else subject.seed
    return replace(subject, seed=seed, truncate=options.protocol.truncate)


def check_clips(paths: Sequence[Path]) -> None:
    """Raise BadVideo where none of the clips is there; a few that are missing are rows that say so."""
    if not any(path.exists() for path in paths):
        raise BadVideo(f"{paths[0]}: no such file", "check the path")


def list_clips(inputs: Iterable[Path | str]) -> list[Path]:
    """Files as they are; of folders, the videos anywhere inside in order of their names.

    A folder without videos stays itself: it may be one of images.
    """
    found: list[Path] = []
    for path in map(Path, inputs):
        inside = (
            sorted(p for p in path.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES) if path.is_dir() else []
        )
        found += inside or [path]
    return found


def describe_settings(options: BenchOptions, subjects: list[Subject]) -> dict[str, object]:
    """What was asked for, as plain values: what makes a number, but for the machine and the protocols."""
    return {
        "protocol": options.protocol.name,
        "about": options.protocol.about,
        "metrics": list(options.metrics),
        "runs": options.runs,
        "seed": options.seed if options.protocol.sample else None,
        "frames": options.frames,
        "size": options.size,
        "codecs": list(options.codecs),
        "rates": list(options.rates) if options.codecs else [],
        **({} if options.max_memory is None else {"max_memory": options.max_memory}),
        "models": {subject.name: _describe_subject(subject) for subject in subjects},
    }


def _describe_subject(subject: Subject) -> dict[str, object]:
    model, plan = subject.model, subject.plan
    chosen = model.spec.changed()
    return {
        "model": model.spec.name,
        "weights_sha256": model.weights_sha256,
        "compute": model.runtime.dtype_name,
        "device": model.runtime.device.type,
        "latents": subject.store,
        "encode_window": plan.encode_time.longest,
        "decode_window": plan.decode_time.longest,
        "tile": plan.encode_tiles.size if plan.encode_tiles else None,
        "licence": model.spec.licence,
        **({"settings": chosen} if chosen else {}),
    }
