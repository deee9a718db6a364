"""Every way a `.latent` can lie has an error that names the file and says what was expected."""

import json
import struct
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.latent_edits import entry, fact, inside, rewrite
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from vidlatent.clock import FrameClock
from vidlatent.errors import BadLatentFile
from vidlatent.grid import Grid
from vidlatent.io.latent.header import LatentHeader, Source
from vidlatent.io.latent.reader import open_latent
from vidlatent.io.latent.writer import LatentWriter
from vidlatent.windows import Plan, Tiling, TimeRule


@pytest.fixture
def honest(tmp_path: Path) -> Path:
    """A valid file: 17 frames of 32×16 as latents [5, 4, 2, 4], with logvar, durations and audio."""
    header = LatentHeader(
        model="toy",
        weights_sha256="ab" * 32,
        config={},
        grid=Grid(4, 8),
        plan=Plan(TimeRule(32, 1), TimeRule(15, 1), decode_tiles=Tiling(32, 24, 64, 192)),
        source=Source("clip.mp4", 17, 32, 16),
        posterior="full",
    )
    (tmp_path / "sound").write_bytes(b"sound")
    path = tmp_path / "clip.latent"
    latents = torch.arange(5 * 4 * 2 * 4.0).view(5, 4, 2, 4)
    clock = FrameClock(Fraction(1, 30), np.arange(17), np.ones(17, np.int64))
    with LatentWriter(path, header, 4, 2, 4, "F32", with_logvar=True) as writer:
        writer.append(latents, -latents)
        writer.close(clock, tmp_path / "sound")
    return path


def test_an_honest_file_is_believed(honest: Path):
    rewrite(honest, lambda header: None)
    with open_latent(honest) as reader:
        reader.verify()


TENSOR_LIES = {
    "overlapping": (entry("pts", "data_offsets", [1000, 1136]), "'pts' overlaps .* expected offset 1280"),
    "gap": (entry("checksums", "data_offsets", [1590, 1622]), "leaves a gap .* expected offset 1557, got 15"),
    "backwards": (entry("pts", "data_offsets", [1416, 1280]), "its offsets give -136"),
    "beyond the end": (entry("checksums", "shape", [2, 32]), "takes 64 bytes, its offsets give 32"),
    "negative offset": (
        entry("latents", "data_offsets", [-640, 0]),
        "data_offsets: expected 0 to .* got -640",
    ),
    "negative side": (entry("latents", "shape", [-5, -4, 2, 4]), "shape: expected 0 to .* got -5"),
    "fractional side": (entry("latents", "shape", [5.0, 4, 2, 4]), "expected an integer, got 5.0"),
    "true as a side": (entry("latents", "shape", [True, 4, 2, 4]), "expected an integer, got True"),
    "overflowing": (entry("latents", "shape", [1 << 62] * 4), "takes .* bytes, its offsets give 640"),
    "huge number": (entry("latents", "shape", [1 << 70, 4]), "shape: expected 0 to"),
    "too many sides": (entry("latents", "shape", [1] * 99), "at most 8 sides"),
    "shape no list": (entry("latents", "shape", "5,4,2,4"), "at most 8 sides, got '5,4,2,4'"),
    "three offsets": (entry("latents", "data_offsets", [0, 1, 2]), r"expected \[start, stop\]"),
    "unknown dtype": (entry("latents", "dtype", "F31"), "dtype: expected .*BF16.* got 'F31'"),
    "dtype is a list": (entry("latents", "dtype", ["F32"]), "dtype: expected"),
    "dtype against bytes": (entry("latents", "dtype", "F16"), "takes 320 bytes, its offsets give 640"),
    "wrong kind of latents": (entry("latents", "dtype", "I32"), "latents: expected .* got I32"),
    "flat latents": (entry("latents", "shape", [5, 32]), "latents: expected .*t, C, h, w"),
    "latents without columns": (entry("latents", "shape", [5, 4, 8]), "latents: expected .*t, C, h, w"),
    "latents of a batch": (entry("latents", "shape", [1, 5, 4, 2, 4]), "latents: expected .*t, C, h, w"),
    "doubled logvar": (entry("logvar", "dtype", "F64"), "takes 1280 bytes, its offsets give 640"),
    "no entry": (lambda header: header.update(latents=7), "'latents': expected an object, got 7"),
    "entry without dtype": (lambda header: header["pts"].pop("dtype"), "'pts': `dtype` is missing"),
    "entry with more": (entry("pts", "offset", 3), "'pts': unknown 'offset'"),
    "many tensors": (
        lambda header: header.update({f"x{i}": header["pts"] for i in range(99)}),
        "at most 64 tensors, got 105",
    ),
    "logvar of another shape": (
        entry("logvar", "shape", [5, 4, 4, 2]),
        r"logvar: expected F32 \[5, 4, 2, 4\]",
    ),
    "pts of another kind": (entry("pts", "dtype", "U64"), r"pts: expected I64 \[17\], got U64"),
    "pts count": (entry("pts", "shape", [1, 17]), r"pts: expected I64 \[17\], got I64 \[1, 17\]"),
    "durations count": (entry("durations", "shape", [17, 1]), r"durations: expected I64 \[17\]"),
    "audio of another kind": (entry("audio", "dtype", "I8"), r"audio: expected U8 \[5\], got I8"),
    "checksums count": (entry("checksums", "shape", [32, 1]), r"checksums: expected U8 \[1, 32\]"),
    "no tensors": (lambda header: [header.pop(name) for name in list(header)[1:]], "`latents` is missing"),
}


