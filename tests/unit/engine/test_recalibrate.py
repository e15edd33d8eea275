"""Statistics taken anew: a slow loop, what stays, what must not matter, and two processes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from fewlabel.core.collective import rank
from fewlabel.engine.recalibrate import recalibrate
from fewlabel.nets.synchronised_batch_norm import BatchNorm
from fewlabel.nets.unet import UNet, UNetConfig
from kit.ranks import run_ranks
from kit.tiny_regimes import stir


def images(sizes=(5, 3), channels=1, space=(16, 16), seed=0):
    """Batches that differ in level and contrast, as patients do."""
    source = torch.Generator().manual_seed(seed)
    return [
        torch.randn(size, channels, *space, generator=source) * (1 + number) + 2 * number
        for number, size in enumerate(sizes)
    ]


def unet(norm="batch", ndim=2):
    torch.manual_seed(0)
    network = UNet(UNetConfig(ndim=ndim, width=4, depth=3, norm=norm), classes=3)
    stir(network)
    return network.eval()


def statistics(network):
    return {name: buffer.clone() for name, buffer in network.named_buffers()}


def test_the_first_layer_has_mean_and_variance_of_all_values():
    layer, batches = BatchNorm(2), images((5, 3, 1), channels=2)
    recalibrate(layer, batches)
    values = torch.cat(batches).double()
    torch.testing.assert_close(layer.running_mean, values.mean(dim=(0, 2, 3)).float())
    torch.testing.assert_close(layer.running_var, values.var(dim=(0, 2, 3)).float())
    assert int(layer.num_batches_tracked) == 3


def test_equal_batches_add_the_variance_of_their_means_to_the_mean_of_their_variances():
    layer, batches = BatchNorm(1), images((4, 4, 4))
    recalibrate(layer, batches)
    means = torch.stack([batch.double().mean() for batch in batches])
    variances = torch.stack([batch.double().var(correction=0) for batch in batches])
    count = sum(batch.numel() for batch in batches)
    expected = (variances.mean() + means.var(correction=0)) * count / (count - 1)
    torch.testing.assert_close(layer.running_var.double(), expected[None], rtol=1e-6, atol=0)
    # What running averages of variances would have missed is a large part here.
    assert float(variances.mean() / expected) < 0.8


def slow(network, batches):
    """Inputs of every layer in train mode, batch by batch, kept whole."""
    twin = copy.deepcopy(network).double().train()
    seen = {name: [] for name, layer in twin.named_modules() if isinstance(layer, BatchNorm)}
    for name, layer in twin.named_modules():
        if name in seen:
            layer.register_forward_pre_hook(lambda _, inputs, name=name: seen[name].append(inputs[0].detach()))
    for batch in batches:
        twin(batch.double())
    axes = (0, *range(2, batches[0].dim()))
    return {name: (torch.cat(maps).mean(dim=axes), torch.cat(maps).var(dim=axes)) for name, maps in seen.items()}


@pytest.mark.parametrize("ndim", [2, 3])
def test_every_layer_equals_a_slow_loop(ndim):
    network, batches = unet(ndim=ndim), images(space=(16,) * ndim if ndim == 2 else (8, 8, 8))
    expected = slow(network, batches)
    recalibrate(network, batches)
    assert len(expected) == 10
    for name, (mean, variance) in expected.items():
        layer = network.get_submodule(name)
        torch.testing.assert_close(layer.running_mean.double(), mean, rtol=1e-4, atol=1e-4, msg=name)
        torch.testing.assert_close(layer.running_var.double(), variance, rtol=1e-4, atol=1e-5, msg=name)


def test_weights_and_modes_stay_bit_for_bit():
    network = unet().train()
    network.decoder.eval()
    network.encoder.blocks[0].norm1.momentum = None
    before = {name: tensor.clone() for name, tensor in network.named_parameters()}
    modes = [module.training for module in network.modules()]
    old = statistics(network)
    recalibrate(network, images())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.named_parameters())
    assert all(tensor.grad is None and tensor.requires_grad for tensor in network.parameters())
    assert [module.training for module in network.modules()] == modes
    assert all(not module._forward_pre_hooks for module in network.modules())
    changed = [name for name, tensor in network.named_buffers() if not torch.equal(tensor, old[name])]
    assert len(changed) == 3 * 10


def test_a_second_time_changes_nothing_whatever_the_statistics_were():
    network, other = unet(), unet()
    stir(other, seed=9)
    other.load_state_dict({**other.state_dict(), **dict(network.named_parameters())})
    recalibrate(network, images())
    once = statistics(network)
    recalibrate(network, images())
    recalibrate(other, images())
    for found in (statistics(network), statistics(other)):
        assert all(torch.equal(found[name], tensor) for name, tensor in once.items())


def test_images_of_another_gain_and_level_give_the_same_outputs():
    """x → ax+b before a first layer without padding, which would put zeros beside them."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), BatchNorm(4, eps=1e-9), nn.ReLU(), nn.Conv2d(4, 2, 1))
    network.eval()
    outputs = []
    for gain, level in ((1.0, 0.0), (7.0, -3.0)):
        batches = [gain * batch + level for batch in images()]
        recalibrate(network, batches)
        outputs.append(network(batches[0]).detach())
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-4, atol=1e-4)
    assert float(outputs[0].std()) > 0.1


