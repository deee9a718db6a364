"""Latents as Python code reads them: by number, by slice, all of them, in the units that are wanted."""

import pytest
import torch

import vidlatent
from vidlatent.errors import BadLatentFile, UsageError
from vidlatent.models import registry

WAN = registry.find("wan-2.1")
COUNT = 6


@pytest.fixture(scope="module")
def latents() -> torch.Tensor:
    return torch.randn(1, 16, COUNT, 3, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def path(latents, tmp_path_factory):
    return vidlatent.save_latents(tmp_path_factory.mktemp("reader") / "a.latent", latents, WAN, fps=24)


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize(
    "which",
    [0, -1, slice(0, 4), slice(None), slice(-2, None), slice(1, 6, 2), slice(None, None, -1), slice(4, 2)],
)
def test_latents_are_taken_as_from_a_list(path, latents, which, mapped):
    with vidlatent.open_latent(path, mapped=mapped) as reader:
        assert torch.equal(reader[which], torch.stack(list(latents[0].unbind(1)))[reindexed(which)])


def reindexed(which: int | slice) -> int | list[int]:
    """The same for a tensor, which takes no negative steps."""
    return which if isinstance(which, int) else list(range(COUNT)[which])


def test_a_reader_is_as_long_as_its_latents_and_ends(path):
    with vidlatent.open_latent(path) as reader:
        assert len(reader) == len(list(reader)) == COUNT
        with pytest.raises(IndexError):
            reader[COUNT]


@pytest.mark.parametrize("span", [(-1, 2), (3, 2), (0, COUNT + 1)])
@pytest.mark.parametrize("mapped", [False, True])
def test_frames_that_are_not_there_are_refused(path, mapped, span):
    with vidlatent.open_latent(path, mapped=mapped) as reader:
        for read in (reader.read, reader.read_checked):
            with pytest.raises(ValueError, match=f"latent frames {span[0]} to {span[1]} of {COUNT}"):
                read(*span)


def test_what_a_file_does_not_hold_is_said_with_the_way_to_have_it(path):
    with vidlatent.open_latent(path) as reader:
        asked = (reader.read_logvar, lambda *span: reader.read_checked(*span, "logvar"))
        for read in asked:
            with pytest.raises(BadLatentFile, match=r"holds no logvar\nhint: encode with posterior full"):
                read(0, 1)
        first = (reader.read_first_frame, lambda *span: reader.read_raw(*span, "first_frame"))
        for read in first:
            with pytest.raises(BadLatentFile, match="holds no latents of its first frame alone"):
                read(0, 1)
        with pytest.raises(BadLatentFile, match="stored as F32 floats, which have no codes and steps"):
            reader.read_raw(0, 1)
        assert reader.open_audio() is None and not reader.has_audio
        assert not reader.has_logvar and not reader.has_first_frame and reader.form == ""


def test_latents_in_the_middle_of_another_file_are_the_same(path, latents, tmp_path):
    whole = tmp_path / "whole"
    whole.write_bytes(b"x" * 64 + path.read_bytes() + b"y" * 64)
    for mapped in (False, True):
        with vidlatent.open_latent(whole, part=(64, path.stat().st_size), mapped=mapped) as reader:
            assert torch.equal(reader.read(), latents[0].transpose(0, 1))
            reader.verify()


def test_latents_come_normalised_if_so_wanted(path, latents):
    scale, shift = (torch.tensor(values).view(-1, 1, 1) for values in (WAN.scale, WAN.shift))
    with vidlatent.open_latent(path) as reader:
        assert torch.equal(reader.read(), latents[0].transpose(0, 1))
        assert torch.equal(reader.read(normalised=True), (reader.read() - shift) * scale)
        assert torch.equal(reader.read(2, 4, normalised=True), (reader[2:4] - shift) * scale)


@pytest.mark.parametrize("mapped", [False, True])
def test_a_closed_reader_is_no_broken_file(path, mapped):
    with vidlatent.open_latent(path, mapped=mapped) as reader:
        pass
    for use in (reader.read, reader.verify, lambda: reader[0], lambda: reader.read_checked(0, 1)):
        with pytest.raises(UsageError, match="this reader was closed"):
            use()


def test_a_reader_says_what_it_is(path):
    with vidlatent.open_latent(path) as reader:
        assert repr(reader) == f"LatentReader({path}: 6 latents of 16x3x4, F32, by wan-2.1)"
    assert repr(reader).endswith("by wan-2.1, closed)")
