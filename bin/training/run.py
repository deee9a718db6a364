"""The run itself: steps from the last checkpoint to the last step, averaged weights, a log."""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from training.batches import Data
from training.grow import grown
from training.linear_start import linear_start
from training.objective import Loss, Objective
from training.optimise import Muon
from vidlatent.engine.pixels import to_floats
from vidlatent.models.pocket_vae import GRID, PocketVAE

JUMP = 5.0  # a loss that is so many deviations above the mean comes of weights gone astray
SLOW = 0.02  # share of a step in what is usual
WARM = 50  # steps of rising learning rate
EVENNESS = 2.0  # power of a place's error, over that of all places in a group, that is its weight


class Trainer:
    """Model, averaged weights and optimiser of a run: what a checkpoint holds."""

    def __init__(self, model: PocketVAE, args: argparse.Namespace) -> None:
        self.model = model.to(args.device)
        self.model.encoder.requires_grad_(not args.keep_encoder)
        self.average = {key: value.clone() for key, value in self.model.state_dict().items()}
        self.optimisers = optimisers(self.model, args)
        self.objective = Objective.of(args)
        self.loss: Callable[..., tuple[Tensor, Tensor]] = Loss(self.model, self.objective)
        self.usual = torch.zeros(2, device=args.device)  # mean and variance of the loss
        self.places = torch.ones(GRID.time, device=args.device)  # errors by place in a group, 1 in the mean
        self.first = self.step = 0  # when it began, how far it is

    def learn(self, batch: Tensor, rate: float, args: argparse.Namespace) -> tuple[Tensor, Tensor]:
        """One step on a batch uint8 [B, 3, T, H, W], at a share of the peak learning rate.

        Gives its loss and its frames' mean squared errors [T].
        """
        for group in (group for o in self.optimisers for group in o.param_groups):
            group["lr"] = group["peak"] * rate
        self.model.zero_grad(set_to_none=True)
        loss, errors = self.loss(*self.given(batch))
        loss.backward()
        errors = errors.detach()  # a graph's outputs all have gradients
        self.note(loss.detach(), errors)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        self.step += 1
        decay = min(args.ema, self.step / (self.step + 9))
        now = self.model.state_dict()
        torch._foreach_lerp_(list(self.average.values()), [now[key] for key in self.average], 1 - decay)
        return loss.detach().clone(), errors.mean()  # a graph writes the next loss into the same place

    def record(self, batch: Tensor) -> None:
        """On CUDA, make the loss a graph that launches its thousands of small kernels at once.

        It is for batches like this one. No other thread may allocate pinned memory meanwhile.
        """
        if self.places.is_cuda:
            self.loss = torch.cuda.make_graphed_callables(Loss(self.model, self.objective), self.given(batch))

    def given(self, batch: Tensor) -> tuple[Tensor, ...]:
        """What the loss is a function of in this step, of a batch uint8 [B, 3, T, H, W]."""
        video = to_floats(batch.to(self.places.device, non_blocking=True))
        noise, *seen = self.objective.chance(self.model, video, self.step)
        return video, noise, self.weights_of(video.shape[2]), *seen

    def weights_of(self, frames: int) -> Tensor:
        """How much the errors of a clip's frames weigh [frames]: more in places of a group that are worse."""
        weights = self.places**EVENNESS
        return torch.cat([weights.new_ones(1), (weights / weights.mean()).repeat(frames // GRID.time)])

    def note(self, loss: Tensor, errors: Tensor) -> None:
        """Learn what is usual of a step; one whose loss jumps, or is no number, is to teach nothing else."""
        mean, variance = self.usual
        self.usual = torch.where(variance > 0, self.usual, torch.stack([loss, loss.square() + 1e-4]))
        mean, variance = self.usual
        most = mean + JUMP * variance.sqrt()
        calm = loss <= most
        for p in learning(self.model).values():
            p.grad.masked_fill_(~calm, 0)
        loss = torch.where(calm, loss, most)
        self.usual = self.usual.lerp(torch.stack([loss, (loss - mean).square()]), SLOW)
        groups = errors[1:].unflatten(0, (-1, GRID.time)).mean(dim=0)
        self.places = self.places.lerp(torch.where(calm, groups / groups.mean(), self.places), SLOW)

    def save(self, path: Path) -> None:
        """Replace the checkpoint at `path`."""
        partial = path.with_suffix(".partial")
        held = {
            "first": self.first,
            "step": self.step,
            "config": dict(self.model.spec.config),
            "model": self.model.state_dict(),
            "average": self.average,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "usual": self.usual,
            "places": self.places,
        }
        torch.save(held, partial)
        partial.replace(path)

    def restore(self, path: Path) -> None:
        """Go on from the checkpoint at `path`, if there is one."""
        if not path.exists():
            return
        held = torch.load(path, weights_only=True, map_location="cpu")
        self.model.load_state_dict(held["model"])
        for optimiser, state in zip(self.optimisers, held["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        for key, value in held["average"].items():
            self.average[key].copy_(value)
        self.usual, self.places = (held[key].to(self.usual.device) for key in ("usual", "places"))
        self.first, self.step = held["first"], held["step"]


def learning(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def optimisers(model: nn.Module, args: argparse.Namespace) -> list[torch.optim.Optimizer]:
    """Kernels of the residual branches learn by Muon at --lr, the linear path around them by AdamW, slower.

    That path carries the whole picture: what would be a small step elsewhere is visible noise there.
    """
    named = learning(model).items()
    kernels = [p for name, p in named if "blocks" in name and p.ndim > 1]
    biases = [p for name, p in named if "blocks" in name and p.ndim == 1]
    path = [p for name, p in named if "blocks" not in name]
    slower = [{"params": biases, "lr": args.lr / 2}, {"params": path, "lr": args.path_lr}]
    found = [Muon(kernels, lr=args.lr), torch.optim.AdamW(slower, betas=(0.9, 0.98))]
    for group in (group for o in found for group in o.param_groups):
        group["peak"] = group["lr"]
    return found


def rate(trainer: Trainer, args: argparse.Namespace, elapsed_s: float) -> float:
    """Share of the peak learning rate: warm-up, plateau, fall to zero; by the clock it falls at once."""
    warm = min(1.0, (trainer.step - trainer.first + 1) / WARM)
    left = (
        1 - elapsed_s / args.seconds if args.seconds else (args.steps - trainer.step) / max(1, args.cooldown)
    )
    return warm * min(1.0, max(left, 0.0))


def run(args: argparse.Namespace) -> None:
    """Train to --steps, logging every --log-every steps."""
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    data = Data.of(args)
    print(f"{len(data.bank)} videos, {len(data.photos)} photographs, {len(data.charts)} charts", flush=True)
    trainer = beginner(data, args)
    trainer.restore(args.out / "checkpoint.pt")
    for rows in stretches(trainer, data, args):
        with (args.out / "log.jsonl").open("a") as file:
            file.write(json.dumps(rows) + "\n")
        print(json.dumps(rows), flush=True)
        trainer.save(args.out / "checkpoint.pt")


def beginner(data: Data, args: argparse.Namespace) -> Trainer:
    """A trainer that has made no step: at the linear start, or where the model in --start was left."""
    config = json.loads(args.config)
    if args.start is None:
        return Trainer(linear_start(data, config, args.component_batches), args)
    model, log = grown(args.start, config), (args.start / "log.jsonl").read_text()
    trainer = Trainer(model, args)
    trainer.first = trainer.step = json.loads(log.splitlines()[-1])["step"]
    if not (args.out / "log.jsonl").exists():
        (args.out / "log.jsonl").write_text(log)
    return trainer


def stretches(trainer: Trainer, data: Data, args: argparse.Namespace) -> Iterator[dict[str, float]]:
    """Train; a row for the log after every --log-every steps and after the last."""
    losses, errors, began = [], [], time.monotonic()
    for batch, share in lessons(trainer, data, args):
        loss, mse = trainer.learn(batch, share, args)
        losses.append(loss)
        errors.append(mse)
        if trainer.step % args.log_every == 0:
            yield row(trainer, losses, errors, time.monotonic() - began)
            losses, errors, began = [], [], time.monotonic()
    if losses:
        yield row(trainer, losses, errors, time.monotonic() - began)


def row(trainer: Trainer, losses: list[Tensor], errors: list[Tensor], elapsed_s: float) -> dict[str, float]:
    """What the log says of some steps."""
    error = float(torch.stack(errors).mean())
    return {
        "step": trainer.step,
        "loss": round(float(torch.stack(losses).mean()), 5),
        "psnr": round(10 * math.log10(4 / error), 3),  # of the mean error, in [-1, 1]
        "beat": round(float(trainer.places.max() / trainer.places.min()), 3),
        "step_s": round(elapsed_s / len(losses), 4),
    }


def lessons(trainer: Trainer, data: Data, args: argparse.Namespace) -> Iterator[tuple[Tensor, float]]:
    """Batches and the rate at which each is learned; the last share of them may be of larger crops."""
    began = time.monotonic()
    last = 2**31 if args.seconds else min(args.steps, args.stop_after or args.steps)
    parts = [(data, 1 - args.end_share)]
    if args.end_share:
        parts.append((replace(data, crop=args.end_crop, batch=args.end_batch), 1.0))
    for part, end in parts:
        trainer.record(part[trainer.step])  # before there are workers
        for batch in part.batches(trainer.step, last, args.workers):
            elapsed_s = time.monotonic() - began
            if (elapsed_s / args.seconds if args.seconds else trainer.step / args.steps) >= end:
                break
            yield batch, rate(trainer, args, elapsed_s)
