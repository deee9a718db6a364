"""What is put into an object store: whole objects, each by one call, and looked at once it is there."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from vidlatent.errors import BadVideo, OutOfResources, UsageError
from vidlatent.io.sources.patience import (
    WRITING,
    NoSuchObject,
    TornTransfer,
    Unreachable,
    ask_patiently,
    read_status,
)
from vidlatent.io.sources.stores import connect, never
from vidlatent.io.sources.urls import hide_secrets

T = TypeVar("T")
_EXISTS = (409, 412)  # answers to a put that was to make a new object


def put_file(path: Path, url: str) -> None:
    """Put a complete file to an address, in place of what was there.

    Raises UsageError where nothing may be put there, and OutOfResources where the store fails.
    """
    fs, inside = connect(url)

    def put() -> None:
        fs.put_file(str(path), inside)
        found, size = fs.info(inside)["size"], path.stat().st_size
        if found != size:
            raise TornTransfer(f"{found:,} of {size:,} bytes are there")

    ask_to_write(put, url)


def put_bytes(url: str, data: bytes) -> None:
    """Put a small object to an address, in place of what was there; raises as `put_file` does."""
    fs, inside = connect(url)
    ask_to_write(lambda: fs.pipe_file(inside, data), url)


def put_new(url: str, data: bytes) -> bool:
    """Put an object where there is none; False where there is one already. Raises as `put_file` does.

    It holds only where the store has conditional puts. An object of just these bytes counts as ours: a
    store's answer may be lost on the way, and then it is asked again.
    """
    fs, inside = connect(url)

    def put() -> bool:
        try:
            fs.pipe_file(inside, data, mode="create")
        except Exception as e:
            if not _is_taken(e):
                raise
            return _holds(fs, inside, data)
        return True

    return ask_to_write(put, url)


def _is_taken(fault: Exception) -> bool:
    """Whether a store says that there is an object already where a new one was to be put."""
    return isinstance(fault, FileExistsError) or read_status(fault) in _EXISTS


def _holds(fs: object, inside: str, data: bytes) -> bool:
    with suppress(FileNotFoundError):  # removed in this moment
        return fs.cat_file(inside) == data  # type: ignore[attr-defined]
    return False


def put_new_file(path: Path, url: str) -> bool:
    """Put a complete file where there is no object; False where there is one. Raises as `put_file` does.

    Where the store's answer is lost on the way, the object that is there may be ours.
    """
    fs, inside = connect(url)

    def put() -> bool:
        try:
            fs.put_file(str(path), inside, mode="create")
        except Exception as e:
            if not _is_taken(e):
                raise
            return False
        return True

    return ask_to_write(put, url)


def move_object(url: str, target: str) -> None:
    """Give an object another address; nothing happens where it has gone. Raises as `put_file` does."""
    fs, inside = connect(url)
    _, there = connect(target)

    def move() -> None:
        with suppress(FileNotFoundError):
            fs.cp_file(inside, there)
            fs.rm_file(inside)

    ask_to_write(move, url)


def remove_object(url: str) -> None:
    """Remove an object, if there is one; raises as `put_file` does."""
    fs, inside = connect(url)

    def remove() -> None:
        with suppress(FileNotFoundError):
            fs.rm_file(inside)

    ask_to_write(remove, url)


def ask_to_write(question: Callable[[], T], url: str) -> T:
    """The answer of a store to whoever writes there; raises UsageError or OutOfResources without one."""
    try:
        return ask_patiently(question, hide_secrets(url), never, WRITING)
    except Unreachable as e:
        raise OutOfResources(
            e.what, "the store, or the way to it, fails: look into it, and run again"
        ) from None
    except NoSuchObject:
        raise UsageError(f"{hide_secrets(url)}: there is no such bucket", "make it first") from None
    except BadVideo as e:
        raise UsageError(*e.args) from None
