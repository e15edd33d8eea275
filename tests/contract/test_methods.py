"""What every pre-training method must do, run over all that are discovered."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fewlabel.core.errors import SettingsError
from fewlabel.core.plugin_discovery import load_plugin, plugin_names
from fewlabel.core.settings.base import resolve_plugin
from fewlabel.data.augment_settings import AugmentConfig
from fewlabel.methods.base import DataFacts, Losses, PretrainMethod
from fewlabel.nets.unet import UNet, UNetConfig, UNetEncoder
from kit.pretraining import META, SIZE, TOTAL, batch_for, stage_steps, toy_method, trainable

NAMES = plugin_names("fewlabel.methods")
pytestmark = pytest.mark.parametrize("name", NAMES)


def mean_of_terms(losses: Losses) -> Tensor:
    return torch.stack(list(losses.terms.values())).mean()


def combined_gradients(method: PretrainMethod, combiner, losses: Losses, step: int = 0) -> list[Tensor]:
    named = trainable(method)
    rows = [
        torch.autograd.grad(term, list(named.values()), retain_graph=True, materialize_grads=True)
        for term in losses.terms.values()
    ]
    return combiner.combine(list(named), rows, torch.Generator().manual_seed(step))


def test_default_settings_build_and_are_recorded(name):
    config = resolve_plugin("fewlabel.methods", name)
    assert config.name == name
    assert resolve_plugin("fewlabel.methods", config.record()) == config
    assert toy_method(name).settings == config


def test_an_unknown_setting_is_refused_with_the_nearest_known_one(name):
    known = next(key for key in type(resolve_plugin("fewlabel.methods", name)).model_fields if key != "name")
    with pytest.raises(SettingsError) as caught:
        resolve_plugin("fewlabel.methods", {"name": name, known[:-1] + "_": 1})
    assert f"Did you mean {known}" in str(caught.value)


def test_documentation_names_the_source(name):
    method = load_plugin("fewlabel.methods", name)
    assert re.search(r"(19|20)\d\d", method.__doc__)
    assert re.search(r"(19|20)\d\d", method.paper)


@pytest.mark.parametrize("bf16", [False, True])
def test_losses_are_finite_float32_scalars(name, bf16):
    method = toy_method(name).train()
    for step in stage_steps(method):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            losses = method.losses(batch_for(method, step))
        check_losses(losses, bf16)


def check_losses(losses: Losses, bf16: bool) -> None:
    for term in losses.terms.values():
        assert term.dtype == torch.float32
        assert term.dim() == 0
        assert torch.isfinite(term)
        assert term.requires_grad
    assert all(isinstance(value, float) for value in losses.scalars.values())
    assert not losses.embeddings.requires_grad
    norms = losses.embeddings.float().norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms), rtol=1e-2 if bf16 else 1e-5, atol=0)
    value = float(mean_of_terms(losses).detach())
    if losses.lower_bound is not None:
        assert value >= losses.lower_bound - 1e-5
    if losses.lower_bound is not None and losses.collapsed is not None:
        assert losses.lower_bound <= losses.collapsed + 1e-9


@pytest.mark.parametrize("mixed", [False, True])
def test_gradient_reaches_every_trainable_tensor_and_no_frozen_one(name, mixed):
    method = toy_method(name).train()
    frozen = method.encoder.blocks[0].conv1.weight.requires_grad_(False)
    reached = set()
    for step in stage_steps(method):
        method.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            losses = method.losses(batch_for(method, step))
        mean_of_terms(losses).backward()
        assert frozen.grad is None
        for key, parameter in trainable(method).items():
            if parameter.grad is not None and parameter.grad.abs().sum() > 0:
                assert torch.isfinite(parameter.grad).all(), key
                reached.add(key)
        # So that momentum twins, queues and slots hold what training puts there.
        method.after_step(step, TOTAL)
    assert reached == {key for key, parameter in method.named_parameters() if parameter.requires_grad}


def test_twenty_steps_on_toy_data_lower_the_loss(name):
    method = toy_method(name).train()
    for stage in stage_steps(method):
        combiner = method.combiner()
        optimiser = torch.optim.Adam(trainable(method).values(), lr=3e-3)
        before = float(mean_of_terms(method.losses(batch_for(method, stage))).detach())
        for _ in range(20):
            losses = method.losses(batch_for(method, stage))
            gradients = combined_gradients(method, combiner, losses, stage)
            for parameter, gradient in zip(trainable(method).values(), gradients, strict=True):
                parameter.grad = gradient
            optimiser.step()
        after = float(mean_of_terms(method.losses(batch_for(method, stage))).detach())
        assert after < before - 0.02 * abs(before)


@pytest.mark.parametrize("total", [1, 2, 3, 7, TOTAL])
def test_stages_follow_each_other_and_fill_the_run(name, total):
    method = toy_method(name)
    for step in range(total):
        start, length = method.training_phase(step, total)
        assert start <= step < start + length <= total
        # All steps of a stage agree on it, and one begins where another ended.
        assert (start, length) == method.training_phase(start, total)
        assert start == 0 or sum(method.training_phase(start - 1, total)) == start
    assert sum(method.training_phase(total - 1, total)) == total
    # They are told before the method is built.
    lengths = load_plugin("fewlabel.methods", name).phase_lengths(method.settings, total)
    assert [sum(lengths[: place + 1]) - length for place, length in enumerate(lengths)] == sorted(
        {method.training_phase(step, total)[0] for step in range(total)}
    )
    assert sum(lengths) == total


@pytest.mark.parametrize("meta", [META, {}])
@pytest.mark.parametrize(("depth", "size"), [(3, SIZE), (5, SIZE), (5, (16, 16)), (3, (4, 4))])
def test_it_is_built_where_it_finds_no_fault_and_refused_with_those_it_finds(name, depth, size, meta):
    network, config = UNetConfig(width=4, depth=depth), resolve_plugin("fewlabel.methods", name)
    facts = DataFacts(meta, slices=24, image_size=size, store_slices=30, classes=4 if meta else 0)
    method = load_plugin("fewlabel.methods", name)
    faults = method.faults(config, network, facts)
    if not faults:
        method(config, UNetEncoder(network), facts)
        return
    with pytest.raises(SettingsError) as caught:
        method(config, UNetEncoder(network), facts)
    assert caught.value.faults == tuple(faults)


def test_what_a_method_changes_of_the_augmentation_is_a_setting_of_it(name):
    changes = load_plugin("fewlabel.methods", name).augment_changes
    assert AugmentConfig.parse(dict(changes)).record().items() >= changes.items()


def test_collapsed_embeddings_give_the_known_value(name):
    method = toy_method(name).train()
    # Of momentum twins as well.
    for encoder in [module for module in method.modules() if isinstance(module, UNetEncoder)]:
        last = encoder.blocks[-1].norm2
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.ones_(last.bias)
    losses = method.losses(batch_for(method, 0))
    if losses.collapsed is None:
        pytest.skip("this method states no collapse value")
    assert float(mean_of_terms(losses).detach()) == pytest.approx(losses.collapsed, abs=1e-4)


def test_the_loss_depends_on_the_batch_and_its_generator_alone(name):
    method = toy_method(name).train()
    for step in stage_steps(method):
        torch.manual_seed(1)
        first = method.losses(batch_for(method, step))
        torch.manual_seed(2)
        second = method.losses(batch_for(method, step))
        assert {key: term.item() for key, term in first.terms.items()} == {
            key: term.item() for key, term in second.terms.items()
        }


def test_saved_and_restored_it_takes_the_same_step(name):
    first, second = toy_method(name).train(), toy_method(name, seed=5).train()
    combiners = first.combiner(), second.combiner()
    for step in sorted({0, 1, 2, *stage_steps(first)}):
        combined_gradients(first, combiners[0], first.losses(batch_for(first, step)), step)
        first.after_step(step, TOTAL)
    second.load_state_dict(first.state_dict(), strict=True)
    combiners[1].load_state(combiners[0].state())
    found = [
        combined_gradients(method, combiner, method.losses(batch_for(method, TOTAL - 1, seed=1)), TOTAL - 1)
        for method, combiner in zip((first, second), combiners, strict=True)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_the_encoder_loads_strictly_into_the_network(name):
    method = toy_method(name)
    network = UNet(method.encoder.config, classes=3)
    network.encoder.load_state_dict(method.encoder.state_dict(), strict=True)
    assert any(key.startswith("encoder.") for key, _ in method.named_parameters())


def test_missing_metadata_is_an_error_with_a_remedy_or_is_not_needed(name):
    method = load_plugin("fewlabel.methods", name)
    # Either the method says so by an error, or it builds and declares that it uses none.
    if not method.needs_metadata and toy_method(name).uses_metadata == ():
        assert toy_method(name, meta={}).uses_metadata == ()
        return
    with pytest.raises(SettingsError) as caught:
        toy_method(name, meta={})
    assert caught.value.faults
    assert all(fault.remedy for fault in caught.value.faults)


def test_shuffled_metadata_change_the_loss_if_and_only_if_declared(name):
    method = toy_method(name).train()

    def values(batch):
        return torch.stack(list(method.losses(batch).terms.values())).detach()

    assert set(method.uses_metadata) <= set(META)
    order = torch.tensor([3, 0, 6, 5, 1, 7, 2, 4])
    for label in META:
        changed = False
        for step in stage_steps(method):
            plain, batch = batch_for(method, step), batch_for(method, step)
            mixed = order[order < len(batch.slices)]
            batch.metadata[label] = batch.metadata[label][mixed]
            if label == "position":
                batch = replace(batch, positions=batch.positions[mixed])
            changed = changed or not torch.equal(values(batch), values(plain))
        assert changed == (label in method.uses_metadata), label


def test_slices_are_embedded_as_unit_vectors(name):
    method = toy_method(name).eval()
    images = torch.randn(3, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    embedded = method.embed(images)
    assert embedded.shape[0] == 3
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(method.embed(images[:1]), embedded[:1], rtol=1e-4, atol=1e-5)
