"""Facts become what JSON knows, however deep they lie."""

import json
from fractions import Fraction
from types import MappingProxyType

from vidlatent.json_values import to_json_values


def test_what_json_does_not_know_is_converted_all_the_way_down():
    facts = MappingProxyType({1: (Fraction(25), [Fraction(1, 3), None]), "b": {"c": (True, 2.5, "x")}})
    found = to_json_values(facts)
    assert found == {"1": ["25/1", ["1/3", None]], "b": {"c": [True, 2.5, "x"]}}
    assert json.loads(json.dumps(found)) == found


def test_the_caller_says_how_values_are_converted_before_they_are_taken_apart():
    found = to_json_values(
        [{1, 2}, Fraction(1, 2)], lambda value: sorted(value) if isinstance(value, set) else value
    )
    assert found == [[1, 2], Fraction(1, 2)]
