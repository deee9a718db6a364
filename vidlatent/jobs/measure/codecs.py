"""Classical codecs, to compare with: a clip goes through an encoder and decoder of ffmpeg, at a wanted rate.

The rate is met by searching the constant quality (CRF) that gives it. That is how these codecs are compared
in the field, and on short clips their average-bitrate modes miss the rate by half.
"""

import math
import shlex
import subprocess
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

import imageio_ffmpeg
import numpy as np

from vidlatent.errors import BadInput
from vidlatent.io.containers import open_video_file
from vidlatent.jobs.measure.results import Coding

FRAME_RATE = 25  # of the coded stream; rates here are per pixel, so it only scales both sides alike
_FORMATS = {  # of frames, of 4:2:0, of planar RGB
    np.dtype(np.uint8): ("rgb24", "yuv420p", "gbrp"),
    np.dtype(np.uint16): ("rgb48le", "yuv420p10le", "gbrp16le"),
}


@dataclass(frozen=True)
class Codec:
    """An encoder, and how it is run.

    `crf` is the range of its quality; a lossless codec has none, and keeps RGB.
    """

    name: str
    options: tuple[str, ...]
    crf: tuple[float, float] | None = None
    step: float = 1e-3  # least change of CRF that it understands

    @property
    def lossless(self) -> bool:
        """Whether it gives back exactly what it was given."""
        return self.crf is None

    def colours(self, dtype: np.dtype, encode: bool) -> tuple[str, ...]:
        """Filter and pixel format from RGB to what is coded, or back: BT.709 4:2:0 unless lossless."""
        rgb, yuv, planar = _FORMATS[dtype]
        if self.lossless:
            return ("-pix_fmt", planar if encode else rgb)
        side = "out" if encode else "in"
        matrix = f"scale={side}_color_matrix=bt709:{side}_range=tv:flags=bicubic+accurate_rnd+full_chroma_int"
        return ("-vf", matrix, "-pix_fmt", yuv if encode else rgb)


CODECS: Mapping[str, Codec] = {
    "x264": Codec("x264", ("-c:v", "libx264", "-preset", "medium"), (1, 51)),
    "x265": Codec(
        "x265", ("-c:v", "libx265", "-preset", "medium", "-x265-params", "log-level=error"), (0, 51)
    ),
    "svtav1": Codec("svtav1", ("-c:v", "libsvtav1", "-preset", "8"), (1, 63), step=1),
    "ffv1": Codec("ffv1", ("-c:v", "ffv1", "-level", "3")),
}
FramesAnew = Callable[[], Generator[np.ndarray]]  # starts the frames [H, W, 3] of a clip again
TRIES = 7
NEAR = 0.03  # of the wanted rate: then the search ends
MISSED = 0.10  # of the wanted rate: a stream that is further from it says so
CRF_PER_DOUBLING = 6.0  # of the rate, roughly, for a first step


@dataclass(frozen=True)
class Coded:
    """A coded clip on disk, for as long as its folder lasts.

    Encoding overlaps with reading the source. So `encode_s`, the time that ffmpeg kept us waiting, is a
    lower bound.
    """

    path: Path
    codec: Codec
    crf: float | None
    command: tuple[str, ...]  # the arguments of ffmpeg that made it
    bits: int
    frames: int
    encode_s: float
    shape: tuple[int, int]  # height, width of the source
    dtype: np.dtype

    @property
    def bits_per_pixel(self) -> float:
        """Bits of the stream over the pixels of the source."""
        return self.bits / (self.frames * self.shape[0] * self.shape[1])

    def describe(self, wanted: float | None) -> Coding:
        """The settings that made the stream, and the commands that would make and read it again."""
        names = {str(self.path): "coded.mkv"}
        encode, decode = (
            shlex.join(["ffmpeg", *(names.get(word, word) for word in words)])
            for words in (self.command, _make_decode_command(self))
        )
        return Coding(" ".join(self.codec.options), self.crf, wanted, encode, decode)

    def miss(self, wanted: float) -> str | None:
        """What to say of a rate that is far from the wanted one; None where it is near."""
        if abs(self.bits_per_pixel / wanted - 1) <= MISSED:
            return None
        finest, coarsest = self.codec.crf
        ends = {finest: "its finest quality", coarsest: "its coarsest quality"}
        why = f" ({ends[self.crf]})" if self.crf in ends else ""
        got = f"{self.bits_per_pixel:.4g} bits per pixel came out at crf {self.crf:g}{why}"
        return f"{wanted:.4g} were wanted, {got}: {100 * (self.bits_per_pixel / wanted - 1):+.0f} %"


