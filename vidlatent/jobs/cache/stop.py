"""Being asked to stop: SIGTERM, and SIGUSR1 as batch systems send it ahead of time, finish the clip first."""

import signal
import threading
from types import FrameType
from typing import Self

_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]


class Stop:
    """Listens while the block runs; a second signal does what it did before. Deaf outside the main thread."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._hear) for number in _SIGNALS}
        return self

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def __exit__(self, *_: object) -> None:
        self._restore()
