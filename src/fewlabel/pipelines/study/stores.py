"""The prepared data of a study: one store for each way to prepare, and merged ones to pre-train on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.settings.value_syntax import merge
from fewlabel.data.store import PreparedStore
from fewlabel.pipelines.executors.jobs import same_json
from fewlabel.pipelines.stage_table import run_stage, settings_class
from fewlabel.pipelines.study.arms import ArmPlan
from fewlabel.pipelines.study.spec import OWN, Study

FOLDER = "prepared"
#: Settings that say where and how fast, not what.
_FREE = frozenset({"data", "out", "workers"})
#: What a reader was told of the study's data says nothing of other data.
_OF_OWN_DATA = frozenset({"reader", "labels", "colours", "voxel_size"})


class Stores:
    """Prepares what the arms of a study learn from and are scored on; each is prepared once.

    Args:
        study: The study.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._made: dict[str, Path] = {}
        self._opened: dict[Path, PreparedStore] = {}

    def own(self, plan: ArmPlan, draw: int) -> Path:
        """The store that an arm is fine-tuned and scored on.

        Args:
            plan: The arm.
            draw: The draw, which may have a split of its own.

        Raises:
            FewlabelError: If the data cannot be prepared.
        """
        settings = self._study.settings
        seed = {"seed": draw} if settings.resplit else {}
        return self._prepare(OWN, settings.data, merge(plan.prepare, {"split": settings.split, **seed}))

    def pretraining(self, plan: ArmPlan, draw: int) -> Path:
        """The store that an arm is pre-trained on.

        Args:
            plan: The arm.
            draw: As for :meth:`own`.

        Raises:
            FewlabelError: If data cannot be prepared, or stores do not fit together.
        """
        folders = []
        for name in self._study.arms[plan.name].pretrain_on:
            if name == OWN:
                folders.append(self.own(plan, draw))
                continue
            source = self._study.sources[name]
            if source.data is None:
                raise ValueError(f"source {name} has no data")
            base = {key: value for key, value in plan.prepare.items() if key not in _OF_OWN_DATA}
            folders.append(self._prepare(name, source.data, merge(base, source.prepare)))
        return folders[0] if len(folders) == 1 else self._merged(folders)

    def open(self, folder: Path) -> PreparedStore:
        """A store, opened once."""
        if folder not in self._opened:
            self._opened[folder] = PreparedStore(folder)
        return self._opened[folder]

    def _prepare(self, name: str, data: Path, values: Mapping[str, Any]) -> Path:
        settings: Any = settings_class("prepare").parse({**values, "data": data.resolve(), "out": "out"})
        what = {key: value for key, value in settings.record().items() if key not in _FREE}
        key = f"{name}-{_digest(what)}"
        if key not in self._made:
            out = self._study.folder / FOLDER / key
            self._made[key] = run_stage("prepare", settings.model_copy(update={"out": out}))
        return self._made[key]

    def _merged(self, folders: list[Path]) -> Path:
        hashes = [Artifact.open(folder, "prepared").content_hash for folder in folders]
        key = f"merged-{_digest({'of': hashes})}"
        if key not in self._made:
            out = self._study.folder / FOLDER / key
            first, *others = folders
            values = {"data": first, "others": [str(folder) for folder in others], "out": out}
            self._made[key] = run_stage("merge", settings_class("merge").parse(values))
        return self._made[key]


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(same_json(values).encode()).hexdigest()[:8]
