"""Checks whether everything that the manifest promises is there, and still what it was."""

import errno
import fnmatch
import math
import os
import random
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from vidlatent.engine.model import Model
from vidlatent.errors import BadInput, OutOfResources, UsageError
from vidlatent.io.read.source import open_video
from vidlatent.io.sources.ranges import StoredFile
from vidlatent.io.sources.urls import Root
from vidlatent.jobs.cache.fold import FOLDED
from vidlatent.jobs.cache.index import LOOKS
from vidlatent.jobs.cache.journal import find_wrong_lines
from vidlatent.jobs.cache.key import parse_read
from vidlatent.jobs.cache.manifest import DONE, ROWS, Manifest, ManifestRow
from vidlatent.jobs.cache.scan import MEMBER
from vidlatent.jobs.cache.shard_safetensors import index_path, read_index
from vidlatent.jobs.cache.snapshot import open_snapshot
from vidlatent.jobs.cache.store import Place, Store
from vidlatent.jobs.decode import check_model, choose_model, decode_frames
from vidlatent.jobs.models import ModelChoice
from vidlatent.metrics.psnr import Psnr

SLICE_FRAMES = 16


@dataclass(frozen=True)
class Finding:
    """A damaged or missing entry, the source it was made of, and what is wrong.

    `recorded` says whether the manifest knows by now, so that the next run makes the entry again. It does not
    know where it cannot be written, and of files that nobody could look into.
    """

    key: str
    source: str
    what: str
    recorded: bool = True


@dataclass(frozen=True)
class Replay:
    """How well one entry decodes, against its source read again; `psnr` is in dB, None where `identical`."""

    source: str
    key: str
    frames: int
    psnr: float | None
    identical: bool


def verify(root: Root) -> Iterator[Finding | None]:
    """Check the checksum of every entry: None for one that is good, a Finding for one that is not.

    Findings are written into the manifest, so that the next run makes those entries again.
    """
    store = Store.open(root)
    with closing(Manifest(store)) as manifest:
        for row in manifest.entries():
            if row.status != DONE:
                continue
            try:
                what = find_fault(manifest, row)
            except BadInput as e:  # nobody knows whether it is damaged
                yield Finding(row.key, row.source, e.what, recorded=False)
                continue
            if what is None:
                yield None
                continue
            yield Finding(row.key, row.source, what, record_damage(manifest, row, what))


def record_damage(manifest: Manifest, row: ManifestRow, what: str) -> bool:
    """Write into the manifest what is wrong with an entry; False where nothing can be written there."""
    try:
        manifest.add_damaged(row, what)
    except (UsageError, OutOfResources):
        return False
    return True


def find_wrong_records(root: Root) -> Iterator[str]:
    """Say of every line and every note of a cache that is not what a cache writes where it is, and why.

    Such a line is skipped by whoever reads the cache; what it told is found out again by the next run.
    """
    store = Store.open(root)
    for path, why in (*store.find_damaged_notes(), *find_damaged_indexes(store)):
        yield f"{path}: {why}"
    for folder, kind in ((store.manifest, ROWS), (store.index, LOOKS)):
        for place in (folder, folder / FOLDED):
            store.home.pull(place)
            for line in find_wrong_lines(place, kind.parse):
                yield f"{store.home.at(line.path)}: line {line.number}: {line.why}"
        try:
            open_snapshot(folder, kind).check()
        except BadInput as e:
            yield e.what


def find_damaged_indexes(store: Store) -> Iterator[tuple[Path | StoredFile, str]]:
    """The index beside each safetensors shard that does not say what a shard's index says, and why."""
    names = store.home.list_names(store.shards)
    for name in sorted(fnmatch.filter(names, "shard-*.safetensors")):
        index = store.home.at(index_path(store.shards / name))
        try:
            read_index(index)
        except BadInput as e:
            yield index, f"{e.what.removeprefix(f'{index}: ')}; entries are found without it"


def find_fault(manifest: Manifest, row: ManifestRow) -> str | None:
    """What is wrong with an entry; None where all is well. Raises BadInput where it may not be read now."""
    place = manifest.place(row)
    if place.size is None:
        return f"{place.file}: missing"
    if not place.holds(row.bytes):
        wanted = row.bytes if place.part is None else sum(place.part)
        return f"{place.file}: expected {wanted} bytes, found {place.size}"
    try:
        if _hash_twice(place) == row.checksum:
            return None
    except OSError as e:
        what = f"{place.file}: cannot be read ({e.strerror})"
        if e.errno == errno.EIO:  # the disk has lost it
            return what
        raise BadInput(what) from e
    try:
        with place.open() as latents:
            latents.verify()
    except BadInput as e:
        return e.what
    return f"{place.file}: whole, but not what was written (sha256 differs)"


def _hash_twice(place: Place) -> str:
    """The sha256 of an entry. What the disk has lost it says again; a server that was away may be back."""
    try:
        return place.sha256()
    except OSError as e:
        if e.errno != errno.EIO:
            raise
        return place.sha256()


def replay_sample(
    root: Root, count: int, seed: int = 0, choice: ModelChoice | None = None
) -> Iterator[Replay | Finding]:
    """Decode `count` entries, drawn with `seed`; compare each with its source, read again the same way.

    A Finding comes in place of what cannot be compared: its source has changed, or cannot be read any more.
    """
    manifest = Manifest(Store.open(root))
    rows = [row for row in manifest.rows() if can_replay(manifest, row)]
    models: dict[str, Model] = {}
    for row in random.Random(seed).sample(rows, min(count, len(rows))):
        try:
            if row.model not in models:
                with manifest.place(row).open() as latents:
                    models[row.model] = choose_model(latents, choice or ModelChoice())
            yield compare_entry(manifest, row, models[row.model])
        except BadInput as e:
            yield Finding(row.key, row.source, e.what, recorded=False)


def can_replay(manifest: Manifest, row: ManifestRow) -> bool:
    """Whether the entry is there, and its source still a file that can be read again."""
    return manifest.is_present(row) and MEMBER not in row.source and os.path.exists(row.source)


def compare_entry(manifest: Manifest, row: ManifestRow, model: Model) -> Replay:
    """PSNR in dB over all frames of one entry; raises BadInput where the source has other frames by now."""
    psnr = Psnr()
    with (
        manifest.place(row).open() as latents,
        open_video(row.source, parse_read(row.read)) as video,
    ):
        check_model(latents, model)
        decoded = decode_frames(latents, model, latents.header.plan, (0, row.frames))
        read = (frame.rgb for frame in video.frames())
        frames = 0
        for pairs in _slice_pairs(zip(decoded, read, strict=False)):
            distorted, reference = (torch.from_numpy(np.stack(side)) for side in zip(*pairs, strict=True))
            psnr.update(reference, distorted)
            frames += len(pairs)
        more = sum(1 for _ in islice(read, row.cut + 1))  # `zip` ends where the entry does
    then, now = row.frames + row.cut, frames + more
    if now > then:
        raise BadInput(f"{row.source}: has more than the {then} frames that it had when it was cached")
    if now < then:
        raise BadInput(f"{row.source}: has {now} frames now, had {then} when it was cached")
    value = psnr.result()["pooled"]
    identical = math.isinf(value)
    return Replay(row.source, row.key, frames, None if identical else round(value, 3), identical)


def _slice_pairs(pairs: Iterator[tuple]) -> Iterator[list[tuple]]:
    held: list[tuple] = []
    for pair in pairs:
        held.append(pair)
        if len(held) == SLICE_FRAMES:
            yield held
            held = []
    if held:
        yield held
