import copy
import dataclasses
import math

import pytest
import torch
from torch.nn import functional

from fewlabel.core.errors import SettingsError
from fewlabel.methods import momentum_encoder_and_queue as _momentum
from fewlabel.methods.momentum_encoder_and_queue import key_groups
from fewlabel.methods.queue_contrast import Maps, QueueContrast
from fewlabel.nets.synchronised_batch_norm import BatchNorm
from fewlabel.nets.unet import UNetConfig
from kit.pretraining import settle, toy_batch, toy_method

TINY = {"size": (8, 8), "network": UNetConfig(width=4, depth=2), "dtype": torch.float64}


def tiny_batch(seed=0, slices=4, first=None, **options):
    batch = toy_batch(slices, seed=seed, size=(8, 8), dtype=torch.float64, **options)
    return batch if first is None else dataclasses.replace(batch, slices=torch.arange(first, first + slices))


def value(losses):
    return losses.terms["views"].item()


def projected(encoder, head, images):
    """Unit vectors of the pooled map behind a two-layer head, from the formula."""
    rows = encoder(images)[-1].mean((2, 3))
    hidden = functional.linear(rows, head.first.weight, head.first.bias).relu()
    return functional.normalize(functional.linear(hidden, head.second.weight, head.second.bias), dim=1)


def embeddings(method, batch):
    """Queries and keys (n, dim), the twins by their own weights."""
    queries = projected(method.encoder, method.image_head, batch.views[0])
    keys = projected(method.key_encoder.network, method.key_image_head.network, batch.views[1])
    return queries, keys.detach()


def reference(queries, keys, batch, past, temperature=0.2):
    """MoCo's loss by a loop over queries; ``past`` are (slice, key) pairs."""
    total = 0.0
    for i, owner in enumerate(batch.slices.tolist()):
        negatives = [key for slice_, key in past if slice_ != owner]
        if not negatives:
            negatives = [keys[j] for j, other in enumerate(batch.slices.tolist()) if other != owner]
        logits = torch.stack([queries[i] @ keys[i], *[queries[i] @ key for key in negatives]]) / temperature
        total = total + logits.logsumexp(0) - logits[0]
    return total / len(queries)


def train(method, batches, rate=0.1):
    """Plain gradient steps; the losses."""
    found = []
    trained = [tensor for tensor in method.parameters() if tensor.requires_grad]
    for batch in batches:
        term = method.losses(batch).terms["views"]
        gradients = torch.autograd.grad(term, trained)
        with torch.no_grad():
            for tensor, gradient in zip(trained, gradients, strict=True):
                tensor.sub_(rate * gradient)
        method.after_step(batch.step, batch.total_steps)
        found.append(term.item())
    return found


def test_the_first_step_holds_a_query_against_the_other_keys_of_the_batch():
    method = settle(toy_method("moco", **TINY), tiny_batch())
    batch = tiny_batch()
    losses = method.losses(batch)
    queries, keys = embeddings(method, batch)
    expected = functional.cross_entropy(queries @ keys.T / 0.2, torch.arange(4))
    assert value(losses) == pytest.approx(expected.item(), abs=1e-12)
    assert losses.collapsed == pytest.approx(math.log(4), abs=1e-12)
    assert losses.lower_bound == pytest.approx(math.log1p(3 * math.exp(-10)), abs=1e-12)
    assert losses.scalars == {"negatives": 3.0}
    torch.testing.assert_close(losses.embeddings, queries.detach())
    torch.testing.assert_close(method.embed(batch.views[0]), queries)


def test_later_steps_use_the_queue_and_not_the_keys_at_hand():
    method = settle(toy_method("moco", queue=6, momentum=0.5, temperature=0.3, **TINY), tiny_batch())
    past = []
    for number in range(4):
        # Slices 0 to 3, 2 to 5, 4 to 7, 6 to 9: half of them have a key in the queue already.
        batch = tiny_batch(seed=number, first=2 * number)
        queries, keys = embeddings(method, batch)
        losses = method.losses(batch)
        assert value(losses) == pytest.approx(reference(queries, keys, batch, past, 0.3).item(), abs=1e-12)
        # Neither the batch's own keys nor those that a queue of 6 has lost take part.
        assert losses.scalars["negatives"] == (
            sum(len([1 for slice_, _ in past if slice_ != owner]) or 3 for owner in batch.slices.tolist()) / 4
        )
        method.after_step(number, 20)
        past = [*past, *zip(batch.slices.tolist(), keys, strict=True)][-6:]
        memory = method.image_contrast.memory
        assert int(memory.pointer) == 4 * (number + 1) % 6
        assert int(memory.filled) == len(past)
        # From the oldest on: a slice may be there twice, with an old key and a new one.
        oldest = int(memory.pointer) if len(past) == 6 else 0
        for age, (slice_, key) in enumerate(past):
            place = (oldest + age) % 6
            assert int(memory.owners[place]) == slice_
            torch.testing.assert_close(memory.keys[place], key)


