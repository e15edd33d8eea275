"""What a fair comparison keeps equal."""

from __future__ import annotations

import pytest

from fewlabel.protocol.fair_control import differences

FACTS = {
    "labelled_subjects": ["p1"],
    "architecture": {"width": 16, "depth": 5, "norm": "batch"},
    "members": 1,
    "steps": 300,
    "batch": 10,
    "patch": None,
    "selection": "none",
    "initialisation": "pretrained encoder",
    "regime": "arco",
}


def test_start_and_regime_are_what_is_compared():
    assert differences(FACTS, FACTS | {"initialisation": "scratch", "regime": "supervised"}) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"labelled_subjects": ["p2", "p3"]}, "labelled patients (p1 beside p2, p3)"),
        ({"labelled_subjects": ["a", "b", "c", "d"]}, "labelled patients (p1 beside 4)"),
        (
            {"architecture": {"width": 4, "depth": 3, "norm": "batch"}},
            "network (width 16, depth 5 beside width 4, depth 3)",
        ),
        ({"architecture": {"width": 16}}, "network (depth 5, norm batch beside less)"),
        ({"steps": 500}, "steps (300 beside 500)"),
        ({"batch": 4}, "batch (10 beside 4)"),
        ({"patch": [8, 16, 16]}, "patch (none beside 8, 16, 16)"),
        ({"members": 3}, "networks (1 beside 3)"),
        ({"selection": "held_out"}, "model selection (none beside held_out)"),
    ],
)
def test_each_difference_is_told_with_both_values(change, told):
    assert differences(FACTS, FACTS | change) == [told]


def test_what_is_not_stated_is_not_judged():
    assert differences(FACTS, {"steps": 300}) == []


def test_what_was_done_after_training_is_done_to_both():
    done = {"postprocess": {"foreground": True}, "recalibrated": {"slices": 9}}
    assert differences(FACTS | done, FACTS | done) == []
    # Those made before there was such a thing had none.
    told = ["post-processing (on beside off)", "statistics from unlabelled slices (on beside off)"]
    assert differences(FACTS | done, FACTS) == told
    assert differences(FACTS, FACTS | done) == [line.replace("on beside off", "off beside on") for line in told]
    assert differences(FACTS | {"postprocess": None}, FACTS) == []
    # A regime that sees unlabelled slices has their statistics.
    assert differences(FACTS, FACTS | done | {"postprocess": None, "regime": "supervised"}) == []
