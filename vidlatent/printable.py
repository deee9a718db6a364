"""Text from outside, made fit to be shown: what steers a terminal in a name is spelled, not sent."""

import unicodedata

# Control characters; those that turn the direction of writing, or end lines; halves of characters, which
# stand for bytes of a file name that are no UTF-8.
_STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_HARMLESS = {"\u200d", "\u200c"}  # join letters and emoji, and nothing more


def make_printable(text: str) -> str:
    r"""`text` with each character that steers a terminal, or is none, spelled: `\x1b`, `\u202e`, `\xff`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_spell(each) if _steers(each) else each for each in text)


def encode_text(text: str) -> bytes:
    r"""A text for a file, in UTF-8; bytes of names that are no UTF-8 are spelled `\udcff`, as in JSON."""
    return text.encode("utf-8", "backslashreplace")


def spell_text(text: str) -> str:
    """A text for what takes no halves of characters, spelled as `encode_text` does."""
    return encode_text(text).decode()


def _steers(character: str) -> bool:
    return unicodedata.category(character) in _STEERING and character not in _HARMLESS


def _spell(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode() if code < 0xD800 else f"\\u{code:04x}"
