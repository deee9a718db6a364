"""`vidlatent cache`: its verbs, but for `run`, which fills a cache and has a file of its own."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from vidlatent.cli import cache_run, words
from vidlatent.cli import choices as c
from vidlatent.cli import options as o
from vidlatent.cli.console import agrees, counted, print_json, say, say_failure, say_notice, show_facts
from vidlatent.cli.sections import App, Flags, SectionedCommand
from vidlatent.errors import UsageError

if TYPE_CHECKING:
    from vidlatent.jobs.cache.store import Address
    from vidlatent.jobs.cache.verify import Finding, Replay
    from vidlatent.jobs.exchange.export import ExportOptions


class RunByDefault(TyperGroup):
    """`cache SRC -o DIR` is `cache run SRC -o DIR`; a source named like a command is given as ./NAME."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Add the word "run" where no verb was given."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = App(
    cls=RunByDefault,
    help="Cache the latents of datasets: `cache SRC… -o DIR` makes them.",
    epilog="Example: vidlatent cache clips/ -o cache/",
)
app.command(
    "run",
    epilog="Example: vidlatent cache run clips/ -o cache/ --frames 81 --bucket 832x480 --bucket 480x832",
)(cache_run.command)
Root = Annotated[str, typer.Argument(help="Folder of the cache; also s3://…", parser=words.parse_root)]


@app.command(epilog="Example: vidlatent cache status cache/ --json")
def status(root: Root, as_json: o.JsonOption = False) -> int:
    """Show what a cache holds, and what failed."""
    from vidlatent.jobs.cache.status import describe_cache

    facts = describe_cache(root)
    # JSON has these among the facts.
    failures, left_out = ([] if as_json else facts.pop(name) for name in ("failures", "left_out"))
    show_facts(facts, as_json)
    for clip in left_out:
        say(f"left out: {clip['reason']}")
    for failure in failures:
        say_failure("failed", failure["error"] or failure["source"])
    return 0


@app.command(epilog="Example: vidlatent cache report cache/ -o report.html")
def report(
    root: Root,
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file.")],
    clips: Annotated[int, typer.Option("--clips", min=0, help="Show at most so many.")] = 120,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="Of several in the cache; see cache status.  [default: all]"),
    ] = None,
    force: o.ForceOption = False,
    as_json: o.JsonOption = False,
) -> int:
    """Write a page to look at: what is in a cache, and what is not.

    It says why, and shows the thumbnails that `cache run --thumbnails` has kept.
    """
    from vidlatent.jobs.cache.summary import summarise
    from vidlatent.jobs.report.cache_page import write_page

    write_page(summarise(root, recipe, clips), output, force)
    print_json({"page": output}) if as_json else print(output)
    return 0


class ReplayFlags(Flags):
    """How many entries are decoded and compared with their sources, and with which weights."""

    heading = "What is decoded"
    decode: Annotated[
        int, typer.Option("--decode", min=0, help="Also decode so many entries and compare with the source.")
    ] = 0
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the choice of those entries.")] = 0
    weights: o.WeightsOption = None
    config: o.ConfigOption = None
    device: o.DeviceOption = None

    def replays(self, root: "Path | Address") -> "tuple[list[Replay], list[Finding]]":
        """Decode that many entries of the cache at `root`: how well each compares, and which could not be."""
        from vidlatent.jobs.cache.verify import Finding, replay_sample
        from vidlatent.jobs.models import ModelChoice

        choice = ModelChoice(device=self.device, weights=self.weights, config=self.config)
        found = list(replay_sample(root, self.decode, self.seed, choice))
        changed = [one for one in found if isinstance(one, Finding)]
        return [one for one in found if not isinstance(one, Finding)], changed


