"""How a cache run is shown: clips, rates, who waits for whom, time left."""

import sys
import time
from typing import TYPE_CHECKING

from vidlatent.cli.console import PLAIN_EVERY_S, say

if TYPE_CHECKING:
    from vidlatent.jobs.cache.tally import Tally


class ClipLines:
    """One line that moves in a terminal, a line now and then in a log."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._every_s = 0.2 if self._terminal else PLAIN_EVERY_S
        self._said = time.monotonic()

    def update(self, tally: "Tally") -> None:
        """Say how far it is, if the last time was a while ago."""
        now = time.monotonic()
        if now - self._said < self._every_s:
            return
        self._said = now
        if self._terminal:
            print(f"\r\033[K{line(tally)}", end="", file=sys.stderr, flush=True)
        else:
            say(line(tally))

    def close(self) -> None:
        """Clear the line."""
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def line(tally: "Tally") -> str:
    """A run in one line."""
    took = max(time.perf_counter() - tally.began, 1e-9)
    parts = [f"{tally.settled} of {tally.clips} clips"]
    if tally.failed:
        parts.append(f"{tally.failed} failed")
    if tally.done:
        parts += [f"{tally.done / took:.2f} clips/s", f"{tally.frames / took:.1f} frames/s"]
        parts.append(
            f"model waits {share(tally.starved_s, tally)}, readers wait {share(tally.full_s, tally)}"
        )
        parts.append(f"{duration((tally.clips - tally.settled) * took / tally.settled)} left")
    return ", ".join(parts)


def share(waited_s: float, tally: "Tally") -> str:
    """Part of the encoding time."""
    return f"{min(1.0, waited_s / tally.seconds):.0%}" if tally.seconds else "0%"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, left = divmod(rest, 60)
    return (
        f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {left:02d} s" if minutes else f"{left} s"
    )
