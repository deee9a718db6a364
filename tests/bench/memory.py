"""Peak memory of encode and decode against the length of the clip, each in a process of its own.

    python tests/bench/memory.py assets/sample.mp4 --size 320x240 --frames 65 2049

Loops the clip to each length, prints a table, and last one JSON line.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av

LOSSLESS = ("--codec", "ffv1")  # which holds no frames back; x264 keeps dozens, more of them as time goes on
MAIN = """
import sys
from vidlatent.allocator import map_large_blocks
from vidlatent.cli.app import run
from vidlatent.engine.runtime import peak_host_bytes
map_large_blocks()
assert run(sys.argv[1:]) == 0
print(peak_host_bytes())
"""


def looped(source: Path, target: Path, size: tuple[int, int], frames: int, fps: int = 30) -> None:
    """`source` over and over until there are so many frames, as H.264."""
    done = 0
    with av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast"})
        (stream.width, stream.height), stream.pix_fmt = size, "yuv420p"
        while done < frames:
            with av.open(str(source)) as clip:
                for frame in clip.decode(video=0):
                    if done == frames:
                        break
                    shown = frame.reformat(*size, format="yuv420p")
                    shown.pts, shown.time_base, done = done, Fraction(1, fps), done + 1
                    container.mux(stream.encode(shown))
        container.mux(stream.encode())


def peak_mb(*words: object) -> float:
    """Peak resident megabytes of one command line."""
    command = [sys.executable, "-c", MAIN, *map(str, words)]
    return round(int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout) / 1e6, 1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", type=Path)
    parser.add_argument("--size", default="854x480")
    parser.add_argument("--frames", type=int, nargs="+", default=[65, 2049])
    parser.add_argument("--fps", type=int, default=30)
    parser.add_argument("--encode-only", action="store_true")
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for frames in args.frames:
            clip, latent = Path(folder, f"{frames}.mp4"), Path(folder, f"{frames}.latent")
            looped(args.clip, clip, (width, height), frames, args.fps)
            row = {"frames": frames, "encode_mb": peak_mb("encode", clip, "-o", latent)}
            if not args.encode_only:
                row["decode_mb"] = peak_mb("decode", latent, "-o", Path(folder, f"{frames}.mkv"), *LOSSLESS)
            rows.append(row)
            peaks = ", ".join(f"{what.split('_')[0]} {mb} MB" for what, mb in row.items() if what != "frames")
            print(f"{frames:6} frames {args.size}: {peaks}", flush=True)
    print(json.dumps({"size": args.size, "rows": rows}))


if __name__ == "__main__":
    main()
