"""What a user of torch expects of a model: where it is, moving it, sizes, units, pickles, autocast."""

import pickle
from copy import deepcopy

import pytest
import torch
from helpers.random_models import publish_random, random_model

import vidlatent
from vidlatent.errors import BadInput, BadWeights, UsageError

SIZE = (6, 13, 21)  # off the grid in every direction


def clip(frames: int = 5, height: int = 16, width: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(1, 3, frames, height, width, generator=generator) * 2 - 1


@pytest.fixture
def pocket() -> vidlatent.Model:
    return random_model("pocket")


def test_a_model_says_what_it_is_and_where(pocket):
    assert (pocket.device, pocket.dtype) == (torch.device("cpu"), torch.float32)
    assert pocket.config["width"] == 16
    assert repr(pocket) == "Model(pocket: 4x8x8, 16 channels, fp32 on cpu)"


@pytest.mark.parametrize("kind", ["toy", "pocket", "wf", "od"])
def test_a_model_for_one_verb_has_less_and_gives_the_same(tmp_path, kind):
    folder, latents = publish_random(kind, tmp_path / kind), random_model(kind).encode(clip()).mean
    whole, encoder, decoder = (
        vidlatent.load_model(folder, device="cpu", only=only) for only in (None, "encode", "decode")
    )
    assert torch.equal(encoder.encode(clip()).mean, whole.encode(clip()).mean)
    assert torch.equal(decoder.decode(latents), whole.decode(latents))
    parts = [set(model.network.state_dict()) for model in (encoder, decoder, whole)]
    assert not parts[0] & parts[1] and parts[0] | parts[1] == parts[2]
    with pytest.raises(UsageError, match="loaded to decode alone, and asked to encode"):
        decoder.encode(clip())
    with pytest.raises(UsageError, match="loaded to encode alone, and asked to decode"):
        pickle.loads(pickle.dumps(encoder)).decode(latents)


@pytest.mark.parametrize("where", [(torch.bfloat16,), ("cpu", torch.bfloat16)])
def test_a_model_moves_in_place_as_modules_do(pocket, where):
    moved = pocket.to(*where)
    assert moved.dtype == pocket.dtype == torch.bfloat16
    assert {p.dtype for p in pocket.network.parameters()} == {torch.bfloat16}
    assert pocket.encode(clip()).mean.isfinite().all()


def test_models_that_share_weights_move_together(pocket):
    other = pocket.choose()
    pocket.to(dtype="bf16")
    assert other.dtype == torch.bfloat16
    assert other.decode(torch.zeros(1, 16, 1, 2, 2)).isfinite().all()


def test_a_model_without_weights_moves_too():
    assert random_model("toy").to(torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float64, "fp8", torch.int32])
def test_a_dtype_that_is_not_offered_is_named(pocket, dtype):
    with pytest.raises(UsageError, match=f"dtype {dtype}: unknown"):
        pocket.to(dtype=dtype)
    with pytest.raises(UsageError, match=f"dtype {dtype}: unknown"):
        vidlatent.load_model("toy", dtype=dtype)


def test_weights_that_a_dtype_cannot_hold_stay_where_they_are(pocket):
    next(pocket.network.parameters()).fill_(1e5)
    with pytest.raises(UsageError, match="weights are too large"):
        pocket.to(torch.float16)
    assert pocket.dtype == torch.float32


@pytest.mark.parametrize("like", [SIZE, clip(*SIZE), "posterior"])
def test_a_clip_off_the_grid_comes_back_at_its_own_size(like):
    toy, video = random_model("toy"), clip(*SIZE)
    posterior = toy.encode(video)
    back = toy.decode(posterior.mode(), like=posterior if like == "posterior" else like)
    assert torch.equal(back, video)


@pytest.mark.parametrize("like", [(4, 13, 21), (6, 17, 21), (10, 13, 21), (6, 13, 16)])
def test_a_size_that_the_latents_are_not_of_is_refused(like):
    toy = random_model("toy")
    with pytest.raises(
        UsageError, match=r"like: a clip of .* does not come of latents that decode to 9 frames"
    ):
        toy.decode(toy.encode(clip(*SIZE)).mode(), like=like)


