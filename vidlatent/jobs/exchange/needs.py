"""What each trainer needs of a cache: which VAE, which frames and sides, what is stored, in which space.

The facts are those of docs/exchange.md. Nothing here loads torch: the help of the command line shows it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from vidlatent.errors import UsageError, parameter

RAW, NORMALISED = "raw", "normalised"
SPACES = (RAW, NORMALISED)

WAN = ("wan-2.1", "qwen-image")  # one encoder under two names
HUNYUAN = ("hunyuan-video",)
HUNYUAN15 = ("hunyuan-video-1.5",)
COGVIDEOX = ("cogvideox-5b", "cogvideox-2b", "cogvideox-1.5")
LTX2 = ("ltx-2", "ltx-2.3", "ltx-2.5")
LTX_VIDEO = tuple(f"ltx-video-0.9.{n}" for n in (8, 7, 6, 5, 1, 0))
FLUX = ("flux-vae",)
WAN_5B = ("wan-2.2-5b",)
FRAMES = dict.fromkeys(WAN + HUNYUAN + HUNYUAN15 + WAN_5B, "1+4k")
FRAMES |= dict.fromkeys(COGVIDEOX + LTX2 + LTX_VIDEO, "1+8k")


@dataclass(frozen=True)
class Needs:
    """What one trainer needs, for one of its architectures.

    `models` are the VAEs whose latents it takes, by their names here; empty means any. `fps`, `side` (what
    both sides are multiples of), `store` and `posterior` are how a cache is to be made for it; None leaves
    them as they are. `space` is that of the files it reads. With `still` it takes single pictures.
    """

    models: tuple[str, ...] = ()
    fps: int | None = None
    side: int = 1
    store: str | None = None
    posterior: str | None = None
    space: str = RAW
    still: bool = False

    @property
    def model(self) -> str | None:
        """The model that makes such latents; None where any does."""
        return self.models[0] if self.models else None

    def words(self) -> str:
        """All of it in one line, for people."""
        frames = f"{FRAMES.get(self.models[0])} frames" if self.models else ""
        parts = [
            f"VAE {_join_names(self.models)}" if self.models else "any VAE",
            f"{self.fps} fps" if self.fps else "",
            "one frame" if self.still else frames,
            f"sides in steps of {self.side}" if self.side > 1 else "",
            f"posterior {self.posterior}" if self.posterior else "",
            self.store or "",
            self.space,
        ]
        return ", ".join(filter(None, parts))


def _join_names(models: tuple[str, ...]) -> str:
    """Two or three names, or the ends of a longer series."""
    return f"{models[0]} to {models[-1]}" if len(models) > 3 else " or ".join(models)


_WAN_VIDEO = Needs(WAN, fps=16, side=16, store="bf16", space=NORMALISED)
_LTX2 = Needs(LTX2, side=32, store="bf16", space=NORMALISED)
_LTX_VIDEO = Needs(LTX_VIDEO, side=32, store="bf16", space=NORMALISED)
_ANY = {"": Needs()}

# The tools by their names for --for and --to, and their architectures; "" where a tool has only one.
NEEDS: Mapping[str, Mapping[str, Needs]] = {
    "musubi": {
        "hv": Needs(HUNYUAN, fps=24, side=16, store="fp16"),
        "wan": _WAN_VIDEO,
        "hv15": Needs(HUNYUAN15, fps=24, side=16, store="fp16"),
        "k5": Needs(HUNYUAN, fps=24, side=16, store="fp16", space=NORMALISED),
        "qi": Needs(WAN[::-1], side=16, store="bf16", space=NORMALISED, still=True),
        "fk": Needs(FLUX, side=16, store="bf16", space=NORMALISED, still=True),
        "zi": Needs(FLUX, side=16, store="bf16", still=True),
    },
    "ltx2": {"": _LTX2},
    "ltx": {"": _LTX2},
    "ltx-video": {"": _LTX_VIDEO},
    "fastvideo": {
        "": Needs(),
        "wan": Needs(WAN, fps=16, side=16),
        "hunyuan": Needs(HUNYUAN, fps=24, side=16),
    },
    "finetrainers": {
        "wan": Needs(WAN, fps=16, side=16, posterior="full"),
        "hunyuan": Needs(HUNYUAN, fps=24, side=16, posterior="full"),
        "ltx": Needs(LTX_VIDEO, fps=25, side=32, posterior="full"),
        "cogvideox": Needs(COGVIDEOX, fps=8, side=16, posterior="full"),
    },
    "ai-toolkit": {
        "wan21": _WAN_VIDEO,
        "wan22_14b": _WAN_VIDEO,
        "wan22_5b": Needs(WAN_5B, fps=24, side=32, store="bf16", space=NORMALISED),
        "ltx2": _LTX2,
        "ltx2.3": Needs(("ltx-2.3", "ltx-2.5", "ltx-2"), side=32, store="bf16", space=NORMALISED),
        "ltx2.5": Needs(("ltx-2.5", "ltx-2.3", "ltx-2"), side=32, store="bf16", space=NORMALISED),
        "qwen_image": Needs(WAN[::-1], side=32, store="bf16", space=NORMALISED, still=True),
        "flux": Needs(FLUX, side=32, store="bf16", space=NORMALISED, still=True),
    },
    "simpletuner": {
        "wan": _WAN_VIDEO,
        "ltxvideo": _LTX_VIDEO,
        "ltxvideo2": _LTX2,
    },
    "comfyui": {"": Needs(space=f"{RAW}, of LTX and MiniMax-H3 {NORMALISED}")},
    "webdataset": _ANY,
    "safetensors": _ANY,
}


def split_words(word: str) -> tuple[str, str | None]:
    """Split "musubi:wan" into a tool and its architecture; None where none is named."""
    tool, colon, architecture = word.partition(":")
    return tool, architecture if colon else None


def find_needs(word: str) -> tuple[str, str, Needs]:
    """The tool, the architecture and the needs that `TOOL[:ARCH]` means; raises UsageError for others."""
    tool, architecture = split_words(word)
    if tool not in NEEDS:
        raise UsageError(f"{parameter('trainer')} {word}: unknown", f"one of {', '.join(list_words())}")
    known = NEEDS[tool]
    architecture = "" if architecture is None else architecture
    if architecture not in known:
        wanted = ", ".join(f"{tool}:{name}" if name else tool for name in known)
        raise UsageError(f"{parameter('trainer')} {word}: unknown", f"one of {wanted}")
    return tool, architecture, known[architecture]


def list_words() -> list[str]:
    """Every TOOL[:ARCH] there is."""
    return [f"{tool}:{name}" if name else tool for tool, known in NEEDS.items() for name in known]


def needs_help() -> list[tuple[str, str]]:
    """Every TOOL[:ARCH] and what it needs, in words."""
    rows = ((word, find_needs(word)[2].words()) for word in list_words() if word != "ltx")
    return [("ltx2 (or ltx)" if word == "ltx2" else word, words) for word, words in rows]
