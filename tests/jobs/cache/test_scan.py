"""Folders, globs, tables and tars become clips."""

import json
import math
import time
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from helpers.hanging import hang
from helpers.tars import write_tar

from vidlatent.errors import UsageError
from vidlatent.io.sources.disk import DiskSource
from vidlatent.io.sources.source import no_beat
from vidlatent.jobs.cache.captions import choose_extensions, get_caption
from vidlatent.jobs.cache.scan import scan
from vidlatent.jobs.reading.captions import MOST_CAPTION_BYTES
from vidlatent.jobs.reading.listing import list_clips

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
        assert first.source.path == tmp_path / "sub/a.mp4" and first.facts == {"caption": "a cat"}
        assert (first.start, first.end, first.frames) == (Fraction(3, 2), 2, None)
        assert (second.start, second.end, second.frames) == (None, None, 17)


def test_parquet_says_the_same(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="reading parquet needs the extra")
    from pyarrow import parquet

    parquet.write_table(
        pyarrow.table({"path": ["a.mp4"], "start": [0.5], "tag": [3]}), tmp_path / "t.parquet"
    )
    (clip,) = scan([str(tmp_path / "t.parquet")], NOWHERE)
    assert (clip.source.path, clip.start, clip.facts) == (tmp_path / "a.mp4", Fraction(1, 2), {"tag": 3})


def test_a_number_that_makes_no_sense_costs_its_row(tmp_path):
    """1/0 ended the run, and 1e99999999 was computed for hours, deaf to any signal."""
    values = ["soon", "1/0", "1e99999999", "1e-99999999", "nan", "9" * 400, "1" * 30]
    cases = [(column, value) for column in ("start", "end", "frames") for value in values]
    rows = [json.dumps({"path": "a.mp4", column: value}) for column, value in cases]
    (tmp_path / "t.jsonl").write_text("\n".join([*rows, '{"path": "b.mp4", "start": "1/2"}']))
    *bad, good = scan([str(tmp_path / "t.jsonl")], NOWHERE)
    assert good.error is None and good.start == Fraction(1, 2)
    for number, (clip, (column, value)) in enumerate(zip(bad, cases, strict=True), start=1):
        assert f"row {number}: {column} '{value[:20]}" in clip.error.what
        assert clip.name == f"{tmp_path}/t.jsonl::row {number}"


BAD_ROWS = {
    "csv": [
        ("a,b,c", "another number of columns: 3, the header has 2"),
        ("a", "another number of columns: 1, the header has 2"),
        (",x", "has no path"),
        ("é".encode("latin-1").decode("utf-8", "surrogateescape") + ",x", "no UTF-8"),
        ("a.mp4," + "x" * (1 << 20), "longer than 1,048,576 characters"),
        ("a\0.mp4,x", "is no path"),
    ],
    "jsonl": [
        ("[", "is not JSON"),
        ("[1]", "no object"),
        ("{}", "has no path"),
        ('{"path": {"bytes": 1}}', "is no path"),
        ('{"path": "a.mp4", "n": ' + "[" * 70 + "]" * 70 + "}", "more than 64 levels"),
        ("[" * 100_000, "is not JSON"),
        ('{"path": "a.mp4", "n": ' + "9" * 5000 + "}", "is not JSON"),
    ],
}


@pytest.mark.parametrize(
    ("kind", "first", "good"),
    [("csv", "path,caption\n", "b.mp4,fine"), ("jsonl", "", '{"path": "b.mp4", "caption": "fine"}')],
)
def test_a_bad_row_of_a_table_costs_itself(tmp_path, kind, first, good):
    text = first + "".join(f"{row}\n{good}\n" for row, _ in BAD_ROWS[kind])
    (tmp_path / f"t.{kind}").write_bytes(text.encode("utf-8", "surrogateescape"))
    found = list(list_clips(DiskSource(tmp_path / f"t.{kind}"), (), no_beat))
    for bad, fine, (_, words) in zip(found[::2], found[1::2], BAD_ROWS[kind], strict=True):
        assert words in bad.error.what and f"{tmp_path}/t.{kind}" in bad.error.what
        assert fine.facts == {"caption": "fine"} and fine.error is None


