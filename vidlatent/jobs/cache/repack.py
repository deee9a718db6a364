"""A cache in another form: each entry is written anew under the key of that form, then the old one goes.

An entry's key says how it is stored, so a repacked one has another: the key that a run with that `store` and
`pack` gives it, and such a run finds it there. First the new file is complete and was read again, then the
manifest has the rows of both, then the old file is removed. So a kill between any two steps loses nothing,
and the next repack goes on from there; files that are of no more use are found by `cache gc`.
"""

import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from vidlatent.errors import BadInput, UsageError, flag
from vidlatent.files import (
    naming_disk_errors,
    naming_read_errors,
    refuse_unwritable,
    replace_on_close,
    sha256_file,
)
from vidlatent.io.coded.form import Form
from vidlatent.io.latent.reader import LatentReader
from vidlatent.io.latent.strict_json import dump
from vidlatent.io.sources.urls import Root
from vidlatent.jobs.cache.claims import Claims
from vidlatent.jobs.cache.entry import make_entry_folder
from vidlatent.jobs.cache.frames import CUT
from vidlatent.jobs.cache.manifest import Manifest, ManifestRow, refuse_unknown_recipe
from vidlatent.jobs.cache.packer import Packer
from vidlatent.jobs.cache.shards import Sharding
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.cache.wanted import InForm, Wanted
from vidlatent.jobs.repack import RepackOptions, check_repacked, describe_repacked, write_as
from vidlatent.jobs.storing import name_store

_OF_RUN = ("chunk_s", "take", "smaller", "frames_rule", "buckets", "slots")  # decided by now, for each clip


@dataclass(frozen=True)
class RepackedEntry:
    """What became of an entry: its clip, and its bytes before and now; or why it stays as it is.

    `notices` say what was measured of it.
    """

    source: str
    bytes_before: int = 0
    bytes: int = 0
    error: str = ""
    notices: tuple[str, ...] = ()


def repack_cache(
    root: Root, wanted: Wanted | RepackOptions, recipe: str | None = None, sharding: Sharding | None = None
) -> Iterator[RepackedEntry]:
    """Repack every entry of a cache, or those of one `recipe`, that is not as it is `wanted` yet.

    Those that cannot be repacked, or that another process works on, stay as they are, and are told of. With
    `sharding` the new entries are packed into shards.
    """
    wanted = InForm(wanted) if isinstance(wanted, RepackOptions) else wanted
    store = Store.open_on_disk(root, "repack")
    refuse_unwritable(store.manifest)  # once, and not for each entry
    with closing(Manifest(store)) as manifest:
        packer = Packer(store, manifest, sharding) if sharding else None
        repacker = EntryRepacker(store, manifest, wanted)
        for rows in group_by_entry(root, manifest, recipe):
            for made in repacker.repack(rows):
                if packer is not None and made.key:
                    packer.offer(made)
            if repacker.told is not None:
                yield repacker.told
        if packer is not None:
            packer.finish()


def group_by_entry(root: Root, manifest: Manifest, recipe: str | None) -> list[list[ManifestRow]]:
    """The rows of entries that are there: those of one entry together, as several clips may share it.

    Raises UsageError where the cache knows no such recipe.
    """
    found: dict[str, list[ManifestRow]] = defaultdict(list)
    recipes = set()
    for row in manifest.rows():
        recipes.add(row.recipe)
        if recipe in (None, row.recipe) and manifest.is_present(row):
            found[row.key].append(row)
    refuse_unknown_recipe(root, recipes, recipe)
    return list(found.values())


