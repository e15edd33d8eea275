"""Learning rates in closed form; weight decay only where it belongs."""

from __future__ import annotations

import math

import pytest
import torch

from fewlabel.core.errors import SettingsError
from fewlabel.engine.optim import OptimiserConfig, build_optimiser, check_warmup, learning_rate, set_rate


def test_cosine_starts_at_the_peak_halves_midway_and_ends_at_the_floor():
    config = OptimiserConfig(lr=0.2, min_lr=0.02)
    assert learning_rate(config, 0, 100) == pytest.approx(0.2)
    assert learning_rate(config, 50, 100) == pytest.approx(0.11)
    assert learning_rate(config, 100, 100) == pytest.approx(0.02)
    assert learning_rate(config, 25, 100) == pytest.approx(0.02 + 0.09 * (1 + math.cos(math.pi / 4)))


def test_warm_up_is_linear_and_reaches_the_peak():
    config = OptimiserConfig(lr=1.0, warmup=4)
    assert [learning_rate(config, step, 20) for step in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert learning_rate(config, 4, 20) == pytest.approx(1.0)


def test_poly_and_constant():
    assert learning_rate(OptimiserConfig(lr=1.0, schedule="poly"), 50, 100) == pytest.approx(0.5**0.9)
    assert learning_rate(OptimiserConfig(lr=0.3, schedule="constant"), 77, 100) == pytest.approx(0.3)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_only_matrices_are_decayed_and_frozen_tensors_left_out(name):
    layer = torch.nn.Linear(3, 2)
    frozen = torch.nn.Parameter(torch.zeros(2, 2), requires_grad=False)
    optimiser = build_optimiser(OptimiserConfig(name=name, weight_decay=0.1), [*layer.parameters(), frozen])
    decays = {id(p): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}
    assert decays == {id(layer.weight): 0.1, id(layer.bias): 0.0}


def test_what_is_spared_has_no_decay():
    one, two = torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)
    config = OptimiserConfig(name="adam", weight_decay=0.1)
    optimiser = build_optimiser(config, [*one.parameters(), *two.parameters()], undecayed=two.parameters())
    decays = {id(p): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}
    assert decays == {id(one.weight): 0.1, id(one.bias): 0.0, id(two.weight): 0.0, id(two.bias): 0.0}


def test_a_factor_scales_the_rate_of_its_parameters_alone():
    encoder, head = torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)
    factors = dict.fromkeys(encoder.parameters(), 0.1)
    config = OptimiserConfig(name="sgd", momentum=0.0, weight_decay=0.0)
    optimiser = build_optimiser(config, [*encoder.parameters(), *head.parameters()], factors)
    set_rate(optimiser, 0.5)
    before = [p.detach().clone() for p in (encoder.weight, encoder.bias, head.weight, head.bias)]
    for parameter in (*encoder.parameters(), *head.parameters()):
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    moved = [
        float((old - new.detach()).max())
        for old, new in zip(before, (encoder.weight, encoder.bias, head.weight, head.bias), strict=True)
    ]
    assert moved == pytest.approx([0.05, 0.05, 0.5, 0.5])


def test_a_cosine_that_rises_is_refused():
    with pytest.raises(SettingsError, match=r"min_lr.*lr=0\.01"):
        OptimiserConfig.parse({"lr": 0.01, "min_lr": 0.1})
    assert OptimiserConfig.parse({"lr": 0.01, "min_lr": 0.01}).min_lr == 0.01


def test_a_warm_up_is_shorter_than_every_stage():
    def stage(step, steps):
        return (0, 75) if step < 75 else (75, steps - 75)

    check_warmup(OptimiserConfig(warmup=24), stage, 100)
    with pytest.raises(SettingsError, match=r"optimiser\.warmup.*one has 25 steps, the warm-up 25\..*below 25"):
        check_warmup(OptimiserConfig(warmup=25), stage, 100)
    check_warmup(OptimiserConfig(), lambda step, steps: (0, steps), 1)
