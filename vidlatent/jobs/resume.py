"""Going on with what a killed run has left: by which facts that may be, and where to enter the clip again.

No state of a network is kept. The clip is entered as far before as the network sees, what comes out twice is
compared with what is there, and the rest is what an undisturbed run gives. See `io/journal.py` for the
record.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from vidlatent.engine.access import Access
from vidlatent.engine.model import Model
from vidlatent.errors import UsageError, parameter
from vidlatent.file_state import FileState, read_state
from vidlatent.io.journal import Making
from vidlatent.io.latent.writer import LatentWriter

OTHERS = "begun again: what an earlier run has written is not what is made now"


@dataclass(frozen=True)
class Entry:
    """Where a clip is entered: the network begins at latent `begin`, what it gives counts from `sure` on."""

    begin: int = 0
    sure: int = 0


BEGINNING = Entry()


def describe_making(
    source: Path | str, recipe: dict[str, object], model: Model, resume: bool
) -> Making | None:
    """How something is made of `source` by `recipe` and a model; None where it can be read only once."""
    state = describe_state(Path(source))
    if state is None:
        if resume:
            raise UsageError(
                f"{source}: can be read only once, so nothing is left to go on with",
                f"leave {parameter('resume')} out, or put it into a file first",
            )
        return None
    device = model.runtime.device
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return Making(
        {"source": state, "recipe": {**recipe, "torch": torch.__version__, "device": where}}, resume
    )


def endless(model: Model) -> str:
    """What is said where nothing can be gone on with, because a network sees all of a clip."""
    return f"begun again: what {model.spec.name} sees of a clip has no end"


def describe_state(source: Path) -> dict[str, object] | None:
    """What changes when a file, or what is in a folder, is written again; None for what is neither.

    A copy that keeps the time of change is as good as the file itself.
    """
    if not (source.is_file() or source.is_dir()):
        return None
    state = read_state(source)
    if isinstance(state, FileState):
        return {"size": state.size, "modified": state.mtime_ns}
    files = repr([(name, file.size, file.mtime_ns) for name, file in state or ()])
    return {"files": hashlib.sha256(files.encode("utf-8", "surrogateescape")).hexdigest()}


def find_entry(writer: LatentWriter, access: Access, model: Model) -> tuple[Entry, tuple[str, ...]]:
    """Where to enter a clip of which `writer` has the first latents, and what is to be said of it."""
    if writer.why_not:
        return BEGINNING, (f"begun again: {writer.why_not}",)
    if not writer.frames:
        return BEGINNING, ()
    if not access.is_anywhere:
        writer.restart()
        return BEGINNING, (endless(model),)
    sure = writer.align(max(0, writer.frames - access.step))
    latents = f"{writer.frames} latents of an earlier run are kept"
    return Entry(access.begin(sure, writer.frames), sure), (latents,)
