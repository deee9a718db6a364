"""Tensors that wait on disk: written one after the other, read again in any order."""

import tempfile
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
import torch
from torch import Tensor

from vidlatent.errors import OutOfResources
from vidlatent.files import free_bytes, naming_disk_errors


class Scratch:
    """A file of float32 tensors on the disk of `target`, or without a target where the system has such files.

    A context manager. The file has no name (but on Windows, where it is removed when it is closed), so
    nothing is left of it however the process ends.
    """

    def __init__(self, target: Path | None) -> None:
        self._target = target or Path(tempfile.gettempdir(), "tiles")
        self._folder = self._target.parent
        with naming_disk_errors(self._target):
            self._file: BinaryIO = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  see __exit__
        self._entries: list[tuple[int, torch.Size]] = []
        self.nbytes = 0

    def put(self, x: Tensor) -> int:
        """Write a tensor; returns its number, to get it back by."""
        raw = x.to("cpu", torch.float32).contiguous().numpy()
        with naming_disk_errors(self._target):
            self._file.seek(self.nbytes)
            self._file.write(raw.reshape(-1).view(np.uint8).data)
        self._entries.append((self.nbytes, x.shape))
        self.nbytes += raw.nbytes
        return len(self._entries) - 1

    def get(self, number: int) -> Tensor:
        """The tensor that was put under this number."""
        start, shape = self._entries[number]
        raw = np.empty(shape, np.float32)
        self._file.seek(start)
        self._file.readinto(raw.reshape(-1).view(np.uint8).data)
        return torch.from_numpy(raw)

    def expect(self, nbytes: int) -> None:
        """Raise OutOfResources where the disk has no room for so many bytes more."""
        free = free_bytes(self._folder)
        if nbytes > free:
            raise OutOfResources(
                f"{self._target}: tiles that wait to be put together take {nbytes / 1e9:.2f} GB, "
                f"{free / 1e9:.2f} GB are free in {self._folder}",
                "free some space, write elsewhere, or allow more memory",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
