"""Whether what a reader is asked for makes sense, whichever video it is asked of."""

from collections.abc import Iterator
from fractions import Fraction

from vidlatent.errors import UsageError, parameter
from vidlatent.io.picture.facts import MOST_PX, MOST_SECONDS
from vidlatent.io.picture.info import ReadOptions

FITS = ("stretch", "crop", "pad")
MOST_FRAMES = (1 << 31) - 1
SLOWEST, FASTEST = Fraction(1, 86_400), Fraction(1_000_000)  # frames per second


def check_reading(options: ReadOptions) -> None:
    """Raise UsageError where no video can be read so. Commands ask before dear work, `open_video` always."""
    for what, hint in _find_nonsense(options):
        raise UsageError(what, hint)


def _find_nonsense(options: ReadOptions) -> Iterator[tuple[str, str | None]]:
    """What is wrong, and what would do."""
    if options.frames is not None and not 1 <= options.frames <= MOST_FRAMES:
        yield f"{parameter('frames')} {options.frames}: expected 1 to {MOST_FRAMES}", None
    if options.fps is not None and not SLOWEST <= options.fps <= FASTEST:
        asked = f"{parameter('fps')} {_spell(options.fps)}"
        yield f"{asked}: expected at most {FASTEST} a second, and one a day at least", None
    if options.fit not in FITS:
        yield f"{parameter('fit')} {options.fit}: unknown", f"known are {', '.join(FITS)}"
    if options.size is not None and not all(1 <= side <= MOST_PX for side in options.size):
        asked = f"{parameter('size')} {options.size[0]}x{options.size[1]}"
        yield f"{asked}: sides must be at least 1, and at most {MOST_PX}", None
    yield from _find_no_span(options)


def _find_no_span(options: ReadOptions) -> Iterator[tuple[str, str | None]]:
    for name, time in ((parameter("start"), options.start), (parameter("end"), options.end)):
        if time is not None and abs(time) > MOST_SECONDS:
            yield f"{name} {_spell(time)}: no video lasts that long", "give seconds"
    if options.start is not None and options.end is not None and options.end <= options.start:
        start, end = _spell(options.start), _spell(options.end)
        asked = f"{parameter('end')} {end}: is not after {parameter('start')} {start}"
        yield asked, f"frames with {parameter('start')} <= time < {parameter('end')} are read"


def _spell(value: Fraction) -> str:
    """A number in few digits, however large it is."""
    try:
        return f"{float(value):g}"
    except OverflowError:
        return "a huge number"
