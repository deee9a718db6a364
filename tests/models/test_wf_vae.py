"""WF-VAE against the authors' code, and against itself: streamed in any chunks, it is the whole clip."""

import csv
import random

import pytest
import torch
from helpers import cases
from helpers.sampled import some
from helpers.streams import assert_same, chunked, streamed

from vidlatent.errors import BadWeights
from vidlatent.models.causal import TimeState, whole
from vidlatent.models.haar import HAAR3, Haar3d, InverseHaar3d, haar2d, inverse_haar2d
from vidlatent.models.wf_vae import FAMILY, RELEASED
from vidlatent.windows import TimeRule

one_thread = cases.one_thread

TINY = {
    **RELEASED,
    "base_channels": 4,
    "latent_dim": 2,
    "encoder_num_resblocks": 1,
    "decoder_num_resblocks": 1,
    "encoder_energy_flow_hidden_size": 4,
    "decoder_energy_flow_hidden_size": 4,
}


@pytest.fixture(scope="module", params=["wf_v131"])
def case(request, tmp_path_factory):
    return cases.compact(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def large(shared, tmp_path_factory):
    return cases.full(shared / "golden/od_vae/wf131_release", tmp_path_factory.mktemp("wf131"))


@pytest.fixture(scope="module", params=["trilinear", "nearest"])
def tiny(request):
    return network({"t_interpolation": request.param})


def network(flags: dict) -> torch.nn.Module:
    torch.manual_seed(0)
    return FAMILY.build(FAMILY.spec_of({**TINY, **flags})).eval().requires_grad_(False)


def test_every_golden_run_in_one_call(case):
    for run in case.facts["runs"]:
        cases.assert_close(cases.bare_encode(case.model, case.video(run)), case.wanted[run["moments"]])
        cases.assert_close(cases.bare_decode(case.model, case.mean(run)), case.wanted[run["decoded"]])


@pytest.mark.parametrize(("window", "latent_window"), [(5, 2), (13, 4), (None, None), (0, 0)])
def test_every_golden_run_through_the_engine(case, window, latent_window):
    plan = case.model.plan(window, latent_window)
    for run in case.facts["runs"]:
        moments = torch.cat(list(case.model.encode_stream(case.video(run).unbind(2), plan)), dim=2)
        cases.assert_close(moments, case.wanted[run["moments"]])
        cases.assert_close(case.model.decode(case.mean(run), plan), case.wanted[run["decoded"]])


@pytest.mark.parametrize("key", ["t1_24x40", "t9_24x40", "t33_24x40", "t21_16x16"])
def test_larger_goldens_in_one_call(large, key):
    moments = large.wanted[f"moments_{key}"]
    cases.assert_close(cases.bare_encode(large.model, large.wanted[f"x_{key}"]), moments)
    cases.assert_close(cases.bare_decode(large.model, moments[:, :8]), large.wanted[f"dec_{key}"])


def test_larger_goldens_in_the_authors_chunks(large):
    """Of 21 frames the authors' cached decoder loses the last ones; ours must equal their whole clip."""
    plan = large.model.plan(window=33, latent_window=5)
    frames = large.wanted["x_t33_24x40"].unbind(2)
    moments = torch.cat(list(large.model.encode_stream(frames, plan)), dim=2)
    cases.assert_close(moments, large.wanted["moments_cached_33"])
    decoded = large.model.decode(large.wanted["moments_t33_24x40"][:, :8], plan)
    cases.assert_close(decoded, large.wanted["dec_cached_33_from_uncached_moments"])
    decoded = large.model.decode(large.wanted["moments_t21_16x16"][:, :8], plan)
    cases.assert_close(decoded, large.wanted["dec_t21_16x16"])
    wrong = large.wanted["dec_cached_21_reference_is_wrong"]
    assert (decoded - wrong).abs().max() > cases.MAX_ABS


def lengths(few: list[int], every: range) -> pytest.MarkDecorator:
    """The lengths of clips that are tried: a few, others in every run, or all of them."""
    cases = [pytest.param(few, id=str(few)), pytest.param(every, id="all", marks=pytest.mark.slow)]
    return pytest.mark.parametrize("lengths", cases)


@lengths(some(range(10, 121), 12, 1, 2, 4, 5, 8, 9), range(1, 121))
@pytest.mark.parametrize("tiny", ["trilinear"], indirect=True)
def test_encoding_in_chunks_is_the_whole_clip(tiny, lengths):
    dice = random.Random(1)
    video = torch.rand(1, 3, 120, 8, 16) * 2 - 1
    for frames in lengths:
        clip = video[:, :, :frames]
        chunks = chunked(frames, 1 + 4 * dice.randrange(5), lambda: 4 * dice.randrange(1, 12))
        assert_same(streamed(tiny.encode, clip, chunks), whole(tiny.encode(clip, TimeState())))


@lengths(some(range(5, 32), 4, 1, 2, 3, 4), range(1, 32))
def test_decoding_in_chunks_is_the_whole_clip(tiny, lengths):
    dice = random.Random(2)
    latents = torch.randn(1, 2, 31, 1, 2)
    for length in lengths:
        clip = latents[:, :, :length]
        undivided = whole(tiny.decode(clip, TimeState()))
        assert undivided.shape[2] == 4 * length - 3
        for step in (2, 9):
            chunks = chunked(length, dice.randrange(1, 4), lambda step=step: dice.randrange(1, step + 1))
            assert_same(streamed(tiny.decode, clip, chunks), undivided)


@pytest.mark.parametrize("tiny", ["trilinear"], indirect=True)
def test_chunks_need_not_fit_the_grid(tiny):
    dice = random.Random(3)
    video = torch.rand(1, 3, 23, 16, 16) * 2 - 1
    for frames in range(1, 24):
        clip = video[:, :, :frames]
        chunks = chunked(frames, dice.randrange(1, 5), lambda: dice.randrange(1, 5))
        assert_same(streamed(tiny.encode, clip, chunks), whole(tiny.encode(clip, TimeState())))


def test_a_last_call_without_latents_gives_what_is_still_owed(tiny):
    latents = torch.randn(1, 2, 4, 2, 2)
    undivided = whole(tiny.decode(latents, TimeState()))
    assert_same(streamed(tiny.decode, latents, [(0, 3), (3, 4), (4, 4)]), undivided)


def test_nothing_in_is_nothing_out(tiny):
    assert whole(tiny.encode(torch.zeros(1, 3, 0, 16, 24), TimeState())).shape == (1, 4, 0, 2, 3)
    assert whole(tiny.decode(torch.zeros(1, 2, 0, 2, 3), TimeState())).shape == (1, 3, 0, 16, 24)


def test_linear_doubling_holds_back_what_the_next_latent_decides():
    latents = torch.randn(1, 2, 3, 2, 2)
    for mode, frames in (("trilinear", 7), ("nearest", 9)):
        assert (
            whole(network({"t_interpolation": mode}).decode(latents, TimeState(more=True))).shape[2] == frames
        )


def test_two_clips_may_interleave(tiny):
    clips = [torch.rand(1, 3, 9, 16, 16) for _ in range(2)]
    states = [TimeState(more=True) for _ in clips]
    firsts = [whole(tiny.encode(clip[:, :, :5], state)) for clip, state in zip(clips, states, strict=True)]
    for clip, state, first in zip(clips, states, firsts, strict=True):
        state.more = False
        rest = whole(tiny.encode(clip[:, :, 5:], state))
        assert_same(torch.cat([first, rest], dim=2), whole(tiny.encode(clip, TimeState())))


def test_the_state_does_not_grow_with_the_clip(tiny):
    state, sizes = TimeState(more=True), []
    for _ in range(4):
        whole(tiny.encode(torch.rand(1, 3, 4, 16, 16), state))
        sizes.append(state.nbytes)
    assert sizes[1] == sizes[2] == sizes[3] > 0


def test_haar_wavelets_come_back_with_the_gain_of_the_authors_constant():
    x = torch.randn(1, 3, 7, 6, 8, dtype=torch.float64)
    back = InverseHaar3d()(Haar3d()(x, TimeState()), TimeState())
    torch.testing.assert_close(back, x * 8 * HAAR3**2)
    torch.testing.assert_close(inverse_haar2d(haar2d(x)), x)


def test_group_norms_cannot_stream_and_leave_the_clip_undivided():
    spec = FAMILY.spec_of({**TINY, "norm_type": "groupnorm", "base_channels": 32})
    assert not spec.exact and spec.plan.encode_time == spec.plan.decode_time == TimeRule(0, 1)


@pytest.mark.parametrize(
    "flags",
    [
        {"norm_type": "groupnorm", "base_channels": 32, "decoder_energy_flow_hidden_size": 32},
        {"use_attention": False},
        {"connect_res_layer_num": 2, "decoder_num_resblocks": 2},
    ],
)
def test_other_configs_keep_the_grid(flags):
    flags = {"encoder_energy_flow_hidden_size": flags.get("base_channels", 4), **flags}
    net = network(flags)
    moments = whole(net.encode(torch.randn(1, 3, 9, 16, 24), TimeState()))
    assert moments.shape == (1, 4, 3, 2, 3)
    assert whole(net.decode(moments[:, :2], TimeState())).shape == (1, 3, 9, 16, 24)


def test_modules_that_no_release_names_are_refused():
    with pytest.raises(BadWeights, match="l1_upsample_block = 'Other'"):
        FAMILY.spec_of({**RELEASED, "l1_upsample_block": "Other"})


@pytest.mark.parametrize(("table", "name"), [("v1_3_0_S8", "wf-vae-s"), ("L16_repo", "wf-vae-l")])
def test_every_published_key_has_its_place(shared, table, name):
    with torch.device("meta"):
        net = FAMILY.build(next(spec for spec in FAMILY.specs if spec.name == name))
    with (shared / f"spec/keys/wf_vae_keys_{table}.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    published = {FAMILY.rename(row["key"]): row["shape"] for row in rows}
    published.pop(None)  # the wavelets' constants
    assert published == {key: "x".join(map(str, value.shape)) for key, value in net.state_dict().items()}
