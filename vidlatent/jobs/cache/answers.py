"""What a cache already knows of a task, without reading a frame."""

from collections.abc import Iterator

from vidlatent.jobs.cache.entry import Task
from vidlatent.jobs.cache.frames import PAD
from vidlatent.jobs.cache.manifest import DONE, FAILED, SKIPPED, Manifest, ManifestRow


def find_answer(manifest: Manifest, task: Task) -> ManifestRow | None:
    """The row that says what becomes of a task: an entry that is there, a failure, or a clip to leave out.

    None where the clip must be read. An entry that was padded answers only those who want padding.
    """
    for row in _list_known(manifest, task):
        if row.status in (FAILED, SKIPPED):
            return row
        padded = row.status == DONE and task.recipe.frames_rule != PAD and task.holds_padding(row)
        if manifest.is_present(row) and not padded:
            return row
    return None


def _list_known(manifest: Manifest, task: Task) -> Iterator[ManifestRow]:
    rows = (manifest.find(key) for key in (task.key, task.off_grid_key) if key)
    return (row for row in rows if row is not None)
