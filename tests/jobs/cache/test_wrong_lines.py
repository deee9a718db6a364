"""A line that is false costs that line: the cache is read, filled and mended all the same."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from helpers import cache_clips as clips
from helpers.command_line import run_here

from vidlatent.errors import BadInput, UsageError
from vidlatent.jobs.cache.gc import find_garbage
from vidlatent.jobs.cache.manifest import open_manifest
from vidlatent.jobs.cache.packer import pack_all
from vidlatent.jobs.cache.shards import Sharding
from vidlatent.jobs.cache.status import describe_cache
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.cache.verify import find_wrong_records, verify
from vidlatent.jobs.readback.dataset import LatentDataset

ROW = {"source": "/x.avi", "status": "done", "key": "ab12"}
NO_JSON = [
    b"",
    b"{",
    b"\xff\xfe\x00",
    b"\x00" * 40,
    b"[" * 100_000,
    b'{"n": ' + b"9" * 5000 + b"}",
    b"7",
    b"null",
]
NO_ROWS = [
    {},
    {"source": "/x.avi"},
    ROW | {"source": 7},
    ROW | {"status": "wonderful"},
    ROW | {"status": ["done"]},
    ROW | {"key": None},
    ROW | {"key": "../../../etc/passwd"},
    ROW | {"shard": "../shard-1.tar"},
    ROW | {"shard": ".."},
    ROW | {"bytes": "many"},
    ROW | {"bytes": -1},
    ROW | {"bytes": True},
    ROW | {"offset": 10**400},
    ROW | {"attempt": "x"},
    ROW | {"attempt": None},
    ROW | {"at": "yesterday"},
    ROW | {"at": float("nan")},
    ROW | {"span": 3},
    ROW | {"span": [1, 2]},
    ROW | {"span": [None] * 4},
    ROW | {"span": [[], None, None]},
    ROW | {"shape": "abc"},
    ROW | {"shape": ["a"]},
    ROW | {"facts": []},
    ROW | {"read": "x"},
    ROW | {"error": {"no": "text"}},
    ROW | {"notices": [{}]},
]
SEEN = {
    **{"source": "/x.avi", "stream": 0, "size": 9, "mtime_ns": 5, "sha256": "ab"},
    "probe": {
        **{"width": 4, "height": 4, "sar": "1/1", "frames": None, "duration_s": None, "rate": "25/1"},
        "first_s": None,
    },
}


def seen(**facts) -> dict:
    return SEEN | {"probe": SEEN["probe"] | facts}


NOT_SEEN = [
    {},
    SEEN | {"source": None},
    SEEN | {"size": "9"},
    SEEN | {"stream": []},
    SEEN | {"probe": None},
    SEEN | {"probe": {"width": 4}},
    seen(sar="0/1"),
    seen(sar="1/0"),
    seen(sar=[]),
    seen(rate="1e999999999"),
    seen(duration_s="soon"),
    seen(width=0),
    seen(width="4"),
    seen(frames=-3),
    seen(more=1),
]


def write_journal(folder: Path, lines: list) -> Path:
    """A journal of somebody else: bytes as they are, others as JSON; its name comes first."""
    folder.mkdir(exist_ok=True)
    path = folder / "0-other.jsonl"
    path.write_bytes(b"".join((x if isinstance(x, bytes) else json.dumps(x).encode()) + b"\n" for x in lines))
    return path


def named(root: Path, path: Path) -> list[str]:
    return [line.removeprefix(f"{path}: ") for line in find_wrong_records(root) if line.startswith(str(path))]


def test_wrong_rows_are_skipped_counted_and_named(made, root):
    truth, before = clips.truth(root), describe_cache(root)["torn_lines"]
    path = write_journal(root / "manifest", [*NO_JSON, *NO_ROWS])
    assert clips.truth(root) == truth
    count = len(NO_JSON) + len(NO_ROWS)
    assert describe_cache(root)["torn_lines"] == before + count
    assert [line.split(":")[0] for line in named(root, path)] == [f"line {n}" for n in range(1, count + 1)]
    assert list(verify(root)) == [None, None] and not find_garbage(root)
    tally = clips.cache(made / "videos", root)
    assert (tally.done, tally.reused) == (0, 2)


@pytest.mark.parametrize("record", [*NO_ROWS])
def test_every_wrong_row_says_what_is_wrong(root, record):
    path = write_journal(root / "manifest", [record])
    (line,) = named(root, path)
    field = next(
        (name for name in record if record[name] != ROW.get(name, "?")), "status" if record else "source"
    )
    assert field in line and len(line) < 200


def test_a_row_of_a_later_version_is_a_row(root):
    path = write_journal(root / "manifest", [ROW | {"invented_later": [{}]}])
    assert not named(root, path) and open_manifest(root).find("ab12").source == "/x.avi"


def test_wrong_lines_of_the_index_are_looked_up_again(made, root):
    shutil.rmtree(root / "index", ignore_errors=True)
    path = write_journal(root / "index", [*NO_JSON, *NOT_SEEN, SEEN])
    assert len(named(root, path)) == len(NO_JSON) + len(NOT_SEEN)
    tally = clips.cache(made / "videos", root)
    assert (tally.done, tally.reused) == (0, 2)


def test_an_index_that_is_gone_is_made_again(made, root):
    shutil.rmtree(root / "index", ignore_errors=True)
    assert clips.cache(made / "videos", root).reused == 2
    assert list(verify(root)) == [None, None]


def test_an_index_that_cannot_be_used_stops_nothing(made, root, monkeypatch):
    """Its journals may be somebody else's, and its folder no folder."""
    shutil.rmtree(root / "index", ignore_errors=True)
    path, real = write_journal(root / "index", [SEEN]), Path.open

    def refuse(self, *args, **kwargs):
        if self == path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return real(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        assert clips.cache(made / "videos", root).reused == 2
    shutil.rmtree(root / "index")
    (root / "index").write_text("no folder")
    for clip in (made / "videos").iterdir():
        os.utime(clip, (1e9, 1e9))  # at rest, so that it would be remembered
    assert clips.cache(made / "videos", root).reused == 2


@pytest.mark.parametrize("marker", [b"", b"{", b"[]", b"\x00" * 30, None])
def test_a_marker_that_is_damaged_or_gone_is_said_and_written_again(made, root, marker):
    path = root / "cache.json"
    before = path.read_bytes()
    path.unlink() if marker is None else path.write_bytes(marker)
    assert len(clips.rows(root)) == 2 and len(LatentDataset(root)) == 2
    assert named(root, path) == ["gone or damaged; the next run writes it again"]
    assert clips.cache(made / "videos", root).reused == 2
    assert path.read_bytes() == before and not named(root, path)


def test_a_marker_of_another_program_or_version_is_no_damage(root, tmp_path):
    (root / "cache.json").write_text('{"format": "vidlatent-cache", "version": 99}')
    with pytest.raises(BadInput, match="cache version 99, this vidlatent reads 1"):
        Store.create(root)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/cache.json").write_text("[1]")
    with pytest.raises(UsageError, match=r"holds other things \(cache.json\)"):
        Store.create(tmp_path / "other")
    assert (tmp_path / "other/cache.json").read_text() == "[1]"


def test_a_recipe_that_is_damaged_is_said_and_written_again(made, root):
    (path,) = (root / "recipes").iterdir()
    before = path.read_bytes()
    path.write_bytes(before[:-9])
    assert named(root, path) == ["not what was written; the next run of that recipe writes it again"]
    clips.cache(made / "videos", root)
    assert path.read_bytes() == before and not named(root, path)


@pytest.mark.parametrize("index", [b"", b"{}", b"[]", b'{"clips": []}', b'{"clips": {"k": 3}}', None])
def test_entries_are_found_without_the_index_of_their_shard(root, index):
    pack_all(Store(root), Sharding("safetensors"))
    whole = {item["source"]: item["latents"] for item in LatentDataset(root)}
    (path,) = root.glob("shards/*.json")
    path.unlink() if index is None else path.write_bytes(index)
    assert len(named(root, path)) == 1 and list(verify(root)) == [None, None]
    assert {item["source"] for item in LatentDataset(root)} == set(whole)
    if index is None:  # without an index beside it a safetensors file may be anything
        return
    with pytest.warns(UserWarning, match="clips are called by their keys"):
        found = LatentDataset(root / "shards")
    assert len(found) == 2
    assert all(any(torch.equal(item["latents"], other) for other in whole.values()) for item in found)


def test_the_command_names_wrong_lines_and_does_not_call_entries_damaged(capsys, root):
    path = write_journal(root / "manifest", [ROW | {"status": "wonderful"}])
    result = run_here(capsys, "cache", "verify", root, "--json")
    words = (
        f"{path}: line 1: status: expected one of skipped, damaged, failed, replaced, done, got 'wonderful'"
    )
    assert result.code == 0 and f"skipped: {words}" in result.err
    assert json.loads(result.out)["wrong_lines"] == [words]
