"""Claims in an object store: objects that are put only where there is none yet.

A store drops nothing with a process, so whoever holds a claim puts it again now and then. One that has not
been put for two minutes, by the clock of the store, was left by a process that is gone, and is taken over.
Should two processes come to hold one claim after all, because one of them stood still for so long, both make
the same bytes.

Not every store has conditional puts, and some say so and overwrite all the same. It is found out by trying;
where there are none everybody gets every claim.
"""

import secrets
import threading
import time
from contextlib import suppress
from functools import cached_property
from typing import Self

from vidlatent.errors import BadInput, VidlatentError
from vidlatent.io.sources.stores import never, read_modified, read_object
from vidlatent.io.sources.writing import put_bytes, put_new, remove_object
from vidlatent.jobs.cache.claims import name_holder

BEAT_S = 30.0  # after which a claim is put again
LEFT_S = 120.0  # after which one that was not put again is taken over
_MOST_BYTES = 1000  # of the text of a claim


class Lease:
    """The right to do something alone, until it is released. A context manager, which releases it."""

    def __init__(self, keeper: "Leases", url: str) -> None:
        self._keeper, self.url = keeper, url

    def release(self) -> None:
        """Give the claim up, and remove its object."""
        self._keeper.drop(self)

    close = release

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Leases:
    """The claims of one process in the folder of a store at `url`; a thread keeps up those that it holds."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._me = name_holder()
        self._held: set[Lease] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @cached_property
    def _clock(self) -> float | None:
        """What is to be added to our clock to have the store's; None where it has no conditional puts.

        Of two puts of one new object the second must fail.
        """
        url = f"{self._url}/trial-{secrets.token_hex(8)}"
        try:
            first, second = put_new(url, b"1"), put_new(url, b"2")
            put = read_modified(url)
            return put - time.monotonic() if first and not second and put is not None else None
        finally:
            remove_object(url)

    @property
    def work(self) -> bool:
        """Whether a claim keeps others away."""
        return self._clock is not None

    def take(self, name: str) -> Lease | None:
        """The claim of this name; None while another process (or another claim of this one) holds it."""
        url = f"{self._url}/{name}"
        if self.work and not self._put(url):
            if not self._is_left(url):
                return None
            remove_object(url)
            if not self._put(url):
                return None
        lease = Lease(self, url)
        with self._lock:
            self._held.add(lease)
            if self._thread is None and self.work:
                self._thread = threading.Thread(target=self._keep_up, name="vidlatent-claims", daemon=True)
                self._thread.start()
        return lease

    def _put(self, url: str) -> bool:
        return put_new(url, self._make_text())

    def _make_text(self) -> bytes:
        """Who holds a claim, and what no other text has: so a put whose answer was lost is known as ours."""
        return f"{self._me}\n{secrets.token_hex(16)}\n".encode()

    def _is_left(self, url: str) -> bool:
        """Whether a claim was left by a process that is gone."""
        put = read_modified(url)
        return put is not None and time.monotonic() + (self._clock or 0.0) - put >= LEFT_S

    def read_holder(self, name: str) -> str:
        """Who holds a claim, for those who wait for it: a process and its machine."""
        told = _read(f"{self._url}/{name}").decode(errors="replace")
        return told.partition("\n")[0][:200].strip() or "another process"

    def drop(self, lease: Lease) -> None:
        """Give a claim up."""
        with self._lock:  # so that it is not put again afterwards
            if lease in self._held:
                self._held.remove(lease)
                if self.work:
                    with suppress(VidlatentError):  # it will be found to be left
                        remove_object(lease.url)

    def _keep_up(self) -> None:
        while True:
            time.sleep(BEAT_S)
            with self._lock:
                held = list(self._held)
            for lease in held:
                with self._lock, suppress(VidlatentError):  # the next beat may come through
                    if lease in self._held:
                        put_bytes(lease.url, self._make_text())


def _read(url: str) -> bytes:
    """The text of a claim; nothing where it is gone, or cannot be read now."""
    with suppress(BadInput):
        return read_object(url, _MOST_BYTES, never)
    return b""
