"""Kernels for a GPU against the plain forms: there, or by Triton's interpreter where Triton is installed."""

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read where kernels are defined
kernels = pytest.importorskip(
    "vidlatent.models.kernels", reason="Triton is not installed", exc_type=ImportError
)

from vidlatent.models.norms import GroupNorm, PixelNorm, RmsNorm  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ROUNDING = {"rtol": 1e-5, "atol": 1e-5}  # of float32, added up in another order


@pytest.fixture(autouse=True)
def quiet():
    torch.manual_seed(0)
    with torch.inference_mode():
        yield


@pytest.fixture(params=[(5, 0), (96, 0), (96, 1)], ids=str)
def clip(request):
    """Two clips of some channels, within a border or not."""
    channels, border = request.param
    room = 2 + torch.randn(2, 4, 7 + 2 * border, 9 + 2 * border, channels, device=DEVICE).movedim(-1, 1)
    return room[:, :, 1:, border : border + 7, border : border + 9]


def filled(norm):
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    return norm.to(DEVICE)


def plain(monkeypatch, norm, clip, *told):
    with monkeypatch.context() as patch:
        patch.setattr("vidlatent.models.norms.kernels_for", lambda *clips: None)
        return norm.silu_into(clip, torch.empty_like(clip), *told)


def test_a_position_over_its_length(monkeypatch, clip):
    norm, bias = filled(RmsNorm(clip.shape[1])), torch.randn(clip.shape[1], device=DEVICE)
    gain, out = norm.gamma * clip.shape[1] ** 0.5, torch.empty_like(clip)
    kernels.scale_by_length(clip, out, gain, norm.EPSILON, bias=bias)
    torch.testing.assert_close(out, plain(monkeypatch, norm, clip, bias), **ROUNDING)


def test_a_position_over_its_root_mean_square_told_what_follows(monkeypatch, clip):
    told, out = torch.randn(2, clip.shape[1], device=DEVICE), torch.empty_like(clip)
    kernels.scale_by_length(clip, out, 1 + told[1], PixelNorm.EPSILON, told[0], mean=True)
    torch.testing.assert_close(out, plain(monkeypatch, PixelNorm(), clip, told), **ROUNDING)


@pytest.mark.parametrize("per_frame", [False, True])
def test_groups_with_a_bias_that_is_owed(monkeypatch, clip, per_frame):
    channels = clip.shape[1]
    norm = filled(
        GroupNorm(channels, groups=channels // (3 if channels % 3 == 0 else 1), per_frame=per_frame)
    )
    bias = torch.randn(channels, device=DEVICE)
    wanted = plain(monkeypatch, norm, clip, bias)
    monkeypatch.setattr("vidlatent.models.norms.kernels_for", lambda *clips: kernels)
    torch.testing.assert_close(norm.silu_into(clip, torch.empty_like(clip), bias), wanted, **ROUNDING)
    fitted = norm.fitted(clip, bias)
    torch.testing.assert_close(fitted.silu_into(clip, torch.empty_like(clip)), wanted, **ROUNDING)
    unbiased = clip + bias[:, None, None, None]
    torch.testing.assert_close(plain(monkeypatch, norm, unbiased), wanted, **ROUNDING)


def test_statistics_of_more_than_one_chunk(monkeypatch):
    monkeypatch.setattr(kernels, "_BLOCK", 64)
    monkeypatch.setattr(kernels, "_STEPS", 2)
    sample = 100 + torch.randn(2, 5, 7, 6, device=DEVICE)
    for per_frame, dims in ((False, (0, 1, 2)), (True, (1, 2))):
        variance, mean = kernels.moments(sample, per_frame)
        torch.testing.assert_close(mean, sample.double().mean(dims), **ROUNDING)
        torch.testing.assert_close(variance, sample.double().var(dims, correction=0), **ROUNDING)


def test_a_clip_and_a_bias_are_added(clip):
    h, bias = torch.randn_like(clip), torch.randn(clip.shape[1], device=DEVICE)
    wanted = h + clip + bias[:, None, None, None]
    kernels.add(h, clip, bias)
    torch.testing.assert_close(h, wanted, **ROUNDING)
