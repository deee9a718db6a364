"""`vidlatent repack`."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vidlatent.cli import choices as c
from vidlatent.cli import options as o
from vidlatent.cli import words
from vidlatent.cli.batch import pair_targets, run_each
from vidlatent.cli.budget import BudgetFlags
from vidlatent.cli.console import counted, print_json, say, say_failure, say_notices, start_progress
from vidlatent.cli.sections import Flags
from vidlatent.errors import UsageError

if TYPE_CHECKING:
    from vidlatent.cli.batch import Work
    from vidlatent.jobs.cache.wanted import Wanted
    from vidlatent.jobs.repack import Repacked, RepackOptions
    from vidlatent.jobs.small.budget import Budget

EXAMPLE = "Example: vidlatent repack cache/ --store int8"


class WriteFlags(Flags):
    """In which form latents are stored, and where."""

    heading = "What is written"
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="The .latent file, or DIR/ for several; a cache has none."),
    ] = None
    store: Annotated[
        str | None,
        c.one_of(
            "--store",
            c.FILE_STORES,
            "int8: for training; packed: for keeping.  [default: floats as they are]",
            c.DTYPE_ALIASES,
        ),
    ] = None
    pack: o.PackOption = False
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Of several in the cache; see cache status.")
    ] = None
    shards: Annotated[
        str | None,
        c.one_of("--shards", c.SHARDS, "Pack entries of a cache into tar or safetensors.  [default: no]"),
    ] = None
    shard_size: o.ShardSizeOption = "1G"
    force: o.ForceOption = False
    as_json: o.JsonOption = False

    def options(self) -> "RepackOptions":
        """Make the options of the job."""
        from vidlatent.jobs.repack import RepackOptions

        return RepackOptions(self.store, self.pack, self.force)


class MeasureFlags(o.ModelFlags):
    """What packed latents are measured with."""

    heading = "With --store packed: what measures the loss"
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Name, folder or weight file.  [default: the one that made them]"),
    ] = None
    source: Annotated[
        Path | None,
        typer.Option(
            "--source",
            help="The video of one .latent; else what --measure kept, or a bound. A cache names its own.",
        ),
    ] = None


def command(
    inputs: Annotated[list[str], typer.Argument(help="`.latent` files, or one cache.")],
    write: WriteFlags,
    budget: BudgetFlags,
    measure: MeasureFlags,
) -> int:
    """Store latents that are there in a smaller form.

    Only `--store packed` needs the model.
    """
    allowed = budget.budget(write.store, write.pack)
    if any(Path(source).is_dir() for source in inputs):
        return repack_cache(inputs, write, allowed, measure)
    if write.output is None:
        if missing := next((source for source in inputs if not os.path.exists(source)), None):
            raise UsageError(
                f"{missing}: no such cache, nor file, on a disk",
                "check the path; what lies in a store is copied to a disk first",
            )
        raise UsageError("where to? a .latent is not replaced by itself", "name a file or DIR/ by -o")
    if measure.source is not None and len(inputs) > 1:
        raise UsageError("--source is one video, of one .latent", "pack them one by one")
    work = choose_work(write, allowed, measure)
    return run_each(pair_targets(inputs, write.output, ".latent"), work, show, write.as_json)


def choose_work(write: WriteFlags, budget: "Budget | None", measure: MeasureFlags) -> "Work":
    """Return what is done with each file."""
    from vidlatent.jobs.repack import repack
    from vidlatent.jobs.small.pack import PackOptions, pack

    if budget is None:
        options = write.options()
        return lambda source, target, progress: repack(source, target, options, progress)
    within = PackOptions(budget, measure.source, choice=measure.choice(), force=write.force)
    return lambda source, target, progress: pack(source, target, within, progress)


def show(made: "Repacked") -> None:
    """Say what a file has become."""
    say_notices(made.notices)
    share = made.bytes / made.bytes_before
    say(f"{made.target}: {made.before} → {made.after}, {made.bytes / 1e6:.2f} MB, {share:.0%} of before")


def repack_cache(inputs: list[str], write: WriteFlags, budget: "Budget | None", measure: MeasureFlags) -> int:
    """Repack the entries of one cache in their place, and return the exit code."""
    from vidlatent.jobs.cache.repack import repack_cache as repacked
    from vidlatent.jobs.cache.shards import Sharding

    if len(inputs) > 1 or write.output is not None:
        raise UsageError("a cache is repacked in its place, and alone", "name one cache, and no -o")
    if measure.source is not None:
        raise UsageError("--source is one video; a cache names its own", "leave --source out")
    size = words.parse_bytes(write.shard_size, "--shard-size")
    sharding = Sharding(write.shards, size) if write.shards else None
    done, failed, before, now = 0, 0, 0, 0
    with open_wanted(write, budget, measure) as wanted:
        for entry in repacked(Path(inputs[0]), wanted, write.recipe, sharding):
            if entry.error:
                failed += 1
                say_failure("left as it is", entry.error)
                continue
            say_notices([f"{entry.source}: {notice}" for notice in entry.notices])
            done, before, now = done + 1, before + entry.bytes_before, now + entry.bytes
    entries = counted(done, "entry", "entries")
    say(f"{inputs[0]}: {entries} repacked, {before / 1e6:.2f} → {now / 1e6:.2f} MB; {failed} left")
    if done:
        asked = " ".join([*([f"--store {write.store}"] if write.store else []), *["--pack"] * write.pack])
        same = " and the same budget" if budget else ""
        say(
            f"to add clips to it, cache them with {asked}{same}; "
            "`vidlatent cache gc` finds what is of no use now"
        )
    if write.as_json:
        print_json({"repacked": done, "failed": failed, "bytes_before": before, "bytes": now})
    return int(failed > 0)


@contextmanager
def open_wanted(write: WriteFlags, budget: "Budget | None", measure: MeasureFlags) -> Iterator["Wanted"]:
    """Give what the entries of a cache are to become; while the block runs, sources can be read for it."""
    from vidlatent.jobs.cache.wanted import InBudget, InForm
    from vidlatent.jobs.reading.isolated import IsolatedReader

    if budget is None:
        yield InForm(write.options())
        return
    with IsolatedReader() as reader, closing(start_progress()) as progress:
        yield InBudget(budget, reader, measure.choice(), progress)
