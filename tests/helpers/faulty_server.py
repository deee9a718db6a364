"""A web server on this machine that goes wrong as told: it fails, hangs, or sends less than it promised."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HANG_S = 6.0


class FaultyServer(ThreadingHTTPServer):
    """Serves `files` by their paths. The `faults` of a file befall the first requests for it, one each."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[str]] = {}
        self.asked: Counter[tuple[str, str]] = Counter()  # method and path

    def address(self, path: str, user: str = "") -> str:
        """The address of a file, for a user where one is named."""
        return f"http://{user}{'@' if user else ''}127.0.0.1:{self.server_port}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: FaultyServer

    def do_HEAD(self) -> None:
        self._answer(whole=False)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        waiting = self.server.faults.get(path, [])
        self._answer(whole=True, fault=waiting.pop(0) if waiting else "")

    def _answer(self, whole: bool, fault: str = "") -> None:
        path = self.path.partition("?")[0]
        self.server.asked[self.command, path] += 1
        if path not in self.server.files or fault.isdecimal():
            self.send_error(int(fault or 404))
            return
        if fault == "hang":
            time.sleep(HANG_S)
        data = self.server.files[path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hash(data)}"')
        self.end_headers()
        if whole and fault not in ("hang", "reset"):
            self.wfile.write(data[: len(data) // 2] if fault == "short" else data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serve() -> Iterator[FaultyServer]:
    """A server while the block runs."""
    with FaultyServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
