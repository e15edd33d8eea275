"""Files of a study that somebody or something has damaged: named, left out, or made anew, and never a traceback."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.errors import ArtifactError, SettingsError
from fewlabel.core.provenance import machine_facts
from fewlabel.pipelines.executors.claims import ATTEMPTS, DONE, FAILED, attempts, deaths, failure
from fewlabel.pipelines.executors.job_progress import seconds_of
from fewlabel.pipelines.executors.jobs import Job, Plan
from fewlabel.pipelines.study.chosen_steps import kept_steps
from fewlabel.pipelines.study.costs import FILE, Costs
from fewlabel.pipelines.study.running import STUDY_FILE, _refuse_other_folder


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    jobs = (Job("a", "first", {"stage": "finetune"}), Job("b", "second", {}, ("a",)))
    made = Plan(tmp_path.resolve(), "module:work", jobs, "start")
    made.write()
    made.folder("a").mkdir(parents=True)
    return made


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_plan_is_read_as_it_was_written(plan: Plan) -> None:
    assert Plan.read(plan.write()) == plan
    assert Plan.read(replace(plan, threads=3, gpus=0.5).write()).gpus == 0.5


@pytest.mark.parametrize("values", [{"jobs": 3}, {"jobs": [{"key": "a"}]}, {"threads": "many"}, {"launch": None}])
def test_a_damaged_plan_is_named(plan: Plan, values: dict[str, Any]) -> None:
    path = plan.write()
    changed(path, **values)
    with pytest.raises(ArtifactError, match=r"start\.json is not a valid plan"):
        Plan.read(path)
    path.write_text("[]")
    with pytest.raises(ArtifactError, match="not a valid plan"):
        Plan.read(path)


@pytest.mark.parametrize(("content", "why"), [("[]", ""), ("3", ""), ("{", ""), ('{"launch": "start"}', "it does not")])
def test_a_failure_that_does_not_say_why(plan: Plan, content: str, why: str) -> None:
    (plan.folder("a") / FAILED).write_text(content)
    assert failure(plan, "a").startswith(why)
    assert bool(failure(plan, "a")) == bool(why)


def test_damaged_attempts_are_left_out(plan: Plan) -> None:
    whole = b'{"event": "began", "launch": "start"}'
    lines = [whole, b"null", b"3", b'{"launch": "start"}', b'{"event": 5}', b"\xff\xfe", b"[" * 5000, b'{"event": "beg']
    (plan.folder("a") / ATTEMPTS).write_bytes(b"\n".join(lines))
    assert attempts(plan, "a") == [json.loads(whole)]
    assert deaths(plan, "a") == 1


@pytest.mark.parametrize("content", ["[]", "{}", '{"seconds": "x"}', '{"seconds": NaN}', "{"])
def test_what_a_job_took_is_not_known_where_its_record_is_damaged(plan: Plan, content: str) -> None:
    (plan.folder("a") / DONE).write_text('{"seconds": 3}')
    assert seconds_of(plan, "a") == 3.0
    (plan.folder("a") / DONE).write_text(content)
    assert seconds_of(plan, "a") is None


@pytest.mark.parametrize("content", ["[]", '{"k": 3}', '{"k": {"pretrain": "x"}}', "{"])
def test_damaged_steps_are_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "steps.json"
    assert kept_steps(path) == {}
    path.write_text('{"k": {"pretrain": 4}}')
    assert kept_steps(path) == {"k": {"pretrain": 4}}
    path.write_text(content)
    with pytest.raises(ArtifactError, match=r"steps\.json"):
        kept_steps(path)


def test_damaged_measurements_are_made_again(tmp_path: Path) -> None:
    machine = {key: machine_facts()[key] for key in ("processor", "cores", "threads")}
    costs = {"k": {"name": "finetune", "step": 0.5, "fixed": 1.0}, "e": {"seconds": 3.0}}

    def known(record: Any) -> Any:
        (tmp_path / FILE).write_text(json.dumps(record))
        return Costs(tmp_path, None)._known  # type: ignore[arg-type]

    assert known({"machine": machine, "costs": costs}) == costs
    assert known({"machine": {**machine, "cores": -1}, "costs": costs}) == {}
    for damaged in ([], 3, {"k": 1}, {"k": {"step": 0.5}}, {"k": {"name": "f", "step": "x"}}, {"k": {"seconds": None}}):
        assert known({"machine": machine, "costs": damaged}) == {}
    assert known([]) == known({"costs": costs}) == {}


@pytest.mark.parametrize("content", ["[]", "3", "{}", '{"kind": "run"}'])
def test_a_folder_whose_study_file_says_nothing_is_no_study(tmp_path: Path, content: str) -> None:
    (tmp_path / STUDY_FILE).write_text(content)
    with pytest.raises(SettingsError, match="Nothing was written"):
        _refuse_other_folder(tmp_path)
