"""Makes the timestamps of a source strictly increasing, without losing a frame."""

from fractions import Fraction

MOST_TICKS = (1 << 31) - 1  # numerator and denominator of a time base: what video containers can say
COARSE = Fraction(1, 1_000_000)  # seconds per tick where a stream's own time base cannot be kept
FINEST_HZ = 10_000  # a tick is at most this long, so that a repeated timestamp has somewhere to go
_JUMP_S = 1  # a pts further back than this means that the stream has started a new clock


def refine(time_base: Fraction) -> int:
    """Into how many ticks to divide one: the smallest power of two that makes a tick 1/10000 s or less.

    MP4 files get their timescale by the same rule, so clips from such files keep their ticks.
    """
    factor = 1
    while time_base / factor > Fraction(1, FINEST_HZ):
        factor *= 2
    return factor


def bound_rate(fps: Fraction) -> Fraction:
    """A rate whose clock containers can state: `fps` itself, or the nearest with a denominator up to 1001.

    Of rates so slow that there is none, it is the one whose frames last the nearest whole number of seconds.
    """
    fits = _is_bounded(1 / fps / refine(1 / fps))
    return fps if fits else fps.limit_denominator(1001) or Fraction(1, round(1 / fps))


def _is_bounded(time_base: Fraction) -> bool:
    return max(time_base.numerator, time_base.denominator) <= MOST_TICKS


class Timeline:
    """Places frames on a clock of `time_base` ticks that only moves forward.

    A frame's own pts is kept wherever it is later than the one before. A pts that repeats or is slightly
    earlier is moved to one tick after its predecessor. A missing one is guessed from the decoder's order, or
    else one frame step is added. A leap back of more than a second (a new clock, as where recordings were
    joined) shifts everything after it, so that time continues. `moved`, `guessed` and `leaps` count these.
    """

    def __init__(self, stream_base: Fraction, rate: Fraction | None) -> None:
        finest = stream_base / refine(stream_base)
        self.time_base = finest if _is_bounded(finest) else COARSE
        self._stream_base = stream_base
        self._ratio = stream_base / self.time_base
        self._step = max(1, round(1 / rate / self.time_base if rate else self._ratio))
        self._shift = 0
        self._last: int | None = None
        self._last_step = self._step
        self.moved = self.guessed = self.leaps = 0

    def ticks(self, stamp: int) -> int:
        """A time in the stream's own units, in ticks: exactly, unless `time_base` had to be another."""
        return round(stamp * self._ratio)

    @property
    def step(self) -> Fraction:
        """Seconds between the last two frames."""
        return self._last_step * self.time_base

    @property
    def end(self) -> Fraction:
        """When the last frame placed ends, in seconds, if it lasts as long as the one before it."""
        return ((self._last or 0) + self._last_step - self._shift) * self.time_base

    def place(self, pts: int | None, order: int | None = None) -> int:
        """Place the next frame and return its tick; `pts` and `order`, its dts, are in the stream's units."""
        if pts is None:
            self.guessed += 1
        stamp = pts if pts is not None else order
        tick = self._next_tick(None if stamp is None else self.ticks(stamp))
        if self._last is not None:
            self._last_step = tick - self._last
        self._last = tick
        return tick

    def _next_tick(self, tick: int | None) -> int:
        if self._last is None:
            return tick if tick is not None else 0
        if tick is None:
            return self._last + self._step
        tick += self._shift
        if tick > self._last:
            return tick
        if (self._last - tick) * self.time_base > _JUMP_S:
            self.leaps += 1
            self._shift += self._last + self._last_step - tick
            return self._last + self._last_step
        self.moved += 1
        return self._last + 1

    def notices(self) -> list[str]:
        """What had to be changed in the timestamps, in words."""
        done = (
            (self.guessed, "frames without a timestamp, placed by decoding order and frame rate"),
            (self.moved, "frames whose time did not advance, placed one tick after the frame before"),
            (self.leaps, "leaps back of the clock, time continued across them"),
        )
        found = [f"{count} {what}" for count, what in done if count]
        if self._ratio.denominator != 1:
            found.append(f"times in steps of {self._stream_base} s are rounded to {self.time_base} s")
        return found

    def final_duration(self, own: int, previous_own: int | None) -> int:
        """How many ticks the last frame lasts.

        That is its own duration (in the stream's units; 0 = unknown) where the frame before it lasted as long
        as its own duration said, else the step between the two: packets of single fields, for example, state
        half the time.
        """
        if own <= 0:
            return self._last_step
        if previous_own is None or abs(self.ticks(previous_own) - self._last_step) <= self._ratio:
            return self.ticks(own)
        return self._last_step
