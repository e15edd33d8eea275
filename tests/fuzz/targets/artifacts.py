"""Artifacts and the files of runs, opened as the stages open them; of sealed ones each bit has a checksum."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzz.targets.base import NOT_THERE, Target

#: (height, width) of prepared slices.
SIZE = (8, 8)
_CREATED = "2026-01-01T00:00:00+00:00"


def digest(*values: Any) -> str:
    """What was loaded, in short; two that are the same word for word are one."""
    return hashlib.sha256(repr(values).encode(errors="surrogatepass")).hexdigest()


def timeless(folder: Path) -> None:
    """Take the time and the machine out of a manifest, and seal it again."""
    from fewlabel.core.artifact.sealed import write_sealed

    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    values |= {"created": _CREATED, "machine": {"threads": 1}, "git_revision": "", "versions": {}, "wall_seconds": 1.0}
    for parent in values["parents"]:
        parent["path"] = f"../{parent['kind']}"
    write_sealed(path, values)


def _prepared(folder: Path) -> Path:
    from kit.stores import make_store

    make_store(folder, subjects=3, depth=2, size=SIZE, phases=1)
    timeless(folder)
    return folder


def prepared() -> None:
    """A prepared store of three subjects."""
    _prepared(Path("prepared"))


def open_prepared(folder: Path, index: int) -> str:
    """All that stages read of a store."""
    from fewlabel.core.artifact.artifact_folder import Artifact
    from fewlabel.data.store import PreparedStore

    store = PreparedStore(folder / "prepared")
    content = store.images.tobytes(), store.labels.tobytes()
    rows = store.slices.to_csv(), store.cases, store.plan, store.split, store.meta_labels, store.label_names
    if Artifact.find(folder / "prepared", "prepared") is None:
        return NOT_THERE
    return digest(store.manifest, rows, hashlib.sha256(b"".join(content)).hexdigest())


def encoder() -> None:
    """An encoder with its record."""
    import shutil

    from kit.runs import make_encoder

    _prepared(Path("prepared"))
    make_encoder(Path("encoder"), Path("prepared"), labels=("patient",), steps=6)
    shutil.rmtree("prepared")
    timeless(Path("encoder"))


def open_encoder(folder: Path, index: int) -> str:
    """Weights, facts, record and embeddings."""
    from fewlabel.core.artifact.artifact_folder import Artifact
    from fewlabel.engine.weight_files import load_encoder
    from fewlabel.reporting.inputs import load_inputs

    inputs = load_inputs({"encoder": folder / "encoder"})
    artifact = Artifact.open(folder / "encoder", "encoder")
    network, facts = load_encoder(artifact)
    artifact.verified("embeddings.safetensors")
    found = inputs.encoder
    weights = [(key, value.numpy().tobytes()) for key, value in network.state_dict().items()]
    return digest(artifact.manifest, weights, facts, found.facts, found.rows, found.details)


def segmenter() -> None:
    """A segmenter with its record."""
    import shutil

    from kit.runs import make_segmenter

    _prepared(Path("prepared"))
    make_segmenter(Path("segmenter"), Path("prepared"), steps=6)
    shutil.rmtree("prepared")
    timeless(Path("segmenter"))


def open_segmenter(folder: Path, index: int) -> str:
    """As ``predict`` takes it up."""
    from fewlabel.reporting.inputs import load_inputs
    from fewlabel.stages._segmenter import Segmenter

    made = Segmenter.load(folder / "segmenter")
    rows = load_inputs({"segmenter": folder / "segmenter"}).segmenter.rows
    weights = [value.numpy().tobytes() for network in made.networks for value in network.state_dict().values()]
    return digest(made.artifact.manifest, weights, made.facts, made.window, made.rule, rows)


def scores() -> None:
    """Scores of a model."""
    import shutil

    from kit.runs import make_scores, make_segmenter

    _prepared(Path("prepared"))
    make_segmenter(Path("segmenter"), Path("prepared"), steps=6)
    make_scores(Path("scores"), Path("prepared"), Path("segmenter"), None)
    for name in ("prepared", "segmenter"):
        shutil.rmtree(name)
    timeless(Path("scores"))


def open_scores(folder: Path, index: int) -> str:
    """As a report reads them."""
    from fewlabel.reporting.inputs import load_inputs

    inputs = load_inputs({"scores": folder / "scores"})
    inputs.artifacts["scores"].content("per_case.csv")
    return digest(inputs.manifests, inputs.scores.per_case.to_csv(), inputs.scores.summary)


def run_record() -> None:
    """``run.json`` of a finished run."""
    from fewlabel.core.artifact.run_record import write_run

    stages = {name: {"folder": name, "seconds": 3.5} for name in ("prepare", "finetune", "evaluate")}
    resolved = {"budget": "1h", "words": ["a=1"], "precision": {"finetune": "32"}, "command": ["fewlabel", "train"]}
    use = {"arm": "model", "reason": "is better", "content": {"model": "0" * 64}}
    asked = {"data": "raw", "recipe": "default", "words": ["budget=1h"]}
    values = {"kind": "run", "stages": stages, "use": use, "resolved": resolved, "asked": asked}
    write_run(Path(), {**values, "settings": {"finetune": {"steps": 100, "seed": 0}}, "round": {"number": 1}})


def open_run_record(folder: Path, index: int) -> str:
    """As all that go by it read it."""
    from fewlabel.core.artifact.run_record import read_run
    from fewlabel.pipelines.summary import closing_lines

    values = read_run(folder)
    closing_lines(folder)
    return digest(json.dumps(values, sort_keys=True)) if values else NOT_THERE


def checkpoint() -> None:
    """An unfinished run: its mark, its record and its checkpoint."""
    from fewlabel.engine.checkpoint import CHECKPOINT
    from fewlabel.engine.record import Record
    from fewlabel.engine.run_folder_state import mark_run

    mark_run(Path("run"), {"seed": 1, "steps": 9, "method": {"name": "simclr"}}, compiled=False)
    record = Record(Path("run"))
    for step in range(4):
        record.add(step, {"loss": 1.5 - step / 10, "lr": 1e-3, "seconds": 0.1})
    _checkpointer(Path("run")).save(4, {"best": 0.5})
    _in_order(Path("run") / CHECKPOINT)


def _in_order(path: Path) -> None:
    """Put the metadata of a safetensors file in order: the library writes them in another one each time."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    written = json.dumps(header, separators=(",", ":")).encode().ljust(size)
    path.write_bytes(content[:8] + written + content[8 + size :])


