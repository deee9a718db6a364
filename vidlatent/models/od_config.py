"""What an OD-VAE's config.json says: the network by the names of its modules, and what the releases named."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from vidlatent.errors import BadWeights
from vidlatent.grid import Grid

MERGED_DOWN, MERGED_UP = "Spatial2xTime2x3DDownsample", "Spatial2xTime2x3DUpsample"
HALVES_TIME = (MERGED_DOWN, "TimeDownsample2x", "TimeDownsampleRes2x")
DOUBLES_TIME = (MERGED_UP, "TimeUpsample2x", "TimeUpsampleRes2x")
PER_LEVEL = (
    "encoder_resnet_blocks",
    "encoder_spatial_downsample",
    "encoder_temporal_downsample",
    "decoder_resnet_blocks",
    "decoder_spatial_upsample",
    "decoder_temporal_upsample",
)
GROUPS = 32  # of every norm
_OWN = "use the config.json that came with the weights"


@dataclass(frozen=True)
class OdConfig:
    """The keys that shape the network, with the defaults of the authors' class; others mean nothing here."""

    hidden_size: int = 128
    hidden_size_mult: tuple[int, ...] = (1, 2, 4, 4)
    z_channels: int = 4
    embed_dim: int = 4
    num_res_blocks: int = 2
    resolution: int = 256  # nominal: attn_resolutions are counted from it, whatever the size of the video
    attn_resolutions: tuple[int, ...] = ()
    use_quant_layer: bool = True
    q_conv: str = "CausalConv3d"
    encoder_conv_in: str = "CausalConv3d"
    encoder_conv_out: str = "CausalConv3d"
    encoder_attention: str = "AttnBlock3D"
    encoder_resnet_blocks: tuple[str, ...] = ("ResnetBlock3D",) * 4
    encoder_mid_resnet: str = "ResnetBlock3D"
    encoder_spatial_downsample: tuple[str, ...] = ("SpatialDownsample2x",) * 3 + ("",)
    encoder_temporal_downsample: tuple[str, ...] = ("", "TimeDownsample2x", "TimeDownsample2x", "")
    decoder_conv_in: str = "CausalConv3d"
    decoder_conv_out: str = "CausalConv3d"
    decoder_attention: str = "AttnBlock3D"
    decoder_resnet_blocks: tuple[str, ...] = ("ResnetBlock3D",) * 4
    decoder_mid_resnet: str = "ResnetBlock3D"
    decoder_spatial_upsample: tuple[str, ...] = ("",) + ("SpatialUpsample2x",) * 3
    decoder_temporal_upsample: tuple[str, ...] = ("", "", "TimeUpsample2x", "TimeUpsample2x")

    @classmethod
    def of(cls, config: Mapping[str, object]) -> "OdConfig":
        """From a parsed config.json; raises BadWeights where no network can be built from it."""
        values = {}
        for f in fields(cls):
            value = config.get(f.name, f.default)
            value = tuple(value) if isinstance(value, list) else value
            if type(value) is not type(f.default):
                kind = {tuple: "a list"}.get(type(f.default), type(f.default).__name__)
                raise BadWeights(f"config: {f.name} is {value!r}, expected {kind}", _OWN)
            values[f.name] = value
        self = cls(**values)
        self._check_widths()
        self._check_levels()
        return self

    @property
    def widths(self) -> list[int]:
        """Channels of each level, finest first."""
        return [self.hidden_size * m for m in self.hidden_size_mult]

    @property
    def downsamplers(self) -> tuple[str, ...]:
        """Names of the encoder's modules that change the size."""
        return tuple(filter(None, self.encoder_spatial_downsample + self.encoder_temporal_downsample))

    @property
    def channels(self) -> int:
        """Latent channels as the outside sees them."""
        return self.embed_dim if self.use_quant_layer else self.z_channels

    @property
    def grid(self) -> Grid:
        """Compression that the named samplers add up to; raises BadWeights where the decoder's differ."""
        down = _grid(HALVES_TIME, self.encoder_spatial_downsample, self.encoder_temporal_downsample)
        up = _grid(DOUBLES_TIME, self.decoder_spatial_upsample, self.decoder_temporal_upsample)
        if up != down:
            raise BadWeights(
                f"config: the encoder shrinks time {down.time}× and space {down.space}×, "
                f"the decoder grows them {up.time}× and {up.space}×",
                _OWN,
            )
        return down

    def _check_widths(self) -> None:
        bad = [width for width in (self.hidden_size, *self.widths) if width < GROUPS or width % GROUPS]
        if bad:
            raise BadWeights(f"config: widths of {bad[0]} channels, expected multiples of {GROUPS}", _OWN)

    def _check_levels(self) -> None:
        levels = len(self.hidden_size_mult)
        for name in PER_LEVEL:
            modules = getattr(self, name)
            if len(modules) != levels:
                raise BadWeights(f"config: {name} names {len(modules)} modules for {levels} levels", _OWN)
        if self.encoder_spatial_downsample[-1] or self.encoder_temporal_downsample[-1]:
            raise BadWeights(
                "config: a downsampler is named at the last level, which the authors' code builds but skips",
                "leave the last name of the encoder's downsamplers empty",
            )


def _grid(changes_time: tuple[str, ...], space: tuple[str, ...], time: tuple[str, ...]) -> Grid:
    steps = sum(name in changes_time for name in space + time)
    return Grid(time=2**steps, space=2 ** sum(map(bool, space)))


V12_CONFIG = {
    "_class_name": "CausalVAEModel",
    "encoder_conv_in": "Conv2d",
    "encoder_attention": "AttnBlock3DFix",
    "encoder_resnet_blocks": ["ResnetBlock2D", "ResnetBlock2D", "ResnetBlock3D", "ResnetBlock3D"],
    "encoder_spatial_downsample": ["Downsample", MERGED_DOWN, MERGED_DOWN, ""],
    "encoder_temporal_downsample": ["", "", "", ""],
    "decoder_attention": "AttnBlock3DFix",
    "decoder_spatial_upsample": ["", "SpatialUpsample2x", MERGED_UP, MERGED_UP],
    "decoder_temporal_upsample": ["", "", "", ""],
}
V11_CONFIG = V12_CONFIG | {
    "encoder_spatial_downsample": ["Downsample", "Downsample", "Downsample", ""],
    "encoder_temporal_downsample": ["", "TimeDownsampleRes2x", "TimeDownsampleRes2x", ""],
    "decoder_spatial_upsample": ["", "SpatialUpsample2x", "SpatialUpsample2x", "SpatialUpsample2x"],
    "decoder_temporal_upsample": ["", "", "TimeUpsampleRes2x", "TimeUpsampleRes2x"],
}
V10_CONFIG = {  # all else is the default of the authors' class
    "_class_name": "CausalVAEModel",
    "encoder_temporal_downsample": ["TimeDownsample2x", "TimeDownsample2x", "", ""],
}
