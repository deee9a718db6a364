"""Object stores through fsspec: what is there, and objects fetched whole.

Credentials are the drivers' own affair: they take them from where their tools do. None is read here, and no
address is shown as it was given.
"""

import importlib
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vidlatent.errors import BadVideo, UsageError
from vidlatent.file_state import ObjectState
from vidlatent.io.sources.patience import (
    NoSuchObject,
    TornTransfer,
    Unwanted,
    ask_patiently,
    take_addresses_out,
)
from vidlatent.io.sources.urls import hide_secrets, read_scheme

_FLAT = ("s3", "s3a", "gs", "gcs")  # which list all levels at once
_DRIVERS = {  # kinds of stores, and what brings the driver of each
    **dict.fromkeys(("s3", "s3a"), "vidlatent[s3]"),
    **dict.fromkeys(("gs", "gcs"), "vidlatent[gcs]"),
    **dict.fromkeys(("http", "https"), "vidlatent[http]"),
    "memory": "fsspec",
}
_TAGS = ("ETag", "etag", "generation", "Content-MD5", "LastModified", "Last-Modified", "mtime", "created")
_SILENT_S = 60  # after which a web server that says nothing is given up


def never() -> bool:
    """Nobody asks to stop."""
    return False


@dataclass(frozen=True, slots=True)
class Listed:
    """An object that a store lists: its address, and the parts of its name below what was listed."""

    url: str
    parts: tuple[str, ...]


def connect(url: str) -> tuple[Any, str]:
    """fsspec's file system for an address, and the address within it; raises UsageError without a driver."""
    import fsspec

    scheme = read_scheme(url)
    if scheme not in _DRIVERS:
        raise UsageError(f"{hide_secrets(url)}: {scheme}:// is no known kind of store", "s3, gs or https")
    try:
        return fsspec.core.url_to_fs(url, use_listings_cache=False, **_choose_settings(scheme))
    except ImportError as e:
        what = f"{hide_secrets(url)}: the driver for {scheme}:// is not installed"
        raise UsageError(what, f"pip install '{_DRIVERS[scheme]}'") from e


def _choose_settings(scheme: str) -> dict[str, Any]:
    """What a driver is told: a web server may take long over a film, as long as bytes come."""
    if scheme not in ("http", "https"):
        return {}
    logging.getLogger("fsspec.http").addFilter(_hide_addresses)
    silent = {"sock_connect": _SILENT_S, "sock_read": _SILENT_S}
    timeout = importlib.import_module("aiohttp").ClientTimeout(total=None, **silent)
    return {"client_kwargs": {"timeout": timeout}}


def _hide_addresses(record: logging.LogRecord) -> bool:
    """Take the addresses out of what the driver logs of each request, and the errors that hold them."""
    record.msg, record.args, record.exc_info = take_addresses_out(record.getMessage()), (), None
    return True


def read_object_state(url: str, stopped: Callable[[], bool] = never) -> ObjectState:
    """The state of an object; raises BadVideo where there is none, or nobody may look."""
    fs, path = connect(url)
    facts = ask_patiently(lambda: fs.info(path), hide_secrets(url), stopped)
    return _make_state(facts, hide_secrets(url))


def find_object(url: str) -> ObjectState | None:
    """The state of an object; None where there is none."""
    with suppress(NoSuchObject):
        return read_object_state(url)
    return None


def read_modified(url: str) -> float | None:
    """When an object was put, by the clock of its store, as unix time; None where there is none."""
    fs, path = connect(url)

    with suppress(NoSuchObject):
        return ask_patiently(lambda: fs.modified(path).timestamp(), hide_secrets(url), never)
    return None


def _make_state(facts: dict, name: str) -> ObjectState:
    if facts.get("type") == "directory":
        raise BadVideo(f"{name}: a folder, and no object")
    if not isinstance(facts.get("size"), int):
        what = f"{name}: its server does not say how many bytes it has"
        raise BadVideo(what, "fetch it yourself, and name the file")
    tag = next((str(facts[name]) for name in _TAGS if facts.get(name)), "")
    return ObjectState(facts["size"], tag)