def _checkpointer(folder: Path) -> Any:
    import torch

    from fewlabel.engine.checkpoint import Checkpointer

    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimiser = torch.optim.AdamW(module.parameters())
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    made = Checkpointer(folder, {"seed": 1, "steps": 9}, module, optimiser)
    made.module, made.optimiser = module, optimiser  # type: ignore[attr-defined]
    return made


def open_checkpoint(folder: Path, index: int) -> str:
    """As a run that is continued."""
    from fewlabel.engine.record import Record, read_record
    from fewlabel.engine.run_folder_state import begun_compiled, finished_before

    run = folder / "run"
    made = _checkpointer(run)
    step, facts = made.load()
    state = [value.numpy().tobytes() for value in made.module.state_dict().values()]
    state += [sorted(value) for value in made.optimiser.state_dict()["state"].values()]
    same = {"seed": 1, "steps": 9, "method": {"name": "simclr"}}
    done = finished_before(run, "encoder", same, resume=True)
    rows = read_record(run / "metrics.jsonl")
    Record(run, first_step=step)
    # The record is no part of the state: a line may be lost.
    del rows
    whole = all((run / name).is_file() for name in ("checkpoint.safetensors", "identity.json"))
    return digest(step, facts, state, done, begun_compiled(run)) if whole else NOT_THERE


def predictions() -> None:
    """What ``predict`` left, and what a killed call left beside it."""
    from fewlabel.core.artifact.artifact_folder import finish_artifact
    from fewlabel.core.artifact.files import file_hash

    Path("out").mkdir()
    masks = {}
    for name in ("a", "b"):
        path = Path(f"out/{name}.nii.gz")
        path.write_bytes(name.encode() * 50)
        record = {"model": "0" * 64, "settings": {"flip": False}, "scan": "1" * 64, "beside": []}
        masks[path.name] = {**record, "files": {path.name: file_hash(path)}}
    lines = [
        "input,output,status,fault,model,seconds",
        "a.nii.gz,a.nii.gz,ok,,000,0.1",
        "b.nii.gz,b.nii.gz,ok,,000,0.1",
    ]
    Path("out/predictions.csv").write_text("\n".join(lines) + "\n")
    Path("out/run_report.json").write_text(json.dumps({"masks": masks, "seconds": 3.5}))
    finish_artifact(Path("out"), "predictions", ["a.nii.gz", "b.nii.gz", "predictions.csv", "run_report.json"])
    timeless(Path("out"))
    row = {"input": "c.nii.gz", "output": "c.nii.gz", "status": "ok", "fault": "", "model": "000", "seconds": 0.1}
    done = {"output": "c.nii.gz", **masks["a.nii.gz"], "files": {"c.nii.gz": "0" * 64}, "rows": [row]}
    notes = [{"begun": "c.nii.gz"}, done, {"begun": "d.nii.gz"}]
    Path("out/unfinished.jsonl").write_text("".join(json.dumps(note) + "\n" for note in notes))


