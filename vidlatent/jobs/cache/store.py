"""Where things lie in the folder of a cache."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from vidlatent.durable import make_folder
from vidlatent.errors import BadInput, UsageError
from vidlatent.files import naming_disk_errors, naming_read_errors, write_note
from vidlatent.io.file_parts import FilePart
from vidlatent.io.latent.strict_json import brief
from vidlatent.io.sources.ranges import StoredFile
from vidlatent.io.sources.urls import Address, Root, parse_root
from vidlatent.jobs.cache.bucket import open_home
from vidlatent.jobs.cache.claims import Held
from vidlatent.jobs.cache.home import DISK, Home

if TYPE_CHECKING:
    from vidlatent.io.latent.reader import LatentReader

MARKER = "cache.json"
FORMAT = "vidlatent-cache"
VERSION = 1
WITH_SNAPSHOTS = 2  # journals may have been folded: a release that knows none would miss their rows
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Place:
    """Where the bytes of an entry are: a file of its own, or `part`, (offset, bytes), of a shard.

    `nbytes` says how many a file of its own has, where it is known: then nobody needs to ask.
    """

    path: Path
    part: tuple[int, int] | None = None
    home: Home = DISK
    nbytes: int | None = None

    @property
    def file(self) -> Path | StoredFile:
        """What opens the file that the bytes are in; its text is what people call it."""
        return self.home.at(self.path, self.nbytes if self.part is None else sum(self.part))

    @property
    def size(self) -> int | None:
        """The bytes of the file, those of other entries included; None where there is none."""
        return self.home.size(self.path)

    def open(self) -> "LatentReader":
        """Open the latents."""
        from vidlatent.io.latent.reader import open_latent  # torch is loaded where latents are read

        return open_latent(self.file, self.part)

    def open_raw(self) -> BinaryIO:
        """Open the entry's bytes, as a file that begins and ends with them."""
        return self.file.open("rb") if self.part is None else FilePart(self.file, *self.part)  # type: ignore

    def holds(self, nbytes: int) -> bool:
        """Whether an entry of so many bytes may be there: its file is as long, or its shard long enough."""
        if (size := self.size) is None:
            return False
        return size == nbytes if self.part is None else size >= sum(self.part)

    def sha256(self) -> str:
        """Hex sha256 of the bytes."""
        with self.open_raw() as file:
            digest = hashlib.sha256()
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
            return digest.hexdigest()


