"""Where things lie in the folder of a cache."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vidlatent.errors import BadInput, UsageError
from vidlatent.files import naming_disk_errors
from vidlatent.io.file_parts import FilePart
from vidlatent.io.latent.reader import LatentReader, open_latent

MARKER = "cache.json"
FORMAT = "vidlatent-cache"
VERSION = 1
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Place:
    """Where the bytes of an entry are: a file of its own, or `part`, (offset, bytes), of a shard."""

    path: Path
    part: tuple[int, int] | None = None

    def open(self) -> LatentReader:
        """Open the latents."""
        return open_latent(self.path, self.part)

    def open_raw(self) -> BinaryIO:
        """Open the entry's bytes, as a file that begins and ends with them."""
        return self.path.open("rb") if self.part is None else FilePart(self.path, *self.part)  # type: ignore

    def holds(self, nbytes: int) -> bool:
        """Whether an entry of so many bytes may be there: its file is as long, or its shard long enough."""
        try:
            size = self.path.stat().st_size
        except OSError:
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
    """The folder of a cache, and what its parts are called; see docs/cache.md."""

    root: Path

    @classmethod
    def create(cls, root: Path) -> "Store":
        """The cache at `root`, made where there is none. A folder with other things in it is refused."""
        if (root / MARKER).exists():
            return cls.open(root)
        if root.exists() and not root.is_dir():
            raise UsageError(f"{root}: is no folder", "name a new folder")
        with naming_disk_errors(root):
            root.mkdir(parents=True, exist_ok=True)
            strangers = [p.name for p in root.iterdir() if p.name != MARKER and not p.name.startswith(".")]
            if strangers and not (root / MARKER).exists():
                raise UsageError(
                    f"{root}: holds other things ({strangers[0]}), and is no cache", "name a new folder"
                )
            store = cls(root)
            store.write_note(root / MARKER, json.dumps({"format": FORMAT, "version": VERSION}))
        return store

    def write_note(self, path: Path, text: str) -> None:
        """Put a small text into the cache, whole or not at all; other processes may write the same."""
        if path.exists():
            return
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_text(f"{text}\n")
        os.replace(partial, path)

    @classmethod
    def open(cls, root: Path) -> "Store":
        """The cache at `root`; raises BadInput where there is none."""
        try:
            marker = json.loads((root / MARKER).read_text())
        except (OSError, ValueError) as e:
            raise BadInput(
                f"{root}: not a latent cache (no {MARKER})", "make one with `vidlatent cache SRC -o DIR`"
            ) from e
        if marker.get("format") != FORMAT or marker.get("version") != VERSION:
            raise BadInput(f"{root}: cache version {marker.get('version')}, this vidlatent reads {VERSION}")
        return cls(root)

    @property
    def objects(self) -> Path:
        """Entries, one file per key."""
        return self.root / "objects"

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
    def recipes(self) -> Path:
        """What runs asked for: a JSON file per recipe."""
        return self.root / "recipes"

    @property
    def claims(self) -> Path:
        """Lock files of the entries that are being made."""
        return self.root / "claims"

    def entry_path(self, key: str) -> Path:
        """The file in which the entry of `key` lies, or will lie, until it is packed."""
        return self.objects / key[:2] / f"{key}.latent"
