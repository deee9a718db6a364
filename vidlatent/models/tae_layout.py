"""What a TAEHV file says of its network: published files have no config, so keys and shapes must do."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt

from vidlatent.errors import BadWeights
from vidlatent.grid import Grid
from vidlatent.models.base import Shapes
from vidlatent.models.horizon import Horizon, Step, back, narrowed

LEVELS = 3  # halvings of the picture
BLOCKS_OF_LEVEL = 3
H3_CHANNELS = 24  # no other release has so many


@dataclass(frozen=True)
class TaeConfig:
    """What the authors' constructor is told; published files carry no config, but their shapes say it all."""

    latent_channels: int = 16
    patch_size: int = 1
    encoder_time_downscale: tuple[bool, ...] = (True, True, False)
    decoder_time_upscale: tuple[bool, ...] = (False, True, True)
    arch_variant: str | None = None

    @classmethod
    def of(cls, config: Mapping[str, object]) -> "TaeConfig":
        """From a config; raises BadWeights where it cannot be built."""
        made = cls(
            latent_channels=config.get("latent_channels", cls.latent_channels),
            patch_size=config.get("patch_size", cls.patch_size),
            encoder_time_downscale=tuple(config.get("encoder_time_downscale", cls.encoder_time_downscale)),
            decoder_time_upscale=tuple(config.get("decoder_time_upscale", cls.decoder_time_upscale)),
            arch_variant=config.get("arch_variant"),
        )
        made.refuse_unsupported()
        return made

    def refuse_unsupported(self) -> None:
        """Raise BadWeights where the authors' code does something that is not done here."""
        if self.arch_variant not in (None, "super"):
            raise BadWeights(f"config of TAEHV: arch_variant = {self.arch_variant!r} is not supported")
        if self.latent_channels == H3_CHANNELS:
            raise BadWeights(
                "taeh3, for MiniMax-H3, is not supported: it cuts clips into pieces of 17 frames",
                "the other models of TAEHV are: `vidlatent models list` shows them",
            )
        shrunk, grown = self.encoder_time_downscale, self.decoder_time_upscale
        if len(shrunk) != LEVELS or len(grown) != LEVELS or sum(shrunk) != sum(grown):
            raise BadWeights(
                f"config of TAEHV: frames pooled {list(shrunk)}, but grown {list(grown)}",
                f"encoder_time_downscale and decoder_time_upscale need {LEVELS} flags, equally many true",
            )

    @property
    def grid(self) -> Grid:
        """Frames and pixels per latent."""
        return Grid(time=2 ** sum(self.encoder_time_downscale), space=self.patch_size * 2**LEVELS)

    @property
    def horizon(self) -> Horizon:
        """Every block sees one frame of its level back; frames are pooled from the clip's first one on."""
        encoder, decoder = [], []
        for pooled, grown in zip(self.encoder_time_downscale, self.decoder_time_upscale, strict=True):
            encoder += [narrowed(2 if pooled else 1, kernel=1), back(BLOCKS_OF_LEVEL)]
            decoder += [back(BLOCKS_OF_LEVEL), _grown(2 if grown else 1)]
        missing = self.grid.time - 1  # of the first latent's frames
        return Horizon.count(self.grid, encoder, [*decoder, back(-missing)])

    @property
    def colours(self) -> int:
        """Channels of a picture whose patches are folded."""
        return 3 * self.patch_size**2


def _grown(frames: int) -> Step:
    """A step that makes `frames` frames of each, the clip's first one too."""
    return lambda frame: frame // frames


def config_of(shapes: Shapes) -> dict[str, object]:
    """What the keys and shapes of a file say of its network."""
    large = "decoder.1.conv.3.weight" in shapes
    pools = (shapes[f"encoder.{n}.conv.weight"] for n in (2, 7, 12))
    grows = (shapes[f"decoder.{n}.conv.weight"] for n in ((7, 14, 21) if large else (7, 13, 19)))
    return {
        "_class_name": "TAEHV",
        "patch_size": isqrt(shapes["decoder.22.weight"][0] // 3),
        "latent_channels": shapes["encoder.17.weight"][0],
        "encoder_time_downscale": [inputs > outputs for outputs, inputs, *_ in pools],
        "decoder_time_upscale": [outputs > inputs for outputs, inputs, *_ in grows],
        "arch_variant": "super" if large else None,
    }


def _places(first: int, step: int, parts: Mapping[int, str]) -> dict[int, str]:
    """Where the layers of all levels stand in a list: a level begins every `step`, with `parts` in it."""
    return {
        first + step * level + at: f"levels.{level}.{part}"
        for level in range(LEVELS)
        for at, part in parts.items()
    }


BLOCKS = {n: f"blocks.{n}" for n in range(3)}
ENCODER = {0: "conv_in", 17: "conv_out", **_places(4, 5, {-2: "pool", -1: "down", **BLOCKS})}
DECODER = {1: "conv_in", 22: "conv_out", **_places(3, 6, {**BLOCKS, 4: "grow", 5: "conv"})}
SUPER_DECODER = {0: "conv_in", 22: "conv_out", **_places(1, 7, {**BLOCKS, 3: "conv", 6: "grow"})}


def rename(key: str, decoder: Mapping[int, str] = DECODER) -> str:
    """The authors' key, whose layers are numbered from pixels to latents and back, → ours."""
    side, _, rest = key.partition(".")
    number, _, rest = rest.partition(".")
    places = {"encoder": ENCODER, "decoder": decoder}.get(side, {})
    place = places.get(int(number)) if number.isdecimal() else None
    return f"{side}.{place}.{rest}" if place else key
