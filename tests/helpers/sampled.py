"""A few of many cases, others in every run."""

import os
import random

# Processes that run one suite together must collect the same tests: they share this name of the run.
SEED = os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(random.SystemRandom().getrandbits(64))


def some(cases: range, count: int, *always: int) -> list[int]:
    """`count` of the cases, drawn anew in every run, and those that are always wanted, in order."""
    return sorted({*always, *random.Random(SEED).sample(cases, count)})
