"""What training minimises: pixels and their differences first, then what a trained eye sees."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from vidlatent.files import asset
from vidlatent.metrics.lpips import ALEX, EPSILON, SCALE, SHIFT, VGG, Backbone, load_weights, run_backbone
from vidlatent.models.causal import TimeState
from vidlatent.models.pocket_vae import PocketVAE

INVISIBLE = 1e-5  # squared error in [-1, 1] at 56 dB: below it nothing is left to learn


@dataclass(frozen=True)
class Eye:
    """A network that LPIPS looks through, and how much its opinion weighs."""

    backbone: Backbone
    weights: Mapping[str, Tensor]
    shift: Tensor  # of pixels in [-1, 1], before they are divided by `scale`
    scale: Tensor
    weight: float
    frames: int  # of a clip that it looks at in a step

    @classmethod
    def of(cls, backbone: Backbone, path: Path, weight: float, frames: int, device: str) -> "Eye":
        """Weights from a file, with channels-last kernels."""
        weights = {key: value.to(device) for key, value in load_weights(path, backbone).items()}
        for key, value in weights.items():
            if value.ndim == 4:
                weights[key] = value.contiguous(memory_format=torch.channels_last)
        shift, scale = (torch.tensor(v, device=device).view(3, 1, 1) for v in (SHIFT, SCALE))
        return cls(backbone, weights, shift, scale, weight, frames)


@dataclass(frozen=True)
class Objective:
    """The weights of the loss's terms, and the networks that the perceptual ones look through."""

    seed: int
    time_weight: float
    still_weight: float
    scale_weight: float
    log_weight: float
    latent_noise: float  # of half of the clips, at the most, in deviations of a channel
    eyes: tuple[Eye, ...]
    bf16: bool

    @classmethod
    def of(cls, args) -> "Objective":
        """As the command line asks; the VGG16 file is what bin/convert-lpips writes, AlexNet is an asset."""
        eyes = []
        if args.lpips:
            eyes.append(Eye.of(VGG, args.lpips, args.lpips_weight, args.lpips_frames, args.device))
        if args.alex_weight:
            alex = asset("lpips_alex.npz")
            eyes.append(Eye.of(ALEX, alex, args.alex_weight, args.alex_frames, args.device))
        weights = args.time_weight, args.still_weight, args.scale_weight, args.log_weight
        return cls(args.seed, *weights, args.latent_noise, tuple(eyes), args.bf16)

    def chance(self, model: PocketVAE, video: Tensor, step: int) -> tuple[Tensor, ...]:
        """What is random in a step: noise for the latents of a batch, and the frames that each eye sees."""
        seed = self.seed * 1_000_003 + step
        batch, _, frames, *sides = video.shape
        grid = model.spec.grid
        shape = batch, model.spec.channels, grid.latents(frames), *(side // grid.space for side in sides)
        generator = torch.Generator(video.device).manual_seed(seed)
        noise = torch.randn(shape, generator=generator, device=video.device)
        width = (
            self.latent_noise * torch.rand(batch, 1, 1, 1, 1, generator=generator, device=video.device) ** 2
        )
        width[::2] = 0  # every other clip is as clean as the model's own posterior
        always, deviation = model.spec.config["latent_noise"], deviations(model).to(video.device)
        noise *= torch.sqrt(always**2 + (width * deviation.view(-1, 1, 1, 1)) ** 2)
        dice = torch.Generator().manual_seed(seed)
        seen = [torch.randperm(frames, generator=dice)[: eye.frames] for eye in self.eyes]
        return noise, *(at.to(video.device) for at in seen)


def deviations(model: PocketVAE) -> Tensor:
    """Of the latents' channels, as they were when the model was exported last; 1 if it never was."""
    return 1 / torch.tensor(model.spec.scale).expand(model.spec.channels)


class Loss(nn.Module):
    """The objective as a function of tensors alone, so that a GPU may record and replay it."""

    def __init__(self, model: PocketVAE, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, video: Tensor, noise: Tensor, places: Tensor, *seen: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of a batch [B, 3, T, H, W] with noise [B, C, t, h, w], and each frame's mean squared error.

        `places` [T] weighs the errors of frames, 1 in the mean.
        """
        o, weigh = self.objective, places.view(-1, 1, 1)
        with torch.autocast(video.device.type, torch.bfloat16, enabled=o.bf16, cache_enabled=False):
            z = self.model.encoder(video, TimeState())
            out = self.model.decoder(z + noise, TimeState()).float()
            squares = (out - video).square() * weigh
            loss = (torch.sqrt((out - video).square() + 1e-6) * weigh).mean() + 0.5 * squares.mean()
            loss = loss + 0.1 * (steps(out, video, -1) + steps(out, video, -2))
            loss = loss + o.time_weight * steps(out, video, -3)
            loss = loss + o.still_weight * shimmer(out, video)
            loss = loss + o.log_weight * log_error(squares)
            loss = loss + o.scale_weight * z.float().square().mean()
            for eye, at in zip(o.eyes, seen, strict=True):
                loss = loss + eye.weight * lpips(eye, frames_of(out, at), frames_of(video, at))
        return loss, squares.detach().mean(dim=(0, 1, 3, 4)) / places


def frames_of(video: Tensor, at: Tensor) -> Tensor:
    """Some frames of [B, 3, T, H, W] → [B·n, 3, H, W], channels-last."""
    return video[:, :, at].transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)


def lpips(eye: Eye, x: Tensor, y: Tensor) -> Tensor:
    """Mean LPIPS of images [N, 3, H, W] in [-1, 1]."""
    with torch.no_grad():
        wanted = [unit(tap) for tap in run_backbone(eye.backbone, eye.weights, (y - eye.shift) / eye.scale)]
    total = x.new_zeros(())
    seen = run_backbone(eye.backbone, eye.weights, (x - eye.shift) / eye.scale)
    for layer, (tap, want) in enumerate(zip(seen, wanted, strict=True)):
        off = (unit(tap) - want).square().mean(dim=(0, 2, 3))
        total = total + (off * eye.weights[f"lin{layer}"]).sum()
    return total


def unit(x: Tensor) -> Tensor:
    """Every pixel's channels at unit length, in float32."""
    x = x.float()
    return x / (x.square().sum(dim=1, keepdim=True) + EPSILON).sqrt()


def steps(x: Tensor, y: Tensor, dim: int) -> Tensor:
    """Charbonnier distance of first differences along `dim`: edges in space, flicker in time."""
    return charbonnier(x.diff(dim=dim), y.diff(dim=dim))


def shimmer(x: Tensor, y: Tensor) -> Tensor:
    """How much clips [B, C, T, H, W] of `x` move where those of `y` stand still, in the mean over all."""
    still = (y.diff(dim=2) == 0).flatten(1).all(dim=1)
    moved = torch.sqrt(x.diff(dim=2).square() + 1e-6).mean(dim=(1, 2, 3, 4))
    return (moved * still).mean()


def log_error(squares: Tensor) -> Tensor:
    """Mean logarithm of the clips' squared errors: what PSNR averages, so that easy clips count too."""
    return (squares.mean(dim=(1, 2, 3, 4)) + INVISIBLE).log().mean()


def charbonnier(x: Tensor, y: Tensor) -> Tensor:
    """A mean absolute difference that is smooth at zero."""
    return torch.sqrt((x - y).square() + 1e-6).mean()
