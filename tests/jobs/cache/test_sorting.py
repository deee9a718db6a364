"""Lines are sorted in bounded memory: in runs on the disk, which are merged."""

from hypothesis import given
from hypothesis import strategies as st

from vidlatent.jobs.cache import sorting
from vidlatent.jobs.cache.sorting import LineSorter

lines = st.lists(st.tuples(st.sampled_from("aäb\udcff"), st.text(max_size=2), st.booleans(), st.text()))


@given(lines, lines, st.integers(0, 20), st.integers(1, 3))
def test_lines_come_by_name_and_else_in_the_order_they_were_added(tmp_path_factory, old, new, run, block):
    old.sort(key=lambda line: line[0])
    before = sorting.RUN_CHARACTERS, sorting._BLOCK_LINES
    sorting.RUN_CHARACTERS, sorting._BLOCK_LINES = run, block
    try:
        with LineSorter(tmp_path_factory.getbasetemp()) as sorter:
            assert sorter.add(iter(new)) == len(new)
            assert list(sorter.merge(old)) == sorted(old + new, key=lambda line: line[0])
    finally:
        sorting.RUN_CHARACTERS, sorting._BLOCK_LINES = before


def test_what_is_sorted_leaves_no_file(tmp_path):
    with LineSorter(tmp_path) as sorter:
        sorter.add([("a", "", False, "[]")])
        assert not list(tmp_path.iterdir())
