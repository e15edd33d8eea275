import json
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewlabel.core.errors import DataError
from fewlabel.data.back_to_scan_grid import Restoration, restore_probabilities
from fewlabel.data.io.geometry import Geometry, Volume
from fewlabel.data.io.volume_reading import read_mask, read_volume
from fewlabel.data.preprocess import Plan, prepare_mask, prepare_volume
from fewlabel.data.resample import AxisRecord, linear_weights, resample_plane, row_sums
from kit.scans import TILTED, blob, noise, write_scan


def volume(array, spacing=(5.0, 1.0, 1.0), direction=None, path="scan.nii.gz"):
    direction = np.eye(3) if direction is None else direction

    array = array[None] if array.ndim == 3 else array
    return Volume(
        array.astype(np.float32),
        Geometry(array.shape[1:], spacing, (0.0, 0.0, 0.0), tuple(np.asarray(direction, dtype=float).ravel())),
        (Path(path),),
    )


def one_hot(mask, classes):
    return (mask[None] == np.arange(classes)[:, None, None, None]).astype(np.float32)


@given(source=st.integers(1, 40), wanted=st.integers(1, 40), step=st.floats(0.2, 5))
@settings(max_examples=80, deadline=None)
def test_weights_sum_to_one_and_are_mirror_symmetric(source, wanted, step):
    weights = linear_weights(source, wanted, step).toarray()
    assert np.allclose(weights.sum(1), 1, atol=1e-5)
    assert weights.min() >= 0
    assert np.allclose(weights, weights[::-1, ::-1], atol=1e-5)


def test_weights_interpolate_like_a_slow_loop():
    signal = np.random.default_rng(0).normal(size=9)
    out = linear_weights(9, 16, 0.5) @ signal
    for j in range(16):
        x = min(max((j - 7.5) * 0.5 + 4.0, 0.0), 8.0)
        low = min(int(np.floor(x)), 7)
        assert out[j] == pytest.approx(signal[low] * (low + 1 - x) + signal[low + 1] * (x - low), abs=1e-5)


def test_shrinking_averages_so_that_no_pixel_is_passed_over():
    weights = linear_weights(64, 16, 4.0)
    assert (weights.sum(0) > 0.1).all()


def test_equal_grids_resample_to_themselves():
    assert np.array_equal(linear_weights(7, 7, 1.0).toarray(), np.eye(7, dtype=np.float32))


