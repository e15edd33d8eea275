"""One slicing plane for a data set."""

import numpy as np
import pytest

from fewlabel.data.io.geometry import Geometry
from fewlabel.data.orient import axis_along, orient_to, thick_axis
from fewlabel.data.slice_plane import cut_otherwise, plane_notes, reference_frame, slice_direction
from kit.scans import PERMUTED, rotation

UP = np.array([0.0, 0.0, 1.0])


def geometry(spacing, direction=None, shape=(6, 40, 48)):
    matrix = np.eye(3) if direction is None else np.asarray(direction, dtype=float)
    return Geometry(shape, spacing, (0.0, 0.0, 0.0), tuple(matrix.ravel()))


def axial(thickness):
    return geometry((thickness, 0.9, 0.9))


@pytest.mark.parametrize(
    "thicknesses",
    [(0.7, 2.0, 5.0, 0.6, 1.0, 0.75), (0.7, 0.6, 0.65, 0.7, 5.0), (0.7,) * 9 + (2.0,), (0.7, 0.7, 0.7)],
)
def test_scans_with_thin_slices_are_cut_as_those_with_thick_ones(thicknesses):
    scans = [axial(thickness) for thickness in thicknesses]
    for order in (scans, scans[::-1]):
        frame = reference_frame(order)
        assert frame[0] == pytest.approx(UP)
        assert [orient_to(scan, frame, "nearest").axes[0] for scan in order] == [0] * len(order)


def test_a_thin_scan_stored_along_other_file_axes_is_cut_along_the_same_plane():
    # Its file axis y runs feet to head.
    turned = geometry((0.9, 0.6, 0.9), PERMUTED)
    frame = reference_frame([axial(5.0), axial(4.0), turned])
    assert orient_to(turned, frame, "nearest").axes[0] == 1
    assert orient_to(turned, frame, "auto").axes[0] != 1


def test_pixels_that_are_not_square_speak_against_a_cut_through_them():
    # 1.2 x 0.6 mm pixels, 1 mm slices: cut across the 1.2 mm axis the pixels would be 1 x 0.6 mm.
    scan = geometry((1.0, 1.2, 0.6))
    assert np.abs(slice_direction([scan])) == pytest.approx([0, 1, 0])


def test_the_majority_decides_and_one_thick_scan_does_not_outweigh_it():
    sagittal = geometry((0.9, 0.9, 90.0))
    direction = slice_direction([sagittal, axial(4.0), axial(4.0), axial(4.0)])
    assert np.abs(direction) == pytest.approx(UP)


def test_isotropic_scans_are_cut_across_feet_to_head():
    frame = reference_frame([geometry((1.0, 1.0, 1.0), PERMUTED)] * 3)
    assert frame[0] == pytest.approx(UP)


def test_an_oblique_stack_is_cut_along_its_own_thick_slices():
    stacks = [geometry((8.0, 1.5, 1.5), rotation(angle, 0)) for angle in (0, 0, 0, 50, 59)]
    frame = reference_frame(stacks)
    assert [orient_to(stack, frame, "nearest").axes[0] for stack in stacks] == [0] * 5
    # Beyond 60 degrees, or hardly thicker than its pixels, a scan follows the others.
    assert axis_along(geometry((8.0, 1.5, 1.5), rotation(62, 0)), UP) == 1
    assert axis_along(geometry((1.8, 1.5, 1.5), rotation(50, 0)), UP) == 1


def test_one_slice_stays_one_slice():
    assert axis_along(geometry((1.0, 2.0, 2.0), rotation(90, 0), (1, 6, 8)), UP) == 0


def test_scans_cut_otherwise_are_named():
    named = {"thick": axial(5.0), "thin": axial(0.7), "alike": axial(0.9)}
    frame = reference_frame(list(named.values()))
    assert "file axis z" in cut_otherwise(named["thin"], frame, "nearest")
    assert "0.7 mm of up to 0.9 mm" in cut_otherwise(named["thin"], frame, "nearest")
    (note,) = plane_notes(named, frame, "nearest")
    assert "in 1 of 3 " in note
    assert note.endswith(": thin")
    # A plan of before cuts each scan across its thickest axis.
    assert plane_notes(named, frame, "auto") == []


def test_thickest_axis_is_thicker_than_both_others():
    assert thick_axis(axial(5.0)) == 0
    assert thick_axis(axial(0.7)) is None
    assert thick_axis(geometry((1.0, 1.0, 1.04))) is None
