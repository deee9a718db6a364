"""What metrics cost: a bench run with them against one without, in turn, and each by itself.

    python tests/bench/metric_cost.py [--metrics psnr] [--frames N] [--size WxH] [--model NAME] [--runs N]

Medians of the rounds count. `more` is how much longer a run of `vidlatent bench` (warm-up, timed passes, the
last of them watched) takes with the metrics; `ms_per_frame` is what they take of one pair of frames. The
last line on stdout is one JSON document.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median

from vidlatent.jobs.measure.bench import bench
from vidlatent.jobs.measure.bench_options import BenchOptions, load_subjects
from vidlatent.jobs.measure.clip import MeasuredClip
from vidlatent.jobs.measure.machine import describe_machine
from vidlatent.jobs.measure.roundtrip import Subject
from vidlatent.jobs.measure.score import Scoreboard

SAMPLE = Path(__file__).resolve().parents[2] / "assets" / "sample.mp4"


def seconds_of_bench(clip: Path, subject: Subject, options: BenchOptions) -> float:
    """Wall time of one run."""
    began = time.perf_counter()
    report = bench([clip], [subject], options)
    assert not report.failed
    return time.perf_counter() - began


def seconds_of_metrics(clip: Path, options: BenchOptions) -> float:
    """Time that the metrics take of all pairs of a clip; each frame is held against the one before it."""
    frames = list(MeasuredClip(str(clip), options.read, options.protocol).frames())
    board = Scoreboard(options.protocol.metrics(options.metrics, options.files))
    began = time.perf_counter()
    for n, frame in enumerate(frames):
        board.update(frame, frames[n - 1])
    board.scores()
    return (time.perf_counter() - began) / len(frames)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", type=Path, nargs="?", default=SAMPLE)
    parser.add_argument("--metrics", default="psnr")
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--runs", type=int, default=1, help="timed passes, of which one is watched")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    (subject,) = load_subjects([args.model], [])
    took: dict[str, list[float]] = {"with": [], "without": [], "metrics": []}
    plain = BenchOptions((), frames=args.frames, size=(width, height), runs=args.runs)
    full = BenchOptions(tuple(args.metrics.split(",")), frames=args.frames, size=plain.size, runs=args.runs)
    seconds_of_bench(args.clip, subject, plain)  # warm up
    for _ in range(args.rounds):
        took["without"].append(seconds_of_bench(args.clip, subject, plain))
        took["with"].append(seconds_of_bench(args.clip, subject, full))
        took["metrics"].append(seconds_of_metrics(args.clip, full))
        print({name: round(times[-1], 4) for name, times in took.items()}, flush=True)
    middle = {name: median(times) for name, times in took.items()}
    facts = {
        "with_s": round(middle["with"], 3),
        "without_s": round(middle["without"], 3),
        "more": round(middle["with"] / middle["without"] - 1, 4),
        "ms_per_frame": round(1000 * middle["metrics"], 3),
    }
    print(json.dumps({**facts, **vars(args), "machine": describe_machine()}, default=str))


if __name__ == "__main__":
    main()
