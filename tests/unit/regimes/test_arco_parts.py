"""Parts of ARCO: rows of two streams, mixing, relations, and the measured variance of the gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from fewlabel.nets.representation_head import Representation
from fewlabel.objectives.stratified_sampling import pixel_strata
from fewlabel.regimes.arco import gradient_variance as _arco_variance
from fewlabel.regimes.arco import relations as _arco_relations
from fewlabel.regimes.arco import stream_rows as _arco_rows
from fewlabel.regimes.arco.contrast import Opponents
from fewlabel.regimes.arco.gradient_variance import gradient_variance
from fewlabel.regimes.arco.relations import InstanceDiscrimination, owners_of, patches
from fewlabel.regimes.arco.settings import ArcoSettings
from fewlabel.regimes.arco.stream_rows import Mixture, at_places, join_streams, own_index


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- rows ------------------------------------------------------------------------------------------------------------


def test_on_one_process_rows_are_as_they_stand():
    rows = torch.arange(5)
    assert join_streams(rows, 2) is rows
    assert own_index(2, 3).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("labelled", "unlabelled"), [(2, 3), (0, 2), (3, 0)])
def test_joined_rows_are_found_again_on_their_rank(monkeypatch, labelled, unlabelled):
    ranks = 3
    # Rank r holds labelled rows 100 + r·n ... and unlabelled rows 500 + r·u ...
    held = [
        [100 + r * labelled + i for i in range(labelled)] + [500 + r * unlabelled + i for i in range(unlabelled)]
        for r in range(ranks)
    ]
    joined = list(range(100, 100 + ranks * labelled)) + list(range(500, 500 + ranks * unlabelled))
    monkeypatch.setattr(_arco_rows, "world_size", lambda: ranks)
    seen = []
    for r in range(ranks):
        monkeypatch.setattr(_arco_rows, "rank", lambda r=r: r)
        index = own_index(labelled, unlabelled).tolist()
        assert len(index) == len(joined)
        for row, place in zip(joined, index, strict=True):
            if place >= 0:
                assert held[r][place] == row
                seen.append(row)
    assert sorted(seen) == sorted(joined)


@pytest.mark.parametrize("space", [(8, 12), (4, 8, 6)])
def test_a_place_has_the_value_of_its_middle(space):
    places = tuple(length // 2 for length in space)
    maps = torch.arange(math.prod(space)).view(1, *space)
    found = at_places(maps, places, 1)
    assert found.shape == (1, *places)
    corner = at_places(maps, tuple(1 for _ in space), 1)
    assert int(corner) == int(maps[(0, *(length // 2 for length in space))])
    assert torch.equal(found, maps[(slice(None), *(slice(1, None, 2) for _ in space))])
    assert torch.equal(at_places(maps, space, 1), maps)
    # Channels before the spatial axes are left alone.
    assert torch.equal(at_places(maps[:, None], places, 2)[:, 0], found)


# --- mixing ----------------------------------------------------------------------------------------------------------


def scene(space=(8, 8)):
    labels = torch.zeros(4, *space, dtype=torch.int64)
    labels[:, 2:6, 2:6] = torch.tensor([1, 2, 3, 2]).view(-1, *[1] * len(space))
    labels[1, 0] = 3
    return labels


@pytest.mark.parametrize("kind", ["cutmix", "classmix"])
@pytest.mark.parametrize("space", [(8, 8), (8, 8, 4)])
def test_every_pixel_is_the_row_s_own_or_its_partner_s_in_all_maps_alike(kind, space):
    labels = scene(space)
    mixture = Mixture(kind, labels, 4, torch.Generator().manual_seed(0))
    images = noise(4, 2, *space)
    mixed, mixed_labels = mixture(images), mixture(labels)
    for row, partner in enumerate(mixture.partner.tolist()):
        assert partner != row
        kept = mixture.kept[row]
        assert torch.equal(mixed[row], torch.where(kept, images[row], images[partner]))
        assert torch.equal(mixed_labels[row], torch.where(kept, labels[row], labels[partner]))


def test_cutmix_keeps_half_of_the_image():
    mixture = Mixture("cutmix", torch.zeros(4, 32, 32, dtype=torch.int64), 4, torch.Generator().manual_seed(0))
    assert float(mixture.kept.double().mean()) == pytest.approx(0.5, abs=0.05)


def test_classmix_keeps_half_of_the_classes_that_a_row_has():
    labels = scene()
    chosen = set()
    for seed in range(30):
        kept = Mixture("classmix", labels, 4, torch.Generator().manual_seed(seed)).kept
        for row, wanted in enumerate((1, 2, 1, 1)):
            classes = labels[row][kept[row]].unique().tolist()
            assert len(classes) == wanted
            assert torch.equal(kept[row], torch.isin(labels[row], torch.tensor(classes)))
            if row == 1:
                chosen.add(tuple(classes))
    assert chosen == {(0, 2), (0, 3), (2, 3)}


# --- relations -------------------------------------------------------------------------------------------------------


def relations(rows=2, **settings):
    torch.manual_seed(0)
    return InstanceDiscrimination(5, rows, ArcoSettings(dim=4, memory=3, **settings)).double()


def slow_relations(part, student, teacher, names, past):
    """ARCO's L_inst by a loop; ``past`` are (slice, row) pairs, oldest first."""

    def through(head, rows):
        hidden = functional.layer_norm(
            rows @ head.first.weight.T, head.norm.normalized_shape, head.norm.weight, head.norm.bias
        )
        return hidden.relu() @ head.second.weight.T + head.second.bias

    said = functional.normalize(through(part.predictor, through(part.projector, student)), dim=-1)
    told = functional.normalize(through(part.teacher.network, teacher), dim=-1).detach()
    total = []
    for i, owner in enumerate(names):
        mined = [row for other, row in past if other != owner]
        if not mined:
            mined = [row for j, other in enumerate(names) for row in told[j] if other != owner]
        for w, v in zip(said[i], told[i], strict=True):
            t = torch.stack([v @ row for row in mined]).div(0.01).log_softmax(0)
            s = torch.stack([w @ row for row in mined]).div(0.1).log_softmax(0)
            total.append((t.exp() * (t - s)).sum())
    return torch.stack(total).mean(), [(owner, row) for owner, rows in zip(names, told, strict=True) for row in rows]


