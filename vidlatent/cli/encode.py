"""`vidlatent encode`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vidlatent.cli import options as o
from vidlatent.cli import words
from vidlatent.cli.batch import Batch, pair_targets
from vidlatent.cli.budget import BudgetFlags
from vidlatent.cli.console import say, say_notices

if TYPE_CHECKING:
    from vidlatent.jobs.encode import EncodeOptions, EncodeResult, Model, Opener, ReadOptions
    from vidlatent.jobs.progress import Progress


class ReadFlags(o.ReadFlags):
    """What is read; `encode` takes bare frames, too, while the sources of a cache are of every kind."""

    raw: Annotated[
        str | None,
        typer.Option(
            "--raw", help="The input is bare frames, WxH:PIX_FMT:FPS, e.g. 320x240:yuv420p:30000/1001."
        ),
    ] = None

    def options(self) -> "ReadOptions":
        """Make the options of the reader."""
        return super().options(
            raw=words.parse_raw_frames(self.raw, "--raw"),
        )


class RunFlags(o.SharedModelFlags):
    """Which model is used, in which processes and in how much memory."""

    max_memory: o.MaxMemoryOption = None
    threads: o.ThreadsOption = None
    isolate: Annotated[
        bool | None,
        typer.Option(
            "--isolate/--no-isolate",
            help="Decode in a process of its own, which may crash.  [default: with several inputs]",
        ),
    ] = None
    stall_timeout: Annotated[
        float,
        typer.Option(
            "--stall-timeout",
            min=0,
            help="Isolated, give up a clip that hangs for so many seconds; 0: never.",
        ),
    ] = 300

    @contextmanager
    def opener(self, several: bool) -> Iterator["Opener"]:
        """Give, while the block runs, the function that opens videos: here, or in a process of its own."""
        from vidlatent.jobs.encode import open_video
        from vidlatent.jobs.reading.isolated import IsolatedReader

        isolated = several if self.isolate is None else self.isolate
        with IsolatedReader(self.stall_timeout) as reader:
            yield reader.open if isolated else open_video


class WriteFlags(o.PosteriorFlags):
    """What is kept of a clip, and where."""

    output: Annotated[str, typer.Option("--output", "-o", help="The .latent file, or DIR/ for several.")]
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            min=0,
            help="Of the noise, with --posterior sample; of several inputs each has the same.",
        ),
    ] = 0
    audio: o.AudioOption = "keep"
    force: o.ForceOption = False
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out inputs whose .latent is there already.")
    ] = False
    resume: o.ResumeOption = False
    as_json: o.JsonOption = False

    def options(self, read: "ReadOptions", run: RunFlags) -> "EncodeOptions":
        """Make the options of the encode job, but for the plan, which depends on the model."""
        from vidlatent.jobs.encode import EncodeOptions

        return EncodeOptions(
            read=read,
            **self.posterior_options(),
            audio=self.audio == "keep",
            max_memory=words.parse_bytes(run.max_memory, "--max-memory"),
            workers=run.workers(),
            force=self.force,
            resume=self.resume,
        )


def command(
    inputs: Annotated[
        list[str], typer.Argument(help="Videos, images, folders of frames, pipes, or - for stdin.")
    ],
    read: ReadFlags,
    cut: o.CutFlags,
    run: RunFlags,
    write: WriteFlags,
    budget: BudgetFlags,
) -> int:
    """Encode videos into .latent files."""
    from vidlatent.jobs.encode import check_before_loading, check_opening, encode
    from vidlatent.jobs.models import plan_for, use_threads
    from vidlatent.jobs.numbered import tell_of_frames
    from vidlatent.jobs.small.encoding import encode_measured, encode_packed

    allowed = budget.budget(write.store, write.pack)
    if allowed is not None:
        write.store = None  # of the floats that are packed: as computed
    options = write.options(read.options(), run)
    batch = Batch(pair_targets(inputs, write.output, ".latent"))
    say_notices(list(tell_of_frames(map(Path, inputs), "give their folder")))
    if write.skip_existing and not batch.skip(Path.exists):
        return batch.run(None, None, write.as_json)
    if not batch.check(lambda source, target: check_before_loading(source, target, write.force)):
        return 1
    if not batch.several and not run.isolate:  # of several each fails by itself
        check_opening(batch.pairs[0][0], options.read)
    run.choice().check(cut.wishes())
    model = run.load(only=None if write.measure or allowed is not None else "encode")
    use_threads(run.threads)
    options = replace(options, plan=plan_for(model.spec, cut.wishes()))

    def make(source: str | Path, target: str | Path, progress: "Progress") -> "EncodeResult":
        if allowed is not None:
            return encode_packed(source, target, model, options, allowed, progress, opener)
        return (encode_measured if write.measure else encode)(
            source, target, model, options, progress, opener
        )

    with run.opener(batch.several) as opener:
        return batch.run(
            make,
            lambda result: show(result, model),
            write.as_json,
        )


def show(result: "EncodeResult", model: "Model") -> None:
    """Say in two or three lines what came of one clip."""
    say_notices(result.notices)
    t, c, h, w = result.shape
    say(
        f"{result.target}: {result.frames} frames → latents {t}x{c}x{h}x{w} ({model.spec.name}, "
        f"{model.runtime.dtype_name} on {model.runtime.device.type}), {result.bytes / 1e6:.2f} MB, "
        f"{result.frames / result.seconds:.1f} frames/s"
    )
