"""SS-Net: smooth where it is most tempted not to be, and pixels near what is known of their class."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch.nn import functional

from fewlabel.engine.optim import build_optimiser
from fewlabel.objectives.batch_noise_and_turns import gaussian_noise
from fewlabel.objectives.class_prototype_memory import draw_pixels, prototype_distance
from fewlabel.objectives.vat import dice_distance, unit_size
from fewlabel.stages.finetune import FinetuneSettings
from kit.finetuning import TOTAL, build, toy_batch
from kit.tiny_regimes import supervised, tiny, tiny_batch

#: V and P, without their weights, of the second step of the example below.
GOLDEN = (0.056812930388, 1.183787630037)


def example(**settings):
    """Predictions that are sure of some pixels, of all classes."""
    regime = tiny("ss_net", pixels=6, memory=5, **settings)
    with torch.no_grad():
        regime.network.classifier.weight.mul_(4)
    return regime


def after_one_step(**settings):
    """With something in the memory."""
    regime = example(**settings)
    regime.losses(tiny_batch(regime, step=9))
    regime.after_step(9, TOTAL)
    return regime


def images_of(batch):
    return torch.cat([batch.images, batch.unlabelled])


def starts(batch):
    """As documented: one draw for each stream."""
    rows = (batch.images, batch.unlabelled)
    return torch.cat([gaussian_noise(part, 1.0, float("inf"), batch.generator) for part in rows])


def slow_smooth(regime, batch):
    """V step by step, on a copy."""
    network = copy.deepcopy(regime.network)
    images = images_of(batch)
    target = network(images).softmax(dim=1).detach()
    direction = unit_size(starts(batch)).requires_grad_()
    probe = dice_distance(network(images + regime.settings.probe * direction).softmax(dim=1), target)
    (gradient,) = torch.autograd.grad(probe, direction)
    worst = images + regime.settings.epsilon * unit_size(gradient)
    return float(dice_distance(network(worst).softmax(dim=1), target).detach())


def slow_compact(regime, batch):
    """P(l) and P(u), pixel by pixel."""
    regime = copy.deepcopy(regime)
    parts, images = regime.prototypes, images_of(batch)
    features = regime.network.decoder(regime.network.encoder(images))[-1].detach()
    classes = regime.network.classifier(features).argmax(dim=1)
    starts(batch)
    total = 0.0
    for rows, labels in ((features[:2], batch.labels), (features[2:], classes[2:])):
        pixels, counts, _ = draw_pixels(labels, 4, 6, batch.generator)
        queries = torch.zeros(len(rows), 3, 6, 32, dtype=torch.float64)
        attention = torch.zeros(len(rows), 3, 6, dtype=torch.float64)
        for n in range(len(rows)):
            for c in range(3):
                for k in range(6):
                    y, x = divmod(int(pixels[n, c, k]), 16)
                    vector = parts.prediction(parts.projection(rows[n, :, y, x][None, None]).output).output
                    queries[n, c, k] = functional.normalize(vector.detach().flatten(), dim=0)
                    each = queries[n, c, k].expand(3, 1, -1)
                    attention[n, c, k] = parts.pixel_attention(each).detach()[c, 0]
        memory = parts.memory.rows
        towards = parts.memory_attention(memory).detach()
        total += float(prototype_distance(queries, counts, attention, memory, parts.memory.there(), towards))
    return total


def test_terms_are_those_of_the_formula():
    regime = after_one_step()
    weight = regime.weight(10, TOTAL)
    smooth, compact = slow_smooth(regime, tiny_batch(regime)), slow_compact(regime, tiny_batch(regime))
    logits = copy.deepcopy(regime.network)(images_of(tiny_batch(regime)))
    terms = regime.losses(tiny_batch(regime))
    assert set(terms) == {"ce", "dice", "smooth", "compact"}
    assert float(terms["smooth"].detach()) == pytest.approx(weight * smooth, rel=1e-8)
    assert float(terms["compact"].detach()) == pytest.approx(0.1 * weight * compact, rel=1e-8)
    assert compact > 0.1
    assert regime.metrics()["smooth"] == pytest.approx(smooth, rel=1e-8)
    assert regime.metrics()["compact"] == pytest.approx(compact, rel=1e-8)
    for key, value in supervised(logits[:2], tiny_batch(regime).labels).items():
        torch.testing.assert_close(terms[key], value, rtol=1e-12, atol=0)


def test_golden_values():
    regime = after_one_step()
    regime.losses(tiny_batch(regime))
    assert (regime.metrics()["smooth"], regime.metrics()["compact"]) == pytest.approx(GOLDEN, rel=1e-5)


def test_running_statistics_are_those_of_the_main_pass_alone():
    regime = example()
    plain = copy.deepcopy(regime.network)
    plain(images_of(tiny_batch(regime)))
    regime.losses(tiny_batch(regime))
    expected = dict(plain.named_buffers())
    found = dict(regime.network.named_buffers())
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
    assert any(not torch.equal(tensor, dict(example().network.named_buffers())[name]) for name, tensor in found.items())


def test_no_change_is_no_distance():
    regime = example(epsilon=0.0)
    regime.losses(tiny_batch(regime))
    assert regime.metrics()["smooth"] == pytest.approx(0, abs=1e-20)


def test_a_larger_change_moves_predictions_more():
    found = []
    for epsilon in (0.02, 0.1, 0.5):
        regime = example(epsilon=epsilon)
        regime.losses(tiny_batch(regime))
        found.append(regime.metrics()["smooth"])
    assert found[0] < found[1] < found[2]


def test_the_worst_change_is_worse_than_a_random_one():
    regime = example()
    batch = tiny_batch(regime)
    images = images_of(batch)
    target = regime.network(images).softmax(dim=1).detach()
    random = images + regime.settings.epsilon * unit_size(starts(batch))
    chance = float(dice_distance(regime.network(random).softmax(dim=1), target).detach())
    regime.losses(tiny_batch(regime))
    assert regime.metrics()["smooth"] > 2 * chance


def test_the_prediction_for_the_image_itself_is_a_target_without_gradient():
    regime = example()
    batch = tiny_batch(regime)
    network = copy.deepcopy(regime.network)
    target = network(images_of(batch)).softmax(dim=1).detach()
    direction = unit_size(starts(batch)).requires_grad_()
    probe = dice_distance(network(images_of(batch) + regime.settings.probe * direction).softmax(dim=1), target)
    worst = unit_size(torch.autograd.grad(probe, direction)[0])
    again = dice_distance(network(images_of(batch) + regime.settings.epsilon * worst).softmax(dim=1), target)
    expected = torch.autograd.grad(regime.weight(10, TOTAL) * again, list(network.parameters()))
    term = regime.losses(tiny_batch(regime))["smooth"]
    for a, b in zip(torch.autograd.grad(term, list(regime.network.parameters())), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-12)


def test_the_first_step_has_no_memory():
    regime = example()
    terms = regime.losses(tiny_batch(regime))
    assert float(terms["compact"].detach()) == 0
    assert regime.metrics()["memory"] == 0
    regime.after_step(10, TOTAL)
    assert int(regime.prototypes.memory.filled.sum()) > 0


def test_the_memory_holds_the_best_scored_pixels_that_were_predicted_correctly():
    regime = example()
    parts = regime.prototypes
    source = torch.Generator().manual_seed(0)
    features = torch.randn(2, 4, 16, 16, generator=source, dtype=torch.float64)
    labels = torch.randint(0, 4, (2, 16, 16), generator=source)
    labels[0, :4] = 255
    predicted = torch.where(torch.rand(2, 16, 16, generator=source) < 0.4, labels, (labels + 1) % 4)
    parts.distance(features, labels, torch.Generator().manual_seed(1), predicted=predicted)
    assert not parts.memory.filled.any()
    parts.remember()
    pixels, _, fresh = draw_pixels(labels, 4, 6, torch.Generator().manual_seed(1))
    seen = 0
    for c in range(3):
        found = []
        for n in range(2):
            for k in range(6):
                y, x = divmod(int(pixels[n, c, k]), 16)
                if fresh[n, c, k] and predicted[n, y, x] == labels[n, y, x]:
                    assert labels[n, y, x] == c + 1
                    row = parts.projection(features[n, :, y, x][None, None]).output.detach().flatten()
                    row = functional.normalize(row, dim=0)
                    found.append((float(parts.pixel_attention(row.expand(3, 1, -1)).detach()[c, 0]), row))
        found.sort(key=lambda pair: -pair[0])
        assert int(parts.memory.filled[c]) == min(len(found), 5)
        for place, (_, row) in enumerate(found[:5]):
            torch.testing.assert_close(parts.memory.rows[c, place], row, rtol=1e-10, atol=1e-12)
            seen += 1
    assert seen > 5


def test_unlabelled_slices_never_enter_the_memory():
    regime = after_one_step()
    before = regime.prototypes.memory.rows.clone()
    regime.losses(tiny_batch(regime, labelled=0))
    regime.after_step(10, TOTAL)
    assert torch.equal(regime.prototypes.memory.rows, before)


def test_wrong_predictions_and_slices_without_labels_leave_the_memory_alone():
    regime = after_one_step()
    before = regime.prototypes.memory.rows.clone()
    batch = tiny_batch(regime)
    regime.losses(dataclasses.replace(batch, labels=torch.full_like(batch.labels, 255)))
    regime.after_step(10, TOTAL)
    assert torch.equal(regime.prototypes.memory.rows, before)


def test_attention_weighs_without_pulling_embeddings():
    regime = after_one_step(prototype_weight=1.0)
    parts = regime.prototypes
    source = torch.Generator().manual_seed(0)
    features = torch.randn(2, 4, 16, 16, generator=source, dtype=torch.float64).requires_grad_()
    labels = torch.randint(0, 4, (2, 16, 16), generator=source)
    loss = parts.distance(features, labels, torch.Generator().manual_seed(1))
    trained = [*parts.pixel_attention.parameters(), *parts.memory_attention.parameters(), features]
    gradients = torch.autograd.grad(loss, trained, retain_graph=True)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    # The same gradient for the features where attention is a constant of the same value.
    values = []
    parts.pixel_attention.register_forward_hook(
        lambda module, inputs, output: values.append(output.detach()) or values[-1]
    )
    again = parts.distance(features, labels, torch.Generator().manual_seed(1))
    torch.testing.assert_close(torch.autograd.grad(again, features)[0], gradients[-1], rtol=1e-10, atol=1e-14)
    assert values


def test_only_what_is_foreground_has_a_place():
    regime = example()
    assert regime.prototypes.memory.rows.shape == (3, 5, 32)
    parts = after_one_step().prototypes
    features = torch.randn(1, 4, 16, 16, dtype=torch.float64)
    nothing = parts.distance(features, torch.zeros(1, 16, 16, dtype=torch.int64), torch.Generator())
    assert float(nothing.detach()) == 0


def test_without_prototypes_there_is_smoothness_alone():
    regime = example(prototype_weight=0.0)
    assert set(regime.losses(tiny_batch(regime))) == {"ce", "dice", "smooth"}
    regime.after_step(10, TOTAL)
    assert not regime.prototypes.memory.filled.any()


def test_without_weight_nothing_more_is_computed():
    regime = example(unlabelled_weight=0.0)
    regime.prototypes.projection.register_forward_pre_hook(lambda module, inputs: pytest.fail("a head was used"))
    calls = []
    regime.network.register_forward_pre_hook(lambda module, inputs: calls.append(inputs[0].shape))
    assert set(regime.losses(tiny_batch(regime))) == {"ce", "dice"}
    assert calls == [(2, 1, 16, 16)]
    regime.after_step(10, TOTAL)
    assert not regime.prototypes.memory.filled.any()


def test_decay_does_not_erase_what_only_a_small_term_reaches():
    # Adam divides gradient and decay by their common size: a decay of 1e-5 was most of it, at the full rate.
    regime = build("ss_net").train()
    before = {name: float(tensor.detach().norm()) for name, tensor in regime.prototypes.named_parameters()}
    config = FinetuneSettings.model_fields["optimiser"].get_default(call_default_factory=True)
    spared = [tensor for module in regime.undecayed() for tensor in module.parameters()]
    optimiser = build_optimiser(config, regime.parameters(), undecayed=spared)
    for group in optimiser.param_groups:
        group["lr"] = 1e-2
    for step in range(40):
        optimiser.zero_grad()
        torch.stack(list(regime.losses(toy_batch(regime, step=step // 8)).values())).sum().backward()
        optimiser.step()
        regime.after_step(step // 8, TOTAL)
    after = {name: float(tensor.detach().norm()) for name, tensor in regime.prototypes.named_parameters()}
    assert all(after[name] > 0.7 * before[name] for name in before), (before, after)
