"""Paths that cannot be read or written: one message and a code, no traceback."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fewlabel.cli import app
from fewlabel.core import progress
from kit.pipeline import failing_command


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_listener", list(progress._listener))


def call(*words: str) -> Result:
    return CliRunner(env={"COLUMNS": "500"}).invoke(app, list(words))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/data/scan.nii.gz"), ("/data/scan.nii.gz", "permission")),
        (PermissionError(errno.EPERM, "Operation not permitted", "/data/x"), ("/data/x", "permission")),
        (OSError(errno.EROFS, "Read-only file system", "/mnt/out/.x.partial"), ("/mnt/out", "read-only")),
        (
            IsADirectoryError(errno.EISDIR, "Is a directory", ".x", None, "/out/x"),
            ("/out/x", "there is a folder where"),
        ),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/out/x"), ("/out/x", "there is a file where a folder")),
    ],
)
def test_a_path_without_permission_is_2(
    monkeypatch: pytest.MonkeyPatch, error: OSError, words: tuple[str, ...]
) -> None:
    result = failing_command(monkeypatch, error, columns=500)
    assert result.exit_code == 2
    for word in words:
        assert word in result.stderr
    assert "Traceback" not in result.stderr
    assert "please report" not in result.stderr
    assert sum(line.startswith("  - ") for line in result.stderr.splitlines()) == 1


def test_a_long_path_stays_whole_in_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/scans/of/many/patients" * 5
    result = failing_command(monkeypatch, PermissionError(errno.EACCES, "Permission denied", path))
    assert path in result.stderr
    others = [line for line in result.stderr.splitlines() if path not in line]
    assert all(len(line) <= 80 for line in others)


def test_a_permission_without_a_path_is_not_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    result = failing_command(monkeypatch, PermissionError("odd"), columns=500)
    assert result.exit_code == 1
    assert "please report" in result.stderr


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_sends_nobody_to_an_option_that_is_not_there(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    result = failing_command(monkeypatch, OSError(number, "No space left on device", "/mnt/report"), columns=500)
    assert "disk is full" in result.stderr
    assert "/mnt/report" in result.stderr
    assert "repeat the command with --resume" not in result.stderr
    assert "Traceback" not in result.stderr


def test_a_recipe_that_may_not_be_read_is_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("steps: 3\n")
    before = Path.read_text

    def read(path: Path, *words: Any, **options: Any) -> str:
        if path == recipe:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return before(path, *words, **options)

    monkeypatch.setattr(Path, "read_text", read)
    result = call("train", str(tmp_path), "--out", str(tmp_path / "run"), "--recipe", str(recipe))
    assert result.exit_code == 2
    assert "A recipe cannot be used:" in result.stderr
    assert str(recipe) in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("prepare", "{data}"),
        ("train", "{data}"),
        ("demo",),
    ],
)
def test_a_link_to_nowhere_is_told_before_any_work(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "data").mkdir()
    link = tmp_path / "out"
    link.symlink_to(tmp_path / "gone")
    result = call(*(word.format(data=tmp_path / "data") for word in words), "--out", str(link))
    assert result.exit_code == 2, result.stderr
    assert f"the link {link}, which leads to nothing" in result.stderr
    assert not (tmp_path / "gone").exists()


def test_a_patient_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kit.scans import noise, write_scan

    for number in (1, 2, 3):
        name = f"patient{number:03d}"
        write_scan(tmp_path / name / f"{name}_frame01.nii.gz", noise(), (1.0, 1.0, 5.0))
    locked = tmp_path / "patient002"
    before = Path.iterdir

    def iterdir(path: Path) -> Any:
        if path == locked:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return before(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    result = call("check", str(tmp_path), "--reader", "acdc")
    assert result.exit_code == 3
    assert f"{locked} cannot be read" in result.stderr
    assert "Traceback" not in result.stderr
    result = call("check", str(tmp_path))
    assert result.exit_code == 3, result.stderr
    assert str(locked) in result.stderr
    assert "Traceback" not in result.stderr
