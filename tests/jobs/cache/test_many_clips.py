"""A run of more clips than are listed ahead: work begins with the first, shares follow from names alone."""

from dataclasses import replace
from itertools import count, islice
from pathlib import Path

import pytest
from helpers import cache_clips as clips
from hypothesis import given
from hypothesis import strategies as st

from vidlatent.cli.cache_progress import describe
from vidlatent.engine.load import load_model
from vidlatent.io.sources.disk import DiskSource
from vidlatent.jobs.cache import estimate, lookup, run, scan, seen
from vidlatent.jobs.cache.claims import Claim
from vidlatent.jobs.cache.estimate import draw_clips, dry_run, find_margin
from vidlatent.jobs.cache.lookup import take_part
from vidlatent.jobs.cache.plan import Part
from vidlatent.jobs.cache.seen import SeenBefore
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.cache.tally import Tally
from vidlatent.jobs.reading.clip import Clip


@pytest.fixture
def few(monkeypatch):
    """Two clips are few, three are many, of which two are looked at."""
    for module in (lookup, run, estimate):
        monkeypatch.setattr(module, "FEW", 2)
    monkeypatch.setattr(estimate, "SAMPLE", 2)


def name_clips(number: int) -> list[Clip]:
    return [Clip(DiskSource(Path(f"/{n}.mp4")), name=f"/{n}.mp4") for n in range(number)]


@given(st.lists(st.integers(0, 40), max_size=80), st.integers(1, 5))
def test_what_came_before_is_known_whatever_was_sorted_since(numbers, young):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seen, "_YOUNG", young)
        before, plain = SeenBefore(), set()
        for number in numbers:
            assert before.add(number) == (number not in plain)
            plain.add(number)


def test_a_hash_that_ends_with_nothing_is_found_again(monkeypatch):
    """NumPy leaves out zero bytes at the end of a text."""
    monkeypatch.setattr(seen, "_YOUNG", 1)

    class Ending:
        def __init__(self, data, digest_size):
            self._data = data

        def digest(self):
            return self._data.ljust(16, b"\0")

    monkeypatch.setattr(seen, "blake2b", Ending)
    before = SeenBefore()
    assert [before.add(n) for n in (1, 2, 1)] == [True, True, False]


def test_parts_of_many_clips_have_all_of_them_once_and_are_about_equal():
    listed = name_clips(3000)
    parts = [[clip.name for clip in take_part(listed, Part(n, 3))] for n in range(3)]
    assert sorted(name for part in parts for name in part) == sorted(clip.name for clip in listed)
    assert all(900 < len(part) < 1100 for part in parts)


def test_a_share_of_many_clips_begins_before_they_are_all_listed(few):
    endless = (Clip(DiskSource(Path(f"/{n}.mp4")), name=f"/{n}.mp4") for n in count())
    source = lookup.SourceLookup(recipe=None, probers=None, index=None)
    assert len(list(islice(source.pick_part(endless, Part(1, 2)), 5))) == 5


def test_many_clips_are_cached_in_parts_as_few_are(few, tmp_path):
    folder = clips.write_clips(tmp_path / "videos", 4)
    clips.cache(folder, tmp_path / "whole")
    made = [
        clips.cache(folder, tmp_path / "parts", replace(clips.ONE, shard=Part(n, 2))).done for n in range(2)
    ]
    assert sum(made) == 4 and clips.truth(tmp_path / "parts") == clips.truth(tmp_path / "whole")


