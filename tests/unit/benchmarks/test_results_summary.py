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


def left_atrium():
    rows = {row["arm"]: row for row in SUMMARY["rows"]("la-lite")}
    return [
        f"| `{arm}` | {rows[arm]['dice']:.3f} | {rows[arm]['dice_loss_first']:.2f} → {rows[arm]['dice_loss_last']:.2f} "
        f"| {rows[arm]['finetune_step_seconds']:.2f} |"
        for arm in ("scratch", "mean_teacher", "arco", "cps")
    ]


def costs_of_regimes():
    found = json.loads((ROOT / "benchmarks" / "results" / "regime-costs.json").read_text())["regimes"]
    found.pop("supervised")
    lines = []
    for name, row in sorted(found.items(), key=lambda item: item[1]["step"]):
        head, _, stage = name.partition(", ")
        size = row["extra_bytes"] / 2**20
        memory = "under 0.1 MiB" if size < 0.1 else f"{size:.1f} MiB"
        lines.append(f"| `{head}`{', ' if stage else ''}{stage} | {row['step']:.1f} x | {memory} |")
    return lines


def tables_of_documents():
    def lines(suite, **over):
        return SUMMARY["markdown"](SUMMARY["summarise"](SUMMARY["rows"](suite)), **over)

    splits = [SUMMARY["rows"](f"acdc-semi-{split}") for split in ("chaitanya", "ssl4mis")]
    seeds = [
        line.replace("| draws |", "| seeds |").replace("one draw", "one seed") for line in lines("acdc-semi-ssl4mis")
    ]
    regimes = "docs/explanation/regimes.md"
    return {
        "README": ("README.md", lines("acdc-lite")),
        "methods": ("docs/explanation/methods.md", lines("acdc-methods")),
        "chaitanya": (regimes, lines("acdc-semi-chaitanya")),
        "ssl4mis": (regimes, seeds),
        "pooled": (regimes, SUMMARY["pooled"](splits)),
        "variance": (regimes, SUMMARY["variances"]([row for rows in splits for row in rows])),
        "left atrium": (regimes, left_atrium()),
        "costs": (regimes, costs_of_regimes()),
        "time": (regimes, SUMMARY["durations"]([row for rows in splits for row in rows])),
    }


@pytest.mark.parametrize("table", tables_of_documents())
def test_documents_show_the_committed_rows(table):
    document, lines = tables_of_documents()[table]
    assert "\n".join(["", *lines, ""]) in (ROOT / document).read_text()
