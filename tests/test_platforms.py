"""What only Linux or POSIX has is wanted nowhere: without it everything imports, and clips are encoded."""

import os
import subprocess
import sys
from pathlib import Path

from helpers.paths import ROOT, SAMPLE

PROGRAM = """
import importlib, os, pkgutil, signal, sys
from pathlib import Path

for name in ("fcntl", "grp", "pwd", "resource", "termios", "tty"):
    sys.modules[name] = None
for owner, names in (
    (os, ("O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "sched_getaffinity", "statvfs", "fork", "mkfifo")),
    (signal, ("SIGKILL", "SIGHUP", "SIGUSR1", "SIGXFSZ")),
):
    for name in names:
        delattr(owner, name)
here, seen = Path.exists, lambda path: not str(path).startswith("/proc/") and here(path)
Path.exists = seen

import vidlatent
for module in pkgutil.walk_packages(vidlatent.__path__, "vidlatent."):
    if not module.name.endswith(("__main__", "models.kernels")):  # that one needs triton
        importlib.import_module(module.name)
sample, folder = sys.argv[1:]
model = vidlatent.load_model("toy", device="cpu")
read = vidlatent.ReadOptions(frames=5, size=(64, 48))
vidlatent.encode(sample, f"{folder}/a.latent", model, vidlatent.EncodeOptions(read, max_memory="8G"))
print(vidlatent.decode(f"{folder}/a.latent", f"{folder}/a.mkv", model).frames)
"""


def test_clips_are_encoded_without_what_only_one_system_has(tmp_path: Path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM, str(SAMPLE), str(tmp_path)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    assert found.stdout == "5\n"
