"""What the full-size CV-VAEs cost: to load, and to run against the machine's own convolution rate.

    python tests/bench/cv_vae_speed.py                        # both, 17 frames of 256x256, many minutes
    python tests/bench/cv_vae_speed.py --models cv-vae-sd3 --size 128
    python tests/bench/cv_vae_speed.py --models cv-vae-sd2.1 --directions   # loading alone, seconds

Loading: random weights are written as a folder of a published model, then loaded in a process of its
own; memory may grow by the weights once, not twice. Running: see od_vae_speed.py, which does it.

The last line is one JSON document.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

import vidlatent
from vidlatent.models import registry

SPEED = Path(__file__).with_name("od_vae_speed.py")


def publish(name: str, folder: Path) -> None:
    """A folder like that of the published model, its weights random."""
    spec = registry.find(name)
    network = registry.family(spec.family).build(spec)
    (folder / "config.json").write_text(json.dumps(spec.config))
    save_file(network.state_dict(), folder / "diffusion_pytorch_model.safetensors")


def measure_load(name: str) -> dict[str, float]:
    """Gigabytes of weights, and what loading them takes at its peak, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        publish(name, Path(folder))
        command = [sys.executable, __file__, "--load", folder]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def the_load(folder: Path) -> dict[str, float]:
    """What the process that loads prints."""
    vidlatent.load_model("toy", device="cpu")  # whatever the first model of all brings along
    before = _peak_gb()
    model = vidlatent.load_model(folder, device="cpu")
    weights = sum(p.numel() * p.element_size() for p in model.network.parameters()) / 1e9
    grown = _peak_gb() - before
    return {"weights_gb": weights, "peak_grew_gb": grown, "copies": grown / weights}


def measure_speed(name: str, options: argparse.Namespace) -> dict[str, object]:
    """The last line of od_vae_speed.py for this model; its tables go by on stderr."""
    command = [sys.executable, str(SPEED), "--model", name, "--directions", *options.directions]
    for key in ("frames", "size", "threads", "repeats"):
        command += [f"--{key}", str(getattr(options, key))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = ""
        for line in process.stdout:
            print(line, end="", file=sys.stderr, flush=True)
    if process.returncode:
        raise SystemExit(process.returncode)
    return json.loads(line)


def main() -> None:
    """Measure what was asked, and say so."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["cv-vae-sd2.1", "cv-vae-sd3"])
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--size", type=int, default=256, help="pixels per side (256)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3, help="runs per convolution, the median counts (3)")
    parser.add_argument("--directions", nargs="*", default=["encode", "decode"])
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        print(json.dumps(the_load(options.load)))
        return
    results = {}
    for name in options.models:
        results[name] = {"load": measure_load(name)}
        print(f"{name}: loading takes {results[name]['load']}", file=sys.stderr, flush=True)
        if options.directions:
            results[name] |= measure_speed(name, options)
    print(json.dumps(results))


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()
