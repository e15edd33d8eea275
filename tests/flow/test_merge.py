"""Merged stores: subjects and classes stay apart, and GCL pre-trains on the union."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.files import read_json
from fewlabel.core.errors import DataError, SettingsError
from fewlabel.data.merge import merge_stores
from fewlabel.data.store import PreparedStore
from fewlabel.protocol.exposure import met_among
from fewlabel.stages import finetune, merge, pretrain
from kit.stores import make_store
from kit.tiny import finetune_settings, pretrain_settings


def _merge(one, two, out):
    return merge.run(merge.MergeSettings.parse({"data": one, "others": [str(two)], "out": out}))


def test_ids_are_namespaced_and_arrays_joined(tmp_path):
    one = make_store(tmp_path / "one", subjects=4, depth=4, size=(32, 32), seed=1)
    two = make_store(tmp_path / "two", subjects=5, depth=5, size=(32, 32), seed=2, phases=1)
    merged = PreparedStore(_merge(one, two, tmp_path / "both"))
    first, second = PreparedStore(one), PreparedStore(two)
    cut = len(first.images)
    np.testing.assert_array_equal(merged.images[:cut], first.images)
    np.testing.assert_array_equal(merged.images[cut:], second.images)
    np.testing.assert_array_equal(merged.labels[cut:], second.labels)
    assert merged.meta_labels == {"patient": 9, "position": 8, "phase": 2}
    table = merged.slices
    for label in ("patient", "position"):
        codes = table[f"meta_{label}"]
        assert not set(codes[:cut]) & set(codes[cut:])
    # The second set has no phases: missing, not a class of the first.
    assert set(table["meta_phase"][cut:]) == {-1}
    assert table["subject"].nunique() == 9
    assert not set(merged.split["parts"]["pretrain"]) & set(merged.split["parts"]["test"])
    last = merged.cases[-1]
    assert last.stop == len(merged.images)
    assert set(table["subject"][last.start : last.stop]) == {last.subject}


def test_a_second_merge_is_a_no_op_and_gcl_trains_on_the_union(tmp_path):
    one = make_store(tmp_path / "one", subjects=4, depth=4, size=(32, 32), seed=1)
    two = make_store(tmp_path / "two", subjects=4, depth=4, size=(32, 32), seed=2)
    both = _merge(one, two, tmp_path / "both")
    before = Artifact.open(both).content_hash
    assert Artifact.open(_merge(one, two, tmp_path / "both")).content_hash == before
    encoder = pretrain.run(pretrain_settings(both, tmp_path / "encoder", steps=2))
    assert Artifact.open(encoder, "encoder").manifest.parents[0].content_hash == before


def test_masks_are_left_out_where_classes_differ(tmp_path):
    one = make_store(tmp_path / "one", subjects=4, depth=4, size=(32, 32), classes=4)
    two = make_store(tmp_path / "two", subjects=4, depth=4, size=(32, 32), classes=3, seed=1)
    merged = PreparedStore(_merge(one, two, tmp_path / "both"))
    assert set(np.unique(merged.labels)) == {255}
    assert not merged.slices["labelled"].any()


def test_sizes_must_agree_and_out_must_be_free(tmp_path):
    one = make_store(tmp_path / "one", subjects=4, depth=4, size=(32, 32))
    two = make_store(tmp_path / "two", subjects=4, depth=4, size=(48, 48))
    with pytest.raises(DataError, match=r"two has shape \(1, 48, 48\).*one has \(1, 32, 32\)"):
        _merge(one, two, tmp_path / "both")
    assert not (tmp_path / "both").exists()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "keep.txt").write_text("x")
    with pytest.raises(SettingsError, match="is not empty"):
        _merge(one, one, tmp_path / "notes")


def test_a_scan_may_not_be_in_two_of_the_stores(tmp_path):
    # Under two names a subject of one store's test part could train in the other's.
    one = make_store(tmp_path / "one", subjects=4, depth=4, size=(32, 32))
    again = make_store(tmp_path / "again", subjects=4, depth=4, size=(32, 32))
    with pytest.raises(DataError, match=r"again and .*one share 8 scans \(patient001_phase0, ") as caught:
        _merge(one, again, tmp_path / "both")
    assert len(caught.value.faults) == 1
    assert not (tmp_path / "both").exists()
    # The same file on another grid has other pixels.
    other = make_store(tmp_path / "other", subjects=4, depth=4, size=(32, 32), seed=1)
    stores = [PreparedStore(one), PreparedStore(other)]
    shared = str(tmp_path / "scans" / "a.nii.gz")
    for store, at in zip(stores, (0, 2), strict=True):
        cases = list(store.cases)
        cases[at] = replace(cases[at], images=(shared,))
        vars(store)["cases"] = tuple(cases)
    with pytest.raises(DataError, match=r"share 1 scan \(patient002_phase0\)"):
        merge_stores(stores, tmp_path)


def test_masks_are_left_out_where_millimetres_differ(tmp_path):
    one = make_store(tmp_path / "one", subjects=4, depth=4, size=(32, 32))
    two = make_store(tmp_path / "two", subjects=4, depth=4, size=(32, 32), seed=1)
    stores = [PreparedStore(one), PreparedStore(two)]
    stores[1].plan["spacing"] = [3.0, 3.0]
    merged = tmp_path / "both"
    merged.mkdir()
    merge_stores(stores, merged)
    notes = read_json(merged / "qc.json")["notes"]
    assert notes == ["masks are left out: the data sets differ in pixel spacing"]
    assert set(np.unique(np.load(merged / "labels.npy"))) == {255}


def test_networks_of_a_merged_store_say_whose_images_they_have_met(tmp_path):
    one = make_store(tmp_path / "one", subjects=4, depth=4, size=(32, 32), seed=1)
    two = make_store(tmp_path / "two", subjects=4, depth=4, size=(32, 32), seed=2)
    both = _merge(one, two, tmp_path / "both")
    encoder = pretrain.run(pretrain_settings(both, tmp_path / "encoder", steps=2))
    images = read_json(encoder / "encoder.json")["image_subjects"]
    assert images == sorted(PreparedStore(both).split["parts"]["pretrain"])
    # A second pre-training adds its own to those of the first, a fine-tuning without unlabelled scans its labelled one.
    again = pretrain.run(pretrain_settings(one, tmp_path / "again", steps=2, encoder=encoder))
    own = PreparedStore(one).split["parts"]["pretrain"]
    assert read_json(again / "encoder.json")["image_subjects"] == sorted({*images, *own})
    values = {"encoder": again, "labelled": 1, "steps": 1, "validation": "none"}
    for regime in ("supervised", "entropy"):
        out = finetune.run(finetune_settings(one, tmp_path / regime, regime=regime, **values))
        assert read_json(out / "segmenter.json")["image_subjects"] == sorted({*images, *own})
    scratch = {"labelled": 1, "steps": 1, "validation": "none", "encoder": None, "recalibrate": "never"}
    alone = read_json(finetune.run(finetune_settings(one, tmp_path / "alone", **scratch)) / "segmenter.json")
    assert alone["image_subjects"] == alone["labelled_subjects"]
    taught = finetune.run(finetune_settings(one, tmp_path / "taught", regime="entropy", **scratch))
    assert read_json(taught / "segmenter.json")["image_subjects"] == sorted(own)


@pytest.mark.parametrize(
    ("met", "dataset", "found"),
    [
        (["p1", "p2"], "acdc", {"p1"}),
        (["acdc:p1"], "acdc", {"p1"}),
        (["acdc2:p1"], "acdc", {"p1"}),
        (["other:p1"], "acdc", set()),
        (["p9"], "acdc", set()),
    ],
)
def test_subjects_are_recognised_under_the_name_of_a_merged_store(met, dataset, found):
    assert met_among(["p1", "p3"], met, dataset) == found


def test_subjects_of_a_merged_store_are_recognised_by_their_own_name():
    assert met_among(["acdc:p1", "mm:p2"], ["p1", "mm:p2", "acdc:p2"], "acdc+mm") == {"acdc:p1", "mm:p2"}