@pytest.mark.parametrize("lie", TENSOR_LIES)
def test_a_lie_about_tensors_is_found(honest: Path, lie: str):
    edit, told = TENSOR_LIES[lie]
    rewrite(honest, edit, bytearray.clear if lie == "no tensors" else bytes)
    with pytest.raises(BadLatentFile, match=f"^.*clip.latent: .*{told}"):
        open_latent(honest)


FACT_LIES = {
    "frames against latents": (inside("source", "frames", 18), "decode to 17 frames .* header promises 18"),
    "frames against pts": (
        lambda header: (inside("source", "frames", 16)(header), inside("pad", "frames", 1)(header)),
        r"pts: expected I64 \[16\], got I64 \[17\]",
    ),
    "no frames": (inside("source", "frames", 0), "at least one frame"),
    "negative frames": (inside("source", "frames", -1), "source.frames: expected 0 to .* got -1"),
    "too many frames": (inside("source", "frames", 1 << 40), "source.frames: expected 0 to"),
    "width": (inside("source", "width", 40), "decode to 32 pixels .columns., the header promises 40"),
    "height": (inside("source", "height", 8), "decode to 16 pixels .rows., the header promises 8"),
    "width in words": (inside("source", "width", "32"), "source.width: expected an integer, got '32'"),
    "huge width": (inside("source", "width", 1 << 30), "source.width: expected 1 to 65536"),
    "source hash": (inside("source", "sha256", "zz"), "source.sha256: expected 64 hex"),
    "source without file": (fact("source", {"frames": 17}), "source: `file` is missing"),
    "pad": (inside("pad", "rows", -8), "pad.rows: expected 0 to 255, got -8"),
    "grid of nothing": (inside("grid", "time", 0), "grid.time: expected 1 to 64, got 0"),
    "absurd grid": (inside("grid", "space", 1 << 20), "grid.space: expected 1 to 256, got 1048576"),
    "fractional grid": (inside("grid", "space", 8.0), "grid.space: expected an integer, got 8.0"),
    "negative stride": (inside("plan", "decode_time", "stride", -1), "plan.decode_time.stride: expected 0"),
    "absurd overlap": (inside("plan", "decode_time", "overlap", 1 << 20), "overlap: expected 0 to 4096"),
    "standing tile": (
        inside("plan", "decode_tiles", "step", 0),
        "plan.decode_tiles.step: expected 1 to 32|advance",
    ),
    "leaping tile": (inside("plan", "decode_tiles", "step", 33), "advance"),
    "creeping tile": (inside("plan", "decode_tiles", "size", 6400), "step: expected 100 to 6400, got 24"),
    "tile in words": (inside("plan", "decode_tiles", "slivers", 1), "slivers: expected true or false, got 1"),
    "tile that keeps none": (inside("plan", "decode_tiles", "keep", 0), "keep: expected 1 to"),
    "plan no object": (fact("plan", [1, 2]), "plan: expected an object"),
    "plan half": (fact("plan", {"encode_time": {}}), "plan: `decode_time` is missing"),
    "scale of nothing": (fact("scale", []), "scale: expected 1 to 4096 numbers"),
    "scale zero": (fact("scale", [0.0]), "scale: 0 cannot be undone"),
    "scale per channel": (fact("scale", [1.0, 2.0]), "scale: expected 1 or 4 values, got 2"),
    "scale NaN": (fact("scale", "[NaN]"), "scale: not valid JSON .NaN is not a JSON number"),
    "scale beyond floats": (fact("scale", "[1e999]"), "scale: not valid JSON .*1e999.* out of range"),
    "scale huge integer": (fact("scale", "[" + "9" * 5000 + "]"), "scale: not valid JSON"),
    "shift in words": (fact("shift", ["a"]), "shift: expected finite numbers, got 'a'"),
    "posterior": (fact("posterior", "median"), "posterior: expected mode or sample or full, got 'median'"),
    "posterior without logvar": (fact("posterior", "mode"), "posterior mode, but there is a tensor `logvar`"),
    "sample without seed": (fact("posterior", "sample"), "seed of a sampled posterior: expected an integer"),
    "seed without sample": (fact("seed", "7"), "seed: nothing is drawn"),
    "exactness": (fact("exactness", "very"), "exactness: expected stream-equals-whole or"),
    "weights": (fact("weights_sha256", "AB" * 32), "weights_sha256: expected 64 hex"),
    "endless model name": (fact("model", "x" * 300), "model: expected at most 256 characters, got 300"),
    "config no object": (fact("config", "[]"), "config: expected an object"),
    "picture torn": (fact("picture", '{"sar": '), "picture: not valid JSON"),
    "picture with a key twice": (fact("picture", '{"a": 1, "a": 2}'), "picture: .*'a' appears twice"),
    "picture too deep": (fact("picture", "[" * 100_000), "picture: nested too deeply"),
    "time base of zero": (fact("time_base", "1/0"), "time_base: expected N/D seconds, got '1/0'"),
    "time base negative": (fact("time_base", "-1/30"), "time_base: expected N/D"),
    "time base of nothing": (fact("time_base", "0/30"), "time base of 0|time_base"),
    "time base in seconds": (fact("time_base", "0.04"), "time_base: expected N/D"),
    "time base absurd": (fact("time_base", f"1/{1 << 40}"), "time_base denominator: expected 1 to"),
    "block of nothing": (fact("block_bytes", "0"), "block_bytes: expected 4096 to"),
    "block of all memory": (fact("block_bytes", str(1 << 50)), "block_bytes: expected 4096 to 67108864"),
    "version without a dot": (fact("format_version", "1"), "format_version: expected MAJOR.MINOR, got '1'"),
    "major version in words": (fact("format_version", "x.1"), "format_version: expected MAJOR.MINOR"),
    "minor version in words": (fact("format_version", "1.x"), "format_version: expected MAJOR.MINOR"),
    "version of 16 letters": (
        fact("format_version", "1." + "0" * 14),
        "format_version: expected MAJOR.MINOR",
    ),
    "version in words": (fact("format_version", "one"), "format_version: expected MAJOR.MINOR, got 'one'"),
    "metadata not text": (
        lambda header: header["__metadata__"].update(model=7),
        "'model': expected a string",
    ),
    "metadata no object": (lambda header: header.update(__metadata__=[]), "metadata: expected an object"),
}


