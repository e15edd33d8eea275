"""Numbers and names as they are printed."""

from __future__ import annotations

import math

import pytest

from fewlabel.reporting.formatting import (
    arm_name,
    between,
    count,
    duration,
    estimate,
    interval_name,
    listed,
    number,
    p_value,
    percent,
)


@pytest.mark.parametrize(
    ("value", "options", "text"),
    [
        (0.71249, {}, "0.712"),
        (-0.5, {"digits": 1}, "\N{MINUS SIGN}0.5"),
        (0.1, {"digits": 2, "sign": True}, "+0.10"),
        (-0.0004, {"sign": True}, "+0.000"),
        (None, {}, "–"),
        (math.nan, {}, "–"),
    ],
)
def test_number(value, options, text):
    assert number(value, **options) == text


def test_between():
    assert between(0.1, 0.25, 2) == "0.10 to 0.25"
    assert between(-0.1, 0.25, 2, sign=True) == "\N{MINUS SIGN}0.10 to +0.25"
    assert between(None, 0.25) == "–"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.25, "4.2 s"), (42.4, "42 s"), (59.7, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_counts_and_lists():
    assert count(1, "scan") == "1 scan"
    assert count(0, "scan") == "0 scans"
    assert count(2, "box", "boxes") == "2 boxes"
    assert listed([]) == ""
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(list("abcdefgh"), most=3) == "a, b, c and 5 more"


def test_p_values_and_shares():
    assert p_value(None) == "–"
    assert p_value(0.03125) == "0.031"
    assert p_value(0.0002) == "< 0.001"
    assert percent(0.125) == "12 %"
    assert percent(0.125, 1) == "12.5 %"
    assert percent(math.nan) == "–"


def test_estimate_of_a_summary_entry():
    found = estimate({"mean": 0.5, "low": 0.4, "high": 0.6})
    assert (found.mean, found.low, found.high) == (0.5, 0.4, 0.6)
    assert math.isnan(estimate({"mean": None, "low": None, "high": None}).mean)
    assert found.text(2) == "0.50 (0.40 to 0.60)"
    assert estimate({"mean": 0.5, "low": None, "high": None}).text(1, sign=True) == "+0.5"


def test_names_of_arms_and_intervals():
    assert arm_name("pretrained encoder", "gcl") == "pre-trained with gcl"
    assert arm_name("frozen encoder", "") == "frozen encoder, pre-trained with an unknown method"
    assert arm_name("scratch", "gcl") == "from scratch"
    assert interval_name({"protocol": {"confidence": 0.9}}) == "90 % interval"
    assert interval_name({}) == "95 % interval"
