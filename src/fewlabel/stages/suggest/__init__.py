"""``suggest``: which scans to annotate next, and why; always beside a choice at random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fewlabel.core.artifact.files import write_text
from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.output_paths import unwritable
from fewlabel.core.progress import say
from fewlabel.core.rng import numpy_stream
from fewlabel.engine.runtime import choose_device
from fewlabel.scoring.scans_worth_annotating import (
    Pick,
    mean_gap,
    pick_at_random,
    pick_to_cover,
    random_gaps,
    scan_distances,
)
from fewlabel.stages.suggest.evidence import Evidence
from fewlabel.stages.suggest.settings import SuggestSettings

__all__ = ["SETTINGS", "SuggestSettings", "run"]

SETTINGS = SuggestSettings
TABLE = "suggestions.csv"


def run(settings: SuggestSettings) -> Path:
    """Suggest scans and write a table of them, with as many drawn at random below.

    Returns:
        The table: ``choice`` (``suggested`` or ``random``), ``rank``, ``case``, ``subject``, ``image``, ``rule``,
        ``gap`` (distance to the nearest annotated or earlier scan, 1 is that of a typical pair; empty for the first of
        all), ``disagreement`` in [0, 1] and ``why``.

    Raises:
        SettingsError: If the table cannot be written, or the rule needs a segmentation network and there is none.
        ArtifactError: If the folder is neither a run nor a prepared folder.
        DataError: If every training scan is annotated.
    """
    out = settings.out or settings.run / TABLE
    if obstacle := f"{out} is a folder" if out.is_dir() else unwritable(out.parent):
        raise SettingsError("Nothing was written:", [Fault(f"{out} cannot be written: {obstacle}", "out")])
    evidence, device = Evidence.of(settings.run), choose_device(settings.device)
    candidates = evidence.candidates
    rule = settings.rule if settings.rule != "auto" else "disagreement" if evidence.segmenters else "coverage"
    if rule == "disagreement" and not evidence.segmenters:
        fault = Fault("disagreement needs a segmentation network", "rule", "Use rule=coverage, or train first")
        raise SettingsError("There is nothing to ask:", [fault])
    features, whose = evidence.embedding(device)
    distances, owners = scan_distances(features), [case.subject for case in evidence.cases]
    count = min(settings.count, len(candidates))
    if count < settings.count:
        say(f"No more than {count} scans are left to annotate, fewer than the {settings.count} asked for.")
    apart: dict[int, float] = {}
    pool = candidates
    if rule == "disagreement":
        apart, networks = evidence.disagreement(candidates, device, settings.precision)
        pool = sorted(candidates, key=lambda place: -apart[place])[: settings.shortlist * count]
    picks = pick_to_cover(distances, evidence.known, pool, owners, count)
    control = pick_at_random(candidates, owners, count, numpy_stream(settings.seed, "suggest", "random"))
    say(f"{len(evidence.known)} of {len(evidence.cases)} training scans are annotated. Distances are those of {whose}.")
    if rule == "disagreement":
        say(f"Disagreement is that of {networks}.")
    order = sorted(apart.values(), reverse=True)
    rows = []
    for rank, pick in enumerate(picks, start=1):
        why = _why(pick, apart, order)
        rows.append(_row("suggested", rank, pick, evidence, rule, apart, why))
        say(f"{rank}. {evidence.cases[pick.index].id}: {why}")
    if count < len(candidates):
        random = numpy_stream(settings.seed, "suggest", "gaps")
        gaps = random_gaps(distances, evidence.known, candidates, owners, count, random)
        say(_held_against(mean_gap(distances, [*evidence.known, *(pick.index for pick in picks)]), gaps, count))
    else:
        say("These are all that are left: there is nothing to choose.")
    for rank, place in enumerate(control, start=1):
        drawn = pick_to_cover(distances, [*evidence.known, *control[: rank - 1]], [place], owners, 1)[0]
        rows.append(_row("random", rank, drawn, evidence, "random", apart, "drawn at random, as a control"))
    write_text(out, pd.DataFrame(rows).to_csv(index=False))
    return out


def _why(pick: Pick, apart: dict[int, float], order: list[float]) -> str:
    reasons = []
    if pick.index in apart:
        place = order.index(apart[pick.index]) + 1
        reasons.append(f"disagreement {apart[pick.index]:.2f}, number {place} of {len(order)}")
    if pick.gap is None:
        reasons.append("in the middle of all scans")
    else:
        scans = "1 scan" if pick.served == 1 else f"{pick.served} scans"
        reasons.append(f"nearer to {scans} than any annotated one, which is {pick.gap:.2f} of a typical distance away")
    return "; ".join(reasons)


def _held_against(gap: float, gaps: Any, count: int) -> str:
    """What the choice is worth beside one at random, as far as distances can tell."""
    low, high = np.quantile(gaps, (0.05, 0.95))
    scans = "scan" if count == 1 else "scans"
    words = f"With {'it' if count == 1 else 'them'}, a scan's nearest annotated one is {gap:.2f} of a typical distance"
    beside = f"with {count} {scans} at random {gaps.mean():.2f} (90 % of draws: {low:.2f} to {high:.2f})"
    verdict = "" if gap < low else ": no better than random"
    return f"{words} away on average; {beside}{verdict}."


def _row(
    choice: str, rank: int, pick: Pick, evidence: Evidence, rule: str, apart: dict[int, float], why: str
) -> dict[str, Any]:
    case = evidence.cases[pick.index]
    return {
        "choice": choice,
        "rank": rank,
        "case": case.id,
        "subject": case.subject,
        "image": ";".join(case.images),
        "rule": rule,
        "gap": None if pick.gap is None else round(pick.gap, 4),
        "disagreement": round(apart[pick.index], 4) if pick.index in apart else None,
        "why": why,
    }