def test_a_share_is_that_of_the_values_of_a_mixture():
    """Old statistics stand for values of their own: three parts of them beside one part of these."""
    layer, batches = BatchNorm(2), images((6, 6), channels=2)
    old = torch.cat(images((36, 36), channels=2, seed=5)).double() - 3
    layer.running_mean.copy_(old.mean(dim=(0, 2, 3)))
    layer.running_var.copy_(old.var(dim=(0, 2, 3), correction=0))
    recalibrate(layer, batches, share=0.25)
    # Repeated, the new ones are a quarter.
    both = torch.cat([old, *[torch.cat(batches).double()] * 2])
    torch.testing.assert_close(layer.running_mean.double(), both.mean(dim=(0, 2, 3)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(layer.running_var.double(), both.var(dim=(0, 2, 3), correction=0), rtol=1e-3, atol=0)


def test_with_a_share_layers_still_see_what_they_would_see_alone():
    network, other = unet(), unet()
    before = statistics(network)
    recalibrate(network, images())
    recalibrate(other, images(), share=0.5)
    for name, mixed in statistics(other).items():
        if name.endswith("running_mean"):
            torch.testing.assert_close(mixed, (before[name] + statistics(network)[name]) / 2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_without_batch_normalisation_nothing_is_done(norm):
    network = unet(norm)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    recalibrate(network, images())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_without_a_batch_nothing_is_done():
    network = unet()
    before = statistics(network)
    recalibrate(network, [])
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.named_buffers())


def failing(kind):
    """A batch that is taken in, and what cannot be: a reader that gives up, a batch of other channels, Ctrl-C."""
    yield images()[0]
    if kind == "batch":
        yield torch.zeros(2, 5, 16, 16)
    raise {"reader": OSError, "stop": KeyboardInterrupt}[kind]


@pytest.mark.parametrize(("kind", "error"), [("reader", OSError), ("batch", RuntimeError), ("stop", KeyboardInterrupt)])
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_if_a_batch_fails_the_statistics_are_as_before(kind, error, share):
    network = unet().train()
    network.decoder.eval()
    before, modes = statistics(network), [module.training for module in network.modules()]
    with pytest.raises(error):
        recalibrate(network, failing(kind), share=share)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.named_buffers())
    assert [module.training for module in network.modules()] == modes
    assert all(not module._forward_pre_hooks for module in network.modules())


def test_a_network_in_float64_mixes_with_what_it_had_before():
    plain, double = unet(), unet().double()
    recalibrate(plain, images(), share=0.5)
    recalibrate(double, [batch.double() for batch in images()], share=0.5)
    for name, tensor in statistics(plain).items():
        torch.testing.assert_close(tensor, double.get_buffer(name).to(tensor.dtype), rtol=1e-4, atol=1e-4, msg=name)
    before = statistics(double)
    with pytest.raises(OSError):  # noqa: PT011
        recalibrate(double, (batch.double() for batch in failing("reader")))
    assert all(torch.equal(tensor, before[name]) for name, tensor in double.named_buffers())


def test_parts_that_are_kept_keep_their_statistics_and_use_them():
    network, batches = unet(), images()
    before = statistics(network)
    recalibrate(network, batches, keep=[network.encoder])
    after = statistics(network)
    assert all(torch.equal(after[name], old) for name, old in before.items() if name.startswith("encoder"))
    twin = copy.deepcopy(network).eval()
    first = twin.decoder.blocks[0].norm1
    seen = []
    first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        for batch in batches:
            twin(batch)
    torch.testing.assert_close(first.running_mean, torch.cat(seen).mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-4)


def recalibrated():
    """Each rank's own network, which begins elsewhere; weights are equal."""
    network = unet()
    for buffer in network.buffers():
        buffer.add_(rank())
    recalibrate(network, images())
    return statistics(network)


def test_two_processes_find_what_one_finds(tmp_path):
    alone = recalibrated()
    for found in run_ranks(tmp_path, recalibrated):
        assert all(torch.equal(found[name], tensor) for name, tensor in alone.items())
