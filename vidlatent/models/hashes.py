"""The sha256 of weight files: each file is hashed once, and then known for as long as nobody writes to it.

What was found is noted where what is fetched for models is kept. A note counts while the file at that path
has the size, both times of change and the inode that it had when it was hashed. One that was changed a moment
ago is not noted yet.
"""

import hashlib
import json
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from vidlatent.errors import VidlatentError
from vidlatent.file_state import AT_REST_S, FileState, State, read_state
from vidlatent.files import sha256_file, write_note

LEAST_BYTES = 4 << 20  # of such a file: smaller ones are hashed in less time than matters
_VERSION = 1


def find_sha256(path: Path) -> str:
    """Hex sha256 of a weight file: as it was noted, or else as it is found now, and noted."""
    state = read_state(path)
    if not isinstance(state, FileState) or state.size < LEAST_BYTES:
        return sha256_file(path)
    note = place_note(path)
    if (known := _read(note, state)) is not None:
        return known
    rested_s = time.time() - state.changed_s
    found = sha256_file(path)
    if rested_s >= AT_REST_S and read_state(path) == state:
        with suppress(OSError, VidlatentError):  # where nothing can be noted, it is hashed again
            note.parent.mkdir(parents=True, exist_ok=True)
            write_note(note, json.dumps({"version": _VERSION, **asdict(state), "sha256": found}))
    return found


def forget_sha256(path: Path) -> None:
    """Drop what is noted of a file, so that it is hashed again."""
    with suppress(OSError):
        place_note(path).unlink(missing_ok=True)


def place_note(path: Path) -> Path:
    """Where it is noted what the file at `path` hashes to."""
    from huggingface_hub import constants

    name = hashlib.sha256(str(path.absolute()).encode(errors="surrogateescape")).hexdigest()
    return Path(constants.HF_ASSETS_CACHE) / "vidlatent" / "hashes" / f"{name}.json"


def _read(note: Path, state: State) -> str | None:
    """What is noted of a file that is still in this state; None where there is no such note."""
    try:
        found = json.loads(note.read_bytes())
        sha256 = found.pop("sha256")
        return sha256 if found == {"version": _VERSION, **asdict(state)} else None  # type: ignore[arg-type]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
