"""Published weights by name: fetched once, from one revision, and the same bytes ever after.

The first download of a file records its commit and sha256 here; later calls ask for that commit and
refuse other bytes. Transfers, their resumption, mirrors and offline mode are huggingface_hub's.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from vidlatent.errors import BadWeights
from vidlatent.files import replace_on_close, sha256_file
from vidlatent.models.base import Hub

_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Remote:
    """What is known of a file before it is fetched."""

    bytes: int | None
    revision: str  # commit
    cached: bool


@dataclass(frozen=True)
class Pin:
    """What the first download of a file turned out to be."""

    revision: str
    sha256: str


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
        found = hf_hub_download(hub.repo, hub.file, revision=_revision(hub), dry_run=True)
    return Remote(found.file_size, found.commit_hash, found.is_cached)


def fetch(hub: Hub) -> Fetched:
    """Weights and config from the hub, or from the cache; raises BadWeights unless they are as pinned."""
    from huggingface_hub import hf_hub_download

    revision = look(hub).revision
    with naming_hub_errors(hub):
        config = hub.config and Path(hf_hub_download(hub.repo, hub.config, revision=revision))
        weights = Path(hf_hub_download(hub.repo, hub.file, revision=revision))
    pin = read_pin(hub)
    if pin is None or pin.revision != revision:
        pin = Pin(revision, checked(hub, weights))
        write_pin(hub, pin)
    return Fetched(weights, config, pin.sha256)


def here(hub: Hub) -> bool:
    """Whether a model's weights were fetched, and still lie in the cache."""
    from huggingface_hub import try_to_load_from_cache

    pin = read_pin(hub)
    return pin is not None and isinstance(
        try_to_load_from_cache(hub.repo, hub.file, revision=pin.revision), str
    )


def checked(hub: Hub, weights: Path) -> str:
    """The sha256 of fresh weights; raises BadWeights, and forgets them, if the hub or we expect another."""
    blob = weights.resolve()
    promised = blob.name if _SHA256.fullmatch(blob.name) else None  # large files are stored by their hash
    expected, got = hub.sha256 or promised, sha256_file(weights)
    if expected not in (None, got):
        weights.unlink()
        blob.unlink(missing_ok=True)
        raise BadWeights(
            f"{hub.repo}/{hub.file}: sha256 {got}, expected {expected}",
            "the download was removed; fetch it again, and distrust its source if this repeats",
        )
    return got


def read_pin(hub: Hub) -> Pin | None:
    """What an earlier download recorded."""
    path = _pin_path(hub)
    return Pin(**json.loads(path.read_text())) if path.is_file() else None


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
    pin = read_pin(hub)
    return pin.revision if pin else hub.revision


def _pin_path(hub: Hub) -> Path:
    from huggingface_hub import constants

    name = f"{hub.repo}/{hub.file}@{hub.revision}".replace("/", "--")
    return Path(constants.HF_ASSETS_CACHE) / "vidlatent" / "pins" / f"{name}.json"
