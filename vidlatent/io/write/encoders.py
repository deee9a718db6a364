"""What is asked of an encoder, and the pixel format and settings it gets, found by trying them."""

from dataclasses import dataclass
from fractions import Fraction

from av import Codec, CodecContext, VideoFormat
from av.codec.codec import UnknownCodecError
from av.error import FFmpegError

from vidlatent.errors import UsageError, parameter
from vidlatent.io.picture.colour import Colour, is_rgb, output_colour, set_tags
from vidlatent.io.picture.info import Picture
from vidlatent.io.picture.mastering import add_mastering

_SHALLOW = ("yuv420p", "yuv422p", "yuv444p", "bgr0", "rgb24", "gbrp")
_DEEP = ("yuv420p10le", "yuv422p10le", "yuv444p10le", "yuv444p12le", "yuv444p16le")
_LOSSLESS = {False: ("bgr0", "gbrp", *_SHALLOW), True: ("gbrp14le", "yuv444p16le", *_DEEP)}  # RGB survives
_DEFAULT_CRF = {"libx264": 16, "libx265": 20, "libvpx-vp9": 24, "libsvtav1": 24}
_CRF_RANGES = {  # what each encoder takes
    **dict.fromkeys(("libx264", "libx264rgb", "libx265"), (0, 51)),
    **dict.fromkeys(("libvpx", "libvpx-vp9", "libaom-av1", "libsvtav1"), (0, 63)),
}
_X26_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"),
    "placebo",
)
_PRESETS = {
    **dict.fromkeys(("libx264", "libx264rgb", "libx265"), _X26_PRESETS),
    "libsvtav1": tuple(str(number) for number in range(14)),
}
# As faithful at CRF 16 as `medium` at 18, in under half the time, and holds back 10 frames, not 40; files are
# a quarter larger.
_DEFAULT_PRESET = {"libx264": "veryfast"}
_FIXED = {
    "libvpx-vp9": {"b": "0", "row-mt": "1"},
    "libx265": {"x265-params": "log-level=none"},
    "ffv1": {"level": "3", "slicecrc": "1"},
    "h264_nvenc": {"rc": "constqp", "qp": "18"},  # else it aims at 2 Mbit/s
    "hevc_nvenc": {"rc": "constqp", "qp": "18"},
}
_GPU_ENCODERS = "_nvenc"  # how their names end


@dataclass(frozen=True)
class SinkOptions:
    """How a video is to be written; what is None is chosen to suit the container and the source.

    `square_pixels` scales the picture so that its pixels become square. `images` is the format of a folder's
    images, "png" or "tiff"; None means the one in the folder's name, else PNG.
    """

    codec: str | None = None
    crf: float | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    square_pixels: bool = False
    images: str | None = None


@dataclass(frozen=True)
class Encoding:
    """A codec, the pixel format that it is given, its settings, and the colour to tag the video with."""

    codec: str
    pix_fmt: str
    settings: dict[str, str]
    colour: Colour
    notices: tuple[str, ...] = ()


def choose_encoding(codec: str, picture: Picture, options: SinkOptions) -> Encoding:
    """Choose the cheapest pixel format in which `codec` takes the whole picture at its depth.

    H.264 and HEVC in 4:2:0 have even sides only. A picture with an odd side is encoded with full chroma, so
    that no row is lost or added. Raises UsageError where no format is accepted.
    """
    check_settings(codec, options)
    settings, untold = add_mastering(codec, _choose_settings(codec, options), picture.mastering)
    formats = _list_formats(codec)
    deep = picture.bit_depth > 8
    wanted = _LOSSLESS[deep] if codec == "ffv1" else (*_DEEP, *_SHALLOW) if deep else (*_SHALLOW, *_DEEP)
    if options.pix_fmt is not None:
        wanted = (options.pix_fmt,)
    refused = "it has none of the pixel formats known here"
    for pix_fmt in (name for name in wanted if name in formats):
        notices = (*_notices(pix_fmt, picture), *untold)
        encoding = Encoding(codec, pix_fmt, settings, _choose_colour(pix_fmt, picture), notices)
        try:
            configure(CodecContext.create(codec, "w"), encoding, picture).open()
        except FFmpegError as e:
            refused = f"{pix_fmt}: {e.strerror}"
            continue
        return encoding
    if codec.endswith(_GPU_ENCODERS):
        raise UsageError(
            f"{codec} cannot encode {picture.width}x{picture.height} here ({refused})",
            "it needs an NVIDIA GPU that encodes video (an H100 does not) and its driver; or take libx264",
        )
    raise UsageError(
        f"{codec} cannot encode {picture.width}x{picture.height} ({refused})",
        f"it takes {parameter('pix_fmt')} {', '.join(formats[:8])}",
    )


