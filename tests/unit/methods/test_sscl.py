"""SSCL: its two stages, and the local loss of every sampling and form against loops over pixels."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch.nn import functional

from fewlabel.core.errors import SettingsError
from fewlabel.core.plugin_discovery import load_plugin
from fewlabel.core.settings.base import resolve_plugin
from fewlabel.methods import sscl
from fewlabel.methods.base import DataFacts
from fewlabel.nets.projection_heads import pixel_rows
from fewlabel.nets.unet import UNet, UNetConfig, UNetDecoder, UNetEncoder
from kit.golden import plant
from kit.pretraining import META, settle, stage_steps, toy_batch, toy_masks, toy_method

SIZE = (8, 8)
TINY = {"size": SIZE, "network": UNetConfig(width=4, depth=2), "dtype": torch.float64}
GLOBAL, LOCAL, TOTAL = 0, 15, 20


def batch_of(slices=2, *, masks=None, second=None, **options):
    """A labelled batch of 8x8 slices; ``masks`` for both views, or another for the second."""
    batch = toy_batch(slices, step=LOCAL, total_steps=TOTAL, size=SIZE, dtype=torch.float64, labelled=True, **options)
    if masks is not None:
        batch = dataclasses.replace(batch, masks=(masks, masks if second is None else second))
    return batch


def method_of(**settings):
    return settle(toy_method("sscl", **settings, **TINY), batch_of(4))


def units(method, batch):
    """(views, pixels, dim) unit embeddings of all pixels, and their classes (views, pixels)."""
    rows = pixel_rows(method.decoder(method.encoder(torch.cat(batch.views)))[-1])
    return functional.normalize(method.local_head(rows).output, dim=-1), torch.cat(batch.masks).flatten(1)


def naive(rows, labels, form="code", temperature=0.1):
    """The loss over one set of pixels by loops over anchors; None without one."""
    found, logits, every = [], rows @ rows.T / temperature, range(len(labels))
    for u in [u for u in every if labels[u] != 0]:
        same = [a for a in every if a != u and labels[a] == labels[u]]
        rest = [a for a in every if labels[a] != labels[u]]
        if not same or (form == "paper" and not rest):
            continue
        if form == "code":
            found.append(logits[u, same + rest].logsumexp(0) - logits[u, same].mean())
        else:
            found.append((logits[u, rest].logsumexp(0) - logits[u, same].logsumexp(0)) / len(same))
    return torch.stack(found).mean() if found else None


def mean_of(parts):
    return torch.stack([part for part in parts if part is not None]).mean()


def local(method, batch):
    return method.losses(batch).terms["pixels"]


def squares(*corners, size=SIZE, side=3):
    """(1, height, width) mask: one square of class 1, 2, … per corner."""
    mask = torch.zeros(1, *size, dtype=torch.int64)
    for label, (row, column) in enumerate(corners, start=1):
        mask[0, row : row + side, column : column + side] = label
    return mask


def grids(sampling, size):
    """Rows and columns of each set of pixels of a view."""
    height, width = SIZE
    if sampling == "stride":
        return [(slice(None, None, size), slice(None, None, size))]
    return [
        (slice(top, top + size), slice(left, left + size))
        for top in range(0, height, size)
        for left in range(0, width, size)
    ]


@pytest.mark.parametrize("form", ["code", "paper"])
@pytest.mark.parametrize(("sampling", "size"), [("stride", 2), ("stride", 3), ("block", 4), ("block", 3)])
def test_local_loss_and_gradients_equal_the_loops(sampling, size, form):
    method = method_of(sampling=sampling, variant=form, temperature=0.2, **{sampling: size})
    # Of every class a stride of 3 still meets two pixels somewhere.
    batch = batch_of(masks=torch.cat([squares((0, 0), (4, 4), side=4), squares((0, 4), (3, 0), side=4)]))
    rows, labels = units(method, batch)
    rows, labels = rows.view(4, *SIZE, -1), labels.view(4, *SIZE)
    parts = []
    for cut in grids(sampling, size):
        for views in [range(4)] if form == "code" else [[view] for view in range(4)]:
            inside = torch.cat([rows[view][cut].flatten(0, 1) for view in views])
            classes = torch.cat([labels[view][cut].flatten() for view in views])
            parts.append(naive(inside, classes.tolist(), form, 0.2))
    expected = mean_of(parts)
    losses = method.losses(batch)
    torch.testing.assert_close(losses.terms["pixels"], expected, rtol=0, atol=1e-10)
    assert losses.scalars["sets"] == sum(part is not None for part in parts)
    trained = [*method.encoder.parameters(), *method.decoder.parameters(), *method.local_head.parameters()]
    found, wanted = (torch.autograd.grad(loss, trained) for loss in (losses.terms["pixels"], expected))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("form", ["code", "paper"])
def test_stride_one_a_block_of_the_side_and_all_of_each_class_are_the_full_loss(form):
    batch = batch_of()
    found = [
        local(method_of(variant=form, **settings), batch_of()).item()
        for settings in (
            {"sampling": "stride", "stride": 1},
            {"sampling": "block", "block": SIZE[0]},
            {"sampling": "per_class", "per_class": 4 * SIZE[0] * SIZE[1]},
        )
    ]
    rows, labels = units(method_of(variant=form), batch)
    if form == "code":
        expected = naive(rows.flatten(0, 1), labels.flatten().tolist()).item()
    else:
        expected = mean_of([naive(r, c.tolist(), form) for r, c in zip(rows, labels, strict=True)]).item()
    assert found == pytest.approx([expected] * 3, abs=1e-10)


@pytest.mark.parametrize("form", ["code", "paper"])
def test_per_class_compares_the_pixels_it_draws(form):
    method, batch = method_of(per_class=5, variant=form), batch_of()
    rows, labels = units(method, batch)
    drawn = batch_of().generator
    torch.randint(64, (sscl.WATCHED, 4), generator=drawn)
    wholes = [(rows.flatten(0, 1), labels.flatten())] if form == "code" else list(zip(rows, labels, strict=True))
    parts = []
    for inside, classes in wholes:
        order = torch.randperm(len(classes), generator=drawn).tolist()
        chosen = [[place for place in order if classes[place] == label][:5] for label in range(4)]
        places = [place for members in chosen for place in members]
        parts.append(naive(inside[places], classes[places].tolist(), form))
    torch.testing.assert_close(local(method, batch), mean_of(parts), rtol=0, atol=1e-10)
    losses = method.losses(batch_of())
    assert losses.scalars["pixels"] <= 4 * 5 * len(wholes)


def test_another_generator_draws_other_pixels():
    method = method_of(per_class=5)
    other = dataclasses.replace(batch_of(), generator=torch.Generator().manual_seed(99))
    assert local(method, other).item() != local(method, batch_of()).item()
    assert local(method, batch_of()).item() == local(method, batch_of()).item()


GOLDEN = {"code": 3.1328125427637388, "paper": 0.45699357933612367}


@pytest.mark.parametrize("form", ["code", "paper"])
def test_golden_values(form):
    method = toy_method("sscl", variant=form, per_class=6, temperature=0.5, **TINY).train()
    batch = plant(method, batch_of())
    assert local(method, batch).item() == pytest.approx(GOLDEN[form], abs=1e-8)


def test_positives_come_from_other_views_and_slices_in_the_code_form_alone():
    """A second slice that also shows class 1 changes the positives of the first; the paper stays within a view."""
    alone = torch.cat([squares((0, 0)), torch.zeros(1, *SIZE, dtype=torch.int64)])
    planted = torch.cat([squares((0, 0)), squares((4, 4))])
    bare = torch.cat([squares((0, 0)), squares((4, 4)) * 2])
    # Two further classes in the second slice: as many anchors and pixels, but only the first shares class 1.
    full = {"sampling": "stride", "stride": 1}
    code, paper = method_of(**full), method_of(**full, variant="paper")
    assert local(code, batch_of(masks=planted)).item() != pytest.approx(local(code, batch_of(masks=bare)).item())
    assert local(paper, batch_of(masks=planted)).item() == pytest.approx(local(paper, batch_of(masks=bare)).item())
    rows, labels = units(code, batch_of(masks=alone))
    expected = naive(rows.flatten(0, 1), labels.flatten().tolist())
    torch.testing.assert_close(local(code, batch_of(masks=alone)), expected, rtol=0, atol=1e-10)


def test_one_foreground_pixel_has_its_other_view_as_positive_or_none():
    masks, empty = torch.zeros(2, 1, *SIZE, dtype=torch.int64)
    masks[0, 2, 2] = 1
    method = method_of(sampling="stride", stride=1)
    both = method.losses(batch_of(1, masks=masks))
    assert both.scalars["anchors"] == 2
    assert both.terms["pixels"].item() > 0
    # Views of different classes, as independent geometry may give: finite, and left out.
    once = method.losses(batch_of(1, masks=masks, second=empty))
    assert once.terms["pixels"].item() == 0
    assert once.scalars["anchors"] == 0


@pytest.mark.parametrize("sampling", ["per_class", "stride", "block"])
@pytest.mark.parametrize("form", ["code", "paper"])
def test_background_alone_is_exactly_zero_with_a_usable_graph(sampling, form):
    method = method_of(sampling=sampling, variant=form)
    losses = method.losses(batch_of(masks=torch.zeros(2, *SIZE, dtype=torch.int64)))
    assert losses.terms["pixels"].item() == 0
    assert losses.collapsed is None
    assert losses.lower_bound is None
    losses.terms["pixels"].backward()
    for tensor in (*method.encoder.parameters(), *method.decoder.parameters()):
        assert torch.count_nonzero(tensor.grad) == 0
    assert losses.embeddings.shape == (4 * sscl.WATCHED, 128)


def test_blocks_of_background_are_skipped():
    """One square within the first of four blocks: the loss is that block's, not a quarter of it."""
    mask = squares((0, 0)).expand(2, -1, -1)
    method = method_of(sampling="block", block=4)
    losses = method.losses(batch_of(masks=mask))
    rows, labels = units(method, batch_of(masks=mask))
    inside = rows.view(4, *SIZE, -1)[:, :4, :4].flatten(0, 2)
    expected = naive(inside, labels.view(4, *SIZE)[:, :4, :4].flatten().tolist())
    assert losses.scalars["sets"] == 1
    torch.testing.assert_close(losses.terms["pixels"], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("sampling", "size"), [("per_class", 200), ("stride", 1), ("block", 8)])
