"""The same random weights in a network of ours and in diffusers': equal numbers, and then speed and memory.

    python tests/bench/against_diffusers.py --models wan-2.1                  # 17 frames of 256x256
    python tests/bench/against_diffusers.py --models wan-2.1 --frames 81 --repeats 0         # memory alone
    python tests/bench/against_diffusers.py --models wan-2.1 wan-2.2-5b --repeats 0 --no-memory      # parity
    python tests/bench/against_diffusers.py --models wan-2.1 --device cuda --dtype bf16 --size 704x1280

Parity comes first, on 17 frames of 128x128, and must hold in fp32; in 16 bits the difference is only told.
Then encode and decode run in turns, ours and theirs in one process; medians of CPU seconds and of wall
seconds. Peak memory of each direction of each is read in a process of its own: theirs gives the whole clip,
ours window by window, as the commands take it. On a GPU it is what the device held in that same process.

The last line is one JSON document.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

import vidlatent
from vidlatent.allocator import map_large_blocks
from vidlatent.engine.runtime import Runtime, peak_device_bytes, peak_host_bytes
from vidlatent.models import registry

CLASSES = {  # of diffusers, for each model that has one there; the published config is the model's own here
    "wan-2.1": "AutoencoderKLWan",
    "wan-2.2-5b": "AutoencoderKLWan",
    "qwen-image": "AutoencoderKLQwenImage",
    "hunyuan-video": "AutoencoderKLHunyuanVideo",
    "hunyuan-video-1.5": "AutoencoderKLHunyuanVideo15",
    "ltx-2": "AutoencoderKLLTX2Video",
    "ltx-2.3": "AutoencoderKLLTX2Video",
    "cogvideox-2b": "AutoencoderKLCogVideoX",
}
DIRECTIONS = ("encode", "decode")
OPTIONS = ("frames", "size", "threads", "repeats", "device", "dtype")
PARITY_FRAMES, PARITY_SIZE = 17, "128"
REL_RMS = 1e-5  # as for the goldens
Apply = Callable[[Tensor], Tensor]


def theirs(name: str, folder: Path | None = None) -> torch.nn.Module:
    """diffusers' network of that model: of the weights in `folder`, else random, every gain and bias too."""
    import diffusers

    kind = getattr(diffusers, CLASSES[name])
    if folder is not None:
        return kind.from_pretrained(folder).eval().requires_grad_(False)
    torch.manual_seed(0)
    spec = registry.find(name)
    config = dict(spec.config)
    if kind is diffusers.AutoencoderKLWan:  # which takes Wan 2.1's for every one, where it is told none
        config |= {"latents_mean": list(spec.shift), "latents_std": [1 / scale for scale in spec.scale]}
    network = kind.from_config(config)
    vary(network)
    return network


def vary(network: torch.nn.Module) -> None:
    """Make gains and biases random too, which a new network has as ones and zeros."""
    for parameter in network.parameters():
        if parameter.numel() == max(parameter.shape, default=1):
            parameter.data += 0.1 * torch.randn_like(parameter)


def save_weights(network: torch.nn.Module, path: Path) -> None:
    """Write all weights of a network into one file."""
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)


def publish(name: str, folder: Path) -> None:
    """A folder of random weights that diffusers loads, and so do we."""
    network = theirs(name)
    network.save_pretrained(folder)
    weights = folder / "diffusion_pytorch_model.safetensors"
    if not weights.is_file():  # large ones are written in parts
        for part in folder.glob("diffusion_pytorch_model*"):
            part.unlink()
        save_weights(network, weights)


def sides_of(size: str) -> list[int]:
    """Height and width: `256`, or `704x1280`."""
    sides = [int(side) for side in size.split("x")]
    return sides if len(sides) == 2 else sides * 2