def test_an_address_that_is_none_costs_its_row_and_shows_no_secret(tmp_path):
    """It cost the whole table."""
    (tmp_path / "t.csv").write_text("path\na.avi\nhttp://me:secret@[::1/b.mp4\nc.avi\n")
    found = list(scan([str(tmp_path / "t.csv")], tmp_path / "cache"))
    assert [clip.name for clip in found[::2]] == [str(tmp_path / "a.avi"), str(tmp_path / "c.avi")]
    assert "secret" not in found[1].name and found[1].name.startswith("http://")


def test_a_quote_that_never_closes_costs_the_rows_within_its_reach(tmp_path):
    (tmp_path / "t.csv").write_text('path,caption\na.mp4,x\n"b.mp4,' + f"{'y' * 100_000}\n" * 15)
    first, *rest = scan([str(tmp_path / "t.csv")], NOWHERE)
    assert first.error is None and all(clip.error for clip in rest) and rest


def test_a_field_of_200_kilobytes_is_a_caption(tmp_path):
    (tmp_path / "t.csv").write_text("path,caption\na.mp4," + "x" * 200_000 + "\n")
    (clip,) = scan([str(tmp_path / "t.csv")], NOWHERE)
    assert len(clip.facts["caption"]) == 200_000


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("t.csv", b"name\nx\n", "has no path (columns: name)"),
        ("t.csv", b"\xff\xfep\0a\0t\0h\0\n\0", "its first row makes no sense"),
        ("t.csv", b"", "has no path"),
        ("t.json", b"[{]", "not JSON"),
        ("t.json", b"{}", "expected a list of JSON objects"),
        ("t.parquet", b"PAR1 no PAR1", "cannot be read as parquet"),
        ("t.tar", b"not a tar" * 100, "not a tar that can be read to its end"),
        ("t.tar", b"", "no end mark at byte 0"),
    ],
)
def test_a_list_that_cannot_be_read_at_all_is_a_row(tmp_path, name, data, words):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="reading parquet needs the extra")
    (tmp_path / name).write_bytes(data)
    (clip,) = scan([str(tmp_path / name)], NOWHERE)
    assert words in clip.error.what and clip.name == str(tmp_path / name)


def test_a_table_or_tar_that_is_a_device_is_a_row(tmp_path):
    for name in ("t.csv", "t.jsonl", "t.tar"):
        (tmp_path / name).symlink_to("/dev/zero")
        (clip,) = scan([str(tmp_path / name)], NOWHERE)
        assert "no plain file" in clip.error.what


def test_a_tar_gives_its_videos_with_their_texts(tmp_path):
    members = {"x/1.mp4": b"video", "x/1.txt": b"a cat\n", "x/1.json": b"{}", "x/2.mp4": b"other"}
    write_tar(tmp_path / "s.tar", *members.items())
    first, second = scan([str(tmp_path)], NOWHERE)
    assert first.name == f"{tmp_path}/s.tar::x/1.mp4"
    assert first.facts == {"txt": "a cat", "json": "{}", "caption": "a cat"}
    offset, size = second.source.offset, second.source.size
    assert (tmp_path / "s.tar").read_bytes()[offset : offset + size] == b"other" and second.facts == {}


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


def test_a_clip_whose_captions_would_have_names_too_long_for_a_file_has_none(tmp_path):
    """It ended the run: `.caption` is longer than `.avi`, and to look for such a name is an error."""
    longest = tmp_path / f"{'a' * 251}.avi"
    longest.touch()
    (clip,) = scan([str(tmp_path)], tmp_path / "cache")
    assert clip.name == str(longest) and clip.error is None and clip.facts == {}


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
    write_tar(tmp_path / "s.tar", *{"x/1.mp4": b"video", "x/1.txt": b"\xff", "x/2.mp4": b"other"}.items())
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
        assert clip.source.path == tmp_path / "a.mp4" and clip.facts == facts