def test_unlabelled_pixels_take_no_part(sampling, size):
    mask = toy_masks(2, SIZE)
    mask[:, :, 6:] = 255
    method = method_of(sampling=sampling, **{sampling: size})
    rows, labels = units(method, batch_of(masks=mask))
    known = labels.flatten() != 255
    expected = naive(rows.flatten(0, 1)[known], labels.flatten()[known].tolist())
    torch.testing.assert_close(local(method, batch_of(masks=mask)), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("sampling", ["per_class", "stride", "block"])
@pytest.mark.parametrize("form", ["code", "paper"])
def test_names_of_the_foreground_classes_do_not_matter(sampling, form):
    method = method_of(sampling=sampling, variant=form, stride=2, block=4, per_class=3)
    names = torch.tensor([0, 3, 1, 2])
    mask = toy_masks(2, SIZE)
    plain, renamed = (local(method, batch_of(masks=m)).item() for m in (mask, names[mask]))
    assert plain == pytest.approx(renamed, abs=1e-10)
    background = torch.tensor([1, 0, 2, 3])
    assert local(method, batch_of(masks=background[mask])).item() != pytest.approx(plain, abs=1e-6)


@pytest.mark.parametrize("form", ["code", "paper"])
def test_equal_embeddings_give_the_collapse_value_above_the_bound(form):
    method = method_of(variant=form, per_class=7)
    with torch.no_grad():
        method.local_head.second.weight.zero_()
    losses = method.losses(batch_of())
    assert losses.terms["pixels"].item() == pytest.approx(losses.collapsed, abs=1e-10)
    assert losses.lower_bound < losses.collapsed
    if form == "code":
        # Seven of each of four classes.
        assert losses.collapsed == pytest.approx(math.log(27), abs=1e-12)
        assert losses.lower_bound == pytest.approx(math.log(6), abs=1e-12)


def test_watched_embeddings_are_pixels_of_this_ranks_views():
    method, batch = method_of(), batch_of()
    rows, _ = units(method, batch)
    places = torch.randint(64, (sscl.WATCHED, 4), generator=batch_of().generator)
    expected = torch.stack([rows[view, place] for line in places for view, place in enumerate(line.tolist())])
    found = method.losses(batch).embeddings
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-12)
    assert not found.requires_grad


