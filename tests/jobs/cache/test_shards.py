"""Entries in shards are the entries, whoever packed them and whenever somebody was killed."""

import hashlib
import json
import os
import re
import shutil
import tarfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from helpers import cache_clips as clips
from safetensors import safe_open

from vidlatent.cli import app
from vidlatent.errors import BadInput, UsageError
from vidlatent.jobs.cache import packer as packing_module
from vidlatent.jobs.cache.claims import Claim
from vidlatent.jobs.cache.gc import find_garbage, remove_garbage
from vidlatent.jobs.cache.journal import JournalReader
from vidlatent.jobs.cache.manifest import Manifest, open_manifest
from vidlatent.jobs.cache.options import RunOptions
from vidlatent.jobs.cache.packer import PACK, Packer, move_pack_mark, pack_all, read_pack_mark
from vidlatent.jobs.cache.plan import Part
from vidlatent.jobs.cache.shard_safetensors import list_safetensors
from vidlatent.jobs.cache.shard_tar import list_tar
from vidlatent.jobs.cache.shards import Sharding
from vidlatent.jobs.cache.status import describe_cache
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.cache.verify import replay_sample, verify
from vidlatent.jobs.exchange.export import export
from vidlatent.jobs.models import ModelChoice
from vidlatent.jobs.readback.dataset import LatentDataset
from vidlatent.jobs.readback.stream import LatentStream

KINDS = ("tar", "safetensors")
CLIPS = 6
SHARD_BYTES = 300_000  # two or three entries


