"""Class memory and its pixels: the best stay, absent classes stand still, every pixel is as likely, one mean."""

from __future__ import annotations

import itertools

import pytest
import torch

from fewlabel.core.collective import rank, world_size
from fewlabel.objectives.class_prototype_memory import ScoredMemory, draw_pixels, prototype_distance
from kit.ranks import run_ranks


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def candidates(count=10, classes=3, dim=4, seed=0, valid=1.0):
    source = generator(seed)
    rows = torch.randn(classes, count, dim, generator=source)
    scores = torch.rand(classes, count, generator=source)
    return rows, scores, torch.rand(classes, count, generator=source) < valid


def best(rows, scores, valid):
    """Rows of one class, best first."""
    order = sorted((i for i in range(len(rows)) if valid[i]), key=lambda i: -float(scores[i]))
    return [rows[i] for i in order]


def test_it_keeps_the_highest_scores_first():
    memory = ScoredMemory(3, 4, 4)
    assert not memory.there().any()
    rows, scores, valid = candidates()
    memory.put(rows, scores, valid)
    for c in range(3):
        expected = best(rows[c], scores[c], valid[c])[:4]
        assert torch.equal(memory.rows[c], torch.stack(expected))
    assert memory.filled.tolist() == [4, 4, 4]
    assert memory.there().all()


def test_what_is_not_valid_never_enters():
    memory = ScoredMemory(3, 4, 4)
    rows, scores, valid = candidates(valid=0.3)
    assert not valid.all()
    memory.put(rows, scores, valid)
    for c in range(3):
        expected = best(rows[c], scores[c], valid[c])[:4]
        assert int(memory.filled[c]) == len(expected)
        assert memory.there()[c].tolist() == [place < len(expected) for place in range(4)]
        for place, row in enumerate(expected):
            assert torch.equal(memory.rows[c, place], row)


def test_new_ones_come_before_older_ones_and_push_them_out():
    memory, past = ScoredMemory(2, 5, 3), [[], []]
    for seed in range(12):
        rows, scores, valid = candidates(4, 2, 3, seed, valid=0.4)
        memory.put(rows, scores, valid)
        for c in range(2):
            past[c] = (best(rows[c], scores[c], valid[c]) + past[c])[:5]
            assert int(memory.filled[c]) == len(past[c])
            for place, row in enumerate(past[c]):
                assert torch.equal(memory.rows[c, place], row)


def test_a_class_without_candidates_stands_still():
    memory = ScoredMemory(2, 3, 3)
    rows, scores, valid = candidates(5, 2, 3)
    memory.put(rows, scores, valid)
    before = memory.rows.clone()
    other, higher, _ = candidates(5, 2, 3, seed=1)
    memory.put(other, higher, torch.tensor([[False] * 5, [True] * 5]))
    assert torch.equal(memory.rows[0], before[0])
    assert not torch.equal(memory.rows[1], before[1])
    memory.put(other[:, :0], higher[:, :0], valid[:, :0])
    assert memory.filled.tolist() == [3, 3]


def joined_memory():
    """Two batches of eight candidates, of which each rank has its part."""
    memory = ScoredMemory(3, 5, 4)
    for seed in (0, 1):
        size = 8 // world_size()
        part = slice(rank() * size, (rank() + 1) * size)
        memory.put(*(tensor[:, part] for tensor in candidates(8, seed=seed, valid=0.3 + 0.4 * seed)))
    return memory.rows, memory.filled


def test_two_ranks_hold_what_one_would(tmp_path):
    one = joined_memory()
    for found in run_ranks(tmp_path, joined_memory):
        assert torch.equal(found[0], one[0])
        assert torch.equal(found[1], one[1])


@pytest.mark.parametrize("space", [(6, 7), (3, 4, 5)])
def test_drawn_pixels_are_of_the_class_and_of_equal_parts(space):
    labels = torch.randint(0, 4, (3, *space), generator=generator(1))
    labels[1][labels[1] == 2] = 0
    labels[2].flatten()[:4] = 255
    pixels, counts, fresh = draw_pixels(labels, 4, 5, generator())
    assert pixels.shape == fresh.shape == (3, 3, 5)
    uniform = torch.rand(3, 3, 5, generator=generator())
    for row, c in itertools.product(range(3), range(3)):
        places = [i for i, value in enumerate(labels[row].flatten().tolist()) if value == c + 1]
        assert int(counts[row, c]) == len(places)
        if not places:
            assert not fresh[row, c].any()
            continue
        expected = [places[int((j + float(uniform[row, c, j])) / 5 * len(places))] for j in range(5)]
        assert pixels[row, c].tolist() == expected
        assert fresh[row, c].tolist() == [j == 0 or expected[j] != expected[j - 1] for j in range(5)]


def test_few_pixels_are_drawn_again_but_are_fresh_once():
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    labels[0, 1, 2], labels[0, 3, 3] = 1, 1
    pixels, counts, fresh = draw_pixels(labels, 2, 6, generator())
    assert pixels.flatten().tolist() == [6, 6, 6, 15, 15, 15]
    assert int(counts) == 2
    assert fresh.flatten().tolist() == [True, False, False, True, False, False]


