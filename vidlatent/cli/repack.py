"""`vidlatent repack`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vidlatent.cli import choices as c
from vidlatent.cli import options as o
from vidlatent.cli import words
from vidlatent.cli.batch import pair_targets, run_each
from vidlatent.cli.budget import BudgetFlags
from vidlatent.cli.console import print_json, say, say_notices
from vidlatent.cli.sections import Flags
from vidlatent.errors import UsageError

if TYPE_CHECKING:
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
    source: Annotated[
        Path | None,
        typer.Option("--source", help="The video of these latents; without it a bound is kept instead."),
    ] = None


def command(
    inputs: Annotated[list[str], typer.Argument(help="`.latent` files, or one cache.")],
    write: WriteFlags,
    budget: BudgetFlags,
    measure: MeasureFlags,
) -> int:
    """Store latents that are there in another, smaller form; only `--store packed` needs the model."""
    from vidlatent.jobs.repack import repack

    allowed = budget.budget(write.store, write.pack)
    if allowed is not None:
        return pack_files(inputs, write, allowed, measure)
    options = write.options()
    if any(Path(source).is_dir() for source in inputs):
        return repack_cache(inputs, write, options)
    if write.output is None:
        raise UsageError("where to? a .latent is not replaced by itself", "name a file or DIR/ by -o")
    return run_each(
        pair_targets(inputs, write.output, ".latent"),
        lambda source, target, progress: repack(source, target, options, progress),
        show,
        write.as_json,
    )


def pack_files(inputs: list[str], write: WriteFlags, budget: "Budget", measure: MeasureFlags) -> int:
    """Pack files, and return the exit code."""
    from vidlatent.jobs.small.pack import PackOptions, pack

    if write.output is None or any(Path(source).is_dir() for source in inputs):
        raise UsageError("caches cannot be packed, files can", "name .latent files, and a file or DIR/ by -o")
    if measure.source is not None and len(inputs) > 1:
        raise UsageError("--source is one video, of one .latent", "pack them one by one")
    options = PackOptions(budget, measure.source, choice=measure.choice(), force=write.force)
    return run_each(
        pair_targets(inputs, write.output, ".latent"),
        lambda source, target, progress: pack(source, target, options, progress),
        show,
        write.as_json,
    )


def show(made: "Repacked") -> None:
    """Say what a file has become."""
    say_notices(made.notices)
    share = made.bytes / made.bytes_before
    say(f"{made.target}: {made.before} → {made.after}, {made.bytes / 1e6:.2f} MB, {share:.0%} of before")


def repack_cache(inputs: list[str], write: WriteFlags, options: "RepackOptions") -> int:
    """Repack the entries of one cache in their place, and return the exit code."""
    from vidlatent.jobs.cache.repack import repack_cache as repacked
    from vidlatent.jobs.cache.shards import Sharding

    if len(inputs) > 1 or write.output is not None:
        raise UsageError("a cache is repacked in its place, and alone", "name one cache, and no -o")
    size = words.parse_bytes(write.shard_size, "--shard-size")
    sharding = Sharding(write.shards, size) if write.shards else None
    done, failed, before, now = 0, 0, 0, 0
    for entry in repacked(Path(inputs[0]), options, write.recipe, sharding):
        if entry.error:
            failed += 1
            say(f"left as it is: {entry.error}")
            continue
        done, before, now = done + 1, before + entry.bytes_before, now + entry.bytes
    say(f"{inputs[0]}: {done} entries repacked, {before / 1e6:.2f} → {now / 1e6:.2f} MB; {failed} left")
    if done:
        asked = " ".join([*([f"--store {write.store}"] if write.store else []), *["--pack"] * write.pack])
        say(f"to add clips to it, cache them with {asked}; `vidlatent cache gc` finds what is of no use now")
    if write.as_json:
        print_json({"repacked": done, "failed": failed, "bytes_before": before, "bytes": now})
    return int(failed > 0)
