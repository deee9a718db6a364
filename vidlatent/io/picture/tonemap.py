"""HDR to SDR on request: code values of PQ or HLG in BT.2020 become BT.709 ones for an ordinary screen.

PQ is decoded by SMPTE ST 2084; HLG by Rec. ITU-R BT.2100 for a display of 1000 cd/m² (system gamma 1.2). The
brightest of R, G, B is brought into range by the EETF of Report ITU-R BT.2390 (untouched below its knee),
from 1000 cd/m² to 203, the diffuse white of BT.2408, and the three keep their ratio. Then BT.2020 primaries
become BT.709's, what lies outside is clipped, and light is coded for the 2.4 gamma of BT.1886.
"""

from functools import cache

import numpy as np

from vidlatent.io.picture.colour import Colour

PEAK_NITS = 1000.0
WHITE_NITS = 203.0
SDR = Colour("bt709", "tv", "bt709", "bt709")
_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_HLG_A, _HLG_B, _HLG_C = 0.17883277, 0.28466892, 0.55991073
_LUMA_2020 = np.array([0.2627, 0.6780, 0.0593], np.float32)
_TO_709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)  # BT.2087


def tonemap(rgb: np.ndarray, transfer: str) -> np.ndarray:
    """Coded BT.2020 RGB [H, W, 3] uint16 → coded BT.709 RGB of the same shape and type."""
    nits = _light(transfer)[rgb]
    if transfer == "arib-std-b67":
        scene = nits @ _LUMA_2020 / PEAK_NITS
        nits *= np.maximum(scene, 1e-6)[..., None] ** 0.2  # the system gamma
    brightest = nits.max(-1)
    gain = eetf(brightest) / np.maximum(brightest, 1e-6)
    shown = (nits * (gain / WHITE_NITS)[..., None]) @ _TO_709.T
    return np.round(shown.clip(0, 1) ** (1 / 2.4) * 65535).astype(np.uint16)


def eetf(nits: np.ndarray) -> np.ndarray:
    """Light up to PEAK_NITS → light up to WHITE_NITS (BT.2390, section 5.4.1, no black lift)."""
    top = to_pq(PEAK_NITS)
    limit = to_pq(WHITE_NITS) / top
    knee = 1.5 * limit - 0.5
    level = np.minimum(to_pq(nits) / top, 1)
    t = (level - knee) / (1 - knee)
    spline = (
        (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * limit
    )
    return from_pq(np.where(level < knee, level, spline) * top)


def to_pq(nits: np.ndarray | float) -> np.ndarray:
    """Light in cd/m² → PQ signal in [0, 1]."""
    power = (np.maximum(nits, 0) / 10_000) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def from_pq(signal: np.ndarray) -> np.ndarray:
    """PQ signal in [0, 1] → light in cd/m²."""
    root = signal ** (1 / _M2)
    return 10_000 * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)


def from_hlg(signal: np.ndarray) -> np.ndarray:
    """HLG signal in [0, 1] → scene light in [0, 1]."""
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - _HLG_C) / _HLG_A) + _HLG_B) / 12)


@cache
def _light(transfer: str) -> np.ndarray:
    """cd/m² (for HLG before its system gamma) of each of the 65536 code values."""
    signal = np.linspace(0, 1, 65536)
    light = from_pq(signal) if transfer == "smpte2084" else from_hlg(signal) * PEAK_NITS
    return light.astype(np.float32)
