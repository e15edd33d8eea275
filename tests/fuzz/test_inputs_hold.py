"""A few hundred inputs of every target hold; ``python tests/fuzz`` tries as many as are asked for."""

from __future__ import annotations

import pytest

from fuzz.targets import TARGETS
from fuzz.workers import run

INPUTS = 200


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_inputs_hold(name):
    tally = run(name, 0, 0, INPUTS)
    assert tally.tried == INPUTS
    assert [(index, outcome.why) for index, outcome in tally.failures] == []
