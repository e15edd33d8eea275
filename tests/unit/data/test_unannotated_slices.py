"""Slices of a mask that nobody annotated, told from background."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fewlabel.data.io.geometry import Geometry, Volume
from fewlabel.data.preprocess import Plan, class_indices, prepare_mask, prepare_volume
from fewlabel.data.store import UNLABELLED
from fewlabel.data.unannotated_slices import annotated_slices, unannotated


def volume(array):
    geometry = Geometry(array.shape, (5.0, 1.0, 1.0), (0.0, 0.0, 0.0), tuple(np.diag([1.0, -1.0, -1.0]).ravel()))
    return Volume(array[None].astype(np.float32), geometry, (Path("scan.nii.gz"),))


def column(depth=9, shift=0):
    """A structure that runs through all slices, drifting by ``shift`` pixels a slice."""
    mask = np.zeros((depth, 20, 60), dtype=np.int64)
    for z in range(depth):
        mask[z, 5:12, 4 + shift * z : 12 + shift * z] = 1
    return mask


def emptied(mask, *slices):
    mask = mask.copy()
    mask[list(slices)] = 0
    return mask


def along_z(**masks):
    return {name: annotated_slices(mask)[0] for name, mask in masks.items()}


def test_slices_along_each_axis():
    mask = emptied(column(), 0, 3, 4)
    z, y, x = annotated_slices(mask)
    assert z.filled == (1, 2, 5, 6, 7, 8)
    assert (z.between, z.gaps, z.empty) == ((3, 4), 1, (0, 3, 4))
    assert (y.filled, y.between, y.count) == ((5, 6, 7, 8, 9, 10, 11), (), 20)
    assert (x.filled[0], x.filled[-1], x.count) == (4, 11, 60)
    nothing = annotated_slices(np.zeros((3, 4, 5), dtype=np.int64))[0]
    assert (nothing.filled, nothing.between, nothing.gaps, nothing.empty) == ((), (), 0, ())


def test_every_second_slice_annotated_is_left_out_by_itself():
    left_out, (note,) = unannotated(along_z(a=emptied(column(), 0, 2, 4, 6, 8), b=column()))
    # Nobody looked at the first and the last slice either.
    assert left_out == {"a": (0, 2, 4, 6, 8)}
    wanted = "5 empty slices of 1 mask (a) lie between annotated ones, or next to them in the same rhythm, "
    assert note.startswith(wanted)


def test_every_third_slice_annotated():
    left_out, _ = unannotated(along_z(a=emptied(column(), 1, 2, 4, 5, 7, 8)))
    assert left_out == {"a": (1, 2, 4, 5, 7, 8)}
    # A step beyond the last, somebody looked and found nothing.
    mask = emptied(column(depth=14), 1, 2, 4, 5, 7, 8, 9, 10, 11, 12, 13)
    assert unannotated(along_z(a=mask))[0] == {"a": (1, 2, 4, 5, 7, 8)}


def test_in_no_rhythm_only_slices_between_are_left_out():
    mask = emptied(column(depth=14), 0, 1, 3, 5, 6, 8, 13)
    assert unannotated(along_z(a=mask))[0] == {"a": (3, 5, 6, 8)}


@pytest.mark.parametrize(
    "mask",
    [
        emptied(column(), 4),  # one slice of nine: a slip, or the truth
        emptied(column(), 4, 6) * 0,  # nothing annotated
        emptied(column(shift=6), 1, 3, 5, 7),  # what comes back lies elsewhere
        emptied(column(depth=30), 3, 10, 20),  # rare
    ],
)
def test_else_it_stays_background(mask):
    left_out, notes = unannotated(along_z(a=mask, b=column()))
    assert left_out == {}
    assert all("are taken for background; empty_slices=between" in note for note in notes)
    assert len(notes) == bool(mask.any())


def test_structures_in_several_pieces_may_come_and_go():
    mask = emptied(column(), 1, 3, 5, 7)
    mask[0:3:2, 15:18, 50:55] = 1
    assert unannotated(along_z(a=mask))[0] == {}


def test_single_gaps_count_where_half_of_the_scans_have_them():
    gapped = emptied(column(depth=3), 1)
    assert unannotated(along_z(a=gapped, b=column(), c=column()))[0] == {}
    assert unannotated(along_z(a=gapped, b=gapped, c=column()))[0] == {"a": (1,), "b": (1,)}


def test_the_user_decides():
    scans = along_z(a=emptied(column(), 0, 4), b=column() * 0)
    assert unannotated(scans, "background") == ({}, [])
    assert unannotated(scans, "between")[0] == {"a": (4,)}
    left_out, (note,) = unannotated(scans, "all")
    assert left_out == {"a": (0, 4)}
    assert "as empty_slices=all says" in note


def test_slices_without_a_mask_file_are_left_out_and_empty_files_are_background():
    # Of slices 3 to 5 the middle one has an empty mask: somebody looked.
    whole = along_z(a=emptied(column(), 3, 4, 5), b=column(), c=column() * 0)
    scans = {**whole, "a": replace(whole["a"], without=(3, 5)), "c": replace(whole["c"], without=(0,))}
    left_out, (note,) = unannotated(scans)
    assert left_out == {"a": (3, 5), "c": (0,)}
    assert note.startswith("no mask file for 3 slices of 2 masks (a, c), but for others of the same scan: left out")
    assert unannotated(scans, "between")[0] == {"a": (3, 4, 5), "c": (0,)}
    assert unannotated(scans, "all")[0] == {"a": (3, 4, 5), "c": (0,)}
    left_out, (note,) = unannotated(scans, "background")
    assert left_out == {}
    assert note == "no mask file for 3 slices of 2 masks (a, c): background, as empty_slices=background says"


@pytest.mark.parametrize("slice_axis", ["z", "x"])
def test_slices_left_out_are_unlabelled_in_the_store_and_in_scores(slice_axis):
    mask = column()
    plan = Plan((1.0, 1.0), (32, 64), label_values=(0, 1), label_names=("background", "a"), slice_axis=slice_axis)
    _, record = prepare_volume(volume(mask.astype(np.float32)), plan)
    plain = prepare_mask(mask, record, plan)
    record["unannotated"] = [2, 4]
    prepared = prepare_mask(mask, record, plan)
    gone = [2, 4] if not record["flips"][0] else [len(prepared) - 3, len(prepared) - 5]
    assert np.flatnonzero((prepared == UNLABELLED).all(axis=(1, 2))).tolist() == sorted(gone)
    kept = np.delete(np.arange(len(prepared)), gone)
    assert np.array_equal(prepared[kept], plain[kept])
    indices = np.moveaxis(class_indices(mask, record, plan), record["axes"][0], 0)
    assert np.flatnonzero((indices == UNLABELLED).all(axis=(1, 2))).tolist() == [2, 4]
    assert np.array_equal(np.delete(indices, [2, 4], 0), np.delete(np.moveaxis(mask, record["axes"][0], 0), [2, 4], 0))
