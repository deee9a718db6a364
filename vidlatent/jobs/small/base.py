"""How near a clip's pictures come to its source: kept in its file, for packing without the source."""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from vidlatent.io.latent import strict_json as js
from vidlatent.jobs.small.errors import Errors

DECODED_PSNR = "decoded_psnr"  # in a header: what was measured when the clip was encoded


def describe_base(spans: Sequence[tuple[int, int]], base: Errors) -> dict[str, str]:
    """What the header says of the errors of decoded frames: which frames [first, last), and PSNR of each."""
    decibels = [round(float(psnr), 4) for psnr in -10 * np.log10(base.each)]
    return {DECODED_PSNR: js.dump({"frames": [list(span) for span in spans], "db": decibels})}


def read_base(extra: Mapping[str, str], spans: Sequence[tuple[int, int]]) -> Errors | None:
    """The errors that a header keeps of these frames; None where it says nothing of just them."""
    try:
        told = json.loads(extra.get(DECODED_PSNR, "{}"))
        frames, decibels = told["frames"], np.array(told["db"], np.float64)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    count = sum(last - first for first, last in spans)
    good = decibels.shape == (count,) and np.all(np.isfinite(decibels) & (np.abs(decibels) < 1000))
    if frames != [list(span) for span in spans] or not good:
        return None
    return Errors(10 ** (-decibels / 10))
