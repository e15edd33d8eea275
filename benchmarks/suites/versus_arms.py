"""The rivals of :mod:`suites.versus`: each a training and a prediction by its own commands, in processes of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fewlabel.engine.record import read_record
from suites.versus_scene import Scene

RIVALS = Path(__file__).resolve().parents[1] / "rivals"
#: The grid and batch of our own side, for the rivals that are put on it.
SPACING, SIZE, BATCH = 1.5625, 128, 10
THREADS = 2
NNUNET = ("nnunetv2", "torch==2.13.0")
TRAINER = "nnUNetTrainerMinutes"
#: Steps of the arm that is to converge however long it takes.
STEPS = 2000
#: SSL4MIS's settings of Mean Teacher on ACDC, by our code: network, slices, batch, rate, augmentation, no cleaning.
SSL4MIS = (
    "prepare.size=[256,256]", "prepare.spacing=[1.0,1.0]", "network.width=16", "network.depth=5", "finetune.view=null",
    "finetune.regime=mean_teacher", "finetune.batch=12", "finetune.unlabelled_batch=12",
    "finetune.optimiser.name=sgd", "finetune.optimiser.lr=0.01", "finetune.optimiser.min_lr=0",
    "finetune.optimiser.weight_decay=1e-4", "finetune.optimiser.schedule=poly",
    "finetune.augment.flip_horizontal=0.5", "finetune.augment.flip_vertical=0.5", "finetune.augment.rotation=20",
    "finetune.widen_augment=false", "finetune.recalibrate=never", "finetune.postprocess=false",
)  # fmt: skip


@dataclass(frozen=True)
class Task:
    """One cell.

    Attributes:
        scene: The scans.
        data: Folder of the data set, for our own command.
        split: The split of our own command.
        draw: Number of the draw.
        out: Folder of the cell.
        work: Folder of the suite.
        seconds: Budget of the training.
    """

    scene: Scene
    data: Path
    split: str
    draw: int
    out: Path
    work: Path
    seconds: float

    @property
    def masks(self) -> Path:
        """Where masks of the test scans go."""
        return self.out / "masks"


@dataclass
class Trained:
    """What came of a training.

    Attributes:
        losses: One for each step, or for each logged one.
        steps: Number of steps.
        batch: Images of a step.
        seconds: Time of the steps.
        peak: Largest resident memory of a process, in bytes.
        settings: What it was told.
    """

    losses: list[float]
    steps: int
    batch: int
    seconds: float
    peak: int
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rival:
    """A training and a prediction.

    Attributes:
        doc: What it is.
        train: Trains; a training that was stopped goes on.
        predict: Segments the test scans; the largest memory of a process, in bytes.
        steps: Steps that it takes whatever the time; 0 for the time of the cell.
    """

    doc: str
    train: Callable[[Task], Trained]
    predict: Callable[[Task], int]
    steps: int = 0


def call(words: Sequence[str], log: Path, **environment: str) -> int:
    """Run a command to its end; the largest resident memory of its processes, in bytes.

    Raises:
        SystemExit: If it fails, with its last words.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    source = str(Path(__file__).resolve().parents[2] / "src")
    usual = {"OMP_NUM_THREADS": str(THREADS), "PYTHONPATH": source}
    with log.open("a") as stream:
        process = subprocess.Popen(words, stdout=stream, stderr=stream, env={**os.environ, **usual, **environment})
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        last = "\n".join(log.read_text(errors="replace").strip().splitlines()[-8:])
        raise SystemExit(
            f"{' '.join(words[:6])} ... ended with {process.returncode}:\n{last}\nSee {log}; repeat to go on."
        )
    return int(usage.ru_maxrss) * 1024


