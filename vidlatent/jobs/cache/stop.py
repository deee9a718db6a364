"""Requests to stop: SIGTERM, SIGUSR1, which batch systems send ahead of it, and SIGHUP of a closed terminal.

A clip is finished first.
"""

import signal
import threading
from types import FrameType
from typing import Self

_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name)]


class StopSignals:
    """Listens for a request to stop while the block runs.

    A second signal does what it did before. Outside the main thread nothing can be heard, and nothing is.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            heard = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]  # nohup
            self._before = {number: signal.signal(number, self._take_note) for number in heard}
        return self

    def _take_note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def __exit__(self, *_: object) -> None:
        self._restore()
