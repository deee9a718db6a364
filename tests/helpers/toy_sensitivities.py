"""What the toy's channels weigh, known without measuring."""

from collections.abc import Iterator

import numpy as np
import pytest

from vidlatent.jobs.small import sensitivity


@pytest.fixture(scope="module", autouse=True)
def known_sensitivities() -> Iterator[None]:
    """The toy's channels weigh alike; to measure all 768 of them for every test would take seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sensitivity, "measure_sensitivities", lambda *_: np.full(768, 1 / 192))
        yield
