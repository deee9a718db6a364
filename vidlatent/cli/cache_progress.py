"""A cache run in words: clips, rates, who waits for whom, time left; and what came of it."""

import sys
import time
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

from vidlatent.cli.console import PLAIN_EVERY_S, print_json, say, say_notices, talk
from vidlatent.errors import TERMINATED
from vidlatent.printable import make_printable

if TYPE_CHECKING:
    from vidlatent.jobs.cache.tally import Tally


def show(
    work: Callable[..., "Tally"],
    max_failures: int,
    as_json: bool,
    note: Callable[["Tally"], object] = lambda tally: None,
) -> int:
    """Do the work while its progress is shown, note and say what came of it, and return the exit code."""
    with closing(ClipLines()) as progress:
        tally = work(progress=progress)
    note(tally)
    say_notices(tally.notices)
    say(describe(tally))
    left_out = f", {tally.left_out} left out" if tally.left_out else ""
    say(
        f"{tally.done} made, {tally.reused} there already, {tally.skipped} no videos, "
        f"{tally.failed} failed{left_out}"
    )
    if tally.left_out:
        say("clips that are too short, or off the grid: `vidlatent cache status` names them")
    if tally.failed:
        say("`vidlatent cache status` says what failed, and why")
    if as_json:
        print_json(tally.facts())
    if tally.stopped:
        say("stopped as asked; the same command goes on where this ended")
        return TERMINATED
    return 1 if tally.failed > max_failures else 0


class ClipLines:
    """Shows the progress: one line that changes in a terminal, a new line every ten seconds in a log."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty() and not talk.get()[0]
        self._line = None
        self._every_s = 0.2 if self._terminal else PLAIN_EVERY_S
        self._said = time.monotonic()

    def update(self, tally: "Tally") -> None:
        """Say how far the run is, unless that was said a moment ago."""
        now = time.monotonic()
        if now - self._said < self._every_s:
            return
        self._said = now
        if self._terminal:
            self._show(make_printable(describe(tally)))
        else:
            say(describe(tally))

    def _show(self, text: str) -> None:
        """Draw the line anew, cut to the width that the terminal has now."""
        from tqdm import tqdm

        if self._line is None:
            self._line = tqdm(bar_format="{desc}", dynamic_ncols=True, leave=False)
        self._line.set_description_str(text)

    def close(self) -> None:
        """Clear the line that was shown in a terminal."""
        if self._line is not None:
            self._line.close()


def describe(tally: "Tally") -> str:
    """Say in one line how far a run is."""
    took = max(time.perf_counter() - tally.began, 1e-9)
    found = " found so far" if tally.counting else ""
    parts = [f"{tally.accounted_for} of {tally.clips} clips{found}"]
    if tally.waiting:
        return f"{parts[0]}, waiting for {tally.waiting}"
    if tally.failed:
        parts.append(f"{tally.failed} failed")
    if tally.done:
        parts += [f"{tally.done / took:.2f} clips/s", f"{tally.frames / took:.1f} frames/s"]
        model, readers = spell_share(tally.starved_s, tally), spell_share(tally.full_s, tally)
        parts.append(f"model waits {model}, readers wait {readers}")
        if tally.store_s:
            parts.append(f"stores are waited for {spell_share(tally.store_s, tally)}")
        if tally.measured_s:
            parts.append(f"measuring takes {spell_share(tally.measured_s, tally)}")
        left = (tally.clips - tally.accounted_for) * took / tally.accounted_for
        if not tally.counting:
            parts.append(f"{spell_duration(left)} left")
    if tally.measuring:
        parts.append(tally.measuring)
    return ", ".join(parts)


def spell_share(waited_s: float, tally: "Tally") -> str:
    """Write a time as a share of the time spent encoding, for instance "12%"."""
    return f"{min(1.0, waited_s / tally.seconds):.0%}" if tally.seconds else "0%"


def spell_duration(seconds: float) -> str:
    """Write seconds as people say them, for instance "2 h 05 min"."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, left = divmod(rest, 60)
    return (
        f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {left:02d} s" if minutes else f"{left} s"
    )
