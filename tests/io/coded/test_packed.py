"""Tests for latents that are packed: how far they may be off, and what a file may not say of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.latent_edits import entry, inside, rewrite
from helpers.stored import FRAMES, all_of, cut, pack, some_latents, write
from hypothesis import given, settings
from hypothesis import strategies as st

from vidlatent.errors import BadLatentFile
from vidlatent.io.coded.packed import JOINED, LARGEST, Packed, choose_sample, fit
from vidlatent.io.coded.predictor import MOST, Taps
from vidlatent.io.latent.reader import LatentReader, open_latent

ROUNDED = 2**-22  # of a latent and its offset: what float32 may add to half a step


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 26), st.integers(1, 40), st.integers(1, 5), st.integers(1, 7)),
    exponent=st.integers(-100, 100),
    constant=st.booleans(),
    seed=st.integers(0, 1 << 30),
    trellis=st.booleans(),
)
def test_a_latent_is_off_by_half_a_step_at_most(
    shape, exponent: int, constant: bool, seed: int, trellis: bool
):
    """Of any shape, at any magnitude, about any mean; by two steps on a path through the trellis."""
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    latents = (latents.double() * (not constant) * 2.0**exponent + 2.0 ** (exponent - 3)).float()
    form = pack(latents, 0.1 * 2.0**exponent, trellis=trellis)
    codes = [form.code(chunk)[0] for chunk in cut(latents, JOINED)]
    ends = np.cumsum([len(code) for code in codes])
    opened = form.open(shape, int(ends[-1]), form.sides(ends, b""))
    back = opened.decode(np.frombuffer(b"".join(codes), np.uint8), 0, len(latents))
    error = (back.double() - latents.double()).abs().max()
    assert error <= (0.2 if trellis else 0.05) * 2.0**exponent + ROUNDED * float(latents.abs().max())


def test_chunks_decode_alike_in_any_order_and_by_any_number_of_threads(tmp_path: Path):
    latents = some_latents()
    path = write(tmp_path / "clip.latent", latents, pack(latents, 0.05))
    whole, threads = all_of(path), torch.get_num_threads()
    with LatentReader(path) as reader:
        for count in (2, 1):
            torch.set_num_threads(count)
            for start, stop in [(16, FRAMES), (0, 16), (30, 34)]:
                assert torch.equal(reader.read(start, stop), whole[start:stop])
    torch.set_num_threads(threads)


def test_what_was_measured_comes_back_with_the_file(tmp_path: Path):
    form = pack(some_latents(), 0.05, {"drop_db": 0.1})
    path = write(tmp_path / "clip.latent", some_latents(), form)
    with open_latent(path) as reader:
        assert reader.header.stored["price"] == {"drop_db": 0.1}
        assert (reader.form, reader.dtype) == ("packed", "F32")


@pytest.mark.parametrize("name", ["steps", "offsets"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e38, 0.0])
def test_steps_and_offsets_that_cannot_be_are_refused(tmp_path: Path, name: str, value: float):
    latents = some_latents()
    form = pack(latents, 0.05)
    path = write(tmp_path / "clip.latent", latents, form)
    if name == "offsets" and value == 0:
        return  # as good an offset as any
    raw = path.read_bytes()
    place = raw.index(getattr(form.fitted, name).tobytes())
    path.write_bytes(raw[:place] + np.float32(value).tobytes() + raw[place + 4 :])
    with pytest.raises(BadLatentFile, match="steps and offsets: expected numbers"):
        open_latent(path)


LIES = {
    "taps that are none": (
        inside("stored", "taps", None),
        r"stored.taps: expected up to \[15, 16\], got None",
    ),
    "too many taps": (inside("stored", "taps", [99, 99]), r"stored.taps: expected up to \[15, 16\]"),
    "more taps than channels": (inside("stored", "taps", [3, 3]), "for 3 channels"),
    "fewer taps": (inside("stored", "taps", [0, 1]), r"latents.weights: expected I8 \[3, 13\]"),
    "taps of another kind": (inside("stored", "taps", [True, 1.0]), "stored.taps: expected"),
    "a trellis that is none": (
        inside("stored", "trellis", 1),
        "stored.trellis: expected true or false, got 1",
    ),
    "a price that is none": (inside("stored", "price", "cheap"), "stored.price: expected an object"),
    "other steps": (entry("latents.steps", "dtype", "I32"), "latents.steps: expected F32"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_the_form_is_found(tmp_path: Path, lie: str):
    edit, told = LIES[lie]
    path = write(tmp_path / "clip.latent", some_latents(), pack(some_latents(), 0.05))
    rewrite(path, edit)
    with pytest.raises(BadLatentFile, match=told):
        open_latent(path)


@settings(max_examples=40, deadline=None)
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7), cut=st.integers(0, 3))
def test_damaged_codes_give_an_error_or_numbers(place: int, bit: int, cut: int):
    """Where nobody looks at checksums: no crash, and nothing that is not a number."""
    latents = some_latents(5)
    form = pack(latents, 0.05)
    codes = np.frombuffer(bytearray(form.code(latents)[0]), np.uint8)
    codes[place % len(codes)] ^= 1 << bit
    codes = codes[: len(codes) - cut]
    ends = np.array([len(codes)])
    try:
        back = form.open((5, 3, 2, 5), len(codes), form.sides(ends, b"")).decode(codes, 0, 5)
    except ValueError:
        return
    assert torch.isfinite(back).all()


def test_latents_too_large_for_a_form_of_small_steps_are_refused():
    with pytest.raises(ValueError, match="steps and offsets"):
        fit((1, 1, 1, 1), [torch.zeros(1, 1, 1, 1)], np.array([2 * LARGEST]), np.array([1.0]))


def test_the_sample_is_the_whole_of_a_small_clip_and_the_middle_of_a_large_one():
    assert choose_sample((40, 16, 30, 40)) == ([(0, 16), (16, 32), (32, 40)], slice(0, 30))
    chunks, rows = choose_sample((17, 16, 135, 240))
    assert (chunks, rows) == ([(0, 17)], slice(59, 76))


def test_numbers_beyond_the_largest_are_cut():
    form = Packed(Taps(0, 1), fitted=pack(torch.zeros(1, 1, 1, 1), 1.0, trellis=False).fitted)
    assert form.fitted.quantise(torch.full((1, 1, 1, 1), 1e6)).item() == MOST
