"""Captions of a cache: which files the user takes them from, and where a row of the manifest has its own."""

from collections.abc import Mapping

from vidlatent.errors import UsageError, parameter
from vidlatent.jobs.reading.captions import CAPTION_EXTENSIONS, COLUMNS

_FORMER = "txt"  # the fact that held the caption of a tar's sample in caches of version 0.1


def choose_extensions(words: list[str] | None) -> tuple[str, ...]:
    """The extensions of caption files that the user names, such as ".txt" or "txt"; else the usual ones."""
    if not words:
        return CAPTION_EXTENSIONS
    for word in words:
        if not word.strip(".") or "/" in word:
            raise UsageError(f"{parameter('caption_extension')} {word}: no extension", "for instance .txt")
    return tuple(f".{word.removeprefix('.')}".lower() for word in words)


def get_caption(facts: Mapping[str, object]) -> str:
    """The caption among a clip's facts; empty where there is none. Rows of older caches are understood."""
    found = (facts[name] for name in (*COLUMNS, _FORMER) if isinstance(facts.get(name), str | list))
    told = next(found, "")
    return str(told[0]) if isinstance(told, list) and told else str(told or "")