@pytest.mark.parametrize("size", [3, 7, 20])
def test_each_pixel_of_a_class_is_as_likely(size):
    labels = torch.zeros(4000, 5, 5, dtype=torch.int64)
    places = torch.randperm(25, generator=generator(2))[:size]
    labels.flatten(1)[:, places] = 1
    pixels, _, _ = draw_pixels(labels, 2, 4, generator())
    seen = torch.bincount(pixels.flatten(), minlength=25).double()
    assert not seen[labels[0].flatten() == 0].any()
    share = 16000 / size
    assert float((seen[places] - share).abs().max()) < 5 * share**0.5


def test_no_row_draws_nothing():
    pixels, counts, fresh = draw_pixels(torch.zeros(0, 4, 4, dtype=torch.int64), 3, 5, generator())
    assert pixels.shape == fresh.shape == (0, 2, 5)
    assert counts.shape == (0, 2)


def example(rows=2, classes=3, k=4, size=5, dim=6):
    source = generator(5)

    def unit(*shape):
        values = torch.randn(*shape, dim, generator=source, dtype=torch.float64)
        return values / values.norm(dim=-1, keepdim=True)

    def positive(*shape):
        return 0.1 + torch.rand(*shape, generator=source, dtype=torch.float64)

    counts = torch.tensor([[3, 0, 7], [2, 5, 0]])[:rows, :classes]
    there = torch.arange(size) < torch.tensor([2, 5, 3])[:classes, None]
    memory = unit(classes, size)
    return unit(rows, classes, k), counts, positive(rows, classes, k), memory, there, positive(classes, size)


def slow_distance(queries, counts, attention, memory, there, towards):
    rows, classes, k, _ = queries.shape
    total = 0.0
    for c in range(classes):
        above = below = 0.0
        for n, i, m in itertools.product(range(rows), range(k), range(memory.shape[1])):
            if there[c, m]:
                weight = float(counts[n, c] * attention[n, c, i] * towards[c, m])
                above += weight * (1 - float(queries[n, c, i] @ memory[c, m]))
                below += weight
        total += above / below if below else 0.0
    return total / classes


def test_distance_is_the_slow_loop():
    given = example()
    found = float(prototype_distance(*given))
    assert found == pytest.approx(slow_distance(*given), rel=1e-12)
    assert 0 < found < 2


def test_a_class_without_pixels_or_memory_adds_nothing():
    queries, counts, attention, memory, there, towards = example()
    counts[:, 0] = 0
    there[1] = False
    given = (queries, counts, attention, memory, there, towards)
    assert float(prototype_distance(*given)) == pytest.approx(slow_distance(*given), rel=1e-12)
    nothing = prototype_distance(queries.requires_grad_(), counts, attention, memory, there & False, towards)
    assert float(nothing.detach()) == 0
    assert not torch.autograd.grad(nothing, queries)[0].any()


def test_equal_attention_is_the_plain_mean_and_its_scale_does_not_matter():
    queries, counts, attention, memory, there, towards = example()
    plain = prototype_distance(queries, counts, torch.ones_like(attention), memory, there, torch.ones_like(towards))
    again = prototype_distance(queries, counts, 3 * torch.ones_like(attention), memory, there, 0.2 * towards / towards)
    assert float(plain) == pytest.approx(float(again), rel=1e-12)
    one = torch.stack([queries[0, 2, i] @ memory[2, m] for i in range(4) for m in range(3)])
    alone = prototype_distance(
        queries[:1, 2:], counts[:1, 2:], torch.ones(1, 1, 4).double(), memory[2:], there[2:], torch.ones(1, 5).double()
    )
    assert float(alone) == pytest.approx(1 - float(one.mean()), rel=1e-6)


def test_pixels_at_their_prototype_cost_nothing():
    memory = torch.nn.functional.normalize(torch.ones(2, 3, 4, dtype=torch.float64), dim=2)
    queries = memory[None, :, :1].expand(2, 2, 5, 4)
    ones = torch.ones(2, 2, 5, dtype=torch.float64)
    found = prototype_distance(queries, torch.ones(2, 2), ones, memory, torch.ones(2, 3) > 0, torch.ones(2, 3).double())
    assert float(found) == pytest.approx(0, abs=1e-12)


def test_attention_learns_to_look_at_near_pixels():
    queries, counts, attention, memory, there, towards = example(rows=1)
    attention.requires_grad_()
    loss = prototype_distance(queries, counts, attention, memory, there, towards)
    (gradient,) = torch.autograd.grad(loss, attention)
    for c in (0, 2):
        mean = (towards[c] * there[c]) / (towards[c] * there[c]).sum()
        distance = 1 - queries[0, c] @ memory[c].T @ mean
        whole = attention[0, c].detach()
        average = (whole * distance).sum() / whole.sum()
        torch.testing.assert_close(gradient[0, c], (distance - average) / whole.sum() / 3, rtol=1e-10, atol=1e-12)


def shared_distance():
    queries, counts, attention, memory, there, towards = example()
    attention = attention.clone().requires_grad_()
    size = 2 // world_size()
    part = slice(rank() * size, (rank() + 1) * size)
    loss = prototype_distance(queries[part], counts[part], attention[part], memory, there, towards)
    (gradient,) = torch.autograd.grad(loss, attention)
    return loss.detach(), gradient


def test_two_ranks_share_one_distance(tmp_path):
    loss, gradient = shared_distance()
    ranks = run_ranks(tmp_path, shared_distance)
    assert float(sum(found[0] for found in ranks) / 2) == pytest.approx(float(loss), rel=1e-12)
    torch.testing.assert_close(sum(found[1] for found in ranks) / 2, gradient, rtol=1e-10, atol=1e-14)
