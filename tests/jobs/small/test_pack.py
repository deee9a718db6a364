"""Tests for packing within a budget: what is promised of a clip is what decoding it shows."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from helpers.stored import some_latents, write
from huggingface_hub import constants

import vidlatent
from vidlatent.engine.model import Model
from vidlatent.errors import BadInput, UsageError
from vidlatent.files import asset, refuse_second_run
from vidlatent.io.coded.packed import LARGEST, SMALLEST_STEP
from vidlatent.io.coded.predictor import MOST
from vidlatent.io.latent.reader import open_latent
from vidlatent.io.read.source import ReadOptions
from vidlatent.jobs.encode import EncodeOptions
from vidlatent.jobs.measure.packed import HeldLatents
from vidlatent.jobs.models import ModelChoice
from vidlatent.jobs.repack import RepackOptions, repack
from vidlatent.jobs.small import sensitivity, trial
from vidlatent.jobs.small.base import DECODED_PSNR, read_base
from vidlatent.jobs.small.budget import Budget
from vidlatent.jobs.small.encoding import encode_measured, encode_packed
from vidlatent.jobs.small.pack import PackOptions, pack, read_frames
from vidlatent.jobs.small.packing import BY_FILE, Packing, solve
from vidlatent.jobs.small.sensitivity import find_sensitivities, measure_sensitivities, place_sensitivities
from vidlatent.jobs.small.steps import ChannelFacts, Steps
from vidlatent.metrics.psnr import Psnr

CLIP, READ = asset("sample.mp4"), ReadOptions(frames=9, crop=(100, 40, 128, 96))
SLACK_DB = 1e-4  # what is kept in the file is rounded to four digits
ADDING_UP = 0.25  # of a drop: the errors of model and steps add up but for what they have in common


@pytest.fixture(scope="module")
def model() -> Model:
    return vidlatent.load_model("pocket", device="cpu")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, model: Model) -> Path:
    path = tmp_path_factory.mktemp("floats") / "clip.latent"
    vidlatent.encode(CLIP, path, model, EncodeOptions(READ, audio=False))
    return path


@pytest.fixture(autouse=True)
def small_sample(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What channels weigh is measured once for all tests, on a small picture, and kept apart."""
    monkeypatch.setattr(sensitivity, "SIDE", 32)
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path_factory.getbasetemp() / "assets"))


def decoded_psnr(path: Path, model: Model) -> dict[str, float]:
    """PSNR of a file's pictures against the source, by the network alone."""
    with open_latent(path) as latents, vidlatent.open_video(CLIP, READ) as video:
        z = latents.read(0, latents.frames).float().transpose(0, 1)[None]
        wanted = np.stack([frame.rgb for frame in video.frames()])
    found = ((model.decode(z)[0].clamp(-1, 1) + 1) * 127.5 + 0.5).floor().to(torch.uint8)
    psnr = Psnr()
    psnr.update(torch.from_numpy(wanted), found.permute(1, 2, 3, 0)[: len(wanted), :96, :128].contiguous())
    return psnr.result()


@pytest.mark.parametrize("allowed", [0.1, 0.5])
def test_the_drop_is_what_was_asked_for_and_what_was_written(
    tmp_path: Path, clip: Path, model: Model, allowed: float
):
    target, budget = tmp_path / "small.latent", Budget(allowed, min_latent_snr=0)
    made = pack(clip, target, PackOptions(budget, CLIP, READ), model=model)
    before, after = decoded_psnr(clip, model), decoded_psnr(target, model)
    drop = max(before[kind] - after[kind] for kind in ("mean", "pooled"))
    with open_latent(target) as latents:
        price = latents.header.stored["price"]
    assert price["drop_db"] == pytest.approx(drop, abs=SLACK_DB)
    assert 0.85 * allowed < drop <= allowed
    assert price["against"] == "against the source" and price["frames"] == [[0, 9]]
    assert "decodes of 9 frames" in made.notices[0]


def test_frames_that_are_nearer_to_their_source_than_rounding_do_not_decide():
    """Black frames at 80 dB beside others at 40: at 60 they cost nothing, at 50 what is above rounding."""
    base = trial.Errors(np.array([1e-8, 1e-4]))
    assert trial.Errors(np.array([1e-6, 1e-4])).drop_from(base) == pytest.approx(0.0427, abs=1e-4)  # pooled
    rounding = 10 * np.log10(12 * 255**2)
    assert trial.Errors(np.array([1e-5, 1e-4])).drop_from(base) == pytest.approx((rounding - 50) / 2)


