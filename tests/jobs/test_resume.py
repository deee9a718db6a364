"""Going on with an encoding that broke off: what was made is kept where it is the same, and only there."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import cases
from helpers.random_models import random_model

from vidlatent.engine.load import load_model
from vidlatent.errors import BadInput, OutOfResources, UsageError
from vidlatent.files import partial_path
from vidlatent.io.latent.writer import LatentWriter
from vidlatent.jobs.encode import EncodeOptions, encode
from vidlatent.jobs.resume import OTHERS, describe_making
from vidlatent.windows import Plan, TimeRule

one_thread = cases.one_thread

FRAMES = 150  # in 19 windows
RESUME = EncodeOptions(resume=True)
KEPT = "latents of an earlier run are kept"
WHOLE: dict[str, bytes] = {}  # files of undisturbed runs, by what was asked for


@pytest.fixture
def source(request, as_clip, as_video, moving_clip) -> Path:
    """The same clip for every test."""
    write = as_clip if getattr(request, "param", "video") == "images" else as_video
    return write("clip", moving_clip(FRAMES, 16, 24))


@pytest.fixture
def model():
    return random_model("pocket")


@pytest.fixture
def break_off(source, tmp_path, monkeypatch):
    """Encodes the clip to x.latent, and breaks off by an error after so many windows; the file it leaves."""

    def run(model, windows: int, options: EncodeOptions = RESUME, error=KeyboardInterrupt) -> Path:
        with monkeypatch.context() as patch:
            appended = []

            def append(self, *latents, write=LatentWriter.append):
                if len(appended) == windows:
                    raise error
                appended.append(latents)
                write(self, *latents)

            patch.setattr(LatentWriter, "append", append)
            with pytest.raises(error if isinstance(error, type) else type(error)):
                encode(source, tmp_path / "x.latent", model, options)
        return partial_path(tmp_path / "x.latent")

    return run


def journal_of(partial: Path) -> Path:
    return partial.with_name(".x.latent.journal.partial")


def finish(source: Path, model, options: EncodeOptions = RESUME) -> tuple[bytes, str]:
    """The whole file once it has been gone on with, and what was said; nothing else is left."""
    target = source.parent / "x.latent"
    result = encode(source, target, model, options)
    assert sorted(path.name for path in source.parent.iterdir()) == ["clip", "x.latent"]
    return target.read_bytes(), "\n".join(result.notices)


def undisturbed(source: Path, model, options: EncodeOptions | None = None) -> bytes:
    """What one run makes of the clip, which is made once of what was asked for once."""
    asked = repr((source.is_dir(), options, model.spec))
    if asked not in WHOLE:
        target = source.parent / "whole.latent"
        encode(source, target, model, options)
        WHOLE[asked] = target.read_bytes()
        target.unlink()
    return WHOLE[asked]


@pytest.mark.parametrize("posterior", ["mode", "sample", "full"])
@pytest.mark.parametrize("windows", [1, 9, 18])
def test_what_was_made_is_kept_and_the_rest_is_what_it_would_have_been(
    source, model, break_off, posterior, windows
):
    options = replace(RESUME, posterior=posterior)
    break_off(model, windows, options)
    got, said = finish(source, model, options)
    assert KEPT in said
    assert got == undisturbed(source, model, replace(options, resume=False))


@pytest.mark.parametrize("form", [{"store": "int8"}, {"store": "bf16", "pack": True}], ids=["int8", "pack"])
@pytest.mark.parametrize("windows", [9, 18])
def test_coded_latents_are_gone_on_with_after_their_last_whole_chunk(source, model, break_off, form, windows):
    options = replace(RESUME, **form)
    break_off(model, windows, options)
    got, said = finish(source, model, options)
    assert f"{windows * 2 // 16 * 16} {KEPT}" in said
    assert got == undisturbed(source, model, replace(options, resume=False))


@pytest.mark.parametrize("rule", [TimeRule(16, 1), TimeRule(16, 5), TimeRule(16, 9, blend=2)])
@pytest.mark.parametrize("windows", [2, 5, 8])
def test_windows_that_stand_alone_are_gone_on_with_too(source, model, break_off, rule, windows):
    options = replace(RESUME, plan=Plan(rule, TimeRule(4)))
    break_off(model, windows, options)
    got, said = finish(source, model, options)
    assert KEPT in said and got == undisturbed(source, model, replace(options, resume=False))


def test_only_the_end_goes_through_the_network_again(source, model, break_off, monkeypatch):
    break_off(model, 16)
    seen = []
    run = model.network.encode
    monkeypatch.setattr(model.network, "encode", lambda x, state: seen.append(x.shape[2]) or run(x, state))
    finish(source, model)
    assert sum(seen) < FRAMES / 2


def test_a_piece_that_is_not_as_it_was_written_is_made_again(source, model, break_off):
    partial = break_off(model, 12)
    torn = bytearray(partial.read_bytes())
    torn[-100] ^= 1
    partial.write_bytes(torn[:-3])
    got, said = finish(source, model)
    assert KEPT in said and got == undisturbed(source, model)


def test_a_line_that_was_cut_short_ends_the_journal(source, model, break_off):
    journal = journal_of(break_off(model, 12))
    journal.write_bytes(journal.read_bytes()[:-30])
    got, said = finish(source, model)
    assert KEPT in said and got == undisturbed(source, model)


@pytest.mark.parametrize(
    ("source", "file", "differs"),
    [("images", "clip/0003.png", "files"), ("video", "clip", "modified")],
    indirect=["source"],
)
def test_a_source_that_changed_is_begun_again(source, model, break_off, tmp_path, file, differs):
    break_off(model, 5)
    os.utime(tmp_path / file, ns=(0, 0))
    got, said = finish(source, model)
    assert f"begun again: the source has changed since an earlier run ({differs})" in said
    assert got == undisturbed(source, model)


def test_another_recipe_begins_again_and_says_what_differs(source, model, break_off):
    break_off(model, 5, replace(RESUME, posterior="sample"))
    got, said = finish(source, model)
    assert "begun again: the recipe has changed since an earlier run (posterior, seed)" in said
    assert got == undisturbed(source, model)


@pytest.mark.parametrize("text", ["", "no journal\n", "[1]\n", '{"journal": 2}\n', '{"journal": 1}\n'])
def test_a_journal_that_says_nothing_begins_again(source, model, break_off, text):
    journal_of(break_off(model, 5)).write_text(text)
    got, said = finish(source, model)
    assert "begun again: what an earlier run left" in said and got == undisturbed(source, model)


@pytest.mark.parametrize(
    "line", ["[]", "[3]", "[null, 1]", '[2, "ab"]', '[true, "{0}"]', '[1e9, "{0}"]', "[" * 5000]
)
def test_a_wrong_line_ends_the_journal(source, model, break_off, line):
    journal = journal_of(break_off(model, 5))
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join([*lines[:3], line.replace("{0}", "0" * 64), *lines[3:]]) + "\n")
    got, said = finish(source, model)
    assert KEPT in said and got == undisturbed(source, model)


def test_latents_that_are_others_now_are_all_made_again(source, model, break_off):
    """What is there fits its checksums, so only what comes out twice can tell."""
    partial = break_off(model, 12)
    *lines, last = journal_of(partial).read_text().splitlines()
    count, _ = json.loads(last)
    before = json.loads(lines[-1])[0]
    whole = bytearray(partial.read_bytes())
    start = len(whole) - (len(whole) - data_start(whole)) * (count - before) // count
    whole[start:] = bytes(len(whole) - start)
    partial.write_bytes(whole)
    journal_of(partial).write_text(
        "\n".join([*lines, json.dumps([count, hashlib.sha256(whole[start:]).hexdigest()])]) + "\n"
    )
    got, said = finish(source, model)
    assert OTHERS in said and got == undisturbed(source, model)


def data_start(partial: bytes) -> int:
    """Where the latents of an unfinished file begin: behind zeros, on a page."""
    first = next(n for n, byte in enumerate(partial) if byte)
    return first // 4096 * 4096


def test_a_model_that_looks_back_without_end_begins_again(source, model, break_off):
    model.network.spec = replace(model.spec, horizon=None)
    break_off(model, 5)
    got, said = finish(source, model)
    assert f"begun again: what {model.spec.name} sees of a clip has no end" in said
    assert got == undisturbed(source, model)


def test_a_full_disk_leaves_what_there_is_and_a_bad_latent_nothing(source, model, break_off, tmp_path):
    break_off(model, 5, error=OutOfResources("disk full"))
    assert journal_of(tmp_path / ".x.latent.partial").exists()
    break_off(model, 5, error=BadInput("NaN"))
    assert os.listdir(tmp_path) == ["clip"]


def test_an_interruption_without_resume_leaves_nothing(source, model, break_off, tmp_path):
    break_off(model, 5, EncodeOptions())
    assert os.listdir(tmp_path) == ["clip"]


@pytest.mark.parametrize("source", ["images"], indirect=True)  # of which there is nothing else to say
def test_without_resume_everything_is_made_anew(source, model, break_off, tmp_path):
    break_off(model, 5)
    got, said = finish(source, model, EncodeOptions())
    assert not said and got == undisturbed(source, model)


def test_a_pipe_cannot_be_gone_on_with():
    with pytest.raises(UsageError, match="-: can be read only once"):
        describe_making("-", {}, load_model("toy"), resume=True)
