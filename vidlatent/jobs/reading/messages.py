"""What a reading process is asked and what it answers, and how messages go through a pipe."""

import pickle
import struct
from dataclasses import dataclass
from typing import BinaryIO

from vidlatent.errors import VidlatentError
from vidlatent.io.read.source import ReadOptions, VideoInfo
from vidlatent.io.sources.disk import DiskSource
from vidlatent.io.sources.source import Source
from vidlatent.io.sources.stored import StoredSource
from vidlatent.jobs.reading.clip import Clip
from vidlatent.jobs.reading.survey import Look, Seen

PARENT = "VIDLATENT_PARENT"  # the variable that tells a reading process whose it is
LENGTHS = struct.Struct("<IQ")  # of the head, of the bytes that follow it


@dataclass(frozen=True)
class Read:
    """The question for the frames of a source."""

    source: Source
    options: ReadOptions


@dataclass(frozen=True)
class List:
    """The question for the clips that a table or a tar names; `captions` as for `list_clips`.

    The clips tell of `origin`, where `source` is a copy of it.
    """

    source: DiskSource | StoredSource
    captions: tuple[str, ...]
    origin: DiskSource | StoredSource


@dataclass(frozen=True)
class Listed:
    """Some of the answers to List. The last one is Closed, as for Read."""

    clips: tuple[Clip, ...]


@dataclass(frozen=True)
class Opened:
    """The first answer to Read: what the video is."""

    info: VideoInfo


@dataclass(frozen=True)
class Pixels:
    """One frame. Its pixels follow the message as raw bytes."""

    pts: int
    duration: int
    shape: tuple[int, int, int]
    dtype: str


@dataclass(frozen=True)
class Closed:
    """The last answer to Read or List: all was sent. `notices` are the video's."""

    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Alive:
    """A sign of life, sent before the other answers while the work takes long."""


@dataclass(frozen=True)
class Failure:
    """The last answer to any question that could not be answered: the error that ended the work."""

    error: VidlatentError


Question = Look | Read | List
Answer = Alive | Seen | Listed | Opened | Pixels | Closed | Failure
MORE_FOLLOWS = Listed | Opened | Pixels  # after these comes another answer to the same question


def send(file: BinaryIO, head: object, body: object = b"") -> None:
    """Write one message, and after it the bytes of `body`, any contiguous buffer."""
    packed, view = pickle.dumps(head), memoryview(body).cast("B")
    file.write(LENGTHS.pack(len(packed), len(view)) + packed)
    file.write(view)
    file.flush()


def receive(file: BinaryIO) -> object | None:
    """The next message; None at the end. The caller reads the bytes that follow it before the next call."""
    lengths = file.read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        return None
    packed = file.read(LENGTHS.unpack(lengths)[0])
    try:
        return pickle.loads(packed)
    except (pickle.UnpicklingError, EOFError):  # the sender died in the middle
        return None
