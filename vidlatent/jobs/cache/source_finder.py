"""The sources of cached clips, found once more: a repack measures against those that are as they were."""

import os
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from vidlatent.errors import BadVideo
from vidlatent.file_state import State
from vidlatent.io.sources.disk import DiskSource
from vidlatent.io.sources.member import MEMBER, MemberSource
from vidlatent.io.sources.source import Source, no_beat
from vidlatent.jobs.cache.key import parse_read
from vidlatent.jobs.cache.manifest import ManifestRow
from vidlatent.jobs.reading.isolated import IsolatedReader
from vidlatent.jobs.reading.listing import list_clips
from vidlatent.jobs.reading.messages import Read
from vidlatent.jobs.small.trial import Frames


class SourceFinder:
    """Finds sources on disks, members of tars among them, and reads them by `reader`, in another process.

    Of the last tar it keeps where its members lie, because clips of one tar mostly come one after the other.
    """

    def __init__(self, reader: IsolatedReader) -> None:
        self._reader = reader
        self._tar: Path | None = None
        self._state: State = None
        self._members: dict[str, MemberSource] = {}

    def find(self, rows: Sequence[ManifestRow]) -> Frames | None:
        """What begins the source of an entry anew; None where no source of its clips is there as it was."""
        for row in rows:
            with suppress(OSError, BadVideo):  # it may not be read, or is something else by now
                source = self._locate(row.source)
                if source is not None and source.sha256() == row.source_sha256:
                    return partial(self._reader.frames, Read(source, parse_read(row.read)))
        return None

    def _locate(self, name: str) -> Source | None:
        """The source that the manifest calls so; None where there is no such file, or no such member."""
        if os.path.exists(name):
            return DiskSource(Path(name))
        tar, inside, _ = name.partition(MEMBER)
        return self._find_member(Path(tar), name) if inside and os.path.isfile(tar) else None

    def _find_member(self, tar: Path, name: str) -> MemberSource | None:
        state = DiskSource(tar).state()
        if (tar, state) != (self._tar, self._state):
            clips = list_clips(DiskSource(tar), (), no_beat)
            self._members = {c.name: c.source for c in clips if isinstance(c.source, MemberSource)}
            self._tar, self._state = tar, state
        return self._members.get(name)
