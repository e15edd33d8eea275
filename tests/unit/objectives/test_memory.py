import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from fewlabel.objectives.memory import FifoQueue, SlotMemory


def rows(values: list[int], dim: int = 2) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None].expand(-1, dim)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 7), st.lists(st.integers(0, 17), max_size=8))
def test_the_queue_holds_the_last_keys_in_order_whatever_the_batches(size, batches):
    queue = FifoQueue(size, 2)
    slots: list[int | None] = [None] * size
    pushed = 0
    for count in batches:
        values = list(range(pushed, pushed + count))
        queue.push(rows(values), torch.tensor([value + 100 for value in values], dtype=torch.int64))
        for value in values:
            slots[value % size] = value
        pushed += count
        assert int(queue.pointer) == pushed % size
        assert int(queue.filled) == min(pushed, size)
        for place, value in enumerate(slots):
            if value is not None:
                assert queue.keys[place].tolist() == [value, value]
                assert int(queue.owners[place]) == value + 100
    there = torch.tensor([value is not None for value in slots])
    assert torch.equal(queue.candidates(torch.tensor([-5])), there[None])


def test_a_new_queue_has_no_negatives():
    queue = FifoQueue(4, 3)
    # An anchor whose id is that of empty places is no exception, nor is any other.
    assert not queue.candidates(torch.tensor([-1, 0, 7])).any()
    assert queue.candidates(torch.tensor([-1, 0, 7])).shape == (3, 4)


def test_own_past_keys_are_no_negatives():
    queue = FifoQueue(5, 2)
    queue.push(rows([0, 1, 2]), torch.tensor([7, 3, 7]))
    found = queue.candidates(torch.tensor([7, 3, 4])).long().tolist()
    assert found == [[0, 1, 0, 0, 0], [1, 0, 1, 0, 0], [1, 1, 1, 0, 0]]


def test_keys_carry_no_gradient_and_take_the_queues_type():
    queue = FifoQueue(4, 2)
    keys = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    queue.push(keys, torch.arange(3))
    assert queue.keys.dtype == torch.float32
    assert not queue.keys.requires_grad
    torch.testing.assert_close(queue.keys[:3], keys.detach().float())
    queue.push(keys.bfloat16(), torch.arange(3))
    assert queue.keys.dtype == torch.float32
    with pytest.raises(ValueError, match="3 keys have 2 owners"):
        queue.push(keys, torch.arange(2))


def test_a_saved_queue_goes_on_as_before():
    first, second = FifoQueue(5, 2), FifoQueue(5, 2)
    first.push(rows([0, 1, 2]), torch.arange(3))
    second.load_state_dict(first.state_dict(), strict=True)
    assert set(first.state_dict()) == {"keys", "owners", "pointer", "filled"}
    for queue in (first, second):
        queue.push(rows([3, 4, 5]), torch.arange(3, 6))
    assert second.keys[:, 0].tolist() == [5, 1, 2, 3, 4]
    assert all(torch.equal(first.state_dict()[name], value) for name, value in second.state_dict().items())


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_a_memory_of_nothing_is_refused(shape):
    for build in (FifoQueue, lambda *sizes: SlotMemory(*sizes, 0.5)):
        with pytest.raises(ValueError, match="at least one"):
            build(*shape)


def test_slots_start_as_seeded_random_unit_vectors():
    memory = SlotMemory(200, 16, 0.5, seed=3)
    torch.testing.assert_close(memory.rows.norm(dim=1), torch.ones(200))
    assert memory.rows.mean(0).abs().max() < 0.1
    torch.manual_seed(9)
    assert torch.equal(SlotMemory(200, 16, 0.5, seed=3).rows, memory.rows)
    assert not torch.equal(SlotMemory(200, 16, 0.5, seed=4).rows, memory.rows)


def test_an_update_is_the_normalised_average_and_touches_its_slots_only():
    memory = SlotMemory(6, 4, 0.3).double()
    before = memory.rows.clone()
    new = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([4, 1])
    read = memory.read(ids)
    assert torch.equal(read, before[ids])
    memory.update(ids, new)
    # What was read before is not changed behind the reader's back.
    assert torch.equal(read, before[ids])
    for slot, row in zip([4, 1], new.detach(), strict=True):
        mixed = 0.3 * before[slot] + 0.7 * row
        torch.testing.assert_close(memory.rows[slot], mixed / mixed.norm())
    assert not memory.rows.requires_grad
    untouched = [0, 2, 3, 5]
    assert torch.equal(memory.rows[untouched], before[untouched])


def test_slots_stay_unit_vectors():
    memory = SlotMemory(5, 3, 0.5)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        memory.update(torch.randperm(5, generator=generator)[:3], torch.randn(3, 3, generator=generator))
    torch.testing.assert_close(memory.rows.norm(dim=1), torch.ones(5))


def test_of_a_sample_that_comes_twice_the_last_row_counts():
    memory, reference = SlotMemory(4, 3, 0.5), SlotMemory(4, 3, 0.5)
    new = torch.randn(4, 3)
    memory.update(torch.tensor([2, 0, 2, 3]), new)
    reference.update(torch.tensor([0, 2, 3]), new[1:])
    assert torch.equal(memory.rows, reference.rows)


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_the_ends_of_the_slots_momentum(momentum):
    memory = SlotMemory(3, 4, momentum)
    before, new = memory.rows.clone(), torch.randn(3, 4)
    memory.update(torch.arange(3), new)
    torch.testing.assert_close(memory.rows, before if momentum else functional.normalize(new, dim=1))
    with pytest.raises(ValueError, match=r"lies in \[0, 1\]"):
        SlotMemory(3, 4, momentum + 1.5)
