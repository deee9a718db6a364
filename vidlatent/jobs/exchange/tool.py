"""What a tool is to an export: the clips it is given, the options, and what it has to offer.

A tool is a file in this folder that offers one `TOOL`; `export.TOOLS` names them all.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vidlatent.errors import UsageError, parameter
from vidlatent.jobs.exchange.needs import Needs
from vidlatent.jobs.exchange.piece import Naming, Piece, by_file
from vidlatent.jobs.exchange.vaes import Vae
from vidlatent.jobs.repack import RepackOptions


@dataclass(frozen=True)
class ExportOptions:
    """How to export.

    `space` is raw or normalised; None is what the tool expects. `architecture` is that of the trainer, where
    it has several. `recipe` chooses one of several in a cache. Shards grow to about `shard_bytes`. With
    `update` the folder may hold an earlier export, and only what is missing is written. `checked` refuses a
    cache that is of no use to the tool. `split_by_shape` makes a folder for every shape.
    `text_embeddings` is a folder with a file for every clip. Names in a tree begin at `relative_to`; None is
    the folder that all sources lie in. `store` and `pack` say in which form entries go out, where a tool
    takes them in any.
    """

    space: str | None = None
    architecture: str | None = None
    recipe: str | None = None
    shard_bytes: int = 1 << 30
    update: bool = False
    checked: bool = False
    split_by_shape: bool = False
    text_embeddings: Path | None = None
    relative_to: Path | None = None
    store: str | None = None
    pack: bool = False

    @property
    def form(self) -> RepackOptions | None:
        """The form that is asked for; None leaves entries as they are."""
        return RepackOptions(self.store, self.pack) if self.store or self.pack else None


@dataclass(frozen=True)
class Export:
    """Clips that go out together, and all that a tool must know to write them.

    `pieces` are those to be written, `every` those that were written earlier too. `taken` are the files that
    are there already, by their paths below the export's folder. Once they are planned, `files` says in which
    file each clip lies, by its identity.
    """

    pieces: tuple[Piece, ...]
    options: ExportOptions
    word: str  # TOOL[:ARCH]
    architecture: str
    needs: Needs
    vae: Vae
    every: tuple[Piece, ...]
    taken: frozenset[str] = frozenset()
    files: Mapping[tuple, str] = field(default_factory=dict)

    def refuse_without_logvar(self) -> None:
        """Raise UsageError where the cache holds no logvar; a cache has it of all its clips, or of none."""
        for piece in self.pieces[:1]:
            with piece.place.open() as reader:
                if not reader.has_logvar:
                    raise UsageError(
                        f"{piece.row.source}: this layout holds mean and logvar, "
                        f"the cache only the {reader.header.posterior}",
                        f"cache with {parameter('posterior')} full",
                    )


@dataclass(frozen=True)
class OutFile:
    """One file of an export: its path below the folder, the clips in it, and what writes it."""

    path: str
    pieces: tuple[Piece, ...]
    write: Callable[[Path], object]


def no_lists(export: Export) -> Mapping[str, str]:
    """For tools that need no list of their clips."""
    return {}


@dataclass(frozen=True)
class Tool:
    """Another program that keeps latents on disk.

    `plan` says which files there will be; nothing is written yet, and whatever cannot be written is refused.
    `lists` are texts beside them, by their paths: captions, settings. `steps` says what to do next with the
    folder, in lines for its README. `naming` proposes names for a clip. Where `one_shape` is set the tool
    puts clips into batches whatever their shapes are; where `captioned` is, it trains on captions; where
    `always_raw` is, its files have no other space; where `as_stored` is, it takes entries in any form.
    `index` is the list without which they are of no use.
    """

    plan: Callable[[Export], Iterable[OutFile]]
    steps: Callable[[Export], Iterable[str]]
    lists: Callable[[Export], Mapping[str, str]] = no_lists
    naming: Naming = by_file
    one_shape: bool = False
    captioned: bool = False
    always_raw: bool = False
    as_stored: bool = False
    index: str = ""