def fetch(url: str, path: Path, state: ObjectState, stopped: Callable[[], bool] = never) -> None:
    """Copy an object of this state whole to `path`; a transfer that ends early is begun again."""
    fs, inside = connect(url)
    watch = _make_watch(stopped, hide_secrets(url))

    def copy() -> None:
        fs.get_file(inside, str(path), callback=watch)
        if (found := path.stat().st_size) != state.size:
            raise TornTransfer(f"{found:,} of {state.size:,} bytes came")

    ask_patiently(copy, hide_secrets(url), stopped)


def _make_watch(stopped: Callable[[], bool], name: str) -> Any:
    """What fsspec tells of every piece that came: there a transfer can be broken off."""
    from fsspec.callbacks import Callback

    class Watch(Callback):
        def relative_update(self, inc: int = 1) -> None:
            if stopped():
                raise Unwanted(f"{name}: not fetched, as the run was to end")

    return Watch()


def read_object(url: str, most: int, stopped: Callable[[], bool] = never) -> bytes:
    """The first `most` bytes of a small object."""
    fs, path = connect(url)
    return ask_patiently(lambda: fs.cat_file(path, end=most), hide_secrets(url), stopped)


def open_object(url: str) -> Any:
    """An object as a file that can seek: what is read of it is fetched, piece by piece."""
    fs, path = connect(url)
    return ask_patiently(lambda: fs.open(path, "rb"), hide_secrets(url), never)


def find_kind(url: str, stopped: Callable[[], bool] = never) -> str | None:
    """What lies at an address: "file" or "directory"; None where there is nothing."""
    fs, path = connect(url)

    def look() -> str | None:
        with suppress(FileNotFoundError):
            return fs.info(path)["type"]
        return None

    return ask_patiently(look, hide_secrets(url), stopped)


def list_folder(url: str) -> dict[str, ObjectState | None]:
    """What lies directly in a folder, by name: the state of each object, None of folders; sorted by name."""
    fs, path = connect(url)

    def look() -> list[dict]:
        with suppress(FileNotFoundError):
            return fs.ls(path, detail=True)
        return []

    name = hide_secrets(url)
    found = {facts["name"].rstrip("/"): facts for facts in ask_patiently(look, name, never)}
    found.pop(path.rstrip("/"), None)  # an object that stands for the folder itself
    return {
        inside.rpartition("/")[2]: None if facts["type"] == "directory" else _make_state(facts, name)
        for inside, facts in sorted(found.items())
    }


def list_objects(url: str, depth: int | None, stopped: Callable[[], bool] = never) -> list[Listed]:
    """Every object below a folder, down to so many levels, sorted by name.

    A part of it that cannot be listed is an error: fsspec's own walk would leave it out in silence.
    """
    fs, path = connect(url)
    base, name = path.rstrip("/"), hide_secrets(url)
    if depth is None and read_scheme(url) in _FLAT:
        found = ask_patiently(lambda: fs.find(base), name, stopped)
    else:
        found = _walk(fs, base, depth, lambda question: ask_patiently(question, name, stopped))
    below = sorted(each.removeprefix(base).lstrip("/") for each in found if not each.endswith("/"))
    return [Listed(f"{url.rstrip('/')}/{each}", tuple(each.split("/"))) for each in below if each]


def _walk(fs: Any, base: str, depth: int | None, ask: Callable) -> Iterator[str]:
    waiting = [(base, 1)]
    while waiting:
        folder, level = waiting.pop()
        for facts in ask(partial(fs.ls, folder, detail=True)):
            name = facts["name"].rstrip("/")
            if name == folder:  # an object that stands for the folder itself
                continue
            if facts["type"] != "directory":
                yield facts["name"]
            elif depth is None or level < depth:
                waiting.append((name, level + 1))
