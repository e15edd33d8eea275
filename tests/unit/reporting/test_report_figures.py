"""Figures are pure: the same data give the same self-contained picture, and say in words what they show."""

from __future__ import annotations

import base64
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from fewlabel.reporting.figure_style import CONTOURS, smooth, thin
from fewlabel.reporting.figures.embedding import embedding_figure
from fewlabel.reporting.figures.gradient_conflicts import conflict_map
from fewlabel.reporting.figures.images import choose_slices, outline, slice_box, slice_figure
from fewlabel.reporting.figures.scores import HD95, ClassValues, Estimate, case_figure, class_figure, gain_figure
from fewlabel.reporting.figures.training import Curve, curve, lines_figure, loss_figure, single_figure


def content(picture):
    head, _, data = picture.uri.partition(";base64,")
    assert head == "data:image/svg+xml"
    return base64.b64decode(data).decode()


def line(values):
    return Curve(np.arange(len(values), dtype=float), np.asarray(values, dtype=float))


def empty():
    return Curve(np.zeros(0), np.zeros(0))


@pytest.fixture(scope="module")
def pictures():
    dice = np.array([0.5, 0.7, 0.9])
    classes = [
        ClassValues("left ventricle", dice, dice - 0.1, Estimate(0.7, 0.6, 0.8), Estimate(0.6, 0.5, 0.7)),
        ClassValues("myocardium", dice, None, Estimate(0.7), None),
    ]
    far = np.array([4.0, np.nan, 211.0])
    distances = [
        ClassValues("one", far, far + 1, Estimate(107.5, 4.0, 211.0), Estimate(108.5)),
        ClassValues("absent", np.full(3, np.nan), None, Estimate(np.nan), None),
    ]
    points = np.random.default_rng(0).uniform(-1, 1, (30, 2))
    image, mask = np.random.default_rng(1).random((12, 10)), np.zeros((12, 10), int)
    mask[3:6, 2:5] = 1
    return {
        "loss": loss_figure(line([3, 2, 1]), line([3, 3, 3]), empty()),
        "single": single_figure(line([1, 2]), title="Rank", label="r", caption="c")[0],
        "lines": lines_figure({"a": line([1, 2]), "b": empty()}, title="T", label="l", caption="c", zero=True),
        "classes": class_figure(classes, model="m", control="k", interval="95 % interval"),
        "gain": gain_figure({"mean": Estimate(0.1, -0.1, 0.3), "one": Estimate(-0.2)}, caption="c"),
        "distances": class_figure(distances, model="m", control="k", interval="95 % interval", measure=HD95),
        "nearer": gain_figure({"one": Estimate(-3.25, -5, -1), "absent": Estimate(np.nan)}, caption="c", measure=HD95),
        "cases": case_figure(["x", "y", "z"], dice, dice[::-1], model_name="m", control_name="k"),
        "map": conflict_map(np.array([[0.25, np.nan], [1.0, 0.0]]), ["t1", "t2"], ["a · b", "a · c"], caption="c"),
        "points": embedding_figure(
            points, np.arange(30) % 3 - 1, ["u", "v"], title="phase", caption="c", ordered=False, summary="S."
        ),
        "many": embedding_figure(
            points, np.arange(30), [f"p{n}" for n in range(30)], title="p", caption="", ordered=False, summary=""
        ),
        "slice": slice_figure(image, mask, mask, alt="a", caption="c"),
    }


def test_pictures_are_self_contained_xml(pictures):
    for name, picture in pictures.items():
        text = content(picture)
        ElementTree.fromstring(text)
        assert picture.alt
        assert min(picture.size) > 50
        linked = re.findall(r'href="([^"]*)"', text)
        assert all(link.startswith(("#", "data:image/png;base64,")) for link in linked), name


def test_same_data_give_the_same_picture(pictures):
    assert loss_figure(line([3, 2, 1]), line([3, 3, 3]), empty()) == pictures["loss"]
    assert loss_figure(line([3, 2, 2]), line([3, 3, 3]), empty()).uri != pictures["loss"].uri


