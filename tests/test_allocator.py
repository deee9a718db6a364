"""Large blocks: told once for the process, then for each clip's pictures."""

import subprocess
import sys

import pytest

SCRIPT = """
from vidlatent.allocator import map_large_blocks, suit_pictures
print(suit_pictures(1920 * 1080), map_large_blocks(), suit_pictures(1920 * 1080), suit_pictures(160 * 160))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tells glibc")
def test_pictures_change_only_an_allocator_that_was_taken_over():
    said = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["False", "True", "True", "True"]


TIGHT = """
from vidlatent import allocator
calls = []
allocator._set_options = lambda options: calls.append(options[allocator.M_MMAP_THRESHOLD]) or True
allocator.map_large_blocks(), allocator.suit_pictures(1920 * 1080)
allocator.hold_tight(), allocator.suit_pictures(1920 * 1080)
print([size >> 18 for size in calls])
"""


def test_a_process_that_holds_tight_keeps_no_free_blocks_for_large_pictures():
    said = subprocess.run([sys.executable, "-c", TIGHT], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[1, 128, 1, 1]"
