"""Tars are read member by member, and what is wrong with one is told in words."""

import io
import random
import tarfile
from pathlib import Path

import pytest

from vidlatent.io.tar import BLOCK, TarMember, TornTar, list_tar, open_tar, split_name

NAMES = (
    "a.mp4",
    "./b/c.mp4",
    "v1.0/d.x.mp4",
    "é" * 40 + "/" + "n" * 90 + ".mp4",
    "f" * 200 + "/" + "g" * 200,
)


def pack(members: dict[str, bytes], kind: int = tarfile.GNU_FORMAT, **more: tarfile.TarInfo) -> bytes:
    """A tar of plain files, and after them of other members by name."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for info in more.values():
            tar.addfile(info)
    return out.getvalue()


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def members(data: bytes) -> list[TarMember]:
    return list(list_tar(io.BytesIO(data)))


def header(name: str, size: bytes = b"00000000000", kind: bytes = b"0", tail: bytes = b"") -> bytes:
    """A header with any size and any kind, and a checksum that fits."""
    block = bytearray(BLOCK)
    block[: len(name)] = name.encode()
    block[124:136] = size.ljust(12, b"\0")
    block[156:157] = kind
    block[257:265] = b"ustar  \0"
    block[345 : 345 + len(tail)] = tail
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block)


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_lie_where_another_reader_finds_them(kind):
    data = pack({name: name.encode() * 20 for name in NAMES}, kind)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        known = [(m.name.removeprefix("./"), m.offset_data, m.size) for m in tar]
    assert [(m.name, m.offset, m.size) for m in members(data)] == known
    assert [m.read(io.BytesIO(data)) for m in members(data)] == [name.encode() * 20 for name in NAMES]


def test_a_size_that_only_an_extension_can_tell_is_followed():
    record = b"12 size=512\n"
    extension = header("x", f"{len(record):011o}".encode(), b"x") + record.ljust(BLOCK, b"\0")
    data = extension + header("a") + b"v" * BLOCK + header("b") + bytes(2 * BLOCK)
    assert [(m.name, m.size) for m in members(data)] == [("a", 512), ("b", 0)]


def test_links_within_the_tar_are_the_file_and_others_are_not_followed():
    found = members(
        pack(
            {"b.mp4": b"video"},
            hard=special("c.mp4", tarfile.LNKTYPE, "./b.mp4"),
            dangling=special("d.mp4", tarfile.LNKTYPE, "nope"),
            soft=special("e.mp4", tarfile.SYMTYPE, "/etc/passwd"),
            pipe=special("f.mp4", tarfile.FIFOTYPE),
            device=special("g.mp4", tarfile.CHRTYPE),
            strange=special("h.mp4", b"Z"),
            folder=special("i.mp4", tarfile.DIRTYPE),
        )
    )
    plain, hard, *rest = found
    assert (hard.offset, hard.size, hard.fault) == (plain.offset, 5, None)
    words = [
        "a link to nope, which does not come",
        "a symbolic link",
        "a pipe",
        "a device",
        "of an unknown kind",
    ]
    assert all(word in member.fault for word, member in zip(words, rest, strict=True))


def test_a_member_with_holes_is_told_and_the_next_one_found():
    """GNU puts more of the map of holes between the header and the bytes."""
    whole = bytearray(header("hole.mp4", b"00000001000", b"S"))
    whole[482] = 1
    whole[148:156] = b" " * 8
    whole[148:156] = f"{sum(whole):06o}\0 ".encode()
    more = bytearray(BLOCK)
    more[504] = 1
    data = bytes(whole) + bytes(more) + bytes(BLOCK) + b"x" * BLOCK + header("next.mp4") + bytes(2 * BLOCK)
    assert [(m.name, m.fault) for m in members(data)] == [
        ("hole.mp4", "stored with holes (sparse)"),
        ("next.mp4", None),
    ]


def test_holes_that_pax_tells_of_are_told_under_the_name_of_the_file():
    records = b"22 GNU.sparse.major=1\n" + b"30 GNU.sparse.name=hole.mp4xx\n"
    extension = header("x", f"{len(records):011o}".encode(), b"x") + records.ljust(BLOCK, b"\0")
    (found,) = members(extension + header("GNUSparseFile.1/hole.mp4") + bytes(2 * BLOCK))
    assert (found.name, found.fault) == ("hole.mp4xx", "stored with holes (sparse)")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no end mark at byte 0"),
        (b"\x1f\x8b" + b"compressed" * 100, "no header of a member at byte 0"),
        (header("a", b"\xff" * 10 + b"\xfe\x00") + bytes(1024), "'a' at byte 0 has -512 bytes"),
        (header("a", b"77777777777"), "'a' at byte 0 has 8,589,934,591 bytes, but 0 follow"),
        (header("a", b"\x80" + b"\xff" * 11), "but 0 follow"),
        (
            header("a") + header("b", b"00000001000") + bytes(511),
            "'b' at byte 512 has 512 bytes, but 511 follow",
        ),
        (header("a"), "no end mark at byte 512"),
        (header("x", b"00004000001", b"L") + bytes(1 << 21), "a name or extension of 1,048,577 bytes"),
        (
            header("x", b"00000000006", b"x") + b"a name".ljust(BLOCK) + bytes(1024),
            "makes no sense at byte 512",
        ),
        (header("x", b"00000000011", b"x") + b"-1 path=a\n".ljust(BLOCK) + bytes(1024), "makes no sense"),
        (header("x", b"00000000004", b"x") + b"4 =\n".ljust(BLOCK) + header("a"), "no end mark"),
    ],
)
def test_a_tar_that_makes_no_sense_says_where(data, words):
    with pytest.raises(TornTar, match=words):
        members(data)


def test_what_comes_before_a_tear_is_there():
    listed = list_tar(io.BytesIO(pack({"a": b"1", "b": b"2"})[:1500]))
    assert next(listed).name == "a"
    with pytest.raises(TornTar):
        next(listed)


def test_damaged_tars_end_in_words_or_in_members():
    """Sizes that led backwards hung Python's own reader, and its other errors were not of one kind."""
    whole, rng = pack({name: b"x" * 700 for name in NAMES}, tarfile.PAX_FORMAT), random.Random(0)
    torn = 0
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            for member in list_tar(io.BytesIO(bytes(data[: rng.randint(1, len(data))]))):
                assert member.offset + member.size <= len(data)
        except TornTar:
            torn += 1
    assert torn > 100


def test_only_plain_files_are_opened():
    with pytest.raises(TornTar, match="no plain file"):
        open_tar(Path("/dev/null"))


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("a.mp4", ("a", "mp4")),
        ("v1.0/a.mp4", ("v1.0/a", "mp4")),
        ("v1.0/a.depth.MP4", ("v1.0/a", "depth.mp4")),
        ("a", ("a", "")),
    ],
)
def test_a_sample_is_named_up_to_the_first_dot_behind_the_folders(name, split):
    assert split_name(name) == split
