"""A process of its own that reads videos: whatever a codec does to it, the run goes on.

Asked on stdin, answers on stdout; see messages.py. It ends when nobody asks or listens any more.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from vidlatent.errors import BadVideo, OutOfResources, VidlatentError
from vidlatent.io.read.source import open_video
from vidlatent.jobs.reading.messages import (
    Alive,
    Answer,
    Closed,
    Failure,
    Opened,
    Pixels,
    Read,
    receive,
    send,
)
from vidlatent.jobs.reading.survey import Beat, Look, Seen, hashed, look, on_disk, state_of

ALIVE_EVERY_S = 1.0


class Pulse:
    """Tells the parent that something long goes on, now and then."""

    def __init__(self, out: BinaryIO) -> None:
        self._out, self._said = out, time.monotonic()

    def __call__(self) -> None:
        """It goes on."""
        if time.monotonic() - self._said > ALIVE_EVERY_S:
            send(self._out, Alive())
            self._said = time.monotonic()


def answers(ask: Look | Read, beat: Beat) -> Iterator[tuple[Answer, object]]:
    """Every answer to a question, and the bytes that go with it; any failure is an answer too."""
    name, here = str(ask.path), ask.path
    try:
        state = state_of(ask.path)
        with on_disk(ask.path, ask.member, beat) as here:
            if isinstance(ask, Read):
                yield from _frames(here, ask)
            else:
                yield replace(_looked(here, ask, beat), state=state), b""
    except VidlatentError as e:
        yield Failure(_naming(e, here, name)), b""
    except OSError as e:
        yield Failure(BadVideo(f"{name}: cannot be read ({e.strerror or e})")), b""
    except MemoryError:
        yield Failure(OutOfResources(f"{name}: reading it takes more memory than there is")), b""
    except Exception as e:  # a bug met by one clip of a million must not end the run
        yield Failure(BadVideo(f"{name}: {type(e).__name__}: {e}")), b""


def _naming(error: VidlatentError, copy: Path, name: str) -> VidlatentError:
    """The error with the source's name where it names the temporary copy that was read."""
    return type(error)(*(words and words.replace(str(copy), name) for words in error.args))


def _looked(path: Path, ask: Look, beat: Beat) -> Seen:
    try:
        return look(path, ask, beat)
    except VidlatentError as e:  # no video, but its bytes are known
        if not path.exists():
            raise
        return Seen(hashed(path, beat) if ask.hashed else "", error=_naming(e, path, str(ask.path)))


def _frames(path: Path, ask: Read) -> Iterator[tuple[Answer, object]]:
    with open_video(path, ask.options) as video:
        yield Opened(video.info), b""
        for frame in video.frames():
            yield Pixels(frame.pts, frame.duration, frame.rgb.shape, frame.rgb.dtype.str), frame.rgb
        yield Closed(tuple(video.notices)), b""


def main() -> None:
    """Answer until stdin ends. Ctrl-C and SIGTERM are the parent's to act on: it finishes its clip."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not end up among the answers
    pulse = Pulse(out)
    try:
        send(out, Alive())  # begun
        while (ask := receive(sys.stdin.buffer)) is not None:
            for head, body in answers(ask, pulse):  # type: ignore[arg-type]
                send(out, head, body)
    except BrokenPipeError:
        os._exit(0)  # the parent is gone; nobody wants the rest


if __name__ == "__main__":
    main()
