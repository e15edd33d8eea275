"""Pixels chosen by stride, by block and by class."""

from __future__ import annotations

import pytest
import torch

from fewlabel.objectives.pixel_sampling import aligned_blocks, per_class, strided


def places(height, width):
    return torch.arange(height * width).view(height, width)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("height", "width", "stride"), [(6, 8, 2), (7, 5, 3), (4, 4, 1), (3, 3, 5)])
def test_stride_is_that_of_slicing(height, width, stride):
    found = strided(height, width, stride)
    assert torch.equal(found, places(height, width)[::stride, ::stride].flatten())
    assert found.dtype == torch.int64
    image = torch.randn(height, width)
    assert torch.equal(image.flatten()[found], image[::stride, ::stride].flatten())


def test_stride_one_takes_every_pixel():
    assert torch.equal(strided(3, 4, 1), torch.arange(12))


@pytest.mark.parametrize(("height", "width", "size"), [(8, 8, 4), (7, 10, 3), (5, 5, 8), (4, 6, 1)])
def test_blocks_tile_the_map(height, width, size):
    found = aligned_blocks(height, width, size)
    assert len(found) == -(-height // size) * -(-width // size)
    assert torch.equal(torch.cat(found).sort().values, torch.arange(height * width))
    for index, block in enumerate(found):
        top, left = divmod(index, -(-width // size))
        expected = places(height, width)[top * size : (top + 1) * size, left * size : (left + 1) * size]
        assert torch.equal(block, expected.flatten())


def test_the_remainder_at_the_right_and_the_bottom_is_kept():
    sizes = [len(block) for block in aligned_blocks(7, 10, 4)]
    assert sizes == [16, 16, 8, 12, 12, 6]


def test_one_block_of_the_side_is_stride_one():
    (block,) = aligned_blocks(6, 6, 6)
    assert torch.equal(block, strided(6, 6, 1))


@pytest.mark.parametrize("choose", [strided, aligned_blocks])
def test_a_side_below_one_pixel_is_refused(choose):
    with pytest.raises(ValueError, match="not 0"):
        choose(4, 4, 0)


def test_each_class_gives_its_number_and_rare_ones_all_they_have():
    labels = torch.zeros(2, 60, dtype=torch.int64)
    labels[0, :20] = 1
    labels[0, 50:53] = 2
    labels[1, 5] = 3
    labels[1, 30:] = 255
    first, second = per_class(labels, 4, 5, generator())
    assert torch.bincount(labels[0][first], minlength=4).tolist() == [5, 5, 3, 0]
    assert torch.bincount(labels[1][second], minlength=4).tolist() == [5, 0, 0, 1]
    assert set(first[labels[0][first] == 2].tolist()) == {50, 51, 52}
    for drawn in (first, second):
        assert len(set(drawn.tolist())) == len(drawn)
    # Class by class.
    assert labels[0][first].tolist() == sorted(labels[0][first].tolist())


def test_enough_of_each_class_takes_every_labelled_pixel():
    labels = torch.tensor([[0, 1, 255, 1, 2, 0]])
    (drawn,) = per_class(labels, 3, 100, generator())
    assert sorted(drawn.tolist()) == [0, 1, 3, 4, 5]
    (without,) = per_class(labels, 2, 100, generator())
    assert sorted(without.tolist()) == [0, 1, 3, 5]


def test_every_pixel_of_a_class_is_drawn_equally_often():
    labels = torch.tensor([[1] * 10 + [0] * 7 + [1] * 3])
    stream = generator()
    trials, counts = 3000, torch.zeros(20)
    for _ in range(trials):
        (drawn,) = per_class(labels, 2, 4, stream)
        counts[drawn] += 1
    for label, members in ((0, 7), (1, 13)):
        share = 4 / members
        expected, spread = trials * share, (trials * share * (1 - share)) ** 0.5
        assert ((counts[labels[0] == label] - expected).abs() < 4.5 * spread).all()


def test_a_draw_is_a_function_of_the_generator_that_labels_do_not_move():
    labels = torch.randint(0, 3, (3, 40), generator=generator(1))
    first, again = per_class(labels, 3, 4, generator(2)), per_class(labels, 3, 4, generator(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    other = per_class(labels, 3, 4, generator(3))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    after = []
    for content in (labels, torch.zeros_like(labels)):
        stream = generator(2)
        per_class(content, 3, 4, stream)
        after.append(torch.rand(1, generator=stream).item())
    assert after[0] == after[1]
    # Rows are drawn apart: equal rows get different pixels.
    same = per_class(labels[:1].repeat(2, 1), 3, 4, generator(2))
    assert not torch.equal(*same)


def test_changing_pixels_of_one_class_leaves_the_others_draw_alone():
    labels = torch.tensor([[0] * 20 + [1] * 20 + [2] * 20])
    changed = labels.clone()
    changed[0, 45:] = 0
    one, two = per_class(labels, 3, 6, generator(5))[0], per_class(changed, 3, 6, generator(5))[0]
    assert torch.equal(one[labels[0][one] == 1], two[changed[0][two] == 1])
