"""Batch normalisation: one process against many, and the constant-statistics derivative."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from fewlabel.core.collective import rank, world_size
from fewlabel.nets.synchronised_batch_norm import (
    BatchNorm,
    activation,
    affine_scale,
    normalisation,
    separate_statistics,
)
from kit.ranks import run_ranks

SHAPES = {2: (4, 6, 5, 7), 3: (4, 6, 3, 4, 5)}


def passed_through(ndim: int, channels_last: bool = False, affine: bool = True) -> dict[str, torch.Tensor]:
    """Two training steps and one in eval mode on this rank's rows; outputs, gradients, statistics."""
    generator = torch.Generator().manual_seed(ndim)
    whole = 3 * torch.randn(SHAPES[ndim], generator=generator) + 1
    upstream = torch.randn(SHAPES[ndim], generator=generator)
    layer = BatchNorm(6, affine=affine)
    if affine:
        with torch.no_grad():
            layer.weight.copy_(torch.rand(6, generator=generator) + 0.5)
            layer.bias.copy_(torch.randn(6, generator=generator))
    share = len(whole) // world_size()
    rows = slice(rank() * share, (rank() + 1) * share)
    outputs = []
    for step in range(2):
        mine = (whole[rows] * (step + 1)).requires_grad_()
        if channels_last:
            mine = mine.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
        outputs.append(layer(mine))
        (outputs[-1] * upstream[rows]).sum().backward()
    scale = affine_scale(layer, mine) if affine else torch.zeros(6)
    layer.eval()
    outputs.append(layer(whole[rows]))
    found = {f"output{number}": output.detach() for number, output in enumerate(outputs)}
    found["input gradient"] = mine.grad
    if affine:
        found["weight gradient"] = layer.weight.grad
        found["bias gradient"] = layer.bias.grad
    found["scale"] = scale
    found["running mean"] = layer.running_mean
    found["running variance"] = layer.running_var
    found["batches"] = layer.num_batches_tracked
    return found


def cumulated() -> dict[str, torch.Tensor]:
    """Running statistics without a momentum after three batches, of which each rank has its rows."""
    layer = BatchNorm(6, momentum=None)
    generator = torch.Generator().manual_seed(5)
    share = 4 // world_size()
    for step in range(3):
        whole = torch.randn(SHAPES[2], generator=generator) * (step + 1) + step
        layer(whole[rank() * share : (rank() + 1) * share])
    return {"mean": layer.running_mean, "var": layer.running_var, "batches": layer.num_batches_tracked}


def every_kind() -> list[dict[str, torch.Tensor]]:
    return [
        passed_through(2),
        passed_through(3),
        passed_through(2, channels_last=True),
        passed_through(3, affine=False),
    ]


def test_two_processes_equal_one_on_the_joined_batch(tmp_path):
    ranks = run_ranks(tmp_path, every_kind)
    for whole, first, second in zip(every_kind(), *ranks, strict=True):
        for name, expected in whole.items():
            if name.startswith("output") or name == "input gradient":
                found = torch.cat([first[name], second[name]])
            elif "gradient" in name:
                found = first[name] + second[name]
            else:
                assert torch.equal(first[name], second[name]), f"{name} differs between ranks"
                found = first[name]
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: name + text)


def half_precision() -> torch.Tensor:
    """The gradient of a bfloat16 map whose mean is far larger than its deviation, on this rank's rows."""
    generator = torch.Generator().manual_seed(3)
    whole = (100 + torch.randn(SHAPES[2], generator=generator)).bfloat16()
    upstream = torch.randn(SHAPES[2], generator=generator).bfloat16()
    share = len(whole) // world_size()
    rows = slice(rank() * share, (rank() + 1) * share)
    mine = whole[rows].clone().requires_grad_()
    output = BatchNorm(6)(mine)
    output.backward(upstream[rows])
    assert mine.grad is not None
    return torch.stack([output.detach(), mine.grad])


def test_two_processes_equal_one_on_maps_of_half_precision(tmp_path):
    expected = half_precision()
    assert expected.dtype == torch.bfloat16
    found = torch.cat(run_ranks(tmp_path, half_precision), dim=1)
    # A rounding to 8 bits more than a single pass.
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)


def test_without_a_momentum_running_statistics_are_means_over_batches(tmp_path):
    generator = torch.Generator().manual_seed(5)
    batches = [torch.randn(SHAPES[2], generator=generator) * (step + 1) + step for step in range(3)]
    mean = torch.stack([batch.mean(dim=(0, 2, 3)) for batch in batches]).mean(dim=0)
    variance = torch.stack([batch.var(dim=(0, 2, 3)) for batch in batches]).mean(dim=0)
    for found in (cumulated(), *run_ranks(tmp_path, cumulated)):
        torch.testing.assert_close(found["mean"], mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found["var"], variance, rtol=1e-5, atol=1e-6)
        assert int(found["batches"]) == 3


