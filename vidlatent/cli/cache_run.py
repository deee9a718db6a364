"""`vidlatent cache run`: the latents of a whole dataset."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidlatent.cli import options as o
from vidlatent.cli import words
from vidlatent.cli.console import print_json, say, show_facts
from vidlatent.cli.sections import Flags
from vidlatent.errors import TERMINATED, UsageError

if TYPE_CHECKING:
    from vidlatent.jobs.cache.options import RunOptions
    from vidlatent.jobs.cache.shards import Sharding
    from vidlatent.jobs.cache.tally import Tally
    from vidlatent.jobs.encode import Model
    from vidlatent.windows import Plan


class ReadFlags(o.ReadFlags):
    """How the videos of a dataset become clips."""

    bucket: Annotated[
        list[str] | None,
        typer.Option("--bucket", help="Cut and resize to the WxH of these nearest in shape; repeatable."),
    ] = None
    chunk: Annotated[
        str | None, typer.Option("--chunk", help="Cut long videos into clips of so many seconds.")
    ] = None

    def recipe_options(self) -> dict[str, Any]:
        """Make those options of a recipe that say what is read."""
        return {
            "read": self.options(),
            "buckets": tuple(
                words.parse_integers(text, "--bucket", 2, "832x480") for text in self.bucket or ()
            ),
            "chunk_s": words.parse_seconds(self.chunk, "--chunk"),
        }


class CutFlags(Flags):
    """How a clip is cut in time and space."""

    heading = "How to cut"
    window: o.WindowOption = None
    tile: o.TileOption = None
    overlap: o.OverlapOption = None
    name: o.PlanOption = None
    past: o.PastOption = None

    def plan(self, model: "Model") -> "Plan":
        """Make the plan by which the model cuts clips; nothing is decoded, so latents are cut as it likes."""
        return model.plan(self.window, None, self.tile, self.overlap, self.name, self.past)


class RunFlags(o.ModelFlags):
    """Which model is used, and in which processes, on which machines and in how much memory."""

    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Reading processes.  [default: cores - 1]")
    ] = None
    max_memory: Annotated[
        str | None, typer.Option("--max-memory", help="Keep all processes within this much, e.g. 8G.")
    ] = None
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Of the model on a CPU.  [default: all cores]")
    ] = None
    stall_timeout: Annotated[
        float,
        typer.Option(
            "--stall-timeout", min=0, help="Give up a clip that hangs for so many seconds; 0: never."
        ),
    ] = 300
    engine: Annotated[str, typer.Option("--engine", help="local, or ray: actors on a Ray cluster.")] = "local"
    ray_address: Annotated[
        str | None,
        typer.Option("--ray-address", help="Of a running cluster.  [default: one on this machine]"),
    ] = None
    ray_actors: Annotated[
        int | None, typer.Option("--ray-actors", min=1, help="Models in the cluster.  [default: one per GPU]")
    ] = None

    def load(self) -> "Model":
        """Load the model; without --device onto the GPU that torchrun or SLURM gave this process."""
        from vidlatent.jobs.cache.plan import choose_device

        model = self.choice().load(device=choose_device())
        for name in model.spec.changed().keys() - model.spec.changed(latents=True).keys():
            raise UsageError(f"--set {name}: says how latents are decoded", "set it when they are decoded")
        return model

    def runner(self, model: "Model") -> Callable[..., "Tally"]:
        """Return the function that does the work: with this model here, or with models on a Ray cluster."""
        from vidlatent.jobs.cache.run import run as run_here

        if self.engine == "ray":
            from vidlatent.jobs.cache.ray_engine import RayOptions, run_on_ray

            where = RayOptions(self.ray_address, self.ray_actors)
            return partial(run_on_ray, choice=self.choice(), where=where)
        if self.engine != "local":
            raise UsageError(f"--engine {self.engine}: unknown", "local or ray")
        return partial(run_here, model=model)


class TaskFlags(Flags):
    """Which clips of the dataset are encoded by this run, and how many may fail."""

    heading = "Which clips"
    shard: Annotated[
        str | None,
        typer.Option("--shard", help="Part I/N of the clips.  [default: as torchrun or SLURM say, else all]"),
    ] = None
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try failed clips again.")] = False
    max_failures: Annotated[
        int, typer.Option("--max-failures", min=0, help="Exit with 1 where more clips failed.")
    ] = 0
    caption_extension: Annotated[
        list[str] | None,
        typer.Option(
            "--caption-extension",
            help="Of texts beside videos that are their captions; repeatable.  [default: .txt, .caption]",
        ),
    ] = None
    rehash: Annotated[
        bool, typer.Option("--rehash", help="Hash all sources, also those that look unchanged.")
    ] = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done.")] = False

    def options(self, run: RunFlags, shards: "Sharding | None") -> "RunOptions":
        """Make the options of the run: those that change no entry."""
        from vidlatent.jobs.cache.captions import choose_extensions
        from vidlatent.jobs.cache.options import RunOptions
        from vidlatent.jobs.cache.plan import choose_part

        return RunOptions(
            workers=run.workers,
            max_memory=words.parse_bytes(run.max_memory, "--max-memory"),
            shard=choose_part(self.shard),
            retry_failed=self.retry_failed,
            rehash=self.rehash,
            threads=run.threads,
            stall_timeout=run.stall_timeout,
            shards=shards,
            caption_extensions=choose_extensions(self.caption_extension),
        )


class WriteFlags(o.PosteriorFlags):
    """What is kept of every clip, and where."""

    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the cache.")]
    shards: Annotated[
        str | None,
        typer.Option("--shards", help="Pack entries into tar (WebDataset) or safetensors.  [default: no]"),
    ] = None
    shard_size: Annotated[str, typer.Option("--shard-size", help="Bytes of a shard, about.")] = "1G"
    as_json: o.JsonOption = False

    def sharding(self) -> "Sharding | None":
        """Say into which shards entries are packed; None leaves every entry a file."""
        from vidlatent.jobs.cache.shards import Sharding

        return (
            Sharding(self.shards, words.parse_bytes(self.shard_size, "--shard-size")) if self.shards else None
        )


def command(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Folders, videos, globs, tables (.csv .tsv .json .jsonl .parquet), WebDataset tars."
        ),
    ],
    read: ReadFlags,
    cut: CutFlags,
    run: RunFlags,
    tasks: TaskFlags,
    write: WriteFlags,
) -> int:
    """Make the latents of every clip that are not in the cache yet."""
    from vidlatent.jobs.cache.estimate import dry_run
    from vidlatent.jobs.cache.recipe import Recipe

    options, from_reading = tasks.options(run, write.sharding()), read.recipe_options()
    model = run.load()
    recipe = Recipe(plan=cut.plan(model), **from_reading, **write.posterior_options())
    if tasks.dry_run:
        show_facts(asdict(dry_run(sources, write.output, model, recipe, options)), write.as_json)
        return 0
    work = partial(run.runner(model), sources, write.output, recipe=recipe, options=options)
    return show(work, tasks.max_failures, write.as_json)


def show(work: Callable[..., "Tally"], max_failures: int, as_json: bool) -> int:
    """Do the work while its progress is shown, say what came of it, and return the exit code."""
    from vidlatent.cli.cache_progress import ClipLines, describe

    with closing(ClipLines()) as progress:
        tally = work(progress=progress)
    say(describe(tally))
    say(f"{tally.done} made, {tally.reused} there already, {tally.skipped} no videos, {tally.failed} failed")
    if tally.failed:
        say("`vidlatent cache status` says what failed, and why")
    if as_json:
        print_json(tally.facts())
    if tally.stopped:
        say("stopped as asked; the same command goes on where this ended")
        return TERMINATED
    return 1 if tally.failed > max_failures else 0
