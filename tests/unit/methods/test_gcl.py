import dataclasses
import math

import pytest
import torch
from torch.nn import functional

from fewlabel.core.errors import SettingsError
from fewlabel.core.settings.base import resolve_plugin
from fewlabel.core.settings.value_syntax import nest
from fewlabel.gradients.combine import MeanCombiner
from fewlabel.gradients.mitigator import GradMitigator
from fewlabel.methods.gcl.pacing import pool_size
from fewlabel.nets.projection_heads import pixel_rows
from fewlabel.nets.unet import UNetConfig
from kit.golden import plant
from kit.pretraining import META, settle, toy_batch, toy_method

TINY = {"size": (8, 8), "network": UNetConfig(width=4, depth=2), "dtype": torch.float64}
SWITCHES = {"pool": 3, "lambda0": 0.5}


def tiny_batch(**options):
    return toy_batch(4, size=(8, 8), dtype=torch.float64, **options)


def values(losses):
    return {name: term.item() for name, term in losses.terms.items()}


def reference(method, batch, label, *, keep, path=None, all_positives=False, temperature=0.5):
    """Image and pixel loss of one label by loops: eval mode, one partner per image, every pixel an anchor."""
    maps = method.encoder(torch.cat(batch.views))
    rows = pixel_rows(maps[-1])
    z_map = method.image_head(rows).output
    z = functional.normalize(z_map.mean(1), dim=1)
    v = functional.normalize(method.pixel_branch.head(rows).output, dim=-1)
    ids = batch.metadata[label].repeat(2) if label else batch.slices.repeat(2)
    slices = batch.slices.repeat(2)
    count, pixels, pool_size = len(z), rows.shape[1], method.pixel_branch.settings.pool
    scores = torch.rand(count, count, generator=batch.generator)
    image = pixel = 0.0
    for i in range(count):
        positives = [j for j in range(count) if j != i and (ids[j] == ids[i] or slices[j] == slices[i])]
        logits = z[i] @ z.T / temperature
        others = torch.tensor([j for j in range(count) if j != i])
        image += sum(logits[others].logsumexp(0) - logits[j] for j in positives) / len(positives) / count
        foreign = [j for j in positives if slices[j] != slices[i]] or positives
        j = max(foreign, key=lambda k, i=i: float(scores[i, k]))
        for p in range(pixels):
            affinity = functional.cosine_similarity(z_map[i, p][None], z_map[j], dim=1)
            pool = affinity.argsort(descending=True)[:pool_size].tolist()
            outside = [q for q in range(pixels) if q not in pool]

            def pair(q, anchor, positive, keys, i=i, j=j, pool=pool, outside=outside):
                rest = [keys[n] for n in (outside if not all_positives else outside + [o for o in pool if o != q])]
                own = anchor @ positive / temperature
                return torch.logsumexp(torch.stack([own, *[anchor @ k / temperature for k in rest]]), 0) - own

            if path is not None:
                norms = {}
                for q in pool:
                    fixed = v.detach()
                    alone = fixed[i, p].clone().requires_grad_()
                    anchor = alone if path == "embedding" else v[i, p]
                    loss = pair(q, anchor, fixed[j, q], fixed[j])
                    to = alone if path == "embedding" else method.encoder.blocks[-1].conv2.weight
                    norms[q] = torch.autograd.grad(loss, to, retain_graph=True)[0].norm().item()
                kept = sorted(pool, key=norms.__getitem__)[:keep]
            else:
                kept = pool
            losses = [pair(q, v[i, p], v[j, q], v[j]) for q in kept]
            pixel += sum(losses) / len(losses) / (count * pixels)
    return image, pixel


