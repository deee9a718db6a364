"""Runs with nothing to do: they are told from a note of the run before, and load no model, nor torch.

A run after which nothing was left to do notes what it was asked for, word for word; what decides what these
words mean: the code, the machine, the weights; and the states of all sources and of the manifest, none of
which may have changed since. Then every row is looked at, and whether its entry is still there. What the note
does not answer the run finds out as ever.
"""

import json
import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from glob import glob
from hashlib import blake2b, sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vidlatent.durable import make_folder
from vidlatent.errors import VidlatentError
from vidlatent.file_state import AT_REST_S, FileState, State, read_state
from vidlatent.files import write_note
from vidlatent.io.sources.urls import Address, Root, is_url
from vidlatent.jobs.cache.fold import FOLDED
from vidlatent.jobs.cache.manifest import DONE, SKIPPED, Manifest
from vidlatent.jobs.cache.scan import scan
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.cache.tally import Tally
from vidlatent.jobs.reading.clip import Clip

_VERSION = 1
_COUNTS = ("clips", "reused", "skipped", "left_out")
# Which device and which weights a run has follows from these, beside its words.
_ENVIRONMENT = (
    *("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
    *("HF_HOME", "HF_HUB_CACHE", "VIDLATENT_WEIGHTS"),
)
_DEVICES = ("/dev/nvidia*", "/dev/kfd", "/dev/dxg", "/dev/dri/*")
_SCHEDULERS = ("SLURM_STEP_ID", "SLURM_STEPID", "SLURM_ARRAY_TASK_ID", "TORCHELASTIC_RUN_ID")
_ALWAYS_LOOKS = ("--rehash", "--retry-failed", "--steal", "--dry-run", "--engine")


@dataclass(frozen=True)
class Request:
    """What a run is asked for: its sources, which files are captions of theirs, and a name for all of it.

    The name is empty where it does not follow from the words alone what is to be done. `began` is unix time.
    """

    name: str
    sources: tuple[str, ...]
    captions: tuple[str, ...]
    began: float

    @classmethod
    def of(cls, words: Sequence[str], sources: Sequence[str], captions: tuple[str, ...]) -> "Request":
        """The request of a run that begins now with these words."""
        looks = any(word.partition("=")[0] in _ALWAYS_LOOKS for word in words)
        told = not (looks or any(map(is_url, sources)) or any(name in os.environ for name in _SCHEDULERS))
        said = json.dumps([_VERSION, list(words), os.getcwd(), _describe_code(), _describe_machine()])
        name = sha256(said.encode()).hexdigest()[:32] if told else ""
        return cls(name, tuple(sources), captions, time.time())

    def place_note(self, store: Store) -> Path:
        """The note of a run that was asked for the same, where the words mean the same."""
        return store.runs / f"{self.name}.json"


class SourceStates:
    """Puts the states of all sources together as they are found, which is before they are read."""

    def __init__(self) -> None:
        self._digest = blake2b(digest_size=16)
        self._ended = False
        self._certain = True

    def watch(self, clips: Iterable[Clip]) -> Iterator[Clip]:
        """The clips as they are."""
        for clip in clips:
            self._add(clip)
            yield clip
        self._ended = True

    @property
    def digest(self) -> str:
        """One name for all states; empty where some are not known, or may change without being told."""
        return self._digest.hexdigest() if self._ended and self._certain else ""

    def _add(self, clip: Clip) -> None:
        state = None if is_url(clip.name) else clip.source.state()
        if clip.is_readable and not _was_at_rest(state, time.time()):
            self._certain = False
        said = [clip.identity, dict(clip.facts), clip.error and clip.error.args, clip.is_readable, state]
        self._digest.update(repr(said).encode(errors="surrogateescape"))


def _was_at_rest(state: State, at: float) -> bool:
    """Whether a source, or a file, was known at that time, and had not been changed just before."""
    states = [each for _, each in state] if isinstance(state, tuple) else [state]
    known = [each for each in states if isinstance(each, FileState)]
    changes = [each.changed_s for each in known]
    return bool(known) and len(known) == len(states) and max(changes) + AT_REST_S <= at


def note_finished(root: Root, request: Request, weights: Path | None, tally: Tally) -> None:
    """Note that a run has left nothing to do, if that is so, and sure to be known again."""
    if isinstance(root, Address) or not (request.name and tally.sources) or tally.failed or tally.stopped:
        return
    states = _read_weights_states(weights)
    if not all(state is None or _was_at_rest(state, request.began) for state in states):
        return  # it may have been written while the run had what was there before
    store = Store(root)
    note = {
        "recipe": tally.recipe,
        "weights": str(weights.absolute()) if weights else "",
        "weights_states": list(map(_spell, states)),
        "sources": tally.sources,
        "manifest": _describe_manifest(store),
        "counts": {name: getattr(tally, name) for name in _COUNTS} | {"reused": tally.done + tally.reused},
    }
    with suppress(OSError, VidlatentError):  # without a note the next run looks at everything
        make_folder(store.runs)
        write_note(request.place_note(store), json.dumps(note))


def find_unchanged(root: Root, request: Request) -> Tally | None:
    """What a run comes to that has nothing to do; None where that is not known for certain.

    Of a cache in an object store it is not: what lies there would have to be asked for.
    """
    if isinstance(root, Address) or not request.name:
        return None
    store, tally = Store(root), Tally()
    if (note := _read(request.place_note(store))) is None:
        return None
    with suppress(OSError, VidlatentError, KeyError, TypeError, ValueError):  # the run says what is wrong
        if _is_as_noted(store, request, note, tally):
            for name in _COUNTS:
                setattr(tally, name, int(note["counts"][name]))
            return tally
    return None


def _read(path: Path) -> Mapping | None:
    try:
        note = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return note if isinstance(note, dict) else None


def _is_as_noted(store: Store, request: Request, note: Mapping, tally: Tally) -> bool:
    """Whether nothing has changed since, what is cheap to look at first; notices go into the tally."""
    weights = Path(note["weights"]) if note["weights"] else None
    return (
        list(map(_spell, _read_weights_states(weights))) == note["weights_states"]
        and _describe_manifest(store) == note["manifest"]
        and _find_sources(store.root, request, tally) == note["sources"]
        and _are_there(store, note["recipe"])
    )


def _find_sources(root: Path, request: Request, tally: Tally) -> str:
    """One name for all sources as they are now."""
    states = SourceStates()
    for _ in states.watch(scan(request.sources, root, request.captions, tell=tally.notices.append)):
        pass
    return states.digest


def _are_there(store: Store, recipe_id: str) -> bool:
    """Whether every clip of a recipe has its entry, or is known to have none."""
    with closing(Manifest(Store.open(store.root))) as manifest:
        return all(
            row.status == SKIPPED or (row.status == DONE and manifest.is_present(row))
            for row in manifest.rows()
            if row.recipe == recipe_id
        )


def _read_weights_states(weights: Path | None) -> list[State]:
    """The states of the file of weights, and of the config beside it."""
    return [read_state(path) for path in (weights, weights.with_name("config.json"))] if weights else []


def _describe_manifest(store: Store) -> list[object]:
    """What changes with every row that is written."""
    return [_spell(read_state(folder)) for folder in (store.manifest, store.manifest / FOLDED)]


def _describe_code() -> list[object]:
    """What changes with every release, and with every change of the code."""
    folders = (folder for folder, *_ in os.walk(Path(__file__).parents[2]))
    return [_spell(read_state(folder)) for folder in sorted(folders) if not folder.endswith("__pycache__")]


def _describe_machine() -> list[object]:
    """What decides on which device a model runs, and where its weights are."""
    devices = sorted(path for pattern in _DEVICES for path in glob(pattern))
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = ""
    return [socket.gethostname(), torch, devices, [os.environ.get(name) for name in _ENVIRONMENT]]


def _spell(state: State) -> object:
    """A state as JSON gives it back."""
    if isinstance(state, tuple):
        return [[name, _spell(each)] for name, each in state]
    return list(asdict(state).values()) if isinstance(state, FileState) else None
