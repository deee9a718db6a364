"""Good files made bad: bytes changed blindly, and JSON changed where it says something."""

import json
import struct
from hashlib import sha256
from random import Random

HUGE = 10**400
_TOKENS = (
    *(
        b"\0" * 8,
        b"\xff" * 8,
        b"\x80",
        b"\xed\xa0\x80",
        b"\r\n",
        b'"',
        b"[",
        b"{",
        b"}",
        b",",
        b":",
        b"\\u0000",
    ),
    *(b"NaN", b"Infinity", b"1e999", b"-1", b"0", b"null", b"true", b"9" * 5000, b"[" * 2000, b"..", b"/"),
    *(struct.pack("<Q", each) for each in (1, 1 << 20, 1 << 31, 1 << 40, (1 << 63) - 1)),
)
_SPANS = (1, 2, 8, 100, 4096)
_WORTHLESS = (
    *(None, True, False, 0, -1, 1, 2, 255, 1 << 31, 1 << 40, 1 << 63, HUGE, -HUGE, 0.5, -0.0, 1e308, 5e-324),
    *("", "x", "x" * 5000, "1/0", "0/1", "-1/25", "1e99999999", "NaN", "\0", "\udc80", "../../x", "\x1b[31m"),
    *([], {}, [[]], [None], {"": None}, [0] * 200),
)


def mutate_bytes(data: bytes, rng: Random) -> bytes:
    """`data` with one to four changes, each to a bit, a byte, a span, a token, or to its end."""
    raw = bytearray(data or b"x")
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(raw) or 1)
        rng.choice(_CHANGES)(raw, at, rng)
    return bytes(raw)


def _flip(raw: bytearray, at: int, rng: Random) -> None:
    raw[at : at + 1] = bytes(byte ^ 1 << rng.randrange(8) for byte in raw[at : at + 1])


def _remove(raw: bytearray, at: int, rng: Random) -> None:
    del raw[at : at + rng.choice(_SPANS)]


def _repeat(raw: bytearray, at: int, rng: Random) -> None:
    raw[at:at] = raw[at : at + rng.choice(_SPANS)]


def _insert(raw: bytearray, at: int, rng: Random) -> None:
    raw[at:at] = rng.choice(_TOKENS)


def _overwrite(raw: bytearray, at: int, rng: Random) -> None:
    token = rng.choice(_TOKENS)
    raw[at : at + len(token)] = token


def _cut(raw: bytearray, at: int, rng: Random) -> None:
    if rng.random() < 0.3:
        del raw[at:]


_CHANGES = (_flip, _flip, _remove, _repeat, _insert, _overwrite, _cut)


def mutate_value(value: object, rng: Random) -> object:
    """A JSON value with something in it replaced, left out, renamed or doubled."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        name, changed = rng.choice(list(value)), dict(value)
        match rng.randrange(10):
            case 0:
                del changed[name]
            case 1:
                changed[rng.choice(("", "x" * 300, "\udc80", name.upper()))] = changed.pop(name)
            case _:
                changed[name] = mutate_value(changed[name], rng)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.8:
        at, changed = rng.randrange(len(value)), list(value)
        match rng.randrange(6):
            case 0:
                del changed[at]
            case 1:
                changed[at:at] = changed[at : at + 1] * rng.choice((1, 100))
            case _:
                changed[at] = mutate_value(changed[at], rng)
        return changed
    return nested(rng) if rng.random() < 0.03 else rng.choice(_WORTHLESS)


def nested(rng: Random) -> object:
    """Lists in lists, deeper than most parsers go."""
    value: object = 0
    for _ in range(rng.choice((50, 900))):
        value = [value]
    return value


def mutate_json(data: bytes, rng: Random) -> bytes:
    """A JSON document changed as text, or as what it says."""
    if rng.random() < 0.3:
        return mutate_bytes(data, rng)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):  # bad already
        return mutate_bytes(data, rng)
    for _ in range(rng.randint(1, 3)):
        value = mutate_value(value, rng)
    return json.dumps(value).encode()


def mutate_lines(data: bytes, rng: Random) -> bytes:
    """JSON lines with one or several of them changed, doubled or in another order."""
    lines = data.splitlines(keepends=True)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(lines))
        lines[at] = mutate_json(lines[at], rng) + b"\n"
    if rng.random() < 0.2:
        rng.shuffle(lines)
    return b"".join(lines)


def mutate_latent(data: bytes, rng: Random, fact: str | None = None) -> bytes:
    """A `.latent`, or another safetensors file, with a lie in its header; its checksum is made to fit.

    With `fact` the lie is in the fact of that name alone.
    """
    if fact is None and rng.random() < 0.3:
        return mutate_bytes(data, rng)
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError):  # a hostile file to begin with
        return mutate_bytes(data, rng)
    facts = header.get("__metadata__")
    if facts and (fact or rng.random() < 0.85):
        key = fact or rng.choice(list(facts))
        facts[key] = _mutate_fact(facts[key], rng)
    else:
        header = mutate_value(header, rng)
    body = data[8 + length :]
    _seal(header, body)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def _mutate_fact(text: str, rng: Random) -> object:
    """A fact of a header: JSON in a string, where it is."""
    if rng.random() < 0.1:
        return mutate_value(text, rng)
    try:
        value = json.loads(text)
    except ValueError:
        return mutate_bytes(text.encode(), rng).decode(errors="replace")
    return json.dumps(mutate_value(value, rng))


def _seal(header: object, body: bytes) -> None:
    """Compute the checksum of the whole anew, as a liar would, so that the lie is looked at."""
    try:
        facts = header["__metadata__"]
        said = {key: text for key, text in facts.items() if key != "checksum"}
        places = {
            name: [entry["dtype"], entry["shape"], entry["data_offsets"][0]]
            for name, entry in header.items()
            if name != "__metadata__"
        }
        start, stop = header["checksums"]["data_offsets"]
        text = json.dumps([said, places], sort_keys=True, separators=(",", ":")).encode()
        facts["checksum"] = sha256(text + body[start:stop]).hexdigest()
    except (KeyError, TypeError, IndexError, ValueError, AttributeError):
        return