def test_the_relational_loss_is_that_of_a_loop_and_the_bank_is_of_other_steps():
    part = relations(momentum=1.0)
    with torch.no_grad():
        for tensor in part.teacher.parameters():
            tensor.add_(0.1 * noise(*tensor.shape, seed=5))
    past = []
    for step, names in enumerate(([4, 7], [7, 9], [4, 9])):
        student, teacher = noise(2, 2, 5, seed=step), noise(2, 2, 5, seed=10 + step)
        expected, rows = slow_relations(part, student, teacher, names, past)
        found = part.loss(student, teacher, owners_of(torch.tensor(names)))
        assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-9)
        mined = part.mined(owners_of(torch.tensor(names)))
        # Once there are past rows of others, the step's own are not met.
        assert bool(mined[:, 6:].any()) == (step == 0)
        part.follow(step)
        past = [*past, *rows][-6:]
        assert [o for o, _ in past] == [int(o) for o in part.bank.owners.roll(-int(part.bank.pointer)) if int(o) >= 0]


def test_equal_heads_views_and_temperatures_cost_nothing_without_a_predictor():
    part = relations(student_temperature=0.1, teacher_temperature=0.1)
    part.predictor = torch.nn.Identity()
    rows = noise(3, 2, 5)
    loss = part.loss(rows, rows, owners_of(torch.tensor([1, 2, 3])))
    assert float(loss.detach()) == pytest.approx(0, abs=1e-12)


def test_gradients_reach_projector_and_predictor_and_no_teacher():
    part = relations()
    teacher = noise(3, 2, 5, seed=1).requires_grad_()
    student = noise(3, 2, 5).requires_grad_()
    part.loss(student, teacher, owners_of(torch.tensor([1, 2, 3]))).backward()
    assert teacher.grad is None
    for tensor in [student, *part.projector.parameters(), *part.predictor.parameters()]:
        assert float(tensor.grad.abs().sum()) > 0
    assert all(tensor.grad is None and not tensor.requires_grad for tensor in part.teacher.parameters())


def test_a_slice_alone_has_nothing_to_be_alike_to():
    part = relations()
    loss = part.loss(noise(1, 2, 5), noise(1, 2, 5), owners_of(torch.tensor([1])))
    loss.backward()
    assert float(loss.detach()) == 0


def test_owners_know_which_rows_are_this_rank_s(monkeypatch):
    monkeypatch.setattr(_arco_relations, "rank", lambda: 1)
    monkeypatch.setattr(_arco_relations, "gather", lambda rows: torch.cat([rows + 10, rows]))
    owners = owners_of(torch.tensor([3, 4]))
    assert (owners.joined.tolist(), owners.start, owners.stop) == ([13, 14, 3, 4], 2, 4)