def test_a_caption_in_the_json_of_a_tar_is_one(tmp_path):
    write_tar(tmp_path / "s.tar", *{"1.mp4": b"video", "1.json": b'{"prompt": "a cat"}'}.items())
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


def test_a_caption_without_end_costs_its_clip(tmp_path):
    touch(tmp_path / "a.mp4")
    (tmp_path / "a.txt").write_bytes(bytes(MOST_CAPTION_BYTES + 1))
    clip, _ = scan([str(tmp_path)], NOWHERE)
    assert "a.txt: a caption of more than 1,048,576 bytes" in clip.error.what


def test_a_bad_row_of_a_list_costs_itself(tmp_path):
    (tmp_path / "t.json").write_text('[1, {"path": "a.mp4"}, {"path": "b.mp4", "start": "1/0"}]')
    first, second, third = scan([str(tmp_path / "t.json")], NOWHERE)
    assert "row 1 makes no sense (no object)" in first.error.what and "row 3: start" in third.error.what
    assert second.error is None


def test_texts_belong_to_the_videos_of_their_sample_wherever_they_lie(tmp_path):
    members = [
        ("./v1.0/a.txt", b"cat"),
        ("./v1.0/b.mp4", b"B"),
        ("./v1.0/a.mp4", b"A"),
        ("./v1.0/b.txt", b"dog"),
    ]
    found = list(scan([str(write_tar(tmp_path / "s.tar", *members))], NOWHERE))
    assert [(clip.name.partition("::")[2], clip.facts) for clip in found] == [
        ("v1.0/b.mp4", {"txt": "dog", "caption": "dog"}),
        ("v1.0/a.mp4", {"txt": "cat", "caption": "cat"}),
    ]


def test_hidden_members_of_a_tar_are_no_clips(tmp_path):
    """macOS packs `._NAME` beside each NAME."""
    tar = write_tar(tmp_path / "s.tar", ("./._a.mp4", b"\0\5\x16\7"), ("./a.mp4", b"A"))
    assert [clip.name.partition("::")[2] for clip in scan([str(tar)], NOWHERE)] == ["a.mp4"]


def test_members_of_one_name_are_two_clips(tmp_path):
    tar = write_tar(tmp_path / "s.tar", ("a.mp4", b"first"), ("a.mp4", b"other"))
    found = list(scan([str(tar)], NOWHERE))
    assert [clip.name.partition("::")[2] for clip in found] == ["a.mp4", "a.mp4 (2)"]
    assert found[0].source != found[1].source


def test_a_torn_tar_gives_what_comes_before_and_a_row(tmp_path):
    tar = write_tar(tmp_path / "s.tar", ("a.mp4", b"1"), ("b.mp4", bytes(600)))
    tar.write_bytes(tar.read_bytes()[:1700])
    touch(tmp_path / "z.mp4")
    good, torn, behind = scan([str(tmp_path)], NOWHERE)
    assert good.error is None and behind.name.endswith("z.mp4")
    assert torn.name == str(tar) and "'b.mp4' at byte 1,024 has 600 bytes, but 164 follow" in torn.error.what


