"""Which frames of a video become clips, and what becomes of those that do not fit the model's grid."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from helpers import cache_clips as clips

from vidlatent.engine.load import load_model
from vidlatent.errors import BadInput, UsageError
from vidlatent.grid import Grid
from vidlatent.io.latent.reader import open_latent
from vidlatent.io.picture.resample import Rate
from vidlatent.io.read.source import ReadOptions
from vidlatent.jobs.cache.frames import GridKeeper, LeftOut, Numbering, Take
from vidlatent.jobs.cache.manifest import open_manifest
from vidlatent.jobs.cache.recipe import Recipe, cut_into_clips
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.cache.verify import compare_entry
from vidlatent.jobs.reading.survey import Probe
from vidlatent.windows import Plan, TimeRule

PLAN = Plan(TimeRule(16), TimeRule(4))
SET = (1, 5, 9)
ALLEGRO = Grid(time=4, space=8, head=4, least=24, stride=16)


def seen(frames: int = 50, rate: int = 25, first: Fraction = Fraction(0)) -> Probe:
    """What a header says of a clip of 32x32 pixels."""
    return Probe(32, 32, Fraction(1), frames, Fraction(frames, rate), Fraction(rate), first)


@pytest.fixture
def seven(tmp_path) -> Path:
    """A clip of seven frames, of which the toy takes five."""
    return clips.write_clip(tmp_path / "videos/seven.avi", 1, frames=7)


def test_frames_off_the_grid_are_cut_off_and_said(tmp_path, seven):
    clips.write_clip(seven.with_name("nine.avi"), 2, frames=9)
    root = tmp_path / "cache"
    assert clips.cache(seven.parent, root).done == 2
    nine, cut = clips.rows(root)
    assert (nine.frames, nine.cut, nine.notices) == (9, 0, ())
    assert (cut.frames, cut.cut, cut.shape[0]) == (5, 2, 2)
    assert cut.notices == ("2 frames at the end left out, to fit the model's grid",)
    with open_latent(Store(root).entry_path(cut.key)) as entry:
        assert entry.header.pad.frames == 0 and len(entry.clock) == 5
        assert entry.header.extra == {"cache_key": cut.key, "cache_cut": "2"}
    again = clips.cache(seven.parent, root)
    assert (again.reused, again.seconds) == (2, 0), "nothing is read again"


def test_a_clip_that_fits_is_one_entry_by_every_rule(tmp_path):
    clip, root = clips.write_clip(tmp_path / "videos/nine.avi", 2, frames=9), tmp_path / "cache"
    tallies = [clips.cache(clip, root, frames_rule=rule) for rule in ("cut", "pad", "drop")]
    assert [(tally.done, tally.reused) for tally in tallies] == [(1, 0), (0, 1), (0, 1)]
    assert len(clips.objects(root)) == 1


def test_padding_of_an_earlier_cache_does_not_pass_for_a_clip_that_was_cut(tmp_path, seven):
    root = tmp_path / "cache"
    clips.cache(seven, root, frames_rule="pad")
    assert clips.cache(seven, root).done == 1, "by the same key, but for the rule"
    assert clips.cache(seven, root).reused == clips.cache(seven, root, frames_rule="pad").reused == 1
    assert sorted((row.frames, row.shape[0]) for row in clips.rows(root)) == [(5, 2), (7, 3)]


def test_clips_off_the_grid_are_dropped_where_that_is_asked(tmp_path, seven):
    root = tmp_path / "cache"
    tally = clips.cache(seven, root, frames_rule="drop")
    assert (tally.done, tally.failed, tally.left_out) == (0, 0, 1) and not clips.objects(root)
    (row,) = clips.rows(root)
    assert row.status == "skipped" and "7 frames are not 1 + 4k" in row.error
    again = clips.cache(seven, root, frames_rule="drop")
    assert (again.left_out, again.seconds) == (1, 0)


def test_a_cut_entry_whose_maker_crashed_before_its_row_is_taken_over(tmp_path, seven):
    root = tmp_path / "cache"
    assert clips.cache(seven, root).done == 1, clips.rows(root)
    for journal in (root / "manifest").iterdir():
        journal.unlink()
    tally = clips.cache(seven, root)
    assert (tally.done, tally.reused) == (0, 1), clips.rows(root)
    assert (clips.rows(root)[0].frames, clips.rows(root)[0].cut) == (5, 2)


def test_a_clip_that_was_cut_compares_with_what_is_left_of_its_source(tmp_path, seven):
    root, model = tmp_path / "cache", load_model("toy", "cpu")
    clips.cache(seven, root)
    (row,) = clips.rows(root)
    replay = compare_entry(open_manifest(root), row, model)
    assert replay.identical and replay.frames == 5
    for cut, words in ((1, "has more than the 6 frames"), (3, "has 7 frames now, had 8")):
        with pytest.raises(BadInput, match=words):
            compare_entry(open_manifest(root), replace(row, cut=cut), model)


def test_chunks_at_another_rate_tile_the_clip(tmp_path):
    """`--chunk 1.0625 --fps 16` made 166 frames of a clip that has 160."""
    clip, root = clips.write_clip(tmp_path / "videos/a.avi", 1, frames=75), tmp_path / "cache"
    clips.cache(clip, root, fps=Fraction(16), chunk_s=Fraction("1.0625"), frames_rule="pad")
    found = sorted(clips.rows(root), key=lambda row: row.first_frame)
    assert [row.frames for row in found] == [17, 17, 14] and sum(row.frames for row in found) == 75 * 16 // 25
    assert [row.first_frame for row in found] == [0, 17, 34]


@pytest.mark.parametrize("frames", range(70, 90))
def test_the_frames_of_a_header_are_those_that_reading_gives(frames):
    timed, fps = [(n, n, 1) for n in range(frames)], Fraction(16)
    held = list(Rate(fps).hold(timed, Fraction(1, 25)))
    assert Numbering.of(ReadOptions(fps=fps), seen(frames)).total == len(held)


@pytest.mark.parametrize(
    ("word", "picked"),
    [
        (None, [(0, 9)]),
        ("head", [(0, 9)]),
        ("middle", [(5, 9)]),
        ("chunk", [(0, 9), (9, 9)]),
        ("slide:4", [(0, 9), (4, 9), (8, 9)]),
        ("uniform:3", [(0, 9), (5, 9), (11, 9)]),
        ("uniform:1", [(0, 9)]),
        ("uniform:99", [(first, 9) for first in range(12)]),
        ("full", [(0, 9)]),
    ],
)
def test_frames_are_taken_as_the_words_say(word, picked):
    assert Take.parse(word, SET).pick(20) == picked


@pytest.mark.parametrize(("available", "count"), [(100, 9), (9, 9), (8, 5), (4, 1)])
def test_a_clip_has_the_most_frames_of_the_set_that_it_can(available, count):
    assert Take.parse("head", SET).pick(available) == [(0, count)]


def test_a_video_shorter_than_the_shortest_clip_gives_none():
    assert Take.parse("chunk", (5, 9)).pick(4) == []
    assert Take.parse("full", ()).pick(4) == [(0, 4)]


@pytest.mark.parametrize("word", ["tail", "slide", "slide:0", "slide:x", "head:3", "uniform:-1", ""])
def test_words_that_mean_no_frames_are_refused(word):
    if word:
        with pytest.raises(UsageError, match=f"take {word}: unknown"):
            Take.parse(word, SET)
    with pytest.raises(UsageError, match=r"of how many frames\?"):
        Take.parse("chunk", ())


@pytest.mark.parametrize(("there", "kept"), [(24, 24), (30, 24), (41, 40)])
def test_clips_are_cut_to_what_a_model_with_a_rule_of_its_own_allows(there, kept):
    keeper = GridKeeper(TimeRule(16, batches=True), ALLEGRO)
    assert list(keeper.cut(iter(range(there)))) == list(range(kept))
    assert (keeper.count, keeper.left) == (there, there - kept)


def test_a_clip_shorter_than_its_shortest_is_left_out():
    keeper = GridKeeper(TimeRule(16, batches=True), ALLEGRO)
    with pytest.raises(LeftOut, match="23 frames are fewer than 24"):
        list(keeper.cut(iter(range(23))))


def test_clips_begin_where_their_first_frame_is():
    recipe = Recipe(PLAN, ReadOptions(fps=Fraction(16)), take=Take((17,), "chunk"))
    found = cut_into_clips(recipe, seen(100, first=Fraction(1, 2)))
    assert [(cut.start, cut.frames, cut.first) for cut in found] == [
        (None, 17, 0),
        (Fraction(1, 2) + Fraction(17, 16), 17, 17),
        (Fraction(1, 2) + Fraction(34, 16), 17, 34),
    ]
    at_its_own_rate = cut_into_clips(Recipe(PLAN, take=Take((25,), "middle")), seen(51))
    assert at_its_own_rate[0].start == (13 - Fraction(1, 2)) / 25, "half a frame early: stamps are rounded"


def test_a_rate_is_counted_as_readers_take_it():
    """A start computed at another rate, a billionth beside, would begin a frame late."""
    recipe = Recipe(PLAN, ReadOptions(fps=Fraction("29.97002997")), take=Take((9,), "chunk"))
    assert cut_into_clips(recipe, seen(100))[1].start == 9 * Fraction(1001, 30000)


def test_frames_are_counted_within_the_span_of_a_table():
    recipe = Recipe(PLAN, ReadOptions(start=Fraction(1), end=Fraction(2)), take=Take((9,), "chunk"))
    assert [(cut.start, cut.end, cut.first) for cut in cut_into_clips(recipe, seen(100))] == [
        (1, 2, 25),
        (Fraction(34) / 25 - Fraction(1, 50), 2, 34),
    ]
    assert Numbering.of(recipe.read, seen(100)).within(recipe.read) == (25, 50)


def test_short_videos_are_left_out_and_counted(tmp_path):
    folder = clips.write_clips(tmp_path / "videos", 3)  # of 5, 9 and 13 frames
    root = tmp_path / "cache"
    tally = clips.cache(folder, root, take=Take((6, 9), "chunk"))
    assert (tally.done, tally.left_out) == (2, 1)
    left = [row for row in clips.rows(root) if row.status == "skipped"]
    assert [row.error for row in left] == [f"{folder / 'clip0.avi'}: 5 frames, the shortest clip has 6"]
    assert [row.frames for row in clips.rows(root) if row.status == "done"] == [9, 9]


def test_a_header_that_promises_too_much_leaves_its_clip_out(tmp_path, monkeypatch):
    clip, root = clips.write_clip(tmp_path / "videos/a.avi", 1, frames=8), tmp_path / "cache"
    whole = Numbering.of
    monkeypatch.setattr(
        Numbering, "of", lambda read, probe: Numbering(*(vars(whole(read, probe)) | {"total": 9}).values())
    )
    tally = clips.cache(clip, root, take=Take((9,)))
    assert (tally.done, tally.left_out) == (0, 1)
    assert "9 frames are wanted, and 8 there" in clips.rows(root)[0].error
    monkeypatch.undo()
    assert clips.cache(clip, root, frames=9).done == 1, "who wants nine at most gets what there is"


def test_seconds_and_frames_do_not_cut_together():
    with pytest.raises(UsageError, match="take chunk cuts by frames"):
        Recipe(PLAN, chunk_s=Fraction(2), take=Take((9,), "chunk"))


def test_every_clip_is_drawn_with_noise_of_its_own(tmp_path):
    folder, root = clips.write_clips(tmp_path / "videos", 2), tmp_path / "cache"
    clips.cache(folder, root, posterior="sample", seed=3)
    seeds = []
    for row in clips.rows(root):
        with open_latent(Store(root).entry_path(row.key)) as entry:
            seeds.append(entry.header.seed)
    assert seeds == [int(row.key[:16], 16) for row in clips.rows(root)] and len(set(seeds)) == 2
