"""A fine-tuning begins at the shares of the classes in the masks that it learns from, and in no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fewlabel.core.artifact.files import read_json
from fewlabel.nets.class_prior import log_shares
from fewlabel.stages import finetune
from fewlabel.stages.finetune.network import class_counts
from fewlabel.stages.finetune.segmenter_run import SegmenterRun
from kit.stores import make_store
from kit.tiny import finetune_settings

ONE, TWO = ("patient001",), ("patient002",)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("prior") / "prepared", subjects=4, depth=3, size=(16, 16), phases=1)


def begun(store: Path, out: Path, subjects: tuple[str, ...], **over: object) -> tuple[SegmenterRun, torch.Tensor]:
    """A run and the biases of its network before the first step."""
    run = SegmenterRun(finetune_settings(store, out, subjects=subjects, **over), out, "scratch")
    return run, run.prepare().model.network.classifier.bias.detach()


def test_biases_are_the_log_shares_of_the_labelled_slices(store: Path, tmp_path: Path) -> None:
    for subjects in (ONE, TWO, (*ONE, *TWO)):
        run, bias = begun(store, tmp_path / "o", subjects)
        masks = np.asarray(run.store.labels[run.store.slices_of(subjects, labelled=True)])
        counts = [int((masks == index).sum()) for index in range(len(run.store.label_names))]
        assert sum(counts[1:]) > 0
        assert class_counts(run.store, run.store.slices_of(subjects, labelled=True)).tolist() == counts
        assert torch.equal(bias.cpu(), log_shares(torch.tensor(counts)))


def test_pixels_without_a_label_count_for_nothing(store: Path) -> None:
    run = SegmenterRun(finetune_settings(store, store.parent / "o", subjects=ONE), store.parent / "o", "scratch")
    indices = run.store.slices_of(ONE, labelled=True)
    labels = np.array(run.store.labels)
    run.store.labels = labels  # type: ignore[misc, assignment]
    before = class_counts(run.store, indices)
    labels[indices[0], :4] = 255
    gone = 4 * labels.shape[2]
    assert int(before.sum() - class_counts(run.store, indices).sum()) == gone


def test_the_setting_leaves_them_random_and_else_nothing_differs(store: Path, tmp_path: Path) -> None:
    with_it, without = (
        begun(store, tmp_path / "o", ONE, class_prior=value)[0].prepare().model.network.state_dict()
        for value in (True, False)
    )
    assert {key for key in with_it if not torch.equal(with_it[key], without[key])} == {"classifier.bias"}


@pytest.mark.parametrize("value", [True, False])
def test_further_classifiers_begin_so_where_the_setting_says_it(store: Path, tmp_path: Path, *, value: bool) -> None:
    regime = begun(store, tmp_path / "o", ONE, class_prior=value, regime={"name": "cps"})[0].prepare().model
    own, other = (each.classifier.bias for each in (regime.network, regime.second))
    assert torch.equal(own, other) is value


def test_the_record_says_so(store: Path, tmp_path: Path) -> None:
    folder = finetune.run(finetune_settings(store, tmp_path / "o", subjects=ONE, steps=1, class_prior=False))
    assert read_json(folder / "manifest.json")["settings"]["class_prior"] is False
