"""Colour: what a stream says about its pixels, what must be assumed, and exact conversion to and from RGB."""

from dataclasses import dataclass
from os import cpu_count

import numpy as np
from av import VideoFormat, VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from vidlatent.errors import UsageError
from vidlatent.io.picture.cropping import Insets
from vidlatent.io.picture.deep_pixels import Interleaver
from vidlatent.io.picture.orientation import Orientation
from vidlatent.io.picture.passes import DisplayPass
from vidlatent.io.picture.siting import left_siting

# ITU-T H.273 code points, under the names ffmpeg prints.
MATRICES = {
    0: "gbr", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "ycgco",
    9: "bt2020nc", 10: "bt2020c", 11: "smpte2085", 12: "chroma-derived-nc", 13: "chroma-derived-c",
    14: "ictcp",
}  # fmt: skip
RANGES = {1: "tv", 2: "pc"}
TRANSFERS = {
    1: "bt709", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 7: "smpte240m", 8: "linear", 9: "log100",
    10: "log316", 11: "iec61966-2-4", 12: "bt1361e", 13: "iec61966-2-1", 14: "bt2020-10", 15: "bt2020-12",
    16: "smpte2084", 17: "smpte428", 18: "arib-std-b67",
}  # fmt: skip
PRIMARIES = {
    1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "film", 9: "bt2020",
    10: "smpte428", 11: "smpte431", 12: "smpte432", 22: "ebu3213",
}  # fmt: skip
UNSPECIFIED = 2
_NO_INSETS = Insets()
HDR_TRANSFERS = ("smpte2084", "arib-std-b67")
HD_LINES = 720  # from here up an untagged picture is taken for BT.709, below for BT.601

# Matrices that libswscale computes with; its own constants name five of them.
_SWSCALE = {
    "bt709": Colorspace.ITU709, "fcc": Colorspace.FCC, "bt470bg": Colorspace.ITU601,
    "smpte170m": Colorspace.ITU601, "smpte240m": Colorspace.SMPTE240M, "bt2020nc": Colorspace.BT2020,
}  # fmt: skip
# The fast paths of libswscale are up to 2.7 levels off, and halve chroma's resolution.
_EXACT = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)


@dataclass(frozen=True)
class Colour:
    """How pixel values stand for light, in ffmpeg's names; `assumed` lists what the stream does not say."""

    matrix: str
    range: str
    transfer: str
    primaries: str
    assumed: tuple[str, ...] = ()

    @property
    def hdr(self) -> bool:
        """Whether the code values are PQ or HLG."""
        return self.transfer in HDR_TRANSFERS


@dataclass(frozen=True)
class Tags:
    """The four H.273 code points of a stream or frame; 2 (for the range 0) means unspecified."""

    matrix: int
    range: int
    transfer: int
    primaries: int

    @classmethod
    def of(cls, tagged: object) -> "Tags":
        """The tags of a libav frame or codec context."""
        return cls(tagged.colorspace, tagged.color_range, tagged.color_trc, tagged.color_primaries)

    def completed_by(self, other: "Tags") -> "Tags":
        """These tags, with those of `other` where these are unspecified."""
        return Tags(
            self.matrix if self.matrix in MATRICES else other.matrix,
            self.range if self.range in RANGES else other.range,
            self.transfer if self.transfer in TRANSFERS else other.transfer,
            self.primaries if self.primaries in PRIMARIES else other.primaries,
        )


def is_rgb(pixels: VideoFormat) -> bool:
    """Whether a pixel format holds R, G and B (or a palette of them)."""
    return pixels.is_rgb or pixels.has_palette


def bit_depth(pixels: VideoFormat) -> int:
    """Bits per sample of a pixel format; 16 for floating point, which needs more than 8."""
    if pixels.has_palette or not pixels.components:
        return 8
    return min(16, max(component.bits for component in pixels.components))


def has_alpha(pixels: VideoFormat) -> bool:
    """Whether a pixel format carries transparency."""
    return any(component.is_alpha for component in pixels.components)


def resolve(tags: Tags, pixels: VideoFormat, lines: int, assume_matrix: str | None = None) -> Colour:
    """The colour of a stream: what its tags say, and for each missing tag what players assume.

    `lines` is the height as stored. `assume_matrix` replaces the matrix, whether tagged or not.
    """
    if is_rgb(pixels):
        found = {"matrix": "gbr", "range": "pc"}
    else:
        found = {"matrix": MATRICES.get(tags.matrix), "range": RANGES.get(tags.range)}
        if found["matrix"] == "gbr":  # RGB named on a YUV picture: a tag that cannot be true
            found["matrix"] = None
        if pixels.name.startswith("yuvj"):
            found["range"] = "pc"
    found |= {"transfer": TRANSFERS.get(tags.transfer), "primaries": PRIMARIES.get(tags.primaries)}
    assumed = tuple(name for name, value in found.items() if value is None)
    if assume_matrix and not is_rgb(pixels):
        found["matrix"], assumed = find_matrix(assume_matrix), (*assumed, "matrix")
    wide = "bt2020" if "bt2020" in (found["primaries"], (found["matrix"] or "").rstrip("cn")) else None
    guess = {
        "matrix": "bt2020nc" if wide else "bt709" if lines >= HD_LINES else "smpte170m",
        "range": "pc" if pixels.name.startswith(("gray", "ya")) else "tv",
        "transfer": "bt2020-10" if wide else "bt709",
        "primaries": wide or "bt709",
    }
    values = {name: value or guess[name] for name, value in found.items()}
    return Colour(**values, assumed=tuple(dict.fromkeys(assumed)))


