"""What a store answers: which faults pass, so that the question is asked again, and which stay."""

import errno
import random
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from vidlatent.errors import BadVideo, OutOfResources

T = TypeVar("T")
WAITS_S = (0.5, 1, 2, 4, 8)  # before the second question, the third, and so on
_STAY = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ValueError, TypeError)
_STAY_BY_NAME = re.compile("Credential|Token|Profile|ParamValidation")  # errors of drivers we do not import
_PASSING_STATUS = (408, 425, 429)  # of those from 400 to 499
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
_MOST_CHARACTERS = 160
_POLL_S = 0.2


class TornTransfer(OSError):
    """Fewer or more bytes came than the store said that there are."""


class NoSuchObject(BadVideo):
    """There is nothing at an address."""


class Unreachable(BadVideo):
    """An object that could not be fetched now, however often its store was asked; the next run may."""


class Unwanted(BadVideo):
    """An object that is fetched no further, because the run is to end: nothing is known against it."""


@dataclass(frozen=True)
class Doing:
    """What is done to an object, in the words of errors: it cannot be `done`, or you may not `do` it."""

    do: str
    done: str


READING, WRITING = Doing("read", "fetched"), Doing("write", "written")


def ask_patiently(
    question: Callable[[], T], name: str, stopped: Callable[[], bool], doing: Doing = READING
) -> T:
    """The answer of a store, which is asked again after a while where a fault may pass.

    Raises BadVideo with the `name` of the object where it is not to be had, NoSuchObject where there is none,
    Unreachable where nothing helps, and Unwanted once `stopped` says so.
    """
    for wait_s in (*WAITS_S, None):
        try:
            return question()
        except Unwanted:
            raise
        except Exception as e:
            refuse_full_disk(e)
            what = describe_fault(e, doing)
            if may_not_pass(e):
                kind = NoSuchObject if is_missing(e) else BadVideo
                raise kind(f"{name}: {what}", _advise(e)) from None  # its words may hold an address
            if wait_s is None:
                tries = len(WAITS_S) + 1
                raise Unreachable(f"{name}: {what}, {tries} times", "the next run tries it again") from None
        _wait(wait_s * random.uniform(0.75, 1.25), stopped)  # so that not all machines come back at once
        if stopped():
            raise Unwanted(f"{name}: not {doing.done}, as the run was to end")
    raise AssertionError


def _wait(seconds: float, stopped: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and not stopped():
        time.sleep(min(left, _POLL_S))


def may_not_pass(fault: Exception) -> bool:
    """Whether asking again is of no use: there is no such object, or it is not for us."""
    status = read_status(fault)
    if status is not None:
        return 400 <= status < 500 and status not in _PASSING_STATUS
    return isinstance(fault, _STAY) or bool(_STAY_BY_NAME.search(type(fault).__name__))


def read_status(fault: Exception) -> int | None:
    """The number that a server answered with, where a driver says it."""
    found = (getattr(fault, name, None) for name in ("status", "code"))
    return next((int(n) for n in found if isinstance(n, int | str) and str(n).isdecimal()), None)


def is_missing(fault: Exception) -> bool:
    """Whether a store says that there is no such object."""
    return read_status(fault) == 404 or isinstance(fault, FileNotFoundError)


def describe_fault(fault: Exception, doing: Doing = READING) -> str:
    """What went wrong, in words that hold no address."""
    status = read_status(fault)
    if is_missing(fault):
        return "no such object"
    if status in (401, 403) or isinstance(fault, PermissionError):
        return f"the store does not let you {doing.do} it"
    if status is not None:
        return f"the store answered with {status}"
    words = take_addresses_out(str(fault)).strip().partition("\n")[0][:_MOST_CHARACTERS]
    kind = "" if isinstance(fault, TornTransfer) else type(fault).__name__
    return f"cannot be {doing.done} ({': '.join(filter(None, (kind, words)))})"


def take_addresses_out(text: str) -> str:
    """A text with a sign in place of each address: there may be a password or a signature in one."""
    return _ADDRESS.sub("…", text)


def refuse_full_disk(fault: Exception) -> None:
    """Raise OutOfResources where it is our own disk that takes no more."""
    if isinstance(fault, OSError) and fault.errno in _DISK_FULL:
        raise OutOfResources(
            f"{tempfile.gettempdir()}: disk full, so nothing can be fetched from a store",
            "free some space, or set TMPDIR to a folder on a larger disk",
        ) from None


def _advise(fault: Exception) -> str | None:
    if isinstance(fault, PermissionError) or _STAY_BY_NAME.search(type(fault).__name__):
        return "credentials are found by the driver itself: in its variables, files, or the machine's role"
    return None
