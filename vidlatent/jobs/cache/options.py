"""How a cache run goes about it. Nothing here changes an entry: that is what recipes are for."""

from dataclasses import dataclass

from vidlatent.jobs.cache.captions import CAPTION_EXTENSIONS
from vidlatent.jobs.cache.plan import ALL, Part
from vidlatent.jobs.cache.shards import Sharding
from vidlatent.jobs.reading.process import STALL_TIMEOUT


@dataclass(frozen=True)
class RunOptions:
    """How to go about a run.

    `workers` is the number of reading processes, `max_memory` bounds all processes together, in bytes.
    `shard` is the part of the clips that this machine takes; with `steal` it goes on with those of other
    parts that nobody has begun, which needs a disk that knows locks. `retry_failed` tries clips again that
    failed in an earlier run; `rehash` trusts no earlier hash of a file that looks unchanged. `threads` are
    those of a model on the CPU: the last bits of sums depend on their number, so each row of the manifest
    says it. A clip whose reading makes no progress for `stall_timeout` seconds is given up; 0 waits for ever.
    With `shards` finished entries are packed. `caption_extensions` are those of texts beside the videos.
    Of each clip that is encoded so many `thumbnails` are kept. Copies of what lies in object stores take
    `scratch` bytes; None: 50 GB, but half of what is free at most.
    """

    workers: int | None = None
    max_memory: int | None = None
    shard: Part = ALL
    steal: bool = False
    retry_failed: bool = False
    rehash: bool = False
    threads: int | None = None
    stall_timeout: float = STALL_TIMEOUT
    shards: Sharding | None = None
    caption_extensions: tuple[str, ...] = CAPTION_EXTENSIONS
    thumbnails: int = 0
    scratch: int | None = None
