"""What is decided for scans as people have them changes nothing in ACDC, the hippocampus and the left atrium."""

from __future__ import annotations

import numpy as np
import pytest

from fewlabel.data.ct_window import looks_like_ct
from fewlabel.data.io.volume_reading import read_volume
from fewlabel.data.orient import orient_to, slice_axis, upright_frame
from fewlabel.data.scan_inspection import inspect_case
from fewlabel.data.scanner_padding import padding_values
from fewlabel.data.slice_plane import plane_notes, reference_frame
from fewlabel.data.unannotated_slices import unannotated
from fewlabel.readers.base import collect_catalog


@pytest.mark.parametrize(("name", "step"), [("acdc", 23), ("hippocampus", 31), ("la", 4)])
def test_planes_slices_and_intensities_of_real_scans(shared_data, name, step):
    if not (shared_data / name).is_dir():
        pytest.skip(f"{shared_data / name} is not there")
    catalog = collect_catalog(shared_data / name)[1]
    facts = [inspect_case(case, 1) for case in catalog.cases[::step]]
    geometries = [fact.geometry for fact in facts]
    frame = reference_frame(geometries)
    # Along the thickest axis of each, as before.
    own = [upright_frame(geometry, slice_axis(geometry)) for geometry in geometries]
    assert any(np.array_equal(frame, other) for other in own)
    for geometry in geometries:
        assert orient_to(geometry, frame, "nearest") == orient_to(geometry, frame, "auto")
    assert plane_notes({fact.case.id: fact.geometry for fact in facts}, frame, "nearest") == []
    slices = {fact.case.id: fact.annotated[slice_axis(fact.geometry)] for fact in facts if fact.annotated}
    assert unannotated(slices) == ({}, [])
    for fact in facts[:4]:
        array = read_volume(fact.case.images).array
        assert np.isfinite(array).all()
        assert padding_values(array) == ()
        assert not looks_like_ct(array)