@app.command(epilog="Example: vidlatent cache verify cache/ --decode 8")
def verify(root: Root, replay: ReplayFlags, as_json: o.JsonOption = False) -> int:
    """Check every checksum; bad entries are made again by the next run."""
    from vidlatent.jobs.cache.verify import find_wrong_records
    from vidlatent.jobs.cache.verify import verify as findings_of

    findings, wrong = list(findings_of(root)), list(find_wrong_records(root))
    damaged = [finding for finding in findings if finding is not None]
    say_damage(root, damaged, wrong)
    decoded, changed = replay.replays(root)
    say_replays(decoded, changed)
    entries = counted(len(findings), "entry", "entries")
    say(f"{root}: {entries} checked, {len(damaged)} damaged, {len(decoded)} decoded")
    if as_json:
        rows = {"damaged": damaged, "decoded": decoded, "not_compared": changed}
        facts = {name: list(map(asdict, found)) for name, found in rows.items()}
        print_json({"checked": len(findings), **facts, "wrong_lines": wrong})
    return 1 if damaged or changed else 0


def say_damage(root: "Path | Address", damaged: "list[Finding]", wrong: list[str]) -> None:
    """Say which entries are damaged, and which lines of the cache's own files are skipped."""
    for finding in damaged:
        say(f"damaged: {finding.what} (of {finding.source})")
    for line in wrong:
        say(f"skipped: {line}")
    if unknown := sum(not finding.recorded for finding in damaged):
        say(f"note: {unknown} of these could not be looked into, or not written into the manifest of {root}")
        say("hint: verify the cache where it can be read and written, so that the next run makes them again")


def say_replays(decoded: "list[Replay]", changed: "list[Finding]") -> None:
    """Say how well entries decode, and which could not be compared with their sources."""
    for one in decoded:
        quality = "identical to the source" if one.identical else f"PSNR {one.psnr:.2f} dB"
        say(f"{one.source}: {one.frames} frames, {quality}")
    for one in changed:
        say(f"not compared: {one.what}")


class ExportFlags(Flags):
    """In which layout the clips of a cache are written, and where."""

    heading = "What is written"
    output: Annotated[Path, typer.Option("--output", "-o", help="A new folder.")]
    tool: Annotated[
        str | None,
        typer.Option("--to", help="TOOL[:ARCH] of the list below, in its layout; nothing else is checked."),
    ] = None
    trainer: Annotated[
        str | None,
        typer.Option("--for", help="As --to, but a cache that TOOL[:ARCH] cannot use is refused."),
    ] = None
    space: Annotated[
        str | None,
        c.one_of("--space", c.SPACES, "normalised: (z - shift) * scale.  [default: the tool's]"),
    ] = None
    architecture: Annotated[
        str | None, typer.Option("--architecture", help="ARCH, where it is not said as TOOL:ARCH.")
    ] = None
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Of several in the cache; see cache status.")
    ] = None
    update: Annotated[
        bool, typer.Option("--update", help="Add what an earlier export in that folder lacks.")
    ] = False
    split_by_shape: Annotated[
        bool, typer.Option("--split-by-shape", help="A folder WxHxFRAMES for each shape.")
    ] = False
    text_embeddings: Annotated[
        Path | None,
        typer.Option(
            "--text-embeddings",
            help="With fastvideo: folder of .pt, .npy or .safetensors [L, D], named as the clips.",
        ),
    ] = None
    relative_to: Annotated[
        Path | None,
        typer.Option(
            "--relative-to",
            help="Where paths begin in a tree of files.  [default: the folder that holds all sources]",
        ),
    ] = None
    shard_size: Annotated[str, typer.Option("--shard-size", help="Of webdataset and safetensors.")] = "1G"
    store: Annotated[
        str | None,
        c.one_of("--store", c.STORES, "With webdataset.  [default: as they are]", c.DTYPE_ALIASES),
    ] = None
    pack: o.PackOption = False

    def layout(self) -> str:
        """Say for which tool the export is."""
        if (self.tool is None) == (self.trainer is None):
            raise UsageError(
                "give one of --for TOOL[:ARCH] and --to TOOL[:ARCH]",
                "vidlatent cache export --help lists the tools",
            )
        return self.tool or self.trainer

    def options(self) -> "ExportOptions":
        """Make the options of the export."""
        from vidlatent.jobs.exchange.export import ExportOptions

        return ExportOptions(
            space=self.space,
            architecture=self.architecture,
            recipe=self.recipe,
            shard_bytes=words.parse_bytes(self.shard_size, "--shard-size"),
            update=self.update,
            checked=self.trainer is not None,
            split_by_shape=self.split_by_shape,
            text_embeddings=self.text_embeddings,
            relative_to=self.relative_to,
            store=self.store,
            pack=self.pack,
        )