@pytest.mark.parametrize("lie", FACT_LIES)
def test_a_lie_about_facts_is_found(honest: Path, lie: str):
    edit, told = FACT_LIES[lie]
    rewrite(honest, edit)
    with pytest.raises(BadLatentFile, match=f"^.*clip.latent: .*({told})"):
        open_latent(honest)


FACTS = (
    *("model", "weights_sha256", "config", "grid", "plan", "posterior", "seed", "scale", "shift"),
    *("compute_dtype", "device_kind", "exactness", "source", "pad", "picture", "version"),
    *("format_version", "time_base", "block_bytes", "checksum"),
)


@pytest.mark.parametrize("key", FACTS)
def test_a_missing_fact_is_named(honest: Path, key: str):
    rewrite(honest, lambda header: header["__metadata__"].pop(key))
    with pytest.raises(BadLatentFile, match=f"clip.latent: header: `{key}` is missing"):
        open_latent(honest)


@pytest.mark.parametrize("name", ["latents", "pts", "checksums"])
def test_a_missing_tensor_is_named(honest: Path, name: str):
    """The bytes of the tensor stay, under another name."""
    rewrite(honest, lambda header: header.update(other=header.pop(name)))
    with pytest.raises(BadLatentFile, match=f"tensors: `{name}` is missing"):
        open_latent(honest)


