"""``study``: methods compared over label budgets, draws and seeds, with statistics one can defend."""

from __future__ import annotations

from fewlabel.pipelines.study.running import dry_run, run
from fewlabel.pipelines.study.shipped import study_names, study_of, study_values
from fewlabel.pipelines.study.spec import StudySettings

__all__ = ["StudySettings", "dry_run", "run", "study_names", "study_of", "study_values"]
