"""The lock on a run's folder: one run at a time, free again however the run ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fewlabel.core.errors import SettingsError
from fewlabel.core.output_paths import path_conflict
from fewlabel.engine import lock
from fewlabel.engine.lock import LOCK, holder, sole_run, take
from fewlabel.engine.run_folder_state import close_run, finished_before, mark_run
from kit.other_process import holding
from kit.ranks import run_ranks

SAME = {"steps": 3, "seed": 0}
HOLD_WITH_A_FORK = """
import os, sys, time
from pathlib import Path
from fewlabel.engine.lock import take
kept = take(Path(sys.argv[1]))
if not os.fork():
    print(os.getpid(), flush=True)
time.sleep(300)
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fcntl")


def enter(out: Path) -> None:
    with sole_run(out, lambda: None):
        pass


def test_a_second_run_is_refused_and_names_folder_and_process(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with holding(out) as other:
        for attempt in (lambda: enter(out), lambda: finished_before(out, "encoder", SAME, resume=True)):
            with pytest.raises(SettingsError) as caught:
                attempt()
            assert str(out) in str(caught.value)
            assert f"process {other.pid}" in str(caught.value)
            assert caught.value.faults[0].remedy
        assert [path.name for path in out.iterdir()] == [LOCK]
    assert holder(out) == ""
    enter(out)


def test_a_run_that_was_killed_holds_nothing_through_a_fork_of_it(tmp_path: Path) -> None:
    words = [sys.executable, "-c", HOLD_WITH_A_FORK, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            assert f"process {process.pid}" in holder(tmp_path)
            process.kill()
            process.wait()
            os.kill(child, 0)
            assert holder(tmp_path) == ""
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_lock_counts_as_nothing_in_the_way(tmp_path: Path) -> None:
    with sole_run(tmp_path, lambda: None):
        assert (tmp_path / LOCK).is_file()
        assert path_conflict(tmp_path) == ""
    assert list(tmp_path.iterdir()) == []


def test_a_folder_made_for_the_lock_goes_with_it(tmp_path: Path) -> None:
    with pytest.raises(KeyError), sole_run(tmp_path / "a" / "b", lambda: None):
        raise KeyError
    assert not (tmp_path / "a").exists()


def test_an_error_frees_the_folder_and_keeps_what_is_in_it(tmp_path: Path) -> None:
    with pytest.raises(KeyError), sole_run(tmp_path / "run", lambda: None):
        raise KeyError(mark_run(tmp_path / "run", SAME))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["identity.json"]
    enter(tmp_path / "run")


def test_a_run_that_was_finished_while_this_one_began_is_kept(tmp_path: Path) -> None:
    assert not finished_before(tmp_path, "encoder", SAME, resume=True)
    (tmp_path / "a.txt").write_text("a")
    facts = {
        "parents": [],
        "settings": SimpleNamespace(record=dict, seed=0, precision="32"),
        "same": SAME,
        "device": torch.device("cpu"),
        "started": 0.0,
    }
    close_run(tmp_path, "encoder", ["a.txt"], **facts)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def check() -> None:
        finished_before(tmp_path, "encoder", SAME, resume=False, locked=True)

    with pytest.raises(SettingsError, match="a finished encoder"), sole_run(tmp_path, check):
        pass
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("number", ["ENOLCK", "ENOTSUP"])
def test_a_file_system_without_locks_runs_without(tmp_path: Path, monkeypatch, number: str) -> None:
    import errno
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(getattr(errno, number), "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with sole_run(tmp_path / "run", lambda: mark_run(tmp_path / "run", SAME)):
        assert holder(tmp_path / "run") == ""
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["identity.json"]


def test_a_lock_file_replaced_under_the_taker_is_taken_anew(tmp_path: Path, monkeypatch) -> None:
    import fcntl

    original, calls = fcntl.flock, []

    def flock(number: int, how: int) -> None:
        if not calls:
            (tmp_path / LOCK).unlink()
        calls.append(how)
        original(number, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with sole_run(tmp_path, lambda: None):
        assert len(calls) > 1
        assert f"process {os.getpid()}" in holder(tmp_path)


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    run.mkdir()
    (run / LOCK).symlink_to(other / LOCK)
    with sole_run(other, lambda: None):
        assert holder(other)
        assert holder(run) == ""
        before = (other / LOCK).read_text()
        with pytest.raises(SettingsError, match="a symbolic link"):
            enter(run)
        assert (other / LOCK).read_text() == before
    with pytest.raises(SettingsError, match="a symbolic link"):
        enter(run)
    assert not other.exists()


def test_a_holder_that_left_no_readable_word_is_another_run(tmp_path: Path) -> None:
    with holding(tmp_path):
        for text in (b"", b"\xff\xfe"):
            (tmp_path / LOCK).write_bytes(text)
            with pytest.raises(SettingsError, match=r"is in use by \S+"):
                enter(tmp_path)
        (tmp_path / LOCK).write_bytes(b"")
        assert holder(tmp_path) == "another run"


def test_windows_takes_no_lock(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(lock.sys, "platform", "win32")
    with sole_run(tmp_path, lambda: None):
        assert list(tmp_path.iterdir()) == []


def _two(folder: str) -> str:
    try:
        with sole_run(Path(folder), lambda: None):
            return "in"
    except SettingsError as error:
        return str(error)


def _look(folder: str) -> str:
    try:
        finished_before(Path(folder), "encoder", SAME, resume=True)
    except SettingsError as error:
        return str(error)
    return "free"


def test_all_processes_of_a_run_enter_or_fail_together(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    out = tmp_path / "run"
    assert run_ranks(tmp_path / "one", _two, str(out)) == ["in", "in"]
    with holding(out) as other:
        first, second = run_ranks(tmp_path / "two", _two, str(out))
        assert f"process {other.pid}" in first
        assert str(out) in second
        assert all(f"{out}" in told for told in run_ranks(tmp_path / "three", _look, str(out)))


def test_the_remedy_is_that_of_the_command(tmp_path: Path) -> None:
    with sole_run(tmp_path, lambda: None), pytest.raises(SettingsError, match=r"Wait until it has ended\.$"):
        take(tmp_path, "Wait until it has ended")
