"""Image autoencoders against the reference, in every naming that their weights come in."""

import csv
from pathlib import Path

import pytest
import torch
from helpers import cases
from safetensors.torch import load_file, save_file

import vidlatent
from vidlatent.errors import BadWeights
from vidlatent.models import image_vae
from vidlatent.models.image_vae import FAMILY, SD, SD3

one_thread = cases.one_thread

LDM = {  # diffusers → original names, written down apart from the package's own table
    "down_blocks.{i}.resnets.{j}.": "down.{i}.block.{j}.",
    "down_blocks.{i}.downsamplers.0.": "down.{i}.downsample.",
    "mid_block.resnets.0.": "mid.block_1.",
    "mid_block.resnets.1.": "mid.block_2.",
    "mid_block.attentions.0.group_norm.": "mid.attn_1.norm.",
    "mid_block.attentions.0.to_q.": "mid.attn_1.q.",
    "mid_block.attentions.0.to_k.": "mid.attn_1.k.",
    "mid_block.attentions.0.to_v.": "mid.attn_1.v.",
    "mid_block.attentions.0.to_out.0.": "mid.attn_1.proj_out.",
    "conv_norm_out.": "norm_out.",
}
OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@pytest.fixture(scope="module", params=["image_sd", "image_sd3"])
def case(request, tmp_path_factory):
    return cases.compact(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def sd(tmp_path_factory):
    return cases.compact("image_sd", tmp_path_factory.mktemp("image_sd"))


def ldm_name(key: str) -> str:
    for i in range(4):
        for j in range(3):
            for new, old in LDM.items():
                key = key.replace(new.format(i=i, j=j), old.format(i=i, j=j))
            key = key.replace(f"up_blocks.{i}.resnets.{j}.", f"up.{3 - i}.block.{j}.")
        key = key.replace(f"up_blocks.{i}.upsamplers.0.", f"up.{3 - i}.upsample.")
    return key.replace("conv_shortcut.", "nin_shortcut.")


def assert_loads_the_same(case, folder: Path) -> None:
    run = case.facts["runs"][0]
    other = vidlatent.load_model(folder, device="cpu")
    assert torch.equal(
        cases.bare_encode(other, case.video(run)), cases.bare_encode(case.model, case.video(run))
    )


def test_every_golden_run_in_one_call(case):
    for run in case.facts["runs"]:
        cases.assert_close(cases.bare_encode(case.model, case.video(run)), case.wanted[run["moments"]])
        cases.assert_close(cases.bare_decode(case.model, case.mean(run)), case.wanted[run["decoded"]])


@pytest.mark.parametrize("window", [2, None, 0])
def test_golden_frames_through_the_engine(case, window):
    plan = case.model.plan(window, window)
    run = case.facts["runs"][0]
    moments = torch.cat(list(case.model.encode_stream(case.video(run).unbind(2), plan)), dim=2)
    cases.assert_close(moments, case.wanted[run["moments"]])
    cases.assert_close(case.model.decode(case.mean(run), plan), case.wanted[run["decoded"]])


def test_frames_in_small_batches_are_the_same_frames(case, monkeypatch):
    run = case.facts["runs"][0]
    monkeypatch.setattr(image_vae, "BATCH_PX", 1)
    cases.assert_close(cases.bare_encode(case.model, case.video(run)), case.wanted[run["moments"]])


def test_old_attention_names_load(sd, tmp_path):
    state = load_file(sd.folder / "diffusion_pytorch_model.safetensors")
    old = {}
    for key, value in state.items():
        for new, name in OLD_ATTENTION.items():
            key = key.replace(f"attentions.0.{new}.", f"attentions.0.{name}.")
        old[key] = value
    assert old.keys() != state.keys()
    assert_loads_the_same(sd, cases.publish(sd.config, old, tmp_path))


@pytest.mark.parametrize("prefix", ["", "first_stage_model."])
def test_the_original_names_load_alone_and_inside_a_whole_model(sd, tmp_path, prefix):
    state = load_file(sd.folder / "diffusion_pytorch_model.safetensors")
    old = {}
    for key, value in state.items():
        attention = "attentions" in key and value.dim() == 2
        old[prefix + ldm_name(key)] = value[:, :, None, None].contiguous() if attention else value
    if prefix:
        old |= {key: torch.zeros(1) for key in ("model.diffusion_model.out.0.weight", "cond_stage_model.x")}
    assert not any("resnets" in key for key in old)
    assert_loads_the_same(sd, cases.publish(sd.config, old, tmp_path))


def test_a_single_file_is_loaded_for_the_model_it_is_named_for(tmp_path):
    state = {"first_stage_model.encoder.conv_in.weight": torch.zeros(128, 3, 3, 3)}
    save_file(state, tmp_path / "whole.safetensors")
    with pytest.raises(BadWeights, match="missing"):
        vidlatent.load_model("sdxl-vae", device="cpu", weights=tmp_path / "whole.safetensors")


def test_an_unknown_key_is_quoted(sd, tmp_path):
    state = load_file(sd.folder / "diffusion_pytorch_model.safetensors")
    state["encoder.extra.weight"] = torch.zeros(1)
    with pytest.raises(BadWeights, match=r"encoder\.extra\.weight"):
        vidlatent.load_model(cases.publish(sd.config, state, tmp_path), device="cpu")


@pytest.mark.parametrize(
    ("name", "channels", "scale", "shift"),
    [
        ("sd-vae-1.5", 4, 0.18215, 0.0),
        ("sd-vae-2.1", 4, 0.18215, 0.0),
        ("sdxl-vae", 4, 0.13025, 0.0),
        ("sd3-vae", 16, 1.5305, 0.0609),
        ("flux-vae", 16, 0.3611, 0.1159),
    ],
)
def test_what_each_diffusion_model_expects(name, channels, scale, shift):
    spec = next(spec for spec in FAMILY.specs if spec.name == name)
    assert (spec.channels, spec.scale, spec.shift) == (channels, (scale,), (shift,))
    assert spec.exact and spec.grid.time == 1


def test_a_mean_and_spread_per_channel_become_shift_and_scale():
    spec = FAMILY.spec_of(
        {**SD, "latents_mean": [1, 2, 3, 4], "latents_std": [0.5, 1, 2, 4], "scaling_factor": 1}
    )
    assert spec.shift == (1, 2, 3, 4) and spec.scale == (2, 1, 0.5, 0.25)


def test_other_blocks_are_refused_by_their_key():
    with pytest.raises(BadWeights, match="down_block_types"):
        FAMILY.spec_of({**SD, "down_block_types": ["AttnDownEncoderBlock2D"] * 4})


@pytest.mark.parametrize(("table", "config"), [("image_vae_sd", SD), ("image_vae_sd3", SD3)])
def test_every_published_key_has_its_place(shared, table, config):
    with torch.device("meta"):
        network = FAMILY.build(FAMILY.spec_of(config))
    with (shared / f"spec/keys/{table}_keys.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    published = {FAMILY.rename(row["key"]): row["shape"] for row in rows}
    assert published == {key: "x".join(map(str, value.shape)) for key, value in network.state_dict().items()}
