import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from fewlabel.core.errors import SettingsError
from fewlabel.core.settings.base import resolve_plugin
from fewlabel.core.settings.value_syntax import nest
from fewlabel.methods.spl import age, pair_weights, regulariser
from fewlabel.nets.unet import UNetConfig
from kit.golden import plant
from kit.pretraining import META, settle, toy_batch, toy_method

TINY = {"size": (8, 8), "network": UNetConfig(width=4, depth=2), "dtype": torch.float64}
#: A γ that part of the costs of a tiny batch lie below, for each label.
GAMMA = 1.885
MIDDLE = {"gamma_start": GAMMA, "gamma_end": GAMMA}
FAR = {"gamma_start": 1e12, "gamma_end": 1e12}


def tiny_batch(slices=4, **options):
    return toy_batch(slices, size=(8, 8), dtype=torch.float64, **options)


def method_of(**given_settings):
    return settle(toy_method("spl", **given_settings, **TINY), tiny_batch())


def values(losses):
    return {name: term.item() for name, term in losses.terms.items()}


def embeddings(method, batch):
    """Unit vectors of the pooled map behind a two-layer head, from the formula."""
    pooled = method.encoder(torch.cat(batch.views))[-1].mean((2, 3))
    head = method.image_head
    hidden = functional.linear(pooled, head.first.weight, head.first.bias).relu()
    return functional.normalize(functional.linear(hidden, head.second.weight, head.second.bias), dim=1)


def pairs(z, batch, label, temperature=0.07):
    """Cost of each positive pair of each anchor, by loops."""
    ids, slices, views = batch.metadata[label].repeat(2), batch.slices.repeat(2), len(z)
    found = []
    for i in range(views):
        bottom = sum((z[i] @ z[a] / temperature).exp() for a in range(views) if a != i)
        positives = [j for j in range(views) if j != i and (ids[j] == ids[i] or slices[j] == slices[i])]
        found.append([-((z[i] @ z[j] / temperature).exp() / bottom).log() for j in positives])
    return found


def slow_term(costs, gamma, weighting):
    """Value, Σ w ℓ with gradient, and mean weight of a term, from the paper's formulas."""
    value = weighted = 0.0
    weights = []
    for anchor in costs:
        for cost in anchor:
            known = cost.item()
            weight = float(known <= gamma) if weighting == "hard" else max(0.0, 1 - known / gamma)
            price = gamma * (1 - weight) if weighting == "hard" else gamma / 2 * (1 - weight) ** 2
            value += (weight * known + price) / len(anchor) / len(costs)
            weighted = weighted + weight * cost / len(anchor) / len(costs)
            weights.append(weight)
    return value, weighted, sum(weights) / len(weights)


@pytest.mark.parametrize("weighting", ["soft", "hard"])
@pytest.mark.parametrize("corrected", [True, False])
def test_values_and_gradients_equal_the_loops(weighting, corrected):
    options = {"weighting": weighting, "corrected": corrected, "label_weights": (0.5, 1.0, 3.0), **MIDDLE}
    method = method_of(**options)
    losses = method.losses(tiny_batch())
    z = embeddings(method, tiny_batch())
    parameters = list(method.parameters())
    torch.testing.assert_close(losses.embeddings, z.detach())
    assert tuple(losses.terms) == ("patient", "position", "phase")
    for label, scale in zip(META, (0.5, 1.0, 3.0), strict=True):
        value, weighted, mean = slow_term(pairs(z, tiny_batch(), label), GAMMA, weighting)
        assert 0 < mean < 1
        assert losses.terms[label].item() == pytest.approx(scale * value, abs=1e-10)
        assert losses.scalars[f"weight/{label}"] == pytest.approx(mean, abs=1e-10)
        assert losses.scalars[f"weighted/{label}"] == pytest.approx(weighted.item(), abs=1e-10)
        found = torch.autograd.grad(losses.terms[label], parameters, retain_graph=True)
        expected = torch.autograd.grad(scale * weighted / (mean if corrected else 1), parameters, retain_graph=True)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("weighting", ["soft", "hard"])
