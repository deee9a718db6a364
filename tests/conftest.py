"""What every test may use: a small clip's worth of pixels, and the larger sets where they lie beside."""

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import cases, warm
from helpers.paths import SAMPLE, SHARED

from vidlatent.jobs import segments
from vidlatent.jobs.reading import process

# They begin first: processes that share the tests end at about the same time where the last ones are short.
LONGEST = ("tests/test_train_pocket.py", "tests/fault/")


def pytest_addoption(parser):
    parser.addoption("--run-slow", action="store_true", help="also run tests marked slow")
    parser.addoption("--device", default="cpu", help="where the authors' cases are computed (cpu)")


def pytest_configure(config):
    cases.DEVICE = config.getoption("--device")


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))  # a stable sort
    if config.getoption("--run-slow"):
        return
    skip = pytest.mark.skip(reason="slow: runs with --run-slow")
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(skip)


@pytest.fixture(autouse=True, scope="session")
def as_many_threads_as_cores():
    beside = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))  # processes that run tests now
    threads = max(1, 2 // beside)
    torch.set_num_threads(threads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", str(threads))  # of processes that tests start
        yield


@pytest.fixture(autouse=True, scope="session")
def processes_that_begin_at_once():
    """Most tests of caches start several processes that read, and would wait for the imports of each."""
    with warm.begun, pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "_start", warm.start_reader)
        patch.setattr(segments, "_start_process", warm.start_segment_worker)
        yield


@pytest.fixture
def processes_as_in_real_life(monkeypatch):
    """For tests that are about the starting and the ending of these processes."""
    monkeypatch.setattr(process, "_start", warm.start_reader_alone)
    monkeypatch.setattr(segments, "_start_process", warm.start_segment_worker_alone)


@pytest.fixture(scope="session")
def sample() -> Path:
    return SAMPLE


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("the larger sets do not lie beside this checkout (../shared)")
    return SHARED


@pytest.fixture
def nothing_stays_open():
    """Afterwards as many files are open as before."""
    opened = Path("/proc/self/fd")
    if not opened.exists():
        pytest.skip("this system does not say what is open")
    before = len(os.listdir(opened))
    yield
    assert len(os.listdir(opened)) == before


@pytest.fixture
def moving_clip():
    """Builds frames [T, H, W, 3] uint8 of a smooth pattern that moves."""

    def build(frames: int, height: int = 32, width: int = 32) -> np.ndarray:
        t, y, x = np.meshgrid(np.arange(frames), np.arange(height), np.arange(width), indexing="ij")
        waves = [np.sin((x + 2 * t) / 5), np.cos((y - t) / 7), np.sin((x + y + t) / 9)]
        return np.round(127.5 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)

    return build


@contextmanager
def no_larger_files(limit_bytes: int) -> Iterator[None]:
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.fixture
def file_size_limit():
    """No file may grow past the limit: the same refusal in mid-write as a full disk, without filling one."""
    return no_larger_files