def test_golden_value():
    torch.manual_seed(0)
    contrast = QueueContrast(4, 2, 0.5).double()
    contrast.memory.push(torch.tensor([[0.0, 1.0], [-1.0, 0.0], [0.6, 0.8]]), torch.tensor([5, 6, 7]))
    maps = Maps(torch.empty(0), torch.empty(0), torch.tensor([7, 9]), torch.tensor([0, 1]))
    queries = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]], dtype=torch.float64)
    keys = torch.tensor([[[0.8, 0.6]], [[0.0, 1.0]]], dtype=torch.float64)
    # Slice 7 does not meet its own past key.
    first = math.log(1 + math.exp(0 - 1.6) + math.exp(-2 - 1.6))
    second = math.log(1 + math.exp(2 - 2) + math.exp(0 - 2) + math.exp(1.6 - 2))
    assert contrast.loss(queries, keys, keys[:, 0], maps).item() == pytest.approx((first + second) / 2, abs=1e-7)


def test_a_slice_alone_in_memory_and_batch_costs_nothing():
    method = settle(toy_method("moco", **TINY), tiny_batch())
    batch = dataclasses.replace(tiny_batch(), slices=torch.full((4,), 3))
    for _ in range(2):
        losses = method.losses(batch)
        assert value(losses) == 0
        assert (losses.collapsed, losses.lower_bound) == (0, 0)
        method.after_step(0, 20)


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_after_a_step_the_key_encoder_is_the_average_exactly(momentum):
    method = toy_method("moco", momentum=momentum, **TINY).train()
    pairs = [(method.encoder, method.key_encoder.network), (method.image_head, method.key_image_head.network)]
    before = [[tensor.clone() for tensor in twin.parameters()] for _, twin in pairs]
    method.losses(tiny_batch())
    with torch.no_grad():
        for tensor in [*method.encoder.parameters(), *method.image_head.parameters()]:
            tensor.add_(torch.randn_like(tensor))
    method.after_step(0, 20)
    for (source, twin), old in zip(pairs, before, strict=True):
        for theta, key, start in zip(source.parameters(), twin.parameters(), old, strict=True):
            torch.testing.assert_close(key, momentum * start + (1 - momentum) * theta, rtol=1e-15, atol=1e-15)


def test_statistics_of_the_key_encoder_are_its_own():
    method = toy_method("moco", momentum=0.5, **TINY).train()
    keys = [module for module in method.key_encoder.modules() if isinstance(module, BatchNorm)]
    method.losses(tiny_batch())
    seen = [module.running_mean.clone() for module in keys]
    # One pass per group of keys, one pass for all queries.
    assert {int(module.num_batches_tracked) for module in keys} == {4}
    assert int(method.encoder.blocks[0].norm1.num_batches_tracked) == 1
    method.after_step(0, 20)
    assert all(torch.equal(module.running_mean, mean) for module, mean in zip(keys, seen, strict=True))
    assert not torch.allclose(keys[0].running_mean, method.encoder.blocks[0].norm1.running_mean)


def test_no_gradient_enters_the_key_branch_or_the_queue():
    method = toy_method("moco", **TINY).train()
    batch = tiny_batch()
    method.losses(batch)
    method.after_step(0, 20)
    views = tuple(view.clone().requires_grad_() for view in batch.views)
    term = method.losses(dataclasses.replace(batch, views=views)).terms["views"]
    queries, keys = torch.autograd.grad(term, views, allow_unused=True)
    assert queries.abs().sum() > 0
    assert keys is None
    twins = [*method.key_encoder.parameters(), *method.key_image_head.parameters()]
    assert not any(tensor.requires_grad for tensor in [*twins, *method.buffers()])


@pytest.mark.parametrize("size", [6, 16])
def test_equal_embeddings_cost_the_logarithm_of_the_queue_and_one(size):
    method = toy_method("moco", queue=size, **TINY).train()
    for encoder in (method.encoder, method.key_encoder.network):
        torch.nn.init.zeros_(encoder.blocks[-1].norm2.weight)
        torch.nn.init.ones_(encoder.blocks[-1].norm2.bias)
    for number in range(4):
        method.losses(tiny_batch(first=4 * number))
        method.after_step(number, 20)
    losses = method.losses(tiny_batch(first=16))
    assert value(losses) == pytest.approx(math.log(size + 1), abs=1e-9)
    assert losses.collapsed == pytest.approx(math.log(size + 1), abs=1e-12)
    # With the queue's keys of the batch's own slices left out there are fewer.
    assert value(method.losses(tiny_batch(first=13))) == pytest.approx(
        (3 * math.log(size) + math.log(size + 1)) / 4, abs=1e-9
    )


def test_the_lower_bound_is_reached_by_opposite_negatives():
    contrast = QueueContrast(3, 2, 0.5).double()
    contrast.memory.push(-torch.tensor([[1.0, 0.0]]).expand(3, 2), torch.arange(3))
    maps = Maps(torch.empty(0), torch.empty(0), torch.tensor([9]), torch.tensor([0]))
    query = torch.tensor([[[1.0, 0.0]]], dtype=torch.float64)
    loss = contrast.loss(query, query, query[:, 0], maps)
    assert loss.item() == pytest.approx(math.log1p(3 * math.exp(-2 / 0.5)), abs=1e-12)