def ours(task: Task, words: Sequence[str] = ()) -> Trained:
    """``fewlabel train`` with its time, without a control."""
    run = task.out / "run"
    asked = [
        f"prepare.split={task.split}", f"finetune.labelled={len(task.scene.subjects)}", f"finetune.draw={task.draw}",
        "finetune.control=false", f"budget={max(round(task.seconds / 60), 1)}m", *words,
    ]  # fmt: skip
    begun = ["--resume"] if (run / "run.json").is_file() else []
    started = time.monotonic()
    command = [sys.executable, "-m", "fewlabel", "train", str(task.data), "--out", str(run), *begun, *asked]
    peak = call(command, task.out / "train.log")
    rows = read_record(run / "segmenter" / "metrics.jsonl")
    manifest = json.loads((run / "segmenter" / "manifest.json").read_text())
    settings = manifest["settings"]
    regime = settings["regime"]["name"]
    unlabelled = settings["unlabelled_batch"] or settings["batch"]
    batch = settings["batch"] + (0 if regime == "supervised" else unlabelled)
    losses = [row["loss"] for row in rows if row.get("loss") is not None]
    told = {"command": ["fewlabel", "train", *asked], "whole_seconds": round(time.monotonic() - started, 1)}
    return Trained(losses, int(settings["steps"]), batch, float(manifest["wall_seconds"]), peak, told)


def predict_ours(task: Task) -> int:
    """``fewlabel predict`` of the test scans."""
    words = [sys.executable, "-m", "fewlabel", "predict", str(task.out / "run"), str(task.scene.test)]
    return call([*words, "--out", str(task.masks), "overwrite=true", "reader=folders"], task.out / "predict.log")


def monai(task: Task) -> Trained:
    """MONAI's residual U-Net in a plain loop."""
    peak = call([sys.executable, str(RIVALS / "monai_loop.py"), str(_job(task)), "train"], task.out / "train.log")
    return _from_record(task.out / "versus.json", peak, {"rival": "benchmarks/rivals/monai_loop.py"})


def predict_monai(task: Task) -> int:
    """Sliding windows over the test scans."""
    return call([sys.executable, str(RIVALS / "monai_loop.py"), str(_job(task)), "predict"], task.out / "predict.log")


def _job(task: Task) -> Path:
    job = {
        "images": str(task.scene.raw / "imagesTr"), "labels": str(task.scene.raw / "labelsTr"),
        "test": str(task.scene.test), "masks": str(task.masks), "out": str(task.out), "seconds": task.seconds,
        "spacing": SPACING, "size": SIZE, "batch": BATCH, "classes": len(task.scene.classes) + 1, "seed": task.draw,
    }  # fmt: skip
    path = task.out / "job.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(job, indent=1))
    return path


def nnunet(task: Task, plans: str = "nnUNetPlans", steps: int = 0) -> Trained:
    """nnU-Net 2D by its own commands, on all labelled scans (fold ``all``, as five folds take five cases)."""
    tools, places = environment(task.work), _places(task, steps)
    number, log = str(task.scene.number), task.out / "train.log"
    planned = task.scene.home / "nnUNet_preprocessed" / task.scene.raw.name
    script = [str(RIVALS / "nnunet" / "our_grid_plans.py"), str(planned / "nnUNetPlans.json")]
    whole = ["-c", "2d", "-np", "1"]
    first = [str(tools / "nnUNetv2_plan_and_preprocess"), "-d", number, *whole, "-npfp", "1"]
    again = [
        [str(tools / "python"), *script, str(SPACING), str(SIZE), str(BATCH)],
        [str(tools / "nnUNetv2_preprocess"), "-d", number, "-plans_name", plans, *whole],
    ]
    for name, commands in (("nnUNetPlans", [first]), (plans, again)):
        # What a kill left half done is done again.
        done = planned / f"{name}.done"
        for command in () if done.is_file() else commands:
            call(command, log, **places)
        done.touch()
    model = task.out / "results" / task.scene.raw.name / f"{TRAINER}__{plans}__2d" / "fold_all"
    asked = [number, "2d", "all", "-tr", TRAINER, "-p", plans, "-device", "cpu"]
    begun = ["--c"] if (model / "checkpoint_latest.pth").is_file() else []
    peak = 0
    if not (model / "checkpoint_final.pth").is_file():
        peak = call([str(tools / "nnUNetv2_train"), *asked, *begun], log, **places, nnUNet_n_proc_DA="0")
    return _from_record(model / "versus.json", peak, {"command": ["nnUNetv2_train", *asked], "steps": steps})


