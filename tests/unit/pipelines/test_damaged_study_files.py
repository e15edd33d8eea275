"""Files of a study that somebody or something has damaged: named or left out, and never a traceback."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.errors import ArtifactError
from fewlabel.pipelines.executors.claims import ATTEMPTS, attempts, deaths
from fewlabel.pipelines.executors.jobs import Job, Plan


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    jobs = (Job("a", "first", {"stage": "finetune"}), Job("b", "second", {}, ("a",)))
    made = Plan(tmp_path.resolve(), "module:work", jobs, "start")
    made.write()
    made.folder("a").mkdir(parents=True)
    return made


def test_a_plan_is_read_as_it_was_written(plan: Plan) -> None:
    assert Plan.read(plan.write()) == plan
    assert Plan.read(replace(plan, threads=3, gpus=0.5).write()).gpus == 0.5


@pytest.mark.parametrize("values", [{"jobs": 3}, {"jobs": [{"key": "a"}]}, {"threads": "many"}, {"launch": None}])
def test_a_damaged_plan_is_named(plan: Plan, values: dict[str, Any]) -> None:
    path = plan.write()
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    with pytest.raises(ArtifactError, match=r"start\.json is not a valid plan"):
        Plan.read(path)
    path.write_text("[]")
    with pytest.raises(ArtifactError, match="not a valid plan"):
        Plan.read(path)


def test_damaged_attempts_are_left_out(plan: Plan) -> None:
    whole = b'{"event": "began", "launch": "start"}'
    lines = [whole, b"null", b"3", b'{"launch": "start"}', b"\xff\xfe", b"[" * 5000, b'{"event": "beg']
    (plan.folder("a") / ATTEMPTS).write_bytes(b"\n".join(lines))
    assert attempts(plan, "a") == [json.loads(whole)]
    assert deaths(plan, "a") == 1