def test_a_process_that_lists_and_is_killed_is_started_again(tmp_path, monkeypatch):
    tar = write_tar(tmp_path / "s.tar", *((f"{n:03d}.mp4", b"x") for n in range(200)))
    (tmp_path / "sitecustomize.py").write_text(KILLED_ONCE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = list(scan([str(tar)], NOWHERE))
    assert [clip.name[-7:-4] for clip in found] == [f"{n:03d}" for n in range(200)]
    assert (tmp_path / "killed").exists()


# Put where every Python process finds it: the first process that lists is killed at the hundredth member.
KILLED_ONCE = """
import os, pathlib, signal
from vidlatent.io import tar

def list_tar(file, real=tar.list_tar):
    for n, member in enumerate(real(file)):
        mark = pathlib.Path(__file__).with_name("killed")
        if n == 100 and file.tell() and not mark.exists() and list_tar.calls == 2:
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        yield member

def counted(file):
    list_tar.calls += 1
    return list_tar(file)

list_tar.calls = 0
tar.list_tar = counted
"""


def test_a_stop_is_obeyed_while_a_list_hangs(tmp_path, monkeypatch):
    table = hang(monkeypatch, tmp_path / "t.csv")
    began = time.monotonic()
    assert not list(scan([str(table)], NOWHERE, stopped=lambda: time.monotonic() - began > 1))
    assert time.monotonic() - began < 30


def test_a_list_that_hangs_is_a_row(tmp_path, monkeypatch):
    table = hang(monkeypatch, tmp_path / "t.csv")
    (clip,) = scan([str(table)], NOWHERE, stall_timeout=1)
    assert "made no progress for 1 s" in clip.error.what


def test_links_that_lead_in_a_circle_are_followed_once(tmp_path):
    touch(tmp_path / "a/1.mp4")
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere")
    found = list(scan([str(tmp_path)], NOWHERE))
    assert [Path(clip.name).name for clip in found if clip.is_readable] == ["1.mp4", "gone.mp4"]
    skipped = {Path(clip.name).name: clip.skipped for clip in found if clip.skipped}
    assert skipped.keys() == {"up", "b"} and f"the same folder as {tmp_path}/a" in skipped["b"]


def test_a_folder_named_twice_is_one_and_the_way_into_it_may_be_long(tmp_path):
    deep = tmp_path / "/".join("d" * 700)
    deep.mkdir(parents=True)
    touch(deep / "1.mp4")
    for source in (tmp_path, f"{tmp_path}/**/*.mp4"):
        (clip,) = scan([str(source), str(source)], NOWHERE)
        assert clip.is_readable and clip.source.path == deep / "1.mp4"


def test_a_folder_that_cannot_be_read_is_a_row(tmp_path, monkeypatch):
    """Simulated: whoever runs this as root may read everywhere."""
    touch(tmp_path / "a/1.mp4", tmp_path / "b/2.mp4")
    real = Path.iterdir

    def refuse(folder: Path):
        if folder.name == "a":
            raise PermissionError(13, "Permission denied", str(folder))
        return real(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)
    bad, good = scan([str(tmp_path)], NOWHERE)
    assert bad.error.what == f"{tmp_path}/a: cannot be read (Permission denied)" and good.error is None


def make_cache(folder: Path) -> Path:
    (folder / "objects").mkdir(parents=True)
    (folder / "cache.json").write_text('{"format": "vidlatent-cache", "version": 1}')
    (folder / "objects/x.latent").touch()
    return folder


@pytest.mark.parametrize("inside", ["", "objects", "objects/x.latent"])
def test_a_cache_is_no_source_nor_is_what_lies_in_it(tmp_path, inside):
    source = make_cache(tmp_path / "cache") / inside
    for cache in (tmp_path / "cache", NOWHERE):
        with pytest.raises(UsageError, match="belongs to a cache of latents"):
            list(scan([str(source)], cache))


def test_caches_among_the_sources_are_left_out_by_whatever_name(tmp_path):
    touch(tmp_path / "data/1.mp4")
    make_cache(tmp_path / "data/other")
    (tmp_path / "data/mine").symlink_to(make_cache(tmp_path / "mine"))
    good, other = scan([str(tmp_path / "data")], tmp_path / "mine")
    assert good.is_readable and "other: a cache of latents" in other.skipped


@pytest.mark.parametrize(("step", "said"), [(1, 1), (50, 0)])
def test_frames_that_are_each_taken_for_a_clip_are_told(tmp_path, step, said):
    touch(*(tmp_path / f"f/img{n * step:04d}.png" for n in range(20)))
    notices: list[str] = []
    assert len(list(scan([str(tmp_path)], NOWHERE, tell=notices.append))) == 20
    assert len(notices) == said
    assert all("f: 20 numbered images (img#.png), each taken for a clip of one frame" in n for n in notices)
