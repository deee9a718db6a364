"""`vidlatent compare`."""

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from vidlatent.cli import measuring as m
from vidlatent.cli import options as o
from vidlatent.cli.console import bar

if TYPE_CHECKING:
    from vidlatent.jobs.measure.compare import CompareOptions

EXAMPLE = "Example: vidlatent compare original.mp4 decoded.mp4 --metrics psnr,ssim,lpips"


class MeasureFlags(m.MetricFlags):
    """Which metrics, on which device, and how the frames of two videos find each other."""

    metrics: m.MetricsOption = "psnr,ssim"
    align: Annotated[
        str,
        typer.Option(
            "--align",
            help="exact: same times and number; start: so once both begin at zero; overlap: times that both "
            "have; index: by number.",
        ),
    ] = "exact"
    scale: Annotated[bool, typer.Option("--scale", help="Resize the second video to the first.")] = False
    frames: o.FramesOption = None
    device: o.DeviceOption = None

    def options(self) -> "CompareOptions":
        """All that the comparison is told."""
        from vidlatent.jobs.measure.compare import CompareOptions

        return CompareOptions(
            **self.names_and_files(),
            align=self.align,
            scale=self.scale,
            frames=self.frames,
            device=self.device,
        )


def command(
    reference: Annotated[str, typer.Argument(help="The video to compare with.")],
    distorted: Annotated[str, typer.Argument(help="The video that is measured.")],
    measure: MeasureFlags,
    write: m.ReportFlags,
) -> int:
    """Compare two videos frame by frame, aligned by their times."""
    from vidlatent.jobs.measure.compare import compare

    write.check()
    options = measure.options()
    with closing(bar()) as progress:
        report = compare(reference, distorted, options, progress)
    return write.write(report)
