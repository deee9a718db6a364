"""The C library's allocator, told what to do with large blocks: give them back, or use them again.

glibc raises the size from which blocks are mapped on their own each time one is freed, up to 32 MB.
Windows of a clip then come from a heap that fragments, and memory creeps up with the clip's length
although nothing is held. A fixed size keeps it flat, if frames are above it as well as windows: what stays
on the heap is small change. One heap for all threads, too: frames are made in one and freed in another.

But a mapped block has fresh pages, and where pictures are large those cost a light network a third of its
time. There what layers make of a frame, or of a group of four, stays on the heap, which keeps some of what is
free; only windows of the largest pictures are mapped. The holes add up to less than one window.
"""

import ctypes
import sys

M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_ARENA_MAX = -3, -1, -8  # of mallopt(3)
LARGE_BYTES = 1 << 18  # of a frame of 320x280; 4.6 MB of noise with four times as much, 0.3 with this
WINDOW_BYTES = 32 << 20  # the most that glibc takes; a layer makes 33.2 MB of a frame of 1920x1080
SPARE_BYTES = 128 << 20  # free memory at the heap's end that it may keep: a layer's blocks of a 1080p frame
LARGE_PIXELS = 640 * 360  # pictures from here up: one window of theirs is 25 MB

_taken_over: list[bool] = []  # not empty once the process has put its allocator into our hands


def map_large_blocks() -> bool:
    """Take glibc's allocator over, and map blocks of LARGE_BYTES or more; False where it is not glibc."""
    if not _tell({M_MMAP_THRESHOLD: LARGE_BYTES, M_TRIM_THRESHOLD: LARGE_BYTES, M_ARENA_MAX: 1}):
        return False
    _taken_over.append(True)
    return True


def suit_pictures(pixels: int) -> bool:
    """Choose for pictures of so many pixels; False, and nothing, where the allocator was not taken over."""
    if not _taken_over:
        return False
    large = pixels >= LARGE_PIXELS
    mapped, spare = (WINDOW_BYTES, SPARE_BYTES) if large else (LARGE_BYTES, LARGE_BYTES)
    return _tell({M_MMAP_THRESHOLD: mapped, M_TRIM_THRESHOLD: spare})


def _tell(wishes: dict[int, int]) -> bool:
    """Pass wishes on to mallopt(3)."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return all([mallopt(name, value) for name, value in wishes.items()])
