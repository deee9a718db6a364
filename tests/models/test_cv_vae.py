"""CV-VAE against the authors' code, bare and through the engine; its tilings; what its configs may say."""

import csv
from types import SimpleNamespace

import pytest
import torch
from helpers import cases
from helpers.sampled import some
from torch.nn import functional as F

from vidlatent.errors import BadWeights, UsageError
from vidlatent.models.cv_vae import FAMILY, SD3, SD21, tilings
from vidlatent.models.kl import Border, FrameConv, VideoConv, interleave
from vidlatent.windows import Tiling, TimeRule

one_thread = cases.one_thread

COMPACT = sorted(path.name for path in cases.GOLDEN.glob("cv_*"))
TINY21 = {**SD21, "ch": 32, "ch_mult": (1, 1, 1, 1), "num_res_blocks": 1}
TINY3 = {**SD3, "block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4, "layers_per_block": 1}
UNTILED = {"en_de_n_frames_a_time": None, "tile_spatial_size": None, "tile_overlap_ratio": None}


@pytest.fixture(scope="module", params=COMPACT)
def case(request, tmp_path_factory):
    return cases.compact(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module", params=["sd21_untiled", "sd3_untiled"])
def large(request, shared, tmp_path_factory):
    return cases.full(shared / "golden/cv_vae" / request.param, tmp_path_factory.mktemp(request.param))


def on_grid(video: torch.Tensor) -> bool:
    return video.shape[-2] % 8 == 0 and video.shape[-1] % 8 == 0


def test_every_golden_run_through_the_engine(case):
    for run in case.facts["runs"]:
        video = case.video(run)
        if not on_grid(video):
            continue  # the engine pads, these describe what the bare network does
        plan = FAMILY.spec_of({**case.config, **(run["tiling"] or UNTILED)}).plan
        moments = torch.cat(list(case.model.encode_stream(video.unbind(2), plan)), dim=2)
        cases.assert_close(moments, case.wanted[run["moments"]])
        if run["decoded"]:
            cases.assert_close(case.model.decode(case.mean(run), plan), case.wanted[run["decoded"]])


@pytest.mark.parametrize("case", ["cv_sd21", "cv_sd3"], indirect=True)
def test_every_untiled_golden_run_in_one_call(case):
    for run in case.facts["runs"]:
        cases.assert_close(cases.bare_encode(case.model, case.video(run)), case.wanted[run["moments"]])
        cases.assert_close(cases.bare_decode(case.model, case.mean(run)), case.wanted[run["decoded"]])


A_FEW = some(range(12), 2)


@pytest.mark.parametrize(
    "chosen",
    [pytest.param(A_FEW, id=str(A_FEW)), pytest.param(None, id="all", marks=pytest.mark.slow)],
)
def test_larger_goldens_in_one_call(large, chosen):
    runs = [run for run in large.facts["runs"] if run["op"].startswith("encode")]
    assert len(runs) >= 12
    for run in [runs[n] for n in chosen] if chosen else runs:
        name = run["moments"].removesuffix(".moments")
        video = large.wanted[name] if name in large.wanted else large.wanted["x"][:, :, : int(name[1:])]
        video = video if video.dim() == 5 else video[:, :, None]  # images are clips of one frame
        moments = large.wanted[run["moments"]]
        cases.assert_close(cases.bare_encode(large.model, video), moments)
        if "decoded" in run or f"{name}.decoded" in large.wanted:
            mean = moments[:, : large.model.spec.channels]
            cases.assert_close(cases.bare_decode(large.model, mean), large.wanted[f"{name}.decoded"])
    cases.assert_close(
        cases.bare_decode(large.model, large.wanted["z_random"]), large.wanted["z_random.decoded"]
    )


@pytest.mark.parametrize(("table", "name"), [("cv_vae_sd21", "cv-vae-sd2.1"), ("cv_vae_sd3", "cv-vae-sd3")])
def test_every_published_key_has_its_place(shared, table, name):
    spec = next(spec for spec in FAMILY.specs if spec.name == name)
    with torch.device("meta"):
        network = FAMILY.build(spec)
    with (shared / f"spec/keys/{table}_keys.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    sizes = {key: value.numel() for key, value in network.state_dict().items()}
    published = {FAMILY.rename(row["key"]): row["shape"].split("x") for row in rows}
    assert published.keys() == sizes.keys()
    for key, sides in published.items():
        assert sizes[key] == torch.Size(map(int, sides)).numel(), key


def test_a_clip_in_windows_is_the_authors_plan():
    plan = FAMILY.spec_of(SD21).plan
    assert (plan.encode_time, plan.decode_time) == (TimeRule(16, 1), TimeRule(4, 1))
    assert plan.encode_tiles == Tiling(size=576, step=448, blend=16, keep=56)
    assert plan.decode_tiles == Tiling(size=72, step=56, blend=128, keep=448)


def test_null_in_the_config_is_undivided():
    plan = FAMILY.spec_of({**SD3, **UNTILED}).plan
    assert (plan.encode_time.stride, plan.decode_time.stride) == (0, 0)
    assert plan.encode_tiles is None and plan.decode_tiles is None


@pytest.mark.parametrize("overlap", [0.2222, 0.25, 0.125, 0.4, 0.5])
def test_tiles_that_fit_put_every_latent_on_its_pixels(overlap):
    fitting = 0
    for pixels in range(16, 800, 8):
        try:
            encode, decode = tilings(8, pixels, overlap)
        except UsageError:
            continue
        fitting += 1
        assert encode.step == 8 * encode.keep and decode.keep == 8 * decode.step
        assert encode.size - encode.step == 8 * encode.blend
        assert decode.blend == 8 * (decode.size - decode.step)
    assert fitting >= 10


@pytest.mark.parametrize(
    ("pixels", "near"), [(512, "504 and 576"), (256, "216 and 288"), (580, "576 and 648")]
)
def test_tiles_that_would_misalign_name_the_nearest_that_fit(pixels, near):
    with pytest.raises(UsageError, match=f"{pixels} px with overlap 0.2222(.|\n)*{near}"):
        tilings(8, pixels, 0.2222)


@pytest.mark.parametrize(
    ("border", "pad"),
    [
        (Border(before=2), (0, 0, 0, 0, 2, 0)),
        (Border(before=1, after=1), (0, 0, 0, 0, 1, 1)),
        (Border(before=1, after=1, low=1, high=1), (1, 1, 1, 1, 1, 1)),
        (Border(), (0, 0, 0, 0, 0, 0)),
    ],
)
def test_a_border_is_padding_by_copies(border, pad):
    x = torch.randn(2, 3, 4, 5, 6)
    assert torch.equal(border.around(x), F.pad(x, pad, mode="replicate"))


def test_a_border_of_zeros_still_copies_the_first_frame():
    x = torch.randn(1, 3, 4, 5, 6)
    wanted = F.pad(F.pad(x, (0, 1, 0, 1, 0, 0)), (0, 0, 0, 0, 2, 0), mode="replicate")
    assert torch.equal(Border(before=2, high=1, zeros=True).around(x), wanted)


def test_of_each_pair_of_frames_the_later_comes_from_the_second_half_of_the_channels():
    x = torch.arange(6.0).view(1, 2, 3, 1, 1)  # earlier 0 1 2, later 3 4 5
    assert interleave(x).flatten().tolist() == [3, 1, 4, 2, 5]


def test_half_3d_decides_on_the_second_convolution_alone():
    for config in (TINY21, TINY3):
        for half in (True, False):
            block = FAMILY.build(FAMILY.spec_of({**config, "half_3d": half})).decoder.mid_block.resnets[0]
            assert isinstance(block.conv1, VideoConv)
            assert isinstance(block.conv2, FrameConv if half else VideoConv)


def test_without_3d_convolutions_only_the_samplers_know_time():
    network = FAMILY.build(FAMILY.spec_of({**TINY21, "use_3d_conv": False}))
    deep = [name for name, layer in network.named_modules() if isinstance(layer, VideoConv)]
    assert len(deep) == 6 and all("samplers" in name for name in deep)


@pytest.mark.parametrize(("config", "causal_samplers"), [(TINY21, False), (TINY3, True)])
def test_a_causal_decoder_sees_no_later_frame_but_in_the_upsamplers_of_sd21(config, causal_samplers):
    decoder = FAMILY.build(FAMILY.spec_of({**config, "causal_decoder": True})).decoder
    assert (decoder.conv_in.border.before, decoder.conv_in.border.after) == (2, 0)
    samplers = [level.upsamplers[0].conv for level in decoder.up_blocks if level.upsamplers]
    assert all((conv.border.after == 0) == causal_samplers for conv in samplers)


@pytest.mark.parametrize("config", [TINY21, TINY3])
@pytest.mark.parametrize("flags", [{"causal_encoder": False}, {"causal_decoder": True}, {"half_3d": False}])
def test_every_flag_keeps_the_grid(config, flags):
    spec = FAMILY.spec_of({**config, **flags})
    bare = SimpleNamespace(network=FAMILY.build(spec))
    moments = cases.bare_encode(bare, torch.randn(1, 3, 9, 16, 24))
    assert moments.shape == (1, 2 * spec.channels, 3, 2, 3)
    assert cases.bare_decode(bare, moments[:, : spec.channels]).shape == (1, 3, 9, 16, 24)


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ({"double_z": False}, "double_z = False"),
        ({"decoder_attn_type": "linear"}, "decoder_attn_type = 'linear'"),
        ({"time_n_compress": 2}, "time_n_compress = 2"),
        ({"en_de_n_frames_a_time": 18}, "en_de_n_frames_a_time = 18 is no multiple of 4"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_key(flags, complaint):
    with pytest.raises(BadWeights, match=complaint):
        FAMILY.spec_of({**SD21, **flags})


def test_the_pickles_beside_the_weights_are_never_named():
    assert all(spec.hub.file.endswith("diffusion_pytorch_model.safetensors") for spec in FAMILY.specs)
