"""HDR becomes SDR only on request, by a stated curve."""

import numpy as np
import pytest
from helpers.paths import MEDIA

from vidlatent.io.picture.tonemap import PEAK_NITS, SDR, WHITE_NITS, eetf, from_pq, to_pq, tonemap
from vidlatent.io.read.source import ReadOptions, open_video

HLG = MEDIA / "ax_hlg10.mp4"
LEVEL = 1 / 255


def grey(nits: float) -> np.ndarray:
    return np.full((1, 1, 3), round(float(to_pq(nits)) * 65535), np.uint16)


def test_pq_is_its_own_inverse_and_has_the_known_points():
    nits = np.array([0, 0.1, 1, 100, 203, 1000, 10_000])
    assert from_pq(to_pq(nits)) == pytest.approx(nits, rel=1e-9, abs=1e-9)
    assert to_pq(100.0) == pytest.approx(0.508, abs=5e-4) and to_pq(203.0) == pytest.approx(0.5807, abs=5e-4)


def test_the_curve_leaves_the_dark_alone_rises_and_ends_at_white():
    nits = np.linspace(0.01, PEAK_NITS, 2000)
    shown = eetf(nits)
    assert np.allclose(shown[nits < 50], nits[nits < 50], rtol=1e-6)
    assert (np.diff(shown) > 0).all() and shown[-1] == pytest.approx(WHITE_NITS)


@pytest.mark.parametrize("nits", [1, 20, 60])
def test_dark_greys_keep_their_light(nits):
    shown = (tonemap(grey(nits), "smpte2084") / 65535) ** 2.4 * WHITE_NITS
    assert shown == pytest.approx(nits, rel=0.01)


def test_grey_stays_grey():
    out = tonemap(grey(400), "smpte2084").astype(int)
    assert np.ptp(out) <= LEVEL * 65535


def test_peak_is_white_and_black_is_black():
    assert tonemap(grey(PEAK_NITS), "smpte2084").min() > 65_000
    assert tonemap(grey(0), "smpte2084").max() == 0


def test_hlg_diffuse_white_is_near_203_nits():
    """BT.2408: 75 % HLG is 203 cd/m² on a display of 1000."""
    signal = np.full((1, 1, 3), round(0.75 * 65535), np.uint16)
    expected = (eetf(np.array(203.0)) / WHITE_NITS) ** (1 / 2.4)
    assert tonemap(signal, "arib-std-b67") / 65535 == pytest.approx(expected, abs=2 * LEVEL)


def test_it_happens_only_on_request_and_is_said():
    with open_video(HLG) as video:
        plain = next(video.frames()).rgb
        assert video.info.colour.transfer == "arib-std-b67"
    with open_video(HLG, ReadOptions(tonemap=True)) as video:
        mapped = next(video.frames()).rgb
        assert video.info.colour == SDR
        assert any("tone-mapped" in notice for notice in video.notices)
    assert not np.array_equal(plain, mapped)