@pytest.mark.parametrize("path", ["anchor", "embedding"])
@pytest.mark.parametrize("denominator", ["one_positive", "all"])
def test_one_step_equals_the_loops_with_filter_and_gradients(path, denominator):
    options = {"filter_path": path, "pixel_denominator": denominator, "anchors": 64}
    method = toy_method("gcl", labels=["position"], **options, **SWITCHES, **TINY)
    settle(method, tiny_batch())
    losses = method.losses(tiny_batch(step=0))
    assert losses.scalars["pool_size"] == 2
    image, pixel = reference(method, tiny_batch(), "position", keep=2, path=path, all_positives=denominator == "all")
    assert losses.scalars["image/position"] == pytest.approx(image.item(), abs=1e-10)
    assert losses.scalars["pixel/position"] == pytest.approx(pixel.item(), abs=1e-10)
    torch.testing.assert_close(losses.terms["position"], image + pixel, rtol=0, atol=1e-10)
    parameters = list(method.parameters())
    found = torch.autograd.grad(losses.terms["position"], parameters)
    expected = torch.autograd.grad(image + pixel, parameters)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("denominator", ["one_positive", "all"])
def test_one_step_without_filter_equals_the_loops(denominator):
    options = {"filter": False, "pixel_denominator": denominator, "pixel_weight": 0.3, "pool": 3, "labels": []}
    method = settle(toy_method("gcl", **options, **TINY), tiny_batch())
    losses = method.losses(tiny_batch())
    image, pixel = reference(method, tiny_batch(), None, keep=3, all_positives=denominator == "all")
    torch.testing.assert_close(losses.terms["views"], image + 0.3 * pixel, rtol=0, atol=1e-10)


GOLDEN = {
    False: {"patient": 4.566486657503665, "position": 4.56660336501505, "phase": 4.566902993841415},
    True: {"patient": 4.697029276161102, "position": 4.2663189432591310, "phase": 5.456753719016226},
}


@pytest.mark.parametrize("centre", [False, True])
def test_golden_values(centre):
    method = toy_method("gcl", pool=3, anchors=8, centre=centre, **TINY).train()
    batch = plant(method, tiny_batch())
    assert values(method.losses(batch)) == pytest.approx(GOLDEN[centre], abs=1e-8)


def test_the_base_of_the_ablation_is_simclr():
    """At equal temperature: simclr has one positive per view and a default of its own."""
    base = toy_method("gcl", labels=[], pixel=False, temperature=0.2).train()
    simclr = toy_method("simclr", temperature=0.2).train()
    simclr.load_state_dict(base.state_dict(), strict=True)
    assert values(base.losses(toy_batch())) == values(simclr.losses(toy_batch()))
    assert set(base.state_dict()) == set(simclr.state_dict())


@pytest.mark.parametrize(
    ("switches", "terms", "combiner"),
    [
        ({"labels": [], "pixel": False}, ("views",), MeanCombiner),
        ({"labels": ["position"], "pixel": False}, ("position",), MeanCombiner),
        ({"combine": "mean", "pixel": False}, tuple(META), MeanCombiner),
        ({"pixel": False}, tuple(META), GradMitigator),
        ({"labels": [], "filter": False}, ("views",), MeanCombiner),
        ({"labels": []}, ("views",), MeanCombiner),
        ({}, tuple(META), GradMitigator),
    ],
)
def test_switches_make_every_row_of_the_ablation(switches, terms, combiner):
    method = toy_method("gcl", **switches).train()
    losses = method.losses(toy_batch())
    assert tuple(losses.terms) == terms
    assert type(method.combiner()) is combiner
    assert method.uses_metadata == tuple(name for name in terms if name != "views")
    pixel = switches.get("pixel", True)
    assert ("pool_size" in losses.scalars) == pixel
    if pixel:
        kept = 16 if switches.get("filter") is False else 4
        assert losses.scalars["pool_size"] == kept
        assert losses.scalars["pool_kept"] == kept / 16


def test_mitigator_gets_its_settings():
    method = toy_method("gcl", granularity="layer", beta=0.3, initial_target=0.2, labels=["phase", "patient"])
    combiner = method.combiner()
    assert (combiner.granularity, combiner.beta, combiner.initial_target) == ("layer", 0.3, 0.2)
    assert combiner.terms == ("phase", "patient")


