"""Going on with a folder of images that was being decoded when its run was killed."""

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from helpers import cases
from helpers.random_models import random_model

from vidlatent.errors import BadInput, UsageError
from vidlatent.io.write.images import ImageSink
from vidlatent.jobs.decode import DecodeOptions, decode
from vidlatent.jobs.encode import encode
from vidlatent.jobs.resume import OTHERS

one_thread = cases.one_thread

FRAMES = 100  # of 26 latents
RESUME = DecodeOptions(resume=True)
KEPT = "frames of an earlier run are kept"


@pytest.fixture
def model():
    return random_model("pocket")


@pytest.fixture
def latents(as_video, moving_clip, tmp_path, model) -> Path:
    encode(as_video("clip", moving_clip(FRAMES, 16, 24)), tmp_path / "x.latent", model)
    return tmp_path / "x.latent"


@pytest.fixture
def break_off(latents, model, tmp_path, monkeypatch):
    """Decodes into a folder of images, and breaks off by an error before frame `n`; the partial folder."""

    def run(n: int, options: DecodeOptions = RESUME, error: BaseException | None = None) -> Path:
        error = error or KeyboardInterrupt()
        with monkeypatch.context() as patch:

            def write(self, rgb, pts, duration, write=ImageSink.write):
                if len(self._pts) == n:
                    raise error
                write(self, rgb, pts, duration)

            patch.setattr(ImageSink, "write", write)
            with pytest.raises(type(error)):
                decode(latents, f"{tmp_path}/out/", model, options)
        return tmp_path / ".out.partial"

    return run


def finish(latents: Path, model, options: DecodeOptions = RESUME) -> tuple[dict[str, bytes], str]:
    """All files of the folder once it has been gone on with, and what was said; nothing else is left."""
    result = decode(latents, f"{latents.parent}/out/", model, options)
    assert sorted(os.listdir(latents.parent)) == ["clip", "out", "x.latent"]
    return files(latents.parent / "out"), "\n".join(result.notices)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def undisturbed(latents: Path, model, options: DecodeOptions | None = None) -> dict[str, bytes]:
    decode(latents, f"{latents.parent}/whole/", model, options)
    return files(latents.parent / "whole")


@pytest.mark.parametrize("n", [1, 37, 99])
def test_images_that_are_there_are_kept_and_the_others_made(latents, model, break_off, n):
    break_off(n)
    got, said = finish(latents, model)
    assert f"{n} {KEPT}" in said
    assert got == undisturbed(latents, model) and len(got) == FRAMES + 1


def test_a_part_of_a_clip_is_gone_on_with_too(latents, model, break_off):
    options = replace(RESUME, start=Fraction(1), end=Fraction(2))
    break_off(20, options)
    got, said = finish(latents, model, options)
    assert f"20 {KEPT}" in said and got == undisturbed(latents, model, replace(options, resume=False))


def test_only_the_end_is_decoded_again(latents, model, break_off, monkeypatch):
    break_off(95)
    seen = []
    run = model.network.decode
    monkeypatch.setattr(model.network, "decode", lambda z, state: seen.append(z.shape[2]) or run(z, state))
    finish(latents, model)
    assert sum(seen) == 14


def test_an_image_that_is_not_as_it_was_written_is_made_again_and_what_follows(latents, model, break_off):
    partial = break_off(50)
    (partial / "000030.png").write_bytes(b"torn")
    (partial / "stranger").write_bytes(b"")
    got, said = finish(latents, model)
    assert f"30 {KEPT}" in said and got == undisturbed(latents, model)


def test_images_that_are_others_now_are_all_made_again(latents, model, break_off, monkeypatch):
    """What is there fits its checksums, so only what comes out twice can tell."""
    run = model.network.decode
    with monkeypatch.context() as patch:
        patch.setattr(model.network, "decode", lambda z, state: (video * 0.5 for video in run(z, state)))
        break_off(50)
    got, said = finish(latents, model)
    assert OTHERS in said and got == undisturbed(latents, model)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: os.utime(path, ns=(0, 0)), "the source has changed since an earlier run (modified)"),
        (lambda path: None, "the recipe has changed since an earlier run (span)"),
    ],
)
def test_what_was_made_otherwise_is_begun_again(latents, model, break_off, change, words):
    break_off(10, RESUME if "source" in words else replace(RESUME, end=Fraction(2)))
    change(latents)
    got, said = finish(latents, model)
    assert f"begun again: {words}" in said and got == undisturbed(latents, model)


def test_without_resume_and_after_an_error_of_ours_nothing_is_left(latents, break_off, tmp_path):
    break_off(10, DecodeOptions())
    break_off(10, error=BadInput("NaN"))
    assert sorted(os.listdir(tmp_path)) == ["clip", "x.latent"]


def test_a_film_cannot_be_gone_on_with(latents, model, tmp_path):
    for target in (tmp_path / "x.mp4", "-"):
        with pytest.raises(UsageError, match="is a film, which cannot be gone on with"):
            decode(latents, target, model, RESUME)


def test_a_model_that_looks_back_without_end_begins_again(latents, model, break_off):
    model.network.spec = replace(model.spec, horizon=None)
    break_off(30)
    got, said = finish(latents, model)
    assert f"begun again: what {model.spec.name} sees of a clip has no end" in said
    assert got == undisturbed(latents, model)
