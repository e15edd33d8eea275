import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewlabel.data.io.geometry import Geometry
from fewlabel.data.orient import Orientation, orient_to, slice_axis, upright_frame
from fewlabel.data.slice_plane import reference_frame
from kit.scans import PERMUTED, TILTED, rotation

AXIAL = np.eye(3)[::-1]


def geometry(direction, spacing=(5.0, 1.0, 1.0), shape=(4, 6, 8)):
    return Geometry(shape, spacing, (0.0, 0.0, 0.0), tuple(np.asarray(direction, dtype=float).ravel()))


@given(
    axes=st.permutations([0, 1, 2]),
    flips=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    lead=st.integers(0, 2),
)
@settings(max_examples=60, deadline=None)
def test_undo_inverts_apply_for_every_lead(axes, flips, shape, lead):
    orientation = Orientation(tuple(axes), flips)
    array = np.arange(int(np.prod(shape)) * 2**lead).reshape(*[2] * lead, *shape)
    assert np.array_equal(orientation.undo(orientation.apply(array)), array)


def test_apply_moves_each_axis_where_it_says():
    array = np.arange(24).reshape(2, 3, 4)
    laid = Orientation((2, 0, 1), (True, False, True)).apply(array)
    assert laid.shape == (4, 2, 3)
    for s, r, c in itertools.product(range(4), range(2), range(3)):
        assert laid[s, r, c] == array[r, 2 - c, 3 - s]


@pytest.mark.parametrize(
    ("spacing", "direction", "wanted"),
    [
        ((10.0, 1.5, 1.5), np.eye(3), 0),
        ((1.5, 10.0, 1.5), np.eye(3), 1),
        ((1.5, 1.5, 10.0), np.eye(3), 2),
        ((1.0, 1.0, 1.0), np.eye(3), 0),
        ((1.0, 1.0, 1.04), np.eye(3), 0),  # within 5 %: the feet-head axis decides
        ((1.0, 1.0, 1.06), np.eye(3), 2),
        ((1.0, 1.0, 1.0), PERMUTED, 1),  # file axis y runs feet to head
    ],
)
def test_slice_axis_is_the_through_plane_one(spacing, direction, wanted):
    assert slice_axis(geometry(direction, spacing)) == wanted


def test_slice_axis_of_one_slice_and_by_choice():
    assert slice_axis(geometry(np.eye(3), (1.0, 2.0, 2.0), (1, 6, 8))) == 0
    assert [slice_axis(geometry(np.eye(3)), name) for name in "zyx"] == [0, 1, 2]


def test_identity_stays_as_it_is():
    assert orient_to(geometry(np.eye(3)), AXIAL) == Orientation((0, 1, 2), (False, False, False))


def test_every_storage_of_one_scan_is_laid_alike():
    """All 48 ways to store the same voxels give the same array once laid to one frame."""
    rng = np.random.default_rng(0)
    world = rng.normal(size=(4, 6, 8))
    frame = upright_frame(geometry(TILTED @ np.linalg.inv(PERMUTED)), 0)
    base = geometry(TILTED @ np.linalg.inv(PERMUTED))
    wanted = orient_to(base, frame).apply(world)
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            array = world.transpose(order)[tuple(slice(None, None, s) for s in signs)]
            rows = base.axes()[list(order)] * np.array(signs)[:, None]
            spacing = tuple(np.array(base.spacing)[list(order)])
            other = Geometry(array.shape, spacing, (0.0, 0.0, 0.0), tuple(rows[::-1].T.ravel()))
            assert np.array_equal(orient_to(other, frame).apply(array), wanted)


def test_upright_frame_points_along_patient_axes():
    frame = upright_frame(geometry(TILTED, (1.0, 5.0, 1.0)), 1)
    assert (frame @ AXIAL.T).diagonal().min() > 0.8


def test_oblique_stacks_near_45_degrees_do_not_turn_upside_down():
    """Snapping each to its nearest patient axis would flip half of these against the others."""
    stacks = [geometry(rotation(angle, 0)) for angle in (40, 43, 44, 46, 47, 50)]
    nearest = [upright_frame(g, 0)[0] for g in stacks]
    assert min(a @ b for a in nearest for b in nearest) < 0
    frame = reference_frame(stacks)
    slices = []
    for g in stacks:
        orientation = orient_to(g, frame)
        slices.append(g.axes()[orientation.axes[0]] * (-1 if orientation.flips[0] else 1))
    assert min(a @ b for a in slices for b in slices) > 0.9


def test_reference_is_the_majority_and_ignores_order():
    usual = [geometry(rotation(a, 0)) for a in (0, 2, 4)]
    odd = geometry(rotation(90, 0))
    for stacks in ([odd, *usual], [*usual, odd]):
        assert reference_frame(stacks)[0] @ np.array([0, 0, 1]) > 0.99
    assert np.array_equal(reference_frame([]), AXIAL)
