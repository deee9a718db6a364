"""What a reading process is asked, what it answers, and how that goes through a pipe."""

import pickle
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vidlatent.errors import VidlatentError
from vidlatent.io.read.source import ReadOptions, VideoInfo
from vidlatent.jobs.reading.survey import Member, Seen

LENGTHS = struct.Struct("<IQ")  # of the head, of the bytes that follow it


@dataclass(frozen=True)
class Read:
    """A source to read frames of."""

    path: Path
    member: Member
    options: ReadOptions


@dataclass(frozen=True)
class Opened:
    """The first answer to Read: what the video is."""

    info: VideoInfo


@dataclass(frozen=True)
class Pixels:
    """One frame; its pixels follow as raw bytes."""

    pts: int
    duration: int
    shape: tuple[int, int, int]
    dtype: str


@dataclass(frozen=True)
class Closed:
    """The last answer to Read: all frames were sent."""

    notices: tuple[str, ...]


@dataclass(frozen=True)
class Alive:
    """An answer to anything, ahead of the others: it takes long, and goes on."""


@dataclass(frozen=True)
class Failure:
    """The last answer to anything: the error that ended the work."""

    error: VidlatentError


Answer = Alive | Seen | Opened | Pixels | Closed | Failure


def send(file: BinaryIO, head: object, body: object = b"") -> None:
    """Write one message; `body` is any contiguous buffer."""
    packed, view = pickle.dumps(head), memoryview(body).cast("B")
    file.write(LENGTHS.pack(len(packed), len(view)) + packed)
    file.write(view)
    file.flush()


def receive(file: BinaryIO) -> object | None:
    """The head of the next message; None at the end. Its body must have been read before the next one."""
    lengths = file.read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        return None
    packed = file.read(LENGTHS.unpack(lengths)[0])
    try:
        return pickle.loads(packed)
    except (pickle.UnpicklingError, EOFError):  # the sender died in the middle
        return None
