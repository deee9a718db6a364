"""The rows of a bench in a file: only what a bench has written there is touched."""

from types import SimpleNamespace

import pytest

from vidlatent.errors import BadInput
from vidlatent.jobs.measure.journal import BEGIN, BenchJournal


@pytest.mark.parametrize("text", ["my notes", '{"mine": 1}', "caf\u00e9\nmore", BEGIN.replace("key", "clip")])
def test_a_file_that_is_no_journal_stays_as_it_is(tmp_path, text: str):
    """What did not end with a line's end was taken for a row that was cut short, and removed."""
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(BadInput, match="line 1 is no row of a bench"):
        BenchJournal(path, {})
    assert path.read_text() == text


@pytest.mark.parametrize("written", [1, len(BEGIN), len(BEGIN) + 9])
def test_a_row_that_was_cut_short_is_removed(tmp_path, written: int):
    path = tmp_path / "rows.jsonl"
    path.write_text((BEGIN + '"clip.avi|123')[:written])
    BenchJournal(path, {})
    assert path.read_text() == ""


def test_a_clip_whose_name_is_no_utf8_has_a_place_for_its_pictures(tmp_path):
    BenchJournal(tmp_path / "rows.jsonl", {}).drop_pictures([SimpleNamespace(clip="\udcff.avi", subject="x")])
