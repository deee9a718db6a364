"""Captions, in the ways that people keep them: a text beside the clip, or a column of a table."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from vidlatent.errors import BadInput

CAPTION = "caption"  # the fact of a clip that holds its caption, wherever it came from
CAPTION_EXTENSIONS = (".txt", ".caption")  # the first of these that is there counts
COLUMNS = (CAPTION, "prompt", "text", "cap")  # the first of these that a row has is its caption
MOST_CAPTION_BYTES = 1 << 20


def find_caption_beside(video: Path, extensions: tuple[str, ...]) -> Path | None:
    """The file beside a video that holds its caption: of the same name, but for the extension.

    There is none by a name that is too long for a file, or that may not be looked at.
    """
    named = (video.with_suffix(ending) for ending in extensions)
    return next((path for path in named if os.path.isfile(path)), None)


def read_caption_text(raw: bytes, name: str) -> str:
    """The text of a caption file, without white space around it; raises BadInput where it is not UTF-8."""
    try:
        return raw.decode("utf-8-sig").strip()
    except UnicodeDecodeError as e:
        raise BadInput(
            f"{name}: not UTF-8 text (byte {e.start} is 0x{raw[e.start]:02x})",
            "save the caption as UTF-8",
        ) from e


def name_caption(facts: Mapping[str, object]) -> dict[str, object]:
    """The facts of a row, its caption under the name `caption`; of a list of captions the first one.

    A list that holds more is kept under its own name as well.
    """
    column = next((name for name in COLUMNS if facts.get(name) not in (None, "", [])), None)
    if column is None:
        return dict(facts)
    told = facts[column]
    several = isinstance(told, list) and len(told) > 1 and column != CAPTION
    rest = {name: value for name, value in facts.items() if name != column or several}
    return {CAPTION: str(told[0] if isinstance(told, list) else told), **rest}


def find_caption_in_json(text: str) -> str | None:
    """The caption that a JSON object names as a table's row would; None where it has none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return name_caption(found).get(CAPTION) if isinstance(found, dict) else None  # type: ignore[return-value]
