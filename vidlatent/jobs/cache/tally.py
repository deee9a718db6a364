"""How far a cache run is, and who is told."""

import time
from dataclasses import dataclass, field, fields
from typing import Protocol


@dataclass
class Tally:
    """How far a run is: clips by what became of them, and where the time went, in seconds."""

    clips: int = 0  # files and their parts, as far as they are known
    done: int = 0
    reused: int = 0
    failed: int = 0
    skipped: int = 0
    frames: int = 0
    bytes: int = 0
    seconds: float = 0.0
    starved_s: float = 0.0  # the model waited for frames
    full_s: float = 0.0  # readers waited for the model
    stopped: bool = False
    began: float = field(default_factory=time.perf_counter, repr=False)

    @property
    def settled(self) -> int:
        """Clips of which it is known what became of them."""
        return self.done + self.reused + self.failed + self.skipped

    def facts(self) -> dict[str, object]:
        """All of it as plain values, and how long it took so far."""
        took = time.perf_counter() - self.began
        return {f.name: getattr(self, f.name) for f in fields(self) if f.repr} | {"wall_s": round(took, 3)}


class CacheProgress(Protocol):
    """Told after every clip."""

    def update(self, tally: Tally) -> None:
        """Something has changed."""
        ...


class Quiet:
    """Nobody waits."""

    def update(self, tally: Tally) -> None:
        """Say nothing."""
