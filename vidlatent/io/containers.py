"""Containers are opened here, and only here: which kinds libav may take a file for, and what it may reach.

Left alone, libav tries every format that it knows, and some of them are no videos but directions: a playlist
names other files, a session description opens network ports, a device is a camera. Only what a file holds
itself is read, and nothing is fetched.
"""

from functools import cache
from pathlib import Path
from typing import BinaryIO

import av
from av.container import InputContainer, OutputContainer
from av.format import ContainerFormat

# Formats that read other files, run scripts or open the network. Devices are told by libav itself.
DIRECTIONS = {
    *("concat", "hls", "dash", "webm_dash_manifest", "imf", "sdp", "rtp", "rtsp", "sap", "vobsub"),
    *("avisynth", "vapoursynth", "lavfi"),
}
# What `copy_audio` writes, and so all that the sound of a `.latent` can be.
SOUND = ("matroska", "asf", "nut", "mov")

# How playlists and their like begin, for words that say why a file is refused.
_PLAYLISTS = {
    b"ffconcat": "a list of files (ffconcat)",
    b"#EXTM3U": "a playlist (M3U)",
    b"v=0": "a session description (SDP)",
    b"<?xml": "an XML document",
    b"<MPD": "a playlist (DASH)",
}


def file_url(path: Path | str) -> str:
    """The file at `path` as libav must be told it, or a name such as `12:30.mp4` would be a protocol."""
    return f"file:{path}"


def open_video_file(
    source: object, kind: str | None, options: dict[str, str], **more: object
) -> InputContainer:
    """Open a video for reading: a path, or a file object; `kind` is its format where that is known.

    libav is told no name of a file object, or it would look for frames in files of such names.

    A path is read as the one file that it names, whatever signs for patterns are in it.
    """
    reach = {"protocol_whitelist": "file", "format_whitelist": _video_formats(), "pattern_type": "none"}
    if isinstance(source, str | Path):
        source = file_url(source)
    return av.open(source, format=kind, options=reach | (options or {}), metadata_errors="replace", **more)


def open_sound_file(file: object) -> InputContainer:
    """Open sound that `copy_audio` wrote, from a file object or a path."""
    reach = {"protocol_whitelist": "file", "format_whitelist": ",".join(SOUND)}
    if isinstance(file, Path):
        file = file_url(file)
    return av.open(file, options=reach, metadata_errors="replace")


def create_file(path: Path, kind: str, **options: object) -> OutputContainer:
    """Open the file at `path` for writing, in the format `kind`."""
    return av.open(file_url(path), "w", format=kind, **options)


def describe_playlist(file: BinaryIO) -> str | None:
    """What a file of directions is, in words; None for a file that does not begin as one."""
    head = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    return next((what for sign, what in _PLAYLISTS.items() if head.startswith(sign)), None)


@cache
def _video_formats() -> str:
    """The names of all formats that may be read, as libav wants them."""
    return ",".join(sorted(name for name in av.formats_available if _is_allowed(name)))


def _is_allowed(name: str) -> bool:
    if not DIRECTIONS.isdisjoint(name.split(",")):
        return False
    try:
        known = ContainerFormat(name, "r")
    except ValueError:  # written only
        return False
    return not known.no_file or name == "image2"  # which opens its files itself, and pattern_type binds it
