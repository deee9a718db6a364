"""TAEHV against the authors' code, and against itself: streamed in any chunks, it is the whole clip."""

import csv
import random
from itertools import pairwise

import pytest
import torch
from helpers import cases
from helpers.tiny_models import save_tiny

from vidlatent.errors import BadWeights, UsageError
from vidlatent.jobs import models as job
from vidlatent.models import registry, tae_vae
from vidlatent.models.base import Layout
from vidlatent.models.causal import TimeState, whole
from vidlatent.models.tae_layout import TaeConfig
from vidlatent.models.tae_vae import FAMILY, Glimpse, Growth
from vidlatent.models.weights import load_network

one_thread = cases.one_thread

# Convolutions of other numbers of frames add in another order. Measured: 8e-7 on pixels of about ±1.6.
STREAM_MAX_ABS = 1e-5
LENGTHS = random.Random(0).sample(range(1, 61), 6)


@pytest.fixture(scope="module", params=["taehv_base", "taehv_ltx"])
def case(request, tmp_path_factory):
    return cases.compact(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module", params=["taew2_1", "taew2_2_super", "taeltx_2"])
def net(request):
    """A network of the published shape; weights small enough that nothing is cut off or runs away."""
    torch.manual_seed(0)
    return FAMILY.build(registry.find(request.param)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def small():
    """The smallest thing that has every kind of layer, for many lengths."""
    torch.manual_seed(0)
    return narrow({})


def narrow(flags: dict, width: int = 4) -> torch.nn.Module:
    """A network of a few channels, which no release has."""
    torch.manual_seed(0)
    kept = tae_vae.WIDTH, tae_vae.WIDTHS, tae_vae.SUPER_WIDTHS
    tae_vae.WIDTH, tae_vae.WIDTHS, tae_vae.SUPER_WIDTHS = width, (width,) * 4, (width,) * 4
    try:
        return FAMILY.build(FAMILY.spec_of({"latent_channels": 3, **flags})).eval().requires_grad_(False)
    finally:
        tae_vae.WIDTH, tae_vae.WIDTHS, tae_vae.SUPER_WIDTHS = kept


def streamed(apply, x: torch.Tensor, cuts: list[int]) -> torch.Tensor:
    """`x` in chunks that end at `cuts`, joined again."""
    state, parts = TimeState(), []
    for start, stop in pairwise([0, *cuts, x.shape[2]]):
        state.more = stop < x.shape[2]
        parts += apply(x[:, :, start:stop], state)
    return torch.cat(parts, dim=2)


def random_cuts(total: int, dice: random.Random) -> list[int]:
    return sorted(dice.sample(range(1, total), dice.randrange(0, total))) if total > 1 else []


def assert_same(got: torch.Tensor, wanted: torch.Tensor) -> None:
    assert got.shape == wanted.shape
    assert (got - wanted).abs().max() <= STREAM_MAX_ABS


def test_every_golden_run_in_one_call(case):
    for run in case.facts["runs"]:
        moments = cases.bare_encode(case.model, case.video(run))
        latents, logvar = moments.chunk(2, dim=1)
        cases.assert_close(latents, case.wanted[run["moments"]])
        assert (logvar == tae_vae.LOGVAR).all()
        cases.assert_close(cases.bare_decode(case.model, case.mean(run)), case.wanted[run["decoded"]])


@pytest.mark.parametrize(("window", "latent_window"), [(9, 2), (None, None), (0, 0)])
def test_every_golden_run_through_the_engine(case, window, latent_window):
    plan = case.model.plan(window, latent_window)
    for run in case.facts["runs"]:
        parts = [m.chunk(2, dim=1)[0] for m in case.model.encode_stream(case.video(run).unbind(2), plan)]
        cases.assert_close(torch.cat(parts, dim=2), case.wanted[run["moments"]])
        cases.assert_close(case.model.decode(case.mean(run), plan), case.wanted[run["decoded"]])


def test_each_kind_of_network_streams(net):
    grid, dice = net.spec.grid, random.Random(1)
    video = torch.rand(1, 3, 3 * grid.time + 1, 2 * grid.space, grid.space) * 2 - 1
    undivided = whole(net.encode(video, TimeState()))
    assert undivided.shape[1:3] == (2 * net.spec.channels, grid.latents(video.shape[2]))
    assert_same(streamed(net.encode, video, random_cuts(video.shape[2], dice)), undivided)
    latents = undivided.chunk(2, dim=1)[0]
    decoded = whole(net.decode(latents, TimeState()))
    assert decoded.shape == video.shape
    assert_same(streamed(net.decode, latents, [1, 3]), decoded)


@pytest.mark.parametrize(
    "frames",
    [n if n in LENGTHS else pytest.param(n, marks=pytest.mark.slow) for n in range(1, 61)],
)
def test_chunks_of_any_length_are_the_whole_clip(small, frames):
    dice = random.Random(frames)
    video = torch.rand(2, 3, frames, 16, 8) * 2 - 1
    undivided = whole(small.encode(video, TimeState()))
    assert undivided.shape == (2, 6, -(-frames // 4), 2, 1)
    assert_same(streamed(small.encode, video, random_cuts(frames, dice)), undivided)
    latents = torch.randn(2, 3, frames, 2, 1)
    decoded = whole(small.decode(latents, TimeState()))
    assert decoded.shape == (2, 3, 4 * frames - 3, 16, 8)
    assert_same(streamed(small.decode, latents, random_cuts(frames, dice)), decoded)


def test_the_end_is_filled_with_copies_of_the_last_frame(small):
    video = torch.rand(1, 3, 6, 8, 8)
    filled = torch.cat([video, video[:, :, -1:], video[:, :, -1:]], dim=2)
    assert torch.equal(whole(small.encode(video, TimeState())), whole(small.encode(filled, TimeState())))


def test_large_frames_go_through_a_level_one_by_one_and_give_the_same(small, monkeypatch):
    video = torch.rand(1, 3, 9, 16, 24) * 2 - 1
    latents = torch.randn(1, 3, 4, 2, 3)
    wanted = whole(small.encode(video, TimeState())), whole(small.decode(latents, TimeState()))
    monkeypatch.setattr(tae_vae, "QUICK_PIXELS", 1)
    pieces = list(small.decode(latents, TimeState()))
    assert {piece.shape[2] for piece in pieces} == {1, 2}
    assert_same(whole(small.encode(video, TimeState())), wanted[0])
    assert_same(whole(pieces), wanted[1])


def test_two_clips_may_interleave(small):
    clips = [torch.rand(1, 3, 9, 16, 16) for _ in range(2)]
    states = [TimeState(more=True) for _ in clips]
    firsts = [whole(small.encode(clip[:, :, :6], state)) for clip, state in zip(clips, states, strict=True)]
    for clip, state, first in zip(clips, states, firsts, strict=True):
        state.more = False
        rest = whole(small.encode(clip[:, :, 6:], state))
        assert_same(torch.cat([first, rest], dim=2), whole(small.encode(clip, TimeState())))


def test_an_error_in_mid_clip_leaves_nothing_behind(small):
    latents = torch.randn(1, 3, 5, 2, 2)
    wanted = whole(small.decode(latents, TimeState()))
    pieces = small.decode(latents, TimeState(more=True))
    next(pieces)
    pieces.close()
    with pytest.raises(RuntimeError):
        whole(small.decode(torch.randn(1, 4, 2, 2, 2), TimeState()))
    assert torch.equal(whole(small.decode(latents, TimeState())), wanted)


def test_the_state_does_not_grow_with_the_clip(small):
    encoding, decoding, sizes = TimeState(more=True), TimeState(more=True), []
    for _ in range(3):
        whole(small.encode(torch.rand(1, 3, 4, 16, 16), encoding))
        whole(small.decode(torch.randn(1, 3, 2, 2, 2), decoding))
        sizes.append((encoding.nbytes, decoding.nbytes))
    assert sizes[0] == sizes[1] == sizes[2]
    assert min(sizes[0]) > 0


def test_nothing_in_is_nothing_out_and_changes_nothing(small):
    state, latents = TimeState(more=True), torch.randn(1, 3, 3, 2, 3)
    assert whole(small.encode(torch.zeros(1, 3, 0, 16, 24), TimeState())).shape == (1, 6, 0, 2, 3)
    assert whole(small.decode(latents[:, :, :0], state)).shape == (1, 3, 0, 16, 24)
    assert_same(whole(small.decode(latents, state)), whole(small.decode(latents, TimeState())))


@pytest.mark.parametrize("flags", [{}, {"arch_variant": "super"}])
def test_a_glimpse_is_the_last_frame_of_what_the_last_weights_make(flags):
    """With weights that make equal frames of a latent, the last frame is what all of it would be."""
    made = narrow(flags)
    for level in made.decoder.levels:
        first = level.grow.conv.weight.chunk(level.grow.frames)[0]
        level.grow.conv.weight = torch.nn.Parameter(torch.cat([first] * level.grow.frames))
        level.blocks = torch.nn.ModuleList()  # which would see other frames before
    latents = torch.randn(1, 3, 3, 2, 2)
    every = whole(Glimpse(made, Growth()).decode(latents, TimeState()))
    last = whole(Glimpse(made, Growth(all_frames=False)).decode(latents, TimeState()))
    assert (every.shape[2], last.shape[2]) == (12, 3)
    assert_same(last, every[:, :, 3::4])
    assert_same(whole(made.decode(latents, TimeState())), every[:, :, 3:])


@pytest.mark.parametrize(("patch", "side"), [(1, 2), (2, 4)])
def test_a_glimpse_may_be_as_small_as_the_latents(patch, side):
    glimpse = Glimpse(narrow({"patch_size": patch}), Growth(all_frames=False, full_size=False))
    assert whole(glimpse.decode(torch.randn(1, 3, 3, 2, 2), TimeState())).shape == (1, 3, 3, side, side)
    assert (glimpse.spec.grid.time, glimpse.spec.grid.space) == (1, patch)


@pytest.mark.parametrize(
    ("table", "names"),
    [
        ("base16", "taehv taew2_1 taecvx taeos1_3"),
        ("patch2_48", "taew2_2"),
        ("super_48", "taew2_2_super"),
        ("patch2_32", "taehv1_5"),
        ("super_32", "taehv1_5_super"),
        ("ltx_128", "taeltx_2 taeltx2_3"),
    ],
)
def test_every_published_key_has_its_place(shared, table, names):
    layout, shapes = published(shared, table)
    ours = {layout.rename(key): shape for key, shape in shapes.items()}
    for name in names.split():
        with torch.device("meta"):
            built = FAMILY.build(registry.find(name)).state_dict()
        assert {key: tuple(value.shape) for key, value in built.items()} == ours
    assert TaeConfig.of(layout.config(shapes)) == TaeConfig.of(registry.find(names.split()[0]).config)


def published(shared, table: str) -> tuple[Layout, dict[str, tuple[int, ...]]]:
    """The keys and shapes of a published file, and the layout that they are of."""
    with (shared / f"spec/keys/taehv_{table}_keys.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    shapes = {row["key"]: tuple(map(int, row["shape"].split("x"))) for row in rows}
    (layout,) = (each for each in FAMILY.layouts if all(mark in shapes for mark in each.marks))
    return layout, shapes


def test_h3_is_refused_in_words(shared):
    layout, shapes = published(shared, "h3_24")
    with pytest.raises(BadWeights, match="taeh3, for MiniMax-H3, is not supported"):
        FAMILY.spec_of(layout.config(shapes))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"arch_variant": "wide"}, "arch_variant = 'wide' is not supported"),
        ({"decoder_time_upscale": [False, False, False]}, "equally many true"),
    ],
)
def test_what_cannot_be_built_is_refused_in_words(flags, words):
    with pytest.raises(BadWeights, match=words):
        FAMILY.spec_of({"_class_name": "TAEHV", **flags})


@pytest.mark.parametrize("file", ["taew2_2.pth", "taehv1_5_super.safetensors", "taeltx_2.safetensors"])
def test_a_published_file_is_told_by_its_keys_and_shapes(tmp_path, file):
    name = file.split(".")[0]
    path = save_tiny(name, tmp_path / file)
    found = registry.resolve(path)
    assert (found.spec.name, found.spec.licence) == (name, "MIT")
    network, _ = load_network(FAMILY, found.spec, path)
    assert next(network.parameters()).dtype == torch.float32
    assert job.check(path)["layout"] == ("authors, super" if "super" in name else "authors")


def test_what_four_models_share_is_told_by_the_name_of_the_file(tmp_path):
    path = save_tiny("taehv", tmp_path / "taew2_1.pth")
    assert registry.resolve(path).spec.name == "taew2_1"
    assert registry.resolve(path.rename(tmp_path / "lighttaew2_1.pth")).spec.name == "taew2_1"
    path = (tmp_path / "lighttaew2_1.pth").rename(tmp_path / "tiny.pth")
    with pytest.raises(
        UsageError, match=r"fits taehv and taew2_1 .* those of different models\nhint: .*model"
    ):
        registry.resolve(path)
    assert registry.resolve_weights("taecvx", path).spec.scale == (0.7,)
    with pytest.raises(BadWeights, match=r"holds taehv or taew2_1 or .*, not taew2_2"):
        registry.resolve_weights("taew2_2", path)


def test_files_are_found_by_name_in_a_folder(tmp_path, monkeypatch):
    folder = tmp_path / "vae_approx"
    plain, inner = (
        save_tiny("taew2_1", folder / "taew2_1.pth"),
        folder / "safetensors" / "taehv1_5.safetensors",
    )
    save_tiny("taehv1_5", inner)
    assert registry.resolve_weights("taew2_1", folder).weights == plain
    assert registry.resolve_weights("taehv1_5", folder).weights == inner
    with pytest.raises(UsageError, match=r"taew2_1: its weights .*\nhint: .*VIDLATENT_WEIGHTS"):
        registry.resolve("taew2_1")
    assert job.locate_weights(registry.find("taew2_1")) == "give a file"
    monkeypatch.setenv("VIDLATENT_WEIGHTS", f"{tmp_path}:{folder}")
    assert registry.resolve("taew2_1").weights == plain
    assert job.locate_weights(registry.find("taew2_1")) == "here"


def test_the_wrong_file_under_a_models_name_is_refused(tmp_path):
    path = save_tiny("taew2_1", tmp_path / "taeltx_2.pth")
    with pytest.raises(BadWeights, match=r"holds taehv or taew2_1 or taecvx or taeos1_3, not taeltx_2"):
        registry.resolve_weights("taeltx_2", path)