def packing(kind: str, size: int = SHARD_BYTES, **options) -> RunOptions:
    return RunOptions(workers=1, shards=Sharding(kind, size), **options)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Six clips, one of them twice, and one that is none."""
    folder = clips.write_clips(tmp_path_factory.mktemp("shards") / "videos", CLIPS)
    clips.write_clip(folder / "copy.avi", 0, frames=5)
    (folder / "empty.mp4").touch()
    clips.cache(folder, folder.parent / "loose")
    return folder


@pytest.fixture(scope="module")
def tar(videos) -> Path:
    """They in tars, while they were made; not to be changed."""
    clips.cache(videos, videos.parent / "tar", packing("tar"))
    return videos.parent / "tar"


@pytest.fixture(scope="module")
def safetensors(videos) -> Path:
    """Likewise in safetensors."""
    clips.cache(videos, videos.parent / "safetensors", packing("safetensors"))
    return videos.parent / "safetensors"


@pytest.fixture(params=KINDS)
def packed(request) -> Path:
    return request.getfixturevalue(request.param)


def entries(root: Path) -> dict[str, str]:
    """Every key, and the sha256 of the bytes of its entry, wherever they lie."""
    manifest = open_manifest(root)
    places = {row.key: manifest.place(row) for row in manifest.rows() if row.status == "done"}
    return {key: place.sha256() for key, place in places.items()}


def members(root: Path) -> list[str]:
    """The keys in all shards, as the shards themselves say."""
    read = {".tar": list_tar, ".safetensors": list_safetensors}
    return sorted(k for p in Store(root).shards.iterdir() if p.suffix in read for k in read[p.suffix](p))


def test_shards_hold_every_entry_byte_for_byte_and_no_file_is_left(packed, videos):
    loose = videos.parent / "loose"
    assert entries(packed) == entries(loose) and len(entries(packed)) == CLIPS
    assert members(packed) == sorted(entries(loose))
    assert not list(packed.glob("objects/*/*"))
    assert len({row.shard for row in open_manifest(packed).entries() if row.shard}) > 1


def test_the_manifest_says_where_an_entry_lies(packed):
    for row in open_manifest(packed).entries():
        if row.status == "done":
            data = (packed / "shards" / row.shard).read_bytes()[row.offset :][: row.bytes]
            assert hashlib.sha256(data).hexdigest() == row.checksum


def test_a_second_run_finds_all_of_it(packed, videos):
    before = {p: p.stat().st_mtime_ns for p in packed.glob("shards/*")}
    tally = clips.cache(videos, packed, packing("tar"))
    assert (tally.done, tally.reused, tally.failed) == (0, CLIPS + 1, 1)
    assert clips.cache(videos, packed).reused == CLIPS + 1  # nor does a run need to know of shards
    assert {p: p.stat().st_mtime_ns for p in packed.glob("shards/*")} == before


def test_any_webdataset_loader_can_read_tars(tar):
    for path in tar.glob("shards/*.tar"):
        with tarfile.open(path) as shard:
            names = shard.getnames()
            assert names[::2] == sorted(names[::2])
            assert names[1::2] == [name.replace(".latent", ".json") for name in names[::2]]
            told = json.load(shard.extractfile(names[1]))
            assert told["key"] == names[0].partition(".")[0] and told["source"].endswith(".avi")


def test_stock_safetensors_reads_shards(safetensors):
    manifest, seen = open_manifest(safetensors), 0
    for path in safetensors.glob("shards/*.safetensors"):
        index = json.loads(path.with_suffix(".json").read_text())
        with safe_open(path, "pt") as file:
            for name in index["weight_map"]:
                key = name.partition(".")[0]
                with manifest.place(manifest.find(key)).open() as latents:
                    assert torch.equal(file.get_tensor(name), latents.read(0, latents.frames))
                assert index["clips"][key]["shape"] == list(latents.shape)
                seen += 1
    assert seen == CLIPS


def test_the_header_of_a_shard_keeps_its_spelling(safetensors):
    """The same entries make the same shard, byte for byte, whichever version of vidlatent packs them."""
    for path in safetensors.glob("shards/*.safetensors"):
        raw = path.read_bytes()
        length = int.from_bytes(raw[:8], "little")
        text = raw[8 : 8 + length].decode()
        header = json.loads(text)
        assert text == json.dumps(header, separators=(",", ":")).ljust(length)
        assert (8 + length) % 64 == 0
        assert header.pop("__metadata__") == {"format": "vidlatent-shard"}
        assert all(list(tensor) == ["dtype", "shape", "data_offsets"] for tensor in header.values())
        starts = [tensor["data_offsets"][0] for tensor in header.values()]
        assert starts == sorted(starts) and starts[0] == 0


def test_training_reads_from_shards_what_it_reads_from_files(packed, videos):
    loose = {item["source"]: item["latents"] for item in LatentDataset(videos.parent / "loose")}
    for data in (LatentDataset(packed), LatentDataset(packed / "shards"), LatentStream(packed)):
        found = {item["source"]: item["latents"] for item in data}
        assert len(found) >= CLIPS  # a clip that is there twice is one entry
        assert all(torch.equal(latents, loose[source]) for source, latents in found.items())


def test_verify_decode_status_and_export_follow_the_manifest_into_shards(packed, videos, tmp_path):
    assert list(verify(packed)) == [None] * CLIPS
    sampled = list(replay_sample(packed, 3, choice=ModelChoice(device="cpu")))
    assert len(sampled) == 3 and all(replay.identical for replay in sampled)
    facts = describe_cache(packed)
    assert facts["missing"] == 0 and facts["shards"] == len(
        {*packed.glob("shards/shard-*")} - sidecars(packed)
    )
    for layout in ("comfyui", "webdataset"):
        roots = (("packed", packed), ("loose", videos.parent / "loose"))
        ours, theirs = (sorted(export(root, tmp_path / name / layout, layout)) for name, root in roots)
        assert [p.name for p in ours] == [p.name for p in theirs]
    assert {p.name: p.read_bytes() for p in (tmp_path / "packed/comfyui").iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "loose/comfyui").iterdir()
    }


def sidecars(root: Path) -> set[Path]:
    return {*root.glob("shards/*.json")}


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_member_is_found_and_made_again(videos, tmp_path, kind, request):
    root = tmp_path / "cache"
    shutil.copytree(request.getfixturevalue(kind), root)
    before, manifest = entries(root), open_manifest(root)
    victim = next(row for row in manifest.entries() if row.status == "done")
    place = manifest.place(victim)
    data = bytearray(place.path.read_bytes())
    data[victim.offset + victim.bytes // 2] ^= 1
    place.path.write_bytes(data)
    (finding,) = [finding for finding in verify(root) if finding is not None]
    assert finding.key == victim.key and "does not match its checksum" in finding.what
    assert clips.cache(videos, root, packing(kind)).done == 1
    assert entries(root) == before and list(verify(root)) == [None] * CLIPS


def test_a_shard_that_was_cut_off_is_found(tar, tmp_path):
    root = shutil.copytree(tar, tmp_path / "cache")
    victim = max(open_manifest(root).entries(), key=lambda row: (row.shard, row.offset))
    shard, end = root / "shards" / victim.shard, victim.offset + victim.bytes
    shard.write_bytes(shard.read_bytes()[: end - 1])
    (finding,) = [finding for finding in verify(root) if finding is not None]
    assert finding.key == victim.key and f"expected {end} bytes, found {end - 1}" in finding.what


@pytest.mark.parametrize("which", [0, 1])
def test_a_shard_that_is_gone_is_made_again_the_same(videos, tmp_path, tar, which):
    """Also the one with the clip that is there twice: its copy may be met before or after it is packed."""
    root = tmp_path / "cache"
    shutil.copytree(tar, root)
    before = {p: p.read_bytes() for p in root.glob("shards/*")}
    sorted(before)[which].unlink()
    assert clips.cache(videos, root, packing("tar")).done > 0
    assert {p: p.read_bytes() for p in root.glob("shards/*")} == before


def test_a_shard_of_equal_keys_and_other_facts_has_another_name(videos, tmp_path):
    """Otherwise other bytes would stand under the name that a row of the manifest knows."""
    names = []
    for caption in ("a cat", "a dog"):
        root = shutil.copytree(videos.parent / "loose", tmp_path / caption)
        manifest = open_manifest(root)
        for row in list(manifest.rows()):
            manifest.add(replace(row, facts={"caption": caption}))
        pack_all(Store(root), Sharding("tar"))
        names += [path.name for path in root.glob("shards/*")]
    assert len(set(names)) == len(names) == 2


def test_journals_are_not_read_for_every_clip(videos, tmp_path, monkeypatch):
    """With --shards each of a million clips had thousands of journals opened."""
    root = tmp_path / "cache"
    Store.create(root).shards.mkdir()
    calls, real = [], JournalReader.read_new
    monkeypatch.setattr(JournalReader, "read_new", lambda self: (calls.append(self), real(self))[1])
    tally = clips.cache(videos, root, packing("tar", 1 << 30))
    assert tally.done == CLIPS and len(calls) < CLIPS


def test_what_is_packed_while_a_run_goes_on_is_seen_by_it(videos, tmp_path):
    """The manifest is read again once something was packed since, and only then."""
    root = shutil.copytree(videos.parent / "loose", tmp_path / "cache")
    store = Store(root)
    before = read_pack_mark(store)
    store.shards.mkdir()
    empty = read_pack_mark(store)
    pack_all(store, Sharding("tar", SHARD_BYTES))
    packed = read_pack_mark(store)
    assert before is None and len({before, empty, packed}) == 3 and read_pack_mark(store) == packed


def test_the_mark_of_what_was_packed_moves_by_a_second_each_time(tmp_path):
    """Some disks count no less."""
    store = Store(tmp_path)
    store.shards.mkdir()
    marks = []
    for _ in range(3):
        marks.append(read_pack_mark(store))
        move_pack_mark(store)
    assert all(after - before >= 1_000_000_000 for before, after in pairwise(marks))


def test_in_a_folder_of_somebody_else_the_mark_is_the_present(tmp_path, monkeypatch):
    store, times, real = Store(tmp_path), [], os.utime
    store.shards.mkdir()

    def refuse(path: Path, **given: object) -> None:
        times.append(given)
        if given:
            raise PermissionError
        real(path)

    monkeypatch.setattr(os, "utime", refuse)
    move_pack_mark(store)
    assert [bool(given) for given in times] == [True, False]


def test_the_mark_moves_once_rows_say_what_is_packed_and_before_files_go(videos, tmp_path, monkeypatch):
    root = shutil.copytree(videos.parent / "loose", tmp_path / "cache")
    marks, add, remove = [], Manifest.add_packed, Packer._remove

    def look_after_rows(*args: object) -> None:
        add(*args)
        marks.append(read_pack_mark(Store(root)))

    def look_before_files_go(*args: object) -> None:
        marks.append(read_pack_mark(Store(root)))
        remove(*args)

    monkeypatch.setattr(Manifest, "add_packed", look_after_rows)
    monkeypatch.setattr(Packer, "_remove", look_before_files_go)
    pack_all(Store(root), Sharding("tar"))
    assert len(marks) == 2 and marks[0] != marks[1]


STEPS = {
    "while the shard is written": "vidlatent.jobs.cache.shard_tar.list_tar",
    "before the shard is in the manifest": "vidlatent.jobs.cache.manifest.Manifest.add_packed",
    "before the files go": "vidlatent.jobs.cache.packer.Packer._remove",
}


class Killed(BaseException):
    """As abrupt as a kill, as far as our own code can see."""


@pytest.mark.parametrize("step", [*STEPS])
def test_a_kill_at_any_step_of_packing_loses_and_doubles_nothing(videos, tmp_path, tar, monkeypatch, step):
    root = tmp_path / "cache"

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(STEPS[step], die)
        clips.cache(videos, root, packing("tar"))
    assert list(root.glob("objects/*/*.latent"))
    clips.cache(videos, root, packing("tar"))
    assert {p.name: p.read_bytes() for p in root.glob("shards/*")} == {
        p.name: p.read_bytes() for p in tar.glob("shards/*")
    }
    assert entries(root) == entries(tar) and members(root) == members(tar)
    assert not list(root.glob("objects/*/*")) and not find_garbage(root)


def test_entries_of_earlier_runs_are_packed_when_they_are_met(videos, tmp_path):
    root = tmp_path / "cache"
    shutil.copytree(videos.parent / "loose", root)
    assert clips.cache(videos, root, packing("safetensors")).done == 0
    assert members(root) == sorted(entries(videos.parent / "loose")) and not list(root.glob("objects/*/*"))


def test_parts_of_a_run_make_shards_of_their_own(videos, tmp_path):
    root = tmp_path / "cache"
    for index in range(3):
        clips.cache(videos, root, packing("tar", 1 << 30, shard=Part(index, 3)))
    assert len(list(root.glob("shards/*.tar"))) == 3
    assert entries(root) == entries(videos.parent / "loose") and members(root) == sorted(entries(root))


def test_what_another_process_made_and_packed_is_not_made_again(videos, tmp_path, monkeypatch):
    """Its manifest was read before; the files it would find are in shards by now."""
    root = tmp_path / "cache"
    shutil.copytree(videos.parent / "loose", root)
    stale = Manifest(Store(root))
    pack_all(Store(root), Sharding("tar"))
    monkeypatch.setattr("vidlatent.jobs.cache.run.Manifest", lambda store: stale)
    tally = clips.cache(videos, root, packing("tar"))
    assert (tally.done, tally.reused) == (0, CLIPS + 1)


def test_who_packs_waits_for_who_packs(videos, tmp_path):
    root = tmp_path / "cache"
    shutil.copytree(videos.parent / "loose", root)
    store, manifest = Store(root), open_manifest(root)
    packer = Packer(store, manifest, Sharding("tar", 1))
    with Claim.take(store.claims / PACK):
        for row in manifest.entries():
            packer.offer(row)
        assert not store.shards.exists()
    packer.finish()
    assert members(root) == sorted(entries(root))


@pytest.fixture
def offer_of(videos, tmp_path):
    """A copy of the cache of files: its store, rows in their order, and who packs so many bytes."""
    store = Store(shutil.copytree(videos.parent / "loose", tmp_path / "cache"))
    manifest = Manifest(store)
    rows = [row for row in manifest.entries() if row.status == "done"]
    yield store, rows, lambda size: Packer(store, manifest, Sharding("tar", size))
    manifest.close()


def shards(store: Store) -> list[list[str]]:
    """The keys in each shard, in the order in which they were packed."""
    return [sorted(list_tar(path)) for path in sorted(store.shards.glob("*"), key=os.path.getctime)]


def keys(*rows) -> list[str]:
    return sorted(row.key for row in rows)


def test_a_shard_is_made_of_as_many_entries_as_fill_it_to_the_byte(offer_of):
    store, rows, packer_of = offer_of
    packer = packer_of(rows[0].bytes + rows[1].bytes)
    packer.offer(rows[0])
    packer.offer(rows[0])  # once is enough
    assert not store.shards.exists()
    packer.offer(rows[1])
    assert shards(store) == [keys(*rows[:2])]
    packer.finish()
    assert shards(store) == [keys(*rows[:2])]


def test_what_fills_no_shard_waits_until_the_end(offer_of):
    store, rows, packer_of = offer_of
    packer = packer_of(sum(row.bytes for row in rows[:3]))
    with Claim.take(store.claims / PACK):
        for row in rows[:3]:
            packer.offer(row)
    packer.offer(rows[3])
    assert shards(store) == [keys(*rows[:3])] and store.entry_path(rows[3].key).exists()
    packer.finish()
    assert shards(store) == [keys(*rows[:3]), keys(rows[3])]


def test_an_entry_that_is_no_file_is_not_waited_for(offer_of):
    store, rows, packer_of = offer_of
    store.entry_path(rows[0].key).unlink()
    packer = packer_of(rows[0].bytes + 1)
    packer.offer(rows[0])
    packer.offer(rows[1])
    packer.finish()
    assert shards(store) == [keys(rows[1])]


def test_the_end_waits_a_moment_for_who_packs_and_looks_again(offer_of, monkeypatch):
    store, rows, packer_of = offer_of
    packer, waits = packer_of(1 << 30), []
    packer.offer(rows[0])
    claim = Claim.take(store.claims / PACK)
    monkeypatch.setattr("time.sleep", lambda seconds: (waits.append(seconds), claim.release()))
    packer.finish()
    assert waits == [0.2] and shards(store) == [keys(rows[0])]


def test_an_entry_that_goes_while_it_is_packed_is_left_out_and_not_called_damaged(offer_of, monkeypatch):
    store, rows, packer_of = offer_of
    packer, real = packer_of(1 << 30), packing_module.write_shard

    def late(*args: object) -> tuple:
        store.entry_path(rows[1].key).unlink(missing_ok=True)
        return real(*args)

    monkeypatch.setattr(packing_module, "write_shard", late)
    for row in rows[:3]:
        packer.offer(row)
    packer.finish()
    assert shards(store) == [keys(rows[0], rows[2])]
    assert open_manifest(store.root).find(rows[1].key).status == "done"


def test_packing_leaves_nothing_open(videos, tmp_path, nothing_stays_open):
    pack_all(Store(shutil.copytree(videos.parent / "loose", tmp_path / "cache")), Sharding("tar"))


def test_a_shard_is_named_by_sixteen_digits_and_holds_about_a_gigabyte(tar):
    assert all(re.fullmatch(r"shard-[0-9a-f]{16}\.tar", path.name) for path in tar.glob("shards/*"))
    assert Sharding("tar").bytes == 1 << 30


def test_a_kind_of_shards_that_is_none_is_refused_in_python_too():
    with pytest.raises(UsageError, match=r"shards zip: unknown\nhint: one of tar, safetensors"):
        Sharding("zip")


def test_what_was_packed_since_it_was_offered_is_not_packed_again(videos, tmp_path, monkeypatch):
    """The other process was killed before it removed the files, so they are there for both."""
    root = shutil.copytree(videos.parent / "loose", tmp_path / "cache")
    manifest, offered = (
        open_manifest(root),
        Packer(Store(root), open_manifest(root), Sharding("tar", 1 << 30)),
    )
    rows = list(manifest.entries())
    for row in rows[:3]:
        offered.offer(row)
    with monkeypatch.context() as patch:
        patch.setattr(Packer, "_remove", lambda *_: None)
        pack_all(Store(root), Sharding("tar"))
    before = {p: p.read_bytes() for p in root.glob("shards/*")}
    offered.finish()
    assert {p: p.read_bytes() for p in root.glob("shards/*")} == before
    assert not any(Store(root).entry_path(row.key).exists() for row in rows[:3] if row.status == "done")


def test_an_entry_that_was_found_damaged_since_it_was_offered_is_not_packed(videos, tmp_path):
    root = shutil.copytree(videos.parent / "loose", tmp_path / "cache")
    manifest, packer = open_manifest(root), Packer(Store(root), open_manifest(root), Sharding("tar", 1 << 30))
    done = [row for row in manifest.entries() if row.status == "done"]
    for row in done:
        packer.offer(row)
    manifest.add_damaged(done[0], "a disk that lies")
    packer.finish()
    assert members(root) == [row.key for row in done[1:]] and Store(root).entry_path(done[0].key).exists()


def test_an_entry_that_changed_on_disk_is_not_packed_but_made_again(videos, tmp_path):
    root = tmp_path / "cache"
    shutil.copytree(videos.parent / "loose", root)
    before = entries(root)
    victim = next(root.glob("objects/*/*.latent"))
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    pack_all(Store(root), Sharding("tar"))
    assert members(root) == sorted({*before} - {victim.stem})
    assert open_manifest(root).find(victim.stem).status == "damaged"
    assert clips.cache(videos, root, packing("tar")).done == 1
    assert entries(root) == before


def test_gc_removes_shards_that_nobody_knows_and_no_others(packed):
    kept = {p: p.read_bytes() for p in packed.glob("shards/*")}
    shards = packed / "shards"
    for name in ("shard-0123456789abcdef.tar", ".shard-0123456789abcdef.tar.partial"):
        (shards / name).write_bytes(b"x")
    (shards / "notes.txt").write_text("mine")
    items = find_garbage(packed)
    assert {item.path.name for item in items} == {
        "shard-0123456789abcdef.tar",
        ".shard-0123456789abcdef.tar.partial",
    }
    remove_garbage(packed, items)
    (shards / "notes.txt").unlink()
    assert {p: p.read_bytes() for p in packed.glob("shards/*")} == kept


def test_gc_finds_what_a_kill_left_in_a_file_and_in_a_shard(videos, tmp_path, monkeypatch):
    root = tmp_path / "cache"
    shutil.copytree(videos.parent / "loose", root)
    with monkeypatch.context() as patch:
        patch.setattr(Packer, "_remove", lambda *_: None)  # a kill before the files go
        pack_all(Store(root), Sharding("tar", SHARD_BYTES))
    before, files = entries(root), set(root.glob("objects/*/*"))
    items = find_garbage(root, superseded=True)
    assert files and {item.path for item in items} == files
    assert all(item.why.startswith("the same is in shard-") for item in items)
    assert remove_garbage(root, items) == sum(item.bytes for item in items)
    assert entries(root) == before and not list(root.glob("objects/*/*")) and not find_garbage(root)


def test_gc_keeps_a_file_whose_copy_in_a_shard_is_damaged(videos, tmp_path, monkeypatch):
    root = tmp_path / "cache"
    shutil.copytree(videos.parent / "loose", root)
    monkeypatch.setattr(Packer, "_remove", lambda *_: None)
    pack_all(Store(root), Sharding("tar", SHARD_BYTES))
    victim = next(row for row in open_manifest(root).entries() if row.shard)
    shard = root / "shards" / victim.shard
    data = bytearray(shard.read_bytes())
    data[victim.offset + victim.bytes // 2] ^= 1
    shard.write_bytes(data)
    assert victim.key not in {item.path.stem for item in find_garbage(root)}


def test_gc_keeps_what_was_garbage_only_when_it_was_listed(videos, tmp_path):
    root = tmp_path / "cache"
    shutil.copytree(videos.parent / "loose", root)
    journals = {p: p.read_bytes() for p in (root / "manifest").iterdir()}
    for path in journals:
        path.unlink()
    items = find_garbage(root)
    for path, data in journals.items():
        path.write_bytes(data)  # somebody was still writing down what is there
    assert len(items) == CLIPS and remove_garbage(root, items) == 0 and len(entries(root)) == CLIPS


def test_a_safetensors_file_that_is_no_shard_of_ours_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(BadInput, match="not a shard of latents"):
        LatentDataset(tmp_path / "a.safetensors")
    for start in (b"x", (99_000_000).to_bytes(8, "little"), (1 << 60).to_bytes(8, "little") + b"{"):
        with (tmp_path / "b.safetensors").open("wb") as file:
            file.write(start)
            file.truncate(10 << 30 if len(start) > 1 else 1)  # sparse: it takes no disk
        with pytest.raises(BadInput, match="not a shard of latents"):
            LatentDataset(tmp_path / "b.safetensors")


def test_shards_are_asked_for_by_name(videos, tmp_path, capsys):
    command = [
        "cache",
        str(videos),
        "-o",
        str(tmp_path / "c"),
        "-m",
        "toy",
        "--device",
        "cpu",
        "--workers",
        "1",
    ]
    assert app.run([*command, "--shards", "zip"]) == UsageError.exit_code
    assert "one of tar, safetensors" in capsys.readouterr().err
    assert app.run([*command, "--shards", "tar", "--shard-size", "1M", "--max-failures", "1"]) == 0
    assert list((tmp_path / "c/shards").glob("*.tar"))
