"""The format may grow: what is new is kept and ignored, what is missing has its default, what is required
and unknown is refused in words. What today's models need is written as version 1.0 wrote it."""

import json
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.latent_edits import fact, inside, rewrite

from vidlatent.clock import FrameClock
from vidlatent.errors import BadLatentFile
from vidlatent.grid import Grid
from vidlatent.io.latent import nested
from vidlatent.io.latent.header import LatentHeader, Pad, Source
from vidlatent.io.latent.reader import open_latent
from vidlatent.io.latent.writer import LatentWriter
from vidlatent.windows import Plan, Tiling, TimeRule

TILES = Tiling(32, 24, 64, 192)
HEADER = LatentHeader(
    *("toy", "", {}, Grid(4, 8), Plan(TimeRule(32, 1), TimeRule(15, 1), None, TILES)),
    source=Source("clip.mp4", 17, 32, 16, "a" * 64),
    pad=Pad(0, 0, 0),
)
OBJECTS = {
    "grid": '{"space":8,"time":4}',
    "pad": '{"columns":0,"frames":0,"rows":0}',
    "plan": '{"decode_tiles":{"blend":64,"keep":192,"size":32,"slivers":false,"step":24},'
    '"decode_time":{"overlap":1,"stride":15},"encode_tiles":null,"encode_time":{"overlap":1,"stride":32}}',
    "source": '{"file":"clip.mp4","frames":17,"height":16,"sha256":"' + "a" * 64 + '","width":32}',
}
NEWS = {
    "grid": ["grid", "phase", 3],
    "plan": ["plan", "note", "slow"],
    "a rule": ["plan", "encode_time", "hint", {"deep": [1, 2]}],
    "a tiling": ["plan", "decode_tiles", "shape", "hexagon"],
    "source": ["source", "codec", "av1"],
    "pad": ["pad", "depth", 1],
}
DEFAULTS = {
    "rule without overlap": (["plan", "encode_time"], {"stride": 8}, "plan.encode_time", TimeRule(8)),
    "plan without tiles": (
        ["plan"],
        {"encode_time": {"stride": 4}, "decode_time": {"stride": 1}},
        "plan",
        Plan(TimeRule(4), TimeRule(1)),
    ),
    "tiling without slivers": (
        ["plan", "decode_tiles"],
        {"size": 32, "step": 24, "blend": 64, "keep": 192},
        "plan.decode_tiles",
        TILES,
    ),
    "source without sha256": (
        ["source"],
        {"file": "a", "frames": 17, "width": 32, "height": 16},
        "source",
        Source("a", 17, 32, 16),
    ),
    "pad of nothing": (["pad"], {}, "pad", Pad()),
}
REQUIREMENTS = {
    "an unknown member": (["plan.decode_time.warp"], "requires 'plan.decode_time.warp'.* does not know"),
    "an unknown key": (["subtitles"], "requires 'subtitles', which this vidlatent does not know"),
    "no list": ("all", "plan.requires: expected at most 64 names, got 'all'"),
    "endless": (["grid.time"] * 65, "plan.requires: expected at most 64 names"),
    "no name": ([7], "plan.requires: expected a string, got 7"),
    "endless name": (["x" * 129], "plan.requires: expected at most 128 characters, got 129"),
}


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """17 frames of 32×16, as version 1.0 would write them."""
    return written(tmp_path / "clip.latent", HEADER)


def written(path: Path, header: LatentHeader) -> Path:
    with LatentWriter(path, header, 4, 2, 4, "F32") as writer:
        writer.append(torch.zeros(5, 4, 2, 4))
        writer.close(FrameClock(Fraction(1, 30), np.arange(17)))
    return path


def version_of(path: Path) -> str:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(length))["__metadata__"]["format_version"]


def rewritten(path: Path) -> Path:
    """A copy whose header was read and written again."""
    with open_latent(path) as reader:
        return written(path.with_name("again.latent"), reader.header)


def test_what_version_1_0_can_say_is_written_as_it_was(clip):
    metadata = HEADER.to_metadata()
    assert {name: metadata[name] for name in OBJECTS} == OBJECTS
    assert version_of(clip) == "1.0"


def test_latents_in_pairs_are_required_of_a_reader(tmp_path):
    """Five latents are seventeen frames either way; of four only a reader that knows pairs makes sixteen."""
    path = written(tmp_path / "pairs.latent", replace(HEADER, grid=Grid(4, 8, pairs=True)))
    assert version_of(path) == "1.1"
    with open_latent(path) as reader:
        assert reader.header.grid.frames(4) == 16
        assert json.loads(reader.header.to_metadata()["plan"])["requires"] == ["grid.pairs"]