def predict_nnunet(task: Task, plans: str = "nnUNetPlans") -> int:
    """nnU-Net's own prediction, without mirroring: the training mirrors, and a CPU has no time for it."""
    words = [
        str(environment(task.work) / "nnUNetv2_predict"), "-i", str(task.scene.test), "-o", str(task.masks),
        "-d", str(task.scene.number), "-c", "2d", "-f", "all", "-tr", TRAINER, "-p", plans, "-device", "cpu",
        "--disable_tta", "-npp", "1", "-nps", "1",
    ]  # fmt: skip
    return call(words, task.out / "predict.log", **_places(task, 0))


def environment(work: Path) -> Path:
    """Folder of the commands of nnU-Net's own virtual environment, which is made if it is not there."""
    home = work / "nnunet-environment"
    tools = home / "bin"
    if not (tools / "nnUNetv2_train").is_file():
        print(f"Making nnU-Net's own environment in {home} ...", flush=True)
        call([sys.executable, "-m", "venv", str(home)], work / "environment.log", PYTHONPATH="")
        # With torch named, pip keeps the build of this machine instead of the newest for a GPU.
        call([str(tools / "pip"), "install", *NNUNET], work / "environment.log", PYTHONPATH="")
    # Beside nnU-Net's own: where it looks for others it imports all of its own first, some of which want a torchvision
    # that fits no torch for CPUs.
    (home_of_trainers,) = home.glob("lib/python*/site-packages/nnunetv2/training/nnUNetTrainer")
    shutil.copyfile(RIVALS / "nnunet" / "minutes_trainer.py", home_of_trainers / "minutes_trainer.py")
    return tools


def _places(task: Task, steps: int) -> dict[str, str]:
    """The variables that nnU-Net asks for."""
    home = task.scene.home
    return {
        "nnUNet_raw": str(home / "nnUNet_raw"), "nnUNet_preprocessed": str(home / "nnUNet_preprocessed"),
        "nnUNet_results": str(task.out / "results"), "nnUNet_compile": "f",
        "VERSUS_SECONDS": str(task.seconds), "VERSUS_STEPS": str(steps), "PYTHONPATH": "",
    }  # fmt: skip


def _from_record(path: Path, peak: int, settings: Mapping[str, Any]) -> Trained:
    record = json.loads(path.read_text())
    losses = record["losses"]
    return Trained(losses, len(losses), int(record["batch"]), float(record["seconds"]), peak, dict(settings))


OUR_GRID = "nnUNetPlansOurGrid"
ARMS: dict[str, Rival] = {
    "ours": Rival("fewlabel train", ours, predict_ours),
    "nnunet": Rival("nnU-Net 2D as it plans itself", nnunet, predict_nnunet),
    "nnunet-our-grid": Rival(
        f"nnU-Net 2D on our grid and batch ({SIZE}x{SIZE} at {SPACING} mm, {BATCH})",
        lambda task: nnunet(task, OUR_GRID),
        lambda task: predict_nnunet(task, OUR_GRID),
    ),
    "nnunet-converged": Rival(
        f"the same for {STEPS} steps, however long they take",
        lambda task: nnunet(task, OUR_GRID, STEPS),
        lambda task: predict_nnunet(task, OUR_GRID),
        steps=STEPS,
    ),
    "monai": Rival("MONAI's residual U-Net in a plain loop with strong augmentation", monai, predict_monai),
    "ssl4mis": Rival(
        "Mean Teacher with the settings of SSL4MIS, by our code", lambda task: ours(task, SSL4MIS), predict_ours
    ),
}
