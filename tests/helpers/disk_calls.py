"""A process whose calls to the disk are counted, noted, and made to fail: see tests/fault/disk_calls.c.

The library stands between the process and its disk because it was preloaded. Commands then run in forks of
that process, so that each begins alike and none pays for loading torch.
"""

import ctypes
import os
import shutil
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "fault/disk_calls.c"
KINDS = ("", "open", "write", "fsync", "rename", "mkdir", "unlink", "truncate", "close")
HEAD = struct.Struct("<7q")
WRITING = os.O_WRONLY | os.O_RDWR


def can_preload() -> bool:
    """Whether a library can be made and preloaded here: on Linux, with a C compiler."""
    return sys.platform == "linux" and shutil.which("cc") is not None


def run_preloaded(
    script: Path, folder: Path, *words: str, capture: bool = True
) -> subprocess.CompletedProcess:
    """Run a Python script in a process whose disk calls go through the library, made in `folder`."""
    library = folder / "disk_calls.so"
    command = ["cc", "-shared", "-fPIC", "-O2", "-o", library, SOURCE, "-lpthread"]
    subprocess.run(command, check=True, capture_output=True)
    tests = str(SOURCE.parent.parent)
    paths = os.pathsep.join(filter(None, (tests, str(Path(tests).parent), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"LD_PRELOAD": str(library), "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), *words]
    return subprocess.run(command, env=environment, capture_output=capture, text=True)


@dataclass(frozen=True)
class Call:
    """One call: what it was, what it gave (below zero: it failed), about which open file, paths and bytes."""

    kind: str
    result: int
    file: int
    at: int  # the offset of a write, the length of a truncation, the flags of an open
    path: str
    other: str
    data: bytes

    @property
    def reads(self) -> bool:
        """Whether it only opens something to read it."""
        return self.kind == "open" and not self.at & (WRITING | os.O_CREAT)


def read_log(path: Path) -> Iterator[Call]:
    """Every call that was noted, in order."""
    with path.open("rb") as file:
        while head := file.read(HEAD.size):
            kind, result, descriptor, at, *lengths = HEAD.unpack(head)
            path_, other, data = (file.read(length) for length in lengths)
            yield Call(KINDS[kind], result, descriptor, at, os.fsdecode(path_), os.fsdecode(other), data)


@dataclass(frozen=True)
class Fault:
    """Call number `call` fails with `code`: after `half` of a write was done, or with all later ones."""

    call: int
    code: int
    half: bool = False
    for_ever: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a command came to: its exit code, what it said, and every call it made below the folder."""

    code: int
    said: str
    calls: list[Call]


def run_watched(work: Callable[[], int], folder: Path, notes: Path, fault: Fault | None = None) -> Outcome:
    """Do `work` in a fork of this process, its calls below `folder` counted; a fault lets one of them fail.

    What it says and its log are kept in the folder `notes`.
    """
    said, log = notes / "said.txt", notes / "calls.log"
    child = os.fork()
    if child == 0:
        _do(work, folder, said, log, fault)
    _, status = os.waitpid(child, 0)
    return Outcome(os.waitstatus_to_exitcode(status), said.read_text(errors="replace"), list(read_log(log)))


def _do(work: Callable[[], int], folder: Path, said: Path, log: Path, fault: Fault | None) -> None:
    library = ctypes.CDLL(None)
    out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    noted = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(out, stream)
    code = 99
    try:
        library.watch(os.fsencode(folder), noted)
        if fault is not None:
            library.fail(ctypes.c_long(fault.call), fault.code, int(fault.half), int(fault.for_ever))
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        library.look_away()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
