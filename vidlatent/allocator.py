"""Settings of the C library's allocator, so that memory stays flat however long a clip is.

By itself glibc raises the size from which a block is mapped on its own, up to 32 MB, each time such a block
is freed. Windows of a clip then come from a heap that fragments, and memory grows with the clip's length
although nothing is held. A fixed size keeps it flat, if frames are above it as well as windows: only small
blocks stay on the heap. There is one heap for all threads, too, because frames are allocated in one thread
and freed in another.

But a mapped block has fresh pages, and where pictures are large those cost a light network a third of its
time. There the blocks that layers make of one frame, or of a group of four, stay on the heap, which keeps
some of what is free; only windows of the largest pictures are mapped. The holes in that heap add up to half
of what the clip needs at most, and do not grow with its length.

The command line calls `map_large_blocks` when it starts; the engine calls `suit_pictures` for each clip, and
`hold_tight` where a limit on memory leaves no room for holes. A program that only imports vidlatent, and sets
no such limit, keeps the allocator it has.
"""

import ctypes
import mmap
import sys

M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_ARENA_MAX = -3, -1, -8  # of mallopt(3)
LARGE_BYTES = 1 << 18  # of a frame of 320x280; 4.6 MB of noise with four times as much, 0.3 with this
WINDOW_BYTES = 32 << 20  # the most that glibc takes; a layer makes 33.2 MB of a frame of 1920x1080
SPARE_BYTES = 128 << 20  # free memory at the heap's end that it may keep: a layer's blocks of a 1080p frame
LARGE_PIXELS = 640 * 360  # pictures from here up: one window of theirs is 25 MB

_taken_over: list[bool] = []  # not empty once map_large_blocks has changed this process's allocator
_tight: list[bool] = []  # not empty once memory is more precious than time


def map_large_blocks() -> bool:
    """Set glibc's allocator to map blocks of LARGE_BYTES or more; False where the C library is not glibc."""
    if not _set_options({M_MMAP_THRESHOLD: LARGE_BYTES, M_TRIM_THRESHOLD: LARGE_BYTES, M_ARENA_MAX: 1}):
        return False
    _taken_over.append(True)
    return True


def hold_tight() -> bool:
    """Map large blocks from here on, however large pictures are, as a limit on memory demands.

    Returns False where the C library is not glibc.
    """
    _tight.append(True)
    return map_large_blocks()


def suit_pictures(pixels: int) -> bool:
    """Choose the settings for pictures of `pixels` pixels.

    Does nothing and returns False where `map_large_blocks` was not called.
    """
    if not _taken_over:
        return False
    large = pixels >= LARGE_PIXELS and not _tight
    mapped, spare = (WINDOW_BYTES, SPARE_BYTES) if large else (LARGE_BYTES, LARGE_BYTES)
    return _set_options({M_MMAP_THRESHOLD: mapped, M_TRIM_THRESHOLD: spare})


def drop_pages(address: int, nbytes: int) -> None:
    """Let go of whole pages that are mapped from a file and unchanged; a later access reads them again."""
    if not sys.platform.startswith("linux"):
        return
    first = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
    length = (address + nbytes - first) // mmap.PAGESIZE * mmap.PAGESIZE
    if length > 0:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(length), mmap.MADV_DONTNEED)


def _set_options(options: dict[int, int]) -> bool:
    """Pass options to mallopt(3); whether it took all of them."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return all([mallopt(name, value) for name, value in options.items()])
