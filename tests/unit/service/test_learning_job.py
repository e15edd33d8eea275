"""Rounds of ``learn`` in a process of their own: one at a time, what they say, and how they end."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from fewlabel.service.learning_job import LearningJob, Round
from kit.viewing import wait_until


def job(code: str) -> LearningJob:
    """One that runs this code instead of fewlabel."""
    return LearningJob(Path("RUN"), [sys.executable, "-c", code])


def ended(learn: LearningJob) -> Round:
    wait_until(lambda: learn.running is None, "the round ends")
    return learn.rounds[-1]


def test_settings_become_words_and_lines_are_kept() -> None:
    learn = job("import sys; print(*sys.argv[1:]); print('more', file=sys.stderr)")
    assert learn.running is None
    first = learn.begin({"steps": 4, "finetune": {"optimiser": {"lr": 0.5}}, "take": "always"})
    assert first is not None
    made = ended(learn)
    assert made is first
    words = f"learn {Path('RUN').absolute()} steps=4 finetune.optimiser.lr=0.5 take=always"
    assert sorted(made.lines) == sorted([words, "more"])
    assert made.status == "DONE"
    assert made.ended is not None
    assert learn.begin({}) is not None
    assert ended(learn) is not first


def test_no_two_at_once_and_one_at_work_can_be_stopped() -> None:
    learn = job("import time; print('x', flush=True); time.sleep(60)")
    assert learn.begin({}) is not None
    assert learn.begin({}) is None
    stopped = learn.stop()
    assert stopped is not None
    assert stopped.status == "STOPPED"
    assert learn.running is None
    assert learn.stop() is None


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM that a program could answer")
def test_one_that_ends_well_as_it_is_told_to_stop_is_done() -> None:
    answer = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))"
    learn = job(f"import signal, sys; {answer}; print('x', flush=True); signal.pause()")
    learn.begin({})
    wait_until(lambda: learn.rounds[-1].lines == ["x"], "it has begun")
    stopped = learn.stop()
    assert stopped is not None
    assert stopped.status == "DONE"
    assert learn.running is None


def test_a_round_that_fails_is_an_error() -> None:
    learn = job("raise SystemExit(3)")
    learn.begin({})
    assert ended(learn).status == "ERROR"
