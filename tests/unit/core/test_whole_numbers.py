"""Text that is a whole number, and text that only looks like one."""

from __future__ import annotations

import pytest

from fewlabel.core.whole_numbers import is_whole_number
from fewlabel.data.subjects_from_names import spelling_key
from fewlabel.readers.dataset_json import channels_of, label_names_of


@pytest.mark.parametrize("text", ["0", "007", "-3", " 12 ", "9" * 18])
def test_int_takes_what_is_one(text):
    assert is_whole_number(text)
    assert abs(int(text)) < 2**63


@pytest.mark.parametrize("text", ["", "-", "--5", "²", "1¹", "1.0", "1_0", "+1", "1 2", "9" * 19, "9" * 5000])
def test_all_else_is_none(text):
    assert not is_whole_number(text)


def test_names_and_labels_with_what_only_looks_like_a_number(tmp_path):
    assert spelling_key("P01") == spelling_key("p-1") == ("p", 1)
    assert spelling_key("p²") != spelling_key("p2")
    assert spelling_key("a" + "1" * 5000) != spelling_key("a" + "1" * 4999)
    faults = []
    labels = {"--5": "x", "²": "y", "9" * 5000: "z", "1": "liver"}
    assert label_names_of({"labels": labels}, tmp_path, faults) == {1: "liver"}
    assert len(faults) == 3
    assert channels_of({"channel_names": {"²": "a", "1": "b", "0": "c"}}) == ("a", "c", "b")
