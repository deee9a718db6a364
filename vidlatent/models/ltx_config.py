"""What the config of an LTX-Video VAE says: the network as a list of blocks, the encoder's and the decoder's.

There are two kinds. The authors', a JSON text in the metadata of their files, is such a list. That of
diffusers has a list per property (widths, layers, samplers ...); those of the decoder run from high to low
resolution, against the order of execution, but for `upsample_type`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from vidlatent.errors import BadWeights
from vidlatent.grid import Grid
from vidlatent.models.horizon import Horizon, back, narrowed, widened

AUTHORS, DIFFUSERS, DIFFUSERS_2, DIFFUSION = (
    "CausalVideoAutoencoder", "AutoencoderKLLTXVideo", "AutoencoderKLLTX2Video", "CausalDiffusionVAE",
)  # fmt: skip
STRIDES = {"all": (2, 2, 2), "time": (2, 1, 1), "space": (1, 2, 2)}  # of a sampler: frames, rows, columns
SAMPLERS = {"spatiotemporal": "all", "temporal": "time", "spatial": "space"}  # as diffusers calls them
PADDINGS = ("zeros", "reflect")
_OWN = "use the config that came with the weights"


@dataclass(frozen=True)
class Block:
    """One block of the encoder or decoder.

    Its `kind` is "res" (`count` residual blocks), "widen" (one, to another width), "strided" (a convolution
    that steps), "fold" (pixels and frames into channels) or "unfold" (the way back).
    """

    kind: str
    inputs: int
    outputs: int
    count: int = 1
    stride: tuple[int, int, int] = (1, 1, 1)
    residual: bool = False  # of a sampler: whether there is a path around its convolution
    noise: bool = False
    timestep: bool = False


@dataclass(frozen=True)
class LtxConfig:
    """What shapes the network; both lists of blocks are in the order of execution."""

    latent_channels: int
    patch: int
    encoder: tuple[Block, ...]
    decoder: tuple[Block, ...]
    timestep: bool = False
    reflect: tuple[bool, bool] = (False, False)  # what surrounds a frame in the encoder, and in the decoder
    decoder_causal: bool = False
    scaling_factor: float = 1.0

    def __post_init__(self) -> None:
        for before, block in (*pairwise(self.encoder), *pairwise(self.decoder)):
            if before.outputs != block.inputs:
                raise BadWeights(f"config of LTX-Video: {before.outputs} channels meet {block.inputs}", _OWN)
        if self.compression(self.encoder) != self.compression(self.decoder):
            raise BadWeights("config of LTX-Video: its decoder does not undo what its encoder does", _OWN)

    @classmethod
    def of(cls, config: Mapping[str, object]) -> "LtxConfig":
        """From a parsed config of either kind; raises BadWeights where it cannot be built."""
        if config.get("_class_name") == DIFFUSION:
            raise no_diffusion()
        read = _of_authors if config.get("_class_name") == AUTHORS else _of_diffusers
        try:
            return read(config)
        except (KeyError, TypeError, ValueError, IndexError) as e:
            reason = f"no {e}" if isinstance(e, KeyError) else e
            raise BadWeights(f"config of {config.get('_class_name')}: {reason}", _OWN) from e

    def compression(self, blocks: Sequence[Block]) -> tuple[int, int]:
        """How many frames, and how many pixels of a side, become one."""
        return prod(b.stride[0] for b in blocks), self.patch * prod(b.stride[1] for b in blocks)

    @property
    def latency(self) -> int:
        """Latents that the decoder takes in before it gives a frame: each convolution waits for one more."""
        if self.decoder_causal:
            return 1
        frames = 1 + 1  # of the last convolution, for one to come out
        for block in reversed(self.decoder):
            if block.kind == "unfold":
                time = block.stride[0]
                frames = -(-(frames + time - 1) // time) + 1  # the first of the clip becomes one
            else:
                frames += 2 * block.count
        return frames + 1

    @property
    def horizon(self) -> Horizon:
        """Every convolution sees two frames back; of a decoder that is not causal, one."""
        encoder, decoder, sight = [back(2)], [], back(2 if self.decoder_causal else 1)
        for block in self.encoder:
            encoder += {
                "strided": [narrowed(block.stride[0], 3)],
                "fold": [back(2), narrowed(block.stride[0], block.stride[0])],
            }.get(block.kind, [back(4 * block.count)])
        for block in self.decoder:
            unfold = block.kind == "unfold"
            decoder += [sight, widened(block.stride[0])] if unfold else [sight] * (2 * block.count)
        grid = Grid(*self.compression(self.encoder))
        return Horizon.count(grid, [*encoder, back(2)], [sight, *decoder, sight])

    @property
    def noisy(self) -> bool:
        """Whether the decoder has noise added inside it."""
        return any(block.noise for block in self.decoder)


def no_diffusion() -> BadWeights:
    """The error for one of the two decoders of LTX-2.5."""
    return BadWeights(
        "this decoder of LTX-2.5 is a diffusion model, which vidlatent does not run",
        "use ltx-2.5-video-vae-conv-bf16.safetensors: its latents are the same",
    )


def demand(config: Mapping[str, object], supported: Mapping[str, tuple]) -> None:
    """Raise BadWeights where a key has a value that no network here has; the first of each is the default."""
    for key, good in supported.items():
        if config.get(key, good[0]) not in good:
            kinds = " or ".join(map(repr, good))
            raise BadWeights(
                f"config of {config.get('_class_name')}: {key} = {config[key]!r} is not supported",
                f"supported: {kinds}",
            )


def _reflects(config: Mapping[str, object], usual: str = "zeros") -> tuple[bool, bool]:
    """Whether encoder and decoder surround their frames by reflection; decoders do as `usual` unless told."""
    both = config.get("spatial_padding_mode")
    parts = {"encoder": both or "zeros", "decoder": both or usual}
    modes = [config.get(f"{part}_spatial_padding_mode", mode) for part, mode in parts.items()]
    for mode in modes:
        if mode not in PADDINGS:
            raise ValueError(f"spatial padding {mode!r} is not supported, only {' and '.join(PADDINGS)}")
    return modes[0] == "reflect", modes[1] == "reflect"


# --- the authors' kind ---


_AUTHORS_SUPPORTED = {
    "dims": (3,),
    "in_channels": (3,),
    "out_channels": (3,),
    "norm_layer": ("pixel_norm",),
    "latent_log_var": ("uniform",),
    "use_quant_conv": (False,),
    "normalize_latent_channels": (False,),
}


def _of_authors(config: Mapping[str, object]) -> LtxConfig:
    """From a config of the authors' kind.

    What it leaves out is as in the code that reads it. Encoders of LTX-2 begin as wide as their latents, its
    decoders mirror borders. Those of LTX-Video, which step in the encoder or know a timestep, do not.
    """
    demand(config, _AUTHORS_SUPPORTED)
    timestep = bool(config.get("timestep_conditioning", False))
    shared = config.get("blocks")
    encoder = _named(config.get("encoder_blocks", shared))
    decoder = _named(config.get("decoder_blocks", shared))[::-1]  # it is run from its end
    top = config.get("decoder_base_channels", 128) * prod(_narrowing(*block) for block in decoder)
    channels = config["latent_channels"]
    of_ltx2 = not timestep and all(name.endswith("_res") for name, _ in encoder if "compress" in name)
    return LtxConfig(
        latent_channels=channels,
        patch=config.get("patch_size", 4),
        encoder=tuple(_chain(encoder, config.get("encoder_base_channels", channels), _encoder_block)),
        decoder=tuple(_chain(decoder, top, lambda *block: _decoder_block(*block, timestep))),
        timestep=timestep,
        reflect=_reflects(config, "reflect" if of_ltx2 else "zeros"),
        decoder_causal=bool(config.get("causal_decoder", False)),
        scaling_factor=config.get("scaling_factor", 1.0),
    )


def _named(blocks: object) -> list[tuple[str, Mapping]]:
    """Names of blocks and what is said of them; a bare number is a number of layers."""
    if not isinstance(blocks, list):
        raise ValueError("no list of blocks")
    return [(name, said if isinstance(said, Mapping) else {"num_layers": said}) for name, said in blocks]


def _narrowing(name: str, said: Mapping) -> int:
    """By how much a block of the decoder divides its width."""
    if name == "res_x_y":
        return said.get("multiplier", 2)
    return said.get("multiplier", 1) if name.startswith("compress_") else 1


def _chain(blocks: Sequence[tuple[str, Mapping]], width: int, build) -> Iterator[Block]:
    """Blocks, each as wide as the one before it leaves the clip."""
    for name, said in blocks:
        block = build(name, said, width)
        width = block.outputs
        yield block


def _encoder_block(name: str, said: Mapping, width: int) -> Block:
    kind, _, what = name.partition("_")
    stride = STRIDES.get(what.removesuffix("_res")) if kind == "compress" else None
    if name == "res_x":
        return Block("res", width, width, said["num_layers"])
    if name == "res_x_y":
        return Block("widen", width, width * said.get("multiplier", 2))
    if stride and what.endswith("_res"):
        return Block("fold", width, width * said.get("multiplier", 2), stride=stride, residual=True)
    if stride:
        return Block("strided", width, width, stride=stride)
    raise ValueError(f"a block {name!r} in the encoder is not supported")


def _decoder_block(name: str, said: Mapping, width: int, timestep: bool) -> Block:
    kind, _, what = name.partition("_")
    if name == "res_x":
        noise = bool(said.get("inject_noise", False))
        return Block("res", width, width, said["num_layers"], noise=noise, timestep=timestep)
    if name == "res_x_y":
        return Block("widen", width, width // said.get("multiplier", 2))
    if kind == "compress" and what in STRIDES:
        residual, factor = said.get("residual", False), said.get("multiplier", 1)
        residual = bool(residual) and what == "all"  # the authors' code hears it of these alone
        return Block("unfold", width, width // factor, stride=STRIDES[what], residual=residual)
    raise ValueError(f"a block {name!r} in the decoder is not supported")


# --- the kind of diffusers ---


_DIFFUSERS_SUPPORTED = {
    "in_channels": (3,),
    "out_channels": (3,),
    "patch_size_t": (1,),
    "encoder_causal": (True,),
    "resnet_norm_eps": (1e-6,),
}
_STRIDED, _FOLDING = "LTXVideoDownBlock3D", ("LTXVideo095DownBlock3D", "LTX2VideoDownBlock3D")
_DEFAULTS = {  # of the classes, for configs that have not all keys, as the first one that was published
    DIFFUSERS: {
        "latent_channels": 128,
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": [_STRIDED] * 4,
        "decoder_block_out_channels": [128, 256, 512, 512],
        "layers_per_block": [4, 3, 3, 3, 4],
        "decoder_layers_per_block": [4, 3, 3, 3, 4],
        "spatio_temporal_scaling": [True, True, True, False],
        "decoder_spatio_temporal_scaling": [True, True, True, False],
        "decoder_inject_noise": [False] * 5,
        "downsample_type": ["conv"] * 4,
        "upsample_residual": [False] * 4,
        "upsample_factor": [1] * 4,
        "timestep_conditioning": False,
        "patch_size": 4,
        "decoder_causal": False,
    },
    DIFFUSERS_2: {
        "latent_channels": 128,
        "block_out_channels": [256, 512, 1024, 2048],
        "down_block_types": [_FOLDING[1]] * 4,
        "decoder_block_out_channels": [256, 512, 1024],
        "layers_per_block": [4, 6, 6, 2, 2],
        "decoder_layers_per_block": [5, 5, 5, 5],
        "spatio_temporal_scaling": [True] * 4,
        "decoder_spatio_temporal_scaling": [True] * 3,
        "decoder_inject_noise": [False] * 4,
        "downsample_type": ["spatial", "temporal", "spatiotemporal", "spatiotemporal"],
        "upsample_residual": [True] * 3,
        "upsample_factor": [2] * 3,
        "timestep_conditioning": False,
        "patch_size": 4,
        "decoder_causal": True,  # not so in any release
        "decoder_spatial_padding_mode": "reflect",
    },
}


def _of_diffusers(config: Mapping[str, object]) -> LtxConfig:
    demand(config, _DIFFUSERS_SUPPORTED)
    said = _for_each({**_DEFAULTS[config["_class_name"]], **config})
    return LtxConfig(
        latent_channels=said["latent_channels"],
        patch=said["patch_size"],
        encoder=tuple(_encoder_of(said)),
        decoder=tuple(_decoder_of(said)),
        timestep=bool(said["timestep_conditioning"]),
        reflect=_reflects(said),
        decoder_causal=bool(said["decoder_causal"]),
        scaling_factor=config.get("scaling_factor", 1.0),
    )


def _for_each(said: Mapping[str, object]) -> dict[str, object]:
    """The config with a list where one flag stands for all levels: the class of LTX-2 takes both."""
    lists = {
        "spatio_temporal_scaling": len(said["layers_per_block"]) - 1,
        "decoder_spatio_temporal_scaling": len(said["decoder_layers_per_block"]) - 1,
        "upsample_residual": len(said["decoder_layers_per_block"]) - 1,
        "decoder_inject_noise": len(said["decoder_layers_per_block"]),
    }
    flags = {key: [said[key]] * count for key, count in lists.items() if isinstance(said[key], bool)}
    return {**said, **flags}


def _encoder_of(said: Mapping[str, object]) -> Iterator[Block]:
    """Of every level: residual blocks, a sampler if there is one, a block to the next width."""
    kinds, widths = said["down_block_types"], list(said["block_out_channels"])
    strided, levels = set(kinds) == {_STRIDED}, len(kinds)
    if not strided and not set(kinds) <= set(_FOLDING):
        raise ValueError(f"down_block_types {kinds!r} are not supported")
    if strided:
        widths = [*widths[:levels], widths[levels - 1]]
    elif len(widths) == levels:  # in LTX-2 the first convolution has a width of its own
        widths = [said["latent_channels"], *widths]
    per_level = (said["layers_per_block"], said["spatio_temporal_scaling"], said["downsample_type"])
    rows = zip(pairwise(widths), *(values[:levels] for values in per_level), strict=True)
    for (width, wider), count, sampled, sampler in rows:
        yield Block("res", width, width, count)
        if sampled and strided:
            yield Block("strided", width, width, stride=STRIDES["all"])
        elif sampled:
            yield Block("fold", width, wider, stride=STRIDES[SAMPLERS[sampler]], residual=True)
        if strided and wider != width:
            yield Block("widen", width, wider)
    yield Block("res", widths[-1], widths[-1], said["layers_per_block"][levels])


def _decoder_of(said: Mapping[str, object]) -> Iterator[Block]:
    """Of every level: a block to its own width where it has another, a sampler if any, residual blocks."""

    def upwards(key: str) -> list:
        return list(reversed(said[key]))

    timestep, widths = bool(said["timestep_conditioning"]), upwards("decoder_block_out_channels")
    layers, noise = upwards("decoder_layers_per_block"), upwards("decoder_inject_noise")
    samplers = said.get("upsample_type", ["spatiotemporal"] * len(widths))  # these run in their own order
    per_level = ("upsample_factor", "upsample_residual", "decoder_spatio_temporal_scaling")
    rows = zip(widths, *map(upwards, per_level), samplers, layers[1:], noise[1:], strict=True)
    width = widths[0]
    yield Block("res", width, width, layers[0], noise=noise[0], timestep=timestep)
    for own, factor, residual, sampled, sampler, count, noisy in rows:
        narrow = own // factor
        if width // factor != narrow:
            yield Block("widen", width, own)
        if sampled:
            yield Block("unfold", own, narrow, stride=STRIDES[SAMPLERS[sampler]], residual=residual)
        yield Block("res", narrow, narrow, count, noise=noisy, timestep=timestep)
        width = narrow
