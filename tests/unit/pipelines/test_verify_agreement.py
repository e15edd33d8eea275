"""What ``verify`` holds numbers to that it has made again."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from fewlabel.pipelines.verify import repeated_steps
from fewlabel.pipelines.verify.findings import agreement


@pytest.mark.parametrize("pair", [(math.inf, 1.0), (1.0, -math.inf), (math.inf, -math.inf), (math.inf, math.nan)])
def test_what_is_without_end_hides_no_difference(pair):
    assert agreement({"a": (1.0, 1.0), "b": pair}).finding("p", "w", 0.02).verdict == "differs"


def test_equal_infinities_agree():
    assert agreement({"a": (math.inf, math.inf), "b": (-math.inf, -math.inf)}).largest == 0


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, "held"),
        ({"loss": 1.01}, "held"),
        ({"loss": 1.1}, "differs"),
        ({"loss": 1.01, "gradient_norm": 2.5}, "held"),
        ({"gradient_norm": 2.5}, "differs"),
        ({"gradient_norm": 2.01}, "held"),
        ({"cosine/site": 0.011}, "held"),
        ({"cosine/site": None}, "differs"),
        ({"loss": 1.01, "cosine/site": None}, "differs"),
        ({"lr": 0.12}, "differs"),
    ],
)
def test_what_of_a_first_step_must_be_as_recorded(changed, verdict):
    row = {"step": 0, "loss": 1.0, "lr": 0.1, "gradient_norm": 2.0, "cosine/site": 0.01, "seconds": 3.0}
    made = json.dumps({**row, **changed}).encode()
    artifact = SimpleNamespace(content=lambda _: made, folder=Path("encoder"))
    assert repeated_steps._held("p", artifact, [row], 0, 0.02).verdict == verdict