def test_alternative_text_tells_the_figures(pictures):
    assert "loss from 3 to 1" in pictures["loss"].alt
    assert "collapse value 3" in pictures["loss"].alt
    assert "lower bound" not in pictures["loss"].alt
    assert "left ventricle: 0.70 (0.60 to 0.80) against 0.60 (0.50 to 0.70)" in pictures["classes"].alt
    assert "myocardium: 0.70." in pictures["classes"].alt
    assert "mean +0.100 (-0.100 to +0.300); one -0.200" in pictures["gain"].alt
    assert "HD95 mm by class, mean" in pictures["distances"].alt
    assert "against k. one: 107.5 (4.0 to 211.0) against 108.5." in pictures["distances"].alt
    assert pictures["nearer"].alt == "HD95 minus the control's with interval: one -3.2 (-5.0 to -1.0) mm."
    assert "from 0.50 to 0.90. 1 of 3 scans improve" in pictures["cases"].alt
    assert "a · b 62 %; a · c 0 %" in pictures["map"].alt
    assert "Most in t2 for a · b, 100 %" in pictures["map"].alt
    assert "30 slice embeddings coloured by phase, 2 classes" in pictures["points"].alt


def test_cases_beyond_the_limit_are_chosen_evenly():
    dice = np.linspace(0, 1, 100)
    names = [f"case{n:03d}" for n in range(100)]
    picture = case_figure(names, dice, None, model_name="m", control_name="k", most=10)
    assert "10 of 100 scans" in picture.caption
    assert picture.size[1] < 400


def test_curve_leaves_gaps_out():
    rows = [{"step": 0, "loss": 1.5}, {"step": 10, "loss": None}, {"step": 20}, {"step": 30, "loss": 2}]
    found = curve(rows, "loss")
    assert found.steps.tolist() == [0, 30]
    assert found.values.tolist() == [1.5, 2.0]
    assert curve(rows, "absent").empty


def test_smoothing_by_hand():
    assert smooth([1.0, 2.0, 6.0, 4.0], 3) == pytest.approx([1.5, 3.0, 4.0, 5.0])
    assert smooth([1.0, 9.0], 3).tolist() == [1.0, 9.0]
    assert smooth(np.full(50, 3.0), 7) == pytest.approx(np.full(50, 3.0))


def test_thinning_keeps_the_ends():
    assert thin(5).tolist() == [0, 1, 2, 3, 4]
    kept = thin(10_000, 500)
    assert kept[0] == 0
    assert kept[-1] == 9999
    assert len(kept) == 500


def test_outline_of_a_square():
    mask = np.zeros((6, 6), bool)
    mask[2:4, 1:5] = True
    numbers = re.findall(r"(-?\d+\.\d) (-?\d+\.\d)", outline(mask))
    points = np.array(numbers, float)
    # Pixel edges: columns 1 to 5, rows 2 to 4.
    assert points[:, 0].min() == 1.0
    assert points[:, 0].max() == 5.0
    assert points[:, 1].min() == 2.0
    assert points[:, 1].max() == 4.0
    assert outline(mask).count("M") == 1


def test_outline_meets_the_border_and_has_a_hole():
    mask = np.ones((5, 5), bool)
    mask[2, 2] = False
    path = outline(mask)
    assert path.count("M") == path.count("Z") == 2
    points = np.array(re.findall(r"(-?\d+\.\d) (-?\d+\.\d)", path), float)
    assert points.min() == 0.0
    assert points.max() == 5.0
    assert outline(np.zeros((3, 3), bool)) == ""


def test_slice_draws_reference_solid_and_prediction_dashed():
    image, mask = np.random.default_rng(0).random((8, 8)), np.zeros((8, 8), int)
    mask[2:5, 2:5] = 2
    unknown = mask.copy()
    unknown[0] = 255
    plain = content(slice_figure(image, alt="", caption=""))
    solid = content(slice_figure(image, unknown, alt="", caption=""))
    both = content(slice_figure(image, mask, mask, alt="", caption=""))
    assert "<path" not in plain
    assert solid.count(CONTOURS[1]) == 1
    assert solid.count("<path") == 2
    assert "dasharray" not in solid
    assert both.count("dasharray") == 2
    assert both.count("fill-opacity") == 1


def test_box_holds_every_structure_and_stays_inside():
    mask = np.zeros((40, 50), int)
    mask[5:9, 40:49] = 1
    mask[0, 0] = 255
    rows, columns = slice_box([mask], (40, 50), margin=4)
    assert rows.start <= 5
    assert rows.stop >= 9
    assert columns.start <= 40
    assert columns.stop == 50
    assert rows.stop - rows.start == columns.stop - columns.start == 17
    assert slice_box([np.zeros((40, 50), int)], (40, 50)) == (slice(0, 40), slice(0, 50))


def test_slices_shown_hold_the_first_and_the_last_structure():
    mask = np.zeros((10, 4, 4), int)
    mask[2:9, 1, 1] = 1
    mask[9] = 255
    assert choose_slices(mask, 4) == [2, 4, 6, 8]
    assert choose_slices(mask, 1) == [2]
    assert choose_slices(np.zeros((3, 4, 4), int), 4) == [0, 1, 2]
