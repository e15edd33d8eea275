"""What a round was worth, in words and in deed."""

from __future__ import annotations

from typing import Any

import pytest

from fewlabel.pipelines.model_or_control import MARGIN
from fewlabel.pipelines.round_verdict import round_verdict


def continued(
    before: dict[str, float] | None = None,
    after: dict[str, float] | None = None,
    unseen: dict[str, float] | None = None,
    validation: tuple[float | None, float | None] = (None, None),
) -> dict[str, Any]:
    return {
        "left_out": {"before": before or {}, "after": after or {}},
        "unseen": unseen or {},
        "validation": {"before": validation[0], "after": validation[1]},
    }


@pytest.mark.parametrize(("change", "taken"), [(0.1, True), (0.0, True), (-MARGIN, True), (-2 * MARGIN, False)])
def test_left_out_patients_tell_beyond_a_margin(change: float, taken: bool) -> None:
    facts = continued({"a": 0.5, "b": 0.7}, {"a": 0.5 + 2 * change, "b": 0.7}, {"c": 0.9})
    verdict = round_verdict(facts)
    assert verdict["by"] == "left-out patients"
    assert verdict["before"] == pytest.approx(0.6)
    assert verdict["after"] == pytest.approx(0.6 + change)
    assert verdict["taken"] is taken
    assert ("NOT taken" in verdict["lines"][-2]) is not taken
    assert round_verdict(facts, take="always")["taken"]


def test_patients_who_disagree_tell_nothing_and_that_is_said() -> None:
    facts = continued({"a": 0.642, "b": 0.588}, {"a": 0.727, "b": 0.436}, {"c": 0.433})
    verdict = round_verdict(facts)
    assert verdict["taken"]
    assert verdict["after"] == pytest.approx(0.5815)
    assert verdict["lines"][-3:] == [
        "The round is taken, though its mean is lower (mean Dice 0.615 before and 0.582 after, by left-out patients):",
        "1 gained and 1 lost, which tells nothing, and it has learnt from more labels.",
        "To go back: fewlabel learn RUN use=NUMBER, 0 for what train left.",
    ]
    # Most of them tell.
    three = continued({"a": 0.6, "b": 0.6, "c": 0.6}, {"a": 0.7, "b": 0.4, "c": 0.5})
    assert not round_verdict(three)["taken"]
    # Validation is a mean that hangs on nobody left out.
    facts["validation"] = {"before": 0.8, "after": 0.7}
    assert not round_verdict(facts)["taken"]


def test_validation_tells_before_left_out_patients_do() -> None:
    verdict = round_verdict(continued({"a": 0.5}, {"a": 0.9}, validation=(0.8, 0.7)))
    assert (verdict["by"], verdict["taken"]) == ("validation", False)


def test_where_nothing_tells_that_is_said() -> None:
    verdict = round_verdict(continued(unseen={"b": 0.41}))
    assert verdict["taken"]
    assert verdict["lines"] == [
        "b, whose first mask came now, had a Dice of 0.410 before.",
        "The round is taken, but nothing tells what it was worth: no patient validates, and none was left out before.",
    ]


def test_a_patient_on_whom_there_is_nothing_is_never_the_only_judge() -> None:
    facts = continued({"a": 0.9, "b": 0.5}, {"a": 0.0, "b": 0.5})
    assert not round_verdict(facts, empty=["a"])["taken"]
    verdict = round_verdict(facts, empty=["a", "b"])
    assert (verdict["by"], verdict["taken"]) == (None, True)
    assert verdict["lines"][-1].endswith("no patient validates, and none who has a structure was left out before.")
    facts = continued({"b": 0.5}, {"b": 0.6}, validation=(0.9, 0.1))
    assert round_verdict(facts, empty=["v"], validating=["v"])["by"] == "left-out patients"
    assert round_verdict(facts, empty=["v"], validating=["v", "w"])["by"] == "validation"
