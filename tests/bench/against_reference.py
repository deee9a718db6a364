"""The same random weights in a network of ours and in the authors' own code: equal numbers, and then speed.

    python tests/bench/against_reference.py --models od-vae-1.2 --open-sora-plan ~/Open-Sora-Plan
    python tests/bench/against_reference.py --models cv-vae-sd3 cv-vae-sd2.1 --cv-vae ~/CV-VAE
    python tests/bench/against_reference.py --models wf-vae-l --wf-vae ~/WF-VAE
    python tests/bench/against_reference.py --models sd-vae-1.5              # diffusers' AutoencoderKL

The folders are checkouts of PKU-YuanGroup/Open-Sora-Plan, AILab-CVC/CV-VAE and PKU-YuanGroup/WF-VAE. Their
code wants diffusers and einops (`pip install diffusers einops`). What it imports for training is not loaded,
and torch's attention stands in for that of xformers, which has none for a CPU.

Parity comes first, on 9 frames of 64x64, and must hold. Then encode and decode run in turns, ours and theirs
in one process; medians of CPU seconds and of wall seconds, and by what factor ours are fewer.

The last line is one JSON document.
"""

import argparse
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import torch
from against_diffusers import (
    OPTIONS,
    REL_RMS,
    Apply,
    in_turns,
    input_of,
    make_parser,
    our_verbs,
    parity,
    save_weights,
    say,
    vary,
)
from od_vae_speed import cpu_name
from torch import Tensor
from torch.nn import functional as F

from vidlatent.engine.runtime import Runtime
from vidlatent.models import registry

PARITY = {"frames": 9, "size": "64"}


def import_class(checkout: Path, package: str, module: str, name: str) -> type:
    """A class of a checkout; no `__init__` of `package` runs, for these import what training wants."""
    parts = package.split(".")
    for depth in range(1, len(parts) + 1):
        bare = ModuleType(".".join(parts[:depth]))
        bare.__path__ = [str(checkout.joinpath(*parts[:depth]))]
        sys.modules[bare.__name__] = bare
    return getattr(importlib.import_module(f"{package}.{module}"), name)


def stand_in_for_xformers() -> None:
    """Give CV-VAE's code the one function of xformers that it calls, which is torch's on a CPU."""
    import diffusers  # noqa: F401  looks for a real xformers when it is loaded

    def attention(q: Tensor, k: Tensor, v: Tensor, attn_bias: None, op: object) -> Tensor:
        return F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]

    xformers, ops = ModuleType("xformers"), ModuleType("xformers.ops")
    xformers.__version__, xformers.ops, ops.memory_efficient_attention = "0.0.28", ops, attention
    sys.modules |= {"xformers": xformers, "xformers.ops": ops}


def of_open_sora_plan(checkout: Path) -> type:
    """The class of OD-VAE."""
    package = "opensora.models.causalvideovae.model"
    return import_class(checkout, package, "vae.modeling_causalvae", "CausalVAEModel")


def of_wf_vae(checkout: Path) -> type:
    """The class of WF-VAE."""
    return import_class(checkout, "causalvideovae.model", "vae.modeling_wfvae", "WFVAEModel")


def of_cv_vae(checkout: Path, name: str) -> type:
    """A class of CV-VAE."""
    stand_in_for_xformers()
    return import_class(checkout, "models", "modeling_vae", name)


def of_diffusers(_: Path | None) -> type:
    """The class of Stable Diffusion's autoencoder."""
    from diffusers import AutoencoderKL

    return AutoencoderKL


MODELS: Mapping[
    str, tuple[str | None, Callable[[Path], type]]
] = {  # the option that names its code, and what loads it
    "od-vae-1.2": ("open_sora_plan", of_open_sora_plan),
    "cv-vae-sd2.1": ("cv_vae", lambda checkout: of_cv_vae(checkout, "CVVAEModel")),
    "cv-vae-sd3": ("cv_vae", lambda checkout: of_cv_vae(checkout, "CVVAESD3Model")),
    "wf-vae-l": ("wf_vae", of_wf_vae),
    "sd-vae-1.5": (None, of_diffusers),
}


def build_theirs(kind: type, config: Mapping[str, object]) -> torch.nn.Module:
    """The authors' network with random weights, gains and biases too."""
    torch.manual_seed(0)
    network = kind.from_config(dict(config)).eval().requires_grad_(False)
    vary(network)
    return network


def their_verbs(network: torch.nn.Module) -> dict[str, Apply]:
    """Encode to moments and decode to pixels with the authors' code, whichever way it wraps them."""

    def encode(video: Tensor) -> Tensor:
        encoded = network.encode(video)
        return getattr(encoded, "latent_dist", encoded).parameters

    def decode(latents: Tensor) -> Tensor:
        decoded = network.decode(latents)
        return getattr(decoded, "sample", decoded)

    return {"encode": encode, "decode": decode}


def frame_by_frame(verbs: dict[str, Apply]) -> dict[str, Apply]:
    """The verbs of an image model, for a clip [1, C, T, H, W]: its frames are a batch."""

    def on_frames(apply: Apply) -> Apply:
        return lambda clip: apply(clip[0].transpose(0, 1)).transpose(0, 1)[None]

    return {direction: on_frames(apply) for direction, apply in verbs.items()}


def both(name: str, checkout: Path | None, run: Runtime) -> dict[str, dict[str, Apply]]:
    """The verbs of ours and of theirs, with the same weights."""
    config = dict(registry.find(name).config)
    network = build_theirs(MODELS[name][1](checkout), config)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        save_weights(network, Path(folder) / "diffusion_pytorch_model.safetensors")
        ours = our_verbs(Path(folder), run)
    verbs = their_verbs(network.to(run.device, run.dtype))
    return {"ours": ours, "theirs": verbs if MODELS[name][0] else frame_by_frame(verbs)}


def compare(args: argparse.Namespace, name: str) -> dict[str, object]:
    """Parity, which must hold, and seconds of both in turns; by direction."""
    option, _ = MODELS[name]
    if option and getattr(args, option) is None:
        raise SystemExit(f"{name}: name the checkout of its code by --{option.replace('_', '-')}")
    run = Runtime.choose(args.device, args.dtype)
    verbs, results = both(name, option and getattr(args, option), run), {}
    for direction in args.directions:
        x = input_of(direction, name, PARITY["frames"], PARITY["size"], run)
        found = parity(*(each[direction](x) for each in verbs.values()))
        if run.dtype == torch.float32 and found["rel_rms"] > REL_RMS:
            raise SystemExit(f"{name} {direction}: differs from the authors' code: {found}")
        results[direction] = {"parity": found}
        if args.repeats:
            results[direction] |= in_turns(args, name, direction, verbs)
        say(f"{name} {direction}: {results[direction]}")
    return results


def arguments() -> argparse.Namespace:
    """What was asked."""
    parser = make_parser(__doc__, MODELS)
    for option in ("--open-sora-plan", "--cv-vae", "--wf-vae"):
        parser.add_argument(option, type=Path, metavar="FOLDER", help="checkout of the authors' code")
    return parser.parse_args()


def main() -> None:
    """Compare what was asked, and say so."""
    args = arguments()
    torch.set_num_threads(args.threads)
    with torch.inference_mode():
        results = {name: compare(args, name) for name in args.models}
    asked = {key: getattr(args, key) for key in OPTIONS}
    machine = {
        "cpu": cpu_name(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }
    print(json.dumps({**asked, **machine, "load": os.getloadavg(), "models": results}))


if __name__ == "__main__":
    main()
