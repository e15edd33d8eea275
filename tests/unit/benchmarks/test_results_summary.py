"""The summary of a results table: gains are paired by draw, with a t-interval."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SUMMARY = runpy.run_path(str(ROOT / "benchmarks" / "summary.py"))


def test_gains_are_paired_by_draw():
    dice = {"scratch": [0.5, 0.6, 0.7], "gcl": [0.6, 0.6, 0.9]}
    table = [
        {"arm": arm, "labelled": 1, "draw": draw, "dice": value}
        for arm, values in dice.items()
        for draw, value in enumerate(values)
    ]
    header, scratch, gcl = SUMMARY["summarise"](table)
    assert header == "arm M draws mean std gain low high"
    assert scratch.startswith("scratch 1 3 0.600 0.100 0.000")
    # Gains 0.1, 0, 0.2: mean 0.1, standard error 0.1/sqrt(3), t(2) = 4.303.
    assert gcl.split()[:6] == ["gcl", "1", "3", "0.700", "0.173", "0.100"]
    assert [float(value) for value in gcl.split()[6:]] == pytest.approx([-0.148, 0.348], abs=1e-3)


def test_documents_show_the_same_figures():
    lines = ["arm M draws mean std gain low high", "scratch 1 3 0.5 0.1 0 0 0", "gcl 1 3 0.7 0.2 0.1 -0.148 0.348"]
    _, _, scratch, gcl = SUMMARY["markdown"](lines)
    assert scratch == "| `scratch` | 1 | 3 | 0.5 ± 0.1 |  |"
    assert gcl == "| `gcl` | 1 | 3 | 0.7 ± 0.2 | +0.100 (-0.148 to +0.348) |"


def test_one_draw_has_no_interval():
    table = [
        {"arm": arm, "labelled": 1, "draw": 0, "dice": dice, "finetune_step_seconds": 0.5, "seconds": 60 + 100 * dice}
        for arm, dice in (("scratch", 0.5), ("bcp", 0.625))
    ]
    assert SUMMARY["markdown"](SUMMARY["summarise"](table))[-1] == "| `bcp` | 1 | 1 | 0.625 | +0.125 (one draw) |"
    found = SUMMARY["markdown"](SUMMARY["summarise"](table, "bcp"), "bcp")
    assert found[0].endswith("gain over bcp, 95 % interval |")
    # The reference comes first.
    assert found[-2:] == ["| `bcp` | 1 | 1 | 0.625 |  |", "| `scratch` | 1 | 1 | 0.500 | -0.125 (one draw) |"]
    assert SUMMARY["durations"](table)[2:] == ["| `scratch` | 1 | 0.50 | 110 |", "| `bcp` | 1 | 0.50 | 122 |"]


def test_pooled_gains_are_those_of_all_runs_that_both_have():
    def row(arm, labelled, draw, dice):
        return {"arm": arm, "labelled": labelled, "draw": draw, "dice": dice}

    first = [row("scratch", 1, 0, 0.5), row("gcl", 1, 0, 0.6), row("gcl", 1, 1, 0.9), row("scratch", 2, 0, 0.6)]
    second = [row("scratch", 1, 0, 0.2), row("gcl", 1, 0, 0.2), row("bcp", 1, 0, 0.1), row("scratch", 3, 0, 0.4)]
    third = [row("scratch", 1, 0, 0.4), row("gcl", 1, 0, 0.6)]
    lines = SUMMARY["pooled"]([first, second, third])
    # Gains 0.1, 0, 0.2; draw 1 of the first table has no scratch.
    assert lines[2:] == [
        "| `gcl` | 3 | +0.100 (-0.148 to +0.348) | 2 |",
        "| `bcp` | 1 | -0.100 (one run) | 0 |",
    ]
    assert SUMMARY["pooled"]([second], "gcl")[-1] == "| `bcp` | 1 | -0.100 (one run) | 0 |"


def test_variances_are_over_those_of_naive_draws():
    table = [
        {"arm": "cps"},
        *({"arm": "arco", "variance": {"ns": 4.0, "sg": sg, "sag": 1.0}} for sg in (1.0, 2.0, 3.0)),
    ]
    assert SUMMARY["variances"](table)[2:] == ["| `arco` | 3 | 0.50 | 0.25 |"]


def test_pretraining_is_shown_once_per_arm_and_stage():
    stage = {
        "terms": ["views"],
        "loss_first": 4.0,
        "loss_last": 3.0,
        "collapsed_last": None,
        "spread": [0.1, 0.2, 0.3],
        "effective_rank": [1.0, 2.0, 3.0],
    }
    table = [{"arm": "scratch"}, {"arm": "moco", "pretraining": [stage]}, {"arm": "moco", "pretraining": [stage]}]
    _, _, row = SUMMARY["pretraining"](table)
    assert row == "| `moco` | views | 4.00 → 3.00 |  | 0.10 → 0.30 | 1.00 → 3.00 |"


def test_a_missing_table_says_how_to_make_it():
    with pytest.raises(SystemExit, match=r"of nothing are .*run\.py --suite"):
        SUMMARY["rows"]("nothing")


def test_seeds_are_called_seeds():
    table = [{"arm": arm, "labelled": 1, "draw": 0, "dice": dice} for arm, dice in (("scratch", 0.5), ("bcp", 0.625))]
    found = SUMMARY["markdown"](SUMMARY["summarise"](table), numbers="seeds")
    assert found[0].startswith("| arm | M | seeds |")
    assert found[-1].endswith("| +0.125 (one seed) |")


def test_learning_is_shown_with_the_reference_first():
    row = {"dice": 0.8043, "dice_loss_first": 0.7705, "dice_loss_last": 0.1272, "finetune_step_seconds": 0.4666}
    _, _, *lines = SUMMARY["learning"]([{"arm": "cps", **row}, {"arm": "scratch", **row}])
    assert lines == [f"| `{arm}` | 0.804 | 0.77 → 0.13 | 0.47 |" for arm in ("scratch", "cps")]


@pytest.mark.parametrize(("kind", "beside"), [("regime", "network"), ("method", "encoder")])
def test_costs_are_shown_from_the_cheapest_on_beside_the_reference(tmp_path, kind, beside):
    rows = {
        "plain": {"step": 1.0, "extra_bytes": 0},
        "two": {"step": 3.04, "extra_bytes": 2**21},
        "two, stage 1": {"step": 1.26, "extra_bytes": 99_000},
    }
    (tmp_path / "x-costs.json").write_text(json.dumps({"reference": "plain", f"{kind}s": rows}))
    head, _, *lines = SUMMARY["costs"]("x-costs", tmp_path)
    assert head == f"| {kind} | step | memory beside the {beside} |"
    assert lines == ["| `two`, stage 1 | 1.3 x | under 0.1 MiB |", "| `two` | 3.0 x | 2.0 MiB |"]
    with pytest.raises(SystemExit, match="of other-costs are"):
        SUMMARY["costs"]("other-costs", tmp_path)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("acdc-lite", "gcl 2 5 0.654 0.050 0.031 0.018 0.044"),
        ("acdc-lite --reference gcl", "gcl 2 5 0.654 0.050 0.000 0.000 0.000"),
        ("acdc-lite --markdown", "| `gcl` | 2 | 5 | 0.654 ± 0.050 | +0.031 (+0.018 to +0.044) |"),
        ("acdc-methods --pretraining", "| `pixpro` | pixels | -0.02 → -0.93 |  | 0.08 → 0.14 | 47.07 → 8.45 |"),
        (
            "acdc-semi-ssl4mis --markdown --numbers seeds",
            "| `mean_teacher-joint` | 3 | 1 | 0.348 | -0.191 (one seed) |",
        ),
        ("acdc-semi-chaitanya acdc-semi-ssl4mis --pooled", "| `cps` | 12 | +0.049 (+0.036 to +0.062) | 11 |"),
        ("acdc-semi-chaitanya acdc-semi-ssl4mis --variance", "| `arco-sg` | 12 | 0.44 | 0.33 |"),
        ("acdc-semi-chaitanya acdc-semi-ssl4mis --time", "| `cps` | 12 | 1.03 | 365 |"),
        ("la-lite --learning", "| `arco` | 0.764 | 0.81 → 0.17 | 1.01 |"),
        ("regime-costs", "| `arco`, stage 1 | 2.4 x | 18.2 MiB |"),
    ],
)
def test_the_command_line_prints_each_table_of_the_committed_rows(words, line):
    assert line in SUMMARY["table"](words.split())
