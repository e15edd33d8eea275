"""What an evaluation tells, word by word and within 80 columns."""

from __future__ import annotations

import copy
from typing import Any

from fewlabel.stages._console_scores import score_lines


def interval(mean: float | None, half: float | None = None, **more: Any) -> dict[str, Any]:
    known = mean is not None and half is not None
    return {"mean": mean, "low": mean - half if known else None, "high": mean + half if known else None, **more}


def arm(dice: float, far: float | None, *, removed: int = 0) -> dict[str, Any]:
    counts = {"present": 30, "missed": 1, "lost": 3, "invented": 2, "stray": 14, "stray_ml": 22.34}
    taken = {"removed": removed, "removed_ml": 12.31, "scans": 5, "dice_before": dice - 0.01}
    return {
        "mean": {"dice": interval(dice, 0.05), "hd95_mm": interval(far, 2.0), **counts, "postprocess": taken},
        "classes": {},
    }


SUMMARY: dict[str, Any] = {
    "cases": 12,
    "arms": {"model": arm(0.712, 108.14, removed=114), "control": arm(0.65, 12.0)},
    "gain": {
        "mean": {
            "dice": interval(0.062, 0.04, p=0.0312, verdict="gain outside the noise"),
            "hd95_mm": interval(-3.9, 1.5, p=0.0312, verdict="gain outside the noise"),
        }
    },
    "differences": ["steps (300 beside 500)"],
}


def test_both_networks_have_dice_and_hd95_and_what_to_look_at() -> None:
    lines = score_lines(SUMMARY)
    assert lines == [
        "model: mean Dice 0.712 (0.662 to 0.762), mean HD95 108.1 (106.1 to 110.1) mm",
        "  missed 1, lost 3, invented 2 structures",
        "  14 stray objects (22.3 ml) in 12 scans",
        "  post-processing removed 114 pieces (12.3 ml) in 5 scans; Dice without 0.702",
        "control: mean Dice 0.650 (0.600 to 0.700), mean HD95 12.0 (10.0 to 14.0) mm",
        "  missed 1, lost 3, invented 2 structures",
        "  14 stray objects (22.3 ml) in 12 scans",
        "gain over the control:",
        "  Dice +0.062 (+0.022 to +0.102), p = 0.0312: gain outside the noise",
        "  HD95 -3.9 (-5.4 to -2.4) mm, p = 0.0312: gain outside the noise",
        "Not a fair control: it differs from the model in steps (300 beside 500).",
    ]
    assert max(map(len, lines)) <= 80


def test_how_well_disagreement_ranks_scans_and_finds_failures() -> None:
    summary = copy.deepcopy(SUMMARY)
    failures = {"below": 0.5, "failed": 31, "auroc": 0.912, "low": 0.7, "high": 1.0}
    apart = {"mean": 0.1234, "spearman": -0.5, "cases": 100}
    for found, told in (
        (failures, ["  finds failures (31 of 100 scans, Dice below 0.5): AUROC 0.91 (0.70 to 1.00)"]),
        ({**failures, "low": None}, ["  finds failures (31 of 100 scans, Dice below 0.5): AUROC 0.91"]),
        ({**failures, "auroc": None}, []),
    ):
        summary["disagreement"] = {"model": {**apart, "failures": found}}
        first, *rest = [line for line in score_lines(summary) if "disagreement" in line or "failures" in line]
        assert first == "model: disagreement of its networks 0.123, rank correlation with Dice -0.50"
        assert rest == told
        assert max(map(len, rest), default=0) <= 80


def test_without_distances_control_or_intervals() -> None:
    summary = copy.deepcopy(SUMMARY)
    summary["arms"] = {"model": arm(0.5, None)}
    summary["arms"]["model"]["mean"]["dice"] = interval(0.5)
    summary |= {"gain": None, "differences": []}
    assert score_lines(summary) == [
        "model: mean Dice 0.500",
        "  missed 1, lost 3, invented 2 structures",
        "  14 stray objects (22.3 ml) in 12 scans",
    ]
    gain = copy.deepcopy(SUMMARY)
    gain["gain"]["mean"]["hd95_mm"] = interval(None, p=None, verdict="no case to compare")
    gain["gain"]["mean"]["dice"] = interval(0.1, p=None, verdict="gain, but one subject says nothing about the next")
    told = score_lines(gain)
    assert told[told.index("gain over the control:") + 1 : -1] == [
        "  Dice +0.100",
        "  one subject says nothing about the next",
    ]


def test_too_few_subjects_are_told_once_and_without_a_test() -> None:
    gain = copy.deepcopy(SUMMARY)
    few = "3 patients are too few to tell a gain from a loss (at least 6)"
    gain["gain"]["mean"]["dice"] = interval(-0.062, 0.04, p=0.25, verdict=few)
    gain["gain"]["mean"]["hd95_mm"] = interval(-103.9, 101.5, p=0.25, verdict=few)
    told = score_lines(gain)
    assert told[told.index("gain over the control:") + 1 : -1] == [
        "  Dice -0.062 (-0.102 to -0.022)",
        "  HD95 -103.9 (-205.4 to -2.4) mm",
        "  3 patients are too few to tell a gain from a loss (at least 6)",
    ]
    assert max(map(len, told)) <= 80


def test_in_voxels_nothing_is_called_mm_or_ml() -> None:
    lines = score_lines({**SUMMARY, "units": "voxels"})
    assert lines[0] == "model: mean Dice 0.712 (0.662 to 0.762), mean HD95 108.1 (106.1 to 110.1) voxels"
    assert lines[2] == "  14 stray objects (22.3 voxels) in 12 scans"
    assert lines[9] == "  HD95 -3.9 (-5.4 to -2.4) voxels, p = 0.0312: gain outside the noise"
    assert not [line for line in lines if " mm" in line or " ml" in line]
