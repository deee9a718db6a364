"""Where things lie in the checkout, and beside it."""

from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
MEDIA = TESTS / "media"
GOLDEN = TESTS / "golden"
SAMPLE = ROOT / "assets" / "sample.mp4"
SHARED = ROOT.parent / "shared"
