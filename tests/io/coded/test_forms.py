"""Every form of stored latents: what comes back, in which spans, and which lies about it are found."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.latent_edits import entry, inside, rewrite
from helpers.stored import CHUNK, FRAMES, all_of, clock_of, cut, header_of, pack, some_latents, write
from hypothesis import given, settings
from hypothesis import strategies as st

from vidlatent.errors import BadInput, BadLatentFile
from vidlatent.grid import Grid
from vidlatent.io.coded import ends
from vidlatent.io.coded.form import CODES, Form
from vidlatent.io.coded.int8 import Int8, OpenedInt8, list_groups
from vidlatent.io.coded.planes import Planes
from vidlatent.io.journal import Differs, Making
from vidlatent.io.latent.header import LatentHeader, Source
from vidlatent.io.latent.reader import LatentReader, open_latent
from vidlatent.io.latent.writer import LatentWriter
from vidlatent.windows import Plan, TimeRule

FORMS = {
    "int8": Int8(),
    "packed": pack(some_latents(), 0.1),
    "packed by rounding": pack(some_latents(), 0.1, trellis=False),
    "planes of bf16": Planes("BF16"),
    "planes of fp32": Planes("F32"),
}
HALF_A_STEP = 0.5 / 127  # of the largest magnitude: how far int8 may be off, before its result is bf16
BF16 = 2**-8  # how far rounding to bf16 may move a number, relative to it


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Form:
    return FORMS[request.param]


@pytest.fixture
def clip(tmp_path: Path, form: Form) -> Path:
    return write(tmp_path / "clip.latent", some_latents(), form)


@pytest.mark.parametrize("mapped", [False, True])
def test_any_span_is_read_alone(clip: Path, mapped: bool):
    whole = all_of(clip)
    assert whole.shape == (FRAMES, 3, 2, 5)
    with LatentReader(clip, mapped=mapped) as reader:
        for start, stop in [(0, 1), (15, 17), (16, 32), (3, 37), (36, 37), (5, 5)]:
            assert torch.equal(reader.read(start, stop), whole[start:stop])
            assert torch.equal(reader.read_checked(start, stop), whole[start:stop])


def test_planes_lose_nothing(tmp_path: Path):
    latents = some_latents().bfloat16()
    assert torch.equal(all_of(write(tmp_path / "a", latents, FORMS["planes of bf16"])), latents)
    assert torch.equal(
        all_of(write(tmp_path / "b", latents.float(), FORMS["planes of fp32"])), latents.float()
    )


@pytest.mark.parametrize("form", ["packed", "planes of bf16"])
def test_chunks_that_no_reader_takes_are_refused_when_the_first_is_there(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
):
    """Such a clip was encoded to its end, and failed then with a traceback."""
    monkeypatch.setattr(ends, "MAX_CHUNK_VALUES", CHUNK * 3 * 2 * 5 - 1)
    with (
        pytest.raises(BadInput, match="16 latent frames have more than 2\\^28 values\nhint: frames so large"),
        LatentWriter(tmp_path / "a.latent", header_of(FRAMES, 2, 5), 3, 2, 5, FORMS[form]) as writer,
    ):
        writer.append(some_latents(CHUNK + 8))
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 16), st.integers(1, 128), st.integers(1, 5), st.integers(1, 7)),
    exponent=st.integers(-149, 127),
    seed=st.integers(0, 1 << 30),
)
def test_int8_is_off_by_half_a_step_at_most(shape: tuple[int, ...], exponent: int, seed: int):
    """Of any shape, and of any magnitude that float32 has."""
    chunk = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).clamp(-1.9, 1.9)
    chunk = (chunk.double() * 2.0**exponent).float()
    form = Int8()
    codes, sides = form.code(chunk)
    opened = form.open(shape, len(codes), form.sides(np.array([len(codes)]), sides))
    back = opened.decode(np.frombuffer(codes, np.uint8), 0, shape[0]).double()
    most = chunk.double().abs().amax(dim=(0, 2, 3), keepdim=True)
    bound = most * (HALF_A_STEP + BF16 * 1.1) + torch.finfo(torch.float32).tiny
    assert torch.all((back - chunk.double()).abs() <= bound)


@pytest.mark.parametrize(("start", "stop"), [(0, 40), (15, 33), (16, 17), (7, 7)])
@pytest.mark.parametrize("most", [1, 3, 16])
def test_frames_that_are_multiplied_at_once_lie_in_one_chunk(start: int, stop: int, most: int):
    groups = list(list_groups(start, stop, most))
    assert [n for group in groups for n in range(*group)] == list(range(start, stop))
    assert all(begin // CHUNK == (end - 1) // CHUNK and end - begin <= most for begin, end in groups)


def test_int8_is_code_times_step_in_float32_and_rounded_once():
    rng = np.random.default_rng(0)
    codes = rng.integers(-127, 128, (21, 5, 2, 3), np.int8)
    steps = torch.from_numpy(rng.uniform(1e-3, 3, (2, 5)).astype(np.float32))
    found = OpenedInt8(steps, codes.shape[1:]).decode(codes.view(np.uint8).ravel(), 0, 21)
    wanted = torch.from_numpy(codes).float() * steps[torch.arange(21) // CHUNK][..., None, None]
    assert torch.equal(found, wanted.bfloat16())


def test_what_follows_a_cut_has_steps_of_its_own(tmp_path: Path):
    """A dark scene behind a bright one is not coded by the steps of that."""
    latents = torch.cat([some_latents(CHUNK) * 100, some_latents(CHUNK, seed=1) / 100])
    back = all_of(write(tmp_path / "clip.latent", latents, Int8()))[CHUNK:]
    error = (back.float() - latents[CHUNK:]).abs().amax()
    assert error <= latents[CHUNK:].abs().max() * (HALF_A_STEP + BF16)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 9), st.integers(1, 5), st.integers(1, 5)),
    seed=st.integers(0, 1 << 30),
    dtype=st.sampled_from(["BF16", "F16", "F32"]),
)
def test_planes_of_any_bits_come_back(shape: tuple[int, ...], seed: int, dtype: str):
    form = Planes(dtype)
    raw = np.random.default_rng(seed).bytes(int(np.prod(shape)) * form_bytes(dtype))
    latents = torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(torch_dtype(dtype)).view(shape)
    coded = [form.code(chunk)[0] for chunk in cut(latents)]
    size = sum(map(len, coded))
    opened = form.open(shape, size, form.sides(np.cumsum([len(c) for c in coded]), b""))
    codes = np.frombuffer(b"".join(coded), np.uint8)
    back = opened.decode(codes, 0, shape[0])
    assert torch.equal(back.view(torch.uint8), latents.view(torch.uint8))


def torch_dtype(name: str) -> torch.dtype:
    return {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}[name]


def form_bytes(dtype: str) -> int:
    return torch_dtype(dtype).itemsize


def test_the_same_latents_make_the_same_bytes_however_they_come(tmp_path: Path, form: Form):
    files = [write(tmp_path / str(n), some_latents(), form, n).read_bytes() for n in (1, 16, 20, FRAMES)]
    assert len(set(files)) == 1


def test_nan_is_refused(tmp_path: Path, form: Form):
    latents = some_latents()
    latents[20, 0, 0, 0] = torch.nan
    with pytest.raises(BadInput, match="latent frame 20 holds NaN or infinity"):
        write(tmp_path / "clip.latent", latents, form)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_knows_no_forms_refuses_the_file(clip: Path, form: Form):
    with open_latent(clip) as reader:
        metadata = reader.header.to_metadata()
        assert (reader.header.requires, reader.header.format_minor) == (("stored",), 2)
        assert (reader.form, reader.dtype) == (form.name, form.dtype)
    assert '"requires":["stored"]' in metadata["plan"]


def test_a_form_that_is_not_known_is_refused_in_words(clip: Path):
    rewrite(clip, inside("stored", "form", "int7"))
    with pytest.raises(BadLatentFile, match="stored as 'int7': not known to this vidlatent") as e:
        open_latent(clip)
    assert e.value.hint == "open it with a newer vidlatent"


def test_logvar_is_not_coded(tmp_path: Path, form: Form):
    header = LatentHeader(
        *("toy", "", {}, Grid(4, 8), Plan(TimeRule(32, 1), TimeRule(15, 1))),
        source=Source("clip.mp4", 17, 16, 16),
        posterior="full",
    )
    with pytest.raises(ValueError, match="posterior full is stored as floats"):
        LatentWriter(tmp_path / "clip.latent", header, 4, 2, 2, form, True)


def test_the_first_frame_is_stored_in_the_same_form(tmp_path: Path, form: Form):
    path, latents, first = tmp_path / "clip.latent", some_latents(), some_latents(seed=7)
    with LatentWriter(path, header_of(FRAMES, 2, 5), 3, 2, 5, form) as writer:
        writer.append(latents)
        writer.add_first_frame(first.split(6))
        writer.close(clock_of(FRAMES))
    alone = all_of(write(tmp_path / "alone.latent", first, form))
    with open_latent(path) as reader:
        assert torch.equal(reader.read_first_frame(14, 30), alone[14:30])
        assert torch.equal(reader.read_checked(0, FRAMES, "first_frame"), alone)
        reader.verify()


def test_every_flipped_byte_of_the_data_is_found_and_named(clip: Path):
    raw = clip.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    for place in range(start, len(raw), 29):
        clip.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        with pytest.raises(BadLatentFile, match=r"clip\.latent"), open_latent(clip) as reader:
            reader.verify()


def test_a_reader_that_checks_blocks_checks_the_sides_as_well(tmp_path: Path):
    """Steps are read when a file is opened, and a smaller one is as good a step as any."""
    path = write(tmp_path / "clip.latent", some_latents(), Int8())
    raw = path.read_bytes()
    with open_latent(path) as reader:
        place = raw.index(reader._opened["latents"].steps.numpy().tobytes())
    path.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
    with open_latent(path) as reader, pytest.raises(BadLatentFile, match=r"damaged .*`latents.steps` 0"):
        reader.read_checked(0, 1)


INT8_LIES = {
    "a step of zero": (b"\0\0\0\0", "steps: expected numbers above 0"),
    "a negative step": (np.float32(-1).tobytes(), "steps: expected numbers above 0"),
    "a step that is none": (np.float32("nan").tobytes(), "steps: expected numbers above 0"),
    "an endless step": (np.float32("inf").tobytes(), "steps: expected numbers above 0"),
    "a step that overflows": (np.float32(3e38).tobytes(), "steps: expected numbers above 0, at most"),
}


@pytest.mark.parametrize("lie", INT8_LIES)
def test_steps_that_cannot_be_are_refused(tmp_path: Path, lie: str):
    step, told = INT8_LIES[lie]
    path = write(tmp_path / "clip.latent", some_latents(), Int8())
    raw = path.read_bytes()
    with open_latent(path) as reader:
        place = raw.index(reader._opened["latents"].steps.numpy().tobytes())
    path.write_bytes(raw[:place] + step + raw[place + 4 :])
    with pytest.raises(BadLatentFile, match=f"latents: {told}"):
        open_latent(path)


HEADER_LIES = {
    "no form": (lambda header: inside("stored", "form", None)(header), "stored.form: expected a string"),
    "no shape": (inside("stored", "shape", None), r"stored.shape: expected \[t, C, h, w\], got None"),
    "a shape of three": (inside("stored", "shape", [37, 3, 10]), r"stored.shape: expected \[t, C, h, w\]"),
    "a side of zero": (inside("stored", "shape", [37, 0, 2, 5]), "stored.shape: expected 1 to"),
    "another length": (inside("stored", "shape", [36, 3, 2, 5]), "decode to 141 frames"),
    "sides of another kind": (entry("latents.steps", "dtype", "I32"), "latents.steps: expected F32"),
    "sides of another shape": (entry("latents.steps", "shape", [9]), r"latents.steps: expected F32 \[3, 3\]"),
    "no sides": (lambda header: header.update(x=header.pop("latents.steps")), "`latents.steps` is missing"),
    "more channels": (inside("stored", "shape", [37, 4, 2, 5]), "latents: expected I8"),
}


@pytest.mark.parametrize("lie", HEADER_LIES)
def test_a_lie_about_the_form_is_found(tmp_path: Path, lie: str):
    edit, told = HEADER_LIES[lie]
    path = write(tmp_path / "clip.latent", some_latents(), Int8())
    rewrite(path, edit)
    with pytest.raises(BadLatentFile, match=told):
        open_latent(path)


def kinds_of(shape: tuple[int, ...], size: int) -> object:
    return Planes("BF16").kinds(shape, size)


def test_latents_that_so_few_bytes_cannot_hold_are_refused():
    """Before any memory is asked for."""
    with pytest.raises(ValueError, match="more than 2\\^15 values in a byte"):
        kinds_of((1 << 20, 16, 8, 8), 1000)
    with pytest.raises(ValueError, match="16 latent frames have more than 2\\^28 values"):
        kinds_of((16, 1 << 10, 1 << 10, 1 << 10), 1 << 62)
    assert kinds_of((33, 4, 8, 8), 100)[CODES] == ("U8", (100,))


@pytest.mark.parametrize("ends", [[5, 5, 9], [5, 4, 9], [0, 5, 9], [-1, 5, 9], [5, 7, 8], [5, 7, 1 << 62]])
def test_ends_of_chunks_that_cannot_be_are_refused(ends: list[int]):
    with pytest.raises(ValueError, match="ends: expected to grow from chunk to chunk, up to 9"):
        Planes("BF16").open((37, 3, 2, 5), 9, {"ends": np.array(ends, np.int64)})


def test_a_chunk_too_short_for_what_it_is_to_hold_is_refused():
    with pytest.raises(ValueError, match="ends: a chunk of 3 bytes cannot hold 16 of"):
        Planes("BF16").open((37, 16, 64, 64), 10_000, {"ends": np.array([3, 9_000, 10_000], np.int64)})


def test_a_clip_that_is_constant_throughout_is_stored_and_read(tmp_path: Path):
    """Nothing compresses better, and bounds must leave room for it."""
    latents = torch.zeros(33, 16, 60, 104, dtype=torch.bfloat16)
    path = write(tmp_path / "clip.latent", latents, Planes("BF16"), 33)
    assert path.stat().st_size < 20_000
    assert torch.equal(all_of(path), latents)


def test_a_chunk_that_claims_to_be_larger_is_refused():
    """Before zstd asks for the memory that it claims."""
    codes = Planes("BF16").code(torch.zeros(16, 3, 200, 200, dtype=torch.bfloat16))[0]
    opened = Planes("BF16").open((16, 3, 2, 5), len(codes), {"ends": np.array([len(codes)])})
    with pytest.raises(ValueError, match="a chunk of 3840000 bytes, expected 960"):
        opened.decode(np.frombuffer(codes, np.uint8), 0, 1)


@pytest.mark.parametrize("killed_at", [16, 20, 37])
def test_a_later_run_goes_on_after_the_last_whole_chunk(tmp_path: Path, form: Form, killed_at: int):
    """And the file is that of a run that nobody disturbed."""
    whole = write(tmp_path / "whole.latent", some_latents(), form).read_bytes()
    path, header, latents = tmp_path / "clip.latent", header_of(FRAMES, 2, 5), some_latents()
    making = Making({"recipe": {"by": "hand"}}, resume=True)
    with pytest.raises(KeyboardInterrupt), LatentWriter(path, header, 3, 2, 5, form, False, making) as writer:
        writer.append(latents[:killed_at])
        raise KeyboardInterrupt
    with LatentWriter(path, header, 3, 2, 5, form, False, making) as writer:
        written = {16: 0, 20: 0, 37: 16} if form.name == "packed" else {16: 16, 20: 16, 37: 32}
        assert writer.frames == written[killed_at]
        assert (writer.align(16), writer.align(31), writer.align(32)) == (16, 16, 32)
        writer.append(latents, at=0)
        writer.close(clock_of(FRAMES))
    assert path.read_bytes() == whole


def test_a_chunk_that_differs_from_that_of_an_earlier_run_is_told(tmp_path: Path):
    """Twice as large latents have the same codes: it is the steps that tell them apart."""
    path, header, latents = tmp_path / "clip.latent", header_of(FRAMES, 2, 5), some_latents()
    making = Making({"recipe": {"by": "hand"}}, resume=True)
    with pytest.raises(KeyboardInterrupt), LatentWriter(path, header, 3, 2, 5, Int8(), False, making) as w:
        w.append(latents)
        raise KeyboardInterrupt
    with LatentWriter(path, header, 3, 2, 5, Int8(), False, making) as writer, pytest.raises(Differs):
        writer.append(2 * latents, at=0)
