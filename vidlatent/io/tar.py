"""What lies in a tar, member by member, without unpacking it or trusting its numbers.

Only headers are read, whatever the size of the tar; so memory holds one member at a time. Python's own reader
keeps every member, follows sizes that lead backwards in a circle, and lets one bad header end the rest.
"""

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

BLOCK = tarfile.BLOCKSIZE
_MOST_EXTENSION_BYTES = 1 << 20  # of a long name, or of the records that pax puts before a member
_MOST_KNOWN = 100_000  # members that hard links may name
_MOST_DIGITS = 18
_LONG_NAMES = {tarfile.GNUTYPE_LONGNAME: "path", tarfile.GNUTYPE_LONGLINK: "linkpath"}
_EXTENSIONS = (*_LONG_NAMES, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_SPARSE = {"GNU.sparse.major", "GNU.sparse.map", "GNU.sparse.numblocks"}
_TOLD = {"path", "linkpath", "size", "GNU.sparse.name", *_SPARSE}  # by extensions of pax
_MAP_GOES_ON_IN_HEADER, _MAP_GOES_ON = 482, 504  # bytes that say so of GNU's map of holes
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_KINDS = {
    tarfile.SYMTYPE: "a symbolic link, which is not followed",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}
_WITHOUT_BYTES = (*_KINDS, tarfile.LNKTYPE, tarfile.DIRTYPE)


class TornTar(ValueError):
    """A tar that cannot be read on: what is wrong, and where."""


@dataclass(frozen=True)
class TarMember:
    """One member: its name without `./` in front, and where its bytes lie in the tar.

    `fault` says, in words, why it cannot be read as a file of its own; then `offset` and `size` mean nothing.
    A hard link lies where the member lies that it names.
    """

    name: str
    offset: int
    size: int
    fault: str | None = None

    def read(self, tar: BinaryIO) -> bytes:
        """Its bytes. Whoever calls this has looked at the size before."""
        tar.seek(self.offset)
        return tar.read(self.size)


def list_tar(tar: BinaryIO) -> Iterator[TarMember]:
    """Every member but folders, in order; raises TornTar where the tar ends too early or makes no sense."""
    end = tar.seek(0, os.SEEK_END)
    known: dict[str, TarMember] = {}
    at, told = 0, {}  # `told` is what extensions say of the member that follows them
    while (header := _read_header(tar, at)) is not None:
        extends = header.type in _EXTENSIONS
        begin = _skip_map(tar, at) if header.type == tarfile.GNUTYPE_SPARSE else at + BLOCK
        size = header.size if extends else _parse_size(told.get("size"), header, at)
        stored = 0 if header.type in _WITHOUT_BYTES else size
        if size < 0 or begin + stored > end:
            raise TornTar(f"{header.name!r} at byte {at:,} has {size:,} bytes, but {end - begin:,} follow")
        at = begin + -(-stored // BLOCK) * BLOCK
        if extends:
            told |= _read_extension(tar, begin, size, header)
            continue
        member, told = _make_member(header, begin, size, told, known), {}
        if header.type != tarfile.DIRTYPE:
            if len(known) < _MOST_KNOWN:
                known[member.name] = member
            yield member


def _read_header(tar: BinaryIO, at: int) -> tarfile.TarInfo | None:
    """The header at a byte of the tar; None at its end mark."""
    tar.seek(at)
    try:
        return tarfile.TarInfo.frombuf(tar.read(BLOCK), "utf-8", "surrogateescape")
    except tarfile.EOFHeaderError:  # a block of zeros
        return None
    except tarfile.EmptyHeaderError as e:
        raise TornTar(f"no end mark at byte {at:,}: it may have been cut off") from e
    except (tarfile.HeaderError, ValueError) as e:
        raise TornTar(f"no header of a member at byte {at:,} ({e})") from e


def _skip_map(tar: BinaryIO, at: int) -> int:
    """Where the bytes of a member with holes begin: behind its header, and the rest of its map of holes."""
    tar.seek(at)
    more = tar.read(BLOCK)[_MAP_GOES_ON_IN_HEADER:][:1]
    while more not in (b"", b"\0"):
        more = tar.read(BLOCK)[_MAP_GOES_ON:][:1]
    return tar.tell()


def _parse_size(told: str | None, header: tarfile.TarInfo, at: int) -> int:
    """The size of a member: that which an extension tells, where its header has no room for it."""
    if told is None:
        return header.size
    if not (told.isascii() and told.isdigit() and len(told) <= _MOST_DIGITS):
        raise TornTar(f"{header.name!r} at byte {at:,} has no size that makes sense")
    return int(told)


def _read_extension(tar: BinaryIO, begin: int, size: int, header: tarfile.TarInfo) -> dict[str, str]:
    """What an extension says of the member after it: of all that it may say, what is needed here."""
    if header.type == tarfile.XGLTYPE:  # of all members that follow: comments, in practice
        return {}
    if size > _MOST_EXTENSION_BYTES:
        raise TornTar(f"a name or extension of {size:,} bytes at byte {begin:,}")
    tar.seek(begin)
    data = tar.read(size)
    if header.type in _LONG_NAMES:
        return {_LONG_NAMES[header.type]: data.rstrip(b"\0").decode("utf-8", "surrogateescape")}
    try:
        return dict(_parse_records(data))
    except ValueError as e:
        raise TornTar(f"an extension that makes no sense at byte {begin:,}") from e


def _parse_records(data: bytes) -> Iterator[tuple[str, str]]:
    """Key and value of those records "LENGTH KEY=VALUE\\n" of pax that are needed here."""
    at, end = 0, len(data.rstrip(b"\0"))
    while at < end:
        digits = data[at : at + _MOST_DIGITS].partition(b" ")[0]
        length = int(digits)
        key, equals, value = data[at + len(digits) + 1 : at + length - 1].partition(b"=")
        if not equals or length <= len(digits):
            raise ValueError
        if (name := key.decode("utf-8", "surrogateescape")) in _TOLD:
            yield name, value.decode("utf-8", "surrogateescape")
        at += length


def _make_member(
    header: tarfile.TarInfo, begin: int, size: int, told: dict[str, str], known: dict[str, TarMember]
) -> TarMember:
    name = _tidy(told.get("path", header.name))
    if header.type == tarfile.LNKTYPE:
        link = _tidy(told.get("linkpath", header.linkname))
        if link in known:
            return TarMember(name, known[link].offset, known[link].size, known[link].fault)
        return TarMember(name, 0, 0, f"a link to {link}, which does not come before it")
    if header.type == tarfile.GNUTYPE_SPARSE or not _SPARSE.isdisjoint(told):
        return TarMember(_tidy(told.get("GNU.sparse.name", name)), 0, 0, "stored with holes (sparse)")
    if header.type not in _FILES:
        return TarMember(name, 0, 0, _KINDS.get(header.type, f"of an unknown kind {header.type!r}"))
    return TarMember(name, begin, size)


def _tidy(name: str) -> str:
    """The name without the `./` that `tar c .` puts in front of all, and without a slash at its end."""
    return str(PurePosixPath(name))


def split_name(name: str) -> tuple[str, str]:
    """A member's sample, and its kind: WebDataset splits names at the first dot after the folder."""
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return f"{folder}{slash}{stem}", suffix.lower()


def open_tar(path: Path) -> BinaryIO:
    """Open a tar; raises TornTar where it is a pipe or a device, which has no end."""
    if not path.is_file():
        raise TornTar("no plain file")
    return path.open("rb")
