"""How weights are selected: what is fair for so many labelled patients, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fewlabel.core.errors import SettingsError
from fewlabel.protocol.model_selection import Selection, Validation, choose_selection, say_selection
from fewlabel.protocol.splits import LabelDraw


def draw(labelled: int, validation: Sequence[str] = ()) -> LabelDraw:
    return LabelDraw(tuple(f"s{number}" for number in range(labelled)), tuple(validation))


@pytest.mark.parametrize(
    ("labelled", "validation", "encoder", "wanted"),
    [
        (1, (), (), "none"),
        (1, ("v",), (), "none"),
        (2, (), (), "none"),
        (2, ("v",), (), "none"),
        (3, ("v",), (), "held_out"),
        (3, ("v",), ("s0",), "held_out"),
        (3, (), (), "leave_one_out"),
        (3, (), ("s0",), "none"),
        (20, (), (), "leave_one_out"),
    ],
)
def test_what_is_fair_without_a_word(
    labelled: int, validation: tuple[str, ...], encoder: tuple[str, ...], wanted: Selection
) -> None:
    assert choose_selection("auto", draw(labelled, validation), encoder) == wanted


@pytest.mark.parametrize(
    ("asked", "labelled", "validation", "encoder"),
    [
        ("none", 1, (), ()),
        ("none", 5, ("v",), ("s0",)),
        ("held_out", 1, ("v",), ("s0",)),
        ("leave_one_out", 2, (), ()),
        ("leave_one_out", 2, ("v",), ()),
    ],
)
def test_what_is_asked_for_is_taken(
    asked: Validation, labelled: int, validation: tuple[str, ...], encoder: tuple[str, ...]
) -> None:
    assert choose_selection(asked, draw(labelled, validation), encoder) == asked


@pytest.mark.parametrize(
    ("asked", "labelled", "encoder", "told"),
    [
        ("held_out", 3, (), ["validation: held-out selection needs validation patients, but the split has none."]),
        ("leave_one_out", 1, (), ["validation: leave-one-out needs two labelled patients, not 1."]),
        (
            "leave_one_out",
            1,
            ("s0", "s1"),
            [
                "validation: leave-one-out needs two labelled patients, not 1.",
                "validation: the labels of a left-out patient must not be known, but the encoder learnt from those of "
                "s0, s1.",
            ],
        ),
    ],
)
def test_what_is_not_fair_is_refused(
    asked: Validation, labelled: int, encoder: tuple[str, ...], told: list[str]
) -> None:
    with pytest.raises(SettingsError) as caught:
        choose_selection(asked, draw(labelled), encoder)
    assert [str(fault) for fault in caught.value.faults] == told
    assert caught.value.message == "The model cannot be selected this way; use validation=none:"


@pytest.mark.parametrize(
    ("selection", "line"),
    [
        ("none", "No validation: all 90 steps, last weights."),
        ("held_out", "Validation on v, w: best weights are kept."),
        ("leave_one_out", "Leave one of 3 patients out to choose the length, then train on all."),
    ],
)
def test_the_user_is_told(said: list[str], selection: Selection, line: str) -> None:
    say_selection(selection, draw(3, ("v", "w")), 90)
    assert said == [line]
