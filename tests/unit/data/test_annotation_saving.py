"""Masks that two processes save at once, as the page and a viewer of the same run do."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from fewlabel.core.errors import DataError
from fewlabel.data.annotation_saving import HISTORY, JOURNAL, save_annotation, saved_by
from fewlabel.data.store import PreparedCase
from fewlabel.service.view.classes_beside_scans import plan_of_names
from kit.scans import noise, write_scan

SHAPE = (5, 21, 17)
EACH = 12
_SAVES = """
import sys
from pathlib import Path
from test_annotation_saving import EACH, case_of, drawn, plan_of_names, save_annotation
folder, scan, number = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
sys.stdin.readline()
for turn in range(EACH):
    save_annotation(folder, [case_of(scan)], case_of(scan), plan_of_names({1: "organ"}), drawn(number, turn))
"""


def case_of(scan: Path) -> PreparedCase:
    return PreparedCase("a", "a", 0, 0, (str(scan),), None, {})


def drawn(number: int, turn: int) -> np.ndarray:
    """Another mask for each process and turn."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[1 + number, 1 + turn, 2:9] = 1
    return mask


def kept(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj).T


def test_of_two_processes_nothing_is_lost_and_the_last_wins_in_file_and_journal(tmp_path: Path) -> None:
    scan, folder = write_scan(tmp_path / "in" / "a.nii.gz", noise(SHAPE)), tmp_path / "annotations"
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _SAVES, str(folder), str(scan), str(number)],
            stdin=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths, "LOGNAME": f"person{number}"},
        )
        for number in range(2)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.close()
    assert [process.wait(120) for process in processes] == [0, 0]
    lines = [json.loads(line) for line in (folder / HISTORY / JOURNAL).read_text().splitlines()]
    turns = [0, 0]
    saved = []
    for line in lines:
        number = int(line["who"].removeprefix("person"))
        saved.append(drawn(number, turns[number]))
        turns[number] += 1
    assert turns == [EACH, EACH]
    assert lines[0]["before"] == ""
    # Each took the place of the one before it in the journal, which is kept; the last is the one that is there.
    for line, before in zip(lines[1:], saved, strict=False):
        assert np.array_equal(kept(folder / HISTORY / line["before"]), before)
    assert np.array_equal(kept(folder / "a.nii.gz"), saved[-1])
    assert saved_by(folder)["a"]["who"] == lines[-1]["who"]
    assert sorted(path.name for path in folder.iterdir()) == [HISTORY, "a.nii.gz"]
    assert len(list((folder / HISTORY).iterdir())) == 2 * EACH


def test_a_stray_file_keeps_nobody_from_saving(tmp_path: Path) -> None:
    scan, folder = write_scan(tmp_path / "in" / "a.nii.gz", noise(SHAPE)), tmp_path / "annotations"
    plan = plan_of_names({1: "organ"})
    folder.mkdir()
    (folder / "stray.nii.gz").write_bytes(b"nothing")
    save_annotation(folder, [case_of(scan)], case_of(scan), plan, drawn(0, 0))
    assert np.array_equal(kept(folder / "a.nii.gz"), drawn(0, 0))
    # Of two masks of the scan itself nobody could say which counts.
    write_scan(folder / "a_seg.nii.gz", drawn(0, 1))
    with pytest.raises(DataError, match="has 2 masks"):
        save_annotation(folder, [case_of(scan)], case_of(scan), plan, drawn(0, 2))


@pytest.mark.skipif(sys.platform == "win32", reason="its locks are others")
def test_where_files_cannot_be_locked_no_lock_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refused)
    scan, folder = write_scan(tmp_path / "in" / "a.nii.gz", noise(SHAPE)), tmp_path / "annotations"
    save_annotation(folder, [case_of(scan)], case_of(scan), plan_of_names({1: "organ"}), drawn(0, 0))
    assert sorted(path.name for path in folder.iterdir()) == [HISTORY, "a.nii.gz"]