def _dense(source, wanted, step):
    """All weights at once, as a full matrix."""
    place = np.clip((np.arange(wanted) - (wanted - 1) / 2) * step + (source - 1) / 2, 0, source - 1)
    weights = np.clip(1 - np.abs(np.arange(source)[None] - place[:, None]) / max(1.0, step), 0, None)
    weights[weights < 1e-9] = 0
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(
    ("source", "wanted", "step"),
    [
        (1, 9, 0.3),
        (900, 411, 2.19),
        (411, 900, 0.457),
        (700, 700, 1),
        (1500, 1, 1500.0),
        (9001, 37, 243.27),
        (2000, 601, 3.32778),
        (20, 300, 7.7),
    ],
)
def test_weights_made_some_rows_at_a_time_are_those_of_a_full_matrix_to_the_bit(source, wanted, step):
    whole = _dense(source, wanted, step)
    made = linear_weights(source, wanted, step)
    assert np.array_equal(made.toarray(), whole)
    assert np.array_equal(row_sums(made), whole.sum(1))
    for size in (wanted - 1, wanted, wanted + 5):
        axis = AxisRecord(source, 1.0, step, wanted, (wanted - size) // 2, size)
        low, high = max(0, axis.offset), min(wanted, axis.offset + size)
        forward = np.zeros((size, source), np.float32)
        forward[low - axis.offset : high - axis.offset] = whole[low:high]
        backward = np.zeros((source, size), np.float32)
        backward[:, low - axis.offset : high - axis.offset] = _dense(wanted, source, 1 / step)[:, low:high]
        assert np.array_equal(axis.forward().toarray(), forward)
        assert np.array_equal(axis.backward().toarray(), backward)


def test_an_axis_of_very_many_pixels_takes_memory_by_its_pixels_not_by_their_square():
    tracemalloc.start()
    try:
        axis = AxisRecord.plan(12_000, 1.0, 1.0, 64)
        axis.forward()
        assert row_sums(axis.backward()).sum() == 64
        assert tracemalloc.get_traced_memory()[1] < 24e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("target", [1.0, 0.9, 20.0])
def test_an_axis_of_very_many_pixels_takes_time_by_its_pixels_not_by_their_square(target):
    began = time.process_time()
    axis = AxisRecord.plan(100_000, 1.0, target, 64)
    axis.forward()
    assert row_sums(axis.backward()).sum() == pytest.approx(64 * target, rel=0.05)
    assert time.process_time() - began < 5


def test_resample_plane_equals_dense_products():
    rng = np.random.default_rng(0)
    array = rng.normal(size=(2, 3, 5, 7)).astype(np.float32)
    rows, columns = rng.normal(size=(4, 5)).astype(np.float32), rng.normal(size=(6, 7)).astype(np.float32)
    assert np.allclose(resample_plane(array, rows, columns), rows @ array @ columns.T, atol=1e-5)


@pytest.mark.parametrize(("pixels", "size", "offset"), [(10, 6, 2), (6, 10, -2), (7, 4, 1), (4, 7, -2), (8, 8, 0)])
def test_crop_and_pad_keep_the_centre(pixels, size, offset):
    axis = AxisRecord.plan(pixels, 1.0, 1.0, size)
    assert axis.offset == offset
    moved = axis.forward() @ np.arange(1, pixels + 1)
    for k in range(size):
        assert moved[k] == (k + offset + 1 if 0 <= k + offset < pixels else 0)


@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 30), st.integers(1, 30)),
    pixel=st.floats(0.4, 3),
    target=st.floats(0.4, 3),
    size=st.tuples(st.sampled_from([4, 16, 22, 32]), st.sampled_from([4, 16, 22, 32])),
    tilted=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_restored_shape_and_sums_are_exact(shape, pixel, target, size, tilted):
    scan = volume(np.ones(shape), (4.0, pixel, pixel), TILTED if tilted else np.eye(3))
    plan = Plan(spacing=(target, target), size=size, label_values=(0, 1, 2), label_names=("background", "a", "b"))
    array, record = prepare_volume(scan, plan)
    assert array.shape[0] == 1
    assert array.shape[2:] == size
    rng = np.random.default_rng(0)
    raw = rng.random((3, *array.shape[1:])).astype(np.float32)
    back = restore_probabilities(raw / raw.sum(0), json.loads(json.dumps(record)))
    assert back.shape == (3, *shape)
    assert np.allclose(back.sum(0), 1, atol=1e-4)


@pytest.mark.parametrize("tilted", [False, True])
def test_a_map_goes_the_way_of_probabilities_and_is_0_outside_the_crop(tilted):
    scan = volume(np.ones((3, 20, 26)), (4.0, 0.9, 1.1), TILTED if tilted else np.eye(3))
    plan = Plan(spacing=(1.0, 1.0), size=(12, 40), label_values=(0, 1), label_names=("background", "a"))
    array, record = prepare_volume(scan, plan)
    values = np.random.default_rng(0).random(array.shape[1:]).astype(np.float32)

    def restored(values):
        way_back = Restoration(json.loads(json.dumps(record)))
        whole, laid = way_back.empty(np.float32)
        laid[:] = way_back.values(values)
        return whole

    back = restored(values)
    assert back.dtype == np.float32
    assert back.flags.c_contiguous
    np.testing.assert_array_equal(back, restore_probabilities(np.stack([1 - values, values]), record)[1])
    whole = restored(np.ones_like(values))
    assert {0.0, 1.0} <= set(whole.ravel().round(5).tolist())
    assert whole.max() <= 1 + 1e-6


@given(seed=st.integers(0, 99), tilted=st.booleans(), pad=st.booleans())
@settings(max_examples=20, deadline=None)
def test_masks_come_back_exactly_where_pixels_are_not_resampled(seed, tilted, pad):
    mask = np.random.default_rng(seed).integers(0, 3, (5, 11, 13))
    scan = volume(mask, (4.0, 0.9, 0.9), TILTED if tilted else np.eye(3))
    size = (16, 20) if pad else (6, 6)
    plan = Plan(spacing=(0.9, 0.9), size=size, label_values=(0, 1, 2), label_names=("background", "a", "b"))
    _, record = prepare_volume(scan, plan)
    prepared = prepare_mask(mask, record, plan)
    back = restore_probabilities(one_hot(prepared, 3), record).argmax(0)
    if pad:
        assert np.array_equal(back, mask)
    else:
        inside = restore_probabilities(np.stack([0 * prepared, 1 + 0 * prepared]).astype(np.float32), record)[1] == 1
        assert inside.sum() == 5 * 6 * 6
        assert np.array_equal(back[inside], mask[inside])
        assert not back[~inside].any()


