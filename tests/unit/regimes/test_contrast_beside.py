"""The contrast beside pseudo-labels: slow loops, what it leaves alone, and what is refused."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from torch.nn import functional

from fewlabel.core.errors import SettingsError
from fewlabel.core.plugin_discovery import load_plugin
from fewlabel.core.settings.base import resolve_plugin
from fewlabel.nets.unet import UNetConfig
from fewlabel.regimes.contrast_beside import PIXELS
from kit.finetuning import FAMILY, TOTAL, build, toy_batch, toy_volumes, train
from kit.tiny_regimes import apart, tiny, tiny_batch

NAMES = ["fixmatch", "unimatch"]
LATE = 15


def views_of(batch):
    again = batch.unlabelled_again
    return again[:2] if len(again) > 1 else (batch.unlabelled, again[0])


def embedded(regime, batch):
    """Unit embeddings of both views of each unlabelled slice, one after the other, by a plain pass."""
    regime = copy.deepcopy(regime)
    maps = regime.network.encoder(torch.cat(views_of(batch)))[-1]
    means = maps.flatten(2).mean(dim=2)
    head = regime.beside.part.head
    rows = functional.linear(
        functional.relu(functional.linear(means, head.first.weight, head.first.bias)),
        head.second.weight,
        head.second.bias,
    )
    return [row / row.norm() for row in rows.detach()]


def slow_slices(rows, ids, temperature):
    """Mean over views of the mean over positives of -log softmax, itself left out of the denominator."""
    ids = [*ids, *ids]
    losses = []
    for i, one in enumerate(rows):
        scores = {j: float(one @ other) / temperature for j, other in enumerate(rows) if j != i}
        whole = math.log(sum(math.exp(score) for score in scores.values()))
        found = [whole - score for j, score in scores.items() if ids[j] == ids[i]]
        losses.append(sum(found) / len(found))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("labels", [("position",), ("position", "phase"), ()])
def test_slices_are_contrasted_by_the_formula_of_gcl(name, labels):
    regime = apart(tiny(name, contrast=0.3, contrast_labels=labels, contrast_temperature=0.4))
    batch = tiny_batch(regime, step=LATE, unlabelled=4)
    rows = embedded(regime, batch)
    kinds = [batch.unlabelled_metadata[label].tolist() for label in labels] or [range(4)]
    expected = sum(slow_slices(rows, ids, 0.4) for ids in kinds) / len(kinds)
    terms = regime.losses(batch)
    assert regime.metrics()["contrast"] == pytest.approx(expected, rel=1e-9)
    weight = 0.3 * regime.weight(LATE, TOTAL)
    assert 0 < weight <= 0.3
    assert float(terms["contrast"].detach()) == pytest.approx(weight * expected, rel=1e-9)


def slow_pixels(rows, labels, temperature):
    losses = []
    for i, one in enumerate(rows):
        if labels[i] == 0 or labels.count(labels[i]) == 1:
            continue
        scores = {j: float(one @ other) / temperature for j, other in enumerate(rows) if j != i}
        whole = math.log(sum(math.exp(score) for score in scores.values()))
        found = [whole - score for j, score in scores.items() if labels[j] == labels[i]]
        losses.append(sum(found) / len(found))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("name", NAMES)
def test_pixels_are_contrasted_by_the_formula_of_sscl(name, monkeypatch):
    regime = apart(tiny(name, contrast=0.3, contrast_of="pixels", contrast_temperature=0.4, threshold=0.6))
    kept = {}
    drawn = regime.beside.part._draw

    def spy(labels, generator):
        kept.setdefault("labels", []).append(labels)
        kept.setdefault("drawn", []).append(drawn(labels, generator))
        return kept["drawn"][-1]

    show = regime.beside.show
    monkeypatch.setattr(regime.beside.part, "_draw", spy)
    monkeypatch.setattr(
        regime.beside, "show", lambda features, labels: (kept.update(features=features), show(features, labels))
    )
    regime.losses(tiny_batch(regime, step=LATE))
    head, rows, labels, start = regime.beside.part.head, [], [], 0
    for whole, (places, classes) in zip(kept["labels"], kept["drawn"], strict=True):
        for row in range(len(whole)):
            seen = set()
            for place, one in zip(places[row].tolist(), classes[row].tolist(), strict=True):
                if one < 0:
                    continue
                assert int(whole[row, place]) == one
                assert place not in seen
                seen.add(place)
                vector = kept["features"][start + row].flatten(1)[:, place]
                out = head.second(torch.relu(head.first(vector))).detach()
                rows.append(out / out.norm())
                labels.append(one)
            for one in range(4):
                there = int((whole[row] == one).sum())
                assert classes[row].tolist().count(one) == min(there, PIXELS)
        start += len(whole)
    assert regime.metrics()["contrast"] == pytest.approx(slow_pixels(rows, labels, 0.4), rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_without_a_weight_nothing_of_it_is_there(name):
    plain, same = build(name), build(name, contrast=0.0, contrast_of="pixels", contrast_labels=["phase"])
    assert plain.state_dict().keys() == same.state_dict().keys()
    assert same.uses_metadata == ()
    assert train(plain, 3, first=12) == train(same, 3, first=12)
    assert set(same.losses(toy_batch(same, step=LATE))) == {"ce", "dice", "pseudo"}
    assert "contrast" not in same.metrics()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", ["slices", "pixels"])
def test_all_other_terms_and_the_running_statistics_are_those_without_it(name, what):
    plain, beside = (build(name, **given) for given in ({}, {"contrast": 0.5, "contrast_of": what}))
    known = plain.losses(toy_batch(plain, step=LATE))
    found = beside.losses(toy_batch(beside, step=LATE))
    for key, value in known.items():
        assert torch.equal(found[key], value), key
    buffers = dict(beside.named_buffers())
    for key, value in plain.named_buffers():
        assert torch.equal(buffers[key], value), key


@pytest.mark.parametrize("what", ["slices", "pixels"])
@pytest.mark.parametrize("name", NAMES)
def test_it_rests_in_the_first_phase_and_reaches_encoder_and_head_in_the_second(name, what):
    regime = build(name, contrast=0.5, contrast_of=what)
    assert "contrast" not in regime.losses(toy_batch(regime, step=0))
    term = regime.losses(toy_batch(regime, step=LATE))["contrast"]
    reached = torch.autograd.grad(term, list(regime.parameters())[:1] + list(regime.beside.parameters()))
    assert all(bool(gradient.abs().sum() > 0) for gradient in reached)
    regime.given_up.fill_(True)
    assert "contrast" not in regime.losses(toy_batch(regime, step=LATE))


@pytest.mark.parametrize("what", ["slices", "pixels"])
def test_steps_lower_it(what):
    regime = build("fixmatch", contrast=5.0, contrast_of=what, guard=0.0, contrast_temperature=0.5)
    before = float(regime.losses(toy_batch(regime, step=LATE))["contrast"].detach())
    for _ in range(8):
        train(regime, 1, first=LATE)
    after = float(regime.losses(toy_batch(regime, step=LATE))["contrast"].detach())
    assert after < 0.98 * before


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", ["slices", "pixels"])
def test_volumes_work(name, what):
    regime = build(name, network=UNetConfig(width=4, depth=2, ndim=3), contrast=0.5, contrast_of=what)
    term = regime.losses(toy_volumes(regime, step=LATE))["contrast"]
    assert bool(torch.isfinite(term))
    assert float(term.detach()) > 0


def test_where_no_pixel_has_a_class_it_is_nothing():
    regime = build("fixmatch", contrast=0.5, contrast_of="pixels", threshold=1.1)
    batch = toy_batch(regime, step=LATE)
    batch = dataclasses.replace(batch, labels=torch.full_like(batch.labels, 255))
    term = regime.losses(batch)["contrast"]
    assert float(term.detach()) == 0
    term.backward()


@pytest.mark.parametrize("what", ["slices", "pixels"])
def test_saved_and_restored_it_goes_on_the_same(what):
    regime = build("unimatch", contrast=0.5, contrast_of=what)
    train(regime, 2, first=12)
    other = build("unimatch", contrast=0.5, contrast_of=what, seed=3)
    other.load_state_dict(regime.state_dict())
    assert train(regime, 2, first=14) == train(other, 2, first=14)


# What is refused.


def faults(meta_labels, rows=8, **given):
    config = resolve_plugin(FAMILY, {"name": "fixmatch", **given})
    return [
        (fault.where, fault.problem) for fault in load_plugin(FAMILY, "fixmatch").data_faults(config, meta_labels, rows)
    ]


def test_labels_that_the_data_lack_and_single_slices_are_told_at_once():
    found = faults({"patient": 5, "phase": 1}, 1, contrast=0.1, contrast_labels=["patient", "phase", "scanner"])
    assert [where for where, _ in found] == ["regime.contrast_labels", "regime.contrast_labels", "unlabelled_batch"]
    assert '"phase" must have at least 2 classes' in found[0][1]
    assert 'no meta label "scanner"' in found[1][1]


@pytest.mark.parametrize("given", [{}, {"contrast": 0.1, "contrast_of": "pixels"}])
def test_without_a_contrast_of_slices_nothing_is_asked_of_the_data(given):
    assert faults({}, 1, contrast_labels=["scanner"], **given) == []


def test_it_needs_pseudo_labels_to_be_beside():
    with pytest.raises(SettingsError, match="unlabelled_weight must be above 0"):
        build("fixmatch", contrast=0.1, unlabelled_weight=0.0)


def test_a_batch_without_metadata_is_refused():
    regime = build("fixmatch", contrast=0.1)
    batch = dataclasses.replace(toy_batch(regime, step=LATE), unlabelled_metadata=None)
    with pytest.raises(ValueError, match="metadata"):
        regime.losses(batch)
