"""What is said of a difference, and how a paired test is written down."""

from __future__ import annotations

import json

import pytest

from fewlabel.scoring.paired_test import PairedTest, Scope, verdict


def paired(mean: float | None, scope: Scope = "draws and patients") -> PairedTest:
    return PairedTest(mean, -0.3, 0.3, 0.5, 4.0, scope, 5, 20)


@pytest.mark.parametrize(
    ("mean", "corrected", "said"),
    [
        (0.02, 0.049, "better"),
        (-0.02, 0.049, "worse"),
        (0.02, 0.0, "better"),
        # At the level itself nothing is told yet.
        (0.02, 0.05, "cannot be told"),
        (0.02, 0.4, "cannot be told"),
        (-0.02, 1.0, "cannot be told"),
        (0.02, None, "cannot be told"),
        (0.0, 0.0, "cannot be told"),
        (None, 0.0, "cannot be told"),
        # Differences need not be shares.
        (1.0, 0.01, "better"),
        (-3.0, 0.01, "worse"),
    ],
)
def test_a_verdict_needs_a_corrected_p_below_the_level(mean, corrected, said) -> None:
    assert verdict(paired(mean), corrected) == said


def test_the_level_is_that_of_the_caller() -> None:
    assert verdict(paired(0.02), 0.07, level=0.1) == "better"
    assert verdict(paired(0.02), 0.04, level=0.01) == "cannot be told"


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        ("draws and patients", "better"), ("draws", "better"), ("seeds and patients", "better"), ("seeds", "better"),
        ("patients", "cannot be told"),
    ],
)  # fmt: skip
def test_one_training_of_an_arm_tells_nothing_however_sure_its_patients_are(scope: Scope, said: str) -> None:
    assert verdict(paired(0.02, scope), 1e-9) == said


def test_a_paired_test_is_written_with_all_that_was_found() -> None:
    record = PairedTest(0.1, 0.05, 0.15, 0.01, 3.5, "draws", 4, 9).record()
    assert record == {
        "mean": 0.1, "low": 0.05, "high": 0.15, "p": 0.01, "freedom": 3.5, "scope": "draws", "draws": 4, "patients": 9,
    }  # fmt: skip
    assert json.loads(json.dumps(record)) == record
