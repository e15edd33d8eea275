import copy
import math

import pytest
import torch
from torch import nn

from fewlabel.nets.ema import EMAModel, bias_corrected, cosine_momentum
from fewlabel.nets.synchronised_batch_norm import BatchNorm
from fewlabel.nets.unet import UNetConfig, UNetEncoder


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 3, 3), BatchNorm(3), nn.Conv2d(3, 2, 1)).double()


def moved(source: nn.Sequential) -> dict[str, torch.Tensor]:
    """Other weights and statistics for the source; its tensors as they are now."""
    with torch.no_grad():
        for tensor in source.parameters():
            tensor.add_(torch.randn_like(tensor))
        source.train()(torch.randn(4, 1, 6, 6, dtype=torch.float64) * 3 + 2)
    return state(source)


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_the_twin_starts_as_a_copy_that_shares_nothing():
    source = network()
    twin = EMAModel(source)
    before = state(twin.network)
    assert before.keys() == state(source).keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in state(source).items())
    moved(source)
    assert all(torch.equal(before[name], tensor) for name, tensor in state(twin.network).items())
    assert not any(tensor.requires_grad for tensor in twin.parameters())
    assert all(tensor.requires_grad for tensor in source.parameters())
    # The source is no part of the twin: its weights would be trained and saved twice.
    assert len(list(twin.parameters())) == len(list(source.parameters()))
    assert all(name.startswith("network.") for name in twin.state_dict())


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.99, 1.0])
def test_one_update_is_the_average_of_the_two(momentum):
    source = network()
    twin = EMAModel(source)
    old = state(twin.network)
    new = moved(source)
    twin.update(source, momentum)
    for name, tensor in twin.network.state_dict().items():
        expected = old[name] * momentum + new[name] * (1 - momentum)
        if "running" in name or "num_batches" in name:
            # Statistics are the twin's own, but a twin that becomes its source takes them too.
            expected = new[name] if momentum == 0 else old[name]
        assert tensor.dtype == old[name].dtype
        torch.testing.assert_close(tensor, expected.to(tensor.dtype), rtol=1e-15, atol=1e-15)
    assert all(torch.equal(source.state_dict()[name], tensor) for name, tensor in new.items())
    assert not any(tensor.requires_grad for tensor in twin.parameters())


def test_updates_add_up_to_a_geometric_mean():
    source = network()
    twin = EMAModel(source)
    start = source[0].weight.detach().clone()
    moved(source)
    for _ in range(5):
        twin.update(source, 0.9)
    expected = 0.9**5 * start + (1 - 0.9**5) * source[0].weight.detach()
    torch.testing.assert_close(twin.network[0].weight, expected)


def test_no_gradient_enters_or_leaves_the_twin():
    twin = EMAModel(network())
    images = torch.randn(2, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    assert not twin(images).requires_grad


def test_own_statistics_follow_the_mode_and_what_the_twin_saw():
    source = network()
    twin = EMAModel(source)
    reference = copy.deepcopy(source)
    images = torch.randn(4, 1, 6, 6, dtype=torch.float64) * 3 + 2
    assert twin.network.training
    torch.testing.assert_close(twin(images), reference.train()(images).detach())
    assert torch.equal(twin.network[1].running_mean, reference[1].running_mean)
    assert source[1].num_batches_tracked == 0
    twin.eval()
    assert not twin.network.training
    before = state(twin)
    torch.testing.assert_close(twin(images), reference.eval()(images).detach())
    assert all(torch.equal(before[name], tensor) for name, tensor in state(twin).items())


def test_the_twin_of_an_evaluated_network_starts_in_eval_mode():
    assert not EMAModel(network().eval()).network.training


def test_a_network_that_is_not_the_source_is_refused():
    twin = EMAModel(UNetEncoder(UNetConfig(width=4, depth=2)))
    with pytest.raises(ValueError, match=r"differ in blocks\.2\.conv1\.weight"):
        twin.update(UNetEncoder(UNetConfig(width=4, depth=3)), 0.9)
    for momentum in (-0.1, 1.1):
        with pytest.raises(ValueError, match=str(momentum)):
            twin.update(twin.network, momentum)


def test_a_saved_twin_goes_on_as_before():
    source = network()
    first, second = EMAModel(source), EMAModel(network(1))
    first.train()(torch.randn(4, 1, 6, 6, dtype=torch.float64))
    second.load_state_dict(first.state_dict(), strict=True)
    moved(source)
    for twin in (first, second):
        twin.update(source, 0.7)
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_cosine_momentum_rises_from_its_start_to_one():
    assert cosine_momentum(0.99, 0, 100) == pytest.approx(0.99, abs=1e-15)
    assert cosine_momentum(0.99, 50, 100) == pytest.approx(0.995, abs=1e-15)
    assert cosine_momentum(0.99, 25, 100) == pytest.approx(1 - 0.01 * (math.sqrt(0.5) + 1) / 2, abs=1e-15)
    assert cosine_momentum(0.99, 100, 100) == 1
    values = [cosine_momentum(0.9, step, 20) for step in range(21)]
    assert values == sorted(values)


def test_bias_corrected_momentum_is_a_plain_mean_at_first():
    assert [bias_corrected(0.75, step) for step in range(6)] == [0, 0.5, 1 - 1 / 3, 0.75, 0.75, 0.75]
    source = nn.Linear(1, 1, bias=False)
    twin = EMAModel(source)
    for step, value in enumerate([4.0, 8.0, 3.0]):
        torch.nn.init.constant_(source.weight, value)
        twin.update(source, bias_corrected(0.999, step))
    assert twin.network.weight.item() == pytest.approx(5.0)
