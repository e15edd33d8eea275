"""A place for a result is a new or empty folder, and a folder always has a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewlabel.core.output_paths import path_conflict, round_folders, with_a_name


def test_a_new_or_an_empty_folder_is_free(tmp_path: Path) -> None:
    assert path_conflict(tmp_path) == ""
    assert path_conflict(tmp_path / "a" / "b") == ""
    (tmp_path / ".checkpoint.safetensors.0badf00d.partial").write_bytes(b"")
    assert path_conflict(tmp_path) == ""


def test_content_and_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "film.partial").write_bytes(b"")
    assert path_conflict(tmp_path) == "other files"
    assert path_conflict(tmp_path / "film.partial") == "a file"
    assert path_conflict(tmp_path / "film.partial" / "run" / "deep") == f"the file {tmp_path / 'film.partial'}"


def test_a_folder_without_a_name_takes_that_of_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "a" / "b"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    assert with_a_name(Path("run")) == Path("run")
    assert with_a_name(Path()) == here.resolve()
    assert with_a_name(Path("..")) == here.resolve().parent


def test_rounds_come_by_number_and_nothing_else_is_one(tmp_path: Path) -> None:
    assert round_folders(tmp_path) == []
    for name in ("10", "2", "1", "notes", ".3.partial"):
        (tmp_path / "rounds" / name).mkdir(parents=True)
    assert [path.name for path in round_folders(tmp_path)] == ["1", "2", "10"]
