"""The rates that codecs aim at: a word stands for what the models take."""

import pytest

from vidlatent.jobs.measure.rates import list_rates, list_rungs


def test_rates_are_listed_once_in_the_order_asked_for():
    models = [("pocket", 2.0), ("broken", None), ("ltx", 0.25)]
    found = dict(list_rates((0.5, "equal", "ladder"), models))
    assert list(found)[:3] == ["0.5 bpp", "as pocket", "as ltx"] and found["as ltx"] == 0.25
    assert list(found)[3:] == [f"{2.0**-n:g} bpp" for n in (0, 2, 3, 4, 5, 6, 7)]  # 0.5 is there already


def test_no_model_no_rate_of_its_own():
    assert dict(list_rates(("equal", "ladder"), [("broken", None)])) == {}


@pytest.mark.parametrize(("rate", "top"), [(2.0, 1.0), (2.353, 1.0), (2.9, 2.0), (1.4, 0.5), (0.25, 0.125)])
def test_rungs_are_powers_of_two_well_below_the_rate(rate, top):
    assert list_rungs(rate) == [top / 2**n for n in range(5)]
    assert top <= rate / 2**0.5
