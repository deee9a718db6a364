"""HunyuanVideo 1.5 against diffusers, and against itself: streamed in any chunks, it is the whole clip."""

import csv
import random
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from helpers import cases
from helpers.sampled import some
from helpers.streams import assert_same, chunked, streamed
from safetensors.torch import save_file

import vidlatent
from vidlatent.errors import BadWeights
from vidlatent.models import registry
from vidlatent.models.causal import TimeState, whole
from vidlatent.models.hunyuan15_vae import FAMILY
from vidlatent.models.layers import attend
from vidlatent.models.norms import RmsNorm
from vidlatent.models.streaming import PastAttention
from vidlatent.windows import Plan, TimeRule, even_tiles

one_thread = cases.one_thread

TINY = {"block_out_channels": [8] * 5, "layers_per_block": 1, "latent_channels": 2}
LENGTHS = some(range(1, 61), 10)  # others in every run; all of them with --run-slow


@pytest.fixture(scope="module", params=["hy15", "hy15_tiled"])
def case(request, tmp_path_factory):
    return cases.compact(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return FAMILY.build(FAMILY.spec_of(TINY)).eval().requires_grad_(False)


def through_time(network, frames: int, past: int, dice: random.Random) -> None:
    """A clip of so many frames, both ways, in random chunks: on the grid and off it."""
    video = torch.rand(1, 3, frames, 16, 32, generator=torch.Generator().manual_seed(frames)) * 2 - 1
    moments = whole(network.encode(video, TimeState(past=past)))
    assert moments.shape[2] == network.spec.grid.latents(frames)
    on_grid = chunked(frames, 1 + 4 * dice.randrange(3), lambda: 4 * dice.randrange(1, 6))
    off_grid = chunked(frames, dice.randrange(1, 6), lambda: dice.randrange(1, 9))
    for chunks in (on_grid, off_grid):
        assert_same(streamed(network.encode, video, chunks, past), moments)
    latents = moments[:, :2]
    pixels = whole(network.decode(latents, TimeState(past=past)))
    chunks = chunked(latents.shape[2], dice.randrange(1, 4), lambda: dice.randrange(1, 5))
    assert_same(streamed(network.decode, latents, chunks, past), pixels)


@pytest.mark.parametrize("window", [(5, 2), (9, 3), (None, None), (0, 0)])
def test_every_golden_run_through_the_engine(case, window):
    for run in case.facts["runs"]:
        plan = case.model.plan(*window)
        if run["tiling"]:
            plan = Plan(plan.encode_time, plan.decode_time, *even_tiles(64, 0.25, 16, slivers=True))
        moments = torch.cat(list(case.model.encode_stream(case.video(run).unbind(2), plan)), dim=2)
        cases.assert_close(moments, case.wanted[run["moments"]])
        cases.assert_close(case.model.decode(case.mean(run), plan), case.wanted[run["decoded"]])


def test_golden_runs_without_tiles_in_one_call(case):
    for run in case.facts["runs"]:
        if not run["tiling"]:
            cases.assert_close(cases.bare_encode(case.model, case.video(run)), case.wanted[run["moments"]])
            cases.assert_close(cases.bare_decode(case.model, case.mean(run)), case.wanted[run["decoded"]])


@pytest.mark.parametrize("case", ["hy15"], indirect=True)
def test_clips_that_go_through_frame_by_frame_give_the_same(case, monkeypatch):
    run = next(run for run in case.facts["runs"] if run["name"] == "t9")
    monkeypatch.setattr("vidlatent.models.streaming.PART_BYTES", 1)
    monkeypatch.setattr("vidlatent.models.bands.BAND_BYTES", 1)
    cases.assert_close(cases.bare_encode(case.model, case.video(run)), case.wanted[run["moments"]])
    cases.assert_close(cases.bare_decode(case.model, case.mean(run)), case.wanted[run["decoded"]])


@pytest.mark.parametrize("past", [0, 3])
@pytest.mark.parametrize("frames", LENGTHS)
def test_chunks_are_the_whole_clip(tiny, frames, past):
    through_time(tiny, frames, past, random.Random(frames))


@pytest.mark.slow
@pytest.mark.parametrize("past", [0, 1, 4])
def test_chunks_are_the_whole_clip_at_every_length(tiny, past):
    dice = random.Random(past)
    for frames in range(1, 61):
        through_time(tiny, frames, past, dice)


def test_attention_sees_the_frames_so_far_and_no_further_back_than_the_past_allows():
    torch.manual_seed(0)
    layer, x = PastAttention(8, RmsNorm).requires_grad_(False), torch.randn(2, 8, 6, 2, 3)
    tokens = layer.norm(x).permute(0, 2, 3, 4, 1).flatten(1, 3)
    q, k, v = (part(tokens) for part in (layer.to_q, layer.to_k, layer.to_v))
    frame = torch.arange(36) // 6
    for past in (0, 1, 4, 9):
        back = frame[:, None] - frame[None]
        mask = (back >= 0) & (back < (past or 99))
        mixed = layer.proj_out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
        wanted = x + mixed.unflatten(1, (6, 2, 3)).permute(0, 4, 1, 2, 3)
        torch.testing.assert_close(layer(x.clone(), TimeState(past=past)), wanted)


def test_attention_over_parts_is_attention_over_all_of_them(monkeypatch):
    torch.manual_seed(0)
    q, k, v = (
        torch.randn(2, 10, 4) * 20 for _ in range(3)
    )  # scores so large that only their differences count
    monkeypatch.setattr("vidlatent.models.layers._SCORES", 16)
    parts = list(zip(k.split([1, 5, 4], 1), v.split([1, 5, 4], 1), strict=True))
    torch.testing.assert_close(attend(q, parts), F.scaled_dot_product_attention(q, k, v))


def test_two_clips_may_interleave_and_an_error_leaves_nothing_behind(tiny):
    clips = [torch.rand(1, 3, 9, 16, 16) for _ in range(2)]
    states = [TimeState(more=True) for _ in clips]
    firsts = [whole(tiny.encode(clip[:, :, :5], state)) for clip, state in zip(clips, states, strict=True)]
    with pytest.raises(RuntimeError):
        whole(tiny.encode(torch.rand(1, 3, 4, 16, 48), states[0]))  # of another size in mid-clip
    states[0] = TimeState(more=True)
    firsts[0] = whole(tiny.encode(clips[0][:, :, :5], states[0]))
    for clip, state, first in zip(clips, states, firsts, strict=True):
        state.more = False
        rest = whole(tiny.encode(clip[:, :, 5:], state))
        assert_same(torch.cat([first, rest], dim=2), whole(tiny.encode(clip, TimeState())))


@pytest.mark.parametrize("past", [0, 3])
def test_state_grows_by_what_the_spec_says_until_the_past_is_full(tiny, past):
    state, sizes = TimeState(more=True, past=past), []
    for frames in (1, 4, 4, 4, 4):
        whole(tiny.encode(torch.rand(1, 3, frames, 16, 32), state))
        sizes.append(state.nbytes)
    each = tiny.spec.grows * 2 * 4  # two positions, float32
    grown = [after - before for before, after in pairwise(sizes)]
    assert grown == ([each, each, 0, 0] if past else [each] * 4)


def test_a_batch_is_its_clips(tiny):
    """diffusers raises for more than one clip at a time."""
    video = torch.rand(2, 3, 9, 16, 16)
    both = whole(tiny.encode(video, TimeState()))
    for i in range(2):
        assert_same(both[i : i + 1], whole(tiny.encode(video[i : i + 1], TimeState())))


@pytest.mark.parametrize("prefix", ["", "vae."])
@pytest.mark.parametrize("layout", ["diffusers", "authors"])
def test_a_bare_file_is_recognised(tiny, tmp_path, layout, prefix):
    state = tiny.state_dict()
    names = diffusers_names if layout == "diffusers" else authors_names
    path = tmp_path / "some.safetensors"
    save_file({prefix + names(key): with_ones(key, value) for key, value in state.items()}, path)
    model = vidlatent.load_model(path, device="cpu")
    assert model.spec.config == tiny.spec.config
    assert all(torch.equal(state[key], value) for key, value in model.network.state_dict().items())


def with_ones(key: str, value: torch.Tensor) -> torch.Tensor:
    """A gain or matrix as the files have it: [C, 1, 1, 1], a 1×1×1 convolution."""
    if key.endswith("gamma"):
        return value[:, None, None, None].clone()
    return value[:, :, None, None, None].clone() if value.dim() == 2 else value


def diffusers_names(key: str) -> str:
    half, rest = key.split(".", 1)
    blocks, samplers = ("down_blocks", "downsamplers") if half == "encoder" else ("up_blocks", "upsamplers")
    rest = rest.replace("levels", blocks).replace("sampler", f"{samplers}.0")
    for ours, name in (("0", "resnets.0"), ("1", "attentions.0"), ("2", "resnets.1")):
        rest = rest.replace(f"middle.{ours}", f"mid_block.{name}")
    return f"{half}.{rest}"


def authors_names(key: str) -> str:
    half, rest = key.split(".", 1)
    way = "down" if half == "encoder" else "up"
    rest = rest.replace("levels", way).replace("resnets", "block").replace("sampler", f"{way}sample")
    for ours, name in (("0", "block_1"), ("1", "attn_1"), ("2", "block_2")):
        rest = rest.replace(f"middle.{ours}", f"mid.{name}")
    return f"{half}.{rest.replace('.to_', '.')}"


def test_the_authors_config_describes_the_same_network():
    config = {
        "_class_name": "AutoencoderKLConv3D",
        "block_out_channels": [128, 256, 512, 1024, 1024],
        "ffactor_spatial": 16,
        "ffactor_temporal": 4,
        "latent_channels": 32,
        "sample_size": 256,
        "shift_factor": None,
    }
    assert registry.family_of(config).spec_of(config).config == registry.find("hunyuan-video-1.5").config


@pytest.mark.parametrize(
    "config",
    [{"ffactor_temporal": 8}, {"downsample_match_channel": False}, {"block_out_channels": [8, 8, 8, 64, 64]}],
)
def test_what_no_release_has_is_refused(config):
    with pytest.raises(BadWeights, match=r"is not supported|cannot be folded"):
        FAMILY.spec_of(config)


@pytest.mark.parametrize("table", ["diffusers", "original"])
def test_every_published_key_has_its_place(shared, table):
    with torch.device("meta"):
        network = FAMILY.build(registry.find("hunyuan-video-1.5"))
    with (shared / f"spec/keys/hunyuan15_{table}_keys.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    published = {FAMILY.rename(row["key"]): row["shape"].removesuffix("x1x1x1") for row in rows}
    assert published == {key: "x".join(map(str, value.shape)) for key, value in network.state_dict().items()}


def test_the_model_is_exact_and_says_how_its_state_grows():
    spec = registry.find("hunyuan-video-1.5")
    assert spec.exact and spec.grows == 2 * 1024
    assert spec.plan == Plan(TimeRule(16), TimeRule(4))
