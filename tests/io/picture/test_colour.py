"""Colour patches of known RGB come back as that RGB, whatever matrix, range, depth and tags carried them."""

import subprocess
from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest

from vidlatent.errors import BadVideo, UsageError
from vidlatent.io.picture.colour import (
    MATRICES,
    PRIMARIES,
    RANGES,
    TRANSFERS,
    Colour,
    RgbReader,
    Tags,
    YuvWriter,
    bit_depth,
    code_point,
    find_matrix,
    is_convertible,
    output_colour,
    resolve,
)
from vidlatent.io.picture.orientation import Orientation
from vidlatent.io.read.source import Picture, ReadOptions, open_video
from vidlatent.io.write.sink import SinkOptions, open_sink

LEVEL = 1 / 255
READ = 1 * LEVEL  # decoding alone
PLAYED = 2 * LEVEL  # written as 8-bit 4:2:0 H.264 and shown by another's conversion
PATCH = 16  # pixels; chroma of neighbours never reaches the middle
KR_KB = {"bt709": (0.2126, 0.0722), "smpte170m": (0.299, 0.114), "bt2020nc": (0.2627, 0.0593),
         "smpte240m": (0.212, 0.087), "fcc": (0.30, 0.11)}  # fmt: skip
CORNERS = np.array(list(product((0, 1), repeat=3)), float)
COLOURS = np.concatenate([CORNERS, np.random.default_rng(1).random((24, 3))])


def to_yuv(rgb: np.ndarray, matrix: str, full: bool, bits: int) -> np.ndarray:
    """Rec. ITU-T H.273, equations 8.3: RGB in [0, 1] to integer code values [..., 3]."""
    kr, kb = KR_KB[matrix]
    y = rgb @ np.array([kr, 1 - kr - kb, kb])
    pb, pr = (rgb[..., 2] - y) / (2 - 2 * kb), (rgb[..., 0] - y) / (2 - 2 * kr)
    unit = 2 ** (bits - 8)
    if full:
        top = 2**bits - 1
        values = np.stack([y * top, pb * top + 128 * unit, pr * top + 128 * unit], -1)
    else:
        values = np.stack([219 * y + 16, 224 * pb + 128, 224 * pr + 128], -1) * unit
    return np.clip(np.round(values), 0, 2**bits - 1).astype(int)


def to_rgb(yuv: np.ndarray, matrix: str, full: bool, bits: int) -> np.ndarray:
    """The inverse, in floating point: what the code values mean, clipped to [0, 1]."""
    kr, kb = KR_KB[matrix]
    unit = 2 ** (bits - 8)
    luma, chroma = (2**bits - 1, 2**bits - 1) if full else (219 * unit, 224 * unit)
    y = (yuv[..., 0] - (0 if full else 16 * unit)) / luma
    pb, pr = ((yuv[..., c] - 128 * unit) / chroma for c in (1, 2))
    r, b = y + (2 - 2 * kr) * pr, y + (2 - 2 * kb) * pb
    g = (y - kr * r - kb * b) / (1 - kr - kb)
    return np.clip(np.stack([r, g, b], -1), 0, 1)


