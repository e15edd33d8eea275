"""What labelled maps show in one piece, and other maps held to it."""

from __future__ import annotations

import pytest
import torch

from fewlabel.objectives.one_piece_pseudo_labels import FEWEST, OnePiece

#: Class 1 beside class 2, and both again elsewhere: 5 and 4 pixels here, 3 and 1 there; class 2 has a part by itself.
SCATTERED = """
11.....
112....
1.2...1
..2..11
..2...2
.......
2......
"""
HELD = """
11.....
112....
1.2....
..2....
..2....
.......
.......
"""


def picture(text: str) -> torch.Tensor:
    return torch.tensor([[0 if letter == "." else int(letter) for letter in row] for row in text.split()])[None]


def whole(count: int = FEWEST) -> torch.Tensor:
    """Maps whose classes 1 and 2 are in one piece each, and touch."""
    labels = torch.zeros(count, 7, 7, dtype=torch.int64)
    labels[:, 1:4, 1], labels[:, 1:4, 2] = 1, 2
    return labels


def apart(count: int = FEWEST) -> torch.Tensor:
    """The same with two pieces of class 2, both of which touch class 1."""
    labels = whole(count)
    labels[:, 1:4, 0] = 2
    return labels


def learnt(*maps: torch.Tensor, classes: int = 4) -> OnePiece:
    pieces = OnePiece(classes)
    for labels in maps:
        pieces.learn(labels)
    return pieces


def test_maps_are_counted_by_class_and_foreground_stands_first() -> None:
    pieces = learnt(whole(3), apart(2), torch.zeros(4, 7, 7, dtype=torch.int64))
    assert pieces.shown.tolist() == [5, 5, 5, 0]
    assert pieces.whole.tolist() == [5, 5, 3, 0]
    assert set(pieces.state_dict()) == {"shown", "whole"}


def test_a_crumb_is_no_piece() -> None:
    labels = torch.zeros(2, 16, 16, dtype=torch.int64)
    labels[:, 2:9, 2:9] = 1
    labels[0, 14, 14] = 1
    labels[1, 14, 13:15] = 1
    # 49 of 50 pixels are whole, 49 of 51 are not.
    assert learnt(labels).whole.tolist() == [1, 1, 0, 0]


def test_what_is_no_class_is_background() -> None:
    labels = whole()
    labels[:, 1:4, 2] = 255
    pieces = learnt(labels)
    assert pieces.shown.tolist() == [FEWEST, FEWEST, 0, 0]


@pytest.mark.parametrize(
    ("maps", "expected"),
    [
        ([whole(FEWEST - 1)], [False, False, False, False]),
        ([whole()], [True, True, True, False]),
        ([whole(19), apart(1)], [True, True, True, False]),
        ([whole(18), apart(2)], [True, True, False, False]),
    ],
)
def test_nearly_all_of_enough_maps_decide(maps: list[torch.Tensor], expected: list[bool]) -> None:
    assert learnt(*maps).expected.tolist() == expected


def test_all_but_the_largest_piece_of_the_foreground_is_background() -> None:
    labels, beside = learnt(whole()).hold(picture(SCATTERED))
    assert torch.equal(labels, picture(HELD))
    assert not bool(beside.any())


def test_a_class_beside_its_largest_piece_is_open() -> None:
    lone = picture("""
    2221
    ...1
    ...2
    """)
    labels, beside = learnt(whole()).hold(lone)
    assert torch.equal(labels, lone)
    assert torch.equal(beside, picture("....\n....\n...1") > 0)
    # Where labelled maps show two pieces of class 2, both stay.
    labels, beside = learnt(apart()).hold(lone)
    assert torch.equal(labels, lone)
    assert not bool(beside.any())


def test_without_labelled_maps_nothing_is_held() -> None:
    labels, beside = OnePiece(4).hold(picture(SCATTERED))
    assert torch.equal(labels, picture(SCATTERED))
    assert not bool(beside.any())


def test_volumes_have_pieces_too() -> None:
    labels = torch.zeros(FEWEST, 3, 4, 4, dtype=torch.int64)
    labels[:, :, 1, 1] = 1
    other = torch.zeros(1, 3, 4, 4, dtype=torch.int64)
    other[0, 0, 0, 0] = other[0, 0, 2:, 3] = 1
    held, _ = learnt(labels, classes=2).hold(other)
    assert int(held.sum()) == 2
    assert int(held[0, 0, 0, 0]) == 0
