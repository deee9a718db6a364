"""What an HDR video says about the display it was mastered on, and about its own brightness.

SMPTE ST 2086 and MaxCLL/MaxFALL of CTA-861.3, in the units that bitstreams use: chromaticities in steps of
0.00002, luminances of the display in 0.0001 cd/m², light levels of the content in cd/m².
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from av import VideoFrame
from av.sidedata.sidedata import Type

from vidlatent.io.picture import facts
from vidlatent.io.picture.side_data import read_side_data

_CHROMATICITY, _LUMINANCE = 50_000, 10_000  # steps of one
_DISPLAY = struct.Struct("20i2i")  # AVMasteringDisplayMetadata: ten fractions, and which of them are given
_LEVELS = struct.Struct("2I")  # AVContentLightMetadata


@dataclass(frozen=True)
class Mastering:
    """`primaries`: x and y of red, green, blue and white; `luminance`: darkest, brightest of the display.

    `levels`: MaxCLL and MaxFALL. What the video does not say is None.
    """

    primaries: tuple[int, ...] | None = None
    luminance: tuple[int, int] | None = None
    levels: tuple[int, int] | None = None

    @classmethod
    def of(cls, frame: VideoFrame) -> "Mastering | None":
        """What a decoded frame says of it; None where it says nothing."""
        display = read_side_data(frame, Type.MASTERING_DISPLAY_METADATA)
        levels = read_side_data(frame, Type.CONTENT_LIGHT_LEVEL)
        found = cls(*_parse_display(display) if display else (), levels=_parse_levels(levels))
        return None if found == cls() else found

    @classmethod
    def from_json(cls, data: Mapping) -> "Mastering":
        """The inverse of `dataclasses.asdict`, after a way through JSON; ValueError for what cannot be."""
        found = facts.table(data, "picture.mastering")
        return cls(**{key: _read_numbers(found.get(key), key, count) for key, count in _COUNTS.items()})


_COUNTS = {"primaries": 8, "luminance": 2, "levels": 2}


def _read_numbers(value: object, key: str, count: int) -> tuple[int, ...] | None:
    """So many numbers of a mastering display; None where they are not stated."""
    if value is None:
        return None
    what = f"picture.mastering.{key}"
    numbers = [facts.integer(number, what, 0, facts.MOST_TERM) for number in facts.array(value, what)]
    if len(numbers) != count:
        raise ValueError(f"{what}: expected {count} numbers, got {len(numbers)}")
    return tuple(numbers)


def _parse_display(data: bytes) -> tuple[tuple[int, ...] | None, tuple[int, int] | None]:
    *parts, has_primaries, has_luminance = _DISPLAY.unpack(data[: _DISPLAY.size])
    values = [Fraction(n, d) if d else Fraction(0) for n, d in zip(parts[::2], parts[1::2], strict=True)]
    primaries = tuple(round(value * _CHROMATICITY) for value in values[:8])
    luminance = tuple(round(value * _LUMINANCE) for value in values[8:])
    return primaries if has_primaries else None, luminance if has_luminance else None


def _parse_levels(data: bytes | None) -> tuple[int, int] | None:
    return _LEVELS.unpack(data[: _LEVELS.size]) if data else None


@dataclass(frozen=True)
class _Spelling:
    """How an encoder takes these facts: the option that holds them, their names in it, and its units."""

    option: str
    display: str
    levels: str
    steps: tuple[int, int] = (1, 1)  # of ours, chromaticity and luminance, in one of the encoder's


_SPELLINGS = {
    "libx264": _Spelling("x264-params", "mastering-display", "cll"),
    "libx265": _Spelling("x265-params", "master-display", "max-cll"),
    "libsvtav1": _Spelling(
        "svtav1-params", "mastering-display", "content-light", (_CHROMATICITY, _LUMINANCE)
    ),
}


def add_mastering(
    codec: str, settings: Mapping[str, str], mastering: Mastering | None
) -> tuple[dict, list[str]]:
    """An encoder's `settings` with `mastering` added, and notices of what this encoder cannot be told."""
    if mastering is None:
        return dict(settings), []
    if codec not in _SPELLINGS:
        return dict(settings), [f"{codec} cannot tell the mastering display and light levels: left out"]
    spelling, whole = _SPELLINGS[codec], mastering.primaries and mastering.luminance
    words = [settings[spelling.option]] if spelling.option in settings else []
    if whole:
        words.append(f"{spelling.display}={_spell_display(mastering, spelling.steps)}")
    if mastering.levels:
        words.append(f"{spelling.levels}={mastering.levels[0]},{mastering.levels[1]}")
    half = not whole and (mastering.primaries or mastering.luminance)
    lost = ["the mastering display is told by halves: left out"] if half else []
    return {**settings, spelling.option: ":".join(words)} if words else dict(settings), lost


def _spell_display(mastering: Mastering, steps: tuple[int, int]) -> str:
    """The display as in G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)."""
    x = [f"{value / steps[0]:.7g}" for value in mastering.primaries]
    darkest, brightest = (f"{value / steps[1]:.10g}" for value in mastering.luminance)
    places = {"G": x[2:4], "B": x[4:6], "R": x[0:2], "WP": x[6:8], "L": [brightest, darkest]}
    return "".join(f"{name}({first},{second})" for name, (first, second) in places.items())
