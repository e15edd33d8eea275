"""What pre-training takes from its method: how batches are drawn, what views may show, where a schedule begins."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from fewlabel.core.artifact.files import MANIFEST
from fewlabel.core.artifact.sealed import write_sealed
from fewlabel.core.errors import SettingsError
from fewlabel.core.plugin_discovery import load_plugin, plugin_names
from fewlabel.data.sampling import MetaSampler, SliceSampler
from fewlabel.data.store import PreparedStore
from fewlabel.engine.recalibrate import recalibrate
from fewlabel.engine.record import read_record
from fewlabel.engine.weight_files import load_decoder_into, load_encoder
from fewlabel.nets.unet import UNet
from fewlabel.stages import pretrain
from fewlabel.stages.pretrain import PretrainingTrainer
from kit.stores import make_store
from kit.tiny import pretrain_settings


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("wiring") / "prepared", subjects=8, depth=5, size=(32, 32))


def begun(store: Path, folder: Path, method: str | dict, **over: object) -> PretrainingTrainer:
    return PretrainingTrainer.begin(pretrain_settings(store, folder, method=method, **over))


@pytest.mark.parametrize("name", plugin_names("fewlabel.methods"))
def test_batches_are_made_for_metadata_where_the_method_uses_any(store: Path, tmp_path: Path, name: str) -> None:
    training = begun(store, tmp_path, name)
    plugin = load_plugin("fewlabel.methods", name)
    wants = bool(plugin.needs_metadata or getattr(plugin, "automatic", ()))
    assert type(training.loader.sampler) is (MetaSampler if wants else SliceSampler)
    # The record keeps what was asked for.
    assert training.settings.record()["sampler"]["kind"] == "auto"


@pytest.mark.parametrize(("labels", "kind"), [([], SliceSampler), (["position"], MetaSampler), ("auto", MetaSampler)])
def test_gcl_is_judged_by_the_labels_it_is_given(store: Path, tmp_path: Path, labels: object, kind: type) -> None:
    assert type(begun(store, tmp_path, {"name": "gcl", "labels": labels}).loader.sampler) is kind


@pytest.mark.parametrize("name", ["simclr", "gcl"])
@pytest.mark.parametrize(("wanted", "kind"), [("slices", SliceSampler), ("metadata", MetaSampler)])
def test_a_sampler_that_is_asked_for_is_taken(store: Path, tmp_path: Path, name: str, wanted: str, kind: type) -> None:
    assert type(begun(store, tmp_path, name, sampler={"kind": wanted}).loader.sampler) is kind


def test_the_base_of_the_ablation_draws_as_simclr(store: Path, tmp_path: Path) -> None:
    base = begun(store, tmp_path, {"name": "gcl", "labels": [], "pixel": False}).loader.sampler
    plain = begun(store, tmp_path, "simclr").loader.sampler
    assert all(np.array_equal(base.batch(step), plain.batch(step)) for step in range(6))


@pytest.mark.parametrize("name", plugin_names("fewlabel.methods"))
def test_what_would_hide_a_task_s_answer_is_left_out_of_its_views_alone(store: Path, tmp_path: Path, name: str) -> None:
    given = {"flip_vertical": 0.7, "flip_horizontal": 0.4, "rotation": 12.0}
    found = begun(store, tmp_path, name, augment=given).loader.augmenter.config
    changes = load_plugin("fewlabel.methods", name).augment_changes
    assert {key: getattr(found, key) for key in {**given, **changes}} == {**given, **changes}
    assert type(found).parse(found.record()) == found


@pytest.mark.parametrize(("name", "first"), [("sscl", 9), ("glcl", 6), ("simclr", None)])
def test_the_rate_falls_to_its_end_in_every_stage(store: Path, tmp_path: Path, name: str, first: int | None) -> None:
    """Twelve steps, warmed up for two: the rates as they are recorded."""
    labels = {"labelled": 1, "draw": 0} if name == "sscl" else {}
    optimiser = {"name": "adamw", "lr": 1e-3, "warmup": 2}
    out = tmp_path / "encoder"
    pretrain.run(pretrain_settings(store, out, method=name, steps=12, optimiser=optimiser, **labels))
    rows = read_record(out / "metrics.jsonl")

    def stage(length: int) -> list[float]:
        decay = [5e-4 * (1 + math.cos(math.pi * step / (length - 2))) for step in range(length - 2)]
        return [5e-4, 1e-3, *decay][:length]

    expected = stage(12) if first is None else [*stage(first), *stage(12 - first)]
    # The record rounds.
    assert [row["lr"] for row in rows] == pytest.approx(expected, abs=1e-6)
    terms = [{key for key in row if key.startswith("term/")} for row in rows]
    assert [step for step in range(1, 12) if terms[step] != terms[step - 1]] == ([] if first is None else [first])
    assert json.loads((out / "encoder.json").read_text())["steps"] == 12


def test_a_warm_up_as_long_as_a_stage_is_refused_before_anything_is_written(store: Path, tmp_path: Path) -> None:
    settings = pretrain_settings(
        store,
        tmp_path / "out",
        method="glcl",
        steps=8,
        optimiser={"name": "adamw", "lr": 1e-3, "warmup": 4},
    )
    with pytest.raises(SettingsError, match=r"optimiser\.warmup.*one has 4 steps"):
        pretrain.run(settings)
    assert not (tmp_path / "out").exists()


def test_a_label_guides_only_where_the_slices_to_learn_from_show_two_classes(tmp_path: Path) -> None:
    # The test patient's phases are known, but no pre-training patient's.
    names = [f"patient{number:03d}" for number in range(1, 6)]
    folder = make_store(tmp_path / "prepared", subjects=5, depth=4, size=(32, 32), without_phase=names[:3])
    assert PreparedStore(folder).meta_labels["phase"] == 2
    assert begun(folder, tmp_path / "a", "gcl").model.uses_metadata == ("patient", "position")
    with pytest.raises(SettingsError, match=r"at least 2 classes.*phase \(0 classes\)"):
        begun(folder, tmp_path / "b", {"name": "gcl", "labels": ["phase"]})


@pytest.mark.parametrize("name", ["mae", "inpainting"])
def test_a_method_that_hides_parts_leaves_statistics_of_whole_slices_and_its_decoder(
    store: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "encoder"
    training = begun(store, out, name)
    images = list(training.take_statistics().batches(16))
    pretrain.run(pretrain_settings(store, out, method=name))
    encoder, facts = load_encoder(out)
    assert facts["recalibrated"] == {"slices": len(training.indices), "subjects": 5, "share": 1.0}
    before = {key: tensor.clone() for key, tensor in encoder.state_dict().items()}
    recalibrate(encoder, images)
    for key, tensor in encoder.state_dict().items():
        torch.testing.assert_close(tensor, before[key], rtol=1e-5, atol=1e-6)
    network = UNet(encoder.config, classes=4)
    assert load_decoder_into(out, network.decoder) == facts["decoder_blocks"] == len(network.decoder.blocks)


def test_other_methods_keep_the_statistics_of_their_views(store: Path, tmp_path: Path) -> None:
    pretrain.run(pretrain_settings(store, tmp_path / "encoder", method="simclr", steps=2))
    assert load_encoder(tmp_path / "encoder")[1]["recalibrated"] is None


def test_a_pretraining_with_shuffled_metadata_says_so(store: Path, tmp_path: Path) -> None:
    folder = pretrain.run(pretrain_settings(store, tmp_path / "e", method="gcl", steps=2, shuffled_metadata=True))
    assert json.loads((folder / "encoder.json").read_text())["shuffled_metadata"] is True


def test_a_run_from_before_the_control_goes_on_without_it(store: Path, tmp_path: Path) -> None:
    settings = pretrain_settings(store, tmp_path / "e", method="gcl", steps=2)
    path = pretrain.run(settings) / MANIFEST
    manifest = json.loads(path.read_text())
    del manifest["settings"]["identity"]["shuffled_metadata"]
    write_sealed(path, manifest)
    assert pretrain.run(settings.model_copy(update={"resume": True})) == tmp_path / "e"
    with pytest.raises(SettingsError, match="another shuffled_metadata"):
        pretrain.run(settings.model_copy(update={"resume": True, "shuffled_metadata": True}))