def test_a_machine_that_is_done_takes_clips_of_others_that_nobody_has_begun(few, tmp_path, monkeypatch):
    folder, root = clips.write_clips(tmp_path / "videos", 5), tmp_path / "parts"
    (folder / "empty1.mp4").touch()
    clips.cache(folder, tmp_path / "whole")
    by_number = lambda found, part: (c for c in found if int(c.name[-5]) % part.count == part.index)  # noqa: E731
    monkeypatch.setattr(lookup, "take_part", by_number)
    first, second = (replace(clips.ONE, shard=Part(n, 2)) for n in range(2))
    (key,) = (row.key for row in clips.rows(tmp_path / "whole") if row.source.endswith("clip1.avi"))
    Store.create(root)
    with Claim.take(Store(root).claims / key):  # another process makes it
        tally = clips.cache(folder, root, replace(first, steal=True))
    assert (tally.done, tally.reused, tally.failed) == (4, 0, 0)  # its own 0, 2 and 4, and 3
    tally = clips.cache(folder, root, replace(second, steal=True))
    assert (tally.done, tally.reused, tally.failed) == (1, 1, 1)
    assert clips.truth(root) == clips.truth(tmp_path / "whole")


def test_the_first_clip_is_encoded_before_the_last_is_listed(few, tmp_path, monkeypatch):
    folder, listed, seen_at = clips.write_clips(tmp_path / "videos", 30), [], []
    real = scan._make_file_clip
    monkeypatch.setattr(scan, "_make_file_clip", lambda *args: (listed.append(1), real(*args))[1])

    class Watch:
        def update(self, tally):
            seen_at.append((len(listed), tally.clips, tally.counting))

    model, recipe = load_model("toy", "cpu"), clips.recipe()
    tally = run.run([str(folder)], tmp_path / "cache", model, recipe, clips.ONE, Watch())
    assert seen_at[0][0] < 30 and seen_at[0][2] and not tally.counting
    assert (tally.done, tally.clips) == (30, 30)


def test_progress_says_that_more_clips_are_being_found():
    assert describe(Tally(clips=7, counting=True)).startswith("0 of 7 clips found so far")
    assert " left" not in describe(Tally(clips=7, done=1, seconds=1.0, counting=True))


def test_a_dry_run_of_many_clips_looks_at_some_and_says_how_sure_it_is(few, tmp_path):
    folder = clips.write_clips(tmp_path / "videos", 6)  # of 5, 9 and 13 frames, twice
    (folder / "notes.txt").touch()
    model = load_model("toy", "cpu")
    found = dry_run([str(folder)], tmp_path / "cache", model, clips.recipe(), clips.ONE)
    assert (found.files, found.skipped, found.to_do, found.sampled) == (7, 1, 6, 2)
    assert 6 * 5 <= found.frames <= 6 * 13 and found.margin > 0
    assert abs(found.frames - 54) <= 54 * 2 * found.margin


def test_a_dry_run_of_few_clips_is_sure(tmp_path):
    folder = clips.write_clips(tmp_path / "videos", 2)
    found = dry_run([str(folder)], tmp_path / "cache", load_model("toy", "cpu"), clips.recipe(), clips.ONE)
    assert (found.frames, found.sampled, found.margin) == (14, 0, 0.0)


def test_every_clip_is_as_likely_to_be_drawn_as_any_other(monkeypatch):
    monkeypatch.setattr(estimate, "FEW", 20)
    monkeypatch.setattr(estimate, "SAMPLE", 10)
    drawn = draw_clips(name_clips(1000))
    numbers = [int(clip.name[1:-4]) for clip in drawn.readable]
    assert len(set(numbers)) == 10 and drawn.count == drawn.files == 1000 and max(numbers) > 500


def test_the_margin_is_that_of_a_mean():
    assert find_margin([10] * 100, 100) == 0 and find_margin([], 5) == 0
    assert find_margin([20] * 50, 100) == pytest.approx(1.96 * 10 / 10 / 10)


def test_who_waits_for_whom_is_said_of_stores_only_where_there_are_some():
    tally = Tally(clips=2, done=1, frames=9, seconds=10, starved_s=1, full_s=2, store_s=2.5)
    assert "model waits 10%, readers wait 20%, stores are waited for 25%" in describe(tally)
    assert "stores" not in describe(replace(tally, store_s=0))
