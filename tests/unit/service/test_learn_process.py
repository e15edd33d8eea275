"""Rounds that the page begins: one at a time, what they say, and how they end."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fewlabel.service.learn_process import LearnProcess
from kit.viewing import wait_until


def process(code: str, *words: str) -> LearnProcess:
    """One that runs this code instead of fewlabel."""
    return LearnProcess(Path("RUN"), words, [sys.executable, "-c", code])


def ended(learn: LearnProcess) -> dict[str, Any]:
    wait_until(lambda: not learn.state()["running"], "the round ends")
    return learn.state()


def test_a_round_tells_its_lines_and_its_outcome(tmp_path: Path) -> None:
    record = {"round": 3, "taken": False, "reason": "it is worse"}
    (tmp_path / "round.json").write_text(json.dumps(record))
    code = f"import sys; print(sys.argv[1:], file=sys.stderr); print({str(tmp_path)!r})"
    learn = process(code, "steps=4")
    assert learn.state() == {"number": 0, "running": False, "code": None, "lines": [], "round": None}
    assert learn.start()
    state = ended(learn)
    assert state["lines"] == ["['learn', 'RUN', 'steps=4']"]
    assert (state["number"], state["code"]) == (1, 0)
    assert state["round"] == {"number": 3, "taken": False, "reason": "it is worse"}
    assert learn.start()
    assert ended(learn)["number"] == 2


def test_no_two_at_once_and_one_at_work_is_ended_with_the_server() -> None:
    learn = process("import time; print('x', flush=True); time.sleep(60)")
    assert learn.start()
    assert not learn.start()
    assert learn.state()["running"]
    begun = time.monotonic()
    learn.stop()
    assert time.monotonic() - begun < 30
    state = learn.state()
    assert not state["running"]
    assert state["code"] != 0
    assert state["round"] is None
    learn.stop()


@pytest.mark.parametrize("code", ["raise SystemExit(3)", "print('no folder')"])
def test_a_round_that_fails_or_says_nothing_has_no_outcome(code: str) -> None:
    learn = process(code)
    learn.start()
    assert ended(learn)["round"] is None
