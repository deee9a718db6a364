"""`.latent` files with one thing changed in their headers, as liars and later versions write them."""

import json
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from vidlatent.io.picture.colour import Colour
from vidlatent.io.picture.info import Chapter, Picture

Edit = Callable[[dict], object]


def picture_of(width: int, height: int, **facts: object) -> dict[str, object]:
    """What a header says of pictures of this size, with some `facts` replaced."""
    colour = Colour("smpte170m", "tv", "bt709", "bt709", ("matrix",))
    tags, chapters = {"title": "größe"}, (Chapter(Fraction(0), Fraction(3, 2), "one"),)
    rates = Fraction(4, 3), colour, 10, Fraction(1, 90_000), Fraction(30_000, 1001)
    return {**Picture(width, height, *rates, tags, chapters).to_json(), **facts}


def rewrite(path: Path, edit: Edit, data: Callable[[bytearray], object] = bytes) -> None:
    """Change the JSON header, and maybe the data, of a file; lengths are kept right."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header, body = json.loads(raw[8 : 8 + length]), bytearray(raw[8 + length :])
    edit(header)
    data(body)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def fact(key: str, value: object) -> Edit:
    """Set a metadata key: strings as they are, all else as JSON."""
    text = value if isinstance(value, str) else json.dumps(value)
    return lambda header: header["__metadata__"].update({key: text})


def inside(key: str, *route: object) -> Edit:
    """Set something inside a structured metadata key: route is keys, then the value."""

    def edit(header: dict) -> None:
        value = place = json.loads(header["__metadata__"][key])
        for step in route[:-2]:
            place = place[step]
        place[route[-2]] = route[-1]
        header["__metadata__"][key] = json.dumps(value)

    return edit


def without(key: str, name: str) -> Edit:
    """Take a member out of a structured metadata key."""

    def edit(header: dict) -> None:
        found = json.loads(header["__metadata__"][key])
        del found[name]
        header["__metadata__"][key] = json.dumps(found)

    return edit


def entry(name: str, key: str, value: object) -> Edit:
    """Set one field of a tensor's entry."""
    return lambda header: header[name].update({key: value})
