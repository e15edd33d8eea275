"""Scores of patients that the network in use has not learnt from: of the test part, else of those left out in turn."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pandas as pd

from fewlabel.reporting.inputs import Inputs
from fewlabel.scoring.distance_units import Units, units_of
from fewlabel.scoring.thirds import COLUMNS as THIRDS

#: What else a table may lack that was made by an earlier version.
_LATER = ("reference_ml", "predicted_ml", "stray", "stray_ml", *THIRDS)


@dataclass(frozen=True)
class UnseenScores:
    """A row per scan and class.

    Attributes:
        table: Columns ``subject``, ``case``, ``class``, ``class_name``, ``dice``, ``hd95_mm``, ``missed``,
            ``reference_ml``, ``predicted_ml``, ``stray``, ``stray_ml`` and those of :mod:`fewlabel.scoring.thirds`, NaN
            where unknown.
        left_out: Whether the patients were left out in turn, each segmented by a network of the others.
        units: Of distances and volumes.
    """

    table: pd.DataFrame
    left_out: bool
    units: Units

    @property
    def who(self) -> str:
        """Whose scores these are, in words."""
        patients, scans = self.table["subject"].nunique(), self.table["case"].nunique()
        people = "1 patient" if patients == 1 else f"{patients} patients"
        of_scans = f"{people} ({'1 scan' if scans == 1 else f'{scans} scans'})"
        if self.left_out:
            return f"{of_scans}, each left out once and segmented by a network that never met its labels"
        return f"{of_scans} of the test part, which took part in no training"

    def mean(self, rows: pd.DataFrame, column: str) -> float:
        """Mean of a column, NaN without values: over scans, or over patients where these were left out in turn.

        Args:
            rows: Of the table, a structure's or means over structures.
            column: Which one.
        """
        values = rows.groupby("subject")[column].mean() if self.left_out else rows[column]
        return float(values.mean())

    def has(self, *columns: str) -> bool:
        """Whether any row has a value in each of these columns."""
        return all(bool(self.table[column].notna().any()) for column in columns)


def unseen_scores(inputs: Inputs) -> UnseenScores | None:
    """The scores of the network in use; None where nothing was scored."""
    if inputs.scores is not None:
        arm = "control" if inputs.used is inputs.control and inputs.control is not None else "model"
        table = inputs.scores.per_case
        return UnseenScores(_completed(table[table["arm"] == arm]), False, units_of(inputs.scores.summary))
    role = "control" if inputs.used is inputs.control else "segmenter"
    artifact, name = inputs.artifacts.get(role), "left_out.csv"
    if inputs.used is None or artifact is None or name not in artifact.manifest.files:
        return None
    table = pd.read_csv(io.BytesIO(artifact.content(name)), dtype={"subject": str, "case": str})
    return UnseenScores(_completed(table), True, Units()) if len(table) else None


def _completed(table: pd.DataFrame) -> pd.DataFrame:
    lacking = {name: float("nan") for name in _LATER if name not in table}
    return table.assign(**lacking).reset_index(drop=True)
