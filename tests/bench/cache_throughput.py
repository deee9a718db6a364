"""Do reading processes keep the model busy? Frames per second of reading, of the model, and of a cache run.

Run: python tests/bench/cache_throughput.py [--clips N] [--frames N] [--size WxH] [--model NAME]
The three take turns, so that other load on the machine meets all of them; medians count. The last line on
stdout is one JSON document: `ratio` is the run against the slower of the two others, `model_waits` the
part of the run in which the model had no frames, which other load on the machine disturbs less.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import av
import torch

from vidlatent.engine.load import load_model
from vidlatent.engine.model import Model
from vidlatent.io.read.source import ReadOptions, open_video
from vidlatent.io.sources.disk import DiskSource
from vidlatent.jobs.cache.options import RunOptions
from vidlatent.jobs.cache.recipe import Recipe
from vidlatent.jobs.cache.run import count_workers, run
from vidlatent.jobs.measure.machine import describe_machine
from vidlatent.jobs.reading.messages import Read
from vidlatent.jobs.reading.readers import Readers

SAMPLE = Path(__file__).resolve().parents[2] / "assets" / "sample.mp4"
QUEUE_BYTES = 512 << 20


def write_clips(folder: Path, count: int, frames: int, size: tuple[int, int]) -> list[Path]:
    """H.264 clips of the sample, scaled; each begins at another of its frames."""
    with open_video(SAMPLE, ReadOptions(size=size)) as video:
        pictures = [frame.rgb for frame in video.frames()]
    paths = []
    for n in range(count):
        path = folder / f"{n}.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"crf": "20"})
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            for k in range(frames):
                picture = av.VideoFrame.from_ndarray(pictures[(n + k) % len(pictures)], format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        paths.append(path)
    return paths


def read_only(paths: list[Path], workers: int) -> int:
    """Read every clip in workers, and drop the frames."""
    count = 0
    with Readers(workers, QUEUE_BYTES) as readers:
        for _, video in readers.videos(paths, lambda path: Read(DiskSource(Path(path)), ReadOptions())):
            with video:
                count += sum(1 for _ in video.frames())
    return count


def model_only(model: Model, pictures: list, clips: int) -> int:
    """Encode frames that are in memory already, and drop the latents."""
    for _ in range(clips):
        for _ in model.encode_stream(model.fitted(iter(pictures))):
            model.runtime.synchronise()
    return clips * len(pictures)


def whole_run(folder: Path, model: Model, options: RunOptions, waits: list[float]) -> int:
    """A cache run from nothing; adds the part of its time that the model waited for frames."""
    with tempfile.TemporaryDirectory() as root:
        tally = run([str(folder)], Path(root), model, Recipe(model.spec.plan), options)
    assert not tally.failed
    waits.append(tally.starved_s / tally.seconds)
    return tally.frames


def rate(job: Callable[[], int]) -> float:
    """Frames per second of one go."""
    began = time.perf_counter()
    return job() / (time.perf_counter() - began)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--frames", type=int, default=33)
    parser.add_argument("--size", default="848x480")
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--workers", type=int, default=count_workers(RunOptions()))
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    model, options = load_model(args.model), RunOptions(workers=args.workers)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_clips(Path(folder), args.clips, args.frames, (width, height))
        with open_video(paths[0]) as video:
            pictures = [frame.rgb for frame in video.frames()]
        model_only(model, pictures[:17], 1)  # warm up
        waits: list[float] = []
        jobs = {
            "read": lambda: read_only(paths, args.workers),
            "model": lambda: model_only(model, pictures, args.clips),
            "run": lambda: whole_run(Path(folder), model, options, waits),
        }
        rates: dict[str, list[float]] = {name: [] for name in jobs}
        for _ in range(args.rounds):
            for name, job in jobs.items():
                rates[name].append(rate(job))
                print(f"{name}: {rates[name][-1]:.2f} frames/s", flush=True)
    fps = {name: round(median(found), 3) for name, found in rates.items()}
    ratio = round(fps["run"] / min(fps["read"], fps["model"]), 3)
    facts = {"fps": fps, "ratio": ratio, "model_waits": round(median(waits), 3)}
    facts |= {"threads": torch.get_num_threads(), **vars(args)}
    print(json.dumps({**facts, "machine": describe_machine()}, default=str))


if __name__ == "__main__":
    main()