@pytest.mark.parametrize("ndim", [2, 3])
def test_one_process_is_plain_batch_norm(ndim):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(SHAPES[ndim], generator=generator)
    ours, plain = BatchNorm(6), (nn.BatchNorm2d if ndim == 2 else nn.BatchNorm3d)(6)
    assert torch.equal(ours(x), plain(x))
    assert torch.equal(ours.running_var, plain.running_var)


def test_a_flat_input_is_refused():
    with pytest.raises(ValueError, match="4D or 5D"):
        BatchNorm(3)(torch.zeros(2, 3))


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("kind", ["batch", "instance", "group"])
@pytest.mark.parametrize("training", [True, False])
def test_affine_scale_is_the_derivative_with_constant_statistics(kind, ndim, training):
    generator = torch.Generator().manual_seed(1)
    x = 2 * torch.randn((3, 16, *[5] * ndim), generator=generator) + 0.7
    layer = normalisation(kind, 16, ndim)
    with torch.no_grad():
        layer.weight.copy_(torch.rand(16, generator=generator) + 0.5)
        if kind == "batch":
            layer.running_var.copy_(torch.rand(16, generator=generator) + 0.2)
    layer.train(training)
    axes = tuple(range(2, 2 + ndim))
    if kind == "batch":
        variance = x.var(dim=(0, *axes), unbiased=False).expand(3, 16) if training else layer.running_var.expand(3, 16)
    elif kind == "instance":
        variance = x.var(dim=axes, unbiased=False)
    else:
        # 8 groups of 2 channels.
        variance = x.unflatten(1, (8, 2)).flatten(2).var(dim=2, unbiased=False).repeat_interleave(2, dim=1)
    held = variance.detach()[(...,) + (None,) * ndim]
    free = x.clone().requires_grad_()
    normalised = free * torch.rsqrt(held + layer.eps) * layer.weight.detach().view(1, -1, *[1] * ndim)
    (gradient,) = torch.autograd.grad(normalised.sum(), free)
    expected = gradient.flatten(2)[:, :, 0]
    found = affine_scale(layer, x)
    assert found.shape == ((16,) if kind == "batch" else (3, 16))
    torch.testing.assert_close(found.expand(3, 16), expected)
    # Tied to the layer itself: pixels of one normalisation set differ by scale times their difference.
    output = layer(x).detach()
    difference = (output - output.flatten(2)[..., :1].view(3, 16, *[1] * ndim)).flatten(2)
    expected = (x.flatten(2) - x.flatten(2)[..., :1]) * found.expand(3, 16)[..., None]
    torch.testing.assert_close(difference, expected, rtol=1e-4, atol=1e-5)


def test_activation_by_slope():
    x = torch.tensor([-2.0, 3.0])
    assert activation(0)(x.clone()).tolist() == [0.0, 3.0]
    assert activation(0.1)(x.clone()).tolist() == pytest.approx([-0.2, 3.0])


def normalised_parts(rows: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """A pass of this rank's rows of two parts, normalised apart; outputs and running statistics."""
    layer = BatchNorm(3).double()
    whole = [torch.randn(4, 3, 4, 5, generator=torch.Generator().manual_seed(seed)).double() for seed in rows]
    share = 4 // world_size()
    mine = [part[rank() * share : (rank() + 1) * share] * (number + 1) for number, part in enumerate(whole)]
    with separate_statistics(nn.Sequential(layer), [len(part) for part in mine]):
        first, second = layer(torch.cat(mine)).split(share)
    return {"first": first.detach(), "second": second.detach(), "mean": layer.running_mean, "var": layer.running_var}


def test_parts_apart_are_two_passes_one_after_the_other():
    layer = BatchNorm(3).double()
    found = normalised_parts((1, 2))
    for number, (seed, key) in enumerate([(1, "first"), (2, "second")]):
        part = torch.randn(4, 3, 4, 5, generator=torch.Generator().manual_seed(seed)).double() * (number + 1)
        torch.testing.assert_close(found[key], layer(part).detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(found["mean"], layer.running_mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(found["var"], layer.running_var, rtol=1e-12, atol=0)


def test_parts_apart_are_the_same_on_two_processes(tmp_path):
    whole = normalised_parts((1, 2))
    first, second = run_ranks(tmp_path, partial(normalised_parts, (1, 2)))
    for key in ("first", "second"):
        torch.testing.assert_close(torch.cat([first[key], second[key]]), whole[key], rtol=1e-11, atol=1e-13)
    for key in ("mean", "var"):
        torch.testing.assert_close(first[key], whole[key], rtol=1e-11, atol=1e-13)


def test_parts_are_apart_within_alone_in_training_alone_and_all_rows_belong_to_one():
    layer = BatchNorm(3)
    maps = torch.randn(5, 3, 4, 4)
    layer.eval()
    expected = layer(maps)
    with separate_statistics(layer, (2, 3)):
        assert torch.equal(layer(maps), expected)
        layer.train()
        with pytest.raises(RuntimeError, match="split"):
            layer(maps[:4])
    assert layer.parts == ()
    together = layer(maps)
    with separate_statistics(layer, (0, 5)):
        assert torch.equal(layer(maps), together)
