"""Names of measures in mm and ml, and in voxels."""

from fewlabel.scoring.distance_units import KEY, VOXELS, Units, named_as_usual, named_in_voxels, units_of


def test_names_go_there_and_back():
    values = {"classes": {"1": {"hd95_mm": {"mean": 1.0}, "stray_ml": 2.0, "dice": 3}}, "rows": [{"assd_mm": None}]}
    written = named_in_voxels(values)
    assert written == {
        "classes": {"1": {"hd95_voxels": {"mean": 1.0}, "stray_voxels": 2.0, "dice": 3}},
        "rows": [{"assd_voxels": None}],
    }
    assert named_as_usual(written) == values
    assert named_as_usual(values) == values


def test_units_of_a_summary():
    assert units_of({}) == Units("mm", "ml")
    assert units_of({KEY: VOXELS}) == Units("voxels", "voxels")