def find_matrix(name: str) -> str:
    """The matrix that a user calls `name`; raises UsageError where it cannot be converted."""
    alias = {"bt601": "smpte170m", "bt2020": "bt2020nc"}.get(name, name)
    if alias not in _SWSCALE:
        raise UsageError(f"unknown colour matrix {name!r}", f"known are bt601, {', '.join(sorted(_SWSCALE))}")
    return alias


def is_convertible(matrix: str) -> bool:
    """Whether pixels of this matrix can be converted to RGB here."""
    return matrix == "gbr" or matrix in _SWSCALE


def code_point(table: dict[int, str], name: str) -> int:
    """The H.273 code point of `name` in one of the tables above."""
    return next((value for value, known in table.items() if known == name), UNSPECIFIED)


class RgbReader:
    """Converts decoded frames to RGB [H, W, 3]: uint8, or uint16 over 0..65535 where `deep`."""

    def __init__(
        self, deep: bool, orientation: Orientation, window: Insets = _NO_INSETS, threads: int = 1
    ) -> None:
        self.deep = deep
        self._threads = threads or cpu_count() or 1
        self._to_displayed = DisplayPass(orientation, window)
        self._to_planes, self._to_pixels = VideoReformatter(), VideoReformatter()
        self._interleave = Interleaver(self._threads) if deep else None

    def __call__(self, frame: VideoFrame, colour: Colour) -> np.ndarray:
        """The picture as displayed: `colour` converted to RGB, the window cut out, the rotation applied.

        It goes through planes of R, G and B: libswscale's exact path to them is three times as fast as to
        interleaved pixels, and planes are rotated faster.
        """
        rgb = is_rgb(frame.format)
        planes = self._to_planes.reformat(
            frame,
            format="gbrp16le" if self.deep else "gbrp",
            src_colorspace=None if rgb else _SWSCALE[colour.matrix],
            src_color_range=ColorRange.JPEG if rgb or colour.range == "pc" else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=_EXACT,
            threads=self._threads,
        )
        planes = self._to_displayed(planes)
        out = self._interleave(planes, _white_bits(frame, colour)) if self.deep else self._pack(planes)
        limited_grey = frame.format.name.startswith("gray") and colour.range == "tv"
        return _expand_grey(out) if limited_grey else out

    def _pack(self, planes: VideoFrame) -> np.ndarray:
        return self._to_pixels.reformat(
            planes, format="rgb24", interpolation=Interpolation.POINT
        ).to_ndarray()


def _expand_grey(grey: np.ndarray) -> np.ndarray:
    """Expand limited-range grey to the full range: libswscale takes all grey for full-range."""
    top = np.iinfo(grey.dtype).max
    full = (grey.astype(np.float32) * (255 / top) - 16) * (top / 219)
    return np.clip(full + 0.5, 0, top).astype(grey.dtype)


def _white_bits(frame: VideoFrame, colour: Colour) -> int:
    """The shift by which `Interleaver` repairs libswscale's 16-bit white.

    It widens n-bit full-range samples by appending zeros and puts limited-range white at 255·256, so white
    misses 65535 by a factor 1 + 2^-n (n = 8 for limited range); v + (v >> n) undoes that exactly. 16 means
    that nothing must be repaired.
    """
    whole = is_rgb(frame.format) or frame.format.name.startswith("gray") or colour.range == "pc"
    return bit_depth(frame.format) if whole else 8


class YuvWriter:
    """Converts RGB [H, W, 3] uint8 or uint16 to frames of a YUV (or RGB) pixel format."""

    def __init__(self, pix_fmt: str, colour: Colour) -> None:
        self._format = VideoFormat(pix_fmt)
        self._colour = colour
        self._scaler = VideoReformatter()
        self._siting = left_siting()

    def __call__(self, rgb: np.ndarray) -> VideoFrame:
        """A frame with its four colour tags set."""
        if rgb.dtype == np.uint16 and not is_rgb(self._format):
            rgb = rgb - (rgb >> 8)  # libswscale's 16-bit white is 255·256, see _white_bits
            if bit_depth(self._format) == 8:  # its narrowing truncates
                rgb = ((rgb + 128) >> 8).astype(np.uint8)
        source = VideoFrame.from_numpy_buffer(rgb, "rgb24" if rgb.dtype == np.uint8 else "rgb48le")
        colour = self._colour
        frame = self._scaler.reformat(
            self._siting(source),
            format=self._format,
            dst_colorspace=_SWSCALE.get(colour.matrix),
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.JPEG if colour.range == "pc" else ColorRange.MPEG,
            interpolation=_EXACT,
        )
        set_tags(frame, colour)
        return frame


def set_tags(tagged: object, colour: Colour) -> None:
    """Set the four colour tags of a libav frame or codec context."""
    tagged.colorspace = code_point(MATRICES, colour.matrix)
    tagged.color_range = code_point(RANGES, colour.range)
    tagged.color_trc = code_point(TRANSFERS, colour.transfer)
    tagged.color_primaries = code_point(PRIMARIES, colour.primaries)


def output_colour(source: Colour) -> Colour:
    """The colour to write for pictures of colour `source`: limited range, the matrix of its primaries.

    The light itself is not remapped, so transfer and primaries stay what they were (PQ stays PQ); only the
    matrix changes, to BT.709, or to BT.2020 where the primaries are.
    """
    matrix = "bt2020nc" if source.primaries == "bt2020" else "bt709"
    return Colour(matrix, "tv", source.transfer, source.primaries)
