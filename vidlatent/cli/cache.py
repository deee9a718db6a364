"""`vidlatent cache`."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from vidlatent.cli import options as o
from vidlatent.cli.console import print_json, say
from vidlatent.errors import UsageError

if TYPE_CHECKING:
    from vidlatent.jobs.cache.tally import Tally


class RunByDefault(TyperGroup):
    """`cache SRC -o DIR` is `cache run SRC -o DIR`; a source named like a command is given as ./NAME."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Put in the verb that was left out."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=RunByDefault,
    help="Cache the latents of whole datasets: `cache SRC… -o DIR` makes what is not there yet.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Root = Annotated[Path, typer.Argument(help="Folder of the cache.")]


@app.command(
    epilog="Example: vidlatent cache run clips/ -o cache/ --frames 81 --bucket 832x480 --bucket 480x832"
)
def run(  # noqa: PLR0913  every flag is a parameter
    sources: Annotated[
        list[str],
        typer.Argument(help="Folders, videos, globs, tables (.csv .tsv .jsonl .parquet), WebDataset tars."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the cache.")],
    model: o.ModelOption = None,
    weights: o.WeightsOption = None,
    config: o.ConfigOption = None,
    device: o.DeviceOption = None,
    dtype: o.DtypeOption = None,
    posterior: o.PosteriorOption = "mode",
    seed: o.SeedOption = 0,
    store: o.StoreOption = None,
    size: o.SizeOption = None,
    bucket: Annotated[
        list[str] | None,
        typer.Option("--bucket", help="Cut and resize to the WxH of these nearest in shape; repeatable."),
    ] = None,
    crop: o.CropOption = None,
    fit: o.FitOption = "stretch",
    fps: o.FpsOption = None,
    start: o.StartOption = None,
    end: o.EndOption = None,
    frames: o.FramesOption = None,
    chunk: Annotated[
        str | None, typer.Option("--chunk", help="Cut long videos into clips of so many seconds.")
    ] = None,
    deinterlace: o.DeinterlaceOption = False,
    tonemap: o.TonemapOption = False,
    allow_truncated: o.AllowTruncatedOption = False,
    window: o.WindowOption = None,
    tile: o.TileOption = None,
    overlap: o.OverlapOption = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Reading processes.  [default: cores - 1]")
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option("--max-memory", help="Keep all processes within this much, e.g. 8G.")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", help="Part I/N of the clips.  [default: as torchrun or SLURM say, else all]"),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try failed clips again.")] = False,
    max_failures: Annotated[
        int, typer.Option("--max-failures", min=0, help="Exit with 1 where more clips failed.")
    ] = 0,
    rehash: Annotated[
        bool, typer.Option("--rehash", help="Hash all sources, also those that look unchanged.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Of the model on a CPU.  [default: all cores]")
    ] = None,
    shards: Annotated[
        str | None,
        typer.Option("--shards", help="Pack entries into tar (WebDataset) or safetensors.  [default: no]"),
    ] = None,
    shard_size: Annotated[str, typer.Option("--shard-size", help="Bytes of a shard, about.")] = "1G",
    stall_timeout: Annotated[
        float,
        typer.Option(
            "--stall-timeout", min=0, help="Give up a clip that hangs for so many seconds; 0: never."
        ),
    ] = 300,
    engine: Annotated[
        str, typer.Option("--engine", help="local, or ray: actors on a Ray cluster.")
    ] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option("--ray-address", help="Of a running cluster.  [default: one on this machine]"),
    ] = None,
    ray_actors: Annotated[
        int | None, typer.Option("--ray-actors", min=1, help="Models in the cluster.  [default: one per GPU]")
    ] = None,
    plan_only: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done.")] = False,
    as_json: o.JsonOption = False,
) -> int:
    """Make the latents of every clip that are not in the cache yet."""
    from vidlatent.jobs.cache.plan import device_from, shard_from
    from vidlatent.jobs.cache.recipe import Recipe
    from vidlatent.jobs.cache.run import RunOptions
    from vidlatent.jobs.cache.run import run as run_cache
    from vidlatent.jobs.cache.shards import Sharding
    from vidlatent.jobs.encode import load_model

    read = o.reading(
        start,
        size,
        crop,
        end,
        fps,
        frames=frames,
        fit=fit,
        deinterlace=deinterlace,
        tonemap=tonemap,
        allow_truncated=allow_truncated,
    )
    options = RunOptions(
        workers=workers,
        max_memory=o.nbytes(max_memory),
        shard=shard_from(shard),
        retry_failed=retry_failed,
        rehash=rehash,
        threads=threads,
        stall_s=stall_timeout,
        shards=Sharding(shards, o.nbytes(shard_size)) if shards else None,
    )
    ready = load_model(model or "pocket", device or device_from(), dtype, weights, config)
    recipe = Recipe(
        plan=ready.plan(window, None, tile, overlap),
        read=read,
        posterior=posterior,
        seed=seed,
        store=store,
        buckets=tuple(o.integers(text, "--bucket", 2, "832x480") for text in bucket or ()),
        chunk_s=o.seconds(chunk, "--chunk"),
    )
    if plan_only:
        return show_plan(sources, output, ready, recipe, options, as_json)
    if engine == "ray":
        from vidlatent.jobs.cache.ray_engine import ModelChoice, RayOptions, run_on_ray

        choice = ModelChoice(model, device, dtype, weights, config)
        where = RayOptions(ray_address, ray_actors)
        return show_run(
            partial(run_on_ray, sources, output, choice, recipe, options, where), max_failures, as_json
        )
    if engine != "local":
        raise UsageError(f"--engine {engine}: unknown", "local or ray")
    return show_run(partial(run_cache, sources, output, ready, recipe, options), max_failures, as_json)


