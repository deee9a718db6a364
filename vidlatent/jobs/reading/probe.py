"""What planning knows of a video."""

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Probe:
    """What a video's header and first frame say: displayed size, aspect `sar`, expected frames and seconds.

    `first_s` is the time of the first frame, looked up only where videos are cut into clips.
    """

    width: int
    height: int
    sar: Fraction
    frames: int | None
    duration_s: Fraction | None
    rate: Fraction | None
    first_s: Fraction | None = None
