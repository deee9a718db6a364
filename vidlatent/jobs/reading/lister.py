"""The clips that tables and tars name, listed by a process of its own, which may hang or die."""

import threading
from collections.abc import Callable, Generator, Iterator
from typing import Self

from vidlatent.errors import BadInput, UsageError, VidlatentError
from vidlatent.io.sources.disk import DiskSource
from vidlatent.io.sources.stored import StoredSource
from vidlatent.jobs.reading.clip import Clip
from vidlatent.jobs.reading.listing import make_bad_clip
from vidlatent.jobs.reading.messages import Closed, Failure, List, Listed
from vidlatent.jobs.reading.process import STALL_TIMEOUT, Watchdog, Worker
from vidlatent.jobs.reading.remote_video import FrameQueue, never
from vidlatent.jobs.reading.scratch import Scratch

_AHEAD = 4  # messages that may wait


class Lister:
    """Lists tables and tars. A context manager, which ends its process.

    A list that makes no progress for `stall_timeout` seconds is given up; 0 waits for ever. Once `stopped`
    says so, listing ends within a moment, whatever the process does.
    """

    def __init__(
        self,
        stall_timeout: float = STALL_TIMEOUT,
        stopped: Callable[[], bool] = never,
        scratch: Scratch | None = None,
    ) -> None:
        self._own = Scratch(stopped=stopped) if scratch is None else None
        self._worker = Worker(scratch or self._own)
        self._stall_timeout, self.stopped = stall_timeout, stopped
        self._watchdog: Watchdog | None = None

    def list(self, source: DiskSource | StoredSource, captions: tuple[str, ...]) -> Iterator[Clip]:
        """The clips of a table or a tar; what cannot be listed to its end has a last one that says so."""
        if self._stall_timeout and self._watchdog is None:
            self._watchdog = Watchdog([self._worker], self._stall_timeout)
        answers = FrameQueue(_AHEAD)
        question = List(source, captions, source)
        thread = threading.Thread(target=self._fill, args=(question, answers), daemon=True)
        thread.start()
        ended = False
        try:
            ended = yield from self._take(source, answers)
        finally:
            answers.stop()
            if not ended:  # it would go on with clips that nobody wants
                self._worker.kill()
            thread.join()

    def _fill(self, question: List, answers: FrameQueue) -> None:
        try:
            for head, _ in self._worker.ask(question):
                if not answers.put(head, 1):
                    return
        except BaseException as e:  # raised where the clips are used
            answers.put(e, 0)

    def _take(self, source: DiskSource | StoredSource, answers: FrameQueue) -> Generator[Clip, None, bool]:
        """The clips, and whether the list came to an end."""
        while isinstance(answer := answers.get(self.stopped), Listed):
            yield from answer.clips
        if isinstance(answer, Failure):
            answer = answer.error
        if isinstance(answer, UsageError) or not isinstance(answer, VidlatentError | Closed | None):
            raise answer
        if isinstance(answer, VidlatentError):
            yield make_bad_clip(source, BadInput(answer.args[0], "clips before that place are there"))
        return answer is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._watchdog is not None:
            self._watchdog.stop()
        self._worker.kill()
        if self._own is not None:
            self._own.close()
