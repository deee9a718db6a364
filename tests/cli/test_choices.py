"""Flags that take one of a few words."""

from functools import partial

import pytest
import typer

from vidlatent.cli import app, choices
from vidlatent.errors import UsageError
from vidlatent.io.latent.header import POSTERIORS
from vidlatent.io.picture.asked import FITS
from vidlatent.io.picture.colour import find_matrix
from vidlatent.io.write.images import FORMATS
from vidlatent.jobs.cache.frames import FRAMES_RULES
from vidlatent.jobs.cache.shards import WRITERS
from vidlatent.jobs.measure.align import MODES
from vidlatent.jobs.measure.protocols import PROTOCOLS
from vidlatent.jobs.save import SPACES
from vidlatent.jobs.small.pack import PACKED
from vidlatent.jobs.storing import STORES


@pytest.mark.parametrize(
    ("words", "table"),
    [
        (choices.ALIGNMENTS, MODES),
        (choices.FITS, FITS),
        (choices.FRAMES_RULES, FRAMES_RULES),
        (choices.IMAGES, FORMATS),
        (choices.POSTERIORS, POSTERIORS),
        (choices.PROTOCOLS, PROTOCOLS),
        (choices.SHARDS, WRITERS),
        (choices.SPACES, SPACES),
        (choices.STORES, STORES),
        (choices.FILE_STORES, (*STORES, PACKED)),
    ],
)
def test_the_words_of_a_flag_are_those_that_the_job_knows(words, table):
    assert set(words) == set(table)


def test_every_matrix_that_is_offered_can_be_converted():
    assert all(find_matrix(name) for name in choices.MATRICES)


@pytest.mark.parametrize("word", ["bf16", "BF16", "bfloat16", "BFloat16"])
def test_a_dtype_has_two_names_in_any_case(word):
    options = typer.main.get_command(app.app).commands["encode"].params
    dtype = next(option for option in options if option.name == "dtype")
    assert dtype.process_value(None, word) == "bf16"


def test_a_word_that_is_none_of_them_names_the_flag_and_all_of_them():
    choose = partial(choices.choose, "--fit", choices.FITS, {})
    assert choose("Crop") == "crop"
    with pytest.raises(UsageError, match="--fit foo: unknown") as caught:
        choose("foo")
    assert caught.value.hint == "one of stretch, crop, pad"


def test_help_and_shells_know_the_words(vidlatent, monkeypatch):
    assert "--fit stretch|crop|pad" in vidlatent("encode", "--help").out
    for name, value in {
        "_VIDLATENT_COMPLETE": "complete_bash",
        "COMP_WORDS": "vidlatent encode --fit ",
        "COMP_CWORD": "3",
    }.items():
        monkeypatch.setenv(name, value)
    assert vidlatent().out.split() == ["stretch", "crop", "pad"]
