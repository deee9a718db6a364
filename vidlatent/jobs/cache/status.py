"""What a cache holds, from its manifest."""

from collections import Counter
from pathlib import Path

from vidlatent.jobs.cache.journal import count_torn_lines
from vidlatent.jobs.cache.manifest import DONE, FAILED, Manifest, ManifestRow
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.storing import name_store


def describe_cache(root: Path) -> dict[str, object]:
    """Clips by what became of them, entries, bytes and shapes, every failure, and what was left out."""
    store = Store.open(root)
    manifest = Manifest(store)
    rows, entries = list(manifest.rows()), [row for row in manifest.entries() if row.status == DONE]
    return {
        "cache": str(root),
        "clips": len(rows),
        **{name: count for name, count in sorted(Counter(row.status for row in rows).items())},
        "entries": len(entries),
        "missing": sum(not manifest.is_present(row) for row in entries),
        "shards": len({shard.shard for row in entries if (shard := manifest.find_shard(row.key))}),
        "frames": sum(row.frames for row in entries),
        "bytes": sum(row.bytes for row in entries),
        "encoding_hours": round(sum(row.seconds for row in entries) / 3600, 3),
        "recipes": dict(sorted(Counter(row.recipe for row in rows).items())),
        "stored": dict(Counter(name_store(row.form, row.dtype) for row in entries)),
        "shapes": dict(Counter("x".join(map(str, row.shape)) for row in entries).most_common(20)),
        "torn_lines": count_torn_lines(store.manifest, ManifestRow.parse),
        "left_out": [{"source": row.source, "reason": row.error} for row in rows if row.is_left_out],
        "failures": [{"source": row.source, "error": row.error} for row in rows if row.status == FAILED],
    }