def check_settings(codec: str, options: SinkOptions) -> None:
    """Raise UsageError where there is no `codec`, or it has no such pixel format, quality or preset.

    libav takes some of these in silence.
    """
    formats = _list_formats(codec)
    if options.pix_fmt is not None and options.pix_fmt not in formats:
        raise UsageError(
            f"{parameter('pix_fmt')} {options.pix_fmt}: {codec} does not take it",
            f"it takes {', '.join(formats[:8])}",
        )
    if options.crf is not None:
        if codec not in _CRF_RANGES:
            raise UsageError(
                f"{parameter('crf')} {options.crf:g}: {codec} has no such scale",
                f"leave {parameter('crf')} out, or choose {parameter('codec')} {', '.join(_DEFAULT_CRF)}",
            )
        low, high = _CRF_RANGES[codec]
        if not low <= options.crf <= high:
            raise UsageError(
                f"{parameter('crf')} {options.crf:g}: {codec} takes {low} (best) to {high} (smallest)",
                f"its default here is {_DEFAULT_CRF[codec]}" if codec in _DEFAULT_CRF else None,
            )
    known = _PRESETS.get(codec)
    if options.preset is not None and known and options.preset not in known:
        raise UsageError(
            f"{parameter('preset')} {options.preset}: {codec} has none of that name",
            f"one of {', '.join(known)}",
        )


def configure(context: CodecContext, encoding: Encoding, picture: Picture) -> CodecContext:
    """Set up a new encoder for `picture`, and return it."""
    context.width, context.height = picture.width, picture.height
    context.pix_fmt = encoding.pix_fmt
    context.time_base = picture.time_base
    context.framerate = (picture.rate or Fraction(25)).limit_denominator(1_000_000)
    context.sample_aspect_ratio = picture.sar
    context.options = dict(encoding.settings)
    set_tags(context, encoding.colour)
    return context


def _list_formats(codec: str) -> list[str]:
    try:
        return [f.name for f in Codec(codec, "w").video_formats or ()]
    except (UnknownCodecError, ValueError) as e:
        raise UsageError(
            f"{parameter('codec')} {codec}: no such encoder", "try libx264, libx265, libsvtav1 or ffv1"
        ) from e


def _choose_settings(codec: str, options: SinkOptions) -> dict[str, str]:
    settings = dict(_FIXED.get(codec, {}))
    crf = options.crf if options.crf is not None else _DEFAULT_CRF.get(codec)
    if crf is not None:
        settings["crf"] = f"{crf:g}"
    preset = options.preset if options.preset is not None else _DEFAULT_PRESET.get(codec)
    if preset is not None:
        settings["preset"] = preset
    return settings


def _choose_colour(pix_fmt: str, picture: Picture) -> Colour:
    colour = output_colour(picture.colour)
    if is_rgb(VideoFormat(pix_fmt)):
        return Colour("gbr", "pc", colour.transfer, colour.primaries)
    return colour


def _notices(pix_fmt: str, picture: Picture) -> tuple[str, ...]:
    found = []
    if picture.bit_depth > 8 and pix_fmt in _SHALLOW:
        found.append(f"{picture.bit_depth} bits written as 8")
    if (picture.width % 2 or picture.height % 2) and "444" in pix_fmt:
        found.append(f"odd size: written in full chroma ({pix_fmt}), which not every player can show")
    return tuple(found)
