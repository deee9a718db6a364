"""How near OD-VAE comes to the machine's own convolution rate, and how much memory it takes.

    python tests/bench/od_vae_speed.py                        # full size, 17 frames of 256x256, minutes
    python tests/bench/od_vae_speed.py --frames 9 --size 128 --directions encode

Everything a pass of the network convolves is recorded without computing it; then every distinct
convolution is timed alone (same function, layout and dtype, warmed up, median), and the pass itself
in a process of its own, where its peak of memory is read too. The share is the time that its
convolutions take alone ÷ the time of the pass. Weights are random: speed does not depend on them.

The last line is one JSON document.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vidlatent.models import registry
from vidlatent.models.causal import TimeState

LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
WARM_UP_FRAMES = 5  # of the smallest clip that meets every kind of layer


@dataclass(frozen=True)
class Conv:
    """One convolution: what tells it from another in cost."""

    input: tuple[int, ...]
    weight: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]

    @property
    def output(self) -> tuple[int, ...]:
        """Its output's positions: frames, rows, columns; or rows, columns."""
        sides = zip(self.input[2:], self.weight[2:], self.stride, self.padding, strict=True)
        return tuple((side + 2 * pad - kernel) // step + 1 for side, kernel, step, pad in sides)

    @property
    def flop(self) -> int:
        """Floating point operations, a multiply-add being two."""
        positions = self.input[0] * torch.Size(self.output).numel()
        return 2 * positions * torch.Size(self.weight).numel()

    def run(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Convolve."""
        convolve = F.conv2d if len(self.weight) == 4 else F.conv3d
        return convolve(x, weight, bias, self.stride, self.padding)

    def seconds(self, repeats: int) -> float:
        """Median time alone, after one run to warm up."""
        x, weight = (_laid_out(torch.randn(shape)) for shape in (self.input, self.weight))
        bias = torch.zeros(self.weight[0])
        self.run(x, weight, bias)
        return statistics.median(_timed(lambda: self.run(x, weight, bias)) for _ in range(repeats))


class Recorder(TorchFunctionMode):
    """Counts the convolutions that are called within."""

    def __init__(self) -> None:
        super().__init__()
        self.convs: Counter[Conv] = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Note a convolution, then do it."""
        if func in (F.conv2d, F.conv3d):
            x, weight, _, stride, padding, *_ = args
            self.convs[Conv(tuple(x.shape), tuple(weight.shape), tuple(stride), tuple(padding))] += 1
        return func(*args, **(kwargs or {}))


def network(name: str, device: str = "cpu") -> torch.nn.Module:
    """The model with random weights, laid out as loading does."""
    spec = registry.find(name)
    with torch.device(device):
        net = registry.family(spec.family).build(spec).eval().requires_grad_(False)
    for parameter in net.parameters():
        parameter.data = _laid_out(parameter.data)
    return net


def run_pass(net: torch.nn.Module, direction: str, frames: int, size: int, device: str = "cpu") -> None:
    """Encode a clip of noise, or decode as many latents as it would give."""
    grid, channels = net.spec.grid, net.spec.channels
    shape = (3, frames, size, size)
    if direction == "decode":
        shape = (channels, grid.latents(frames), size // grid.space, size // grid.space)
    with torch.inference_mode():
        getattr(net, direction)(torch.randn(1, *shape, device=device), TimeState())


def convolutions(name: str, direction: str, frames: int, size: int) -> Counter[Conv]:
    """All convolutions of a pass, by running it without data."""
    with Recorder() as recorder:
        run_pass(network(name, "meta"), direction, frames, size, "meta")
    return recorder.convs


def measure_pass(args: argparse.Namespace, direction: str) -> dict[str, float]:
    """Time and peak memory of a pass, in a process of its own."""
    command = [sys.executable, __file__, "--pass", direction]
    for option in ("model", "frames", "size", "threads", "passes"):
        command += [f"--{option}", str(getattr(args, option))]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def the_pass(args: argparse.Namespace) -> dict[str, float]:
    """What the process of a pass prints."""
    net = network(args.model)
    run_pass(net, args.the_pass, WARM_UP_FRAMES, 64)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = [_timed(lambda: run_pass(net, args.the_pass, args.frames, args.size)) for _ in range(args.passes)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": statistics.median(times),
        "before_gb": before * 1024 / 1e9,
        "peak_gb": peak * 1024 / 1e9,
    }


def measure(args: argparse.Namespace, direction: str) -> dict[str, float]:
    """Time every convolution alone, then the pass; print a table of it."""
    convs = convolutions(args.model, direction, args.frames, args.size)
    print(f"\n{direction}: {'input':28} {'kernel':26} {'times':>5} {'TFLOP':>7} {'GFLOP/s':>8} {'s':>7}")
    alone = 0.0
    for conv, times in sorted(convs.items(), key=lambda item: -item[0].flop * item[1]):
        seconds = conv.seconds(args.repeats)
        alone += seconds * times
        shape, kernel = ("x".join(map(str, part)) for part in (conv.input, conv.weight))
        rate = conv.flop / seconds / 1e9
        row = f"{times:5} {conv.flop * times / 1e12:7.3f} {rate:8.1f} {seconds * times:7.2f}"
        print(f"{'':{len(direction) + 1}} {shape:28} {kernel:26} {row}", flush=True)
    flop = sum(conv.flop * times for conv, times in convs.items())
    result = measure_pass(args, direction)
    result |= {
        "tflop": flop / 1e12,
        "conv_alone_s": alone,
        "conv_gflops": flop / alone / 1e9,
        "gflops": flop / result["seconds"] / 1e9,
        "share": alone / result["seconds"],
    }
    print(
        f"{direction}: {result['tflop']:.2f} TFLOP; convolutions alone {alone:.1f} s "
        f"({result['conv_gflops']:.0f} GFLOP/s); pass {result['seconds']:.1f} s "
        f"({result['gflops']:.0f} GFLOP/s) = {result['share']:.0%}; "
        f"peak {result['peak_gb']:.2f} GB ({result['before_gb']:.2f} before)"
    )
    return {key: round(value, 4) for key, value in result.items()}


def main() -> None:
    """Measure what was asked, and say so."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="od-vae-1.2")
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--size", type=int, default=256, help="pixels per side (256)")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=3, help="runs per convolution, the median counts (3)")
    parser.add_argument("--passes", type=int, default=1, help="runs of the network, the median counts (1)")
    parser.add_argument("--directions", nargs="+", default=["encode", "decode"])
    parser.add_argument("--pass", dest="the_pass", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.the_pass:
        print(json.dumps(the_pass(args)))
        return
    results = {direction: measure(args, direction) for direction in args.directions}
    machine = {
        "cpu": cpu_name(),
        "threads": args.threads,
        "torch": torch.__version__,
        "load": os.getloadavg()[0],
    }
    clip = {"model": args.model, "frames": args.frames, "size": args.size, "dtype": "float32"}
    print(json.dumps({**clip, **machine, **results}))


def _laid_out(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=LAYOUTS.get(x.dim(), torch.contiguous_format))


def _timed(work) -> float:
    with torch.inference_mode():
        start = time.perf_counter()
        work()
        return time.perf_counter() - start


def cpu_name() -> str:
    """What the processor calls itself."""
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":")[1].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