def go_on_predicting(folder: Path, index: int) -> None:
    """What another call of ``predict`` makes of it before it segments."""
    from fewlabel.core.artifact.artifact_folder import Artifact
    from fewlabel.core.artifact.own_files import own_files
    from fewlabel.stages.predict.output_destination import Destination, check_destination
    from fewlabel.stages.predict.resuming import Earlier, MaskRecord

    out = folder / "out"
    own_files(out, [path.name for path in out.iterdir()])
    check_destination(Destination.of(out), ())
    earlier = Earlier(Destination.of(out))
    in_the_way: dict[Path, str] = {}
    wanted = MaskRecord("0" * 64, {"flip": False}, "1" * 64)
    for name in ("a.nii.gz", "b.nii.gz", "c.nii.gz", "d.nii.gz"):
        there = [path for path in [out / name] if path.is_file()]
        earlier.kept(name, wanted, there, in_the_way)
    Artifact.find(out, "predictions")


def study_jobs() -> None:
    """A study's plan with a job that is done, one that failed, and what was measured."""
    from fewlabel.pipelines.executors.jobs import Job, Plan

    payload = {"stage": "finetune", "settings": {"steps": 9}}
    jobs = (
        Job("finetune-a", "a", payload),
        Job("evaluate-b", "b", {"stage": "evaluate", "settings": {}}, ("finetune-a",)),
    )
    Plan(Path("study"), "fewlabel.pipelines.study.work:do", jobs, "l1").write()
    done = {"title": "a", "launch": "l1", "seconds": 3.5, "host": "h", "finished": 1.0, "payload": payload}
    failed = {"title": "b", "launch": "l1", "error": "no labels"}
    rows = [{"event": event, "launch": "l1", "at": "2026", "process": 1, "host": "h"} for event in ("began", "failed")]
    metrics = [{"step": step, "loss": 1.0, "seconds": 0.1} for step in range(3)]
    for name, values in {
        "jobs/finetune-a/done.json": [done],
        "jobs/evaluate-b/failed.json": [failed],
        "jobs/finetune-a/attempts.jsonl": rows,
        "jobs/finetune-a/segmenter/metrics.jsonl": metrics,
        "study.json": [{"kind": "study", "schema_version": 1, "finished": False}],
        "steps.json": [{"k": {"pretrain": 4, "finetune": 9}}],
        "measured.json": [
            {"machine": _machine(), "costs": {"k": {"name": "finetune", "step": 0.5}, "e": {"seconds": 3}}}
        ],
    }.items():
        path = Path("study", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(value) + "\n" for value in values))


def _machine() -> dict[str, Any]:
    from fewlabel.core.provenance import machine_facts

    return {key: machine_facts()[key] for key in ("processor", "cores", "threads")}


def go_on_with_study(folder: Path, index: int) -> None:
    """What workers and the table of a study that goes on read of it."""
    from fewlabel.pipelines.executors.claims import attempts, deaths, failure, is_done
    from fewlabel.pipelines.executors.job_progress import seconds_of
    from fewlabel.pipelines.executors.jobs import Plan
    from fewlabel.pipelines.study.board import last_step
    from fewlabel.pipelines.study.chosen_steps import _kept
    from fewlabel.pipelines.study.costs import Costs
    from fewlabel.pipelines.study.running import _refuse_other_folder
    from fewlabel.pipelines.time_budget_arithmetic import Cost

    plan = Plan.read(folder / "study/plans/l1.json")
    for key in ("finetune-a", "evaluate-b"):
        failure(plan, key)
        attempts(plan, key)
        deaths(plan, key)
        if is_done(plan, key):
            seconds_of(plan, key)
    last_step(plan.folder("finetune-a") / "segmenter/metrics.jsonl")
    _kept(folder / "study/steps.json")
    _refuse_other_folder(folder / "study")
    known = Costs(folder / "study", None)._known
    [Cost(**cost) for cost in known.values() if "step" in cost]


