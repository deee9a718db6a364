"""Latents in smaller forms, from the command line to the film."""

import json

import numpy as np
import pytest

from vidlatent.cli import app
from vidlatent.io.latent.reader import open_latent
from vidlatent.jobs.decode import decode_frames
from vidlatent.jobs.storing import STORES, choose_form, guess_item_bytes, name_store

FORMS = {
    "int8": (["--store", "int8"], {"form": "int8"}, 0.55),
    "planes": (["--pack"], {"form": "planes", "dtype": "F32"}, 1.05),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_film_of_coded_latents_is_that_of_floats(as_clip, moving_clip, tmp_path, toy, capsys, form):
    """The toy has one latent for each colour of a pixel, so int8 is off by half a step of them, and bf16."""
    words, stored, share = FORMS[form]
    clip, frames = as_clip("clip", moving_clip(9, 32, 48)), moving_clip(9, 32, 48)
    paths = [tmp_path / name for name in ("floats.latent", "coded.latent")]
    for path, more in zip(paths, ([], words), strict=True):
        assert app.run(["encode", str(clip), "-o", str(path), "-m", "toy", "--device", "cpu", *more]) == 0
    capsys.readouterr()
    assert app.run(["inspect", str(paths[1]), "--verify", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["stored"] == {**stored, "shape": [3, 768, 4, 6]}
    with open_latent(paths[1]) as latents:
        film = np.stack(list(decode_frames(latents, toy.model, latents.header.plan, (0, 9))))
    assert np.abs(film.astype(int) - frames).max() <= (1 if form == "int8" else 0)
    floats = 3 * 768 * 4 * 6 * 4
    assert told["bytes"] < paths[0].stat().st_size + floats * (share - 1)


def test_words_and_forms_name_each_other():
    for store in STORES:
        form = choose_form(store, False, "fp32")
        assert name_store(form.name, form.dtype) == store
        assert guess_item_bytes(store, False, "fp32") in (1, 2, 4)
    packed = choose_form(None, True, "bf16")
    assert name_store(packed.name, packed.dtype) == "bf16 --pack"
    assert guess_item_bytes(None, True, "bf16") < 2
