"""The C library's allocator, told to give large blocks back.

glibc raises the size from which blocks are mapped on their own each time one is freed, up to 32 MB.
Windows of a clip then come from a heap that fragments, and memory creeps up with the clip's length
although nothing is held. A fixed size keeps it flat, if frames are above it as well as windows: what stays
on the heap is small change. Fresh pages cost little beside a convolution.
One heap for all threads, too: frames are made in one thread and freed in another.
"""

import ctypes
import sys

M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_ARENA_MAX = -3, -1, -8  # of mallopt(3)
LARGE_BYTES = 1 << 18  # of a frame of 320x280; 4.6 MB of noise with four times as much, 0.3 with this


def map_large_blocks() -> bool:
    """Ask glibc to map every block of LARGE_BYTES or more on its own; False where there is no glibc."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    wishes = {M_MMAP_THRESHOLD: LARGE_BYTES, M_TRIM_THRESHOLD: LARGE_BYTES, M_ARENA_MAX: 1}
    return all([mallopt(name, value) for name, value in wishes.items()])