@pytest.mark.parametrize("target", [0.6, 1.0, 1.7])
def test_an_awkward_scan_goes_to_the_grid_and_back(tmp_path, target):
    """Odd shape, permuted and tilted axes, three different spacings; the slice axis is the file's y."""
    shape = (21, 7, 33)
    mask = np.zeros(shape, dtype=np.uint8)
    mask[6:15, 2:5, 8:22] = 7
    spacing = (0.8, 6.0, 1.1)
    image = write_scan(tmp_path / "i.nii.gz", noise(shape) + 100 * mask, spacing, (12, -30, 7), TILTED)
    label = write_scan(tmp_path / "l.nii.gz", mask, spacing, (12, -30, 7), TILTED)
    scan = read_volume(image)
    plan = Plan(spacing=(target, target), size=(64, 64), label_values=(0, 7), label_names=("background", "x"))
    array, record = prepare_volume(scan, plan)
    prepared = prepare_mask(read_mask(label), record, plan)
    assert array.shape[:2] == (1, 7)
    assert prepared.shape == (7, 64, 64)
    assert set(np.unique(prepared)) == {0, 1}
    # The bright box and its label stay together, and the volume in mm is kept.
    assert array[0][prepared == 1].mean() > 0.75 > 2 * array[0][prepared == 0].mean()
    true_mm = (mask > 0).sum() * np.prod(spacing)
    assert prepared.sum() * 6.0 * target**2 == pytest.approx(true_mm, rel=0.15)
    back = restore_probabilities(one_hot(prepared, 2), record).argmax(0)
    assert back.shape == shape
    truth = mask > 0
    assert 2 * (back[truth] == 1).sum() / (back.sum() + truth.sum()) > 0.9


def test_resampled_probabilities_do_not_drift():
    """A symmetric structure stays symmetric through both directions: no half-pixel shift."""
    mask = np.zeros((1, 31, 31), dtype=int)
    mask[0, 10:21, 8:23] = 1
    plan = Plan(spacing=(1.37, 1.37), size=(32, 32), label_values=(0, 1), label_names=("background", "a"))
    _, record = prepare_volume(volume(mask), plan)
    back = restore_probabilities(one_hot(prepare_mask(mask, record, plan), 2), record)[1]
    assert np.allclose(back, back[:, ::-1, ::-1], atol=1e-5)


def test_intensities_follow_the_percentiles_of_the_volume():
    raw = np.arange(1000, dtype=np.float32).reshape(10, 10, 10)
    array, record = prepare_volume(volume(raw), Plan(spacing=(1.0, 1.0), size=(10, 10), low=10.0, high=90.0))
    low, high = np.percentile(raw, (10, 90))
    assert record["percentiles"] == [[pytest.approx(low), pytest.approx(high)]]
    assert np.allclose(array[0], np.clip((raw - low) / (high - low), 0, 1), atol=1e-5)


def test_padding_is_zero_and_a_scale_or_offset_of_intensities_changes_nothing():
    raw = noise((3, 9, 9))
    plan = Plan(spacing=(1.0, 1.0), size=(16, 16))
    first = prepare_volume(volume(raw), plan)[0]
    second = prepare_volume(volume(raw * 40 + 900), plan)[0]
    assert np.allclose(first, second, atol=1e-3)
    assert not first[..., :3, :].any()
    assert not first[..., :, 13:].any()


def test_constant_and_partly_infinite_volumes_are_usable():
    plan = Plan(spacing=(1.0, 1.0), size=(8, 8))
    assert not prepare_volume(volume(np.full((2, 8, 8), 7.0)), plan)[0].any()
    raw = noise((2, 8, 8))
    raw[0, 0, 0] = np.nan
    raw[1, 1, 1] = np.inf
    assert np.isfinite(prepare_volume(volume(raw), plan)[0]).all()
    with pytest.raises(DataError, match="finite"):
        prepare_volume(volume(np.full((2, 8, 8), np.nan)), plan)


def test_channels_are_normalised_apart_and_counted():
    raw = np.stack([noise((2, 8, 8)), 1000 * noise((2, 8, 8), 1)])
    plan = Plan(spacing=(1.0, 1.0), size=(8, 8), channels=("a", "b"))
    array, record = prepare_volume(volume(raw), plan)
    assert array.shape == (2, 2, 8, 8)
    assert len(record["percentiles"]) == 2
    assert array.reshape(2, -1).max(1).min() == 1
    with pytest.raises(DataError, match=r"channels image.*are 2 in"):
        prepare_volume(volume(raw), Plan(spacing=(1.0, 1.0), size=(8, 8)))


