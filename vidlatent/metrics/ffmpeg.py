"""Metrics that are filters of ffmpeg: both clips go into one pipe, and the filter's log is read back.

A pair of frames is sent as one picture, the reference above the distorted frame, and the filter graph splits
it again. So the two clips cannot get out of step, nothing is encoded, and ffmpeg holds only a few frames.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
import weakref
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

import imageio_ffmpeg
import torch
from torch import Tensor

from vidlatent.errors import BadInput, UsageError

COLOUR = "scale=out_color_matrix=bt709:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_int,format="
LOG = "frames.log"
RGB = {torch.uint8: "rgb24", torch.uint16: "rgb48le"}
DEEP, SHALLOW = "yuv420p10le", "yuv420p"


@dataclass(frozen=True)
class Scorer:
    """An ffmpeg binary that computes metrics: its path, its version and its filters."""

    executable: str
    version: str
    filters: frozenset[str]


@lru_cache(maxsize=1)
def probe(executable: str) -> Scorer:
    """Ask an ffmpeg for its version and its filters; the answer is kept."""
    listing = _query(executable, "-filters").splitlines()
    names = frozenset(line.split()[1] for line in listing if "->" in line)
    return Scorer(executable, _query(executable, "-version").split()[2], names)


def find_scorer(needed: str) -> Scorer:
    """The ffmpeg in use; raises UsageError where it lacks the filter `needed`."""
    found = probe(imageio_ffmpeg.get_ffmpeg_exe())
    if needed not in found.filters:
        raise UsageError(
            f"{found.executable}: ffmpeg {found.version} has no filter {needed}",
            "install imageio-ffmpeg >= 0.8, or let IMAGEIO_FFMPEG_EXE name an ffmpeg that has it",
        )
    return found


class PairPipe:
    """One run of ffmpeg that scores pairs of frames of the size and depth of `first`, [T, H, W, 3].

    `graph` is the filter with its inputs, `[ref][dist]` or `[dist][ref]`, which come in the pixel format
    `yuv`; it writes LOG in its working folder. Where the object is dropped before `finish`, ffmpeg is killed
    and the folder removed.
    """

    def __init__(self, with_scorer: Scorer, graph: str, yuv: str, first: Tensor) -> None:
        self.size = tuple(first.shape[1:3])
        self._folder = Path(tempfile.mkdtemp(prefix="vidlatent-score-"))
        self._complaints = (self._folder / "stderr").open("wb+")
        self._process = subprocess.Popen(
            _command(with_scorer.executable, graph, yuv, first),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._complaints,
            cwd=self._folder,
        )
        self._abandon = weakref.finalize(self, _abandon, self._process, self._complaints, self._folder)

    def write(self, reference: Tensor, distorted: Tensor) -> None:
        """Send the next pairs, each [T, H, W, 3]; waits while ffmpeg is still busy with earlier ones."""
        if tuple(reference.shape[1:3]) != self.size:
            raise BadInput(
                f"frames changed size (height, width) from {self.size} to {tuple(reference.shape[1:3])}"
            )
        pairs = torch.cat([reference, distorted], dim=1).cpu().contiguous()
        try:
            self._process.stdin.write(pairs.numpy().data)
        except BrokenPipeError as e:
            raise BadInput(f"ffmpeg stopped scoring: {self._last_words()}") from e

    def finish(self) -> str:
        """Close the pipe, wait for ffmpeg to end, and return the text of its log."""
        self._process.stdin.close()
        if self._process.wait() != 0:
            raise BadInput(f"ffmpeg could not score: {self._last_words()}")
        log = (self._folder / LOG).read_text()
        self._abandon()
        return log

    def _last_words(self) -> str:
        self._process.wait()
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        return lines[0] if lines else f"exit status {self._process.returncode}"


def _command(executable: str, graph: str, yuv: str, first: Tensor) -> list[str]:
    _, height, width, _ = first.shape
    half = f"crop={width}:{height}:0:%d:exact=1,{COLOUR}{yuv}"
    split = f"[0:v]split=2[a][b];[a]{half % 0}[ref];[b]{half % height}[dist];{graph}:shortest=1:repeatlast=0"
    return [
        *(executable, "-hide_banner", "-loglevel", "error"),
        *(
            "-f",
            "rawvideo",
            "-pixel_format",
            RGB[first.dtype],
            "-video_size",
            f"{width}x{2 * height}",
            "-framerate",
            "25",
        ),
        *("-i", "pipe:0", "-filter_complex", split, "-f", "null", "-"),
    ]


def count_threads() -> int:
    """How many threads a filter may use."""
    return min(os.cpu_count() or 1, 16)


def _query(executable: str, what: str) -> str:
    try:
        return subprocess.run(
            [executable, "-hide_banner", what], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as e:
        raise UsageError(
            f"{executable}: this ffmpeg does not run: {e}", "set IMAGEIO_FFMPEG_EXE to one that does"
        ) from e


def _abandon(process: subprocess.Popen, complaints: IO[bytes], folder: Path) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()
    if process.stdin and not process.stdin.closed:
        # Bytes that ffmpeg has not read are still buffered, and closing tries to send them.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    complaints.close()
    shutil.rmtree(folder, ignore_errors=True)
