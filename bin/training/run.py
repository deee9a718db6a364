"""The run itself: steps from the last checkpoint to the last step, averaged weights, a log."""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from training.batches import Data
from training.grow import grown
from training.linear_start import linear_start
from training.objective import Loss, Objective
from training.optimise import Muon
from vidlatent.engine.pixels import to_floats
from vidlatent.models.pocket_vae import PocketVAE


class Trainer:
    """Model, averaged weights and optimiser of a run: what a checkpoint holds."""

    def __init__(self, model: PocketVAE, args: argparse.Namespace) -> None:
        self.model = model.to(args.device)
        self.average = {key: value.clone() for key, value in self.model.state_dict().items()}
        self.optimisers = optimisers(self.model, args)
        self.objective = Objective.of(args)
        self.loss: Callable[..., tuple[Tensor, Tensor]] | None = None
        self.step = 0

    def learn(self, batch: Tensor, args: argparse.Namespace) -> tuple[Tensor, Tensor]:
        """One step on a batch uint8 [B, 3, T, H, W]; its loss and mean squared error."""
        for group in (group for o in self.optimisers for group in o.param_groups):
            group["lr"] = group["peak"] * schedule(self.step, args)
        video = to_floats(batch.to(args.device, non_blocking=True))
        given = video, *self.objective.chance(self.model, video, self.step)
        if self.loss is None:
            self.loss = recorded(Loss(self.model, self.objective), given)
        self.model.zero_grad(set_to_none=True)
        loss, mse = self.loss(*given)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        self.step += 1
        decay = min(args.ema, self.step / (self.step + 9))
        now = self.model.state_dict()
        torch._foreach_lerp_(list(self.average.values()), [now[key] for key in self.average], 1 - decay)
        return loss.detach().clone(), mse.detach().clone()  # a graph writes the next ones into the same place

    def save(self, path: Path) -> None:
        """Replace the checkpoint at `path`."""
        partial = path.with_suffix(".partial")
        held = {
            "step": self.step,
            "config": dict(self.model.spec.config),
            "model": self.model.state_dict(),
            "average": self.average,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
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
        self.step = held["step"]


def recorded(loss: Loss, given: tuple[Tensor, ...]) -> Callable[..., tuple[Tensor, Tensor]]:
    """The loss, on CUDA as a graph that launches its thousands of small kernels at once."""
    return torch.cuda.make_graphed_callables(loss, given) if given[0].is_cuda else loss


def optimisers(model: nn.Module, args: argparse.Namespace) -> list[torch.optim.Optimizer]:
    """Kernels of the residual branches learn by Muon at --lr, the linear path around them by AdamW, slower.

    That path carries the whole picture: what would be a small step elsewhere is visible noise there.
    """
    named = list(model.named_parameters())
    kernels = [p for name, p in named if "blocks" in name and p.ndim > 1]
    biases = [p for name, p in named if "blocks" in name and p.ndim == 1]
    path = [p for name, p in named if "blocks" not in name]
    slower = [{"params": biases, "lr": args.lr / 2}, {"params": path, "lr": args.path_lr}]
    found = [Muon(kernels, lr=args.lr), torch.optim.AdamW(slower, betas=(0.9, 0.98))]
    for group in (group for o in found for group in o.param_groups):
        group["peak"] = group["lr"]
    return found


def schedule(step: int, args: argparse.Namespace) -> float:
    """Fraction of the peak learning rate: warm-up, plateau, fall to zero."""
    warm = min(1.0, (step + 1) / 50)
    left = (args.steps - step) / max(1, args.cooldown)
    return warm * min(1.0, max(left, 0.0))


def run(args: argparse.Namespace) -> None:
    """Train to --steps, logging every --log-every steps."""
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    data = Data.of(args)
    print(f"{len(data.bank)} segments, {len(data.photos)} photographs, {len(data.charts)} charts", flush=True)
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
    trainer.step = json.loads(log.splitlines()[-1])["step"]
    if not (args.out / "log.jsonl").exists():
        (args.out / "log.jsonl").write_text(log)
    return trainer


def stretches(trainer: Trainer, data: Data, args: argparse.Namespace) -> Iterator[dict[str, float]]:
    """Train; a row for the log after every --log-every steps and after the last."""
    losses, errors, began = [], [], time.monotonic()
    last = min(args.steps, args.stop_after or args.steps)
    for batch in data.batches(trainer.step, last, args.workers):
        loss, mse = trainer.learn(batch, args)
        losses.append(loss)
        errors.append(mse)
        if trainer.step % args.log_every and trainer.step != last:
            continue
        error = float(torch.stack(errors).mean())
        yield {
            "step": trainer.step,
            "loss": round(float(torch.stack(losses).mean()), 5),
            "psnr": round(10 * math.log10(4 / error), 3),  # of the mean error, in [-1, 1]
            "step_s": round((time.monotonic() - began) / len(losses), 4),
        }
        losses, errors, began = [], [], time.monotonic()
