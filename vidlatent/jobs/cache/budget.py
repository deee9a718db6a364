"""`--max-memory` of a cache run: how many bytes frames may wait in, and which clips are too large to try."""

from dataclasses import dataclass
from math import isinf

from vidlatent.engine.demand import Workload
from vidlatent.engine.host_memory import resident_bytes
from vidlatent.engine.memory import needed_bytes
from vidlatent.engine.model import Model
from vidlatent.errors import BadInput, OutOfResources, parameter
from vidlatent.windows import Plan

QUEUE_BYTES = 512 << 20  # where nobody sets a limit: 430 frames of 480p
QUEUE_SHARE = 4  # one part in so many of what a limit leaves goes to waiting frames
READER_BYTES = 380 << 20  # of a process that reads and scales 1080p: peak 378 MB, 129 where it need not scale
PROBER_BYTES = 80 << 20  # of one that only hashes and probes 1080p, and loads no torch: peak 74 MB


@dataclass(frozen=True)
class MemoryBudget:
    """Bytes for waiting frames (`queue`) and for one window of the network (`window`; None: no limit)."""

    queue: int
    window: int | None

    @classmethod
    def share_out(cls, limit: int | None, readers: int, probers: int) -> "MemoryBudget":
        """Share out `limit` bytes, all processes counted; raises OutOfResources where nothing is left."""
        if limit is None:
            return cls(QUEUE_BYTES, None)
        fixed = resident_bytes() + readers * READER_BYTES + probers * PROBER_BYTES
        left = limit - fixed
        if left <= 0:
            raise OutOfResources(
                f"{parameter('max_memory')} {limit / 1e9:.2f} GB: the model and {readers + probers} reading "
                f"processes take {fixed / 1e9:.2f} GB",
                f"raise it, or lower {parameter('workers')}",
            )
        queue = left // QUEUE_SHARE
        return cls(queue, left - queue)

    def refuse_too_large(self, model: Model, plan: Plan, work: Workload, name: str, beside: int = 0) -> None:
        """Raise BadInput where a clip takes more on its way through the network than there is.

        So many bytes are held `beside` that. The plan is part of every key, so frames are not cut into
        smaller pieces here: the user decides.
        """
        if self.window is None or model.runtime.device.type != "cpu":
            return
        need = needed_bytes(model, plan, work) + beside
        if need > self.window:
            much = "memory for a clip of unknown length" if isinf(need) else f"{need / 1e9:.2f} GB"
            raise BadInput(
                f"{name}: {model.spec.name} needs {much} for {work.width}x{work.height}, "
                f"{parameter('max_memory')} leaves {self.window / 1e9:.2f} GB",
                f"raise {parameter('max_memory')}, or give {parameter('tile')} or {parameter('size')}",
            )