def input_of(direction: str, name: str, frames: int, size: str, run: Runtime) -> Tensor:
    """A clip [1, 3, T, H, W] of noise, or as many latents as it gives."""
    spec, generator = registry.find(name), torch.Generator().manual_seed(1)
    shape = [3, frames, *sides_of(size)]
    if direction == "decode":
        shape = [spec.channels, spec.grid.latents(frames), *(side // spec.grid.space for side in shape[2:])]
    return (torch.rand(1, *shape, generator=generator) * 2 - 1).to(run.device, run.dtype)


def their_verbs(name: str, folder: Path, run: Runtime) -> dict[str, Apply]:
    """Encode to moments and decode to pixels with diffusers."""
    network = theirs(name, folder).to(run.device, run.dtype)
    return {
        "encode": lambda video: network.encode(video).latent_dist.parameters,
        "decode": lambda latents: network.decode(latents, return_dict=False)[0],
    }


def our_verbs(folder: Path, run: Runtime) -> dict[str, Apply]:
    """Encode to moments and decode to pixels with vidlatent, through its engine."""
    model = vidlatent.load_model(folder, device=run.device, dtype=run.dtype)
    return {
        "encode": lambda video: torch.cat(list(model.encode_stream(video.unbind(2))), dim=2),
        "decode": model.decode,
    }


def compare(args: argparse.Namespace, name: str, folder: Path) -> dict[str, object]:
    """Parity, which must hold, and seconds of both in turns; by direction."""
    run = Runtime.choose(args.device, args.dtype)
    verbs = {"ours": our_verbs(folder, run), "theirs": their_verbs(name, folder, run)}
    results = {}
    for direction in args.directions:
        x = input_of(direction, name, PARITY_FRAMES, PARITY_SIZE, run)
        result = {"parity": parity(verbs["ours"][direction](x), verbs["theirs"][direction](x))}
        say(f"{name} {direction}: {result['parity']}")
        if run.dtype == torch.float32 and result["parity"]["rel_rms"] > REL_RMS:
            raise SystemExit(f"{name} {direction}: differs from diffusers: {result['parity']}")
        if args.repeats:
            result |= in_turns(args, name, direction, verbs)
            say(f"{name} {direction}: {result}")
        results[direction] = result
    return results


def parity(ours: Tensor, reference: Tensor) -> dict[str, float]:
    """How far ours is from theirs; where theirs clamps pixels, ours are clamped for it."""
    if reference.abs().max() <= 1:
        ours = ours.clamp(-1, 1)
    error = ours.double() - reference.double()
    return {
        "rel_rms": float(error.norm() / reference.double().norm()),
        "max_abs": float(error.abs().max()),
        "std": float(reference.std()),
    }


def in_turns(
    args: argparse.Namespace, name: str, direction: str, verbs: dict[str, dict[str, Apply]]
) -> dict[str, object]:
    """Median CPU and wall seconds of each, and by what factor ours are fewer; gigabytes of a GPU, too.

    A GPU's first run, which chooses its kernels, does not count.
    """
    run = Runtime.choose(args.device, args.dtype)
    x = input_of(direction, name, args.frames, args.size, run)
    seconds, gb = {who: [] for who in verbs}, {}
    on_gpu = run.device.type == "cuda"
    for turn in range(-1 if on_gpu else 0, args.repeats):
        for who, each in verbs.items():
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
            cpu, wall = time.process_time(), time.perf_counter()
            each[direction](x)
            run.synchronise()
            if turn >= 0:
                seconds[who].append((time.process_time() - cpu, time.perf_counter() - wall))
            gb[who] = peak_device_bytes(run.device) / 1e9
    cpu, wall = (
        {who: statistics.median(run[i] for run in runs) for who, runs in seconds.items()} for i in (0, 1)
    )
    return {
        "cpu_s": cpu,
        "wall_s": wall,
        "cpu_ratio": cpu["theirs"] / cpu["ours"],
        "wall_ratio": wall["theirs"] / wall["ours"],
    } | ({"device_gb": gb} if on_gpu else {})


def peak(args: argparse.Namespace, name: str, folder: Path, who: str, direction: str) -> dict[str, float]:
    """Gigabytes resident once the weights are loaded, and at the most."""
    with torch.inference_mode():
        x = input_of(direction, name, args.frames, args.size, Runtime.choose("cpu"))
        if who == "theirs":
            apply = their_verbs(name, folder, Runtime.choose("cpu"))[direction]
            before = peak_host_bytes()
            apply(x)
        else:
            map_large_blocks()
            model = vidlatent.load_model(folder, device="cpu", only=direction)
            before = peak_host_bytes()
            for _ in getattr(model, f"{direction}_stream")(x.unbind(2)):
                pass
    return {"loaded_gb": before / 1e9, "peak_gb": peak_host_bytes() / 1e9}


def peaks(args: argparse.Namespace, name: str, folder: Path) -> dict[str, object]:
    """Peak memory of both, by direction, each in a process of its own."""
    found = {}
    for direction in args.directions:
        each = {who: in_a_process(args, name, folder, "--peak", who, direction) for who in ("ours", "theirs")}
        gb, grown = (
            [value["peak_gb"] - value["loaded_gb"] * less for value in each.values()] for less in (0, 1)
        )
        found[direction] = {**each, "share": gb[0] / gb[1], "share_of_growth": grown[0] / grown[1]}
        say(f"{name} {direction}: {found[direction]}")
    return found


def in_a_process(args: argparse.Namespace, name: str, folder: Path, *words: str) -> dict[str, object]:
    """The last line, as JSON, that this script prints for one step of one model."""
    command = [sys.executable, __file__, "--models", name, "--folder", str(folder), *words]
    for option in OPTIONS:
        command += [f"--{option}", str(getattr(args, option))]
    command += ["--directions", *args.directions]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    return json.loads(done.stdout.splitlines()[-1])


def say(line: str) -> None:
    """A line for whoever watches."""
    print(line, file=sys.stderr, flush=True)


def make_parser(description: str, models: Iterable[str]) -> argparse.ArgumentParser:
    """What may be asked of a comparison of ours with another implementation."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=list(models), choices=list(models))
    parser.add_argument("--directions", nargs="+", default=DIRECTIONS, choices=DIRECTIONS)
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--size", default="256", help="pixels per side (256), or 704x1280: height, width")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="fp32", choices=["fp32", "fp16", "bf16"])
    parser.add_argument(
        "--repeats", type=int, default=3, help="runs of each, the median counts (3); 0: parity"
    )
    return parser


def arguments() -> argparse.Namespace:
    """What was asked."""
    parser = make_parser(__doc__, CLASSES)
    parser.add_argument("--no-memory", action="store_true", help="measure no memory")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Compare what was asked, and say so."""
    args = arguments()
    torch.set_num_threads(args.threads)
    if args.folder:
        with torch.inference_mode():
            step = peak(args, *args.models, args.folder, *args.peak) if args.peak else None
            print(json.dumps(step or compare(args, *args.models, args.folder)))
        return
    results = {}
    for name in args.models:
        with tempfile.TemporaryDirectory() as folder:
            publish(name, Path(folder))
            results[name] = in_a_process(args, name, Path(folder))
            if not args.no_memory and args.device == "cpu":
                results[name]["memory"] = peaks(args, name, Path(folder))
    asked = {key: getattr(args, key) for key in OPTIONS}
    machine = {"machine": platform.processor(), "cores": os.cpu_count(), "torch": torch.__version__}
    print(json.dumps({**asked, **machine, "load": os.getloadavg(), "models": results}))


if __name__ == "__main__":
    main()
