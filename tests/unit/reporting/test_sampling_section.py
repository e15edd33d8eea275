"""The plot of the gradient's variance: there where it was measured, silent where it was not."""

from __future__ import annotations

import pytest

from fewlabel.reporting.blocks import Pictures
from fewlabel.reporting.inputs import Training
from fewlabel.reporting.sections.stratified_sampling import variance_note, variance_pictures, variance_shares
from fewlabel.reporting.sections.training import finetuning_section

ROWS = [
    {"step": 0, "loss": 1.0, "variance/ns": 4.0, "variance/sg": 1.0, "variance/sag": 2.0},
    {"step": 10, "loss": 0.9},
    {"step": 50, "loss": 0.8, "variance/ns": 2.0, "variance/sg": 1.5, "variance/sag": 3.0},
    {"step": 100, "loss": 0.7, "variance/ns": 0.0, "variance/sg": 0.0, "variance/sag": None},
]
FACTS = {"regime": "arco", "labelled_subjects": ["p1"], "labelled_slices": 9, "steps": 101}


def test_shares_by_hand():
    shares = variance_shares(ROWS)
    assert list(shares) == ["stratified (SG)", "antithetic (SAG)"]
    assert shares["stratified (SG)"].steps.tolist() == [0, 50]
    assert shares["stratified (SG)"].values.tolist() == [0.25, 0.75]
    assert shares["antithetic (SAG)"].values.tolist() == [0.5, 1.5]


def test_the_sentence_holds_the_means():
    (note,) = variance_note(ROWS)
    assert "0.50 with stratified (SG) and 1.00 with antithetic (SAG) (mean of 2)" in note.text


def test_two_pictures_say_what_they_show():
    absolute, relative = variance_pictures(ROWS)
    assert "naive (NS) from 4" in absolute.alt
    assert "stratified (SG) from 0.25 to 0.75" in relative.alt
    assert relative.uri.startswith("data:")


@pytest.mark.parametrize("rows", [[], [{"step": 0, "loss": 1.0}]])
def test_nothing_measured_nothing_shown(rows):
    assert variance_pictures(rows) == []
    assert variance_note(rows) == []


def test_it_stands_in_the_section_of_fine_tuning(tmp_path):
    def pictures(rows):
        section = finetuning_section({"ours": Training(tmp_path, FACTS, rows, {})})
        return [item.alt for block in section.blocks if isinstance(block, Pictures) for item in block.items]

    assert len(pictures(ROWS)) == len(pictures([{"step": 0, "loss": 1.0}])) + 2