def test_the_global_stage_is_simclr():
    method, simclr = toy_method("sscl", **TINY).train(), toy_method("simclr", temperature=0.5, **TINY).train()
    shared = {key: value for key, value in method.state_dict().items() if key in simclr.state_dict()}
    simclr.load_state_dict(shared, strict=True)
    batch = toy_batch(4, size=SIZE, dtype=torch.float64)
    one, two = method.losses(batch), simclr.losses(toy_batch(4, size=SIZE, dtype=torch.float64))
    assert one.terms["views"].item() == two.terms["views"].item()
    assert (one.collapsed, one.lower_bound) == (two.collapsed, two.lower_bound)
    one.terms["views"].backward()
    assert all(p.grad is None for module in (method.decoder, method.local_head) for p in module.parameters())


def test_the_plan_is_a_global_then_a_local_stage():
    method = toy_method("sscl", global_share=0.6, slices=6)
    plans = [method.plan(step, 10) for step in range(10)]
    assert [plan.labelled for plan in plans] == [False] * 6 + [True] * 4
    assert [plan.same_geometry for plan in plans] == [False] * 6 + [True] * 4
    assert [plan.slices for plan in plans] == [None] * 6 + [6] * 4
    assert toy_method("sscl").plan(14, 20).labelled is False
    assert toy_method("sscl").plan(15, 20).labelled is True
    # However short the run, the decoder that it leaves is trained.
    for total in (1, 2, 3):
        assert toy_method("sscl").plan(total - 1, total).labelled is True