def test_embeddings_can_be_permuted_with_their_slices():
    method = settle(toy_method("moco", **TINY), tiny_batch())
    method.losses(tiny_batch(seed=3))
    method.after_step(0, 20)
    batch, order = tiny_batch(), torch.tensor([2, 0, 3, 1])
    mixed = dataclasses.replace(
        tiny_batch(), views=tuple(view[order] for view in batch.views), slices=batch.slices[order]
    )
    assert value(method.losses(mixed)) == pytest.approx(value(method.losses(batch)), abs=1e-12)


def test_a_run_that_is_saved_and_resumed_is_the_same_bit_by_bit():
    batches = [tiny_batch(seed=number, first=3 * number, step=number) for number in range(5)]
    # 4 keys a step into 6 places: the queue wraps in the middle of a batch.
    whole = toy_method("moco", queue=6, **TINY).train()
    expected = train(whole, batches)
    first, second = (toy_method("moco", seed=seed, queue=6, **TINY).train() for seed in (0, 1))
    found = train(first, [tiny_batch(seed=number, first=3 * number, step=number) for number in range(2)])
    second.load_state_dict(copy.deepcopy(first.state_dict()), strict=True)
    found += train(second, [tiny_batch(seed=number, first=3 * number, step=number) for number in range(2, 5)])
    assert found == expected
    assert all(torch.equal(second.state_dict()[name], tensor) for name, tensor in whole.state_dict().items())


def test_a_step_without_a_loss_leaves_the_queue_alone():
    method = toy_method("moco", **TINY).train()
    method.losses(tiny_batch())
    for _ in range(3):
        method.after_step(0, 20)
    assert int(method.image_contrast.memory.filled) == 4


@pytest.mark.parametrize(("count", "groups"), [(8, 4), (10, 4), (3, 4), (12, 3)])
def test_groups_of_keys_are_random_and_hold_equal_parts_of_every_process(count, groups):
    found = key_groups(count, groups, torch.Generator().manual_seed(0))
    assert len(found) == count
    for start in range(0, count, groups):
        block = found[start : start + groups].tolist()
        assert len(set(block)) == len(block)
        assert set(block) <= set(range(groups))
    draws = {tuple(key_groups(count, groups, torch.Generator().manual_seed(seed)).tolist()) for seed in range(20)}
    assert len(draws) > 5


def test_one_group_draws_nothing():
    generator = torch.Generator().manual_seed(0)
    assert key_groups(5, 1, generator).tolist() == [0] * 5
    assert torch.equal(generator.get_state(), torch.Generator().manual_seed(0).get_state())


@pytest.mark.parametrize("slices", [4, 5])
def test_each_group_of_keys_is_normalised_by_itself(slices):
    method = toy_method("moco", key_groups=2, **TINY).train()
    twin = copy.deepcopy(method.key_encoder.network).train()
    whole = copy.deepcopy(twin)
    batch = tiny_batch(slices=slices)
    groups = key_groups(slices, 2, tiny_batch(slices=slices).generator)
    keys = method.maps(batch).keys
    for group in (0, 1):
        expected = twin(batch.views[1][groups == group])[-1]
        torch.testing.assert_close(keys[groups == group], expected)
    assert not torch.allclose(keys, whole(batch.views[1])[-1])
    together = toy_method("moco", key_groups=1, **TINY).train()
    torch.testing.assert_close(together.maps(tiny_batch(slices=slices)).keys, copy.deepcopy(whole)(batch.views[1])[-1])


def test_without_batch_normalisation_keys_are_not_split():
    network = UNetConfig(width=4, depth=2, norm="instance")
    found = [toy_method("moco", key_groups=groups, **{**TINY, "network": network}).train() for groups in (1, 4)]
    assert value(found[0].losses(tiny_batch())) == value(found[1].losses(tiny_batch()))
    batch = tiny_batch()
    found[1].losses(batch)
    assert torch.equal(batch.generator.get_state(), tiny_batch().generator.get_state())


def test_groups_that_do_not_divide_by_the_processes_are_an_error(monkeypatch):
    monkeypatch.setattr(_momentum, "world_size", lambda: 2)
    method = toy_method("moco", key_groups=3, **TINY).train()
    with pytest.raises(SettingsError, match=r"divisor of 4"):
        method.losses(tiny_batch())


def test_a_group_of_one_slice_with_a_map_of_one_cell_is_refused():
    method = toy_method("moco", size=(8, 8), network=UNetConfig(width=4, depth=4)).train()
    with pytest.raises(SettingsError, match=r"key_groups.*one slice"):
        method.losses(toy_batch(4, size=(8, 8)))
    method.losses(toy_batch(8, size=(8, 8)))
