"""A bucket in memory, and what lies in it."""

from pathlib import Path

import fsspec


def new_bucket(name: str = "cached") -> str:
    """The address of an empty bucket."""
    fs = fsspec.filesystem("memory")
    if fs.exists(f"/{name}"):
        fs.rm(f"/{name}", recursive=True)
    return f"memory://{name}"


def read_all(address: str, below: str = "") -> dict[str, bytes]:
    """Every object below a folder of a bucket, by its name in the bucket."""
    fs = fsspec.filesystem("memory")
    base = "/" + address.removeprefix("memory://")
    found = fs.find(f"{base}/{below}") if fs.exists(f"{base}/{below}") else []
    return {name.removeprefix(f"{base}/"): fs.cat_file(name) for name in found}


def copy_into(address: str, folder: Path) -> None:
    """Put every file below a folder into a bucket."""
    fs = fsspec.filesystem("memory")
    for path in (path for path in folder.rglob("*") if path.is_file()):
        fs.pipe_file(f"{address}/{path.relative_to(folder).as_posix()}", path.read_bytes())
