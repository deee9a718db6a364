"""Published weights by name: fetched once, from one revision, and the same bytes ever after.

What `published.py` knows of a file is demanded. The first download records the commit and the sha256 of
weights and config here; later calls ask for that commit and refuse other bytes, also where nothing was known
before. Transfers, their resumption, mirrors and offline mode are huggingface_hub's.
"""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from vidlatent.errors import BadWeights
from vidlatent.files import replace_on_close, sha256_file
from vidlatent.models.base import Hub

_SHA256 = re.compile("[0-9a-f]{64}")
_COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class Remote:
    """What is known of a file before it is fetched."""

    bytes: int | None
    revision: str  # commit
    cached: bool


@dataclass(frozen=True)
class Pin:
    """What the first download of a model turned out to be."""

    revision: str
    sha256: str  # of the weights
    config_sha256: str | None = None  # None: there is none, or an older vidlatent did not record it

    @classmethod
    def of(cls, found: object) -> "Pin":
        """From JSON; raises ValueError where it is no record of a download."""
        if not isinstance(found, dict):
            raise ValueError("not an object")
        pin = cls(*(found.get(name) for name in ("revision", "sha256", "config_sha256")))
        for name, value, rule in (
            ("revision", pin.revision, _COMMIT),
            ("sha256", pin.sha256, _SHA256),
            ("config_sha256", pin.config_sha256 or "0" * 64, _SHA256),
        ):
            if not isinstance(value, str) or not rule.fullmatch(value):
                raise ValueError(f"{name}: expected hexadecimal digits")
        return pin


@dataclass(frozen=True)
class Fetched:
    """A model's files on this disk, and what its weights must hash to."""

    weights: Path
    config: Path | None
    sha256: str


def look(hub: Hub) -> Remote:
    """Size and revision of a model's weights, and whether they are here, without fetching them."""
    from huggingface_hub import hf_hub_download

    with naming_hub_errors(hub):
        found = hf_hub_download(
            hub.repo, hub.file, revision=_revision(hub), dry_run=True, local_files_only=is_unreachable()
        )
    return Remote(found.file_size, found.commit_hash, found.is_cached)


def is_unreachable() -> bool:
    """Whether the name of the hub leads nowhere, as without a network; through a proxy nobody can tell.

    The client library would try for half a minute, and print each attempt.
    """
    from huggingface_hub import constants

    if getproxies():
        return False
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, None)
    except OSError:
        return True
    return False


def fetch(hub: Hub) -> Fetched:
    """Weights and config from the hub, or from the cache; raises BadWeights unless they are as pinned."""
    from huggingface_hub import hf_hub_download

    revision = look(hub).revision
    with naming_hub_errors(hub):
        asked = {"revision": revision, "local_files_only": is_unreachable()}
        config = hub.config and Path(hf_hub_download(hub.repo, hub.config, **asked))
        weights = Path(hf_hub_download(hub.repo, hub.file, **asked))
    pin = read_pin(hub)
    known = pin if pin is not None and pin.revision == revision else None
    config_sha256 = config and checked(
        f"{hub.repo}/{hub.config}", config, hub.config_sha256 or (known and known.config_sha256)
    )
    if known is None:
        known = Pin(revision, checked(f"{hub.repo}/{hub.file}", weights, hub.sha256), config_sha256)
    known = replace(known, config_sha256=config_sha256)
    if known != pin:
        write_pin(hub, known)
    return Fetched(weights, config, hub.sha256 or known.sha256)


def describe_trust(hub: Hub) -> str:
    """Why the bytes that come from the hub will be believed, in a sentence."""
    fixed = _COMMIT.fullmatch(hub.revision)
    commit = f"commit {hub.revision[:12]}" if fixed else f"{hub.revision} as it is now"
    if hub.sha256:
        config = "" if hub.config_sha256 or not hub.config else "; of its config, what the hub gives first"
        return f"{commit}, sha256 {hub.sha256}, both known to vidlatent{config}"
    pin = read_pin(hub)
    if pin:
        return f"commit {pin.revision[:12]}, sha256 {pin.sha256}, as the first download here recorded"
    return f"{commit}; vidlatent knows no sha256 of it: what the hub gives first is believed, and recorded"


def here(hub: Hub) -> bool:
    """Whether a model's weights were fetched, and still lie in the cache."""
    from huggingface_hub import try_to_load_from_cache

    pin = read_pin(hub)
    return pin is not None and isinstance(
        try_to_load_from_cache(hub.repo, hub.file, revision=pin.revision), str
    )


def checked(name: str, file: Path, known: str | None) -> str:
    """The sha256 of a file from the hub; raises BadWeights, and forgets it, if the hub or we expect another.

    `name` is the file's on the hub, `known` what it must hash to, where that is known.
    """
    blob = file.resolve()
    promised = blob.name if _SHA256.fullmatch(blob.name) else None  # large files are stored by their hash
    expected, got = known or promised, sha256_file(file)
    if expected not in (None, got):
        file.unlink()
        blob.unlink(missing_ok=True)
        raise BadWeights(
            f"{name}: sha256 {got}, expected {expected}",
            "the download was removed; fetch it again, and distrust its source if this repeats",
        )
    return got


def read_pin(hub: Hub) -> Pin | None:
    """What an earlier download recorded; raises BadWeights where the record is damaged."""
    path = _pin_path(hub)
    try:
        return Pin.of(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as e:
        raise BadWeights(
            f"{path}: a damaged record of what was downloaded ({str(e) or type(e).__name__})",
            "remove it, and the next `vidlatent models pull` will check and record the files anew",
        ) from e


def write_pin(hub: Hub, pin: Pin) -> None:
    """Record a download."""
    path = _pin_path(hub)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_on_close(path) as partial:
        partial.write_text(json.dumps(asdict(pin)))


@contextmanager
def naming_hub_errors(hub: Hub) -> Iterator[None]:
    """Turn what goes wrong on the way to the hub into errors that name the file and what to do."""
    from huggingface_hub import errors

    where = f"{hub.repo}/{hub.file}"
    own = f"download {hub.file} by hand, and name its folder instead of the model"
    try:
        yield
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError) as e:
        if isinstance(e, errors.LocalEntryNotFoundError):
            raise BadWeights(
                f"{where}: not here, and the hub cannot be reached", f"go online, or {own}"
            ) from e
        raise BadWeights(
            f"{where}: not on the hub, or not for everyone", f"log in to the hub, or {own}"
        ) from e
    except (OSError, errors.HTTPError) as e:
        reason = str(e).strip().splitlines()[0] if str(e) else type(e).__name__
        raise BadWeights(f"{where}: fetching failed ({reason})", f"try again, or {own}") from e


def _revision(hub: Hub) -> str:
    if _COMMIT.fullmatch(hub.revision):
        return hub.revision
    pin = read_pin(hub)
    return pin.revision if pin else hub.revision


def _pin_path(hub: Hub) -> Path:
    from huggingface_hub import constants

    name = f"{hub.repo}/{hub.file}@{hub.revision}".replace("/", "--")
    return Path(constants.HF_ASSETS_CACHE) / "vidlatent" / "pins" / f"{name}.json"
