"""Reading processes that are forks of this one: they start at once, so that thousands of runs are short."""

import os
import signal
import threading
import time
from typing import BinaryIO

from vidlatent.jobs.reading import process, worker
from vidlatent.jobs.reading.messages import PARENT


class ForkedReader:
    """What `process.Worker` uses of a subprocess.Popen."""

    def __init__(self) -> None:
        theirs_in, ours_in = os.pipe()
        ours_out, theirs_out = os.pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(ours_in), os.close(ours_out)
            _serve(theirs_in, theirs_out, parent)
        os.close(theirs_in), os.close(theirs_out)
        self.stdin: BinaryIO = os.fdopen(ours_in, "wb")
        self.stdout: BinaryIO = os.fdopen(ours_out, "rb")
        self._code: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """The exit code; None while it runs. Threads may ask at the same time, and only one is told."""
        with self._lock:
            if self._code is None and (ended := os.waitpid(self.pid, os.WNOHANG))[0]:
                self._code = os.waitstatus_to_exitcode(ended[1])
            return self._code

    def wait(self) -> int:
        """The exit code, once it has ended."""
        while (code := self.poll()) is None:
            time.sleep(0.005)
        return code

    def kill(self) -> None:
        """End it."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def _serve(stdin: int, stdout: int, parent: int) -> None:
    import ctypes
    import sys

    ctypes.CDLL(None).look_away()  # what it reads and says is none of the command's calls
    os.environ[PARENT] = str(parent)
    os.dup2(stdin, 0), os.dup2(stdout, 1)
    sys.stdin = os.fdopen(0, "r")
    try:
        worker.main()
    finally:
        os._exit(0)


def fork_readers() -> None:
    """From now on this process reads videos in forks of itself."""
    process._start = ForkedReader
