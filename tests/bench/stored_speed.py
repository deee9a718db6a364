"""How fast latents are read for training in each form, against bf16.

    python tests/bench/stored_speed.py --crop 8

Clips of 81 frames at 480p, as Wan's encoder would make them, lie in the page cache; each is read in random
order, whole or a crop of it. All forms are read in turn, so that a busy machine slows all of them; a ratio is
the median over the turns, `cpu_ratio` the same in processor time. Packed latents, which are for keeping, are
decoded as chunks of 16 latent frames with planes of several sizes. The last line is JSON.
"""

import argparse
import json
import math
import os
import platform
import statistics
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from vidlatent.clock import FrameClock
from vidlatent.grid import Grid
from vidlatent.io.coded.chunks import SIXTEEN
from vidlatent.io.coded.form import Form
from vidlatent.io.coded.int8 import Int8
from vidlatent.io.coded.packed import fit
from vidlatent.io.coded.planes import Planes
from vidlatent.io.coded.trellis import NOISE
from vidlatent.io.latent.header import LatentHeader, Source
from vidlatent.io.latent.writer import LatentWriter
from vidlatent.jobs.readback.dataset import LatentDataset
from vidlatent.windows import Plan, TimeRule

SHAPE = (21, 16, 60, 104)
PLANES = ((18, 22), (30, 40), (45, 60), (60, 104), (90, 160))
FORMS: dict[str, Form | str] = {"bf16": "BF16", "int8": Int8(), "bf16 --pack": Planes("BF16")}


def write_clips(folder: Path, form: Form | str, count: int) -> Path:
    """A folder with so many clips of noise."""
    folder.mkdir()
    t, channels, h, w = SHAPE
    frames = 1 + 4 * (t - 1)
    header = LatentHeader(
        *("wan-2.1", "", {}, Grid(4, 8), Plan(TimeRule(32), TimeRule(8))),
        source=Source("clip.mp4", frames, 8 * w, 8 * h),
    )
    for n in range(count):
        with LatentWriter(folder / f"{n}.latent", header, channels, h, w, form) as writer:
            writer.append(make_noise(SHAPE, n))
            writer.close(FrameClock(Fraction(1, 16), np.arange(frames)))
    return folder


def make_noise(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Noise of deviation 1 that is as smooth in time as latents are."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).cumsum(0)
    return noise / noise.std()


def decode_packed(h: int, w: int, repeats: int) -> float:
    """Millions of latents per second of processors, out of a chunk with an SNR of 20 dB."""
    chunk, channels = make_noise((SIXTEEN.length, 16, h, w), 0), np.zeros(16)
    shape = tuple(chunk.shape)
    form = fit(shape, [chunk], channels, channels + math.sqrt(12 / NOISE) / 10, trellis=True)
    codes = np.frombuffer(form.code(chunk)[0], np.uint8)
    sides, took = form.sides(np.array([len(codes)]), b""), []
    for _ in range(repeats + 1):
        opened, began = form.open(shape, len(codes), sides), time.process_time()
        opened.decode(codes, 0, len(chunk))
        took.append(time.process_time() - began)
    return round(chunk.numel() / statistics.median(took[1:]) / 1e6, 1)  # the first one makes the tables


def read(data: LatentDataset, order: list[int]) -> tuple[float, float]:
    """Samples per second: on the clock, of processors."""
    wall, processor = time.perf_counter(), time.process_time()
    for index in order:
        data[index]
    return len(order) / (time.perf_counter() - wall), len(order) / (time.process_time() - processor)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--crop", type=int, help="latent frames; without it whole clips are read")
    parser.add_argument("--normalise", action="store_true")
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(1)  # as many as workers of a DataLoader have
    with tempfile.TemporaryDirectory() as root:
        folders = {
            name: write_clips(Path(root, name.replace(" ", "")), f, args.clips) for name, f in FORMS.items()
        }
        sets = {name: LatentDataset(at, args.crop, args.normalise) for name, at in folders.items()}
        if not args.normalise:
            sets["int8, raw"] = LatentDataset(folders["int8"], args.crop, raw=True)
        rng = np.random.default_rng(0)
        turns = []
        for _ in range(args.repeats + 1):
            order = [int(index) for index in rng.permutation(args.clips)]
            turns.append({name: read(data, order) for name, data in sets.items()})
        del turns[0]  # which warmed up
        size = {name: sum(p.stat().st_size for p in at.iterdir()) for name, at in folders.items()}
    ratios, cpu_ratios = (
        {n: round(statistics.median(turn[n][k] / turn["bf16"][k] for turn in turns), 3) for n in sets}
        for k in (0, 1)
    )
    speeds = {name: round(statistics.median(turn[name][0] for turn in turns), 1) for name in sets}
    for name in sets:
        print(f"{name:12} {speeds[name]:8} samples/s, {ratios[name]} of bf16 (processor {cpu_ratios[name]})")
    packed = {f"{h}x{w}": decode_packed(h, w, args.repeats) for h, w in PLANES}
    print(f"packed: {packed} million latents a second of processors, by the size of a plane")
    machine = {"cpus": os.cpu_count(), "threads": torch.get_num_threads(), "machine": platform.machine()}
    told = {"shape": SHAPE, "crop": args.crop, "normalise": args.normalise, **machine}
    print(
        json.dumps(
            {
                "ratio": ratios,
                "cpu_ratio": cpu_ratios,
                "samples_per_s": speeds,
                "packed_millions_per_s": packed,
                "bytes": size,
                **told,
            }
        )
    )


if __name__ == "__main__":
    main()
