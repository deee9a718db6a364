"""A server on this machine that speaks S3's protocol, and that goes wrong as told.

It needs `pip install s3fs 'moto[s3]' flask flask-cors`. They are not among what tests install: botocore wants
an older python-dateutil than the one in constraints.txt.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Lock

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>"


class Faulty:
    """The server, but for what befalls requests.

    `faults` befall the first requests for the bytes of an object, by its name. Of `every` so
    many requests of any kind one goes wrong: it is refused, served without an answer, or torn.
    """

    def __init__(self, served: Callable) -> None:
        self._served = served
        self.faults: dict[str, list[str]] = {}
        self.asked: list[str] = []  # objects whose bytes were asked for
        self.every = 0
        self.kinds: Counter[str] = Counter()  # requests by their methods
        self.befell: Counter[str] = Counter()
        self._lock = Lock()

    def __call__(self, environ: dict, start: Callable) -> list[bytes]:
        method, name = environ["REQUEST_METHOD"], environ["PATH_INFO"].rpartition("/")[2]
        fault = self._choose(method, name)
        self.befell[fault] += 1
        if fault == "503":
            return refuse(start)
        if fault == "hang":
            time.sleep(1)
        if fault == "deaf":
            b"".join(self._served(environ, lambda *_: None))
            return refuse(start)
        body = b"".join(self._served(environ, start))
        return [body[: len(body) // 2] if fault == "short" else body]

    def _choose(self, method: str, name: str) -> str:
        with self._lock:
            self.kinds[method] += 1
            if method == "GET" and name:
                self.asked.append(name)
                if waiting := self.faults.get(name, []):
                    return waiting.pop(0)
            count = self.kinds.total()
            if not self.every or count % self.every:
                return ""
            kinds = ("503", "short") if method == "GET" else ("503", "deaf")
            return kinds[count // self.every % 2]


def refuse(start: Callable) -> list[bytes]:
    """The answer of a server that has too much to do."""
    start("503 Slow Down", [("Content-Type", "application/xml"), ("Content-Length", str(len(SLOW_DOWN)))])
    return [SLOW_DOWN]


@contextmanager
def serve_s3(bucket: str) -> Iterator[tuple[Faulty, str]]:
    """The server, and its address, while the block runs; there is one bucket."""
    import s3fs
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    faulty = Faulty(DomainDispatcherApplication(create_backend_app))
    running = make_server("127.0.0.1", 0, faulty, threaded=True)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{running.server_port}"
    s3fs.S3FileSystem.clear_instance_cache()
    fs = s3fs.S3FileSystem(endpoint_url=address, key="key", secret="S3CRET", use_listings_cache=False)
    with suppress(FileNotFoundError):  # the server keeps it from test to test
        fs.rm(bucket, recursive=True)
    fs.mkdir(bucket)
    yield faulty, address
    s3fs.S3FileSystem.clear_instance_cache()
    running.shutdown()
    thread.join()