def test_without_a_global_share_every_step_is_local():
    method = toy_method("sscl", global_share=0.0)
    assert all(method.plan(step, 7).labelled for step in range(7))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.75, 0.999])
@pytest.mark.parametrize("total", [1, 2, 3, 20])
def test_each_stage_has_a_schedule_of_its_own_that_begins_where_the_plan_changes(share, total):
    method = toy_method("sscl", global_share=share)
    starts = stage_steps(method, total)
    for first, after in zip(starts, [*starts[1:], total], strict=True):
        assert [method.training_phase(step, total) for step in range(first, after)] == [(first, after - first)] * (
            after - first
        )


def test_the_local_head_is_as_wide_as_the_published_one_whatever_the_network():
    for width in (4, 16):
        head = toy_method("sscl", network=UNetConfig(width=width, depth=2)).local_head
        assert head.first.weight.shape == (256, width)
        assert head.second.weight.shape == (128, 256)
    assert toy_method("sscl", hidden=12).local_head.first.weight.shape == (12, 4)


def test_both_halves_of_the_network_are_trained_in_the_local_stage_and_left():
    method = toy_method("sscl", **TINY).train()
    local(method, batch_of()).backward()
    for tensor in (*method.encoder.parameters(), *method.decoder.parameters(), *method.local_head.parameters()):
        assert tensor.grad.abs().sum() > 0
    assert all(tensor.grad is None for tensor in method.image_head.parameters())
    assert method.pretrained_decoder() is method.decoder
    assert len(method.decoder.blocks) == len(UNetDecoder(method.encoder.config).blocks)
    network = UNet(method.encoder.config, 4).double()
    network.decoder.load_state_dict(method.pretrained_decoder().state_dict(), strict=True)
    network.encoder.load_state_dict(method.encoder.state_dict(), strict=True)


def test_slices_are_embedded_by_the_encoder_alone():
    """The head of the global stage is out of date once the local stage has moved the encoder."""
    method = toy_method("sscl").eval()
    images = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = functional.normalize(method.encoder(images)[-1].mean(dim=(2, 3)), dim=1)
    torch.testing.assert_close(method.embed(images), expected)


def test_labels_are_declared_and_no_metadata():
    plugin = load_plugin("fewlabel.methods", "sscl")
    assert plugin.uses_labels
    assert toy_method("sscl").uses_metadata == ()
    assert not load_plugin("fewlabel.methods", "simclr").uses_labels


def test_data_without_labels_and_slices_that_do_not_divide_are_refused_at_once(monkeypatch):
    config = resolve_plugin("fewlabel.methods", {"name": "sscl", "slices": 5})
    encoder = UNetEncoder(UNetConfig(width=4, depth=2))
    monkeypatch.setattr(sscl, "world_size", lambda: 2)
    with pytest.raises(SettingsError) as caught:
        sscl.SSCL(config, encoder, DataFacts(META, slices=9, image_size=SIZE))
    text = str(caught.value)
    assert "method=simclr" in text
    assert "method.slices=6" in text
    assert len(caught.value.faults) == 2


def test_defaults_are_those_of_the_specification():
    config = resolve_plugin("fewlabel.methods", "sscl")
    assert (config.variant, config.sampling) == ("code", "per_class")
    assert (config.global_temperature, config.temperature, config.dim) == (0.5, 0.1, 128)
    assert (config.stride, config.block, config.slices) == (4, 16, 4)


def test_memory_of_the_default_does_not_grow_with_the_image():
    """The largest tensor of similarities kept for the backward pass, by its number of elements."""

    def largest(side, **settings):
        network = UNetConfig(width=4, depth=2)
        method = toy_method("sscl", size=(side, side), network=network, per_class=24, **settings).train()
        batch = toy_batch(2, step=LOCAL, total_steps=TOTAL, size=(side, side), labelled=True)
        sizes, known = [], {method.settings.dim, method.settings.hidden}

        def keep(tensor):
            # Neither rows of embeddings or hidden units nor their transpose.
            sizes.append(tensor.numel() if tensor.dim() == 2 and not known & {*tensor.shape} else 0)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            features = torch.randn(4, side * side, 4, requires_grad=True)
            labels = torch.cat(batch.masks).flatten(1)
            sets = [(places, sscl.pixel_set(labels.flatten()[places])) for places in method._sets(labels, batch)]
            method._total(features, sets, torch.arange(4), 4)
        return max(sizes)

    small, large = largest(16), largest(64)
    assert small == large == 72 * 96
    assert largest(64, sampling="stride") > 10 * large
