"""UA-MT: uncertainty, threshold and mask by slow loops; its limits; Mean Teacher as a special case."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math

import pytest
import torch

from fewlabel.objectives.batch_noise_and_turns import gaussian_noise
from kit.tiny_regimes import EachPixel, Uniform, apart, slow_mean_square, supervised, tiny, tiny_batch, use

#: For the contract suite: settings under which unlabelled slices act on an untrained network, which is sure of nothing.
CONTRACT = {"acting": {"threshold_end": 2.0}}

#: Consistency without its weight, share of sure pixels, mean uncertainty of the example below.
GOLDEN = (0.132268026843, 0.805989583333, 0.61969205019)


def noisy(regime, batch):
    chosen = regime.settings
    return batch.unlabelled + gaussian_noise(batch.unlabelled, chosen.noise, chosen.noise_limit, batch.generator)


def slow_uncertainty(regime, batch):
    """Entropy of the mean over passes, each by itself; draws from the generator."""
    teacher = regime.teacher.network
    passes = [teacher(noisy(regime, batch)).softmax(dim=1).detach() for _ in range(regime.settings.passes)]
    mean = sum(passes) / len(passes)
    found = torch.zeros_like(mean[:, 0])
    for n, y, x in itertools.product(*map(range, found.shape)):
        found[n, y, x] = -sum(p * math.log(p) for p in mean[n, :, y, x].tolist() if p > 0)
    return found


def slow(regime, batch):
    """Student and teacher probabilities, uncertainty and threshold by the formula."""
    student = copy.deepcopy(regime.network).train()
    count = len(batch.images)
    logits = student(torch.cat([batch.images, batch.unlabelled]))
    target = regime.teacher.network(noisy(regime, batch)).softmax(dim=1).detach()
    chosen = regime.settings
    grown = math.exp(-5 * (1 - batch.step / batch.total_steps) ** 2)
    share = chosen.threshold_start + (chosen.threshold_end - chosen.threshold_start) * grown
    limit = share * math.log(2 if chosen.max_entropy == "ln2" else 4)
    uncertainty = slow_uncertainty(regime, batch)
    return logits, logits[count:].softmax(dim=1), target, uncertainty, limit


@pytest.mark.parametrize("unit", ["lnC", "ln2"])
@pytest.mark.parametrize("step", [2, 14])
def test_terms_are_those_of_the_formula(unit, step):
    regime = apart(tiny("ua_mt", max_entropy=unit, passes=3, threshold_start=0.6, threshold_end=0.9))
    logits, ours, theirs, uncertainty, limit = slow(regime, tiny_batch(regime, step=step))
    mask = uncertainty < limit
    assert bool(mask.any())
    assert not bool(mask.all())
    expected = slow_mean_square(ours, theirs, mask)
    batch = tiny_batch(regime, step=step)
    terms = regime.losses(batch)
    assert set(terms) == {"ce", "dice", "consistency"}
    assert float(terms["consistency"].detach()) == pytest.approx(regime.weight(step, 20) * expected, rel=1e-10)
    for key, value in supervised(logits[:2], batch.labels).items():
        torch.testing.assert_close(terms[key], value, rtol=1e-12, atol=0)
    figures = regime.metrics()
    assert figures["consistency"] == pytest.approx(expected, rel=1e-10)
    assert figures["sure"] == pytest.approx(float(mask.double().mean()), rel=1e-12)
    assert figures["uncertainty"] == pytest.approx(float(uncertainty.mean()), rel=1e-10)


def test_golden_values():
    regime = apart(tiny("ua_mt", threshold_start=0.6))
    regime.losses(tiny_batch(regime))
    figures = regime.metrics()
    found = (figures["consistency"], figures["sure"], figures["uncertainty"])
    assert found == pytest.approx(GOLDEN, rel=1e-6)


@pytest.mark.parametrize("at_once", [1, 2, 3, 8, 50])
def test_passes_in_one_batch_or_many_are_the_same(at_once):
    regime = apart(tiny("ua_mt", passes=7, passes_at_once=at_once))
    batch, again = tiny_batch(regime), tiny_batch(regime)
    sizes = []
    regime.teacher.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    found = regime.uncertainty(batch.unlabelled, batch.generator)
    torch.testing.assert_close(found, slow_uncertainty(regime, again), rtol=1e-10, atol=1e-12)
    assert torch.equal(batch.generator.get_state(), again.generator.get_state())
    assert len(sizes) == math.ceil(7 / at_once)
    assert max(sizes) == 3 * min(at_once, 7)
    assert sum(sizes) == 3 * 7


def test_with_every_pixel_sure_it_is_mean_teacher():
    found = []
    for name, settings in [("mean_teacher", {}), ("ua_mt", {"threshold_start": 1.01, "threshold_end": 1.01})]:
        regime = apart(tiny(name, rest=0.0, noise=0.1, noise_limit=0.2, **settings))
        terms = regime.losses(tiny_batch(regime))
        found.append(terms)
    assert found[0].keys() == found[1].keys()
    for key, value in found[0].items():
        torch.testing.assert_close(found[1][key], value, rtol=1e-12, atol=0)


@pytest.mark.parametrize("classes", [2, 3, 4, 5, 7])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_a_threshold_of_log_classes_lets_all_pixels_pass_even_the_most_uncertain(classes, kind):
    for share, sure in ((1.0, 1.0), (0.999, 0.0)):
        regime = use(tiny("ua_mt", threshold_start=share, threshold_end=share), Uniform(classes)).to(kind)
        plain = tiny_batch(regime)
        batch = dataclasses.replace(
            plain,
            images=plain.images.to(kind),
            labels=plain.labels.clamp(max=classes - 1),
            unlabelled=plain.unlabelled.to(kind),
        )
        regime.losses(batch)
        assert regime.metrics()["uncertainty"] == pytest.approx(math.log(classes), rel=1e-6)
        assert regime.metrics()["sure"] == sure


def test_sure_nowhere_is_0_not_nan_and_moves_nothing():
    regime = use(tiny("ua_mt", threshold_end=0.99), Uniform())
    terms = regime.losses(tiny_batch(regime))
    assert float(terms["consistency"].detach()) == 0.0
    assert regime.metrics()["sure"] == 0.0
    (gradient,) = torch.autograd.grad(terms["consistency"], [regime.network.layer.weight])
    assert not gradient.any()


def test_entropy_lies_between_0_and_log_classes_also_for_sure_teachers():
    regime = apart(tiny("ua_mt"))
    batch = tiny_batch(regime)
    least = []
    for scale in (1.0, 1e4, 0.0):
        with torch.no_grad():
            regime.teacher.network.classifier.weight.mul_(scale)
            regime.teacher.network.classifier.bias.mul_(scale)
        found = regime.uncertainty(batch.unlabelled, batch.generator)
        assert bool(torch.isfinite(found).all())
        assert 0 <= float(found.min()) <= float(found.max()) <= math.log(4)
        least.append(float(found.min()))
    assert 0 < least[0] < math.log(4)
    assert least[1:] == [0.0, pytest.approx(math.log(4), rel=1e-15)]


def test_the_mask_grows_with_the_threshold():
    shares = []
    for limit in (0.0, 0.3, 0.6, 0.8, 0.9, 0.95, 1.0):
        regime = apart(tiny("ua_mt", threshold_start=limit, threshold_end=limit))
        regime.losses(tiny_batch(regime))
        shares.append(regime.metrics()["sure"])
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] == 1.0
    assert len(set(shares)) > 3


def test_the_threshold_grows_over_the_whole_run_in_its_unit():
    for unit, most in (("lnC", math.log(4)), ("ln2", math.log(2))):
        regime = tiny("ua_mt", max_entropy=unit)
        found = [regime.threshold(step, 100) / most for step in (0, 50, 100)]
        assert found == pytest.approx([0.75 + 0.25 * share for share in (0.006737947, 0.286504797, 1)], rel=1e-8)
    assert regime.threshold(100, 100) == pytest.approx(0.5 * math.log(4))


def test_passes_see_noise_of_their_own_and_without_noise_are_one():
    regime = apart(tiny("ua_mt", passes=3, passes_at_once=3))
    seen = []
    regime.teacher.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    batch = tiny_batch(regime)
    regime.losses(batch)
    target, rows = seen[0] - batch.unlabelled, seen[1].view(3, 3, 1, 16, 16) - batch.unlabelled
    passes = [target, *rows]
    assert all(float(noise.abs().max()) <= 0.2 + 1e-12 for noise in passes)
    assert all(not torch.equal(passes[i], passes[j]) for i in range(4) for j in range(i))
    silent = apart(tiny("ua_mt", noise=0.0))
    once = apart(tiny("ua_mt", noise=0.0, passes=1))
    found = [one.uncertainty(batch.unlabelled, batch.generator) for one in (silent, once)]
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-13)


def test_unsure_pixels_change_neither_loss_nor_gradient():
    """With a network that looks at single pixels a slice may change where the teacher is unsure of it."""
    regime = use(tiny("ua_mt", noise=0.0, threshold_start=0.5, threshold_end=0.5, ramp=0.0), EachPixel())
    with torch.no_grad():
        regime.network.layer.weight.copy_(torch.tensor([3.0, 0.0, -3.0, -6.0]).view(4, 1, 1, 1))
        regime.network.layer.bias.zero_()
    use(regime, regime.network)
    # Near 0 the classes are alike, far from it one wins.
    images = torch.linspace(-2, 2, 3 * 256, dtype=torch.float64).view(3, 1, 16, 16)
    unsure = regime.uncertainty(images, torch.Generator()) > regime.threshold(10, 20)
    assert 0 < int(unsure.sum()) < unsure.numel()
    with torch.no_grad():
        regime.network.layer.bias.add_(torch.tensor([0.3, 0.0, 0.1, -0.2]))
    changed = torch.where(unsure[:, None], 0.001 * images, images)
    results = []
    for unlabelled in (images, changed):
        batch = dataclasses.replace(tiny_batch(regime), unlabelled=unlabelled)
        term = regime.losses(batch)["consistency"]
        results.append([term, *torch.autograd.grad(term, [regime.network.layer.weight])])
    assert float(results[0][0].detach()) > 0
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-14)
