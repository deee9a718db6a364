"""The program of a Python that has loaded modules, and forks itself for each program that it is asked to run.

See warm.py, which asks it. It has one thread, so its forks begin in order.
"""

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import struct
import sys
import threading
import traceback
from contextlib import suppress
from importlib import import_module
from types import ModuleType

NUMBER = struct.Struct("<q")  # of a process, or its exit code
LARGEST_REQUEST = 1 << 20
FILES = 4  # of a request: stdin, stdout and stderr of the program, and where to tell how it ended


def serve(door: socket.socket) -> dict:
    """Fork for each request until nobody can ask any more; returns in each fork, with what it is to run."""
    told_of: dict[int, int] = {}
    woken, alarm = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(alarm)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # it wakes
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()  # what the collector does not look through is not copied into a fork
    while True:
        asked = door in select.select([door, woken], [], [])[0]
        tell_of_ended(told_of, woken)
        if not asked:
            continue
        request, files, *_ = socket.recv_fds(door, LARGEST_REQUEST, FILES)
        if not request:
            sys.exit()
        *streams, told = files
        if (child := os.fork()) == 0:
            for file in (door.detach(), woken, told, *told_of.values()):
                os.close(file)
            begin(alarm, *streams)
            return json.loads(request)
        for file in streams:
            os.close(file)
        os.write(told, NUMBER.pack(child))
        told_of[child] = told


def tell_of_ended(told_of: dict[int, int], woken: int) -> None:
    """Tell how forks ended that have ended by now."""
    try:
        os.read(woken, 1 << 10)
    except BlockingIOError:
        return
    while told_of:
        child, status = os.waitpid(-1, os.WNOHANG)
        if not child:
            return
        told = told_of.pop(child)
        with suppress(BrokenPipeError):  # nobody may want to know
            os.write(told, NUMBER.pack(os.waitstatus_to_exitcode(status)))
        os.close(told)


def begin(alarm: int, *streams: int) -> None:
    """Be as a process that has just been started, with these three streams."""
    signal.set_wakeup_fd(-1)
    os.close(alarm)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, file in enumerate(streams):
        os.dup2(file, number)
    for file in {*streams} - {0, 1, 2}:
        os.close(file)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115 all three stay open


def run(request: dict) -> None:
    """Run what a command line after `python` says: `-c CODE …`, `-m MODULE …`, or a script."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    first, *words = (word for word in request["words"] if word != "-P")
    if first == "-m":
        sys.argv = words
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        code, sys.argv = words[0], ["-c", *words[1:]]
        sys.modules["__main__"] = main = ModuleType("__main__")
        exec(compile(code, "<string>", "exec"), vars(main))
    else:
        sys.argv = [first, *words]
        sys.path.insert(0, os.path.dirname(first))
        runpy.run_path(first, run_name="__main__")


def end_after(request: dict) -> None:
    """Run it and end as Python does, but do not take everything apart before: that takes half a second."""
    code: object = 0
    try:
        run(request)
    except SystemExit as e:
        code = e.code
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        code = 1
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    for name in sys.argv[2:]:
        import_module(name)
    end_after(serve(socket.socket(fileno=int(sys.argv[1]))))
