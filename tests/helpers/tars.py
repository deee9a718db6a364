"""Tars as data sets have them."""

import io
import tarfile
from pathlib import Path


def write_tar(path: Path, *members: tuple[str, bytes]) -> Path:
    """A tar of these files, in this order; a name may come twice."""
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path
