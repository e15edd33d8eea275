"""The nearest known word."""

from __future__ import annotations

from fewlabel.core.suggestions import did_you_mean


def test_the_nearest_word_or_all_of_them():
    assert did_you_mean("Fixmatch", ["unimatch", "FixMatch"]) == "Did you mean FixMatch?"
    assert did_you_mean("zzz", ["b", "a"]) == "Choose from b, a"
    assert did_you_mean("zzz", ["b", "a"], otherwise="See the list") == "See the list"
    assert did_you_mean("stepz", ["steps"], cutoff=1.0) == "Choose from steps"
