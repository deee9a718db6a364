"""The program of a reading process: whatever a codec does to it, the run that asked it goes on.

It takes questions on stdin and answers them on stdout, as messages.py says, and ends once stdin ends.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import BinaryIO

from vidlatent.errors import BadVideo, OutOfResources, VidlatentError
from vidlatent.io.read.source import open_video
from vidlatent.io.sources.source import Beat
from vidlatent.jobs.reading.listing import list_clips
from vidlatent.jobs.reading.messages import (
    PARENT,
    Alive,
    Answer,
    Closed,
    Failure,
    List,
    Listed,
    Opened,
    Pixels,
    Question,
    Read,
    receive,
    send,
)
from vidlatent.jobs.reading.survey import Look, Seen, look_at

ALIVE_EVERY_S = 1.0
_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG
CLIPS_AT_ONCE = 32  # each may have a caption of a megabyte


class Pulse:
    """Tells the parent every second that work which takes long still goes on."""

    def __init__(self, out: BinaryIO) -> None:
        self._out, self._said = out, time.monotonic()

    def __call__(self) -> None:
        """Send a sign of life, unless the last one was a moment ago."""
        if time.monotonic() - self._said > ALIVE_EVERY_S:
            send(self._out, Alive())
            self._said = time.monotonic()


def answer(ask: Question, beat: Beat) -> Iterator[tuple[Answer, object]]:
    """Every answer to a question, with the bytes that follow it. Any failure becomes an answer, too."""
    name = ask.source.name
    try:
        if isinstance(ask, List):
            yield from _list(ask, beat)
        elif isinstance(ask, Read):
            yield from _read_frames(ask)
        else:
            state = ask.source.state()
            yield replace(_look_or_fail(ask, beat), state=state), b""
    except VidlatentError as e:
        yield Failure(e), b""
    except OSError as e:
        yield Failure(BadVideo(f"{name}: cannot be read ({e.strerror or e})")), b""
    except MemoryError:
        yield Failure(OutOfResources(f"{name}: reading it takes more memory than there is")), b""
    except Exception as e:  # a bug met by one clip of a million must not end the run
        yield Failure(BadVideo(f"{name}: {type(e).__name__}: {e}")), b""


def _look_or_fail(ask: Look, beat: Beat) -> Seen:
    try:
        return look_at(ask, beat)
    except VidlatentError as e:  # no video, but its bytes are known
        if ask.source.state() is None:
            raise
        return Seen(ask.source.sha256(beat) if ask.hashed else "", error=e)


def _list(ask: List, beat: Beat) -> Iterator[tuple[Answer, object]]:
    clips = list_clips(ask.source, ask.captions, beat, ask.origin)
    while some := tuple(islice(clips, CLIPS_AT_ONCE)):
        yield Listed(some), b""
    yield Closed(), b""


def _read_frames(ask: Read) -> Iterator[tuple[Answer, object]]:
    with open_video(ask.source, ask.options) as video:
        yield Opened(video.info), b""
        for frame in video.frames():
            yield Pixels(frame.pts, frame.duration, frame.rgb.shape, frame.rgb.dtype.str), frame.rgb
        yield Closed(tuple(video.notices)), b""


def end_with_parent() -> None:
    """Ask Linux to end this process with its parent, even if a codec hangs and never looks at stdin again."""
    parent = int(os.environ.get(PARENT, os.getppid()))
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before it was asked for
            os._exit(0)


def main() -> None:
    """Answer until stdin ends. Signals are ignored: the parent acts on them, and finishes its clip first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    end_with_parent()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not end up among the answers
    pulse = Pulse(out)
    try:
        send(out, Alive())  # the process has started
        while (ask := receive(sys.stdin.buffer)) is not None:
            for head, body in answer(ask, pulse):  # type: ignore[arg-type]
                send(out, head, body)
    except BrokenPipeError:
        os._exit(0)  # the parent is gone; nobody wants the rest


if __name__ == "__main__":
    main()