@contextmanager
def encode_with_codec(codec: Codec, bits_per_pixel: float, clip: FramesAnew) -> Iterator[Coded]:
    """Encode a clip of frames [H, W, 3] as near to the rate as CRF gets; it is read as often as that takes.

    The file lasts as long as the block.
    """
    with TemporaryDirectory(prefix="vidlatent-codec-") as folder:
        if codec.lossless:
            yield _encode(codec, None, clip(), Path(folder) / "clip.mkv")
        else:
            yield _search(codec, bits_per_pixel, clip, Path(folder))


def _search(codec: Codec, wanted: float, clip: FramesAnew, folder: Path) -> Coded:
    """Search the CRF that gives the wanted rate: the logarithm of the rate is nearly a line over CRF."""
    low, high = codec.crf
    crf, tried = (low + high) / 2, {}
    for _ in range(TRIES):
        crf = round(min(max(crf, low), high) / codec.step) * codec.step
        if crf in tried:
            break
        tried[crf] = _encode(codec, crf, clip(), folder / f"{len(tried)}.mkv")
        if abs(tried[crf].bits_per_pixel / wanted - 1) <= NEAR:
            break
        crf = _next_crf({q: math.log2(c.bits_per_pixel / wanted) for q, c in tried.items()})
    return min(tried.values(), key=lambda c: abs(math.log2(c.bits_per_pixel / wanted)))


def _next_crf(excess: dict[float, float]) -> float:
    """The CRF where the excess of the rate (log2, by CRF) is nought, on a line through the nearest two."""
    nearest = sorted(excess, key=lambda q: abs(excess[q]))
    a = nearest[0]
    if len(nearest) == 1 or excess[a] == excess[nearest[1]]:
        return a + CRF_PER_DOUBLING * excess[a]
    b = nearest[1]
    return a - excess[a] * (b - a) / (excess[b] - excess[a])


def _encode(codec: Codec, crf: float | None, frames: Generator[np.ndarray], path: Path) -> Coded:
    first = next(frames, None)
    if first is None:
        raise BadInput("the clip has no frames")
    height, width, _ = first.shape
    quality = () if crf is None else ("-crf", f"{crf:g}")
    command = [
        *("-f", "rawvideo", "-pixel_format", _FORMATS[first.dtype][0], "-video_size"),
        *(f"{width + width % 2}x{height + height % 2}", "-framerate", str(FRAME_RATE), "-i", "pipe:0"),
        *codec.colours(first.dtype, encode=True),
        *(*codec.options, *quality, str(path)),
    ]
    count, seconds = 0, 0.0
    shape = (height, width)
    with closing(frames), _run_ffmpeg(command, stdin=subprocess.PIPE) as process:
        for frame in chain([first], frames):
            began = time.perf_counter()
            process.stdin.write(_pad_to_even(frame).tobytes())
            seconds += time.perf_counter() - began
            count += 1
        began = time.perf_counter()
        process.stdin.close()
        process.wait()
        seconds += time.perf_counter() - began
    bits = count_stream_bits(path)
    return Coded(path, codec, crf, tuple(command), bits, count, seconds, shape, first.dtype)


def decode_coded(clip: Coded) -> Iterator[np.ndarray]:
    """The frames [H, W, 3] of a coded clip, in the source's size and depth."""
    height, width = (side + side % 2 for side in clip.shape)
    size = height * width * 3 * clip.dtype.itemsize
    with _run_ffmpeg(_make_decode_command(clip), stdout=subprocess.PIPE) as process:
        while len(raw := process.stdout.read(size)) == size:
            frame = np.frombuffer(raw, clip.dtype).reshape(height, width, 3)
            yield frame[: clip.shape[0], : clip.shape[1]]
        process.wait()


def _make_decode_command(clip: Coded) -> list[str]:
    colours = clip.codec.colours(clip.dtype, encode=False)
    return ["-i", str(clip.path), *colours, "-f", "rawvideo", "pipe:1"]


def count_stream_bits(path: Path) -> int:
    """The bits of all packets of a clip's video, without the container around them."""
    with open_video_file(path, None, {}) as container:
        return 8 * sum(packet.size for packet in container.demux(video=0))


@contextmanager
def _run_ffmpeg(arguments: list[str], **pipes: int) -> Iterator[subprocess.Popen]:
    """Run ffmpeg while the block lasts; raises BadInput with ffmpeg's own words where it fails."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", *arguments]
    with TemporaryFile() as complaints:
        process = subprocess.Popen(command, stderr=complaints, **pipes)
        try:
            yield process
            if process.returncode:
                raise BrokenPipeError
        except BrokenPipeError as e:
            process.wait()
            complaints.seek(0)
            words = complaints.read().decode(errors="replace").strip().splitlines()
            raise BadInput(f"ffmpeg failed: {words[0] if words else process.returncode}") from e
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(BrokenPipeError):
                    pipe and pipe.close()


def _pad_to_even(frame: np.ndarray) -> np.ndarray:
    """The frame with its last row and column repeated where a side is odd: 4:2:0 needs even sides."""
    height, width, _ = frame.shape
    if not height % 2 and not width % 2:
        return frame
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
