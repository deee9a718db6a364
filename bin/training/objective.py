"""What training minimises: pixels and their differences first, then what a trained eye sees."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from vidlatent.metrics.lpips import EPSILON, SCALE, SHIFT, VGG, load_weights, taps
from vidlatent.models.causal import TimeState
from vidlatent.models.pocket_vae import PocketVAE

INVISIBLE = 1e-5  # squared error in [-1, 1] at 56 dB: below it nothing is left to learn


@dataclass(frozen=True)
class Objective:
    """The weights of the loss's terms, and the network that the perceptual one looks through."""

    seed: int
    scale_weight: float
    log_weight: float
    lpips_weight: float
    lpips_frames: int  # frames of a clip that LPIPS looks at in a step
    eye: Mapping[str, Tensor] | None

    @classmethod
    def of(cls, args) -> "Objective":
        """As the command line asks; the VGG16 file is what bin/convert-lpips writes."""
        eye = load_eye(args.lpips, args.device) if args.lpips else None
        return cls(args.seed, args.scale_weight, args.log_weight, args.lpips_weight, args.lpips_frames, eye)

    def __call__(self, model: PocketVAE, video: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Loss of a batch [B, 3, T, H, W], and its mean squared error."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        z = model.encoder(video, TimeState())
        noise = torch.randn(z.shape, generator=generator).to(z)
        out = model.decode(z + model.spec.config["latent_noise"] * noise, TimeState()).float()
        mse = F.mse_loss(out, video)
        loss = charbonnier(out, video) + 0.5 * mse + 0.3 * gradient_loss(out, video)
        loss = loss + self.log_weight * log_error(out, video)
        loss = loss + self.scale_weight * z.float().square().mean()
        if self.eye is not None:
            at = torch.randperm(video.shape[2], generator=generator)[: self.lpips_frames]
            loss = loss + self.lpips_weight * lpips(self.eye, frames_of(out, at), frames_of(video, at))
        return loss, mse.detach()


def load_eye(path: Path, device: str) -> dict[str, Tensor]:
    """VGG16 of LPIPS with channels-last kernels."""
    weights = {key: value.to(device) for key, value in load_weights(path, VGG).items()}
    return {
        key: value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
        for key, value in weights.items()
    }


def frames_of(video: Tensor, at: Tensor) -> Tensor:
    """Some frames of [B, 3, T, H, W] → [B·n, 3, H, W]."""
    return video[:, :, at].transpose(1, 2).flatten(0, 1)


def lpips(eye: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Mean LPIPS (VGG16) of images [N, 3, H, W] in [-1, 1]."""
    shift, scale = (x.new_tensor(v).view(3, 1, 1) for v in (SHIFT, SCALE))
    with torch.no_grad():
        wanted = [unit(tap) for tap in taps(VGG, eye, (y - shift) / scale)]
    total = x.new_zeros(())
    for layer, (tap, want) in enumerate(zip(taps(VGG, eye, (x - shift) / scale), wanted, strict=True)):
        off = (unit(tap) - want).square().mean(dim=(0, 2, 3))
        total = total + (off * eye[f"lin{layer}"]).sum()
    return total


def unit(x: Tensor) -> Tensor:
    """Every pixel's channels at unit length."""
    return x / (x.square().sum(dim=1, keepdim=True) + EPSILON).sqrt()


def gradient_loss(x: Tensor, y: Tensor) -> Tensor:
    """Charbonnier distance of first differences in space and time."""
    return sum(charbonnier(x.diff(dim=d), y.diff(dim=d)) for d in (-1, -2, -3)) / 3


def log_error(x: Tensor, y: Tensor) -> Tensor:
    """Mean logarithm of the clips' squared errors: what PSNR averages, so that easy clips count too."""
    return ((x - y).square().mean(dim=(1, 2, 3, 4)) + INVISIBLE).log().mean()


def charbonnier(x: Tensor, y: Tensor) -> Tensor:
    """A mean absolute difference that is smooth at zero."""
    return torch.sqrt((x - y).square() + 1e-6).mean()
