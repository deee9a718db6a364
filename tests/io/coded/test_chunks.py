"""Tests for how a clip is cut into chunks."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vidlatent.io.coded.chunks import SIXTEEN, Chunks
from vidlatent.io.coded.packed import JOINED
from vidlatent.io.latent.gather import Gatherer

KINDS = st.builds(
    lambda length, least: Chunks(length, min(length, least)), st.integers(1, 20), st.integers(1, 20)
)


@given(chunks=KINDS, frames=st.integers(0, 200))
def test_chunks_follow_one_another_and_hold_every_frame_once(chunks: Chunks, frames: int):
    spans = list(chunks.spans(frames))
    assert len(spans) == chunks.count(frames)
    assert [n for span in spans for n in range(*span)] == list(range(frames))
    for number, (start, stop) in enumerate(spans):
        assert {chunks.find(frame, frames) for frame in range(start, stop)} == {number}


@given(chunks=KINDS, frames=st.integers(1, 200))
def test_all_chunks_are_of_one_length_but_the_last(chunks: Chunks, frames: int):
    """Which is `least` long at least, unless it is the whole clip."""
    *lengths, last = (stop - start for start, stop in chunks.spans(frames))
    assert set(lengths) <= {chunks.length}
    assert (chunks.least if lengths else 1) <= last < chunks.length + chunks.least


@pytest.mark.parametrize(
    ("chunks", "frames", "lengths"),
    [
        (SIXTEEN, 17, [16, 1]),
        (SIXTEEN, 16, [16]),
        (JOINED, 7, [7]),
        (JOINED, 17, [17]),
        (JOINED, 23, [23]),
        (JOINED, 24, [16, 8]),
        (JOINED, 37, [16, 21]),
    ],
)
def test_a_short_rest_is_a_chunk_or_belongs_to_the_last_one(chunks: Chunks, frames: int, lengths: list[int]):
    assert [stop - start for start, stop in chunks.spans(frames)] == lengths


@given(chunks=KINDS, frames=st.integers(0, 100), more=st.integers(0, 100))
def test_frames_that_are_aligned_end_with_a_chunk(chunks: Chunks, frames: int, more: int):
    """Of any clip that goes on for another chunk at least, or of none."""
    sure = chunks.align(frames)
    assert sure <= frames
    longer = sure + chunks.length + chunks.least + more
    assert sure in {start for start, _ in chunks.spans(longer)}


@given(chunks=KINDS, pieces=st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_pieces_of_any_length_are_gathered_into_the_same_chunks(chunks: Chunks, pieces: list[int]):
    frames = torch.arange(sum(pieces)).view(-1, 1, 1, 1)
    gatherer, found = Gatherer(chunks), []
    for piece in frames.split(pieces):
        found += gatherer.add(gatherer.stop, piece)
    found += gatherer.rest()
    assert [(begin, begin + len(chunk)) for begin, chunk in found] == list(chunks.spans(len(frames)))
    assert torch.equal(torch.cat([chunk for _, chunk in found]), frames)
