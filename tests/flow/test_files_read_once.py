"""A stage reads no file of an artifact twice; weights are hashed once and loaded once, arrays are mapped once."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fewlabel.core.artifact import manifest_fields
from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.files import write_json
from fewlabel.data.store import PreparedStore
from fewlabel.engine import weight_matching
from fewlabel.stages import evaluate, finetune, predict, pretrain
from fewlabel.stages.evaluate import EvaluateSettings
from fewlabel.stages.predict import PredictSettings
from kit.segmenters import make_segmenter, prepared_discs
from kit.stores import make_store
from kit.tiny import finetune_settings, pretrain_settings

#: Receives every file that Python opens for reading while there is one; an audit hook cannot be taken away.
_listeners: list[Callable[[Path], None]] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _listeners and isinstance(arguments[0], str) and arguments[1] in {"r", "rb"}:
        _listeners[-1](Path(arguments[0]))


sys.addaudithook(_hook)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """``opened FILE``, ``loaded FILE`` or ``mapped FILE`` → how often."""
    counts: Counter[str] = Counter()

    def counted(how: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(source: Any, *words: Any, **options: Any) -> Any:
            if isinstance(source, str | Path):
                counts[f"{how} {Path(source).absolute()}"] += 1
            return call(source, *words, **options)

        return counting

    monkeypatch.setattr(
        weight_matching.safetensors.torch, "load_file", counted("loaded", weight_matching.safetensors.torch.load_file)
    )
    monkeypatch.setattr(np, "load", counted("mapped", np.load))
    monkeypatch.setattr(pd, "read_parquet", counted("opened", pd.read_parquet))
    # What other tests have read counts for nothing.
    monkeypatch.setattr(manifest_fields, "_known", {})
    _listeners.append(lambda path: counts.update([f"opened {path.absolute()}"]))
    yield counts
    _listeners.pop()


def check(opened: Counter[str], *folders: Path) -> None:
    """Each artifact was read, and no file of it twice."""
    for folder in folders:
        files = {name: folder / name for name in Artifact.open(folder, check_parents=False).manifest.files}
        known = opened[f"opened {folder / 'manifest.json'}"]
        # The one just now is not that of the stage.
        assert known == 2, (folder, known)
        for name, path in files.items():
            # Mapping an array opens its file more than once, and reads its header only.
            how = ("mapped",) if path.suffix == ".npy" else ("opened", "loaded")
            small = path.suffix in {".json", ".parquet"}
            assert all(opened[f"{word} {path}"] <= 1 + (small and word == "opened") for word in how), name


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("once") / "prepared", subjects=8, depth=3, size=(16, 16), phases=1)


@pytest.fixture(scope="module")
def encoder(store: Path) -> Path:
    settings = pretrain_settings(store, store.with_name("encoder"), method="glcl", steps=2, batch=4)
    return pretrain.run(settings)


def test_pretraining(store: Path, encoder: Path, tmp_path: Path, opened: Counter[str]) -> None:
    pretrain.run(pretrain_settings(store, tmp_path / "out", method="simclr", encoder=encoder, steps=1))
    check(opened, store, encoder)


def test_fine_tuning_of_several_networks_and_a_control(
    store: Path, encoder: Path, tmp_path: Path, opened: Counter[str]
) -> None:
    over = {"encoder": encoder, "subjects": ["patient001", "patient002"], "validation": "leave_one_out", "members": 2}
    finetune.run(finetune_settings(store, tmp_path / "out", control=True, steps=1, **over))
    assert opened[f"loaded {encoder / 'encoder.safetensors'}"] == 1
    assert opened[f"loaded {encoder / 'decoder.safetensors'}"] == 1
    check(opened, store, encoder)


@pytest.fixture
def discs(tmp_path: Path) -> Path:
    return prepared_discs(tmp_path / "discs", test=("s3",))


@pytest.fixture
def run(discs: Path, tmp_path: Path) -> Path:
    """A run folder that uses its control, as ``train`` leaves it."""
    plan, parents = PreparedStore(discs).plan, [discs]
    for name, members in (("segmenter", 2), ("segmenter-control", 1)):
        make_segmenter(tmp_path / "run" / name, plan, parents, members=members, labelled_subjects=["s1"])
    arms = {"model": "segmenter", "control": "segmenter-control"}
    content = {arm: Artifact.open(tmp_path / "run" / name).content_hash for arm, name in arms.items()}
    write_json(tmp_path / "run" / "run.json", {"use": {"arm": "control", "reason": "better", "content": content}})
    return tmp_path / "run"


def test_evaluation_beside_a_control(discs: Path, run: Path, tmp_path: Path, opened: Counter[str]) -> None:
    model, control = run / "segmenter", run / "segmenter-control"
    asked = {"data": discs, "segmenter": model, "control": control, "out": tmp_path / "scores", "resamples": 5}
    evaluate.run(EvaluateSettings.parse({**asked, "device": "cpu", "surface": False}))
    check(opened, discs, model, control)


@pytest.mark.parametrize("place", ["run", "run/segmenter"])
def test_prediction(discs: Path, run: Path, tmp_path: Path, opened: Counter[str], place: str) -> None:
    scan = discs.parent / "raw" / "imagesTr" / "s3_0000.nii.gz"
    asked = {"model": tmp_path / place, "scans": scan, "out": tmp_path / "masks", "device": "cpu"}
    predict.run(PredictSettings.parse(asked))
    used = run / ("segmenter-control" if place == "run" else "segmenter")
    assert opened[f"loaded {used / 'segmenter.safetensors'}"] == 1
    check(opened, used)
