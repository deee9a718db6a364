"""`vidlatent peek` as a person meets it."""

import json

import pytest

import vidlatent as package
from vidlatent.jobs.encode import EncodeOptions, ReadOptions


@pytest.fixture(scope="module")
def latent(tmp_path_factory, sample):
    """A few frames in Pocket's latents."""
    path = tmp_path_factory.mktemp("latent") / "s.latent"
    package.encode(sample, path, options=EncodeOptions(read=ReadOptions(frames=5, size=(64, 48))))
    return path


def test_a_sheet_is_made_and_said_in_one_line(vidlatent, latent, tmp_path):
    run = vidlatent("peek", latent, "-o", tmp_path / "sheet.png")
    assert (run.code, run.out) == (0, "")
    assert "sheet.png: 2 pictures 64x48, shown by the colours of pocket, " in run.err
    assert (tmp_path / "sheet.png").read_bytes()[1:4] == b"PNG"


def test_facts_of_a_film_come_as_json(vidlatent, latent, tmp_path):
    run = vidlatent("peek", latent, "-o", tmp_path / "quick.mkv", "--every", "2", "--json")
    facts = json.loads(run.out)
    assert facts["pictures"] == 1 and facts["shown_by"] == "the colours of pocket"
    assert facts["target"] == str(tmp_path / "quick.mkv")


def test_an_existing_output_is_kept_unless_forced(vidlatent, latent, tmp_path):
    target = tmp_path / "a.png"
    assert vidlatent("peek", latent, "-o", target).code == 0
    vidlatent("peek", latent, "-o", target).failed(2, "exists already", "--force")
    assert vidlatent("peek", latent, "-o", target, "--force").code == 0


def test_force_replaces_no_file_of_another_kind(vidlatent, latent, tmp_path):
    target = tmp_path / "a.png"
    target.write_text("mine")
    vidlatent("peek", latent, "-o", target, "--force").failed(2, "is not a picture in PNG", "--force")
    vidlatent("peek", latent, "-o", latent, "--force").failed(2, "is the input itself")
    assert target.read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-o", "a.txt"], ["cannot tell what to write", ".mp4"]),
        (["-o", "a.png", "--model", "toy"], ["toy: is no quick decoder", "vidlatent decode"]),
        (["-o", "a.png", "--model", "taew2_1"], ["taew2_1: its weights cannot be fetched", "--weights"]),
    ],
)
def test_what_cannot_be_shown_is_refused_in_words(vidlatent, latent, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    vidlatent("peek", latent, *words).failed(2, *told)
    assert not list(tmp_path.iterdir())