def show_plan(sources, output, model, recipe, options, as_json: bool) -> int:
    """What a run would do."""
    from vidlatent.cli.tables import show_facts
    from vidlatent.jobs.cache.estimate import dry_run

    facts = asdict(dry_run(sources, output, model, recipe, options))
    print_json(facts) if as_json else show_facts(facts)
    return 0


def show_run(run_cache: Callable[..., "Tally"], max_failures: int, as_json: bool) -> int:
    """Run, and say what came of it."""
    from vidlatent.cli.app import TERMINATED
    from vidlatent.cli.cache_progress import ClipLines, line

    progress = ClipLines()
    try:
        tally = run_cache(progress=progress)
    finally:
        progress.close()
    say(line(tally))
    say(f"{tally.done} made, {tally.reused} there already, {tally.skipped} no videos, {tally.failed} failed")
    if tally.failed:
        say("`vidlatent cache status` says what failed, and why")
    if as_json:
        print_json(tally.facts())
    if tally.stopped:
        say("stopped as asked; the same command goes on where this ended")
        return TERMINATED
    return 1 if tally.failed > max_failures else 0


@app.command(epilog="Example: vidlatent cache status cache/ --json")
def status(root: Root, as_json: o.JsonOption = False) -> int:
    """Show what a cache holds, and what failed."""
    from vidlatent.cli.tables import show_facts
    from vidlatent.jobs.cache.status import status as status_of

    facts = status_of(root)
    if as_json:
        print_json(facts)
        return 0
    failures = facts.pop("failures")
    show_facts(facts)
    for failure in failures:
        say(f"failed: {failure['error'] or failure['source']}")
    return 0


@app.command(epilog="Example: vidlatent cache verify cache/ --decode 8")
def verify(  # noqa: PLR0913  every flag is a parameter
    root: Root,
    decode: Annotated[
        int, typer.Option("--decode", min=0, help="Also decode so many entries and compare with the source.")
    ] = 0,
    seed: o.SeedOption = 0,
    weights: o.WeightsOption = None,
    config: o.ConfigOption = None,
    device: o.DeviceOption = None,
    as_json: o.JsonOption = False,
) -> int:
    """Check every checksum; bad entries are made again by the next run."""
    from vidlatent.jobs.cache.verify import replays
    from vidlatent.jobs.cache.verify import verify as findings_of
    from vidlatent.jobs.decode import ModelChoice

    findings = list(findings_of(root))
    bad = [asdict(finding) for finding in findings if finding is not None]
    for finding in bad:
        say(f"damaged: {finding['what']} (of {finding['source']})")
    choice = ModelChoice(device=device, weights=weights, config=config)
    decoded = [asdict(replay) for replay in replays(root, decode, seed, choice)]
    for replay in decoded:
        say(f"{replay['source']}: {replay['frames']} frames, {quality(replay)}")
    say(f"{root}: {len(findings)} entries checked, {len(bad)} damaged, {len(decoded)} decoded")
    if as_json:
        print_json({"checked": len(findings), "damaged": bad, "decoded": decoded})
    return 1 if bad else 0


def quality(replay: dict) -> str:
    """How well an entry decoded."""
    return "identical to the source" if replay["identical"] else f"PSNR {replay['psnr']:.2f} dB"


@app.command(epilog="Example: vidlatent cache export cache/ -o shards/ --to webdataset")
def export(  # noqa: PLR0913  every flag is a parameter
    root: Root,
    output: Annotated[Path, typer.Option("--output", "-o", help="A new folder.")],
    to: Annotated[
        str,
        typer.Option(
            "--to", help="comfyui, musubi, ltx, fastvideo, finetrainers, webdataset or safetensors."
        ),
    ],
    space: Annotated[
        str | None,
        typer.Option("--space", help="raw, or normalised: (z - shift) * scale.  [default: the tool's]"),
    ] = None,
    architecture: Annotated[
        str | None, typer.Option("--architecture", help="With --to musubi: hv or wan.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Of several in the cache; see cache status.")
    ] = None,
    shard_size: Annotated[str, typer.Option("--shard-size", help="Of webdataset and safetensors.")] = "1G",
) -> int:
    """Write a cache in the layout of another tool, or into shards."""
    from vidlatent.jobs.exchange.export import ExportOptions
    from vidlatent.jobs.exchange.export import export as written

    options = ExportOptions(space, architecture, recipe, o.nbytes(shard_size))
    files = 0
    for path in written(root, output, to, options):
        print(path)
        files += 1
    say(f"{output}: {files} files")
    return 0


@app.command(epilog="Example: vidlatent cache gc cache/ --superseded")
def gc(
    root: Root,
    superseded: Annotated[
        bool, typer.Option("--superseded", help="Also entries of sources that were changed and cached again.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> int:
    """List what is of no more use in a cache, ask, and remove it."""
    from vidlatent.jobs.cache.gc import garbage, remove

    items = garbage(root, superseded)
    for item in items:
        say(f"{item.path}: {item.why}, {item.bytes / 1e6:.2f} MB")
    if not items:
        say(f"{root}: nothing to remove")
        return 0
    if not yes:
        typer.confirm(f"Remove {len(items)} files?", default=False, abort=True, err=True)
    say(f"{remove(root, items, superseded) / 1e6:.2f} MB freed")
    return 0