def test_no_channel_gets_noisier_than_the_floor_allows(tmp_path: Path, clip: Path, model: Model):
    target = tmp_path / "small.latent"
    pack(clip, target, PackOptions(Budget(3.0, min_latent_snr=25), CLIP, READ), model=model)
    with open_latent(clip) as floats, open_latent(target) as packed:
        before, after = (reader.read(0, reader.frames).double() for reader in (floats, packed))
        told = packed.header.stored["price"]["latent_snr_db"]
    power, noise = before.var((0, 2, 3), correction=0), (after - before).square().mean((0, 2, 3))
    snr = 10 * (power / noise).log10()
    assert told["worst"] == 25
    assert float(snr.min()) > 23.5  # of few latents: noise is a twelfth of a squared step in the mean alone


def test_without_the_source_a_bound_is_kept_and_said(tmp_path: Path, clip: Path, model: Model):
    target = tmp_path / "small.latent"
    made = pack(clip, target, PackOptions(Budget(0.1)), model=model)
    with open_latent(target) as latents:
        price = latents.header.stored["price"]
    drop = decoded_psnr(clip, model)["mean"] - decoded_psnr(target, model)["mean"]
    assert drop < price["drop_db"] <= 0.1
    assert "without the source" in made.notices[0] and price["between_psnr_db"] > 50


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, model: Model) -> Path:
    """The clip in a file that says what was measured when it was encoded."""
    path = tmp_path_factory.mktemp("measured") / "clip.latent"
    encode_measured(CLIP, path, model, EncodeOptions(READ, audio=False))
    return path


def test_what_is_kept_of_encoding_takes_the_place_of_the_source(tmp_path: Path, measured: Path, model: Model):
    target = tmp_path / "small.latent"
    made = pack(measured, target, PackOptions(Budget(0.5, min_latent_snr=0)), model=model)
    before, after = decoded_psnr(measured, model), decoded_psnr(target, model)
    with open_latent(target) as latents:
        price = latents.header.stored["price"]
    assert BY_FILE in made.notices[0] and price["against"] == BY_FILE
    assert price["base_psnr_db"] == pytest.approx(before["mean"], abs=1e-3)
    drop = max(before[kind] - after[kind] for kind in ("mean", "pooled"))
    assert price["drop_db"] == pytest.approx(drop, rel=ADDING_UP)


def test_measuring_changes_no_latent_and_stays_with_the_file(tmp_path: Path, clip: Path, measured: Path):
    with open_latent(clip) as plain, open_latent(measured) as reader:
        assert torch.equal(plain.read(), reader.read())
        assert reader.header == replace(plain.header, extra={DECODED_PSNR: reader.header.extra[DECODED_PSNR]})
    repack(measured, tmp_path / "planes.latent", RepackOptions(pack=True))
    with open_latent(tmp_path / "planes.latent") as reader:
        assert read_base(reader.header.extra, [(0, 9)]) is not None


@pytest.mark.parametrize(
    "told",
    [
        *("", "[]", '{"frames":[[0,8]],"db":[1]}', '{"frames":[[0,9]],"db":[1]}'),
        *('{"frames":[[0,1]],"db":[1e9]}', '{"frames":[[0,1]],"db":["x"]}'),
    ],
)
def test_a_file_that_says_nothing_of_just_these_frames_is_not_believed(told: str):
    assert read_base({DECODED_PSNR: told}, [(0, 9)]) is None
    assert read_base({DECODED_PSNR: told}, [(0, 1)]) is None


def test_a_pipe_cannot_be_measured(tmp_path: Path, model: Model):
    with pytest.raises(UsageError, match="measure: - can be read only once"):
        encode_measured("-", tmp_path / "clip.latent", model, EncodeOptions())


def test_without_a_decoder_steps_go_by_deviation_and_that_is_said(tmp_path: Path, clip: Path, monkeypatch):
    monkeypatch.setattr("vidlatent.jobs.small.pack.find_decoder", lambda *_: None)
    made = pack(clip, tmp_path / "small.latent", PackOptions())
    assert made.notices == ("no decoder at hand: steps by deviation, latent SNR 26 dB, nothing measured",)
    with open_latent(made.target) as latents:
        assert latents.header.stored["price"]["steps"] == "by deviation"


