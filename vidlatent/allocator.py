"""The C library's allocator, told to give large blocks back.

glibc raises the size from which blocks are mapped on their own each time one is freed, up to 32 MB.
Windows of a clip then come from a heap that fragments, and memory creeps up with the clip's length
although nothing is held. A fixed size keeps it flat; fresh pages cost little beside a convolution.
"""

import ctypes
import sys

M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -3, -1  # of mallopt(3)
LARGE_BYTES = 1 << 20


def map_large_blocks() -> bool:
    """Ask glibc to map every block of a megabyte or more on its own; False where there is no glibc."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGE_BYTES) and mallopt(M_TRIM_THRESHOLD, LARGE_BYTES))
