"""Folders, globs, tables and tars become clips."""

import io
import json
import math
import tarfile
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from vidlatent.errors import BadInput, UsageError
from vidlatent.jobs.cache.captions import choose_extensions, get_caption
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


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_a_tar_gives_its_videos_with_their_texts(tmp_path):
    members = {"x/1.mp4": b"video", "x/1.txt": b"a cat\n", "x/1.json": b"{}", "x/2.mp4": b"other"}
    write_tar(tmp_path / "s.tar", members)
    first, second = scan([str(tmp_path)], NOWHERE)
    assert first.name == f"{tmp_path}/s.tar::x/1.mp4"
    assert first.facts == {"txt": "a cat", "json": "{}", "caption": "a cat"}
    offset, size = second.member
    assert (tmp_path / "s.tar").read_bytes()[offset : offset + size] == b"other" and second.facts == {}


def test_a_torn_tar_is_refused(tmp_path):
    (tmp_path / "s.tar").write_bytes(b"not a tar" * 100)
    with pytest.raises(BadInput, match=r"s\.tar"):
        list(scan([str(tmp_path / "s.tar")], NOWHERE))


def test_a_text_beside_a_clip_is_its_caption(tmp_path):
    touch(*(tmp_path / name for name in ("a.mp4", "b.mp4", "c.mp4", "d.d.mp4")))
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf a cat\n")
    (tmp_path / "a.caption").write_text("not this one")
    (tmp_path / "b.caption").write_text("ein H\u00fcndchen")
    (tmp_path / "d.d.txt").write_text("dotted")
    found = {
        Path(clip.name).name: clip.facts for clip in scan([str(tmp_path)], NOWHERE) if not clip.is_sidecar
    }
    assert found == {
        "a.mp4": {"caption": "a cat"},
        "b.mp4": {"caption": "ein H\u00fcndchen"},
        "c.mp4": {},
        "d.d.mp4": {"caption": "dotted"},
    }


def test_the_user_says_which_texts_are_captions(tmp_path):
    touch(tmp_path / "a.mp4")
    (tmp_path / "a.txt").write_text("notes")
    (tmp_path / "a.tags").write_text("cat, dog")
    video, tags, notes = scan([str(tmp_path)], NOWHERE, choose_extensions(["tags"]))
    assert video.facts == {"caption": "cat, dog"}
    assert tags.is_sidecar and notes.is_sidecar, "a file of captions is no video"


@pytest.mark.parametrize("word", ["", ".", "a/b"])
def test_an_extension_that_is_none_is_refused(word):
    with pytest.raises(UsageError, match=r"caption_extension .*no extension"):
        choose_extensions([word])


def test_a_caption_that_is_not_utf8_costs_its_clip_alone(tmp_path):
    touch(tmp_path / "a.mp4", tmp_path / "b.mp4")
    (tmp_path / "a.txt").write_bytes("caf\u00e9".encode("latin-1"))
    first, second = (clip for clip in scan([str(tmp_path)], NOWHERE) if not clip.is_sidecar)
    assert "a.txt: not UTF-8 text (byte 3 is 0xe9)" in first.error.what and second.error is None
    write_tar(tmp_path / "s.tar", {"x/1.mp4": b"video", "x/1.txt": b"\xff", "x/2.mp4": b"other"})
    first, second = scan([str(tmp_path / "s.tar")], NOWHERE)
    assert "s.tar::x/1.txt: not UTF-8 text" in first.error.what and second.error is None


@pytest.mark.parametrize(
    ("row", "facts"),
    [
        ({"media_path": "a.mp4", "caption": "c", "prompt": "p"}, {"caption": "c", "prompt": "p"}),
        ({"file_path": "a.mp4", "prompt": "p", "text": "t"}, {"caption": "p", "text": "t"}),
        ({"video": "a.mp4", "text": "t"}, {"caption": "t"}),
        ({"path": "a.mp4", "cap": ["one"], "fps": 24}, {"caption": "one", "fps": 24}),
        ({"path": "a.mp4", "cap": ["one", "two"]}, {"caption": "one", "cap": ["one", "two"]}),
        ({"path": "a.mp4", "caption": ""}, {"caption": ""}),
    ],
)
def test_columns_are_called_what_people_call_them(tmp_path, row, facts):
    (tmp_path / "t.jsonl").write_text(json.dumps(row))
    (tmp_path / "list.json").write_text(json.dumps([row]))
    for table in ("t.jsonl", "list.json"):
        (clip,) = scan([str(tmp_path / table)], NOWHERE)
        assert clip.path == tmp_path / "a.mp4" and clip.facts == facts


def test_a_caption_in_the_json_of_a_tar_is_one(tmp_path):
    write_tar(tmp_path / "s.tar", {"1.mp4": b"video", "1.json": b'{"prompt": "a cat"}'})
    (clip,) = scan([str(tmp_path / "s.tar")], NOWHERE)
    assert clip.facts["caption"] == get_caption(clip.facts) == "a cat"
    assert get_caption({"txt": "of an older cache"}) == "of an older cache" and get_caption({}) == ""


def test_facts_are_plain_json_whatever_the_table_holds(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="reading parquet needs the extra")
    from pyarrow import parquet

    columns = {
        "path": ["a.mp4"],
        "day": [date(2026, 11, 26)],
        "at": [datetime(2026, 11, 26, 12, 30, tzinfo=UTC)],
        "word": [b"cat"],
        "raw": [b"\xff"],
        "score": [math.nan],
        "price": [Decimal("1.50")],
        "inner": [{"far": [math.inf, 1.5]}],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    (clip,) = scan([str(tmp_path / "t.parquet")], NOWHERE)
    assert clip.facts == {
        "day": "2026-11-26", "at": "2026-11-26T12:30:00+00:00", "word": "cat", "raw": "/w==",
        "score": None, "price": "1.50", "inner": {"far": [None, 1.5]},
    }  # fmt: skip
    assert json.loads(json.dumps(clip.facts, allow_nan=False)) == clip.facts
