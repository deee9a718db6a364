"""A clip through the files: the same frames, times, size, sound and tags come back."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch

import vidlatent
from vidlatent.errors import BadInput, UsageError
from vidlatent.io.read.source import ReadOptions
from vidlatent.jobs.decode import DecodeOptions, PlanWishes
from vidlatent.jobs.encode import EncodeOptions


@pytest.fixture(scope="module")
def toy():
    return vidlatent.load_model("toy")


@pytest.fixture(scope="module")
def pocket():
    return vidlatent.load_model("pocket", device="cpu")


@pytest.fixture
def clip(tmp_path, moving_clip):
    """A lossless clip of 22 frames 45x30 with uneven times."""
    path = tmp_path / "clip.mkv"
    pts = np.cumsum([0, *([40, 33, 80] * 7)])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=25, options={"qp": "0", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 45, 30, "rgb24"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for n, pixels in enumerate(moving_clip(22, 30, 45)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = int(pts[n]), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def frames_of(path, **options) -> tuple[np.ndarray, list[Fraction]]:
    with vidlatent.open_video(path, ReadOptions(**options)) as video:
        frames = list(video.frames())
        return np.stack([f.rgb for f in frames]), [f.pts * video.info.time_base for f in frames]


def test_an_identity_model_returns_every_pixel_and_every_time(clip, toy, tmp_path):
    result = vidlatent.encode(clip, tmp_path / "c.latent", toy)
    assert result.frames == 22 and result.shape == (7, 768, 4, 6)
    done = vidlatent.decode(tmp_path / "c.latent", tmp_path / "frames.png", toy)
    assert (done.frames, done.width, done.height) == (22, 45, 30)
    pixels = [frames_of(p)[0][0] for p in sorted((tmp_path / "frames.png").glob("*.png"))]
    before, _ = frames_of(clip)
    assert np.array_equal(np.stack(pixels), before)


def test_a_film_keeps_its_times(clip, toy, tmp_path):
    vidlatent.encode(clip, tmp_path / "c.latent", toy)
    vidlatent.decode(tmp_path / "c.latent", tmp_path / "c.mp4", toy)
    assert frames_of(tmp_path / "c.mp4")[1] == frames_of(clip)[1]


@pytest.mark.parametrize("window", [None, 5, 9, 0])
def test_windows_do_not_change_what_an_exact_model_stores(clip, pocket, tmp_path, window):
    options = EncodeOptions(plan=pocket.plan(window=window))
    vidlatent.encode(clip, tmp_path / "c.latent", pocket, options)
    frames = torch.from_numpy(frames_of(clip)[0]).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    with vidlatent.open_latent(tmp_path / "c.latent") as latents:
        stored = latents.read(0, latents.frames)
    assert torch.allclose(stored, pocket.encode(frames).mean[0].transpose(0, 1), rtol=0, atol=1e-5)


def test_sound_comes_back_packet_by_packet(sample, toy, tmp_path):
    def packets(path):
        with av.open(str(path)) as container:
            return [bytes(p) for p in container.demux(audio=0) if p.size]

    options = EncodeOptions(read=ReadOptions(size=(64, 48)))
    assert vidlatent.encode(sample, tmp_path / "s.latent", toy, options).audio_packets > 0
    vidlatent.decode(tmp_path / "s.latent", tmp_path / "s.mp4", toy)
    assert packets(tmp_path / "s.mp4") == packets(sample)


def test_sound_is_dropped_on_request(sample, toy, tmp_path):
    options = EncodeOptions(read=ReadOptions(size=(64, 48)), audio=False)
    vidlatent.encode(sample, tmp_path / "s.latent", toy, options)
    with vidlatent.open_latent(tmp_path / "s.latent") as latents:
        assert not latents.has_audio


def test_a_span_decodes_to_exactly_its_frames(clip, pocket, tmp_path):
    vidlatent.encode(clip, tmp_path / "c.latent", pocket)
    vidlatent.decode(tmp_path / "c.latent", tmp_path / "all.png", pocket)
    _, times = frames_of(clip)
    span = DecodeOptions(start=times[6], end=times[15])
    assert vidlatent.decode(tmp_path / "c.latent", tmp_path / "span.png", pocket, span).frames == 9
    whole, part = (sorted((tmp_path / f"{name}.png").glob("*.png")) for name in ("all", "span"))
    for a, b in zip(whole[6:15], part, strict=True):
        assert np.array_equal(frames_of(a)[0], frames_of(b)[0])


def test_a_span_outside_the_clip_is_an_error(clip, toy, tmp_path):
    vidlatent.encode(clip, tmp_path / "c.latent", toy)
    with pytest.raises(UsageError, match="no frame between"):
        vidlatent.decode(tmp_path / "c.latent", tmp_path / "x.png", toy, DecodeOptions(start=Fraction(99)))


def test_start_end_and_frames_choose_what_is_encoded(clip, toy, tmp_path):
    _, times = frames_of(clip)
    read = ReadOptions(start=times[3], end=times[12], frames=5)
    vidlatent.encode(clip, tmp_path / "c.latent", toy, EncodeOptions(read=read))
    with vidlatent.open_latent(tmp_path / "c.latent") as latents:
        assert [latents.clock.seconds(n) for n in range(5)] == times[3:8]


def test_one_image_is_a_clip_of_one_frame(tmp_path, toy, moving_clip):
    image = tmp_path / "a.png"
    with av.open(str(image), "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 40, 24, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(moving_clip(1, 24, 40)[0], format="rgb24")))
        container.mux(stream.encode())
    assert vidlatent.encode(image, tmp_path / "a.latent", toy).shape == (1, 768, 3, 5)


def test_full_posterior_stores_logvar_and_samples_are_seeded(clip, pocket, tmp_path):
    vidlatent.encode(clip, tmp_path / "f.latent", pocket, EncodeOptions(posterior="full"))
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        options = EncodeOptions(posterior="sample", seed=seed)
        vidlatent.encode(clip, tmp_path / f"{name}.latent", pocket, options)
    with vidlatent.open_latent(tmp_path / "f.latent") as full:
        assert full.has_logvar and full.read_logvar(0, 1).shape == full.read(0, 1).shape
        mean = full.read(0, full.frames)
    read = {}
    for name in "abc":
        with vidlatent.open_latent(tmp_path / f"{name}.latent") as latents:
            read[name] = latents.read(0, latents.frames)
    assert torch.equal(read["a"], read["b"]) and not torch.equal(read["a"], read["c"])
    noise = pocket.spec.config["latent_noise"]
    assert abs(float((read["a"] - mean).std()) / noise - 1) < 0.1


def test_same_input_same_bytes(clip, pocket, tmp_path):
    for name in "ab":
        vidlatent.encode(clip, tmp_path / f"{name}.latent", pocket)
    assert (tmp_path / "a.latent").read_bytes() == (tmp_path / "b.latent").read_bytes()


def test_latents_of_another_model_are_refused(clip, toy, pocket, tmp_path):
    vidlatent.encode(clip, tmp_path / "c.latent", toy)
    with pytest.raises(UsageError, match=r"made by toy .* pocket has 16"):
        vidlatent.decode(tmp_path / "c.latent", tmp_path / "x.png", pocket)


def test_nan_from_the_network_stops_the_clip_and_leaves_nothing(clip, tmp_path):
    broken = vidlatent.load_model("pocket", device="cpu")
    broken.network.encoder.head.bias.data.fill_(float("nan"))
    with pytest.raises(BadInput, match="latent frame 0 holds NaN"):
        vidlatent.encode(clip, tmp_path / "c.latent", broken)
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mkv"]


def test_the_plan_in_the_file_is_followed(clip, tmp_path, toy):
    plan = toy.plan(window=5, latent_window=2, tile=16, overlap=0.5)
    vidlatent.encode(clip, tmp_path / "c.latent", toy, EncodeOptions(plan=plan))
    with vidlatent.open_latent(tmp_path / "c.latent") as latents:
        assert latents.header.plan == plan
    other = DecodeOptions(plan=PlanWishes(latent_window=3, tile=0))
    vidlatent.decode(tmp_path / "c.latent", tmp_path / "x.png", toy, other)
    assert np.array_equal(
        frames_of(sorted((tmp_path / "x.png").glob("*.png"))[7])[0][0], frames_of(clip)[0][7]
    )