class EntryRepacker:
    """Repacks entries of one cache; `told` is what became of the last one, None where there was no need."""

    def __init__(self, store: Store, manifest: Manifest, wanted: Wanted) -> None:
        self._store, self._manifest, self._wanted = store, manifest, wanted
        self._recipes: dict[str, dict] = {}  # what the recipes of the cache ask for
        self.told: RepackedEntry | None = None

    def repack(self, rows: Sequence[ManifestRow]) -> list[ManifestRow]:
        """Repack the entry of these rows; the new rows of its clips, none where it stays as it is."""
        first, self.told = rows[0], None
        try:
            with self._manifest.place(first).open() as latents:
                if self._wanted.is_there(latents, self._read_recipe(first.recipe)["recipe"]):
                    return []
                return self._repack(latents, rows, [self._name(row) for row in rows])
        except (BadInput, UsageError) as e:
            self.told = RepackedEntry(first.source, error=f"{first.source}: {e.text(flag)}")
            return []

    def _repack(
        self, latents: LatentReader, rows: Sequence[ManifestRow], new: list[ManifestRow]
    ) -> list[ManifestRow]:
        old, key = rows[0], new[0].key
        claims = Claims.take(self._store.claims, (key, old.key))
        if claims is None:
            raise UsageError(
                "another process works on this entry", "repack again when it has ended: what is done stays"
            )
        try:
            self._manifest.refresh()  # of rows that others have written of this entry, ours must be the last
            form, said = self._wanted.find_form(latents, rows)
            path = self._write(latents, old.key, key, form)
            facts = {"bytes": path.stat().st_size, "checksum": sha256_file(path)}
            facts |= {"dtype": form.dtype, "form": form.name, "price": dict(form.facts().get("price", {}))}
            before = f"repacked from {name_store(latents.form, latents.dtype)}"
            new = [replace(row, **facts, notices=(*row.notices, before, *said)) for row in new]
            self._manifest.replace_rows(rows, new)
            self._remove(old.key)
        finally:
            claims.release()
        self.told = RepackedEntry(old.source, old.bytes, new[0].bytes, notices=said)
        return new

    def _write(self, latents: LatentReader, old: str, key: str, form: Form) -> Path:
        """Write an entry in its new form, read it again, and give it the thumbnails of the old one.

        Until it is complete, one that a run has made in that form stays where it is.
        """
        path, header = self._store.entry_path(key), describe_repacked(latents)
        make_entry_folder(path)
        write_as(latents, path, form, replace(header, extra={**header.extra, "cache_key": key}))
        try:
            check_repacked(latents, path)
        except BaseException:
            with suppress(OSError):  # where it has no row, `cache gc` finds it
                path.unlink(missing_ok=True)
            raise
        strip = self._store.thumbnail_path(old)
        if strip.is_file():
            target = self._store.thumbnail_path(key)
            make_entry_folder(target)
            with replace_on_close(target) as partial:
                shutil.copyfile(strip, partial)
        return path

    def _remove(self, key: str) -> None:
        """Remove the files of an entry that was replaced; one in a shard goes when the whole shard does."""
        for path in (self._store.entry_path(key), self._store.thumbnail_path(key)):
            with naming_disk_errors(path):
                path.unlink(missing_ok=True)

    def _name(self, row: ManifestRow) -> ManifestRow:
        """The row of a clip as it will be: of the recipe, and with the key, that ask for what is wanted."""
        told = self._read_recipe(row.recipe)
        asked = self._wanted.ask(told["recipe"])
        key = rename(row, told, asked)
        if key is None:
            raise BadInput(
                f"{self._store.root}: its key does not follow from recipe {row.recipe}",
                "another version of vidlatent has made it; cache it again in that form",
            )
        text = dump(ask_for(told, asked))
        recipe = hashlib.sha256(text.encode()).hexdigest()[: len(row.recipe)]
        self._store.write_recipe(recipe, text)
        return replace(row, recipe=recipe, key=key, shard="", offset=0)

    def _read_recipe(self, name: str) -> dict:
        if name not in self._recipes:
            path = self._store.recipes / f"{name}.json"
            try:
                with naming_read_errors(path):
                    told = json.loads(path.read_bytes())
                if not all(isinstance(told.get(part), dict) for part in ("recipe", "model")):
                    raise ValueError("no recipe of a cache")
            except (ValueError, AttributeError, RecursionError) as e:
                raise BadInput(f"{path}: damaged ({e})", "the next run of that recipe writes it again") from e
            self._recipes[name] = told
        return self._recipes[name]


def ask_for(told: Mapping, asked: Mapping[str, object]) -> dict:
    """What a recipe asks for, as JSON values, with another form in it."""
    facts = {name: value for name, value in told["recipe"].items() if name not in asked}
    return {**told, "recipe": {**facts, **{name: value for name, value in asked.items() if value}}}


def rename(row: ManifestRow, told: Mapping, asked: Mapping[str, object]) -> str | None:
    """The key of a clip's entry in another form; None where its key now does not follow from its recipe.

    Keys are hashes, and what went into one beside the recipe is found by trying: see `make_entry_key`, and
    `make_off_grid_key` for clips whose frames did not fit.
    """
    facts = {name: value for name, value in told["recipe"].items() if name not in _OF_RUN}
    clip = {**told, "recipe": {**facts, "read": dict(row.read)}}
    slots = ({"slots": "of the clip"}, {})
    rule = told["recipe"].get("frames_rule", CUT)
    off_grid = ({}, *({"off_grid": rule, "exact": exact} for exact in (False, True)))
    for more, off in product(slots, off_grid):
        said = {**clip, "recipe": {**clip["recipe"], **more}, "source": row.source_sha256, **off}
        if _hash(said) == row.key:
            return _hash(ask_for(said, asked))
    return None


def _hash(said: Mapping) -> str:
    return hashlib.sha256(dump(said).encode()).hexdigest()