def test_a_posterior_made_by_hand_has_no_size():
    toy, latents = random_model("toy"), torch.zeros(1, 768, 1, 2, 2)
    with pytest.raises(UsageError, match="does not know the size"):
        toy.decode(latents, like=vidlatent.Posterior(latents, latents))


def test_normalised_latents_are_those_of_the_formula():
    wan = random_model("wan")
    scale, shift = (torch.tensor(v).view(-1, 1, 1, 1) for v in (wan.spec.scale, wan.spec.shift))
    latents = torch.randn(2, wan.spec.channels, 3, 2, 2)
    fed = wan.normalise(latents)
    assert torch.equal(fed, (latents - shift) * scale)
    assert torch.allclose(wan.denormalise(fed), latents, rtol=1e-6, atol=1e-6)  # one rounding each way
    assert wan.normalise(latents.bfloat16()).dtype == torch.bfloat16
    with pytest.raises(BadInput, match="expected floats"):
        wan.normalise(latents[0])


@pytest.mark.parametrize("quiet", [torch.inference_mode, torch.no_grad])
def test_autocast_around_a_model_changes_nothing(quiet):
    for model in map(random_model, ("pocket", "wan", "od")):
        with quiet():
            posterior = model.encode(clip())
            pixels = model.decode(posterior.mode())
            with torch.autocast("cpu", dtype=torch.bfloat16):
                again = model.encode(clip())
                assert torch.equal(again.mean, posterior.mean)
                assert torch.equal(model.decode(again.mode()), pixels)
                assert torch.is_autocast_enabled("cpu")


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")  # then torch leaves it off
def test_autocast_of_a_device_where_the_model_is_not_changes_nothing(pocket):
    video = clip()
    wanted = pocket.encode(video).mean
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert torch.equal(pocket.encode(video).mean, wanted)
        assert pocket.decode(wanted, like=video).shape == video.shape


def test_autocast_is_as_it_was_for_whoever_takes_a_window(pocket):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for _ in pocket.encode_stream(clip(13).unbind(2), pocket.plan(window=5)):
            assert torch.is_autocast_enabled("cpu")


def test_a_pickled_model_is_loaded_again(tmp_path, monkeypatch):
    folder = publish_random("pocket", tmp_path / "net")
    monkeypatch.chdir(tmp_path)
    model = vidlatent.load_model("net", device="cpu", dtype="bf16")
    data = pickle.dumps(model)
    monkeypatch.chdir("/")  # as in another process
    again = pickle.loads(data)
    assert len(data) < 1000  # weights stay in their file
    assert repr(again) == repr(model)
    assert torch.equal(again.encode(clip()).mean, model.encode(clip()).mean)
    publish_random("pocket", folder, stem=16)
    with pytest.raises(BadWeights, match=f"expected weights {model.weights_sha256[:12]}"):
        pickle.loads(data)


def test_a_pickled_model_keeps_its_settings():
    model = vidlatent.load_model("toy", device="cpu")
    assert pickle.loads(pickle.dumps(model)).spec.settings == model.spec.settings


def test_a_model_made_by_hand_is_copied_but_not_pickled(pocket):
    assert torch.equal(deepcopy(pocket).encode(clip()).mean, pocket.encode(clip()).mean)
    with pytest.raises(UsageError, match="made by hand"):
        pickle.dumps(pocket)


@pytest.mark.parametrize(
    ("video", "what"),
    [
        (clip() * torch.nan, "holds NaN or infinity"),
        (clip() / 0, "holds NaN or infinity"),
        (clip() * 127.5 + 127.5, "reaches from .* to 2"),
        (clip().numpy(), "a numpy.ndarray, expected a torch.Tensor"),
        (clip()[0], r"expected floats \[B, 3, T, H, W\]"),
        (clip().byte(), "torch.uint8"),
    ],
)
def test_what_is_no_clip_is_refused(pocket, video, what):
    with pytest.raises(BadInput, match=what):
        pocket.encode(video)


def test_pixels_that_are_not_clamped_are_taken(pocket):
    assert pocket.encode(clip() * 1.5).mean.isfinite().all()
