"""What is to be read, wherever it comes from: files stay where they are, pipes are made into one.

A pipe gives its bytes once, and readers must seek, read twice, and find the sound. So a film from a pipe is
put into a temporary file first. YUV4MPEG and raw frames are read as they come, however long they are.
"""

import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vidlatent.errors import BadVideo, OutOfResources, VidlatentError, say_instead
from vidlatent.file_state import State, read_state
from vidlatent.files import free_bytes, sha256_file
from vidlatent.io.read.ffmpeg import STDIN
from vidlatent.io.read.source import ReadOptions, VideoSource, open_video

Opener = Callable[[Path | str, ReadOptions], VideoSource]
MOST_BYTES = 64 << 30  # of a film from a pipe, and of the disk at most half of what is free
_SIGN = b"YUV4MPEG2"
_OWN_NAMES = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")  # of files that mean another one in other processes
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Intake:
    """A source that can be opened: a file or folder at `path`, or else a `stream` that gives frames once.

    `name` is what it is called in the file that is made of it. `notices` say what was done with a pipe.
    """

    path: Path | str
    name: str
    opener: Opener
    options: ReadOptions
    state: State = None
    stream: BinaryIO | None = None
    notices: tuple[str, ...] = ()

    def open(self) -> VideoSource:
        """Open it; what is no stream can be opened again and again."""
        if self.stream is not None:
            return open_video(self.path, self.options, self.stream)
        return self.opener(self.path, self.options)

    @property
    def rereadable(self) -> bool:
        """Whether it can be opened more than once."""
        return self.stream is None and self.state is not None

    def sha256(self) -> str | None:
        """sha256 of the bytes of a file; None for a folder or a stream."""
        return sha256_file(Path(self.path)) if self.stream is None and Path(self.path).is_file() else None

    def refuse_changed(self) -> None:
        """Raise BadVideo where the source is no longer what it was when it was taken in."""
        if self.stream is None and read_state(self.path) != self.state:
            raise BadVideo(
                f"{self.path}: changed while it was read", "encode it again once nothing writes it any more"
            )


@contextmanager
def take_in(source: Path | str, options: ReadOptions, opener: Opener) -> Iterator[Intake]:
    """Give what can be read in place of `source`, while the block runs; errors in it name the source."""
    if str(source) != STDIN and not _is_pipe(source):
        path = os.path.realpath(source) if str(source).startswith(_OWN_NAMES) else source
        yield Intake(path, Path(path).name, opener, options, read_state(path))
        return
    with ExitStack() as stack:
        stream = sys.stdin.buffer if str(source) == STDIN else stack.enter_context(open(source, "rb"))
        head = stream.read(len(_SIGN))
        rejoined = Rejoined(head, stream)
        if head == _SIGN or options.raw:
            yield Intake(source, STDIN, opener, options, stream=rejoined)
            return
        copy = stack.enter_context(tempfile.NamedTemporaryFile(prefix="vidlatent-", suffix=".pipe"))
        size = copy_whole(rejoined, copy, str(source))
        notices = (f"read from a pipe by way of a temporary file of {size / 1e6:.1f} MB",)
        try:
            path = Path(copy.name)
            yield Intake(path, STDIN, opener, options, read_state(path), notices=notices)
        except VidlatentError as e:
            raise say_instead(e, copy.name, str(source)) from e


class Rejoined:
    """A stream from which some bytes were read already: they come first."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head, self._rest = head, rest

    def read(self, size: int) -> bytes:
        """The next bytes, `size` at most; empty at the end."""
        if not self._head:
            return self._rest.read(size)
        data, self._head = self._head[:size], self._head[size:]
        return data


def copy_whole(stream: Rejoined, target: BinaryIO, name: str) -> int:
    """Copy a stream to its end, and return the bytes; raises OutOfResources where there are too many."""
    limit, size = min(MOST_BYTES, free_bytes(Path(tempfile.gettempdir())) // 2), 0
    while block := stream.read(_BLOCK_BYTES):
        size += len(block)
        if size > limit:
            raise OutOfResources(
                f"{name}: more than {limit / 1e9:.2f} GB came through the pipe, and no more is kept in "
                f"{tempfile.gettempdir()}",
                "write it into a file and encode that, or set TMPDIR to a folder on a larger disk",
            )
        target.write(block)
    target.flush()
    return size


def _is_pipe(source: Path | str) -> bool:
    """Whether this is the name of a pipe, as `<(command)` and /dev/stdin give one."""
    try:
        return stat.S_ISFIFO(os.stat(source).st_mode)
    except (OSError, ValueError):
        return False
