"""Places where nothing can be written are told before any work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fewlabel.core.output_paths import path_conflict, unwritable


def locked(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Tests run as root, who may write everywhere: the folder is locked by what the system answers."""
    before = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder and before(path, mode))


def test_a_locked_parent_is_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked(monkeypatch, tmp_path)
    for out in (tmp_path, tmp_path / "run", tmp_path / "deep" / "run"):
        assert path_conflict(out) == f"no permission to write in {tmp_path}"
        assert unwritable(out) == f"no permission to write in {tmp_path}"
    (tmp_path / "open").mkdir()
    assert path_conflict(tmp_path / "open" / "run") == ""


def test_a_link_to_nowhere_is_in_the_way(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "gone")
    for out in (link, link / "run"):
        assert path_conflict(out) == f"the link {link}, which leads to nothing"
    (tmp_path / "gone").mkdir()
    assert path_conflict(link) == ""
    assert path_conflict(link / "run") == ""


def test_other_files_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies there may be what was asked for: a store that is up to date needs no writing."""
    (tmp_path / "notes.txt").write_text("x")
    locked(monkeypatch, tmp_path)
    assert path_conflict(tmp_path) == "other files"
    assert unwritable(tmp_path) == f"no permission to write in {tmp_path}"
