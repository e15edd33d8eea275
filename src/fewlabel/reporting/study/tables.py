"""The tables of a study, made of its statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fewlabel.reporting.blocks import Table
from fewlabel.reporting.formatting import DASH, between, number, p_value, percent
from fewlabel.scoring.failure_detection import FAILED

Statistics = Mapping[str, Any]
#: (arm, number of labelled patients) → published figure in words.
Published = Mapping[tuple[str, str], str]


def results_table(statistics: Statistics, published: Published) -> Table:
    """A row for each arm and number of labelled patients: Dice, gain over the control, verdict, published figure.

    Beside the mean it says how many scored patients, of all draws and seeds, have a mean Dice that counts as failed.

    Args:
        statistics: As the study leaves them.
        published: Published figures of these arms; without any there is no column of them.
    """
    control, coverage = statistics["control"], _coverage(statistics)
    head = ["arm", "M", "draws × seeds", "Dice, mean ± SD"]
    head += [f"gain over {control} ({coverage} interval)", "corrected p", "verdict", f"{coverage} interval of the mean"]
    head += [
        f"patients below {FAILED:g}",
        f"HD95 in {_units(statistics)}, mean ± SD",
        *(["published Dice"] if published else []),
    ]
    rows: list[list[str]] = []
    strong: set[int] = set()
    for budget in statistics["budgets"]:
        for arm, cells in statistics["cells"].items():
            if budget not in cells:
                continue
            cell = cells[budget]
            test = cell.get("test")
            if test is not None and test["verdict"] == "better":
                strong.add(len(rows))
            row = [arm, budget, trainings(cell["spread"]), mean_and_deviation(cell["spread"])]
            row += ["", "", "control" if arm == control else ""] if test is None else _tested(test)
            row.append(between(cell["interval"]["low"], cell["interval"]["high"]))
            row.append(f"{cell['failed']} of {cell['scored']}")
            row.append(mean_and_deviation(cell["measures"].get("hd95_mm", {}), 1))
            rows.append([*row, *([published.get((arm, budget), "")] if published else [])])
    numeric = frozenset(range(1, len(head))) - {head.index("verdict")}
    return Table(head, rows, "Results", numeric, frozenset(strong))


def short_table(statistics: Statistics) -> Table:
    """Of the results what fits into 80 columns: Dice, gain over the control and verdict."""
    whole = results_table(statistics, {})
    wanted = [0, 1, 3, 4, 6]
    head = ["arm", "M", "Dice, mean ± SD", f"gain ({_coverage(statistics)} interval)", "verdict"]
    return Table(head, [[row[at] for at in wanted] for row in whole.rows], "", frozenset({1, 2, 3}), whole.strong)


def _coverage(statistics: Statistics) -> str:
    return f"{100 * statistics['confidence']:g} %"


def _units(statistics: Statistics) -> str:
    return str(statistics["units"])


def trainings(spread: Mapping[str, Any]) -> str:
    """``3 × 2``: draws and seeds of each; the number of trainings where draws have different numbers of seeds."""
    draws, count = int(spread["draws"]), int(spread["trainings"])
    return f"{draws} × {count // draws}" if draws and count % draws == 0 else str(count)


def mean_and_deviation(spread: Mapping[str, Any], digits: int = 3) -> str:
    """``0.712 ± 0.014``; a dash where there is none."""
    if spread.get("mean") is None:
        return DASH
    std = spread.get("std")
    return number(spread["mean"], digits) + ("" if std is None else f" ± {number(std, digits)}")


def _tested(test: Mapping[str, Any]) -> list[str]:
    gain = f"{number(test['mean'], sign=True)} ({between(test['low'], test['high'], sign=True)})"
    return [gain, p_value(test["corrected"]), str(test["verdict"])]


def rank_table(statistics: Statistics) -> Table | None:
    """Where each arm stands, and how sure that is; None without two arms."""
    budgets = [budget for budget in statistics["budgets"] if statistics["ranks"].get(budget)]
    if not budgets:
        return None
    head = ["arm", *(word for budget in budgets for word in (f"rank at M={budget}", "95 % range", "came first"))]
    rows = []
    for arm in statistics["cells"]:
        cells = [statistics["ranks"][budget].get(arm) for budget in budgets]
        words = [
            word
            for rank in cells
            for word in (
                (DASH, DASH, DASH)
                if rank is None
                else (f"{rank['rank']:g}", f"{rank['low']:g} to {rank['high']:g}", percent(rank["first"]))
            )
        ]
        rows.append([arm, *words])
    agreed = [f"{number(statistics['agreement'].get(budget), 2)} at M={budget}" for budget in budgets]
    return Table(head, rows, f"Ranks; agreement of draws (Kendall's W): {', '.join(agreed)}", _all_but_first(head))


def label_table(statistics: Statistics) -> Table | None:
    """How many labelled patients the control needs to be as good; None without a curve of it."""
    if not statistics["equivalent"]:
        return None
    head = ["arm", "with labelled patients", f"equals {statistics['control']} with", "95 % range of it"]
    rows = [[entry["arm"], str(entry["with"]), needed(entry), _range(entry)] for entry in statistics["equivalent"]]
    return Table(head, rows, "Label efficiency", frozenset({1, 2, 3}))


def needed(entry: Mapping[str, Any]) -> str:
    """``4.2``, ``at most 1`` or ``more than 8``."""
    words = "" if entry["bound"] == "exact" else f"{entry['bound']} "
    digits = 1 if entry["bound"] == "exact" else 0
    return f"{words}{number(entry['labelled'], digits)}"


def _range(entry: Mapping[str, Any]) -> str:
    if entry["low"] is None:
        return DASH
    high = "more than the curve has" if entry["high"] is None else number(entry["high"], 1)
    return f"{number(entry['low'], 1)} to {high}"


def power_table(statistics: Statistics, gain: float) -> Table | None:
    """How many draws would show a gain; None where nothing tells."""
    if not statistics["power"]:
        return None
    head = ["arm", "M", f"chance to see a gain of {gain:g} Dice now", "what gives a chance of 80 %"]
    rows = [
        [arm, budget, percent(entry["now"]), _draws(entry)]
        for budget, arms in statistics["power"].items()
        for arm, entry in arms.items()
    ]
    return Table(head, rows, "Power; of each comparison by itself, before Holm's correction", frozenset({1, 2, 3}))


def _draws(entry: Mapping[str, Any]) -> str:
    if entry["draws"] is None:
        return f"no number, with {entry['patients']} test patients"
    return f"{entry['draws']} {entry['of']}"


def effect_table(statistics: Statistics) -> Table | None:
    """What each switch of an ablation is worth; None without switches."""
    effect_head = f"effect on Dice ({_coverage(statistics)} interval)"
    head = ["switch", "M", "pairs of arms", effect_head, "corrected p", "verdict"]
    rows = [
        [effect["switch"], budget, str(len(effect["pairs"])), *_tested(effect)]
        for budget, effects in statistics["effects"].items()
        for effect in effects
    ]
    return Table(head, rows, "Effects of switches", frozenset({1, 2, 3, 4})) if rows else None


def claim_table(statistics: Statistics) -> Table | None:
    """Published claims and whether they hold; None without claims."""
    head = ["claim", "M", f"difference of Dice here ({_coverage(statistics)} interval)", "corrected p", "it"]
    rows = [
        [entry["text"], str(entry["labelled"]), *_tested(entry)]
        if entry["labelled"] is not None
        else [entry["text"], DASH, "not run", DASH, entry["verdict"]]
        for entry in statistics["claims"]
    ]
    return Table(head, rows, "Published claims", frozenset({1, 2, 3}), wrapped=frozenset({0})) if rows else None


def recorded_table(statistics: Statistics) -> Table | None:
    """Medians of what trainings recorded; None where none was asked for."""
    found = statistics.get("recorded", {})
    names = list(dict.fromkeys(name for arms in found.values() for own in arms.values() for name in own))
    if not names:
        return None
    rows = [
        [arm, budget, *(_significant(own.get(name)) for name in names)]
        for budget, arms in found.items()
        for arm, own in arms.items()
    ]
    head = ["arm", "M", *names]
    return Table(head, rows, "Records of trainings; of the median of each, mean ± SD over them", _all_but_first(head))


def _significant(spread: Mapping[str, Any] | None) -> str:
    """Three digits, whatever the size."""
    if spread is None or spread["mean"] is None:
        return DASH
    words = [f"{value:.3g}" for value in (spread["mean"], spread["std"]) if value is not None]
    return " ± ".join(words).replace("-", "\N{MINUS SIGN}")


def embedding_table(statistics: Statistics) -> Table | None:
    """How encoders order slices by meta labels; None where it was not asked for."""
    rows = [
        [
            arm,
            label,
            str(own["purity"]["encoders"]),
            mean_and_deviation(own["silhouette"]),
            mean_and_deviation(own["purity"]),
            number(own["chance"]["mean"]),
        ]
        for arm, labels in statistics.get("embeddings", {}).items()
        for label, own in labels.items()
    ]
    head = ["arm", "meta label", "encoders", "silhouette, mean ± SD", "purity of 10 neighbours, mean ± SD", "by chance"]
    return Table(head, rows, "Embeddings", frozenset({2, 3, 4, 5})) if rows else None


def _all_but_first(head: list[str]) -> frozenset[int]:
    return frozenset(range(1, len(head)))
