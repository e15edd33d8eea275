"""A process killed while a folder takes the place of another leaves the old one or the new one to be found."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from fewlabel.core.artifact import folder_replacement
from fewlabel.core.artifact.artifact_folder import Artifact, finish_artifact
from fewlabel.core.artifact.files import building, write_text
from fewlabel.core.artifact.folder_replacement import restore_replaced

#: Builds a folder anew and dies before the rename of that number; exchanging in one step is as if it did not exist.
CHILD = """
import os, sys
from pathlib import Path
from fewlabel.core.artifact import files, folder_replacement
folder, left, inside = Path(sys.argv[1]), [int(sys.argv[2])], sys.argv[3] == "inside"
folder_replacement._exchanged = lambda one, two: False
rename = Path.rename
def counted(self, target):
    left[0] -= 1
    if left[0] < 0:
        os._exit(9)
    return rename(self, target)
if inside:
    os.chdir(folder)
with files.building(folder) as partial:
    for name in ("a.txt", "b.txt", "manifest.json"):
        (partial / name).write_text("new")
    Path.rename = counted
"""


def make(folder: Path, text: str) -> Path:
    with building(folder) as partial:
        write_text(partial / "a.txt", text)
        write_text(partial / "b.txt", text)
        finish_artifact(partial, "prepared", ["a.txt", "b.txt"], final_folder=folder)
    return folder


def killed_at_each_rename(folder: Path, where: str):
    """A fresh old folder each time, and then a process that is killed; ends with one that is not."""
    for number in itertools.count():
        make(folder, "old")
        code = subprocess.run([sys.executable, "-c", CHILD, str(folder), str(number), where], check=False).returncode
        yield number
        if code == 0:
            return
        assert code == 9


@pytest.mark.parametrize("where", ["elsewhere", "inside"])
def test_a_killed_replacement_loses_nothing(tmp_path: Path, where: str) -> None:
    folder = tmp_path / "p"
    for number in killed_at_each_rename(folder, where):
        restore_replaced(folder)
        texts = {(folder / name).read_text() for name in ("a.txt", "b.txt")}
        assert texts in ({"old"}, {"new"}), number
        assert (folder / "manifest.json").is_file()
        make(folder, "newer")
        assert [path.name for path in tmp_path.iterdir()] == ["p"], number
    assert number >= 2
    assert texts == {"new"}


def test_an_artifact_is_found_after_a_kill(tmp_path: Path) -> None:
    folder = make(tmp_path / "p", "old")
    subprocess.run([sys.executable, "-c", CHILD, str(folder), "1", "elsewhere"], check=False)
    assert not folder.exists()
    assert Artifact.open(folder, "prepared").content("a.txt") == b"old"


def test_a_build_that_fails_after_a_kill_has_the_old_folder_back(tmp_path: Path) -> None:
    folder = make(tmp_path / "p", "old")
    subprocess.run([sys.executable, "-c", CHILD, str(folder), "1", "elsewhere"], check=False)
    with pytest.raises(OSError, match="full"), building(folder):
        raise OSError("full")
    assert (folder / "a.txt").read_text() == "old"


def test_what_a_living_process_moved_aside_is_left_to_it(tmp_path: Path) -> None:
    folder = make(tmp_path / "p", "old")
    aside = folder_replacement._aside(folder, folder_replacement._WHOLE)
    folder.rename(aside)
    assert not restore_replaced(folder)
    assert aside.is_dir()


def test_a_rename_that_fails_brings_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(tmp_path / "p", "old")
    monkeypatch.setattr(folder_replacement, "_exchanged", lambda one, two: False)
    rename = Path.rename

    def refused(self: Path, target: Path) -> Path:
        if Path(target) == folder and not self.name.endswith(".whole.partial"):
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(PermissionError):
        make(folder, "new")
    assert (folder / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="exchanging in one step is of Linux")
def test_folders_are_exchanged_in_one_step(tmp_path: Path) -> None:
    one, two = make(tmp_path / "1", "one"), make(tmp_path / "2", "two")
    if not folder_replacement._exchanged(one, two):
        pytest.skip("this file system cannot")
    assert ((one / "a.txt").read_text(), (two / "a.txt").read_text()) == ("two", "one")
    assert not folder_replacement._exchanged(one, tmp_path / "none")
