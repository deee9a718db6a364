"""What a cache holds, from its manifest. Rows pass by one after the other, however many there are."""

from collections import Counter

from vidlatent.io.sources.urls import Root
from vidlatent.jobs.cache.journal import count_torn_lines
from vidlatent.jobs.cache.manifest import DONE, FAILED, Manifest, ManifestRow
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.storing import name_store


def describe_cache(root: Root) -> dict[str, object]:
    """Clips by what became of them, entries, bytes and shapes, every failure, and what was left out."""
    store = Store.open(root)
    manifest = Manifest(store)
    states, recipes = Counter(), Counter()
    left_out, failures = [], []
    for row in manifest.rows():
        states[row.status] += 1
        recipes[row.recipe] += 1
        if row.is_left_out:
            left_out.append({"source": row.source, "reason": row.error})
        if row.status == FAILED:
            failures.append({"source": row.source, "error": row.error})
    return {
        "cache": store.name,
        "clips": states.total(),
        **dict(sorted(states.items())),
        **describe_entries(manifest),
        "recipes": dict(sorted(recipes.items())),
        "torn_lines": count_torn_lines(store.manifest, ManifestRow.parse),
        "left_out": left_out,
        "failures": failures,
    }


def describe_entries(manifest: Manifest) -> dict[str, object]:
    """How many entries there are, how many of them are gone, and what they amount to."""
    sums, shapes, stored, shards, seconds = Counter(), Counter(), Counter(), set(), 0.0
    for row in manifest.entries():
        if row.status != DONE:
            continue
        sums["entries"] += 1
        sums["missing"] += not manifest.is_present(row)
        sums["frames"] += row.frames
        sums["bytes"] += row.bytes
        stored[name_store(row.form, row.dtype)] += 1
        shapes["x".join(map(str, row.shape))] += 1
        seconds += row.seconds
        if (shard := manifest.find_shard(row.key)) is not None:
            shards.add(shard.shard)
    return {
        "entries": sums["entries"],
        "missing": sums["missing"],
        "shards": len(shards),
        "frames": sums["frames"],
        "bytes": sums["bytes"],
        "encoding_hours": round(seconds / 3600, 3),
        "stored": dict(stored),
        "shapes": dict(shapes.most_common(20)),
    }