def recipe() -> None:
    """A recipe of the user's."""
    import yaml

    values = {"description": "Ours.", "budget": "30m", "pretraining": True, "seed": 3}
    values |= {"prepare": {"spacing": [1.5, 1.5], "size": [64, 64]}, "pretrain": {"method": "gcl", "steps": 40}}
    values |= {"finetune": {"regime": {"name": "mean_teacher"}, "network": {"width": 8}, "labelled": 2}}
    Path("ours.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def read_recipe(folder: Path, index: int) -> None:
    """As ``train`` takes it."""
    from fewlabel.pipelines.train import train_settings

    train_settings({"data": folder / "raw", "out": folder / "run"}, folder / "ours.yaml")


def study_spec() -> None:
    """A study of the user's."""
    import yaml

    arms = {
        "scratch": {},
        "gcl": {"method": "gcl", "doc": "contrast"},
        "mt": {"regime": "mean_teacher", "budgets": [1]},
    }
    values = {"description": "Which is best?", "recipe": "demo", "arms": arms, "budgets": [1, 2, "all"], "draws": 2}
    values |= {"seeds": [0, 1], "finetune": {"steps": 9}, "sources": {"more": {"data": "raw2"}}, "split": "random"}
    values |= {"claims": [{"text": "t", "better": "gcl", "than": "scratch"}], "sizes": {"lite": {"draws": 1}}}
    Path("ours.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def read_study_spec(folder: Path, index: int) -> None:
    """As ``study`` takes it, up to the settings of each arm."""
    from fewlabel.pipelines.study import study_of
    from fewlabel.pipelines.study.arms import arm_plans

    arm_plans(study_of(folder / "ours.yaml", {"data": folder / "raw", "out": folder / "study"}))


def split_file() -> None:
    """A split of the user's."""
    parts = {"pretrain": ["s00", "s01"], "train": ["s00", "s01", "s02"], "validation": ["s03"], "test": ["s04"]}
    draws = {"1": [{"labelled": ["s00"], "validation": ["s03"]}], "2": [{"labelled": ["s00", "s02"]}]}
    Path("split.json").write_text(json.dumps({"name": "mine", "parts": parts, "draws": draws}))


def read_split(folder: Path, index: int) -> None:
    """As ``prepare`` takes it."""
    from fewlabel.protocol.splits import make_split
    from kit.catalogs import catalog, names

    make_split(catalog(names(5)), str(folder / "split.json"), 0)


def poses() -> None:
    """Beside a store: how its scans lie, what it was made of."""
    from fewlabel.data.pose_record import write_poses
    from fewlabel.data.store import PreparedStore

    write_poses(PreparedStore(_prepared(Path("prepared"))), Path())
    import shutil

    shutil.rmtree("prepared")
    Path("sources.json").write_text(json.dumps({"key": "0" * 64, "files": {"a.nii": [1, 2, "x"]}}))


def read_beside_store(folder: Path, index: int) -> None:
    """Both files."""
    from fewlabel.data.pose_record import read_poses
    from fewlabel.data.source_fingerprint import read_sources

    read_poses(folder)
    read_sources(folder)


def _sealed(name: str, build: Callable[[], None], meet: Callable[[Path, int], Any]) -> Target:
    return Target(f"artifact-{name}", "artifact", build, meet, sealed=True)


def _open(name: str, build: Callable[[], None], meet: Callable[[Path, int], Any], **more: Any) -> Target:
    return Target(f"artifact-{name}", "artifact", build, meet, **more)


ARTIFACTS = [
    _sealed("prepared", prepared, open_prepared),
    _sealed("encoder", encoder, open_encoder),
    _sealed("segmenter", segmenter, open_segmenter),
    _sealed("scores", scores, open_scores),
    _sealed("run-record", run_record, open_run_record),
    _sealed("checkpoint", checkpoint, open_checkpoint),
    _open("predictions", predictions, go_on_predicting, spare=frozenset({"out/a.nii.gz", "out/b.nii.gz"})),
    _open("study-jobs", study_jobs, go_on_with_study),
    _open("study-spec", study_spec, read_study_spec),
    _open("recipe", recipe, read_recipe),
    _open("split-file", split_file, read_split),
    _open("beside-store", poses, read_beside_store),
]