def write_still(path: Path, frames: int, side: int, pixels: int) -> Path:
    """Frames of one picture: a square of noise about a grey, or of the grey alone."""
    noise = np.random.default_rng(0).integers(0, pixels + 1, (side, side, 3), np.uint8)
    with av.open(str(path), "w", format="avi") as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = side, side, "bgr24"
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(100 + noise, format="bgr24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("frames", "side", "pixels"), [(1, 8, 90), (1, 40, 90), (9, 24, 0), (5, 10, 9)])
def test_tiny_clips_stills_and_single_frames_keep_their_budget(
    tmp_path: Path, model: Model, frames: int, side: int, pixels: int
):
    source = write_still(tmp_path / "still.avi", frames, side, pixels)
    made = encode_packed(source, tmp_path / "a.latent", model, EncodeOptions(), Budget(0.1))
    with open_latent(made.target) as latents:
        assert latents.header.stored["price"]["drop_db"] <= 0.1
        latents.verify()


@pytest.mark.parametrize("cost", ["none", "leaps", "much"])
def test_the_search_ends_within_the_budget_however_a_clip_behaves(
    clip: Path, model: Model, monkeypatch: pytest.MonkeyPatch, cost: str
):
    """The drop at k is made up; in the end it is at most what is allowed, and as near as the clip allows."""
    drop_at = {
        "none": lambda k: -0.01,
        "leaps": lambda k: 0.3 if k > 0.004 else 0.02,
        "much": lambda k: 30 * k**0.5,
    }[cost]
    with open_latent(clip) as latents:
        packing = Packing.of(latents, model, lambda: read_frames(CLIP, READ))
        base = packing.base.each

        def measure(steps, k: float) -> trial.Errors:
            found = trial.Errors(base * 10 ** (drop_at(k) / 10))
            packing._added = np.maximum(found.each - base, 1e-12), steps.added(k)
            return found

        monkeypatch.setattr(packing, "_measure", measure)
        price = packing.find_form(Budget(0.1, min_latent_snr=0)).price
    assert price["drop_db"] <= 0.1
    if cost == "leaps":
        assert price["k"] > 0.0025


def test_a_clip_that_no_steps_can_keep_is_refused(clip: Path, model: Model, monkeypatch: pytest.MonkeyPatch):
    with open_latent(clip) as latents:
        packing = Packing.of(latents, model, lambda: read_frames(CLIP, READ))
        base = packing.base
        monkeypatch.setattr(packing, "_measure", lambda *_: trial.Errors(2 * base.each))
        monkeypatch.setattr(packing, "_added", (base.each, 1.0))
        with pytest.raises(BadInput, match=r"no steps cost less than 0\.1 dB, the finest 3\.01 dB"):
            packing.find_form(Budget(0.1))


def test_a_clip_that_always_costs_more_than_was_expected_is_packed_within_its_budget(
    tmp_path: Path, clip: Path, model: Model, monkeypatch: pytest.MonkeyPatch
):
    """Small clips do not cost smoothly: as many tries as there were could all be a little too dear."""
    measure = Packing._measure

    def dearer(packing: Packing, *at: object) -> trial.Errors:
        found, base = measure(packing, *at), packing.base
        return trial.Errors(base.each + 1.25 * (found.each - base.each))

    monkeypatch.setattr(Packing, "_measure", dearer)
    pack(clip, tmp_path / "small.latent", PackOptions(Budget(0.1, min_latent_snr=0), CLIP, READ), model=model)
    with open_latent(tmp_path / "small.latent") as latents:
        assert 0.07 < latents.header.stored["price"]["drop_db"] <= 0.1


@pytest.mark.parametrize("still", [False, True])
def test_a_trellis_is_followed_where_frames_change(still: bool):
    """Where they hardly do, the nearest numbers are the same from frame to frame."""
    values = torch.randn(17, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    if still:
        values = values[:1] + 1e-4 * values
    form = Packing(HeldLatents("clip", values), None, None).find_form(Budget())
    assert form.trellis is not still


def test_a_rate_is_met(tmp_path: Path, clip: Path, model: Model):
    made = pack(
        clip,
        tmp_path / "small.latent",
        PackOptions(Budget(bpp=0.6, min_latent_snr=0), CLIP, READ),
        model=model,
    )
    with open_latent(made.target) as latents:
        codes = latents._layout.tensors["latents"].nbytes
    assert 8 * codes / (9 * 128 * 96) == pytest.approx(0.6, rel=0.05)


def test_encoding_packed_is_encoding_and_packing(tmp_path: Path, clip: Path, model: Model):
    wanted, options = tmp_path / "b.latent", EncodeOptions(READ, audio=False)
    made = encode_packed(CLIP, tmp_path / "a.latent", model, options, Budget(0.2))
    pack(clip, wanted, PackOptions(Budget(0.2), CLIP, READ), model=model)
    with open_latent(made.target) as a, open_latent(wanted) as b:
        assert torch.equal(a.read(0, a.frames), b.read(0, b.frames))
        assert a.header.source == b.header.source
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.latent", "b.latent"]
    assert made.bytes == made.target.stat().st_size


def test_a_long_clip_is_tried_in_windows(clip: Path, model: Model, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trial, "FRAMES", 4)
    monkeypatch.setattr(trial, "WINDOWS", 2)
    with open_latent(clip) as latents:
        assert trial.choose_spans(latents, model, model.spec.plan) == [(0, 2), (7, 9)]


def test_another_video_than_the_source_is_refused(tmp_path: Path, clip: Path, model: Model):
    for read in (ReadOptions(frames=9), ReadOptions(frames=5, crop=READ.crop)):
        with pytest.raises(BadInput, match="the source that was given is of other frames"):
            pack(clip, tmp_path / "small.latent", PackOptions(source=CLIP, read=read), model=model)
    assert list(tmp_path.iterdir()) == []


def test_what_has_lost_something_already_is_not_packed(tmp_path: Path, clip: Path, model: Model):
    repack(clip, tmp_path / "int8.latent", RepackOptions("int8"))
    with pytest.raises(UsageError, match="stored as int8, which has lost something already"):
        pack(tmp_path / "int8.latent", tmp_path / "small.latent", model=model)


def test_weights_that_are_named_and_not_there_are_an_error(tmp_path: Path, clip: Path):
    choice = ModelChoice(weights=tmp_path / "none.safetensors")
    with pytest.raises(vidlatent.VidlatentError, match="none"):
        pack(clip, tmp_path / "small.latent", PackOptions(choice=choice))


def test_floats_of_another_run_that_packs_into_the_same_file_stay(tmp_path: Path, model: Model):
    """They were removed when this run gave up, while the other one still measured."""
    floats = tmp_path / ".a.floats.latent.partial"
    floats.write_bytes(b"of the other run")
    with (
        refuse_second_run(tmp_path / "a.of_the_same_stem"),
        pytest.raises(UsageError, match="another run is writing"),
    ):
        encode_packed(CLIP, tmp_path / "a.latent", model, EncodeOptions(READ), Budget())
    assert [path.name for path in tmp_path.iterdir()] == [floats.name]
    assert floats.read_bytes() == b"of the other run"


def test_what_channels_weigh_is_measured_with_a_model_that_was_loaded_to_decode_alone(model: Model):
    """A repack loads no encoder; on a machine where nothing was measured before it then failed."""
    decoder = vidlatent.load_model("pocket", device="cpu", only="decode")
    assert np.array_equal(measure_sensitivities(decoder), find_sensitivities(model))


def test_sensitivities_are_measured_once_for_some_weights(model: Model, monkeypatch: pytest.MonkeyPatch):
    first = find_sensitivities(model)
    monkeypatch.setattr(sensitivity, "measure_sensitivities", lambda *_: pytest.fail("measured again"))
    assert np.array_equal(find_sensitivities(model), first)
    place = place_sensitivities(model)
    kept = place.read_text()
    place.write_text(kept[:-9])
    with pytest.raises(pytest.fail.Exception, match="measured again"):
        find_sensitivities(model)
    place.write_text(kept)


@pytest.mark.parametrize("scale", [1e30, 1e-40])
def test_latents_of_any_magnitude_are_packed_without_a_decoder(tmp_path: Path, scale: float):
    """What their SNR is said to be overflowed, and was no number that a header can hold."""
    latents = write(tmp_path / "a.latent", some_latents(3) * scale, "F32")
    with open_latent(latents) as reader:
        price = Packing(reader, None, None).find_form(Budget()).price
    assert np.all(np.isfinite(list(price["latent_snr_db"].values())))


def test_latents_that_no_step_can_hold_are_refused(tmp_path: Path):
    latents = write(tmp_path / "a.latent", some_latents(3).clamp(-2, 2) * 1e38, "F32")
    with open_latent(latents) as reader, pytest.raises(BadInput, match=r"channel 0 are beyond 2\^120"):
        Packing(reader, None, None)


@pytest.mark.parametrize("step", [1e-300, 1e300])
def test_steps_stay_such_as_a_file_can_hold(step: float):
    facts = ChannelFacts(np.zeros(1), np.ones(1), np.full(1, 4.0))
    found = Steps(facts, np.ones(1), -1000).at(step).astype("<f4")
    assert np.all((found >= SMALLEST_STEP) & (found <= LARGEST / MOST))


@pytest.mark.parametrize(
    "given",
    [
        *({"max_drop": 0.1, "bpp": 1.0}, {"step": 0.0}, {"max_drop": float("nan")}),
        *({"min_latent_snr": -100_000}, {"min_latent_snr": float("nan")}),
    ],
)
def test_budgets_that_cannot_be_are_refused(given: dict):
    with pytest.raises(UsageError):
        Budget(**given)


def test_solving_finds_where_a_function_has_a_value():
    assert solve(lambda k: k**2, 4.0) == pytest.approx(2.0)
