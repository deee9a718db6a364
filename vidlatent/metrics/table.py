"""Which metrics there are, what each needs, and how one is made. Imports torch only when one is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vidlatent.errors import UsageError, parameter

if TYPE_CHECKING:
    from vidlatent.metrics.base import Metric


@dataclass(frozen=True)
class Offer:
    """One metric as a user meets it; `make` takes the file it needs, if it needs one."""

    summary: str
    needs: str
    make: "Callable[[Path | None], Metric]"
    file: str | None = None  # what the file is that the user must give


def _psnr(_: Path | None) -> "Metric":
    from vidlatent.metrics.psnr import Psnr

    return Psnr()


def _ssim(_: Path | None) -> "Metric":
    from vidlatent.metrics.ssim import Ssim

    return Ssim()


def _ms_ssim(_: Path | None) -> "Metric":
    from vidlatent.metrics.ssim import MsSsim

    return MsSsim()


def _lpips(weights: Path | None) -> "Metric":
    from vidlatent.metrics.lpips import Lpips

    return Lpips(weights=weights)


def _lpips_vgg(weights: Path | None) -> "Metric":
    from vidlatent.metrics.lpips import VGG, Lpips

    return Lpips(VGG, weights)


def _flicker(_: Path | None) -> "Metric":
    from vidlatent.metrics.flicker import Flicker

    return Flicker()


def _vmaf(_: Path | None) -> "Metric":
    from vidlatent.metrics.vmaf import Vmaf

    return Vmaf()


def _xpsnr(_: Path | None) -> "Metric":
    from vidlatent.metrics.xpsnr import Xpsnr

    return Xpsnr()


def _fvd(i3d: Path | None) -> "Metric":
    from vidlatent.metrics.fvd import Fvd

    return Fvd(i3d)


METRICS: Mapping[str, Offer] = {
    "psnr": Offer("signal to noise, dB, more is better", "nothing", _psnr),
    "ssim": Offer("structural similarity, 1 is best", "nothing", _ssim),
    "ms-ssim": Offer("the same at five scales, 1 is best", "sides of 176 pixels", _ms_ssim),
    "lpips": Offer("perceptual distance (AlexNet), 0 is best", "nothing, its weights are bundled", _lpips),
    "lpips-vgg": Offer("perceptual distance (VGG16), 0 is best", "a file", _lpips_vgg, "LPIPS VGG16 weights"),
    "flicker": Offer("change between frames that the source has not, 0 is best", "two frames", _flicker),
    "vmaf": Offer(
        "perceptual quality, 100 is best (97.4 where nothing moves)",
        "an ffmpeg with libvmaf (imageio-ffmpeg has one)",
        _vmaf,
    ),
    "xpsnr": Offer("perceptually weighted PSNR, dB", "an ffmpeg with xpsnr (imageio-ffmpeg has one)", _xpsnr),
    "fvd": Offer("distance of sets of clips, 0 is best", "a file, and 32 frames", _fvd, "I3D as TorchScript"),
}


def make_metrics(names: list[str], files: Mapping[str, Path] | None = None) -> "list[Metric]":
    """Fresh metrics by name, in order; `files` gives those that need one their file."""
    given = dict(files or {})
    for name in (*names, *given):
        if name not in METRICS:
            raise UsageError(f"{name}: no such metric", f"there are {', '.join(METRICS)}")
    for name, path in given.items():
        if not path.is_file():
            raise UsageError(f"{path}: no such file, given for {name}")
    for name in names:
        if METRICS[name].file and name not in given:
            raise UsageError(
                f"{name} needs a file: {METRICS[name].file}",
                f"add {parameter('files')} {name}=PATH, or leave {name} out",
            )
    return [METRICS[name].make(given.get(name)) for name in names]
