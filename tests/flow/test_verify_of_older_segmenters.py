"""A segmenter that was trained before a setting was there is checked as it was trained."""

from __future__ import annotations

import json
from pathlib import Path

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.files import MANIFEST
from fewlabel.core.artifact.sealed import write_sealed
from fewlabel.data.store import PreparedStore
from fewlabel.pipelines.verify.repeated_steps import repeated_finetuning
from fewlabel.stages import finetune
from kit.stores import make_store
from kit.tiny import finetune_settings


def test_without_a_word_of_class_prior_classes_began_equally_probable(tmp_path: Path) -> None:
    data = make_store(tmp_path / "prepared", subjects=4, depth=3, size=(16, 16), phases=1)
    given = {"subjects": ("patient001",), "steps": 2, "log_every": 1, "class_prior": False}
    folder = finetune.run(finetune_settings(data, tmp_path / "segmenter", **given))
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["settings"]["class_prior"], manifest["settings"]["identity"]["class_prior"]
    write_sealed(folder / MANIFEST, manifest)
    segmenter, store = Artifact.open(folder, "segmenter"), PreparedStore(data)
    found = repeated_finetuning(segmenter, store, tmp_path / "again", 2, "cpu", 1e-3, "segmenter")
    assert [one.verdict for one in found] == ["held"]
