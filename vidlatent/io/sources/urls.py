"""Addresses of objects in stores, such as s3://bucket/a.mp4, and what may be said of them."""

import hashlib
import re
from dataclasses import dataclass, field
from os.path import commonpath
from pathlib import Path
from posixpath import join, normpath
from urllib.parse import parse_qsl, urlsplit, urlunsplit

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_BUCKETS = ("s3", "s3a", "gs", "gcs", "memory")  # whose keys may hold any sign, a question mark too
# What signed addresses are signed with. It changes from one signature to the next, and the object does not.
_SIGNATURES = re.compile(
    r"x-(amz|goog)-.*|awsaccesskeyid|googleaccessid|signature|expires|key-pair-id|policy"
    r"|s[veprt]|s[rtpi]|sig|sip|spr|sks|skt|ske|skv|skoid|sktid",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Address:
    """The address of a folder in a store. It may hold a secret, so its text is what may be shown of it."""

    url: str = field(repr=False)

    def __str__(self) -> str:
        return hide_secrets(self.url)

    @property
    def name(self) -> str:
        """The last part of it."""
        return str(self).rpartition("/")[2]


Root = Path | Address  # of a cache


def parse_root(text: str | Root) -> Root:
    """Where a cache lies, by the user's words: the address of a store, or else a path."""
    if isinstance(text, str) and is_url(text):
        return Address(text.rstrip("/"))
    return text if isinstance(text, Address) else Path(text)


def is_url(text: str) -> bool:
    """Whether this is the address of something in a store, and no path."""
    return _URL.match(text) is not None


def read_scheme(url: str) -> str:
    """The kind of store: `s3` of s3://bucket/a.mp4."""
    return url.partition("://")[0].lower()


def hide_secrets(url: str) -> str:
    """The address as it may be shown and kept: without user, password, signature, or the text of a query.

    Two queries stay two names: in place of what a query says stands a hash of it, signatures left out.
    """
    scheme, _, rest = url.partition("://")
    if scheme.lower() in _BUCKETS:
        host, slash, path = rest.partition("/")
        return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
    try:
        parts = urlsplit(url)
    except ValueError:  # such as http://[ : nobody can say which part of it is a secret
        return f"{scheme}://{_hash(rest)}"
    asked = [pair for pair in parse_qsl(parts.query, True) if not _SIGNATURES.fullmatch(pair[0])]
    query = _hash(repr(asked)) if asked else ""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:12]


def find_beside(url: str, relative: str) -> str:
    """The address of what a table at `url` names `relative` to itself."""
    scheme, _, rest = url.partition("://")
    place = rest if scheme.lower() in _BUCKETS else rest.partition("?")[0]
    host, _, path = place.partition("/")
    folder = path.rpartition("/")[0]
    return f"{scheme}://{host}/{normpath(join('/', folder, relative)).lstrip('/')}"


def find_common_folder(folders: list[str]) -> Path:
    """The folder that all of these lie in; of folders on a disk and in stores none that could be named."""
    on_disk = {name.startswith("/") for name in folders}
    return Path(commonpath(folders)) if len(on_disk) == 1 else Path("/")
