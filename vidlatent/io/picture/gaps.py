"""Frames that last long, and would be repeated for all that time at a constant rate."""

from fractions import Fraction

from vidlatent.errors import UsageError, parameter

LONG_S = 10  # a frame that lasts longer is told of
MOST_S = 600  # one that lasts still longer is taken for a gap in the recording


class Gaps:
    """Counts them at a rate of `fps`, and refuses one that lasts too long."""

    def __init__(self, fps: Fraction) -> None:
        self._fps = fps
        self._count, self._longest = 0, 0  # of such frames; slots of the longest
        self._at = 0.0

    def note(self, origin: Fraction, slots: range) -> range:
        """Note the slots that a frame fills, and return them; raises UsageError where they are too many.

        `origin` is the time of slot 0.
        """
        count = slots.stop - slots.start  # which may be more than len() can say
        if count > LONG_S * self._fps:
            self._count += 1
            if count > self._longest:
                self._longest, self._at = count, float(origin + slots[0] / self._fps)
        if count > MOST_S * self._fps:
            raise UsageError(
                f"{self._lasts()}: at {parameter('fps')} {self._fps} it would come {count:,} times",
                f"leave out {parameter('fps')}, so that each frame comes once at its own time, or cut the "
                f"clip there by {parameter('start')} and {parameter('end')}",
            )
        return slots

    def describe(self) -> str | None:
        """A notice about all of them; None where there was none."""
        if not self._count:
            return None
        return f"{self._count} frames last longer than {LONG_S} s, and are repeated; {self._lasts()}"

    def _lasts(self) -> str:
        return f"the frame at {self._at:,.3f} s lasts {float(self._longest / self._fps):,.1f} s"
