"""Every stage that makes a folder refuses a file in its place, in the same words, and leaves it alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fewlabel.core.artifact.artifact_folder import is_artifact
from fewlabel.core.errors import SettingsError
from fewlabel.data.store import PreparedStore
from fewlabel.pipelines import demo, train
from fewlabel.stages import evaluate, finetune, merge, predict, prepare, pretrain, report
from kit.scans import blob, noise, write_scan
from kit.segmenters import disc_plan, make_segmenter
from kit.stores import make_store
from kit.tiny import finetune_settings, pretrain_settings


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("file") / "prepared", subjects=4, depth=3, size=(16, 16), phases=1)


def predicted(store: Path, out: Path) -> None:
    beside = store.parent / f"model-{out.name}"
    scan = beside.with_suffix(".nii.gz")
    write_scan(scan, noise())
    beside.mkdir()
    make_segmenter(beside, disc_plan())
    predict.run(predict.PredictSettings.parse({"model": beside, "scans": scan, "out": out, "device": "cpu"}))


def scored(store: Path, out: Path) -> None:
    model = store.parent / f"scored-{out.name}-{out.parent.name}"
    if not model.exists():
        model.mkdir()
        make_segmenter(model, PreparedStore(store).plan)
    evaluate.run(evaluate.EvaluateSettings.parse({"data": store, "segmenter": model, "out": out, "device": "cpu"}))


CALLS: dict[str, Callable[[Path, Path], object]] = {
    "prepare": lambda store, out: prepare.run(prepare.PrepareSettings(data=store, out=out)),
    "merge": lambda store, out: merge.run(merge.MergeSettings(data=store, others=(str(store),), out=out)),
    "pretrain": lambda store, out: pretrain.run(pretrain_settings(store, out)),
    "finetune": lambda store, out: finetune.run(finetune_settings(store, out)),
    "predict": predicted,
    "evaluate": scored,
    "report": lambda store, out: report.run(report.ReportSettings(prepared=store, out=out)),
    "train": lambda store, out: train.run(train.train_settings({"data": store, "out": out})),
    "demo": lambda _, out: demo.run(demo.demo_settings({"out": out})),
}


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("stage", list(CALLS))
def test_a_file_is_refused_and_left_alone(store: Path, tmp_path: Path, stage: str, *, deep: bool) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(SettingsError) as caught:
        CALLS[stage](store, file / "run" if deep else file)
    (fault,) = caught.value.faults
    assert ("the file" if deep else "a file") in str(fault)
    assert str(file) in str(fault)
    assert fault.remedy
    assert file.read_text() == "mine"


def test_a_data_set_is_prepared_into_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ["image,label"]
    for number in range(5):
        for kind in ("image", "label"):
            write_scan(tmp_path / f"{kind}{number}.nii.gz", noise(seed=number) if kind == "image" else blob())
        rows.append(f"image{number}.nii.gz,label{number}.nii.gz")
    (tmp_path / "scans.csv").write_text("\n".join(rows))
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    settings = prepare.PrepareSettings(data=tmp_path / "scans.csv", out=Path())
    prepare.run(settings)
    assert is_artifact(tmp_path / "out", "prepared")
    assert is_artifact(Path(), "prepared")
    prepare.run(settings.model_copy(update={"position_parts": 3}))
    assert is_artifact(Path(), "prepared")