@pytest.mark.parametrize("news", NEWS)
def test_unknown_members_are_ignored_and_written_back(clip, news):
    rewrite(clip, inside(*NEWS[news]))
    with open_latent(clip) as reader:
        read = reader.header
    assert replace(read, extra={}) == HEADER
    again = rewritten(clip)
    with open_latent(again) as reader:
        assert reader.header == read
    key, *route, value = NEWS[news]
    member = json.loads(read.to_metadata()[key])
    for step in route:
        member = member[step]
    assert member == value


def test_a_file_with_unknown_members_is_no_version_1_0(clip):
    rewrite(clip, inside("source", "codec", "av1"))
    assert version_of(rewritten(clip)) == "1.1"


def test_what_was_unknown_of_an_object_goes_with_it(clip):
    rewrite(clip, inside(*NEWS["a tiling"]))
    with open_latent(clip) as reader:
        whole = replace(reader.header, plan=replace(HEADER.plan, decode_tiles=None))
    assert json.loads(whole.to_metadata()["plan"])["decode_tiles"] is None


@pytest.mark.parametrize("case", DEFAULTS)
def test_missing_members_have_their_defaults(clip, case):
    route, value, name, default = DEFAULTS[case]
    rewrite(clip, inside(*route, value) if route[1:] else fact(*route, value))
    with open_latent(clip) as reader:
        found = reader.header
    for part in name.split("."):
        found = getattr(found, part)
    assert found == default


@pytest.mark.parametrize("case", REQUIREMENTS)
def test_what_is_required_and_unknown_is_refused(clip, case):
    names, told = REQUIREMENTS[case]
    rewrite(clip, inside("plan", "requires", names))
    with pytest.raises(BadLatentFile, match=f"clip.latent: {told}"):
        open_latent(clip)


def test_whoever_cannot_read_a_file_is_told_to_take_a_newer_version(clip):
    rewrite(clip, inside("plan", "requires", ["plan.decode_time.warp"]))
    with pytest.raises(BadLatentFile) as e:
        open_latent(clip)
    assert e.value.hint == "open it with a newer vidlatent"


def test_what_is_required_and_known_is_read(clip):
    rewrite(clip, inside("plan", "requires", ["plan.decode_time.overlap", "scale"]))
    with open_latent(clip) as reader:
        assert reader.header == HEADER


@dataclass(frozen=True)
class WarpedRule(TimeRule):
    """A rule as a later version may have it."""

    warp: int = 0


def test_a_later_member_is_required_where_it_is_not_at_its_default(tmp_path, monkeypatch):
    monkeypatch.setitem(nested.FIRST_MEMBERS, WarpedRule, nested.FIRST_MEMBERS[TimeRule])
    warped = replace(HEADER, plan=Plan(WarpedRule(32, 1), WarpedRule(15, 1, warp=2)))
    path = written(tmp_path / "clip.latent", warped)
    plan = json.loads(warped.to_metadata()["plan"])
    assert plan["requires"] == ["plan.decode_time.warp"]
    assert plan["decode_time"]["warp"] == 2 and "warp" not in plan["encode_time"]
    assert version_of(path) == "1.1"
    with pytest.raises(BadLatentFile, match=r"requires 'plan.decode_time.warp'"):
        open_latent(path)


def test_a_later_member_is_as_bounded_as_the_others():
    with pytest.raises(ValueError, match=r"plan.decode_time.warp: expected 0 to 4096, got 1048576"):
        replace(HEADER, plan=Plan(TimeRule(32, 1), WarpedRule(15, 1, warp=1 << 20)))


@pytest.mark.parametrize(("levels", "kept"), [(60, True), (900, False), (100_000, False)])
def test_members_nested_beyond_reason_are_refused(clip, levels, kept):
    text = "[" * levels + "]" * levels
    with open_latent(clip) as reader:
        source = reader.header.to_metadata()["source"]
    rewrite(clip, fact("source", f'{source[:-1]},"x":{text}}}'))
    if kept:
        with open_latent(clip) as reader:
            assert json.loads(reader.header.extra["source"])["x"] == json.loads(text)
    else:
        with pytest.raises(BadLatentFile, match="source: nested too deeply"):
            open_latent(clip)
