"""Python processes that need not load what they use: they are forks of one that has loaded it.

To load torch takes two seconds, and tests start hundreds of processes that read or compute. Where a test
changes what Python loads, by PYTHONPATH, its process is started as in real life.
"""

import fcntl
import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path

from helpers.warm_python import NUMBER
from vidlatent.jobs import segments
from vidlatent.jobs.reading import process
from vidlatent.jobs.reading.messages import PARENT

PROGRAM = Path(__file__).with_name("warm_python.py")
LOADED = (  # what the programs that tests start import, but none of those
    *("torch", "vidlatent.cli.app", "vidlatent.engine.load", "vidlatent.io.picture.resample"),
    *("vidlatent.jobs.cache.run", "vidlatent.jobs.decode", "vidlatent.jobs.encode"),
    *("vidlatent.jobs.measure.score", "vidlatent.jobs.reading.listing", "vidlatent.jobs.reading.survey"),
)
USUAL = os.environ.get("PYTHONPATH")
KILLED = NUMBER.pack(-9)
start_reader_alone, start_segment_worker_alone = process._start, segments._start_process
beginning = threading.Lock()
begun = ExitStack()  # whoever closes it ends the Python that is forked


def is_usual(environment: Mapping[str, str]) -> bool:
    """Whether a process with these variables loads what this one does."""
    return sys.platform == "linux" and environment.get("PYTHONPATH") == USUAL


def warm_python() -> tuple[socket.socket, int]:
    """Where to ask the Python that has loaded it, and its number."""
    with beginning:
        return _begin()


@cache
def _begin() -> tuple[socket.socket, int]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    python = subprocess.Popen(
        [sys.executable, "-P", PROGRAM, str(theirs.fileno()), *LOADED],
        stdin=subprocess.DEVNULL,
        pass_fds=(theirs.fileno(),),
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    theirs.close()
    begun.enter_context(python)
    begun.enter_context(ours)
    return ours, python.pid


class Process(subprocess.Popen):
    """A process that runs `python` with these words, for whom modules are loaded already.

    Streams, variables and folder are those of a Popen, whose parts that start a process and wait for it are
    exchanged here; of other options it knows none.
    """

    _told = -1  # where its end is told; none where it was started as in real life

    def __init__(self, words: list, **options) -> None:
        super().__init__([sys.executable, *map(str, words)], **options)

    def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest) -> None:
        env = dict(os.environ) if env is None else env
        if not is_usual(env):
            super()._execute_child(args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest)
            return
        pipes = stdin, _, _, stdout, _, stderr = rest[3:9]
        streams = [given if given != -1 else own for own, given in enumerate((stdin, stdout, stderr))]
        request = {"words": args[1:], "folder": str(cwd or os.getcwd()), "environment": env}
        door, _ = warm_python()
        self._told, told = os.pipe()
        socket.send_fds(door, [json.dumps(request).encode()], [*streams, told])
        os.close(told)
        (self.pid,) = NUMBER.unpack(os.read(self._told, NUMBER.size))
        self._child_created = True
        self._close_pipe_fds(*pipes)

    def _internal_poll(self, *rest, **more) -> int | None:
        if self._told < 0:
            return super()._internal_poll(*rest, **more)
        if self._waitpid_lock.acquire(blocking=False):  # or else another thread waits
            try:
                self._wait_for_end(0)
            finally:
                self._waitpid_lock.release()
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        if self._told < 0:
            return super()._wait(timeout)
        with self._waitpid_lock:
            self._wait_for_end(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def _wait_for_end(self, timeout: float | None) -> None:
        if self.returncode is None and select.select([self._told], [], [], timeout)[0]:
            (self.returncode,) = NUMBER.unpack(os.read(self._told, NUMBER.size) or KILLED)
            os.close(self._told)


def run(words: list, *, check: bool = False, **options) -> subprocess.CompletedProcess:
    """What `subprocess.run` does with `python` and these words."""
    given, timeout = options.pop("input", None), options.pop("timeout", None)
    if given is not None:
        options["stdin"] = subprocess.PIPE
    if options.pop("capture_output", False):
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Process(words, **options) as running:
        try:
            out, err = running.communicate(given, timeout)
        except BaseException:
            running.kill()
            raise
    done = subprocess.CompletedProcess(running.args, running.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def start_reader() -> subprocess.Popen:
    """Start a reading process, in the place of what `vidlatent.jobs.reading.process` does."""
    if not is_usual(os.environ):
        return start_reader_alone()
    _, parent = warm_python()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    reader = Process(
        ["-m", "vidlatent.jobs.reading.worker"], env={**os.environ, PARENT: str(parent)}, **pipes
    )
    with suppress(OSError):
        fcntl.fcntl(reader.stdout, fcntl.F_SETPIPE_SZ, process._PIPE_BYTES)
    return reader


def start_segment_worker() -> subprocess.Popen:
    """Start a process that makes segments, in the place of what `vidlatent.jobs.segments` does."""
    return Process(["-m", segments.WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
