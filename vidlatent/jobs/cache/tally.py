"""How far a cache run is, and who is told of it."""

import time
from dataclasses import dataclass, field, fields
from typing import Protocol, Self


@dataclass
class Tally:
    """How far a run is: how many clips came to what, and where the time went, in seconds."""

    clips: int = 0  # files, and their parts as they become known
    done: int = 0
    reused: int = 0
    failed: int = 0
    skipped: int = 0
    left_out: int = 0  # clips that the recipe does not want: too short, or off the grid
    frames: int = 0
    bytes: int = 0
    seconds: float = 0.0
    starved_s: float = 0.0  # the model waited for frames
    full_s: float = 0.0  # readers waited for the model
    store_s: float = 0.0  # readers waited for copies of what lies in a store
    measured_s: float = 0.0  # clips were decoded, to measure what storing them costs
    stopped: bool = False
    counting: bool = field(default=False, repr=False)  # more clips are being found
    waiting: str = field(default="", repr=False)  # for what, while other processes make all that is left
    measuring: str = field(default="", repr=False)  # of which clip, and how far that is
    recipe: str = field(default="", repr=False)  # the name of what the run asks for
    sources: str = field(default="", repr=False)  # one for the states of all sources, see unchanged.py
    notices: list[str] = field(default_factory=list, repr=False)  # about sources as a whole
    began: float = field(default_factory=time.perf_counter, repr=False)

    @property
    def accounted_for(self) -> int:
        """How many clips have come to something: made, reused, failed, skipped or left out."""
        return self.done + self.reused + self.failed + self.skipped + self.left_out

    def facts(self) -> dict[str, object]:
        """All counts as plain values, and how long the run took so far."""
        took = time.perf_counter() - self.began
        return {f.name: getattr(self, f.name) for f in fields(self) if f.repr} | {"wall_s": round(took, 3)}


class CacheProgress(Protocol):
    """Whoever shows how far a run is."""

    def update(self, tally: Tally) -> None:
        """Called after every clip."""
        ...


@dataclass
class Measuring:
    """Tells, as a job's progress does, how far the measuring of one clip is, and adds up what it takes."""

    name: str
    tally: Tally
    progress: CacheProgress
    total: int | None = None

    def __enter__(self) -> Self:
        self._began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.tally.measured_s += time.perf_counter() - self._began
        self.tally.measuring = ""

    def begin(self, what: str, total: int | None) -> None:
        """Some decoding begins; `total` frames are expected."""
        self.total = total
        self.frames(0)

    def frames(self, done: int) -> None:
        """So many frames are decoded."""
        self.tally.measuring = f"measuring {self.name}: {done} of {self.total} frames"
        self.progress.update(self.tally)


class NoProgress:
    """For runs that nobody watches."""

    def update(self, tally: Tally) -> None:
        """Do nothing."""