@dataclass(frozen=True)
class Store:
    """The folder of a cache, and what its parts are called; see docs/cache.md.

    Of a cache in an object store it is the folder in which this process works on it: see home.py.
    """

    root: Path
    home: Home = DISK

    @classmethod
    def at(cls, root: Root | str) -> "Store":
        """Where a cache lies, or will lie: a folder, or the address of one in an object store."""
        root = parse_root(root)
        if not isinstance(root, Address):
            return cls(root)
        home, folder = open_home(root)
        home.pull_file(folder / MARKER)
        return cls(folder, home)

    @property
    def name(self) -> str:
        """What people call the cache."""
        return self.home.name(self.root)

    @classmethod
    def create(cls, root: Root | str) -> "Store":
        """The cache at `root`, made where there is none. A folder with other things in it is refused.

        A marker that is gone or damaged is written again.
        """
        store = cls.at(root)
        if store._read_marker() is not None:
            return cls.open(root)
        store.refuse_other()
        with naming_disk_errors(store.root):
            make_folder(store.root)
        store.refuse_other()
        store._write_marker(WITH_SNAPSHOTS if store._holds_snapshots() else VERSION)
        return store

    def refuse_other(self) -> None:
        """Raise UsageError where something else is at `root`: a file, or a folder with other things."""
        if not self.root.exists():
            return
        if not self.root.is_dir():
            raise UsageError(f"{self.root}: is no folder", "name a new folder")
        with naming_disk_errors(self.root):
            strangers = [name for name in self.home.list_names(self.root) if not name.startswith(".")]
        if strangers and not self._holds_rows() and self._read_marker() is None:
            raise UsageError(
                f"{self.name}: holds other things ({strangers[0]}), and is no cache", "name a new folder"
            )

    def allow_snapshots(self) -> None:
        """Keep releases that know no snapshots from the cache; called before the first journal is folded."""
        if (self._read_marker() or {}).get("version") != WITH_SNAPSHOTS:
            self._write_marker(WITH_SNAPSHOTS)

    def _write_marker(self, version: int) -> None:
        self._publish_note(self.root / MARKER, f"{json.dumps({'format': FORMAT, 'version': version})}\n")

    def _publish_note(self, path: Path, text: str) -> None:
        write_note(path, text)
        self.home.publish(path)

    def write_recipe(self, name: str, text: str) -> None:
        """Keep what a run asks for, under its name, before any row speaks of it."""
        path, note = self.recipes / f"{name}.json", f"{text}\n"
        with suppress(OSError):
            if path.read_bytes() == note.encode():
                return
        with naming_disk_errors(self.recipes):
            make_folder(self.recipes)
        self._publish_note(path, note)

    @classmethod
    def open(cls, root: Root | str) -> "Store":
        """The cache at `root`; raises BadInput where there is none.

        Where rows are there the marker may be gone or damaged: `find_damaged_notes` says so.
        """
        store = cls.at(root)
        marker = store._read_marker()
        if marker is None:
            if not store._holds_rows():
                raise BadInput(
                    f"{store.name}: not a latent cache (no {MARKER})",
                    "make one with `vidlatent cache SRC -o DIR`",
                )
        elif marker.get("format") != FORMAT or marker.get("version") not in (VERSION, WITH_SNAPSHOTS):
            version = brief(marker.get("version"))
            raise BadInput(
                f"{store.name}: cache version {version}, this vidlatent reads {VERSION} and {WITH_SNAPSHOTS}"
            )
        store.home.pull(store.recipes)
        return store

    @classmethod
    def open_on_disk(cls, root: Root | str, what: str) -> "Store":
        """The same for what can be done on a disk alone; raises UsageError where the cache is in a store."""
        if isinstance(parse_root(root), Address):
            raise UsageError(f"{root}: in a store, and `{what}` is for disks", "use the tools of the store")
        return cls.open(root)

    def find_damaged_notes(self) -> Iterator[tuple[Path | StoredFile, str]]:
        """The marker and every recipe whose text is not what was written, and what is wrong with it."""
        if self._read_marker() is None:
            yield self.home.at(self.root / MARKER), "gone or damaged; the next run writes it again"
        for path in sorted(self.recipes.glob("*.json")):
            with naming_read_errors(path):
                digest = hashlib.sha256(path.read_bytes().removesuffix(b"\n")).hexdigest()
            if path.stem != digest[: len(path.stem)]:
                yield self.home.at(path), "not what was written; the next run of that recipe writes it again"

    def _read_marker(self) -> dict | None:
        """What the marker says; None where there is none, or none that can be read."""
        try:
            marker = json.loads((self.root / MARKER).read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        return marker if isinstance(marker, dict) else None

    def _holds_rows(self) -> bool:
        self.home.pull(self.manifest)
        return any(self.manifest.glob("*.jsonl")) or self._holds_snapshots()

    def _holds_snapshots(self) -> bool:
        return any(self.manifest.glob("snapshot-*"))

    @property
    def objects(self) -> Path:
        """Entries, one file per key."""
        return self.root / "objects"

    @property
    def thumbnails(self) -> Path:
        """Small pictures of the clips, one file per key."""
        return self.root / "thumbnails"

    @property
    def shards(self) -> Path:
        """Packed entries, many to a file."""
        return self.root / "shards"

    @property
    def manifest(self) -> Path:
        """The journals of the manifest."""
        return self.root / "manifest"

    @property
    def index(self) -> Path:
        """The journals of what is known of source files."""
        return self.root / "index"

    @property
    def catalogs(self) -> Path:
        """What LatentDataset reads of large caches, a folder for each state of the manifest."""
        return self.root / "catalog"

    @property
    def recipes(self) -> Path:
        """What runs asked for: a JSON file per recipe."""
        return self.root / "recipes"

    @property
    def runs(self) -> Path:
        """Notes of runs after which nothing was left to do."""
        return self.root / "runs"

    @property
    def claims(self) -> Path:
        """Lock files of the entries that are being made."""
        return self.root / "claims"

    def take_claim(self, name: str) -> Held | None:
        """The claim of this name; None while another process (or another claim of this one) holds it."""
        return self.home.take_claim(self.claims / name)

    def has(self, path: Path) -> bool:
        """Whether a file of the cache is there."""
        return self.home.size(path) is not None

    def entry_path(self, key: str) -> Path:
        """The file in which the entry of `key` lies, or will lie, until it is packed."""
        return self.objects.joinpath(key[:2], f"{key}.latent")  # one step: it is asked for every clip

    def thumbnail_path(self, key: str) -> Path:
        """The file of the thumbnails of an entry, if they were asked for when it was made."""
        return self.thumbnails / key[:2] / f"{key}.jpg"