def test_defaults_are_those_of_the_specification():
    config = resolve_plugin("fewlabel.methods", "gcl")
    found = {key: getattr(config, key) for key in ("temperature", "dim", "beta", "initial_target", "pool", "lambda0")}
    assert found == {
        "temperature": 0.5,
        "dim": 128,
        "beta": 0.01,
        "initial_target": 0.0,
        "pool": None,
        "lambda0": 0.25,
    }
    assert (config.combine, config.granularity, config.filter_path, config.pace) == (
        "mitigator",
        "tensor",
        "anchor",
        "linear",
    )
    assert (config.pixel_denominator, config.pixel_weight, config.partners) == ("one_positive", 1.0, 1)
    assert config.centre is False


def test_labels_are_read_from_the_command_line():
    for words, expected in (
        (["method=gcl", "method.labels=[position]"], ("position",)),
        (["method=gcl", "method.labels=position"], ("position",)),
        (["method=gcl", "method.labels=[]"], ()),
        (["method=gcl", "method.labels=auto"], "auto"),
        (["method=gcl"], "auto"),
    ):
        assert resolve_plugin("fewlabel.methods", nest(words)["method"]).labels == expected


def test_auto_takes_the_known_labels_with_two_classes_or_more():
    meta = {"scanner": 3, "phase": 1, "position": 4, "patient": 9}
    assert toy_method("gcl", meta=meta).uses_metadata == ("patient", "position")
    assert toy_method("gcl", meta=meta, labels=["scanner", "patient"]).uses_metadata == ("scanner", "patient")


def test_missing_labels_are_reported_all_at_once_with_what_there_is():
    with pytest.raises(SettingsError) as caught:
        toy_method("gcl", meta={"position": 4, "phase": 1}, labels=["scanner", "phase", "position"], pool=64)
    text = str(caught.value)
    assert 'no meta label "scanner"' in text
    assert "position (4 classes), phase (1 class)" in text
    assert '"phase" must have at least 2 classes' in text
    assert "method.pool" in text
    assert len(caught.value.faults) == 3
    with pytest.raises(SettingsError, match="method=simclr"):
        toy_method("gcl", meta={})


def test_a_class_of_its_own_for_every_slice_gives_the_loss_of_views():
    batch = toy_batch()
    batch.metadata["position"] = torch.arange(8) + 100
    one = toy_method("gcl", labels=["position"], pixel=False).train()
    two = toy_method("simclr", temperature=0.5).train()
    two.load_state_dict(one.state_dict())
    assert one.losses(batch).terms["position"].item() == two.losses(batch).terms["views"].item()


def test_only_equality_of_ids_matters():
    batch, renamed = toy_batch(), toy_batch()
    renamed.metadata.update({name: ids * 1000 - 7 for name, ids in batch.metadata.items()})
    method = toy_method("gcl").train()
    assert values(method.losses(batch)) == values(method.losses(renamed))


def test_losses_know_their_collapse_value_and_lower_bound():
    batch = toy_batch()
    losses = toy_method("gcl").train().losses(batch)
    # Eight slices: 4 patients, 4 positions, 2 phases; pools of 16 on a map of 64 pixels.
    assert losses.collapsed == pytest.approx(math.log(15) + math.log(49), abs=1e-12)
    expected = (math.log(3) + math.log(3) + math.log(7)) / 3 + math.log1p(48 * math.exp(-2 / 0.5))
    assert losses.lower_bound == pytest.approx(expected, abs=1e-12)
    light = toy_method("gcl", pixel_weight=0.1).train().losses(batch)
    assert light.collapsed == pytest.approx(math.log(15) + 0.1 * math.log(49), abs=1e-12)
    pixels = math.log1p(48 * math.exp(-2 / 0.5))
    assert losses.lower_bound - light.lower_bound == pytest.approx(0.9 * pixels, abs=1e-12)
    image = toy_method("gcl", pixel=False).train().losses(batch)
    assert image.collapsed == pytest.approx(math.log(15), abs=1e-12)


