"""The long tail: video VAEs for which diffusers has the network, run by our engine; `vidlatent[diffusers]`.

Each class has a file with what drives it and its row of facts; `check` finds out when a model is loaded
whether its class does what the row says.
"""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from vidlatent.errors import BadWeights, UsageError, parameter
from vidlatent.models.base import Family, Hub, ModelSpec
from vidlatent.models.diffusers.check import examine
from vidlatent.models.diffusers.network import INSTALL, AdaptedVae, import_diffusers, spec_of
from vidlatent.models.diffusers.table import ROWS
from vidlatent.models.published import hub_of


def learn(network: AdaptedVae, path: Path) -> ModelSpec:
    """The spec, "exact" only if a test bears it out; raises where the class loses frames."""
    spec, weight = network.spec, next(network.parameters())
    if not network.row.half and weight.dtype != torch.float32:
        raise UsageError(
            f"{parameter('dtype')}: {spec.name} runs in fp32 alone, its encoder at least",
            f"use {parameter('dtype')} fp32",
        )
    network.to(weight.device)  # constants too, which no file holds
    found = examine(spec.config)
    if not found.lossless:
        raise BadWeights(
            f"{path}: of {found.frames} frames {found.back} come back with diffusers {_version()}",
            f"{INSTALL} brings a version that was tested",
        )
    if found.equal:
        return spec
    error = max(found.encode_error, found.decode_error)
    warnings.warn(
        f"{spec.name}: chunks differ by {error:.1e} from the whole with diffusers {_version()}: not exact",
        stacklevel=2,
    )
    plan = spec.plan
    rules = {
        name: replace(rule, batches=True)
        for name in ("encode_time", "decode_time")
        if (rule := getattr(plan, name)).exact
    }
    return replace(spec, plan=replace(plan, **rules))


def _version() -> str:
    return import_diffusers().__version__


def _known(
    name: str, config: Mapping[str, object], where: Hub | None, licence: str, summary: str
) -> ModelSpec:
    """Spec of a published model; the config that lies beside its weights has the last word."""
    return replace(spec_of(config), name=name, hub=where, licence=licence, summary=summary)


def _hub(repo: str, folder: str = "vae") -> Hub:
    return hub_of(repo, f"{folder}/diffusion_pytorch_model.safetensors", f"{folder}/config.json")


SVD_CONFIG = {
    "_class_name": "AutoencoderKLTemporalDecoder",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "layers_per_block": 2,
}

# fmt: off
MINIMAX_H3_CONFIG = {  # mean and deviation of the latents that the published model makes
    "_class_name": "AutoencoderKLMiniMaxH3",
    "latents_mean": [
        0.858090341091156, -0.9606591463088989, 1.0661640167236328, -0.5090325474739075,
        -0.2727581858634949, -1.3675414323806763, -0.2553254961967468, -0.26907554268836975,
        -0.5376840829849243, -0.0464097298681736, 0.6657370328903198, 0.19690127670764923,
        -0.5460608005523682, -0.4035342037677765, -0.23683024942874908, 0.25928452610969543,
        -0.30133944749832153, 0.211341992020607, -1.1206848621368408, 0.3581933379173279,
        -0.04225143790245056, 0.2604829967021942, 0.22864092886447906, 0.7056031823158264,
    ],
    "latents_std": [
        1.2223774194717407, 1.2767263650894165, 1.6831774711608887, 1.7549455165863037,
        1.5636216402053833, 2.194143533706665, 0.9653137922286987, 1.0569885969161987,
        0.841948926448822, 0.7729952931404114, 1.8955937623977661, 0.946841835975647,
        0.7996809482574463, 0.44988900423049927, 0.7197399735450745, 0.6936293244361877,
        2.961095094680786, 2.7694199085235596, 3.0496184825897217, 2.1088054180145264,
        3.276226282119751, 3.1627357006073, 2.2816812992095947, 2.6127843856811523,
    ],
}
# fmt: on

FAMILY = Family(
    name="diffusers_vae",
    class_names=tuple(ROWS),
    specs=(
        _known(
            "easyanimate-5.1",
            {"_class_name": "AutoencoderKLMagvit"},
            _hub("alibaba-pai/EasyAnimateV5.1-12b-zh"),
            "Apache-2.0",
            "the VAE of EasyAnimate 5.1, through diffusers",
        ),
        _known(
            "kvae-3d",
            {"_class_name": "AutoencoderKLKVAEVideo"},
            _hub("kandinskylab/KVAE-3D-1.0", "diffusers"),
            "unclear",
            "KVAE-3D 1.0, through diffusers",
        ),
        _known(
            "vidtok",
            {"_class_name": "AutoencoderVidTok"},
            None,
            "MIT",
            "VidTok, causal and continuous, through diffusers",
        ),
        _known(
            "mochi-1",
            {"_class_name": "AutoencoderKLMochi"},
            _hub("genmo/mochi-1-preview"),
            "Apache-2.0",
            "the VAE of Mochi 1, through diffusers; its encoder takes the whole clip",
        ),
        _known(
            "cosmos-cv8x8x8",
            {"_class_name": "AutoencoderKLCosmos"},
            _hub("nvidia/Cosmos-1.0-Tokenizer-CV8x8x8"),
            "NVIDIA Open Model",
            "Cosmos 1.0's tokenizer, through diffusers; takes the whole clip",
        ),
        _known(
            "svd",
            SVD_CONFIG,
            _hub("stabilityai/stable-video-diffusion-img2vid-xt"),
            "Stability Community",
            "the VAE of Stable Video Diffusion, through diffusers; frames alone, decoded 14 together",
        ),
        _known(
            "allegro",
            {"_class_name": "AutoencoderKLAllegro"},
            _hub("rhymes-ai/Allegro"),
            "Apache-2.0",
            "the VAE of Allegro, through diffusers; windows of 24 frames, tiles of 320 px",
        ),
        _known(
            "minimax-h3",
            MINIMAX_H3_CONFIG,
            None,
            "MiniMax-H3 Community",
            "the VAE of MiniMax-H3, through diffusers; clips of 17 frames, tiles of 256 px",
        ),
    ),
    spec_of=spec_of,
    build=AdaptedVae,
    rename=lambda key: f"vae.{key}",
    learn=learn,
    extra="diffusers",
)
