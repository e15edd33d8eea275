"""What is half written says who writes it; what nobody writes any more goes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.artifact.files import building, write_bytes
from fewlabel.core.unfinished_files import is_partial, naming, partial_beside, sweep_partials


def test_the_name_of_what_is_being_written_is_hidden_and_its_own(tmp_path: Path) -> None:
    one, two = (partial_beside(tmp_path / "x.bin") for _ in range(2))
    assert one != two
    assert is_partial(one)
    assert str(os.getpid()) in one.name
    assert not is_partial(tmp_path / "x.partial")
    assert not is_partial(tmp_path / ".x")


def test_parts_of_a_file_that_a_killed_process_left_are_swept(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = partial_beside(tmp_path / "x").name.split(".")[-3].rpartition("-")[0]
    gone, alive = (f".x.bin.{host}-{number}.0badf00d.partial" for number in (dead.pid, os.getpid()))
    elsewhere, late = ".x.bin.other-host-12.0badf00d.partial", ".x.bin.other-host-13.0badf00d.partial"
    older, other = ".x.bin.0badf00d.partial", f".y.bin.{host}-{dead.pid}.0badf00d.partial"
    names = (gone, alive, elsewhere, late, older, other, "mine.partial", "x.bin")
    for name in names:
        (tmp_path / name).write_bytes(b"0")
    long_ago = (tmp_path / late).stat().st_mtime - 7200
    os.utime(tmp_path / late, (long_ago, long_ago))
    sweep_partials(tmp_path, "x.bin")
    assert {path.name for path in tmp_path.iterdir()} == {alive, elsewhere, other, "mine.partial", "x.bin"}
    sweep_partials(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {alive, elsewhere, "mine.partial", "x.bin"}
    sweep_partials(tmp_path / "none")


def test_what_somebody_called_alike_is_nobodys_leftover(tmp_path: Path) -> None:
    own = tmp_path / ".scans.old.partial"
    own.mkdir()
    old = tmp_path / ".scans.0123abcd.partial"
    old.mkdir()
    with building(tmp_path / "scans") as folder:
        (folder / "a").write_text("1")
    assert own.is_dir()
    assert not old.exists()


def test_errors_name_what_is_written_and_not_the_hidden_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(OSError, match="Read-only") as caught, naming(tmp_path / "x", tmp_path / ".x.partial"):
        (tmp_path / ".x.partial" / "x").mkdir()
    assert caught.value.filename == str(tmp_path / "x")
    monkeypatch.undo()
    monkeypatch.setattr(Path, "open", read_only)
    with pytest.raises(OSError, match="Read-only") as caught:
        write_bytes(tmp_path / "y", b"")
    assert caught.value.filename == str(tmp_path / "y")
    # A file elsewhere keeps its name.
    with pytest.raises(OSError, match="Read-only") as caught, naming(tmp_path / "x", tmp_path / ".x.partial"):
        (tmp_path / "z").open()
    assert caught.value.filename == str(tmp_path / "z")
