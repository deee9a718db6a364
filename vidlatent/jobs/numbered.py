"""Images that are each taken for a clip of one frame, though they look like the frames of one video."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

FEWEST = 8  # numbered images of one folder that are worth a notice
_NUMBERED = re.compile(r"(.*?)(\d+)(\.(?:png|jpe?g|tiff?|bmp|webp|exr|dpx))", re.IGNORECASE)


def tell_of_frames(files: Iterable[Path], way_out: str) -> Iterator[str]:
    """A notice for each folder whose images are numbered without large gaps; `way_out` says what to do."""
    runs: defaultdict[tuple[Path, str], list[int]] = defaultdict(list)
    for path in files:
        if found := _NUMBERED.fullmatch(path.name):
            runs[path.parent, f"{found[1]}#{found[3]}"].append(int(found[2][-9:]))
    for (folder, name), numbers in runs.items():
        if len(numbers) >= FEWEST and max(numbers) - min(numbers) < 2 * len(numbers):
            yield (
                f"{folder}: {len(numbers)} numbered images ({name}), each taken for a clip of one frame; "
                f"if they are the frames of a video, {way_out}"
            )
