"""Latents without a video: written from tensors, read back, and made into films."""

from fractions import Fraction

import av
import pytest
import torch

import vidlatent
from vidlatent.errors import BadInput, UsageError
from vidlatent.jobs.inspect import inspect
from vidlatent.models import registry

TOY = registry.find("toy")
WAN = registry.find("wan-2.1")
NEAR = {"rtol": 1e-6, "atol": 1e-6}  # one rounding of float32 each way


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_saved_is_what_is_loaded(tmp_path, dtype):
    latents = draw(1, 16, 3, 4, 6, dtype=dtype)
    path = vidlatent.save_latents(tmp_path / "a.latent", latents, model="wan-2.1", fps=24)
    found = vidlatent.load_latents(path)
    assert torch.equal(found, latents) and found.dtype == dtype


@pytest.mark.parametrize(
    ("axes", "order"),
    [("TCHW", (2, 1, 3, 4)), ("thwc", (2, 3, 4, 1)), ("CTHW", (1, 2, 3, 4)), (None, (2, 1, 3, 4))],
)
def test_axes_are_told_or_seen(tmp_path, axes, order):
    latents = draw(1, 16, 3, 4, 6)
    given = latents.permute(0, *order)[0]
    vidlatent.save_latents(tmp_path / "a.latent", given, "wan-2.1", 24, axes=axes)
    assert torch.equal(vidlatent.load_latents(tmp_path / "a.latent"), latents)


def test_an_array_is_no_tensor(tmp_path):
    with pytest.raises(BadInput, match=r"latents: a numpy.ndarray, expected a torch.Tensor"):
        vidlatent.save_latents(tmp_path / "a.latent", draw(1, 16, 3, 4, 6).numpy(), "wan-2.1", 24)


def test_normalised_latents_are_kept_raw(tmp_path):
    normal = draw(16, 3, 4, 6)
    vidlatent.save_latents(tmp_path / "a.latent", normal, "wan-2.1", 24, space="normalised")
    scale, shift = (torch.tensor(values).view(-1, 1, 1, 1) for values in (WAN.scale, WAN.shift))
    assert torch.allclose(vidlatent.load_latents(tmp_path / "a.latent")[0], normal / scale + shift, **NEAR)
    again = vidlatent.load_latents(tmp_path / "a.latent", space="normalised")[0]
    assert torch.allclose(again, normal, **NEAR)


def test_a_film_is_made_of_them_at_the_rate_that_was_told(tmp_path):
    vidlatent.save_latents(tmp_path / "a.latent", draw(1, 768, 3, 4, 6).tanh(), model="toy", fps="24000/1001")
    result = vidlatent.decode(tmp_path / "a.latent", tmp_path / "a.mkv")
    assert (result.frames, result.width, result.height) == (9, 48, 32)
    assert result.notices[0] == "latents without a video: times are made, 23.976 frames per second"
    with av.open(str(tmp_path / "a.mkv")) as film:
        assert film.streams.video[0].average_rate == Fraction(24000, 1001)
        assert sum(1 for _ in film.decode(video=0)) == 9


def test_the_file_says_that_it_has_no_source(tmp_path):
    vidlatent.save_latents(tmp_path / "a.latent", draw(768, 3, 4, 6), vidlatent.load_model("toy", "cpu"), 25)
    facts = inspect(tmp_path / "a.latent", verify=True)
    assert facts["source"] == {
        "file": "", "frames": 9, "width": 48, "height": 32, "sha256": None, "origin": "latents",
    }  # fmt: skip
    assert facts["clock"]["average_fps"] == 25 and facts["compute_dtype"] == "unknown"


def test_a_file_of_a_video_says_nothing_of_it(tmp_path, sample):
    read = vidlatent.ReadOptions(frames=5, size=(32, 32))
    model = vidlatent.load_model("toy", "cpu")
    vidlatent.encode(sample, tmp_path / "a.latent", model, vidlatent.EncodeOptions(read, audio=False))
    assert (
        b'"origin' not in (tmp_path / "a.latent").read_bytes()
        and b"format_version" in (tmp_path / "a.latent").read_bytes()
    )


@pytest.mark.parametrize(
    ("latents", "options", "words"),
    [
        (draw(4, 3, 4, 6), {}, r"\[4, 3, 4, 6\] is not CTHW or TCHW with the 16 channels of wan-2\.1"),
        (draw(16, 16, 4, 6), {}, r"may be CTHW or TCHW\nhint: say which by axes"),
        (draw(3, 16, 4, 6), {"axes": "CTHW"}, "as axes CTHW has 3 channels, wan-2.1 has 16"),
        (draw(2, 16, 3, 4, 6), {}, "a batch of 2 clips"),
        (draw(16, 3, 4, 6), {"axes": "CTH"}, r"axes CTH: latents has 4 axes"),
        (draw(16, 3, 4, 6), {"axes": "CCHW"}, r"name each once"),
        (draw(16, 3, 4, 6), {"space": "latent"}, r"space latent: unknown\nhint: one of raw, normalised"),
        (draw(16, 3, 4, 6), {"fps": 0}, "fps 0: not a frame rate"),
        (torch.zeros(16, 3, 4, 6, dtype=torch.int8), {}, r"torch\.int8, expected latents as floats"),
        (torch.full((16, 3, 4, 6), torch.nan), {}, "holds NaN or infinity"),
        (draw(16, 3, 4, 6), {"model": "wan-3"}, r"wan-3: no such model"),
        (draw(128, 3, 4, 6), {"model": "ltx-2", "space": "normalised"}, "is in its weights"),
    ],
)
def test_what_cannot_be_right_is_refused_and_nothing_written(tmp_path, latents, options, words):
    with pytest.raises((BadInput, UsageError), match=words):
        vidlatent.save_latents(tmp_path / "a.latent", latents, **{"model": "wan-2.1", "fps": 24} | options)
    assert not list(tmp_path.iterdir())