def test_every_fact_the_header_has_is_tested_above(honest: Path):
    raw = honest.read_bytes()
    header = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])
    assert set(header["__metadata__"]) == {*FACTS, "format"}


TIMES = {
    "pts run backwards": ("pts", 3, -1, "pts: time runs backwards, 2 to -1 at frame 3"),
    "pts beyond reason": ("pts", 16, (1 << 63) - 1, "pts: expected less than 2.62 ticks"),
    "durations negative": ("durations", 0, -5, "durations: expected 0 to 2.62 ticks, got -5"),
}


@pytest.mark.parametrize("lie", TIMES)
def test_times_that_cannot_be_shown_are_refused(honest: Path, lie: str):
    name, frame, ticks, told = TIMES[lie]
    offset = {"pts": 1280, "durations": 1280 + 17 * 8}[name] + frame * 8
    rewrite(
        honest,
        lambda header: None,
        lambda body: body.__setitem__(slice(offset, offset + 8), struct.pack("<q", ticks)),
    )
    with pytest.raises(BadLatentFile, match=told):
        open_latent(honest)


def test_pixels_beyond_any_memory_are_refused(tmp_path: Path):
    """A file of 64 kB may claim frames of 4 gigapixels: within each bound, but not together."""
    path, side = tmp_path / "clip.latent", 1 << 16
    header = LatentHeader(
        *("toy", "", {}, Grid(1, 256), Plan(TimeRule(1), TimeRule(1))), source=Source("a", 1, side, side)
    )
    with LatentWriter(path, header, 1, 256, 256, "F16") as writer:
        writer.append(torch.zeros(1, 1, 256, 256))
        with pytest.raises(ValueError, match="frames of 65536x65536 pixels are beyond any memory"):
            writer.close(FrameClock(Fraction(1), np.zeros(1, np.int64)))
    assert not path.exists()


BYTES = {
    "empty": (b"", "not a .latent file .expected at least 8 bytes, got 0"),
    "seven bytes": (b"\0" * 7, "at least 8 bytes, got 7"),
    "never finished": (b"\0" * 4096, "unfinished file: its header was never written"),
    "a video": (b"\0\0\0\x20ftypisom\0\0\2\0" * 9, "not a .latent file"),
    "a zip, as torch.save makes them": (b"PK\3\4" + b"\0" * 99, "not a .latent file|torn"),
    "a pickle": (b"\x80\x02}q\0X\4\0\0\0weig" * 9, "not a .latent file"),
    "header longer than the file": (
        struct.pack("<Q", 4096) + b"{}",
        "torn file: the header takes 4096 bytes, found 2",
    ),
    "header too long for anyone": (
        struct.pack("<Q", 1 << 60) + b"{" * 99,
        "at most 1048576 bytes, got 1152921",
    ),
    "header no JSON": (struct.pack("<Q", 4) + b"{,,}", "header: not valid JSON"),
    "header no object": (struct.pack("<Q", 4) + b"[  ]", "not a .latent file .no safetensors header"),
    "header not text": (struct.pack("<Q", 4) + b"{\xff\xfe}", "header: not UTF-8"),
    "header with a key twice": (struct.pack("<Q", 17) + b'{"a":{},  "a":{}}', "'a' appears twice"),
    "header too deep": (struct.pack("<Q", 90_006) + b'{"a": ' + b"[" * 90_000, "header: nested too deeply"),
}


@pytest.mark.parametrize("kind", BYTES)
def test_bytes_that_are_no_latent_file_are_refused(tmp_path: Path, kind: str):
    content, told = BYTES[kind]
    (tmp_path / "clip.latent").write_bytes(content)
    with pytest.raises(BadLatentFile, match=f"clip.latent: .*({told})"):
        open_latent(tmp_path / "clip.latent")