class ExportCommand(SectionedCommand):
    """A command whose help ends with the tools, and what each needs of a cache."""

    def format_epilog(self, ctx: typer.Context, formatter: Any) -> None:
        """Write the tools, then the example."""
        from vidlatent.jobs.exchange.needs import needs_help

        with formatter.section("Tools, and what each needs"):
            formatter.write_dl(needs_help())
        super().format_epilog(ctx, formatter)


@app.command(cls=ExportCommand, epilog="Example: vidlatent cache export cache/ -o musubi/ --for musubi:wan")
def export(root: Root, write: ExportFlags, as_json: o.JsonOption = False) -> int:
    """Write a cache in the layout of another tool, or into shards."""
    from vidlatent.jobs.exchange.export import export as written

    paths = []
    for path in written(root, write.output, write.layout(), write.options(), say_notice):
        paths.append(path)
        if not as_json:
            print(path)
    if as_json:
        print_json({"files": paths})
    say(f"{write.output}: {counted(len(paths), 'file')}, and README.md, which says what to do next")
    return 0


@app.command(epilog="Example: vidlatent cache compact cache/")
def compact(root: Root, as_json: o.JsonOption = False) -> int:
    """Fold the journals of a cache into a snapshot, which opens fast.

    Runs do so themselves as the cache grows.
    """
    from vidlatent.jobs.cache.compact import compact as fold_all

    folded = fold_all(root)
    for one in folded:
        away = f"{counted(one.journals, 'journal')} put away, which `vidlatent cache gc` removes"
        say(f"{one.path}: {counted(one.records, 'record')}, {counted(one.added, 'line')} added, {away}")
    if not folded:
        say(f"{root}: nothing to compact")
    if as_json:
        print_json([asdict(one) for one in folded])
    return 0


@app.command(epilog="Example: vidlatent cache index cache/")
def index(root: Root, as_json: o.JsonOption = False) -> int:
    """Make the catalog by which LatentDataset opens a large cache.

    LatentDataset makes it itself where it is missing; that takes a while.
    """
    from vidlatent.jobs.readback.mapped import make_catalog

    folder, counts = make_catalog(root)
    print_json({"catalog": folder, "recipes": counts}) if as_json else print(folder)
    for recipe, count in counts.items():
        say(f"recipe {recipe}: {counted(count, 'clip')}")
    return 0


@app.command(epilog="Example: vidlatent cache gc cache/ --superseded")
def gc(
    root: Root,
    superseded: Annotated[
        bool, typer.Option("--superseded", help="Also entries of sources that were changed and cached again.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: o.JsonOption = False,
) -> int:
    """List what is of no more use in a cache, ask, and remove it."""
    from vidlatent.jobs.cache.gc import find_garbage, remove_garbage

    items = find_garbage(root, superseded)
    for item in items:
        say(f"{item.path}: {item.why}, {item.bytes / 1e6:.2f} MB")
    if not items:
        say(f"{root}: nothing to remove")
    question = f"Remove {counted(len(items), 'file')}?"
    if items and not yes and not agrees(question, False, "nothing was removed"):
        return 1
    freed = remove_garbage(root, items, superseded) if items else 0
    if items:
        say(f"{freed / 1e6:.2f} MB freed")
    if as_json:
        print_json({"removed": [item.path for item in items], "bytes": freed})
    return 0
