"""No file can hurt: whatever bytes a parser is given, it takes them or refuses them in a line.

`python tests/fault/fuzz.py --seconds N` does the same for longer, and prints counts.
"""

import pytest
from helpers.fuzzing import throw
from helpers.parsers import Parser, parsers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vidlatent
from vidlatent.errors import BadLatentFile, BadVideo, BadWeights
from vidlatent.jobs.inspect import inspect

# A reader that goes on without what is damaged warns of it.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
NAMES = (
    *("latent", "coded", "decode", "picture", "table", "tar", "tar shard", "safetensors shard", "cache"),
    *("export", "foreign", "times", "bench", "config", "checkpoint"),
)


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> dict[str, Parser]:
    return {parser.name: parser for parser in parsers(tmp_path_factory.mktemp("seeds"))}


def test_every_parser_is_tried_below(known):
    assert tuple(known) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_good_files_are_taken(known, name):
    """Or the bad ones would be refused for another reason."""
    for seed in known[name].seeds:
        if "hostile" not in seed.parts:
            known[name].use(seed)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("name", NAMES)
@given(number=st.integers(0, 1 << 32))
def test_whatever_bytes_come_they_are_taken_or_refused_in_a_line(known, name, number):
    assert throw(known[name], number) in ("taken", "refused")


def test_files_that_once_got_past_a_check_are_refused(shared, tmp_path):
    """As the list beside them says. Among them sound that is directions to open network ports."""
    for path in sorted((shared / "hostile").glob("*.latent")):
        with pytest.raises(BadLatentFile):
            vidlatent.decode(path, tmp_path / "x.mkv")
    for path in sorted((shared / "hostile").glob("weights_*")):
        with pytest.raises(BadWeights):
            inspect(path)
    with pytest.raises(BadVideo, match="a list of files"):
        vidlatent.encode(shared / "hostile" / "concat_reads_neighbour.mp4", tmp_path / "x.latent")
    assert list(tmp_path.iterdir()) == []