@pytest.mark.parametrize("corrected", [True, False])
def test_without_a_limit_it_is_supervised_contrast(weighting, corrected):
    """Equal to GCL's image-wise loss on the same embeddings, in value and gradient."""
    method = method_of(weighting=weighting, corrected=corrected, temperature=0.5, **FAR)
    gcl = toy_method("gcl", pixel=False, **TINY).eval()
    gcl.encoder, gcl.image_head = method.encoder, method.image_head
    losses, other = method.losses(tiny_batch()), gcl.losses(tiny_batch())
    for name, term in other.terms.items():
        torch.testing.assert_close(losses.terms[name], term, rtol=0, atol=1e-9)
        parameters = list(method.parameters())
        gradients = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in (losses.terms[name], term)]
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


def test_hard_weights_are_all_one_from_the_largest_cost_on():
    costs = [cost.item() for label in META for anchor in pairs_of_untrained(label) for cost in anchor]
    top = max(costs)
    above, below = (method_of(weighting="hard", gamma_start=g, gamma_end=g) for g in (top + 1e-9, top - 1e-6))
    losses = above.losses(tiny_batch())
    for label in META:
        assert losses.scalars[f"weight/{label}"] == 1
        assert losses.terms[label].item() == pytest.approx(losses.scalars[f"unweighted/{label}"], abs=1e-12)
    assert min(below.losses(tiny_batch()).scalars[f"weight/{label}"] for label in META) < 1


def pairs_of_untrained(label):
    return pairs(embeddings(method_of(), tiny_batch()), tiny_batch(), label)


def test_the_loss_never_falls_as_gamma_grows():
    grid = [0.5, 1.0, 1.7, 2.5, 4.0, 8.0, 50.0]
    for weighting in ("hard", "soft"):
        found = [method_of(weighting=weighting, gamma_start=g, gamma_end=g).losses(tiny_batch()) for g in grid]
        for label in META:
            for figures in (
                [losses.terms[label].item() for losses in found],
                [losses.scalars[f"weighted/{label}"] for losses in found],
                [losses.scalars[f"weight/{label}"] for losses in found],
            ):
                assert figures == sorted(figures)
                assert figures[0] < figures[-1]


@pytest.mark.parametrize("weighting", ["soft", "hard"])
def test_below_all_costs_nothing_trains_and_nothing_breaks(weighting):
    method = method_of(weighting=weighting, gamma_start=1e-6, gamma_end=1e-6)
    losses = method.losses(tiny_batch())
    for label in META:
        assert losses.scalars[f"weight/{label}"] == 0
        assert losses.terms[label].item() == pytest.approx(1e-6 if weighting == "hard" else 5e-7, rel=1e-9)
        gradients = torch.autograd.grad(losses.terms[label], list(method.parameters()), retain_graph=True)
        assert all(torch.count_nonzero(gradient) == 0 for gradient in gradients)


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 40), st.floats(0.01, 50), st.sampled_from(["soft", "hard"]))
def test_weights_lie_between_0_and_1_and_minimise_what_a_pair_costs(cost, gamma, weighting):
    weight = pair_weights(torch.tensor(cost, dtype=torch.float64), gamma, weighting)
    assert 0 <= weight <= 1
    if weighting == "hard":
        assert weight in (0, 1)
    grid = torch.linspace(0, 1, 201, dtype=torch.float64)
    best = (grid * cost + regulariser(grid, gamma, weighting)).min()
    value = float(weight * cost + regulariser(weight, gamma, weighting))
    assert value <= best + 1e-9
    known = min(cost, gamma) if weighting == "hard" or cost > gamma else cost - cost**2 / (2 * gamma)
    if weighting == "soft" and cost > gamma:
        known = gamma / 2
    assert value == pytest.approx(known, abs=1e-9)


def test_golden_weights():
    costs = torch.tensor([0.0, 1.0, 3.0, 4.0, 5.0])
    assert pair_weights(costs, 4.0, "soft").tolist() == [1, 0.75, 0.25, 0, 0]
    assert pair_weights(costs, 4.0, "hard").tolist() == [1, 1, 1, 1, 0]
    assert regulariser(pair_weights(costs, 4.0, "soft"), 4.0, "soft").tolist() == [0, 0.125, 1.125, 2, 2]
    assert regulariser(pair_weights(costs, 4.0, "hard"), 4.0, "hard").tolist() == [0, 0, 0, 0, 4]
    # Rounding may take a cost below 0, never a weight above 1.
    assert pair_weights(torch.tensor([-1e-3]), 4.0, "soft").item() == 1


