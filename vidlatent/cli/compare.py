"""`vidlatent compare`."""

from typing import Annotated

import typer

from vidlatent.cli import measuring as m
from vidlatent.cli import options as o
from vidlatent.cli.console import bar
from vidlatent.jobs.measure.metric_help import METRIC_HELP

EPILOG = f"{METRIC_HELP}\n\nExample: vidlatent compare original.mp4 decoded.mp4 --metrics psnr,ssim,lpips"


def command(  # noqa: PLR0913  every flag is a parameter
    reference: Annotated[str, typer.Argument(help="The video to compare with.")],
    distorted: Annotated[str, typer.Argument(help="The video that is measured.")],
    metrics: m.MetricsOption = "psnr,ssim",
    metric_file: m.FileOption = None,
    align: Annotated[
        str,
        typer.Option(
            "--align",
            help="exact: same times and number; start: so once both begin at zero; overlap: times that both "
            "have; index: by number.",
        ),
    ] = "exact",
    scale: Annotated[bool, typer.Option("--scale", help="Resize the second video to the first.")] = False,
    frames: Annotated[int | None, typer.Option("--frames", min=1, help="At most so many frames.")] = None,
    device: o.DeviceOption = None,
    report: m.ReportOption = None,
    force: o.ForceOption = False,
    as_json: o.JsonOption = False,
) -> int:
    """Compare two videos frame by frame, aligned by their times."""
    from vidlatent.jobs.measure.compare import CompareOptions, compare
    from vidlatent.jobs.report.files import check_targets

    check_targets(report or [], force)
    wishes = CompareOptions(
        metrics=m.words(metrics),
        files=m.metric_files(metric_file),
        align=align,
        scale=scale,
        frames=frames,
        device=device,
    )
    progress = bar()
    try:
        found = compare(reference, distorted, wishes, progress)
    finally:
        progress.close()
    return m.conclude(found, report or [], force, as_json)
