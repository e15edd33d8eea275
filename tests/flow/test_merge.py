"""Merged stores: subjects and classes stay apart, and GCL pre-trains on the union."""

from __future__ import annotations

import numpy as np
import pytest

from fewlabel.core.artifact import open_artifact
from fewlabel.core.errors import DataError, SettingsError
from fewlabel.data.store import PreparedStore
from fewlabel.stages import merge, pretrain
from kit.stores import make_store
from kit.tiny import pretrain_settings


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
    before = open_artifact(both).content_hash
    assert open_artifact(_merge(one, two, tmp_path / "both")).content_hash == before
    encoder = pretrain.run(pretrain_settings(both, tmp_path / "encoder", steps=2))
    assert open_artifact(encoder, "encoder").parents[0].content_hash == before


def test_masks_are_left_out_where_classes_differ(tmp_path):
    one = make_store(tmp_path / "one", subjects=4, depth=4, size=(32, 32), classes=4)
    two = make_store(tmp_path / "two", subjects=4, depth=4, size=(32, 32), classes=3)
    merged = PreparedStore(_merge(one, two, tmp_path / "both"))
    assert set(np.unique(merged.labels)) == {255}
    assert not merged.slices["labelled"].any()


def test_sizes_must_agree_and_out_must_be_free(tmp_path):
    one = make_store(tmp_path / "one", subjects=4, depth=4, size=(32, 32))
    two = make_store(tmp_path / "two", subjects=4, depth=4, size=(48, 48))
    with pytest.raises(DataError, match=r"\(1, 48, 48\).*\(1, 32, 32\)"):
        _merge(one, two, tmp_path / "both")
    assert not (tmp_path / "both").exists()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "keep.txt").write_text("x")
    with pytest.raises(SettingsError, match="new or empty"):
        _merge(one, one, tmp_path / "notes")
