"""`vidlatent compare`."""

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from vidlatent.cli import choices as c
from vidlatent.cli import measuring as m
from vidlatent.cli import options as o
from vidlatent.cli.console import start_progress

if TYPE_CHECKING:
    from vidlatent.jobs.measure.compare import CompareOptions

EXAMPLE = "Example: vidlatent compare original.mp4 decoded.mp4 --metrics psnr,ssim,lpips"


class MeasureFlags(m.MetricFlags):
    """Which metrics are measured, on which device, and which frame is compared with which."""

    metrics: m.MetricsOption = "psnr,ssim"
    align: Annotated[
        str,
        c.one_of(
            "--align",
            c.ALIGNMENTS,
            "exact: same times and number; start: so once both begin at zero; overlap: times that both "
            "have; index: by number.",
        ),
    ] = "exact"
    scale: Annotated[bool, typer.Option("--scale", help="Resize the second video to the first.")] = False
    frames: o.FramesOption = None
    device: o.DeviceOption = None

    def options(self, play_s: float) -> "CompareOptions":
        """Make the options of the comparison."""
        from vidlatent.jobs.measure.compare import CompareOptions

        return CompareOptions(
            **self.metric_options(),
            align=self.align,
            scale=self.scale,
            frames=self.frames,
            device=self.device,
            play_s=play_s,
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
    options = measure.options(write.play_s)
    with write.journal() as journal:
        with closing(start_progress()) as progress:
            report = compare(reference, distorted, options, progress, journal)
        return write.write(report)
