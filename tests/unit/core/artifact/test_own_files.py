"""What this program made itself, by records that may be damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.artifact.own_files import own_files


def written(folder: Path, **masks: Any) -> Path:
    (folder / "run_report.json").write_text(json.dumps({"masks": masks}))
    return folder


def test_masks_and_notes_name_their_files(tmp_path: Path) -> None:
    written(tmp_path, a={"files": {"a.nii": "0"}})
    (tmp_path / "unfinished.jsonl").write_text('{"begun": "b.nii"}\n{"output": "c.nii", "files": {"c.nii": "1"}}\n')
    found = own_files(tmp_path, ["run_report.json", "unfinished.jsonl"])
    assert found is not None
    assert found.files == {tmp_path / name for name in ("a.nii", "b.nii", "c.nii")}
    assert found.kind == "predictions"


@pytest.mark.parametrize("record", [3, None, [], {"files": True}, {"files": 3}, {"files": [3, None]}, {"begun": {}}])
def test_records_of_another_shape_name_none(tmp_path: Path, record: Any) -> None:
    written(tmp_path, a=record, b={"files": ["b.nii"]})
    (tmp_path / "unfinished.jsonl").write_text(json.dumps(record) + "\n")
    found = own_files(tmp_path, ["run_report.json", "unfinished.jsonl"])
    assert found is not None
    assert found.files == {tmp_path / "b.nii"}