@pytest.mark.parametrize("space", [(6, 8), (4, 6, 8)])
def test_patches_are_means_in_raster_order(space):
    maps = noise(2, 3, *space)
    found = patches(maps, 2)
    assert found.shape == (2, 2 ** len(space), 3)
    half = tuple(slice(0, length // 2) for length in space)
    torch.testing.assert_close(found[:, 0], maps[(slice(None), slice(None), *half)].flatten(2).mean(2))
    last = (*half[:-1], slice(space[-1] // 2, None))
    torch.testing.assert_close(found[:, 1], maps[(slice(None), slice(None), *last)].flatten(2).mean(2))
    torch.testing.assert_close(patches(maps, 1)[:, 0], maps.flatten(2).mean(2))


# --- variance --------------------------------------------------------------------------------------------------------


def measured(labels, seed=0, queries=16, grid=2, counted=(True, True), repeats=64, **maps):
    """Variance under each sampling of a step with random opponents, and the step's tensors."""
    student = Representation(
        maps.get("hidden", noise(len(labels), 3, *labels.shape[1:], seed=1)),
        maps.get("output", noise(len(labels), 4, *labels.shape[1:], seed=2)),
    )
    opponents = Opponents(
        functional.normalize(noise(2, 4, seed=3), dim=-1),
        functional.normalize(noise(2, 9, 4, seed=4), dim=-1),
        torch.tensor([9, 9]),
        torch.tensor(counted),
    )
    generator = torch.Generator().manual_seed(seed)
    found = gradient_variance(
        student, labels, opponents, queries=queries, grid=grid, temperature=0.5, generator=generator
    )
    return found, student, opponents


def pixel_gradients(student, opponents, labels, label):
    """∂ℓ/∂W of every pixel of a class by autograd, W the last layer: (pixels, d·h)."""
    weight = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    rows = []
    for image, y, x in (labels == label).nonzero().tolist():
        hidden, output = student.hidden[image, :, y, x], student.output[image, :, y, x]
        # The layer's output at this pixel, as a function of a change of its weight.
        query = functional.normalize(output + weight @ hidden, dim=0)
        keys = torch.cat([opponents.prototypes[label, None], opponents.negatives[label]])
        logits = keys @ query / 0.5
        rows.append(torch.autograd.grad(logits.logsumexp(0) - logits[0], weight)[0].flatten())
    return torch.stack(rows)


def test_the_variance_is_that_of_the_theorem(monkeypatch):
    monkeypatch.setattr(_arco_variance, "REPEATS", 3000)
    labels = (torch.arange(2 * 64).view(2, 8, 8) % 8 > 3).long()
    found, student, opponents = measured(labels, queries=32)
    strata = pixel_strata(labels, 2, 2)
    naive = stratified = antithetic = whole = 0.0
    for label in (0, 1):
        rows = pixel_gradients(student, opponents, labels, label)
        place = {int(p): i for i, p in enumerate((labels.flatten() == label).nonzero().flatten())}
        total = len(rows)
        whole = whole + rows.mean(dim=0) / 2
        naive += float(rows.var(dim=0, unbiased=False).sum()) / 32 / 4
        for m in range(strata.sizes.shape[1]):
            size = int(strata.sizes[label, m])
            if size == 0:
                continue
            start = int(strata.starts[label, m])
            cell = rows[[place[int(p)] for p in strata.pixels(np.arange(start, start + size))]]
            centred = cell - cell.mean(dim=0)
            stratified += size / total * float(centred.square().mean(dim=0).sum()) / 32 / 4
            paired = float((centred * (centred + centred.flip(0))).mean(dim=0).sum())
            antithetic += size / total * paired / 32 / 4
    length = float(whole.square().sum())
    for name, variance in (("ns", naive), ("sg", stratified), ("sag", antithetic)):
        assert float(found[name]) == pytest.approx(variance / length, rel=0.06)
    assert stratified < naive


def test_classes_that_do_not_count_add_nothing():
    labels = (torch.arange(64).view(1, 8, 8) % 8 > 3).long()
    none, _, _ = measured(labels, counted=(False, False))
    assert all(float(none[name]) == 0 for name in none)
    # Where the other class does not count, or has no pixel, its embeddings make no difference.
    alone = torch.where(labels == 0, 0, 255)
    other = {"output": torch.where(labels[:, None] == 0, noise(1, 4, 8, 8, seed=2), noise(1, 4, 8, 8, seed=9))}
    for given, counted in ((labels, (True, False)), (alone, (True, True))):
        first, second = (measured(given, counted=counted, **maps)[0] for maps in ({}, other))
        assert all(float(first[name]) == float(second[name]) > 0 for name in first)
    assert float(measured(labels)[0]["ns"]) != float(measured(labels, **other)[0]["ns"])


def test_a_map_constant_within_cells_has_no_variance_under_strata():
    labels = torch.zeros(2, 8, 8, dtype=torch.int64)
    blocks = [
        noise(2, channels, 2, 2, seed=channels).repeat_interleave(4, 2).repeat_interleave(4, 3) for channels in (3, 4)
    ]
    found, _, _ = measured(labels, hidden=blocks[0], output=blocks[1], counted=(True, False))
    assert float(found["sg"]) < 1e-25
    assert float(found["sag"]) < 1e-25
    assert float(found["ns"]) > 1e-4
