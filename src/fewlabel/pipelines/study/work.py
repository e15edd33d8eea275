"""What a job of a study is: a stage, in the folder of the job."""

from __future__ import annotations

from pathlib import Path

from fewlabel.core.progress import silence
from fewlabel.pipelines.executors.jobs import JOBS, Job
from fewlabel.pipelines.stage_table import run_stage, settings_class
from fewlabel.pipelines.study.grid import LEAVES

WORK = "fewlabel.pipelines.study.work:do"


def do(root: Path, job: Job) -> None:
    """Run the stage of a job; what was begun goes on, what is finished is kept.

    Args:
        root: Folder of the study.
        job: As :mod:`fewlabel.pipelines.study.grid` makes it.

    Raises:
        FewlabelError: Whatever the stage raises.
    """
    stage = str(job.payload["stage"])
    kind = settings_class(stage)
    links = {name: root / place for name, place in job.payload["links"].items()}
    resume = {"resume": True} if "resume" in kind.model_fields else {}
    out = root / JOBS / job.key / LEAVES[stage]
    settings = kind.parse({**job.payload["settings"], **links, **resume, "out": out})
    known = {"user_network": frozenset(job.payload["network"])} if stage == "finetune" else {}
    with silence():
        run_stage(stage, settings, **known)