def test_a_file_cut_anywhere_is_refused(honest: Path):
    whole = honest.read_bytes()
    for size in range(0, len(whole), 13):
        honest.write_bytes(whole[:size])
        with pytest.raises(BadLatentFile, match=r"torn file|not a \.latent file"):
            open_latent(honest)


def test_checksums_that_leave_out_what_follows_them_are_refused(honest: Path):
    """Audio behind the checksums would never be verified."""

    def swap(header: dict) -> None:
        header["audio"]["data_offsets"], header["checksums"]["data_offsets"] = [1584, 1589], [1552, 1584]

    rewrite(honest, swap)
    with pytest.raises(BadLatentFile, match="checksums: expected to be the last tensor, got 'audio'"):
        open_latent(honest)


def test_a_cut_file_says_how_many_latents_are_left(honest: Path):
    whole = honest.read_bytes()
    latents_at = len(whole) - 1557 - 32
    honest.write_bytes(whole[: latents_at + 3 * 128 + 5])
    with pytest.raises(BadLatentFile, match="torn file: header promises 5 rows of 'latents', found 3") as e:
        open_latent(honest)
    assert "vidlatent encode" in e.value.hint


def test_bytes_after_the_end_are_refused(honest: Path):
    honest.write_bytes(honest.read_bytes() + b"more")
    with pytest.raises(BadLatentFile, match="promises 1589 bytes of data, found 1593"):
        open_latent(honest)


def test_another_major_version_says_which_is_needed(honest: Path):
    rewrite(honest, fact("format_version", "2.1"))
    with pytest.raises(BadLatentFile, match=r"container version 2.1; this vidlatent reads version 1") as e:
        open_latent(honest)
    assert "container version 2" in e.value.hint


def test_another_minor_version_and_its_unknown_facts_and_tensors_are_kept(honest: Path, tmp_path: Path):
    def edit(header: dict) -> None:
        fact("format_version", "1.9")(header)
        fact("caption", "a bike")(header)
        header["faces"] = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}

    rewrite(honest, edit)
    with open_latent(honest) as reader:
        assert reader.header.extra == {"caption": "a bike"}
        assert reader.header.to_metadata()["caption"] == "a bike"


def test_a_comfyui_latent_is_called_by_its_name(tmp_path: Path):
    path = tmp_path / "ComfyUI_00001_.latent"
    save_file({"latent_tensor": torch.zeros(1, 4, 8, 8), "latent_format_version_0": torch.zeros(0)}, path)
    with pytest.raises(BadLatentFile, match=r"ComfyUI_00001_\.latent: a ComfyUI latent"):
        open_latent(path)


def test_other_safetensors_are_not_taken_for_latents(tmp_path: Path):
    save_file({"conv.weight": torch.zeros(3)}, tmp_path / "weights.safetensors", {"format": "pt"})
    with pytest.raises(BadLatentFile, match=r"not a \.latent \(expected format vidlatent, got 'pt'"):
        open_latent(tmp_path / "weights.safetensors")


@pytest.mark.parametrize("name", ["missing.latent", "."])
def test_what_is_no_file_is_said_to_be_none(tmp_path: Path, name: str):
    with pytest.raises(BadLatentFile, match=r"cannot be read \((No such file|Is a directory)"):
        open_latent(tmp_path / name)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_bytes_of_a_header_change_it_is_refused_or_says_the_same(honest: Path, data: st.DataObject):
    """No other error escapes, and nothing that changed the meaning passes `verify`."""
    whole = honest.read_bytes()
    end = whole.index(b"  ")  # where the padding begins
    with open_latent(honest) as reader:
        meant = reader.header, reader.clock
    changes = st.tuples(
        st.integers(0, end), st.sampled_from(b'0189{}[]:,"\\-.eE \0\xff') | st.integers(0, 255)
    )
    raw = bytearray(whole)
    for offset, byte in data.draw(st.lists(changes, min_size=1, max_size=4)):
        raw[offset] = byte
    changed = honest.with_name("changed.latent")
    changed.write_bytes(raw)
    with suppress(BadLatentFile), open_latent(changed) as reader:
        reader.verify()
        assert (reader.header, reader.clock) == meant
