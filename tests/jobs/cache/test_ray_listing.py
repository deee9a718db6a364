"""What a task on Ray gives to actors: bundles of clips as they are found. Ray itself is not needed."""

from pathlib import Path

import pytest

from vidlatent.errors import UsageError
from vidlatent.jobs.cache.options import RunOptions
from vidlatent.jobs.cache.ray_engine import COUNTS, SECONDS, Bundle, add_up, list_bundles, pickle
from vidlatent.jobs.cache.tally import Tally


@pytest.fixture
def folder(tmp_path) -> Path:
    for number in range(5):
        (tmp_path / f"{number}.mp4").touch()
    return tmp_path


def names(bundle: Bundle) -> list[str]:
    return [Path(clip.name).stem for clip in bundle.clips]


def test_clips_come_in_bundles_and_the_last_one_counts_them(folder):
    *bundles, last = list_bundles([str(folder)], folder / "cache", RunOptions(), 2)
    assert [names(bundle) for bundle in bundles] == [["0", "1"], ["2", "3"], ["4"]]
    assert last == Bundle((), 5)


def test_the_first_bundle_is_there_before_the_next_clip_is_looked_for(folder):
    bundles = list_bundles([str(folder), "/no/such/file"], folder / "cache", RunOptions(), 2)
    assert names(next(bundles)) == ["0", "1"]
    bundles.close()


def test_what_is_wrong_with_a_source_comes_last_and_is_raised_by_who_counts(folder):
    *bundles, last = list_bundles([str(folder), f"{folder}/*.none"], folder / "cache", RunOptions(), 2)
    assert len(bundles) == 3 and pickle.loads(pickle.dumps(last)).found == 5
    row = dict.fromkeys((*COUNTS, *SECONDS), 1) | {"last": pickle.dumps(last)}
    with pytest.raises(UsageError, match="matches no file"):
        add_up(Tally(), row)


def test_counts_are_added_and_the_number_of_clips_is_known_with_the_last_bundle():
    tally, counts = Tally(counting=True), dict.fromkeys((*COUNTS, *SECONDS), 1)
    add_up(tally, counts | {"last": b""})
    assert (tally.done, tally.clips, tally.counting) == (1, 5, True)
    add_up(tally, counts | {"last": pickle.dumps(Bundle((), 12, ("a notice",)))})
    assert (tally.done, tally.clips, tally.counting, tally.notices) == (2, 12, False, ["a notice"])
