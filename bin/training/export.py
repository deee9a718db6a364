"""From checkpoints to an asset: fp16 weights, latent statistics over the footage, the log and its curve."""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from training.footage import pack_footage
from vidlatent.engine.pixels import to_floats
from vidlatent.models.causal import TimeState
from vidlatent.models.pocket_vae import PocketVAE, TimeBlock, spec_of

LEEWAY = 1.25  # what an activation may grow to beyond the largest that footage gave


def export(args: argparse.Namespace) -> None:
    """Write config.json, model.safetensors, log.jsonl and loss.svg into --to; print the statistics."""
    paths = [run / "checkpoint.pt" for run in (args.out, *args.also)]
    runs = [torch.load(path, weights_only=True, map_location="cpu") for path in paths]
    held, weights = runs[0], {key: value.half() for key, value in mean_of(runs).items()}
    model = PocketVAE(spec_of(held["config"]))
    model.load_state_dict({key: value.float() for key, value in weights.items()})
    z, largest = seen_on_footage(model.to(args.device), args)
    config = {
        "_class_name": "PocketVAE",
        **held["config"],
        "limits": [round(LEEWAY * v, 2) for v in largest],
        "shift": [round(v, 5) for v in z.mean(1).tolist()],
        "scale": [round(1 / v, 5) for v in z.std(1).tolist()],
    }
    args.to.mkdir(parents=True, exist_ok=True)
    (args.to / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    told = {"steps": str(held["step"]), "trained_by": "bin/train-pocket"}
    save_file(weights, args.to / "model.safetensors", metadata=told)
    draw_log(args.out / "log.jsonl", args.to)
    print(json.dumps({"steps": held["step"], **correlations(z)}))


def mean_of(checkpoints: list[dict]) -> dict[str, Tensor]:
    """The mean of several runs' averaged weights; runs that began at one model and did not go far agree."""
    averages = [held["average"] for held in checkpoints]
    return {key: torch.stack([each[key] for each in averages]).mean(dim=0) for key in averages[0]}


@torch.inference_mode()
def seen_on_footage(model: PocketVAE, args: argparse.Namespace) -> tuple[Tensor, list[float]]:
    """Latents [C, n] of the training footage, and the largest activation of each block, there and back."""
    latents, largest = [], dict.fromkeys(model.time_blocks(), 0.0)

    def watch(block: TimeBlock) -> Callable[[nn.Module, object, Tensor], None]:
        def note(_layer: nn.Module, _given: object, made: Tensor) -> None:
            largest[block] = max(largest[block], F.silu(made).max().item())

        return note

    for block in largest:
        block.space.register_forward_hook(watch(block))
    for clip in footage(args):
        z = model.encoder(clip.to(args.device), TimeState())
        model.decoder(z, TimeState())
        latents.append(z.transpose(0, 1).flatten(1).cpu())
    return torch.cat(latents, dim=1), list(largest.values())


def footage(args: argparse.Namespace) -> Iterator[Tensor]:
    """Clips [1, 3, T, H, W]: the beginning of every other segment, at most 256 pixels a side."""
    bank = pack_footage(args.data, args.cache, args.segments)
    for segment in [segment for video in bank for segment in video][::2]:
        frames, rows, columns = len(segment[:17]) // 4 * 4 + 1, *(s // 8 * 8 for s in segment.shape[1:3])
        cut = torch.from_numpy(segment[:frames, : min(rows, 256), : min(columns, 256)].copy())
        yield to_floats(cut).permute(3, 0, 1, 2)[None]


def correlations(z: Tensor) -> dict[str, object]:
    """Spread of the channels of latents [C, n], and how much they tell of each other."""
    between = torch.corrcoef(z).fill_diagonal_(0).abs()
    pairs = z.shape[0] * (z.shape[0] - 1)
    return {
        "std": [round(v, 4) for v in z.std(1).tolist()],
        "largest_correlation": round(float(between.max()), 4),
        "mean_correlation": round(float(between.sum() / pairs), 4),
    }


def draw_log(path: Path, folder: Path) -> None:
    """The run's log and its curve, beside the weights."""
    from matplotlib import pyplot

    rows = [json.loads(line) for line in path.read_text().splitlines()]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    figure, axes = pyplot.subplots(figsize=(7, 3), layout="constrained")
    axes.plot([row["step"] for row in rows], [row["psnr"] for row in rows], linewidth=1)
    axes.set(xlabel="step", ylabel="PSNR of training batches, dB")
    axes.set_ylim(bottom=20)  # below it lie single batches that a step too wide made useless
    axes.grid(alpha=0.3)
    figure.savefig(folder / "loss.svg", metadata={"Date": None})
