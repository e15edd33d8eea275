"""What each switch of an ablation is worth, from arms that differ in it alone."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fewlabel.scoring.paired_test import paired_test
from fewlabel.scoring.switch_effects import matched_pairs, switch_effects

SWITCHES = {f"a{a}b{b}": {"a": bool(a), "b": bool(b)} for a in (1, 0) for b in (0, 1)}


def scores(seed: int = 6) -> dict[str, np.ndarray]:
    """(draws, patients) of each arm: a adds .1, b takes .03, and chance a little."""
    rng = np.random.default_rng(seed)
    base = rng.normal(0.6, 0.1, (3, 8))
    return {
        name: base + 0.1 * states["a"] - 0.03 * states["b"] + rng.normal(0, 0.01, base.shape)
        for name, states in SWITCHES.items()
    }


def test_pairs_differ_in_one_switch_with_the_arm_that_has_it_on_first() -> None:
    assert matched_pairs(SWITCHES) == {
        "a": [("a1b0", "a0b0"), ("a1b1", "a0b1")],
        "b": [("a1b1", "a1b0"), ("a0b1", "a0b0")],
    }


def test_an_arm_that_states_other_switches_is_in_no_pair_and_hinders_none() -> None:
    assert matched_pairs({"x": {"a": True}, "y": {"b": True}}) == {"a": [], "b": []}
    arms = {"on": {"a": True}, "other": {"a": True, "b": True}, "off": {"a": False}}
    assert matched_pairs(arms) == {"a": [("on", "off")], "b": []}


def test_effects_of_switches_are_those_that_were_planted() -> None:
    arms = {name: np.full((2, 2), 0.6) + 0.1 * s["a"] - 0.03 * s["b"] for name, s in SWITCHES.items()}
    found = {effect.switch: effect for effect in switch_effects(arms, SWITCHES)}
    assert found["a"].test.mean == pytest.approx(0.1)
    assert found["b"].test.mean == pytest.approx(-0.03)
    del arms["a0b0"]
    assert {effect.switch: len(effect.pairs) for effect in switch_effects(arms, SWITCHES)} == {"a": 1, "b": 1}


def test_an_effect_is_the_paired_test_of_the_mean_over_its_pairs() -> None:
    arms = scores()
    differences = ((arms["a1b0"] - arms["a0b0"]) + (arms["a1b1"] - arms["a0b1"])) / 2
    by_default = paired_test(differences, factor="draws", confidence=0.95)
    for found, wanted in (
        (switch_effects(arms, SWITCHES), by_default),
        (
            switch_effects(arms, SWITCHES, factor="seeds", confidence=0.8),
            paired_test(differences, factor="seeds", confidence=0.8),
        ),
    ):
        assert found[0].switch == "a"
        record = found[0].record()
        assert record.pop("switch") == "a"
        assert record.pop("pairs") == [["a1b0", "a0b0"], ["a1b1", "a0b1"]]
        assert record == {key: pytest.approx(value) for key, value in wanted.record().items()}
        assert json.loads(json.dumps(found[0].record())) == found[0].record()
    assert by_default.scope == "draws and patients"
