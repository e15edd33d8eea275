"""Whether the summary of scores is what their table gives."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.errors import reason
from fewlabel.pipelines.verify.findings import Finding, agreement, differs, not_checked
from fewlabel.scoring.distance_units import NAMES, named_as_usual
from fewlabel.scoring.summary import summarise

_MOST_RESAMPLES = 10**6


class _Unusable(Exception):  # noqa: N818
    """Why nothing can be summed up: whether the record is wrong, and its words."""

    def __init__(self, told: str, *, wrong: bool = True) -> None:
        super().__init__(told)
        self.wrong = wrong


def sums_of_scores(scores: Artifact, part: str) -> Finding:
    """Whether table, text and summary say the same.

    What a manifest, a summary or a table of another shape lacks is a finding, too.
    """
    try:
        raw = _table(scores)
        names = _structures(scores.json("summary.json"))
        made = _summed(raw, names, _options(scores.manifest.settings))
    except _Unusable as error:
        return differs(part, str(error)) if error.wrong else not_checked(part, str(error))
    summary = named_as_usual(dict(scores.json("summary.json")))
    pairs = {key: (one, two) for key, one, two in _leaves({k: summary.get(k) for k in made}, made)}
    texts = {key: pair for key, pair in pairs.items() if any(isinstance(value, str) for value in pair)}
    if wrong := [key for key, (one, two) in texts.items() if one != two]:
        return differs(part, f"{wrong[0]} of summary.json is not what the table gives")
    numbers = {key: pair for key, pair in pairs.items() if key not in texts}
    return agreement(numbers).finding(part, "means, intervals and tests from the table", 1e-6)


def _table(scores: Artifact) -> pd.DataFrame:
    try:
        raw = pd.read_parquet(io.BytesIO(scores.content("per_case.parquet")))
    except (ValueError, OSError) as error:
        raise _Unusable(f"per_case.parquet cannot be read ({reason(error)})") from error
    if raw.to_csv(index=False).encode() != scores.content("per_case.csv"):
        raise _Unusable("per_case.csv is not the table per_case.parquet")
    return raw


def _summed(raw: pd.DataFrame, names: Mapping[int, str], options: Mapping[str, Any]) -> dict[str, Any]:
    try:
        made: dict[str, Any] = json.loads(json.dumps(summarise(raw.rename(columns=NAMES), names, **options)))
    except KeyError as error:
        raise _Unusable(f"per_case.parquet has no column {error.args[0]}") from error
    except (TypeError, ValueError) as error:
        raise _Unusable(f"per_case.parquet cannot be summed up ({reason(error)})") from error
    return made


def _structures(summary: Any) -> dict[int, str]:
    """Index → name of the structures."""
    classes = summary.get("classes") if isinstance(summary, Mapping) else None
    if not isinstance(classes, Mapping) or not classes:
        raise _Unusable("summary.json does not name its structures")
    if not all(index.isdecimal() and isinstance(name, str) for index, name in classes.items()):
        raise _Unusable("summary.json does not name its structures")
    return {int(index): name for index, name in classes.items()}


def _options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """With what a summary was made, as its manifest says."""
    options = {key: settings.get(key) for key in ("confidence", "resamples", "seed")}
    for key, value in options.items():
        if value is None:
            # A version that did not record it, or somebody who took it out: nobody can tell.
            raise _Unusable(f"the manifest does not say with which {key}", wrong=False)
        if not _fits(key, value):
            raise _Unusable(f"the manifest says {key}={str(value)[:40]}, which it cannot be")
        if key == "resamples" and value > _MOST_RESAMPLES:
            raise _Unusable(f"so many resamples are not repeated: {value}", wrong=False)
    return options


def _fits(key: str, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if key == "confidence":
        return 0 < value < 1
    return isinstance(value, int) and value >= (1 if key == "resamples" else 0)


def _leaves(one: Any, two: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    """Key, and values on both sides, of nested values."""
    if isinstance(one, dict) and isinstance(two, dict):
        return [
            leaf
            for name in sorted({*one, *two})
            for leaf in _leaves(one.get(name), two.get(name), f"{key}.{name}".lstrip("."))
        ]
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        return [leaf for at, pair in enumerate(zip(one, two, strict=True)) for leaf in _leaves(*pair, f"{key}.{at}")]
    if isinstance(one, dict | list) or isinstance(two, dict | list):
        return [(key, json.dumps(one), json.dumps(two))]
    return [(key, one, two)]
