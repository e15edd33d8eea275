"""The summary against numbers worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from fewlabel.scoring.statistics import bootstrap_interval, paired_comparison
from fewlabel.scoring.summary import summarise

NAMES = {1: "one", 2: "two"}


def table(arms=("model",)):
    """Two subjects, three cases, two classes; one distance is undefined."""
    dice = {"model": [0.8, 0.6, 0.9, 1.0, 0.7, 0.5], "control": [0.7, 0.6, 0.6, 1.0, 0.7, 0.2]}
    distance = {"model": [2.0, 4.0, 1.0, np.nan, 3.0, 30.0], "control": [3.0, 4.0, 1.0, np.nan, 3.0, 40.0]}
    rows = []
    for arm in arms:
        for row, (case, subject, index) in enumerate(
            [("a1", "a", 1), ("a1", "a", 2), ("a2", "a", 1), ("a2", "a", 2), ("b1", "b", 1), ("b1", "b", 2)]
        ):
            counted = (row == 5, row == 1, 2.0 if row != 3 else 0.0, row, 0.5 * row, row % 3, 0.25 * (row % 3))
            scored = (dice[arm][row], distance[arm][row], 0.5)
            rows.append((arm, case, subject, index, *scored, *counted, dice[arm][row] - 0.1 * (row % 3 > 0)))
    columns = ["arm", "case", "subject", "class", "dice", "hd95_mm", "assd_mm", "missed", "invented", "reference_ml",
               "stray", "stray_ml", "removed", "removed_ml", "dice_before"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def test_one_arm():
    found = summarise(table(), NAMES)
    assert found["gain"] is None
    model = found["arms"]["model"]
    one, two, mean = model["classes"]["1"], model["classes"]["2"], model["mean"]
    assert one["name"] == "one"
    assert one["dice"]["mean"] == pytest.approx(0.8)
    assert one["dice"]["std"] == pytest.approx(0.1)
    assert (one["dice"]["n"], one["dice"]["subjects"]) == (3, 2)
    assert (two["hd95_mm"]["mean"], two["hd95_mm"]["n"]) == (17.0, 2)
    assert (two["missed"], two["invented"], one["missed"]) == (1, 1, 0)
    # Within a case first: (0.7, 0.95, 0.6), and distances (3, 1, 16.5).
    assert mean["dice"]["mean"] == pytest.approx(0.75)
    assert mean["hd95_mm"]["mean"] == pytest.approx(20.5 / 3)
    assert (mean["missed"], mean["invented"]) == (1, 1)
    # A bootstrap of two subjects gives back the two.
    assert mean["dice"]["low"] is None


def test_counts_and_volumes_by_hand():
    rows = table()
    rows.loc[[3, 4], "dice"] = 0.0
    model = summarise(rows, NAMES)["arms"]["model"]
    one, two, mean = model["classes"]["1"], model["classes"]["2"], model["mean"]
    # Of both with Dice 0 one scan has no such structure.
    assert [(entry["present"], entry["lost"]) for entry in (one, two, mean)] == [(3, 1), (2, 0), (5, 1)]
    assert [(entry["stray"], entry["stray_ml"]) for entry in (one, two, mean)] == [(6, 3.0), (9, 4.5), (15, 7.5)]
    # Removed, row by row: 0 1 2 0 1 2.
    assert one["postprocess"] == {"removed": 3, "removed_ml": 0.75, "scans": 2, "dice_before": pytest.approx(2.2 / 3)}
    assert (two["postprocess"]["removed"], two["postprocess"]["scans"]) == (3, 2)
    assert (mean["postprocess"]["removed"], mean["postprocess"]["removed_ml"]) == (6, 1.5)
    # Every scan lost something of one class or the other; Dice within a case first: (.65, .9, .5).
    assert mean["postprocess"]["scans"] == 3
    assert summarise(table(), NAMES)["arms"]["model"]["mean"]["postprocess"]["dice_before"] == pytest.approx(2.05 / 3)
    json.dumps(model, allow_nan=False)


def test_gain_is_model_minus_control():
    found = summarise(table(("model", "control")), NAMES)
    gain = found["gain"]
    assert gain["classes"]["1"]["name"] == "one"
    assert gain["classes"]["1"]["dice"]["mean"] == pytest.approx(0.4 / 3)
    assert gain["classes"]["2"]["hd95_mm"]["mean"] == pytest.approx(-5.0)
    assert gain["mean"]["dice"]["mean"] == pytest.approx((0.05 + 0.15 + 0.15) / 3)
    means = [found["arms"][arm]["mean"]["dice"]["mean"] for arm in ("model", "control")]
    assert gain["mean"]["dice"]["mean"] == pytest.approx(means[0] - means[1])
    json.dumps(found, allow_nan=False)


def test_cases_are_paired_by_name_not_by_row():
    both = table(("model", "control"))
    shuffled = pd.concat([both[both["arm"] == "model"], both[both["arm"] == "control"].iloc[::-1]])
    assert summarise(shuffled, NAMES)["gain"] == summarise(both, NAMES)["gain"]


def many(count=9):
    """A subject per case; the model's Dice and distances are better by a little that varies."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        dice, distance = rng.uniform(0.5, 0.7), rng.uniform(5, 9)
        for arm, better in (("model", 0.1 + 0.01 * number), ("control", 0.0)):
            scored = (dice + better, distance - 10 * better, distance / 3 + better)
            rows.append((arm, f"c{number}", f"s{number}", 1, *scored, False, False, 0.5, 0, 0.0, 0, 0.0, dice))
    return pd.DataFrame(rows, columns=table().columns)


def test_a_smaller_distance_is_a_gain_and_a_larger_one_a_loss():
    mean = summarise(many(), NAMES)["gain"]["mean"]
    assert [mean[name]["verdict"] for name in ("dice", "hd95_mm", "assd_mm")] == [
        "gain outside the noise", "gain outside the noise", "loss outside the noise",
    ]  # fmt: skip
    assert mean["hd95_mm"]["mean"] < 0 < mean["assd_mm"]["mean"]


def test_intervals_are_those_of_the_bootstrap_that_was_asked_for():
    rows = many()
    model = rows[rows["arm"] == "model"]
    subjects, gains = model["subject"].tolist(), rows[rows["arm"] == "control"]["dice"].to_numpy()
    for how in ({}, {"confidence": 0.8, "resamples": 200, "seed": 3}):
        found = summarise(rows, NAMES, **how)
        wanted = bootstrap_interval(model["dice"].tolist(), subjects, **how).record()
        assert found["arms"]["model"]["mean"]["dice"] == wanted
        compared = paired_comparison(model["dice"].tolist(), gains.tolist(), subjects, **how).record()
        assert found["gain"]["mean"]["dice"] == compared
    assert summarise(rows, NAMES) == summarise(rows, NAMES, confidence=0.95, resamples=2000, seed=0)


def test_a_structure_of_less_than_a_millilitre_is_present():
    assert summarise(many(), NAMES)["arms"]["model"]["classes"]["1"]["present"] == 9
