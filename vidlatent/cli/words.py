"""From the words of the command line to values. An error says which flag was wrong, and what would do."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from vidlatent.errors import UsageError

if TYPE_CHECKING:
    from fractions import Fraction

    from vidlatent.jobs.cache.store import Root
    from vidlatent.jobs.encode import RawFrames


def parse_root(text: str) -> "Root":
    """Read where a cache lies: a folder, or the address of one in an object store."""
    from vidlatent.jobs.cache.store import parse_root

    return parse_root(text)


def parse_seconds(text: str | None, flag: str) -> "Fraction | None":
    """Read seconds from "1.5", "90", "1:30" or "0:01:30.5", exactly; None stays None."""
    if text is None:
        return None
    if not re.fullmatch(r"-?(\d+:){0,2}\d+(\.\d+)?", text):
        raise UsageError(f"{flag} {text}: not a time", "give seconds (12.5) or minutes and seconds (1:12.5)")
    from fractions import Fraction

    total = Fraction(0)
    for part in text.lstrip("-").split(":"):
        total = total * 60 + Fraction(part)
    return -total if text.startswith("-") else total


def parse_rate(text: str | None, flag: str) -> "Fraction | None":
    """Read frames per second from "25", "23.976" or "30000/1001"; None stays None."""
    if text is None:
        return None
    from fractions import Fraction

    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        value = Fraction(0)
    if value <= 0:
        raise UsageError(f"{flag} {text}: not a frame rate", "give a number or a fraction, e.g. 30000/1001")
    return value


def parse_integers(text: str | None, flag: str, count: int, example: str) -> tuple[int, ...] | None:
    """Read `count` integers from "1280x720" or "0,0,640,480"; None stays None."""
    if text is None:
        return None
    parts = re.split("[x,:]", text)
    if len(parts) != count or not all(re.fullmatch(r"\d+", part) for part in parts):
        raise UsageError(f"{flag} {text}: expected {count} numbers", f"for instance {flag} {example}")
    return tuple(int(part) for part in parts)


def parse_counts(text: str | None, flag: str) -> tuple[int, ...]:
    """Read numbers of frames from "81" or "1,25,81", and sort them; None gives none."""
    words = parse_names(text)
    if not all(re.fullmatch(r"0*[1-9]\d{0,8}", word) for word in words):
        raise UsageError(f"{flag} {text}: not numbers of frames", f"for instance {flag} 1,25,81")
    return tuple(sorted({int(word) for word in words}))


def parse_bucket(text: str, flag: str) -> tuple[int, ...]:
    """Read a size from "832x480", or a size and a number of frames from "832x480x81"."""
    count = 3 if len(re.split("[x,:]", text)) == 3 else 2
    bucket = parse_integers(text, flag, count, "832x480 or 832x480x81")
    if not all(bucket):
        raise UsageError(f"{flag} {text}: must be above 0", f"for instance {flag} 832x480x81")
    return bucket


def parse_bytes(text: str | None, flag: str) -> int | None:
    """Read bytes from "4G", "512M" or "2.5GB"; None stays None."""
    if text is None:
        return None
    from vidlatent.quantities import read_amount

    if (found := read_amount(text)) is None:
        raise UsageError(f"{flag} {text}: not an amount", f"for instance {flag} 4G")
    amount, unit = found
    if not unit and amount < 1024:
        raise UsageError(f"{flag} {text}: {text} of what? Without a unit it is bytes", f"give {flag} {text}G")
    return amount


def parse_names(text: str | None) -> tuple[str, ...]:
    """Read names from "psnr,ssim"; None gives no names."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def parse_files(given: list[str] | None, flag: str) -> dict[str, Path]:
    """Read files and their names from several "NAME=PATH"."""
    files = {}
    for text in given or []:
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise UsageError(f"{flag} {text}: expected NAME=PATH", "for instance fvd=i3d_torchscript.pt")
        files[name] = Path(path)
    return files


def parse_settings(given: list[str] | None, flag: str) -> dict[str, str]:
    """Read options and what is chosen for them from several "NAME=VALUE"."""
    settings = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not name or not equals or not value:
            raise UsageError(f"{flag} {text}: expected NAME=VALUE", f"for instance {flag} timestep=0.05")
        settings[name] = value
    return settings


def parse_bits_per_pixel(text: str, flag: str) -> tuple[float | str, ...]:
    """Read rates from "0.1,0.2,equal,ladder"."""
    from vidlatent.jobs.measure.rates import RATE_WORDS

    rates: list[float | str] = []
    for word in parse_names(text):
        try:
            rates.append(word if word in RATE_WORDS else float(word))
        except ValueError:
            raise UsageError(
                f"{flag} {word}: not a rate", "give bits per pixel, equal or ladder, e.g. 0.1,0.2,equal"
            ) from None
    if any(isinstance(rate, float) and not 0 < rate < 1000 for rate in rates):
        raise UsageError(f"{flag} {text}: bits per pixel must be positive", "e.g. 0.1,0.2,equal")
    return tuple(rates)


def parse_raw_frames(text: str | None, flag: str) -> "RawFrames | None":
    """Read the layout of bare frames from "320x240:yuv420p:30000/1001"; None stays None."""
    if text is None:
        return None
    from vidlatent.jobs.encode import RawFrames

    size, pix_fmt, fps, *more = *text.split(":"), *[""] * max(0, 2 - text.count(":"))
    missing = [name for name, said in (("size", size), ("pixel format", pix_fmt), ("rate", fps)) if not said]
    if missing or more:
        wrong = f"no {' and no '.join(missing)}" if missing else "more than size, pixel format and rate"
        raise UsageError(f"{flag} {text}: {wrong}", "WxH:PIX_FMT:FPS, for instance 320x240:yuv420p:25")
    width, height = parse_integers(size, flag, 2, "320x240:yuv420p:25")
    return RawFrames(width, height, pix_fmt, parse_rate(fps, flag))


def parse_decibels(text: str | None, flag: str) -> float | None:
    """Read decibels from "0.1dB" or "20"; None stays None."""
    if text is None:
        return None
    found = re.fullmatch(r"(-?\d+(?:\.\d+)?)\s*(?:dB)?", text, re.IGNORECASE)
    if not found:
        raise UsageError(f"{flag} {text}: not decibels", f"for instance {flag} 0.1dB")
    return float(found[1])
