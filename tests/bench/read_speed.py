"""How fast a 10-bit clip is read, against plain PyAV decoding and conversion.

    python tests/bench/read_speed.py assets/sample.mp4
    python tests/bench/read_speed.py my-10-bit-clip.mov --as-is

"Plain" is what most loaders do: `for frame in container.decode(video=0): frame.to_ndarray(format="rgb48le")`
with frame threads. It leaves white at 65280, interpolates chroma bilinearly and turns nothing; ours does all
of that exactly. Both go over the same file in turn, so that a busy machine slows both; the ratio is their
median, `cpu_ratio` the same in processor time. The last line is JSON.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path

import av
import numpy as np

from vidlatent.io.read.source import open_video

FRAMES = 60
SIZE = (1920, 1080)
GRAIN = 600  # standard deviation of noise put onto the scaled footage, of 65535: what cameras leave


def footage(source: Path, target: Path) -> None:
    """`source` scaled to 1080p with grain, as 10-bit H.264."""
    grain = np.random.default_rng(0).normal(0, GRAIN, (SIZE[1], SIZE[0], 1)).astype(np.int32)
    with av.open(str(source)) as clip, av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", 30, options={"preset": "veryfast", "crf": "20"})
        (stream.width, stream.height), stream.pix_fmt = SIZE, "yuv420p10le"
        for index, frame in enumerate(islice(cycle(clip.decode(video=0)), FRAMES)):
            rgb = frame.reformat(*SIZE, format="rgb48le").to_ndarray()
            noisy = (rgb + np.roll(grain, 97 * index, (0, 1))).clip(0, 65535).astype(np.uint16)
            shown = av.VideoFrame.from_ndarray(noisy, "rgb48le").reformat(format="yuv420p10le")
            shown.pts, shown.time_base = index, Fraction(1, 30)
            container.mux(stream.encode(shown))
        container.mux(stream.encode())


def plain(path: Path) -> int:
    """Frames decoded and converted by PyAV alone."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        return sum(1 for f in container.decode(video=0) if f.to_ndarray(format="rgb48le").size)


def ours(path: Path) -> int:
    """Frames read by this package."""
    with open_video(path) as video:
        return sum(1 for _ in video.frames())


def bare(path: Path) -> int:
    """Frames decoded, and left at that."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        return sum(1 for _ in container.decode(video=0))


def cost(read: Callable[[Path], int], path: Path) -> tuple[float, float]:
    """Milliseconds per frame: on the clock, of processors."""
    wall, processor = time.perf_counter(), time.process_time()
    count = read(path)
    spent = time.perf_counter() - wall, time.process_time() - processor
    return spent[0] / count * 1e3, spent[1] / count * 1e3


def measure(path: Path, repeats: int) -> dict[str, object]:
    """All three in turn, after one turn that does not count."""
    turns = [[cost(read, path) for read in (plain, ours, bare)] for _ in range(repeats + 1)][1:]
    walls = [turn[0][0] / turn[1][0] for turn in turns]
    processors = [turn[0][1] / turn[1][1] for turn in turns]
    middle = [[statistics.median(turn[i][k] for turn in turns) for k in (0, 1)] for i in range(3)]
    names = ("plain", "ours", "decode_only")
    return {
        "ratio": round(statistics.median(walls), 3),
        "ratio_range": [round(min(walls), 3), round(max(walls), 3)],
        "cpu_ratio": round(statistics.median(processors), 3),
        "ms_per_frame": {name: round(middle[i][0], 1) for i, name in enumerate(names)},
        "cpu_ms_per_frame": {name: round(middle[i][1], 1) for i, name in enumerate(names)},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", type=Path)
    parser.add_argument("--as-is", action="store_true", help="read the clip itself, not a 1080p copy of it")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = args.clip if args.as_is else Path(folder, "footage.mp4")
        if not args.as_is:
            footage(args.clip, path)
        found = measure(path, args.repeats)
    with open_video(args.clip) as video:
        size = [video.info.width, video.info.height] if args.as_is else list(SIZE)
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "av": av.__version__}
    print(
        f"plain {found['ms_per_frame']['plain']} ms, ours {found['ms_per_frame']['ours']} ms a frame: "
        f"{found['ratio']} of plain speed"
    )
    print(json.dumps({"clip": args.clip.name, "size": size, **found, **machine}))


if __name__ == "__main__":
    main()