def patch_frame(yuv: np.ndarray, pix_fmt: str, lines: int) -> av.VideoFrame:
    """One row of patches repeated over `lines` lines, stored as these very code values."""
    frame = av.VideoFrame(len(yuv) * PATCH, lines, pix_fmt)
    for plane, values in zip(frame.planes, yuv.T, strict=True):
        dtype = np.uint8 if frame.format.components[0].bits == 8 else np.uint16
        rows = np.zeros((plane.height, plane.line_size // dtype().itemsize), dtype)
        rows[:, : plane.width] = np.repeat(values, plane.width // len(yuv))
        plane.update(rows.tobytes())
    return frame


def write_patches(path: Path, yuv: np.ndarray, pix_fmt: str, tags: dict[str, int], lines: int) -> None:
    """Losslessly (FFV1 in Matroska); `tags` are the codec context's colour attributes."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", 25)
        stream.width, stream.height, stream.pix_fmt = len(yuv) * PATCH, lines, pix_fmt
        frame = patch_frame(yuv, pix_fmt, lines)
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
            setattr(frame, name, value)
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def read_patches(path: Path, **options) -> tuple[np.ndarray, Colour]:
    """RGB in [0, 1] of the middle of every patch."""
    with open_video(path, ReadOptions(**options)) as video:
        rgb = next(video.frames()).rgb
        middle = rgb[rgb.shape[0] // 2, PATCH // 2 :: PATCH]
        return middle / np.iinfo(rgb.dtype).max, video.info.colour


@pytest.mark.parametrize("matrix", sorted(KR_KB))
@pytest.mark.parametrize("full", [False, True], ids=["tv", "pc"])
@pytest.mark.parametrize(
    "pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p12le", "yuv444p16le"]
)
def test_tagged_patches_are_read_within_a_level(tmp_path, matrix, full, pix_fmt):
    bits = int(pix_fmt.rstrip("le").split("p")[1] or 8)
    yuv = to_yuv(COLOURS, matrix, full, bits)
    tags = {"colorspace": code_point(MATRICES, matrix), "color_range": 2 if full else 1}
    write_patches(tmp_path / "x.mkv", yuv, pix_fmt, tags, 32)
    got, colour = read_patches(tmp_path / "x.mkv")
    assert (colour.matrix, colour.range) == (matrix, "pc" if full else "tv")
    assert np.abs(got - to_rgb(yuv, matrix, full, bits)).max() <= READ


@pytest.mark.parametrize(("lines", "matrix"), [(32, "smpte170m"), (718, "smpte170m"), (720, "bt709")])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le"])
def test_untagged_patches_are_guessed_by_size_and_it_is_said(tmp_path, lines, matrix, pix_fmt):
    bits = 10 if "10" in pix_fmt else 8
    yuv = to_yuv(COLOURS, matrix, False, bits)
    write_patches(tmp_path / "x.mkv", yuv, pix_fmt, {}, lines)
    got, colour = read_patches(tmp_path / "x.mkv")
    assert {"matrix", "range"} <= set(colour.assumed)
    assert np.abs(got - to_rgb(yuv, matrix, False, bits)).max() <= READ


def test_an_assumed_matrix_overrides_the_guess(tmp_path):
    yuv = to_yuv(COLOURS, "bt2020nc", False, 8)
    write_patches(tmp_path / "x.mkv", yuv, "yuv444p", {}, 32)
    got, _ = read_patches(tmp_path / "x.mkv", assume_matrix="bt2020nc")
    assert np.abs(got - to_rgb(yuv, "bt2020nc", False, 8)).max() <= READ


def test_an_unknown_matrix_name_is_refused(tmp_path):
    write_patches(tmp_path / "x.mkv", to_yuv(COLOURS, "bt709", False, 8), "yuv444p", {}, 32)
    with pytest.raises(UsageError, match="unknown colour matrix 'bt999'"):
        read_patches(tmp_path / "x.mkv", assume_matrix="bt999")


def test_a_matrix_that_cannot_be_converted_is_refused_by_name(tmp_path):
    write_patches(tmp_path / "x.mkv", to_yuv(COLOURS, "bt709", False, 8), "yuv444p", {"colorspace": 14}, 32)
    with pytest.raises(BadVideo, match="colour matrix ictcp cannot be converted"):
        read_patches(tmp_path / "x.mkv")


@pytest.mark.parametrize("pix_fmt", ["gray", "gray10le"])
@pytest.mark.parametrize("full", [False, True], ids=["tv", "pc"])
def test_grey_is_read_within_a_level(tmp_path, pix_fmt, full):
    bits = 10 if "10" in pix_fmt else 8
    levels = np.repeat(np.linspace(0, 1, 16)[:, None], 3, 1)
    yuv = to_yuv(levels, "bt709", full, bits)
    tags = {"colorspace": 1, "color_range": 2 if full else 1}
    write_patches(tmp_path / "x.mkv", yuv[:, :1], pix_fmt, tags, 32)
    got, _ = read_patches(tmp_path / "x.mkv")
    assert np.abs(got - to_rgb(yuv, "bt709", full, bits)).max() <= READ


def rgb_patches(deep: bool) -> np.ndarray:
    row = np.repeat(COLOURS, PATCH, 0) * (65535 if deep else 255)
    return np.round(np.broadcast_to(row, (32, *row.shape))).astype(np.uint16 if deep else np.uint8)


def players_view(path: Path) -> np.ndarray:
    """RGB in [0, 1] of every patch as ffmpeg's zscale (another library than ours) converts it by the tags."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-frames:v", "1", "-vf",
               "zscale=m=gbr:r=full,format=gbrp16le,format=rgb48le", "-f", "rawvideo", "-"]  # fmt: skip
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    rgb = np.frombuffer(raw, np.uint16).reshape(32, -1, 3)
    return rgb[16, PATCH // 2 :: PATCH] / 65535


@pytest.mark.parametrize("primaries", ["bt709", "bt2020"])
@pytest.mark.parametrize("deep", [False, True], ids=["8bit", "10bit"])
def test_what_is_written_is_what_a_player_shows(tmp_path, deep, primaries):
    source = Colour("bt709", "tv", "bt709", primaries)
    rgb = rgb_patches(deep)
    picture = Picture(
        rgb.shape[1], 32, Fraction(1), source, 10 if deep else 8, Fraction(1, 1000), Fraction(25)
    )
    with open_sink(tmp_path / "x.mp4", picture, options=SinkOptions(crf=0.5, preset="veryslow")) as sink:
        sink.write(rgb, 0, 40)
    got, colour = read_patches(tmp_path / "x.mp4")
    assert colour == output_colour(source)
    assert not colour.assumed
    written = rgb[16, PATCH // 2 :: PATCH] / np.iinfo(rgb.dtype).max
    assert np.abs(got - written).max() <= PLAYED
    assert np.abs(players_view(tmp_path / "x.mp4") - written).max() <= PLAYED


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_hdr_keeps_its_tags_and_code_values(tmp_path, transfer):
    source = Colour("bt2020nc", "tv", transfer, "bt2020")
    picture = Picture(512, 32, Fraction(1), source, 10, Fraction(1, 1000), Fraction(25))
    with open_sink(tmp_path / "x.mp4", picture, options=SinkOptions(crf=1)) as sink:
        sink.write(rgb_patches(True), 0, 40)
    got, colour = read_patches(tmp_path / "x.mp4")
    assert colour == source and colour.hdr
    assert np.abs(got - COLOURS).max() <= PLAYED


def test_chroma_is_read_where_the_codec_puts_it(tmp_path):
    """A chroma ramp of untagged 4:2:0 is on the even luma columns (left), not between them."""
    frame = av.VideoFrame(128, 32, "yuv420p10le")
    ramp = 256 + 8 * np.arange(64)
    for plane, values in zip(frame.planes, (504, 512, ramp), strict=True):
        rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
        rows[:, : plane.width] = values
        plane.update(rows.tobytes())
    with av.open(str(tmp_path / "x.mkv"), "w") as container:
        stream = container.add_stream("ffv1", 25)
        stream.width, stream.height, stream.pix_fmt = 128, 32, "yuv420p10le"
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with open_video(tmp_path / "x.mkv", ReadOptions(assume_matrix="bt709")) as video:
        red = next(video.frames()).rgb[16, 20:100, 0] / 65535
    y, pr = (504 - 64) / 876, (256 + 4 * np.arange(20, 100) - 512) / 896
    assert np.abs(red - (y + 2 * (1 - 0.2126) * pr)).max() < 0.002  # centred chroma would be 0.0035 off


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "yuv422p10le", "yuv444p12le"])
def test_threads_change_no_pixel(pix_fmt):
    """Bands of a picture are converted at once; their seams must not show, nor values above white wrap."""
    frame, rng = av.VideoFrame(72, 1002, pix_fmt), np.random.default_rng(2)
    bits = frame.format.components[0].bits
    for plane in frame.planes:
        values = rng.integers(0, 2**bits, plane.buffer_size * 8 // (8 if bits == 8 else 16))
        plane.update(values.astype(np.uint8 if bits == 8 else np.uint16).tobytes())
    colour = Colour("bt709", "tv", "bt709", "bt709")
    one, many = (RgbReader(bits > 8, Orientation(), threads=n)(frame, colour) for n in (1, 5))
    assert one.shape == (1002, 72, 3) and one.max() == np.iinfo(one.dtype).max
    assert np.array_equal(one, many)


def flat(level: int, dtype: type) -> np.ndarray:
    return np.full((16, 16, 3), level, dtype)


@pytest.mark.parametrize(("whole", "black", "white"), [("tv", 16, 235), ("pc", 0, 255)])
@pytest.mark.parametrize("deep", [False, True], ids=["8bit", "16bit"])
def test_black_and_white_are_written_at_the_ends_of_their_range(whole, black, white, deep):
    write = YuvWriter("yuv420p", Colour("bt709", whole, "bt709", "bt709"))
    dtype, top = (np.uint16, 65535) if deep else (np.uint8, 255)
    for level, wanted in ((0, black), (top, white)):
        planes = write(flat(level, dtype)).to_ndarray()
        assert (planes[:16] == wanted).all() and (planes[16:] == 128).all()


def test_sixteen_bits_become_eight_by_rounding():
    """v·257 is v exactly, and what lies half-way goes to the nearer one: neither is cut off."""
    write = YuvWriter("yuv444p", Colour("bt709", "pc", "bt709", "bt709"))
    for level in (0, 1, 100, 254, 255):
        assert (write(flat(level * 257, np.uint16)).to_ndarray()[0] == level).all()
    assert (write(flat(100 * 257 + 200, np.uint16)).to_ndarray()[0] == 101).all()


def test_written_frames_are_stamped_with_their_four_tags():
    frame = YuvWriter("yuv420p", Colour("bt2020nc", "tv", "smpte2084", "bt2020"))(flat(9, np.uint8))
    assert Tags.of(frame) == Tags(matrix=9, range=1, transfer=16, primaries=9)


def test_rgb_named_on_a_picture_in_yuv_is_no_matrix():
    told = resolve(Tags(matrix=0, range=2, transfer=1, primaries=1), av.VideoFormat("yuv420p"), 480)
    assert (told.matrix, told.range, told.assumed) == ("smpte170m", "pc", ("matrix",))


@pytest.mark.parametrize("tagged", [0, 1, 2])
def test_the_full_range_of_a_pixel_format_outweighs_its_tag(tagged):
    """Formats of JPEG are of full range by their name."""
    told = resolve(Tags(1, tagged, 1, 1), av.VideoFormat("yuvj420p"), 480)
    assert told.range == "pc" and "range" not in told.assumed


def test_names_and_numbers_are_those_of_ffmpeg():
    """It lists them itself; two transfers have other names where it tells of a file."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-h", "filter=setparams"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    table: dict[str, set] = {}
    for words in map(str.split, said.splitlines()):
        if words[1:2] == ["<int>"]:
            found = table[words[0]] = set()
        elif len(words) > 2 and words[2].startswith("..FV"):
            found.add((int(words[1]), words[0]))
    own_names = {(4, "gamma22"), (5, "gamma28")}
    ours = {"range": RANGES, "color_primaries": PRIMARIES, "color_trc": TRANSFERS, "colorspace": MATRICES}
    for option, known in ours.items():
        assert known.items() - own_names <= table[option], option


@pytest.mark.parametrize(
    ("tags", "pix_fmt", "lines", "guessed"),
    [
        ((2, 0, 2, 2), "yuv420p", 719, ("smpte170m", "tv", "bt709", "bt709")),
        ((2, 0, 2, 2), "yuv420p", 720, ("bt709", "tv", "bt709", "bt709")),
        ((2, 0, 2, 9), "yuv420p", 480, ("bt2020nc", "tv", "bt2020-10", "bt2020")),
        ((10, 0, 2, 2), "yuv420p", 480, ("bt2020c", "tv", "bt2020-10", "bt2020")),
        ((9, 0, 16, 2), "yuv420p", 480, ("bt2020nc", "tv", "smpte2084", "bt2020")),
        ((2, 0, 2, 2), "gray", 480, ("smpte170m", "pc", "bt709", "bt709")),
        ((2, 0, 2, 2), "ya8", 480, ("smpte170m", "pc", "bt709", "bt709")),
        ((1, 1, 2, 2), "rgb24", 480, ("gbr", "pc", "bt709", "bt709")),
        ((1, 1, 2, 2), "pal8", 480, ("gbr", "pc", "bt709", "bt709")),
    ],
)
def test_what_is_not_tagged_is_what_players_assume(tags, pix_fmt, lines, guessed):
    told = resolve(Tags(*tags), av.VideoFormat(pix_fmt), lines)
    assert (told.matrix, told.range, told.transfer, told.primaries) == guessed
    names = ("matrix", "range", "transfer", "primaries")
    said = ("matrix", "range") if pix_fmt in ("rgb24", "pal8") else ()
    assert told.assumed == tuple(
        name for name, tag in zip(names, tags, strict=True) if tag in (0, 2) and name not in said
    )


def test_pq_and_hlg_are_hdr_and_nothing_else_is():
    told = {transfer: Colour("bt2020nc", "tv", transfer, "bt2020").hdr for transfer in TRANSFERS.values()}
    assert [transfer for transfer, hdr in told.items() if hdr is True] == ["smpte2084", "arib-std-b67"]
    assert not any(hdr for transfer, hdr in told.items() if transfer not in ("smpte2084", "arib-std-b67"))


def test_tags_that_say_nothing_are_completed_and_no_others():
    nothing, other = Tags(2, 0, 2, 2), Tags(1, 1, 13, 5)
    assert nothing.completed_by(other) == other.completed_by(nothing) == other
    assert Tags(9, 2, 16, 9).completed_by(other) == Tags(9, 2, 16, 9)


def test_a_matrix_is_known_by_the_names_that_people_use():
    names = {name: find_matrix(name) for name in ("bt601", "bt2020", "fcc", "bt709")}
    assert names == {"bt601": "smpte170m", "bt2020": "bt2020nc", "fcc": "fcc", "bt709": "bt709"}
    assert [is_convertible(name) for name in ("gbr", "bt709", "ictcp")] == [True, True, False]
    assert not resolve(Tags(1, 1, 1, 1), av.VideoFormat("rgb24"), 480, "bt709").assumed, "RGB has none"


@pytest.mark.parametrize(
    ("pix_fmt", "bits"), [("pal8", 8), ("vaapi", 8), ("yuv420p10le", 10), ("gbrpf32le", 16)]
)
def test_a_pixel_format_has_so_many_bits(pix_fmt, bits):
    assert bit_depth(av.VideoFormat(pix_fmt)) == bits


@pytest.mark.parametrize("deep", [False, True], ids=["8bit", "16bit"])
def test_limited_grey_is_read_to_its_ends(deep):
    read, (dtype, top) = RgbReader(deep, Orientation()), (np.uint16, 65535) if deep else (np.uint8, 255)
    for level, wanted in ((0, 0), (16, 0), (126, 110 / 219), (235, 1), (255, 1)):
        frame = av.VideoFrame.from_ndarray(np.full((16, 16), level, np.uint8), "gray")
        got = read(frame, Colour("bt709", "tv", "bt709", "bt709"))
        assert got.dtype == dtype and abs(int(got[0, 0, 0]) - round(wanted * top)) <= deep


def test_ranges_are_those_of_h273():
    for tagged, name in ((1, "tv"), (2, "pc")):
        assert resolve(Tags(1, tagged, 1, 1), av.VideoFormat("yuv420p"), 480).range == name
