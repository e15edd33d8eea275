"""The statistics of a study, as JSON-ready values: what each arm reached, and what may be said of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fewlabel.pipelines.study.claims import Found, claims_told, difference, rows_of, test_of
from fewlabel.pipelines.study.draws import every_budget
from fewlabel.pipelines.study.results import MEASURES, Results
from fewlabel.pipelines.study.spec import Study
from fewlabel.scoring.failure_detection import FAILED
from fewlabel.scoring.label_efficiency import EFFICIENCY_RULE, equivalent_labels
from fewlabel.scoring.nested_bootstrap import BOOTSTRAP_RULE, nested_bootstrap
from fewlabel.scoring.paired_test import TEST_RULE, Factor, PairedTest, holm, verdict
from fewlabel.scoring.power import POWER_RULE, draws_needed
from fewlabel.scoring.rank_stability import RANK_RULE, agreement, rank_stability
from fewlabel.scoring.replicates import Scores, means_over, over_seeds, spread
from fewlabel.scoring.switch_effects import SWITCH_RULE, Effect, switch_effects

RULES = {
    "test": TEST_RULE,
    "interval": BOOTSTRAP_RULE,
    "ranks": RANK_RULE,
    "label efficiency": EFFICIENCY_RULE,
    "power": POWER_RULE,
    "switches": SWITCH_RULE,
}


def analyse(study: Study, results: Results) -> dict[str, Any]:
    """All statistics of a study.

    Args:
        study: The study.
        results: What its cells came to.

    Returns:
        ``control``; ``budgets`` that have scores; ``units`` of distances; ``cells`` → arm → budget → ``spread``,
        ``interval`` and, against the control, ``test`` with ``corrected`` and ``verdict``, each measure's;
        ``equivalent``, ``ranks``, ``agreement``, ``power``, ``effects``, ``claims``, ``recorded``, ``rules``, and
        ``missing`` cells.
    """
    level = 1.0 - study.settings.confidence
    scores: dict[int | str, dict[str, Scores]] = {
        budget: results.scores(study.arms, budget) for budget in every_budget(study)
    }
    scores = {budget: found for budget, found in scores.items() if found}
    tests = _tests(study, scores)
    return {
        "name": study.settings.name,
        "description": study.settings.description,
        "control": study.control,
        "budgets": [str(budget) for budget in scores],
        "confidence": study.settings.confidence,
        "units": _units(results),
        "cells": _cells(study, results, scores, tests, level),
        "equivalent": _equivalent(study, scores),
        "ranks": {str(budget): _ranks(found) for budget, found in scores.items()},
        "agreement": {str(budget): _agreement(found) for budget, found in scores.items()},
        "power": _power(study, scores),
        "effects": _effects(study, scores),
        "claims": claims_told(study.claims, scores, study.settings.confidence),
        "recorded": _recorded(study, results),
        "rules": RULES,
        "missing": [[cell.arm, str(cell.budget), cell.draw, cell.seed] for cell in results.missing],
    }


def _units(results: Results) -> str:
    """What distances are in: mm, voxels where nobody knows how large one is."""
    return " or ".join(dict.fromkeys(results.rows["units"])) if len(results.rows) else "mm"


def _tests(study: Study, scores: Found) -> dict[tuple[int | str, str], tuple[PairedTest, float | None]]:
    """(budget, arm) → test against the control, and its corrected p."""
    confidence = study.settings.confidence
    tests = {
        (budget, arm): test_of(found, arm, study.control, confidence)
        for budget, found in scores.items()
        if study.control in found
        for arm in found
        if arm != study.control
    }
    corrected = holm([test.p for test in tests.values()])
    return {key: (test, p) for (key, test), p in zip(tests.items(), corrected, strict=True)}


def _cells(
    study: Study,
    results: Results,
    scores: Found,
    tests: Mapping[tuple[int | str, str], tuple[PairedTest, float | None]],
    level: float,
) -> dict[str, dict[str, Any]]:
    cells: dict[str, dict[str, Any]] = {arm: {} for arm in study.arms}
    for budget, found in scores.items():
        others = {name: results.scores(found, budget, name) for name in MEASURES if name != "dice"}
        for arm, values in found.items():
            cell: dict[str, Any] = {
                "spread": spread(values).record(),
                "interval": nested_bootstrap(values, confidence=study.settings.confidence).record(),
                # A mean may hide them.
                "failed": int((values < FAILED).sum()),
                "scored": int(np.isfinite(values).sum()),
                "measures": {name: spread(table[arm]).record() for name, table in others.items() if arm in table},
            }
            if (budget, arm) in tests:
                test, corrected = tests[budget, arm]
                cell["test"] = {
                    **test.record(), "corrected": corrected, "verdict": verdict(test, corrected, level=level),
                }  # fmt: skip
            cells[arm][str(budget)] = cell
    return cells


def _equivalent(study: Study, scores: Found) -> list[dict[str, Any]]:
    """How many labelled patients the control needs to be as good as each arm at each number."""
    numbers = [budget for budget in scores if isinstance(budget, int) and study.control in scores[budget]]
    if len(numbers) < 2:
        return []
    curve = [scores[budget][study.control] for budget in numbers]
    return [
        {"arm": arm, "with": budget, **equivalent_labels(scores[budget][arm], numbers, curve).record()}
        for budget in scores
        for arm in scores[budget]
        if isinstance(budget, int) and arm != study.control
    ]


def _complete(found: Mapping[str, Scores]) -> dict[str, Scores]:
    """The scores of the draws that all arms have."""
    whole = np.logical_and.reduce([~np.isnan(scores).all(axis=(1, 2)) for scores in found.values()])
    return {arm: scores[whole] for arm, scores in found.items()} if whole.any() else {}


def _ranks(found: Mapping[str, Scores]) -> dict[str, Any]:
    whole = _complete(found)
    if len(whole) < 2:
        return {}
    return {arm: rank.record() for arm, rank in rank_stability(whole).items()}


def _agreement(found: Mapping[str, Scores]) -> float | None:
    means = [means_over(over_seeds(scores), axis=1) for scores in found.values()]
    return agreement(np.stack(means, axis=1)) if len(means) > 1 else None


def _power(study: Study, scores: Found) -> dict[str, dict[str, Any]]:
    told: dict[str, dict[str, Any]] = {}
    for budget, found in scores.items():
        for arm in found if study.control in found else ():
            if arm == study.control:
                continue
            differences, factor = difference(found, arm, study.control)
            needed = draws_needed(differences, study.settings.gain, level=1.0 - study.settings.confidence)
            if needed is not None:
                told.setdefault(str(budget), {})[arm] = {**needed.record(), "of": factor}
    return told


def _effects(study: Study, scores: Found) -> dict[str, list[dict[str, Any]]]:
    """Number of labelled patients → effects of switches; they are corrected over all numbers, as the table has them."""
    effects = [(str(budget), effect) for budget, found in scores.items() for effect in _effects_at(study, found)]
    corrected = holm([effect.test.p for _, effect in effects])
    level = 1.0 - study.settings.confidence
    told: dict[str, list[dict[str, Any]]] = {str(budget): [] for budget in scores}
    for (budget, effect), p in zip(effects, corrected, strict=True):
        words = verdict(effect.test, p, level=level)
        told[budget].append({**effect.record(), "corrected": p, "verdict": words})
    return told


def _effects_at(study: Study, found: Mapping[str, Scores]) -> list[Effect]:
    switches = {name: arm.switches for name, arm in study.arms.items() if arm.switches}
    rows = {name: rows_of(scores) for name, scores in found.items() if name in switches}
    factor: Factor = next((factor for _, factor in rows.values()), "draws")
    arms = {name: scores for name, (scores, _) in rows.items()}
    return switch_effects(arms, switches, factor=factor, confidence=study.settings.confidence)


def _recorded(study: Study, results: Results) -> dict[str, dict[str, dict[str, Any]]]:
    """Budget → arm → figure of the records → mean and deviation over trainings."""
    told: dict[str, dict[str, dict[str, Any]]] = {}
    rows = results.rows
    for name in study.settings.recorded:
        column = f"recorded/{name}"
        if column not in rows:
            continue
        for (budget, arm), values in rows.dropna(subset=[column]).groupby(["labelled", "arm"], sort=False)[column]:
            own = told.setdefault(str(budget), {}).setdefault(str(arm), {})
            own[name] = spread(values.to_numpy(dtype=np.float64)[:, None, None]).record()
    return told