def test_any_label_values_become_classes_and_the_ignored_one_255():
    mask = np.array([[[-5, 0], [600, 9]]])
    plan = Plan((1.0, 1.0), (2, 2), label_values=(0, -5, 600), ignore_value=9, label_names=("background", "a", "b"))
    _, record = prepare_volume(volume(np.zeros((1, 2, 2))), plan)
    assert prepare_mask(mask, record, plan).tolist() == [[[1, 0], [2, 255]]]
    with pytest.raises(DataError, match=r"among \[0, -5, 600, 9\].*\[3\]"):
        prepare_mask(np.full((1, 2, 2), 3), record, plan)
    with pytest.raises(DataError, match="shape"):
        prepare_mask(np.zeros((1, 3, 2), dtype=int), record, plan)


def test_mask_classes_follow_the_heaviest_weight_of_a_slow_loop():
    rng = np.random.default_rng(3)
    mask = rng.integers(0, 4, (2, 12, 10))
    plan = Plan((1.6, 1.3), (10, 6), label_values=(0, 1, 2, 3), label_names=("background", "a", "b", "c"))
    _, record = prepare_volume(volume(mask), plan)
    rows, columns = (AxisRecord(**record[axis]).forward().toarray() for axis in ("rows", "columns"))
    weights = np.stack([rows @ (mask == k).astype(np.float64) @ columns.T for k in range(4)])
    best = weights.max(0)
    found = prepare_mask(mask, record, plan)
    inside = np.broadcast_to(np.outer(rows.sum(1), columns.sum(1)) > 0.5, found.shape)
    chosen = np.take_along_axis(weights, found[None].astype(int), 0)[0]
    assert np.allclose(chosen[inside], best[inside], atol=1e-5)
    assert not found[~inside].any()


def test_plan_survives_json():
    plan = Plan(
        spacing=(1.5, 1.25),
        size=(128, 96),
        channels=("a", "b"),
        low=2.0,
        high=98.0,
        slice_axis="x",
        frame=((0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)),
        label_values=(0, 5, 7),
        ignore_value=9,
        label_names=("background", "five", "seven"),
        meta_labels={"patient": 3, "position": 4},
        columns=({"name": "phase", "kind": "categorical", "source": "x", "values": ["ED", "ES"]},),
        position_parts=6,
        dataset="d",
        reader="r",
    )
    record = json.loads(json.dumps(plan.record()))
    assert Plan.load(record) == plan
    assert Plan.load({**record, "added later": 1}) == plan
    assert record["label_names"] == {"0": "background", "1": "five", "2": "seven"}
    assert record["normalise"] == {"low": 2.0, "high": 98.0}


def test_the_blob_is_found_in_the_slices_it_was_drawn_in():
    mask = blob((5, 21, 17))
    _, record = prepare_volume(volume(mask), plan := Plan((1.0, 1.0), (24, 24), label_values=(0, 1)))
    assert prepare_mask(mask, record, plan).any((1, 2)).tolist() == [False, True, True, True, False]


def test_plans_made_before_mean_what_they_meant():
    """No windows, no aliases, pixel sizes of tags for printing, and slices across each scan's thickest axis."""
    record = Plan(
        (1.0, 1.0), (32, 32), slice_axis="auto", label_values=(0, 3), label_names=("background", "a")
    ).record()
    for key in ("voxel_size", "voxel_size_given", "label_aliases"):
        del record[key]
    assert "windows" not in record["normalise"]
    plan = Plan.load(record)
    assert (plan.windows, plan.label_aliases, plan.voxel_size, plan.slice_axis) == ((), {}, None, "auto")
    scan = volume(np.random.default_rng(0).random((4, 20, 20)), (0.7, 0.9, 0.9))
    printed = Volume(scan.array, replace(scan.geometry, spacing=(1.0, 0.35, 0.35), spacing_known=False), scan.paths)
    assert prepare_volume(scan, plan)[1]["axes"][0] == 1
    assert prepare_volume(printed, plan)[1]["spacing"] == [1.0, 0.35, 0.35]
    assert "spacing_known" not in prepare_volume(printed, plan)[1]
    newer = replace(plan, voxel_size=(1.0, 1.0, 1.0), slice_axis="nearest")
    assert prepare_volume(scan, newer)[1]["axes"][0] == 0
    assert prepare_volume(printed, newer)[1]["spacing"] == [1.0, 1.0, 1.0]
    assert prepare_volume(printed, newer)[1]["spacing_known"] is False
    given = prepare_volume(printed, replace(newer, voxel_size=(2.0, 0.5, 0.5), voxel_size_given=True))[1]
    assert given["spacing"] == [2.0, 0.5, 0.5]
    assert "spacing_known" not in given
