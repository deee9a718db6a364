"""16-bit planes become pixels exactly, and memory is used again only once nobody looks at it."""

import av
import numpy as np
import pytest

from vidlatent.io.picture.deep_pixels import BlockPool, Interleaver

WIDTH, HEIGHT = 37, 23  # bands and rows that do not come out even


def planes_frame(rgb: np.ndarray) -> av.VideoFrame:
    """RGB [H, W, 3] uint16 as gbrp16le."""
    frame = av.VideoFrame(rgb.shape[1], rgb.shape[0], "gbrp16le")
    for plane, channel in zip(frame.planes, (1, 2, 0), strict=True):
        rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
        rows[:, : plane.width] = rgb[..., channel]
        plane.update(rows.tobytes())
    return frame


def noise() -> np.ndarray:
    return np.random.default_rng(7).integers(0, 65536, (HEIGHT, WIDTH, 3), np.uint16)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_white_becomes_65535_and_what_is_whiter_stays_there(bits):
    rgb = noise()
    wide = rgb.astype(np.int64)
    expected = np.minimum(wide + (wide >> bits), 65535)
    assert np.array_equal(Interleaver(threads=2)(planes_frame(rgb), bits), expected)


def test_a_frame_keeps_its_pixels_while_the_next_ones_are_made():
    interleaved = Interleaver(threads=1)
    first = interleaved(planes_frame(noise()), 16)
    interleaved(planes_frame(65535 - noise()), 16)
    assert np.array_equal(first, noise())


def test_a_piece_of_a_frame_keeps_its_pixels_after_the_frame_is_gone():
    interleaved = Interleaver(threads=1)
    piece = interleaved(planes_frame(noise()), 16)[3:9, ::2]
    interleaved(planes_frame(65535 - noise()), 16)
    assert np.array_equal(piece, noise()[3:9, ::2])


def test_memory_is_lent_again_once_nobody_holds_it():
    memory = BlockPool()
    held = memory.lend(100)
    free = memory.lend(100)
    where = free.ctypes.data
    del free
    assert memory.lend(100).ctypes.data == where != held.ctypes.data
