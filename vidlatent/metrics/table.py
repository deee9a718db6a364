"""Which metrics there are, what each needs, and how to make one. torch is imported only for making one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vidlatent.errors import UsageError, parameter

if TYPE_CHECKING:
    from vidlatent.metrics.base import Metric


@dataclass(frozen=True)
class MetricOffer:
    """One metric as it is offered to a user; `make` takes the file that it needs, if it needs one."""

    summary: str
    needs: str
    make: "Callable[[Path | None], Metric]"
    file: str | None = None  # what kind of file the user must give


def _make_psnr(_: Path | None) -> "Metric":
    from vidlatent.metrics.psnr import Psnr

    return Psnr()


def _make_ssim(_: Path | None) -> "Metric":
    from vidlatent.metrics.ssim import Ssim

    return Ssim()


def _make_ms_ssim(_: Path | None) -> "Metric":
    from vidlatent.metrics.ssim import MsSsim

    return MsSsim()


def _make_lpips(weights: Path | None) -> "Metric":
    from vidlatent.metrics.lpips import Lpips

    return Lpips(weights=weights)


def _make_lpips_vgg(weights: Path | None) -> "Metric":
    from vidlatent.metrics.lpips import VGG, Lpips

    return Lpips(VGG, weights)


def _make_flicker(_: Path | None) -> "Metric":
    from vidlatent.metrics.flicker import Flicker

    return Flicker()


def _make_vmaf(_: Path | None) -> "Metric":
    from vidlatent.metrics.vmaf import Vmaf

    return Vmaf()


def _make_xpsnr(_: Path | None) -> "Metric":
    from vidlatent.metrics.xpsnr import Xpsnr

    return Xpsnr()


def _make_fvd(i3d: Path | None) -> "Metric":
    from vidlatent.metrics.fvd import Fvd

    return Fvd(i3d)


METRICS: Mapping[str, MetricOffer] = {
    "psnr": MetricOffer("signal to noise, dB, more is better", "nothing", _make_psnr),
    "ssim": MetricOffer("structural similarity, 1 is best", "nothing", _make_ssim),
    "ms-ssim": MetricOffer("the same at five scales, 1 is best", "sides of 176 pixels", _make_ms_ssim),
    "lpips": MetricOffer(
        "perceptual distance (AlexNet), 0 is best", "nothing, its weights are bundled", _make_lpips
    ),
    "lpips-vgg": MetricOffer(
        "perceptual distance (VGG16), 0 is best", "a file", _make_lpips_vgg, "LPIPS VGG16 weights"
    ),
    "flicker": MetricOffer(
        "change between frames that the source has not, 0 is best", "two frames", _make_flicker
    ),
    "vmaf": MetricOffer(
        "perceptual quality, 100 is best (97.4 where nothing moves)",
        "an ffmpeg with libvmaf (imageio-ffmpeg has one)",
        _make_vmaf,
    ),
    "xpsnr": MetricOffer(
        "perceptually weighted PSNR, dB", "an ffmpeg with xpsnr (imageio-ffmpeg has one)", _make_xpsnr
    ),
    "fvd": MetricOffer(
        "distance of sets of clips, 0 is best", "a file, and 32 frames", _make_fvd, "I3D as TorchScript"
    ),
}


def check_metrics(names: Sequence[str], files: Mapping[str, Path] | None = None) -> None:
    """Raise UsageError where nothing is to be measured, or metrics cannot be made; `files` are theirs."""
    given = dict(files or {})
    if not names:
        raise UsageError(
            f"{parameter('metrics')}: no metric is named, so nothing would be measured",
            f"there are {', '.join(METRICS)}",
        )
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


def make_metrics(names: Sequence[str], files: Mapping[str, Path] | None = None) -> "list[Metric]":
    """Make new metrics by their names, in that order; `files` names the files of those that need one."""
    given = dict(files or {})
    if names:
        check_metrics(names, given)
    return [METRICS[name].make(given.get(name)) for name in names]
