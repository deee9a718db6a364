"""What is known of Wan's VAEs beside their arithmetic: configs, scales of latents, names of tensors."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from math import isqrt

from vidlatent.errors import BadWeights
from vidlatent.grid import Grid
from vidlatent.models.base import Rename, Shapes
from vidlatent.models.horizon import Horizon, back, narrowed, widened

PIXELS = 3
BLOCKS = 2  # residual blocks of each stage of the encoder in all releases; those of the decoder have one more
KERNEL = 2  # frames back that a convolution sees
BLOCK = 2 * KERNEL  # a residual block
MIDDLE = 2 * BLOCK  # the middle of each half; its attention sees one frame

# Per channel, the mean and the standard deviation of the latents that the published models make.
# fmt: off
WAN21_LATENTS = (
    (-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
     0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
    (2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
     3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
)
WAN22_LATENTS = (
    (-0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557,
     -0.1382, 0.0542, 0.2813, 0.0891, 0.1570, -0.0098, 0.0375, -0.1825,
     -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
     -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230,
     -0.0313, -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.0520, 0.3748,
     0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667),
    (0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013,
     0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165, 0.8454, 0.4978,
     0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
     0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093,
     0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887,
     0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744),
)
# fmt: on
LATENTS = {16: WAN21_LATENTS, 48: WAN22_LATENTS}  # by the number of channels

WAN21 = {"_class_name": "AutoencoderKLWan"}
WAN22 = {
    "_class_name": "AutoencoderKLWan",
    "base_dim": 160,
    "decoder_base_dim": 256,
    "z_dim": 48,
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
}
QWEN_IMAGE = {"_class_name": "AutoencoderKLQwenImage"}


@dataclass(frozen=True)
class Stage:
    """One level of the encoder or decoder: its channels, its residual blocks, and by how much it resamples.

    Channels come in, are those of its blocks, and go out.
    """

    inputs: int
    width: int
    outputs: int
    blocks: int
    time: int
    space: int


@dataclass(frozen=True)
class WanConfig:
    """What config.json says, with the defaults of diffusers' class, which are Wan 2.1."""

    base_dim: int = 96
    decoder_base_dim: int | None = None
    z_dim: int = 16
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = BLOCKS
    attn_scales: tuple[float, ...] = ()
    temperal_downsample: tuple[bool, ...] = (False, True, True)  # so spelled everywhere
    is_residual: bool = False
    in_channels: int = PIXELS
    patch_size: int | None = None
    latents_mean: tuple[float, ...] | None = None
    latents_std: tuple[float, ...] | None = None

    @classmethod
    def of(cls, config: Mapping[str, object]) -> "WanConfig":
        """From a parsed config.json of diffusers' classes, or the arguments of the authors' classes.

        Raises BadWeights where it cannot be built.
        """
        said = {_OTHER_NAMES.get(key, key): value for key, value in config.items()}
        if "dec_dim" in config:  # the authors' class of Wan 2.2, which builds no other kind
            said |= {"is_residual": True, "in_channels": 4 * PIXELS, "patch_size": 2}
        known = {f.name: said[f.name] for f in fields(cls) if said.get(f.name) is not None}
        c = cls(**{key: tuple(v) if isinstance(v, list) else v for key, v in known.items()})
        for what, (got, wanted) in c._demands().items():
            if got != wanted:
                raise BadWeights(
                    f"config of a Wan VAE: {what} {got} is not supported", f"supported: {wanted}"
                )
        return c

    def _demands(self) -> dict[str, tuple[object, object]]:
        mean, std = self.latents_mean, self.latents_std
        return {
            "num_res_blocks": (self.num_res_blocks, max(1, self.num_res_blocks)),
            "attn_scales": (self.attn_scales, ()),
            "in_channels": (self.in_channels, PIXELS * self.patch**2),
            "length of temperal_downsample": (len(self.temperal_downsample), len(self.dim_mult) - 1),
            "length of latents_mean": (self.z_dim if mean is None else len(mean), self.z_dim),
            "length of latents_std": (self.z_dim if std is None else len(std), self.z_dim),
        }

    @property
    def patch(self) -> int:
        """Pixels along each side of what the encoder takes as one position."""
        return self.patch_size or 1

    @property
    def grid(self) -> Grid:
        """Frames and pixels of a latent."""
        return Grid(2 ** sum(self.temperal_downsample), self.patch * 2 ** (len(self.dim_mult) - 1))

    @property
    def mean_and_deviation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Of the latents, per channel; 0 and 1 where nobody says."""
        if self.latents_mean is not None and self.latents_std is not None:
            return self.latents_mean, self.latents_std
        return LATENTS.get(self.z_dim, ((0.0,), (1.0,)))

    @property
    def horizon(self) -> Horizon:
        """Every convolution has a kernel of three frames, two of them in the past."""
        encoder, decoder = [back(KERNEL)], [back(KERNEL), back(MIDDLE)]
        for stage in self.encoder_stages():
            encoder += [back(stage.blocks * BLOCK), *([narrowed(2, 3)] if stage.time > 1 else [])]
        for stage in self.decoder_stages():
            doubling = [back(KERNEL), widened(2)] if stage.time > 1 else []
            decoder += [back(stage.blocks * BLOCK), *doubling]
        return Horizon.count(self.grid, [*encoder, back(MIDDLE), back(KERNEL)], [*decoder, back(KERNEL)])

    def encoder_stages(self) -> Iterator[Stage]:
        """The levels of the encoder; all but the last halve the sides."""
        widths = [self.base_dim * n for n in (1, *self.dim_mult)]
        return _stages(widths, self.num_res_blocks, self.temperal_downsample, narrowing=1)

    def decoder_stages(self) -> Iterator[Stage]:
        """The levels of the decoder; all but the last double the sides, in Wan 2.1 for half the channels."""
        base, multiples = self.decoder_base_dim or self.base_dim, self.dim_mult[::-1]
        widths = [base * n for n in (multiples[0], *multiples)]
        narrowing = 1 if self.is_residual else 2
        return _stages(widths, self.num_res_blocks + 1, self.temperal_downsample[::-1], narrowing)


_OTHER_NAMES = {"dim": "base_dim", "dec_dim": "decoder_base_dim", "input_channels": "in_channels"}


def _stages(widths: Sequence[int], blocks: int, in_time: Sequence[bool], narrowing: int) -> Iterator[Stage]:
    """The levels of these `widths`, after that of what comes in; all but the last resample."""
    inputs, *widths = widths
    for i, width in enumerate(widths):
        resamples = i < len(widths) - 1
        outputs = width // (narrowing if resamples else 1)
        time, space = (1 + in_time[i], 2) if resamples else (1, 1)
        yield Stage(inputs, width, outputs, blocks, time, space)
        inputs = outputs


def _in_stages(of_each: int) -> Callable[[re.Match], str]:
    """The name of a block whose stages, of so many blocks and a sampler, are numbered through in its file."""

    def name(found: re.Match) -> str:
        stage, block = divmod(int(found[1]), of_each + 1)
        return f".stages.{stage}.blocks.{block}."

    return name


# The authors' names, then those of diffusers; applied in this order.
_NAMES = (
    (r"^conv1\.", "quant_conv."),
    (r"^conv2\.", "post_quant_conv."),
    (r"coder\.conv1\.", "coder.conv_in."),
    (r"\.head\.0\.", ".norm_out."),
    (r"\.head\.2\.", ".conv_out."),
    (r"\.residual\.0\.", ".norm1."),
    (r"\.residual\.2\.", ".conv1."),
    (r"\.residual\.3\.", ".norm2."),
    (r"\.residual\.6\.", ".conv2."),
    (r"\.mid_block\.resnets\.0\.", ".middle.0."),
    (r"\.mid_block\.attentions\.0\.", ".middle.1."),
    (r"\.mid_block\.resnets\.1\.", ".middle.2."),
    (r"\.(down|up)samples\.(\d+)\.\1samples\.(\d+)\.", r".stages.\2.blocks.\3."),
    (r"\.(?:down|up)_blocks\.(\d+)\.(?:resnets|downsampler|upsamplers?)\.", r".stages.\1.blocks."),
)
_IN_ENCODER, _IN_DECODER = r"\.(?:downsamples|down_blocks)\.(\d+)\.", r"\.upsamples\.(\d+)\."
_COMMON_NAMES = (  # what both have come to by then
    (r"\.blocks\.(?:\d+\.)?resample\.1\.", ".samplers.space.conv."),
    (r"\.blocks\.(?:\d+\.)?time_conv\.", ".samplers.time.conv."),
    (r"\.(?:conv_)?shortcut\.", ".nin_shortcut."),
    (
        r"((?:^|\.)(?:conv_in|conv_out|conv1|conv2|nin_shortcut|quant_conv|post_quant_conv)|time\.conv)\.",
        r"\1.conv.",
    ),
)
_FIRST_SAMPLER = re.compile(r"encoder\.(?:downsamples|down_blocks)\.(\d+)\.resample\.")


def rename(key: str, blocks: int = BLOCKS) -> str:
    """A key of the authors' layout or of diffusers' → ours, where stages have so many blocks."""
    stages = ((_IN_ENCODER, _in_stages(blocks)), (_IN_DECODER, _in_stages(blocks + 1)))
    for pattern, name in (*_NAMES, *stages, *_COMMON_NAMES):
        key = re.sub(pattern, name, key)
    return key


def rename_among(keys: Iterable[str]) -> Rename:
    """What turns a key of a file that has these `keys` into ours.

    Where the blocks of all stages are numbered through, the first number that is a sampler says how many.
    """
    numbers = [int(found[1]) for key in keys if (found := _FIRST_SAMPLER.match(key))]
    return partial(rename, blocks=min(numbers, default=BLOCKS))


def config_of(shapes: Shapes) -> dict[str, object]:
    """The config, with diffusers' names, of the network whose tensors have these names and shapes."""
    renamed = rename_among(shapes)
    ours = {renamed(key): shape for key, shape in shapes.items()}
    stem, foot = ours["encoder.conv_in.conv.weight"], ours["decoder.conv_in.conv.weight"]
    ends = {int(found[1]) for key in ours if (found := re.match(r"encoder\.stages\.(\d+)\.", key))}
    widths = [ours[f"encoder.stages.{i}.blocks.0.conv1.conv.weight"][0] for i in sorted(ends)]
    multiples = [width // stem[0] for width in widths]
    blocks = {key.split(".")[4] for key in ours if key.startswith("encoder.stages.0.blocks.")}
    halves = [f"encoder.stages.{i}.samplers.time.conv.conv.weight" in ours for i in sorted(ends)[:-1]]
    outputs, inputs = ours["decoder.stages.0.samplers.space.conv.weight"][:2]
    patch = isqrt(stem[1] // PIXELS)
    return {
        "_class_name": "AutoencoderKLWan",
        "base_dim": stem[0],
        "decoder_base_dim": foot[0] // multiples[-1],
        "z_dim": foot[1],
        "dim_mult": multiples,
        "num_res_blocks": len(blocks),
        "temperal_downsample": halves,
        "is_residual": outputs == inputs,
        "in_channels": stem[1],
        "patch_size": patch if patch > 1 else None,
    }