def test_weights_have_no_gradient():
    costs = torch.tensor([1.0, 3.0], requires_grad=True)
    for weighting in ("soft", "hard"):
        assert not pair_weights(costs, 2.0, weighting).requires_grad


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_gamma_goes_from_its_start_to_its_end(power):
    found = [age(step, 20, 3.0, 14.0, power) for step in range(21)]
    assert (found[0], found[-1]) == (3.0, 14.0)
    assert found == sorted(found)
    assert found[5] == pytest.approx(3 + 11 * 0.25**power, abs=1e-12)
    assert age(30, 20, 3.0, 14.0, power) == 14.0
    assert age(0, 0, 3.0, 14.0, power) == 3.0
    assert age(5, 20, 14.0, 3.0, power) == pytest.approx(14 - 11 * 0.25**power, abs=1e-12)


def test_the_step_of_the_batch_decides_on_gamma():
    method = method_of(gamma_start=1.0, gamma_end=5.0)
    early, late = (method.losses(tiny_batch(step=step)) for step in (5, 20))
    assert early.scalars["gamma"] == pytest.approx(3.0, abs=1e-12)
    assert late.scalars["gamma"] == 5.0
    same = method_of(gamma_start=3.0, gamma_end=3.0).losses(tiny_batch())
    assert values(early) == pytest.approx(values(same), abs=1e-12)
    assert all(late.scalars[f"weight/{label}"] > early.scalars[f"weight/{label}"] for label in META)


def test_only_positive_pairs_are_weighted():
    """A pair that is no positive keeps its whole place in the denominator, however costly it is."""
    method = method_of(weighting="hard", **MIDDLE)
    logits = torch.tensor([[0.0, 1.0, 0.5, -4.0]], dtype=torch.float64)
    positives = torch.tensor([[False, True, False, True]])
    candidates = torch.tensor([[False, True, True, True]])
    found, figures = method.image_loss("phase", logits, positives, candidates, tiny_batch())
    bottom = math.log(math.exp(1) + math.exp(0.5) + math.exp(-4))
    # The first positive costs less than γ, the second more.
    assert figures["weight"].item() == 0.5
    assert figures["weighted"].item() == pytest.approx((bottom - 1) / 2, abs=1e-12)
    assert figures["unweighted"].item() == pytest.approx((bottom - 1 + bottom + 4) / 2, abs=1e-12)
    assert found.item() == pytest.approx((bottom - 1 + GAMMA) / 2, abs=1e-12)


def test_the_correction_divides_by_the_mean_weight_of_all_ranks(monkeypatch):
    method = method_of(weighting="hard", **MIDDLE)
    logits = torch.tensor([[0.0, 1.0, 0.5, -4.0]], dtype=torch.float64, requires_grad=True)
    positives = torch.tensor([[False, True, False, True]])
    candidates = torch.tensor([[False, True, True, True]])
    one, _ = method.image_loss("phase", logits, positives, candidates, tiny_batch())
    # Another rank with six pairs, all of weight 1.
    monkeypatch.setattr("fewlabel.methods.spl.sum_across", lambda sums: sums + 6)
    two, figures = method.image_loss("phase", logits, positives, candidates, tiny_batch())
    assert figures["weight"].item() == pytest.approx(7 / 8)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (one, two)]
    torch.testing.assert_close(gradients[0] * 0.5, gradients[1] * 7 / 8)
    assert one.item() == two.item()


def test_a_missing_label_leaves_a_slice_its_own_views():
    method, batch = method_of(labels=["position"], **FAR), tiny_batch()
    batch.metadata["position"] = torch.tensor([100, 101, 102, 103])
    z = embeddings(method, batch).detach()
    logits = (z @ z.T / 0.07).fill_diagonal_(-torch.inf)
    expected = functional.cross_entropy(logits, (torch.arange(8) + 4) % 8)
    assert method.losses(batch).terms["position"].item() == pytest.approx(expected.item(), abs=1e-9)


def test_neither_names_of_classes_nor_orders_matter():
    method, batch, order = method_of(**MIDDLE), tiny_batch(), torch.tensor([2, 0, 3, 1])
    plain = values(method.losses(batch))
    renamed = dataclasses.replace(batch, metadata={name: ids * 1000 - 7 for name, ids in batch.metadata.items()})
    assert values(method.losses(renamed)) == plain
    mixed = dataclasses.replace(
        batch,
        views=tuple(view[order] for view in batch.views),
        slices=batch.slices[order],
        metadata={name: ids[order] for name, ids in batch.metadata.items()},
    )
    swapped = dataclasses.replace(batch, views=batch.views[::-1])
    for other in (mixed, swapped):
        assert values(method.losses(other)) == pytest.approx(plain, abs=1e-10)


