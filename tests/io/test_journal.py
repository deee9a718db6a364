"""The journal of an unfinished file: what it says is taken only where it can be so."""

from pathlib import Path

import pytest

from vidlatent.errors import BadInput, OutOfResources, UsageError
from vidlatent.io.journal import Journal, Making, Piece, is_final

FACTS = {"source": {"size": 7}, "recipe": {"seed": 1, "span": (1, 2)}}
PIECES = [Piece(n, (f"{n:064d}",)) for n in (2, 5, 9)]


def written(folder: Path, pieces=PIECES, facts=FACTS) -> Path:
    """The journal that a run has left of folder/x."""
    journal = Journal(folder / "x", Making(facts))
    journal.begin(pieces[:1])
    for piece in pieces[1:]:
        journal.add(piece)
    journal.close()
    return folder / ".x.journal.partial"


def read(folder: Path, facts=FACTS, resume: bool = True) -> tuple[list[Piece], str | None]:
    journal = Journal(folder / "x", Making(facts, resume))
    return journal.read(), journal.why_not


def test_what_was_noted_is_read_by_who_makes_the_same(tmp_path):
    written(tmp_path)
    assert read(tmp_path) == (PIECES, None)
    assert read(tmp_path, resume=False) == ([], None)


def test_where_no_run_was_there_is_nothing_to_explain(tmp_path):
    assert read(tmp_path) == ([], None)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({**FACTS, "source": {"size": 8}}, "the source has changed since an earlier run (size)"),
        (
            {**FACTS, "recipe": {"seed": 2, "dtype": "bf16"}},
            "the recipe has changed since an earlier run (dtype, seed, span)",
        ),
        ({**FACTS, "machine": {}}, "says nothing of its machine"),
    ],
)
def test_other_facts_are_named(tmp_path, facts, words):
    written(tmp_path)
    pieces, why_not = read(tmp_path, facts)
    assert not pieces and words in why_not


def test_pieces_must_grow(tmp_path):
    written(tmp_path, [PIECES[1], PIECES[2], PIECES[0]])
    assert read(tmp_path) == (PIECES[1:], None)


def test_without_facts_nothing_is_kept_and_what_was_there_goes(tmp_path):
    path = written(tmp_path)
    journal = Journal(tmp_path / "x", None)
    journal.begin()
    journal.add(PIECES[0])
    assert not path.exists()


def test_a_journal_that_cannot_be_read_or_written_is_said(tmp_path):
    (tmp_path / ".x.journal.partial").mkdir()
    pieces, why_not = read(tmp_path)
    assert not pieces and "the journal of an earlier run cannot be read" in why_not
    with pytest.raises(UsageError, match=r"\.x\.journal\.partial: cannot be written"):
        Journal(tmp_path / "x", Making(FACTS)).begin()


def test_only_what_another_run_would_meet_again_is_final():
    assert is_final(BadInput("NaN"))
    assert not any(map(is_final, (OutOfResources("disk full"), KeyboardInterrupt(), SystemExit())))
