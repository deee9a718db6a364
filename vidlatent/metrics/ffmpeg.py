"""Metrics that live in ffmpeg: both clips go down one pipe, and the filter's own log comes back.

A pair of frames is one picture, the reference above the distorted one; the filter graph takes it apart
again. So no frame can slip against another, nothing is encoded, and ffmpeg holds but a few frames.
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
    """The ffmpeg binary that scores, and what it calls itself."""

    executable: str
    version: str
    filters: frozenset[str]


@lru_cache(maxsize=1)
def probe(executable: str) -> Scorer:
    """Ask an ffmpeg for its version and its filters."""
    listing = _ask(executable, "-filters").splitlines()
    names = frozenset(line.split()[1] for line in listing if "->" in line)
    return Scorer(executable, _ask(executable, "-version").split()[2], names)


def scorer(needed: str) -> Scorer:
    """The ffmpeg in use, which must have the filter `needed`."""
    found = probe(imageio_ffmpeg.get_ffmpeg_exe())
    if needed not in found.filters:
        raise UsageError(
            f"{found.executable}: ffmpeg {found.version} has no filter {needed}",
            "install imageio-ffmpeg >= 0.8, or let IMAGEIO_FFMPEG_EXE name an ffmpeg that has it",
        )
    return found


class PairPipe:
    """One run of ffmpeg that scores pairs of frames like `first` ([T, H, W, 3]) in size and depth.

    `graph` is the filter, fed `[ref][dist]` or `[dist][ref]` as it wants, in the format `yuv`; it writes
    LOG where it runs.
    Dropped half-way, it kills ffmpeg and removes its folder.
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
        """Hand over the next pairs, each [T, H, W, 3]; waits while ffmpeg is behind."""
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
        """Close the pipe, wait for ffmpeg, and give the text of its log."""
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


def threads() -> int:
    """How many threads a filter may use."""
    return min(os.cpu_count() or 1, 16)


def _ask(executable: str, what: str) -> str:
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
        # bytes that ffmpeg never read are still buffered; they have nowhere to go
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    complaints.close()
    shutil.rmtree(folder, ignore_errors=True)