def test_no_gradient_reaches_the_image_head_through_affinity():
    method = toy_method("gcl", pixel_weight=1.0).train()
    branch = method.pixel_branch
    seen = {}
    plain = branch.loss

    def spy(*arguments):
        seen["loss"] = plain(*arguments)
        return seen["loss"]

    branch.loss = spy
    method.losses(toy_batch())
    heads = list(method.image_head.parameters())
    assert all(g is None for g in torch.autograd.grad(seen["loss"], heads, retain_graph=True, allow_unused=True))
    reached = torch.autograd.grad(seen["loss"], list(method.encoder.parameters()))
    assert all(g.abs().sum() > 0 for g in reached)


def test_filter_at_the_end_of_its_pace_is_no_filter():
    filtered, plain = toy_method("gcl").train(), toy_method("gcl", filter=False).train()
    last = toy_batch(step=20, total_steps=20)
    end = filtered.losses(last)
    assert end.scalars["pool_kept"] == 1.0
    assert values(end) == pytest.approx(values(plain.losses(toy_batch(step=20, total_steps=20))), abs=1e-6)
    start = values(filtered.losses(toy_batch()))
    assert start != pytest.approx(values(plain.losses(toy_batch())), abs=1e-4)
    sizes = [filtered.pixel_branch.kept(step, 20) for step in range(21)]
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (4, 16)


def test_the_pace_is_the_one_asked_for():
    sizes = {}
    for pace in ("linear", "root", "log", "exp", "constant"):
        branch = toy_method("gcl", pace=pace, lambda0=0.125).pixel_branch
        sizes[pace] = [branch.kept(step, 20) for step in range(21)]
        assert sizes[pace] == [pool_size(pace, 16, step, 20, 0.125) for step in range(21)]
    assert len(set(map(tuple, sizes.values()))) == 5


@pytest.mark.parametrize("path", ["anchor", "embedding"])
def test_each_path_of_the_filter_trains_under_autocast(path):
    method = toy_method("gcl", filter_path=path).train()
    with torch.autocast("cpu", torch.bfloat16):
        losses = method.losses(toy_batch())
    sum(losses.terms.values()).backward()
    assert all(torch.isfinite(tensor.grad).all() for tensor in method.parameters())


def test_several_partners_are_averaged_and_a_lack_of_them_is_no_fault():
    one = toy_method("gcl", partners=1, filter=False).train()
    many = toy_method("gcl", partners=14, filter=False).train()
    found = many.losses(toy_batch())
    assert all(torch.isfinite(term) for term in found.terms.values())
    # Patients have two slices: two foreign partners only, so 2 and 14 partners are the same mean.
    two = toy_method("gcl", partners=2, filter=False).train().losses(toy_batch())
    assert found.terms["patient"].item() == pytest.approx(two.terms["patient"].item(), abs=1e-6)
    assert one.losses(toy_batch()).terms["patient"].item() != pytest.approx(two.terms["patient"].item(), abs=1e-6)


def test_invariant_to_exchanging_the_two_views():
    batch = toy_batch(dtype=torch.float64)
    swapped = dataclasses.replace(batch, views=batch.views[::-1])
    method = toy_method("gcl", pixel=False, dtype=torch.float64).train()
    assert values(method.losses(batch)) == pytest.approx(values(method.losses(swapped)), abs=1e-10)


def test_memory_of_the_pixel_loss_grows_linearly_with_anchors():
    """The largest tensor kept for the backward pass, by the number of its elements."""

    def largest(anchors):
        sizes = []
        method = toy_method("gcl", anchors=anchors, size=(64, 64), filter=False).train()
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: sizes.append(tensor.numel()) or tensor, lambda tensor: tensor
        ):
            branch = method.pixel_branch
            rows = torch.randn(8, 256, 16, requires_grad=True)
            ids = torch.arange(8)
            step = branch.prepare(rows, torch.randn(8, 256, 128), None, ids, torch.Generator(), 16)
            sizes.clear()
            mask = ids[:, None] != ids
            branch.loss(step, mask, torch.zeros(8, 8, dtype=torch.bool), torch.rand(8, 8))
        return sum(sizes)

    fixed = largest(16)
    growth = [largest(16 * factor) - fixed for factor in (2, 4, 8)]
    assert growth[1] == pytest.approx(3 * growth[0], rel=0.05)
    assert growth[2] == pytest.approx(7 * growth[0], rel=0.05)
