"""Folders, globs, tables and tars become clips."""

import io
import json
import tarfile
from fractions import Fraction
from pathlib import Path

import pytest

from vidlatent.errors import BadInput, UsageError
from vidlatent.jobs.cache.scan import scan

NOWHERE = Path("no-cache")


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(folder: Path, *sources: object, cache: Path = NOWHERE) -> list[str]:
    return [str(Path(clip.name).relative_to(folder)) for clip in scan(map(str, sources), cache)]


def test_a_folder_gives_every_file_but_hidden_ones_and_the_cache(tmp_path):
    touch(*(tmp_path / name for name in ("b.mp4", "a/c.mkv", "notes.txt", ".hidden.mp4", "cache/objects/x")))
    assert names(tmp_path, tmp_path, cache=tmp_path / "cache") == ["a/c.mkv", "b.mp4", "notes.txt"]


def test_names_that_are_no_videos_are_known_by_their_ending(tmp_path):
    touch(tmp_path / "a.mp4", tmp_path / "a.txt", tmp_path / "a.JSON", tmp_path / "noending")
    sidecars = [Path(clip.name).name for clip in scan([str(tmp_path)], NOWHERE) if clip.is_sidecar]
    assert sidecars == ["a.JSON", "a.txt"]


def test_a_glob_and_a_file_named_twice_is_one_clip(tmp_path):
    touch(tmp_path / "a/1.mp4", tmp_path / "b/2.mp4", tmp_path / "b/3.mov")
    assert names(tmp_path, f"{tmp_path}/**/*.mp4", tmp_path / "b/2.mp4") == ["a/1.mp4", "b/2.mp4"]


@pytest.mark.parametrize("source", ["missing", "missing/*.mp4"])
def test_sources_that_are_not_there_are_an_error(tmp_path, source):
    with pytest.raises(UsageError, match="missing"):
        list(scan([str(tmp_path / source)], NOWHERE))


def test_tables_say_where_from_and_carry_the_rest_along(tmp_path):
    csv, jsonl = tmp_path / "t.csv", tmp_path / "t.jsonl"
    csv.write_text("path,start,end,frames,caption\nsub/a.mp4,1.5,2,,a cat\nb.mp4,,,17,\n")
    rows = [
        {"path": "sub/a.mp4", "start": 1.5, "end": 2, "caption": "a cat"},
        {"path": "b.mp4", "frames": 17, "caption": ""},
    ]
    jsonl.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for table in (csv, jsonl):
        first, second = scan([str(table)], NOWHERE)
        assert first.path == tmp_path / "sub/a.mp4" and first.facts == {"caption": "a cat"}
        assert (first.start, first.end, first.frames) == (Fraction(3, 2), 2, None)
        assert (second.start, second.end, second.frames) == (None, None, 17)


def test_parquet_says_the_same(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="reading parquet needs the extra")
    from pyarrow import parquet

    parquet.write_table(
        pyarrow.table({"path": ["a.mp4"], "start": [0.5], "tag": [3]}), tmp_path / "t.parquet"
    )
    (clip,) = scan([str(tmp_path / "t.parquet")], NOWHERE)
    assert (clip.path, clip.start, clip.facts) == (tmp_path / "a.mp4", Fraction(1, 2), {"tag": 3})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name\nx\n", "row 1 has no path"),
        ("path,start\na,soon\n", "start 'soon'"),
        ("path\na,b\n", "columns"),
    ],
)
def test_tables_that_make_no_sense_are_refused(tmp_path, text, words):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(BadInput, match=words):
        list(scan([str(tmp_path / "t.csv")], NOWHERE))


def test_a_tar_gives_its_videos_with_their_texts(tmp_path):
    members = {"x/1.mp4": b"video", "x/1.txt": b"a cat\n", "x/1.json": b"{}", "x/2.mp4": b"other"}
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    first, second = scan([str(tmp_path)], NOWHERE)
    assert first.name == f"{tmp_path}/s.tar::x/1.mp4" and first.facts == {"txt": "a cat", "json": "{}"}
    offset, size = second.member
    assert (tmp_path / "s.tar").read_bytes()[offset : offset + size] == b"other" and second.facts == {}


def test_a_torn_tar_is_refused(tmp_path):
    (tmp_path / "s.tar").write_bytes(b"not a tar" * 100)
    with pytest.raises(BadInput, match=r"s\.tar"):
        list(scan([str(tmp_path / "s.tar")], NOWHERE))