GOLDEN = {"patient": 1.7562709592728427, "position": 1.7585947315338166, "phase": 1.7571148866623791}


def test_golden_values():
    method = toy_method("spl", dim=8, temperature=0.5, **TINY).train()
    batch = plant(method, tiny_batch(step=5), power=1.1, amplitude=1.0)
    assert values(method.losses(batch)) == pytest.approx(GOLDEN, abs=1e-8)


@pytest.mark.parametrize("weighting", ["soft", "hard"])
@pytest.mark.parametrize("gamma", [1.0, 1.9, 2.5, 9.0])
def test_equal_embeddings_give_the_collapse_value(weighting, gamma):
    options = {"weighting": weighting, "gamma_start": gamma, "gamma_end": gamma, "label_weights": (1.0, 0.0, 2.0)}
    method = method_of(**options)
    with torch.no_grad():
        method.image_head.second.weight.zero_()
    losses = method.losses(tiny_batch())
    cost = math.log(7)
    kept = cost if weighting == "hard" else cost - cost**2 / (2 * gamma)
    expected = kept if cost <= gamma else gamma if weighting == "hard" else gamma / 2
    assert losses.collapsed == pytest.approx(expected, abs=1e-12)
    assert sum(values(losses).values()) / 3 == pytest.approx(expected, abs=1e-9)
    assert losses.lower_bound == 0


def test_slices_are_embedded_as_in_training():
    method, batch = method_of(), tiny_batch()
    torch.testing.assert_close(method.embed(torch.cat(batch.views)), embeddings(method, batch))


def test_labels_are_chosen_as_in_gcl():
    meta = {"scanner": 3, "phase": 1, "position": 4, "patient": 9}
    assert toy_method("spl", meta=meta).uses_metadata == ("patient", "position")
    assert toy_method("spl", meta=meta, labels=["scanner", "patient"]).uses_metadata == ("scanner", "patient")
    for words, expected in (
        (["method=spl", "method.labels=position"], ("position",)),
        (["method=spl", "method.labels=[phase,patient]"], ("phase", "patient")),
        (["method=spl"], "auto"),
    ):
        assert resolve_plugin("fewlabel.methods", nest(words)["method"]).labels == expected


@pytest.mark.parametrize(
    ("given_settings", "faults", "words"),
    [
        ({"labels": []}, 1, "SPL needs at least one meta label"),
        ({"labels": ["scanner"]}, 1, 'no meta label "scanner"'),
        ({"label_weights": (1.0, 2.0)}, 1, "each label (patient, position, phase)"),
        ({"label_weights": (1.0, -2.0, 1.0)}, 1, "at least 0"),
        ({"label_weights": (0.0, 0.0, 0.0)}, 1, "not all 0"),
        ({"labels": ["scanner", "site"], "label_weights": (1.0,)}, 3, "scanner, site"),
    ],
)
def test_labels_and_weights_that_do_not_fit_are_reported_at_once(given_settings, faults, words):
    with pytest.raises(SettingsError) as caught:
        toy_method("spl", **given_settings)
    assert words in str(caught.value)
    assert len(caught.value.faults) == faults
    with pytest.raises(SettingsError, match="method=simclr"):
        toy_method("spl", meta={"patient": 1})


@pytest.mark.parametrize("word", ["gamma_start=0", "gamma_end=-1", "gamma_power=0", "temperature=0", "weighting=firm"])
def test_settings_out_of_range_are_refused(word):
    with pytest.raises(SettingsError, match=word.split("=", maxsplit=1)[0]):
        resolve_plugin("fewlabel.methods", nest(["method=spl", f"method.{word}"])["method"])


def test_defaults_are_those_of_the_specification():
    config = resolve_plugin("fewlabel.methods", "spl")
    assert (config.labels, config.label_weights, config.combine) == ("auto", (), "mean")
    assert (config.weighting, config.corrected, config.gamma_power) == ("soft", True, 0.5)
    assert (config.gamma_start, config.gamma_end) == (6.0, 14.0)
    # Or nothing would be learnt from a batch of the default size.
    assert config.gamma_start > math.log(2 * 32 - 1)
    assert (config.temperature, config.dim) == (0.07, 256)
    assert toy_method("spl").label_weights == dict.fromkeys(META, 1.0)
