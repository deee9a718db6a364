"""From a cache to what other tools read: each in its own layout, and in the space that it expects."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from vidlatent.durable import make_folder
from vidlatent.errors import UsageError, parameter
from vidlatent.files import naming_disk_errors
from vidlatent.io.sources.urls import Root
from vidlatent.jobs.cache.manifest import Manifest, ManifestRow
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.exchange import (
    ai_toolkit,
    comfyui,
    fastvideo,
    finetrainers,
    ltx2,
    ltx_video,
    musubi,
    safetensors,
    simpletuner,
    webdataset,
)
from vidlatent.jobs.exchange.checks import Say, check_cache
from vidlatent.jobs.exchange.names import find_folder, find_root, give_names
from vidlatent.jobs.exchange.needs import NEEDS, NORMALISED, SPACES, Needs, split_words
from vidlatent.jobs.exchange.piece import Piece
from vidlatent.jobs.exchange.record import Record
from vidlatent.jobs.exchange.tool import Export, ExportOptions, Tool
from vidlatent.jobs.exchange.vaes import Vae
from vidlatent.jobs.exchange.work import Work, plan_work

__all__ = ["TOOLS", "ExportOptions", "export"]
TOOLS: Mapping[str, Tool] = {
    "comfyui": comfyui.TOOL,
    "musubi": musubi.TOOL,
    "ltx": ltx2.TOOL,  # its name in 0.1.0
    "ltx2": ltx2.TOOL,
    "ltx-video": ltx_video.TOOL,
    "fastvideo": fastvideo.TOOL,
    "finetrainers": finetrainers.TOOL,
    "ai-toolkit": ai_toolkit.TOOL,
    "simpletuner": simpletuner.TOOL,
    "webdataset": webdataset.TOOL,
    "safetensors": safetensors.TOOL,
}


def be_silent(line: str) -> None:
    """For callers that want no notices."""


def export(
    root: Root, target: Path, tool: str, options: ExportOptions | None = None, say: Say = be_silent
) -> Iterator[Path]:
    """Write every clip of the cache at `root` into `target` as a tool expects it; each file as it is done.

    `tool` is TOOL or TOOL:ARCH. What can be wrong with any of it is found before the first file is written.
    `say` is told, a line each, what the user should know of the result.
    """
    work = prepare(root, target, tool, options or ExportOptions(), say)
    with naming_disk_errors(target):
        make_folder(target)
    yield from work.write(target, say)


def prepare(root: Root, target: Path, tool: str, options: ExportOptions, say: Say) -> Work:
    """Find out what is to be written, and write nothing; raises where anything is wrong."""
    name, architecture = choose_tool(tool, options)
    before = read_earlier(target, options)
    manifest = Manifest(Store.open(root))
    rows = manifest.present_rows(options.recipe)
    if not rows:
        raise UsageError(
            f"{root}: holds no clip to export", "vidlatent cache status says what became of each"
        )
    vae = find_vae(manifest, rows[0])
    architecture = choose_architecture(name, architecture, vae, options.checked)
    word = f"{name}:{architecture}" if architecture else name
    begin = Path(before.root) if before else (options.relative_to or find_root(rows)).absolute()
    record = Record(word, options.space, str(begin), options.split_by_shape)
    if before:
        before.refuse_other(record, target)
    unnamed = [
        Piece(row, manifest.place(row), "", options.space, folder=find_folder(row, begin)) for row in rows
    ]
    known = {clip.identity: (clip.name, clip.number) for clip in (before.clips if before else ())}
    pieces = tuple(give_names(unnamed, TOOLS[name].naming, known))
    export = Export(pieces, options, word, architecture, NEEDS[name][architecture], vae, every=pieces)
    check_cache(export, TOOLS[name], say)
    return plan_work(export, TOOLS[name], target, record, before)


def choose_tool(tool: str, options: ExportOptions) -> tuple[str, str | None]:
    """The tool that `TOOL[:ARCH]` names, and the architecture, None where nobody said it."""
    name, architecture = split_words(tool)
    asked = parameter("trainer") if options.checked else parameter("tool")
    if name not in TOOLS:
        raise UsageError(f"{asked} {name}: unknown", f"one of {', '.join(TOOLS)}")
    refuse_idle_options(name, options)
    return name, architecture or options.architecture


def refuse_idle_options(name: str, options: ExportOptions) -> None:
    """Raise UsageError for options that are unknown, or that mean nothing to the tool."""
    if options.space not in (None, *SPACES):
        raise UsageError(f"{parameter('space')} {options.space}: unknown", f"one of {', '.join(SPACES)}")
    if TOOLS[name].always_raw and options.space == NORMALISED:
        raise UsageError(f"{parameter('space')} {NORMALISED}: {name} keeps latents raw", "leave it out")
    if options.form is not None and not TOOLS[name].as_stored:
        asked = f"{parameter('store')} {options.store}" if options.store else parameter("pack")
        takers = ", ".join(taker for taker, tool in TOOLS.items() if tool.as_stored)
        raise UsageError(f"{asked}: {name} takes floats as they are", f"leave it out: only for {takers}")
    if options.text_embeddings is not None and name != "fastvideo":
        raise UsageError(
            f"{parameter('text_embeddings')}: {name} does not keep them with the latents",
            "leave it out: only fastvideo does",
        )


def choose_architecture(name: str, asked: str | None, vae: Vae, checked: bool) -> str:
    """The architecture that was asked for; else the only one that takes these latents; "" is none at all."""
    known: Mapping[str, Needs] = NEEDS[name]
    if asked is not None and asked not in known:
        names = ", ".join(filter(None, known))
        raise UsageError(
            f"{parameter('architecture')} {asked}: unknown to {name}",
            f"one of {names}" if names else f"{name} has none: leave it out",
        )
    if asked is not None:
        return asked
    named = {architecture: needs for architecture, needs in known.items() if architecture}
    fitting = [architecture for architecture, needs in named.items() if vae.is_one_of(needs.models)]
    if len(fitting) == 1:
        return fitting[0]
    if "" in known and not (checked and named):
        return ""
    raise UsageError(
        f"{parameter('trainer') if checked else parameter('tool')} {name}: which of its architectures?",
        f"say {name}:{(fitting or list(named))[0]}, or another of {', '.join(fitting or named)}",
    )


def read_earlier(target: Path, options: ExportOptions) -> Record | None:
    """The record of the export that is to be updated; raises UsageError where `target` may not be used."""
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target}: is a file", "name a folder")
    if not options.update and target.exists() and any(target.iterdir()):
        raise UsageError(
            f"{target}: is not empty",
            f"name a new folder: nothing is written over. {parameter('update')} adds what is missing there",
        )
    return Record.read(target) if options.update else None


def find_vae(manifest: Manifest, row: ManifestRow) -> Vae:
    """The VAE that made the latents of a row, and so of all rows of its recipe."""
    with manifest.place(row).open() as reader:
        return Vae.of_header(reader.header, reader.shape[1])
