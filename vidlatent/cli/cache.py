"""`vidlatent cache`: its verbs, but for `run`, which fills a cache and has a file of its own."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from vidlatent.cli import cache_run, words
from vidlatent.cli import options as o
from vidlatent.cli.console import print_json, say, show_facts
from vidlatent.cli.sections import App, Flags

if TYPE_CHECKING:
    from vidlatent.jobs.cache.verify import Replay
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
    help="Cache the latents of whole datasets: `cache SRC… -o DIR` makes what is not there yet.",
)
app.command(
    "run",
    epilog="Example: vidlatent cache run clips/ -o cache/ --frames 81 --bucket 832x480 --bucket 480x832",
)(cache_run.command)
Root = Annotated[Path, typer.Argument(help="Folder of the cache.")]


@app.command(epilog="Example: vidlatent cache status cache/ --json")
def status(root: Root, as_json: o.JsonOption = False) -> int:
    """Show what a cache holds, and what failed."""
    from vidlatent.jobs.cache.status import describe_cache

    facts = describe_cache(root)
    failures = [] if as_json else facts.pop("failures")  # JSON has them among the facts
    show_facts(facts, as_json)
    for failure in failures:
        say(f"failed: {failure['error'] or failure['source']}")
    return 0


class ReplayFlags(Flags):
    """How many entries are decoded and compared with their sources, and with which weights."""

    heading = "What is decoded"
    decode: Annotated[
        int, typer.Option("--decode", min=0, help="Also decode so many entries and compare with the source.")
    ] = 0
    seed: Annotated[int, typer.Option("--seed", help="Of the choice of those entries.")] = 0
    weights: o.WeightsOption = None
    config: o.ConfigOption = None
    device: o.DeviceOption = None

    def replays(self, root: Path) -> "list[Replay]":
        """Decode that many entries of the cache at `root`, and say how well each compares with its source."""
        from vidlatent.jobs.cache.verify import replay_sample
        from vidlatent.jobs.models import ModelChoice

        choice = ModelChoice(device=self.device, weights=self.weights, config=self.config)
        return list(replay_sample(root, self.decode, self.seed, choice))


@app.command(epilog="Example: vidlatent cache verify cache/ --decode 8")
def verify(root: Root, replay: ReplayFlags, as_json: o.JsonOption = False) -> int:
    """Check every checksum; bad entries are made again by the next run."""
    from vidlatent.jobs.cache.verify import verify as findings_of

    findings = list(findings_of(root))
    damaged = [finding for finding in findings if finding is not None]
    for finding in damaged:
        say(f"damaged: {finding.what} (of {finding.source})")
    decoded = replay.replays(root)
    for one in decoded:
        quality = "identical to the source" if one.identical else f"PSNR {one.psnr:.2f} dB"
        say(f"{one.source}: {one.frames} frames, {quality}")
    say(f"{root}: {len(findings)} entries checked, {len(damaged)} damaged, {len(decoded)} decoded")
    if as_json:
        facts = {"damaged": list(map(asdict, damaged)), "decoded": list(map(asdict, decoded))}
        print_json({"checked": len(findings), **facts})
    return 1 if damaged else 0


class ExportFlags(Flags):
    """In which layout the clips of a cache are written, and where."""

    heading = "What is written"
    output: Annotated[Path, typer.Option("--output", "-o", help="A new folder.")]
    tool: Annotated[
        str,
        typer.Option(
            "--to", help="comfyui, musubi, ltx, fastvideo, finetrainers, webdataset or safetensors."
        ),
    ]
    space: Annotated[
        str | None,
        typer.Option("--space", help="raw, or normalised: (z - shift) * scale.  [default: the tool's]"),
    ] = None
    architecture: Annotated[
        str | None, typer.Option("--architecture", help="With --to musubi: hv or wan.")
    ] = None
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Of several in the cache; see cache status.")
    ] = None
    shard_size: Annotated[str, typer.Option("--shard-size", help="Of webdataset and safetensors.")] = "1G"

    def options(self) -> "ExportOptions":
        """Make the options of the export."""
        from vidlatent.jobs.exchange.export import ExportOptions

        size = words.parse_bytes(self.shard_size, "--shard-size")
        return ExportOptions(self.space, self.architecture, self.recipe, size)


@app.command(epilog="Example: vidlatent cache export cache/ -o shards/ --to webdataset")
def export(root: Root, write: ExportFlags) -> int:
    """Write a cache in the layout of another tool, or into shards."""
    from vidlatent.jobs.exchange.export import export as written

    files = 0
    for path in written(root, write.output, write.tool, write.options()):
        print(path)
        files += 1
    say(f"{write.output}: {files} files")
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
    from vidlatent.jobs.cache.gc import find_garbage, remove_garbage

    items = find_garbage(root, superseded)
    for item in items:
        say(f"{item.path}: {item.why}, {item.bytes / 1e6:.2f} MB")
    if not items:
        say(f"{root}: nothing to remove")
        return 0
    if not yes:
        typer.confirm(f"Remove {len(items)} files?", default=False, abort=True, err=True)
    say(f"{remove_garbage(root, items, superseded) / 1e6:.2f} MB freed")
    return 0
