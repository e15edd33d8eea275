"""GLCL: both stages against loops, what rests in each, and what is left for fine-tuning."""

import copy
import dataclasses
import math

import pytest
import torch
from torch.nn import functional

from fewlabel.core.errors import SettingsError
from fewlabel.core.settings.base import resolve_plugin
from fewlabel.core.settings.value_syntax import nest
from fewlabel.engine.weight_files import load_decoder_into, load_encoder_into, save_encoder
from fewlabel.methods.base import StepPlan
from fewlabel.nets.unet import UNet, UNetConfig
from kit.golden import plant
from kit.pretraining import batch_for, settle, stage_steps, toy_batch, toy_method, trainable

SIZE = (16, 16)
#: The last map is 8x8, flattened as 6x6; one decoder block ends at 16x16.
TINY = {"size": SIZE, "network": UNetConfig(width=4, depth=2), "dtype": torch.float64}
GLOBAL, LOCAL = 0, 10
PARTS = [0, 1, 0, 2]


def batch_of(parts=PARTS, *, step=GLOBAL, **options):
    batch = toy_batch(len(parts), size=SIZE, dtype=torch.float64, step=step, **options)
    return dataclasses.replace(batch, metadata={**batch.metadata, "position": torch.tensor(parts)})


def method_of(**settings):
    """In eval mode, the encoder's statistics those of a batch."""
    return settle(toy_method("glcl", **{"blocks": 1, **settings}, **TINY), batch_of())


def whole(method, batch):
    return method.losses(batch).terms["global"]


def local(method, batch):
    return method.losses(batch).terms["local"]


def embeddings(method, batch, head="flatten"):
    """Unit vectors of all views from the formula."""
    features = method.encoder(torch.cat(batch.views))[-1]
    rows = features.mean((2, 3)) if head == "pooled" else functional.adaptive_avg_pool2d(features, 6).flatten(1)
    first, second = method.image_head.first, method.image_head.second
    assert (first.bias is None, second.bias is None) == (head == "flatten",) * 2
    hidden = functional.linear(rows, first.weight, first.bias).relu()
    return functional.normalize(functional.linear(hidden, second.weight, second.bias), dim=1)


def slow_global(z, slices, parts, attract, temperature=0.1):
    """Variant D or D- by loops over anchors, positives and negatives."""
    views, count, total = len(z), len(parts), 0.0
    for i in range(views):
        negatives = [k for k in range(views) if parts[k % count] != parts[i % count]]
        positives = [
            j
            for j in range(views)
            if j != i and (slices[j % count] == slices[i % count] or (attract and parts[j % count] == parts[i % count]))
        ]
        for p in positives:
            own = (z[i] @ z[p] / temperature).exp()
            rest = sum((z[i] @ z[k] / temperature).exp() for k in negatives)
            total = total - (own / (own + rest)).log() / len(positives) / views
    return total


def regions_of(method, batch, window=3):
    """Unit vectors (views, 13, dim) of the regions, from the formula; the head's statistics are the batch's."""
    with torch.no_grad():
        maps = copy.deepcopy(method.encoder).eval()(torch.cat(batch.views))
    features = method.decoder(maps)[-1]
    first, norm, _, second = method.region_head.convolutions
    inner = functional.batch_norm(
        functional.conv2d(features, first.weight), None, None, norm.weight, norm.bias, training=True
    )
    projected = functional.conv2d(inner.relu(), second.weight, second.bias)
    half, found = window // 2, []
    lines = [half, 4, 8, 11, 15 - half]
    centres = [(lines[row], lines[column]) for row in range(5) for column in range(row % 2, 5, 2)]
    for y, x in centres:
        part = projected[:, :, y - half : y + half + 1, x - half : x + half + 1]
        rows = part.permute(0, 2, 3, 1).flatten(1)
        found.append(functional.normalize(rows @ method.region_head.dense.weight.T, dim=1))
    return torch.stack(found, dim=1), centres


def slow_local(rows, centres, count, temperature=0.1):
    """The local loss by loops over copies, images, regions and neighbours."""
    first, second = rows.chunk(2)
    found = []
    for a, b in ((first, second), (second, first)):
        for image in range(len(a)):
            for r, centre in enumerate(centres):
                gaps = sorted((math.dist(centre, other), q) for q, other in enumerate(centres) if q != r)
                near = [q for _, q in gaps[:count]]
                own = (a[image, r] @ b[image, r] / temperature).exp()
                rest = sum(
                    (a[image, r] @ a[image, q] / temperature).exp() + (a[image, r] @ b[image, q] / temperature).exp()
                    for q in near
                )
                found.append(-(own / (own + rest)).log())
    return torch.stack(found).mean()


@pytest.mark.parametrize(("same_part", "head"), [("attract", "flatten"), ("ignore", "flatten"), ("attract", "pooled")])
def test_the_global_stage_equals_the_loops_with_gradients(same_part, head):
    method = method_of(same_part=same_part, head=head, dim=16)
    batch = batch_of()
    losses = method.losses(batch)
    z = embeddings(method, batch, head)
    torch.testing.assert_close(losses.embeddings, z.detach())
    expected = slow_global(z, batch.slices.tolist(), PARTS, same_part == "attract")
    torch.testing.assert_close(losses.terms["global"], expected, rtol=0, atol=1e-10)
    parameters = [*method.encoder.parameters(), *method.image_head.parameters()]
    found = torch.autograd.grad(losses.terms["global"], parameters)
    for a, b in zip(found, torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("window", "neighbours"), [(3, 5), (1, 2)])
def test_the_local_stage_equals_the_loops_with_gradients(window, neighbours):
    method = method_of(window=window, neighbours=neighbours, dim=16).train()
    batch = batch_of([0, 1], step=LOCAL)
    losses = method.losses(batch)
    rows, centres = regions_of(method, batch, window)
    expected = slow_local(rows, centres, neighbours)
    assert tuple(losses.terms) == ("local",)
    torch.testing.assert_close(losses.terms["local"], expected, rtol=0, atol=1e-10)
    parameters = [*method.decoder.parameters(), *method.region_head.parameters()]
    found = torch.autograd.grad(losses.terms["local"], parameters)
    for a, b in zip(found, torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
    # The rows that are watched: view by view, region by region, slice by slice.
    watched = rows.detach().view(2, 2, 13, -1).transpose(1, 2).flatten(0, 2)
    torch.testing.assert_close(losses.embeddings, watched)


GOLDEN = {"attract": 1.7179422416717665, "ignore": 1.5598768571859503, "local": 3.096616825156956}


@pytest.mark.parametrize("case", ["attract", "ignore", "local"])
def test_golden_values(case):
    method = toy_method("glcl", blocks=1, dim=8, **({} if case == "local" else {"same_part": case}), **TINY).train()
    batch = plant(method, batch_of(step=LOCAL if case == "local" else GLOBAL), power=1.1, amplitude=1.0)
    (term,) = method.losses(batch).terms.values()
    assert term.item() == pytest.approx(GOLDEN[case], abs=1e-8)


@pytest.mark.parametrize("same_part", ["attract", "ignore"])
def test_one_part_leaves_no_negatives_and_costs_nothing(same_part):
    method = method_of(same_part=same_part)
    losses = method.losses(batch_of([3, 3, 3, 3]))
    assert losses.terms["global"].item() == losses.collapsed == losses.lower_bound == 0
    losses.terms["global"].backward()
    gradients = [tensor.grad for tensor in (*method.encoder.parameters(), *method.image_head.parameters())]
    assert all(torch.count_nonzero(gradient) == 0 for gradient in gradients)


def test_ignored_parts_cost_at_most_what_simclr_costs():
    method, views = method_of(same_part="ignore"), (torch.arange(8) + 4) % 8
    for parts in (PARTS, [0, 0, 1, 1], [0, 1, 2, 3]):
        batch = batch_of(parts)
        z = embeddings(method, batch).detach()
        simclr = functional.cross_entropy((z @ z.T / 0.1).fill_diagonal_(-torch.inf), views).item()
        assert whole(method, batch).item() <= simclr + 1e-12
    # With a part for each slice only the anchor's other view is no negative, and both variants are SimCLR.
    assert whole(method, batch).item() == pytest.approx(simclr, abs=1e-12)
    assert whole(method_of(), batch).item() == pytest.approx(simclr, abs=1e-12)


@pytest.mark.parametrize("same_part", ["attract", "ignore"])
def test_keys_of_the_anchors_part_are_no_negatives(same_part):
    """Of the views of another slice in the part: no gradient, or that of a positive."""
    method = method_of(same_part=same_part)
    seen = {}

    def spy(name, logits, positives, candidates, batch):
        seen["logits"], seen["positives"] = logits, positives
        logits.retain_grad()
        return type(method).image_loss(method, name, logits, positives, candidates, batch)

    method.image_loss = spy
    whole(method, batch_of()).backward()
    ids = torch.tensor(PARTS).repeat(2)
    same = ids[:, None] == ids
    other = same & ~seen["positives"]
    gradient = seen["logits"].grad
    assert (gradient[other] == 0).all()
    assert (gradient[~same] > 0).all()
    assert (gradient[seen["positives"]] < 0).all()
    # Slices 0 and 2 share a part; D takes each other's views as positives.
    assert int(seen["positives"].sum()) == (8 + 8 if same_part == "attract" else 8)


@pytest.mark.parametrize("same_part", ["attract", "ignore"])
def test_names_of_parts_and_orders_do_not_matter(same_part):
    method, batch, order = method_of(same_part=same_part), batch_of(), torch.tensor([2, 0, 3, 1])
    plain = whole(method, batch).item()
    assert whole(method, batch_of([7, -3, 7, 5])).item() == pytest.approx(plain, abs=1e-12)
    mixed = dataclasses.replace(
        batch_of([PARTS[index] for index in order]),
        views=tuple(view[order] for view in batch.views),
        slices=batch.slices[order],
    )
    swapped = dataclasses.replace(batch, views=batch.views[::-1])
    assert whole(method, mixed).item() == pytest.approx(plain, abs=1e-10)
    assert whole(method, swapped).item() == pytest.approx(plain, abs=1e-10)
    assert whole(method, batch_of([0, 1, 1, 2])).item() != pytest.approx(plain, abs=1e-6)


def test_a_slice_without_position_has_its_own_views_and_is_a_negative_of_all():
    method, batch = method_of(), batch_of([0, 1, 0, 1007])
    expected = slow_global(embeddings(method, batch), batch.slices.tolist(), [0, 1, 0, 1007], attract=True)
    torch.testing.assert_close(whole(method, batch), expected, rtol=0, atol=1e-10)


def test_the_global_stage_knows_what_it_is_at_collapse_and_at_best():
    for same_part in ("attract", "ignore"):
        method = method_of(same_part=same_part, temperature=0.5)
        losses = method.losses(batch_of())
        # Parts 0, 1, 0, 2 of two views each: 4 negatives for slices 0 and 2, 6 for the others.
        assert losses.collapsed == pytest.approx((math.log(5) + math.log(7)) / 2, abs=1e-12)
        bound = (math.log(1 + 4 * math.exp(-4)) + math.log(1 + 6 * math.exp(-4))) / 2
        assert losses.lower_bound == pytest.approx(bound, abs=1e-12)
        with torch.no_grad():
            method.image_head.second.weight.zero_()
        assert whole(method, batch_of()).item() == pytest.approx(losses.collapsed, abs=1e-12)


def test_the_local_stage_knows_what_it_is_at_collapse_and_at_best():
    method = method_of(temperature=0.5, neighbours=3).train()
    with torch.no_grad():
        method.region_head.dense.weight.zero_()
    losses = method.losses(batch_of(step=LOCAL))
    assert losses.terms["local"].item() == pytest.approx(losses.collapsed, abs=1e-12)
    assert losses.collapsed == pytest.approx(math.log(7), abs=1e-12)
    assert losses.lower_bound == pytest.approx(math.log(1 + 6 * math.exp(-4)), abs=1e-12)


def test_the_order_of_images_does_not_matter_in_the_local_stage():
    method, batch, order = method_of().train(), batch_of(step=LOCAL), torch.tensor([2, 0, 3, 1])
    mixed = dataclasses.replace(batch, views=tuple(view[order] for view in batch.views))
    assert local(method, mixed).item() == pytest.approx(local(method, batch).item(), abs=1e-10)
    swapped = dataclasses.replace(batch, views=batch.views[::-1])
    assert local(method, swapped).item() == pytest.approx(local(method, batch).item(), abs=1e-10)
    # Nor do parts of the volume.
    assert local(method, batch_of([5, 5, 5, 5], step=LOCAL)).item() == local(method, batch).item()


def test_the_encoder_rests_in_the_local_stage_with_its_statistics():
    method = method_of().train()
    state = {key: tensor.clone() for key, tensor in method.encoder.state_dict().items()}
    head = {key: tensor.clone() for key, tensor in method.image_head.state_dict().items()}
    local(method, batch_of(step=LOCAL)).backward()
    assert all(tensor.grad is None for tensor in (*method.encoder.parameters(), *method.image_head.parameters()))
    assert all(torch.equal(state[key], tensor) for key, tensor in method.encoder.state_dict().items())
    assert all(torch.equal(head[key], tensor) for key, tensor in method.image_head.state_dict().items())
    for tensor in (*method.decoder.parameters(), *method.region_head.parameters()):
        assert tensor.grad.abs().sum() > 0
    # It is used as it will be in evaluation, and is left in the mode it was in.
    assert all(module.training for module in method.modules())
    assert [int(tensor) for key, tensor in method.decoder.named_buffers() if "tracked" in key] == [1, 1]
    evaluated = method_of().eval()
    local(evaluated, batch_of(step=LOCAL))
    assert not any(module.training for module in evaluated.modules())


def test_the_decoder_rests_in_the_global_stage():
    method = method_of().train()
    parts = (method.decoder, method.region_head)
    state = [{key: tensor.clone() for key, tensor in part.state_dict().items()} for part in parts]
    whole(method, batch_of()).backward()
    assert all(tensor.grad is None for part in parts for tensor in part.parameters())
    for part, before in zip(parts, state, strict=True):
        assert all(torch.equal(before[key], tensor) for key, tensor in part.state_dict().items())
    assert all(tensor.grad is not None for tensor in (*method.encoder.parameters(), *method.image_head.parameters()))


def test_the_plan_is_a_global_then_a_local_stage():
    method = method_of(global_share=0.6)
    plans = [method.plan(step, 10) for step in range(10)]
    assert plans[:6] == [StepPlan()] * 6
    assert plans[6:] == [StepPlan(same_geometry=True)] * 4
    # The loss goes by the same steps.
    found = [tuple(method.losses(batch_of(step=step, total_steps=10)).terms) for step in (0, 5, 6, 9)]
    assert found == [("global",), ("global",), ("local",), ("local",)]
    assert stage_steps(method_of(), 20) == [0, 10]


@pytest.mark.parametrize("share", [1e-6, 0.3, 0.5, 0.999999, 1.0])
@pytest.mark.parametrize("total", [1, 2, 3, 20])
def test_each_stage_has_a_schedule_of_its_own_that_begins_where_the_plan_changes(share, total):
    method = method_of(global_share=share)
    starts = stage_steps(method, total)
    for first, after in zip(starts, [*starts[1:], total], strict=True):
        assert [method.training_phase(step, total) for step in range(first, after)] == [(first, after - first)] * (
            after - first
        )


@pytest.mark.parametrize("share", [1e-6, 0.5, 0.999999])
def test_no_stage_is_empty_in_a_run_of_two_steps_or_more(share):
    method = method_of(global_share=share)
    for total in (2, 3, 20):
        assert not method.plan(0, total).same_geometry
        assert method.plan(total - 1, total).same_geometry
    # What a single step leaves must have been trained: the decoder.
    assert method.plan(0, 1).same_geometry


def test_without_a_local_stage_there_is_no_decoder():
    method = method_of(global_share=1.0)
    assert method.pretrained_decoder() is None
    assert not any("decoder" in name or "region" in name for name, _ in method.named_parameters())
    assert [method.plan(step, 4) for step in range(4)] == [StepPlan()] * 4
    assert tuple(method.losses(batch_of(step=19)).terms) == ("global",)
    # Nothing of the local stage has to fit then.
    toy_method("glcl", global_share=1.0, blocks=6, neighbours=40, **TINY)


@pytest.mark.parametrize("blocks", [1, 2])
def test_encoder_and_first_decoder_blocks_are_left_for_fine_tuning(tmp_path, blocks):
    network = UNetConfig(width=4, depth=4)
    method = toy_method("glcl", blocks=blocks, network=network, size=(64, 64)).train()
    for step in (GLOBAL, LOCAL):
        (term,) = method.losses(toy_batch(4, size=(64, 64), step=step)).terms.values()
        tensors = list(trainable(method).values())
        gradients = torch.autograd.grad(term, tensors, materialize_grads=True)
        with torch.no_grad():
            for tensor, gradient in zip(tensors, gradients, strict=True):
                tensor.sub_(0.1 * gradient)
    decoder = method.pretrained_decoder()
    assert decoder is method.decoder
    assert len(decoder.blocks) == blocks
    save_encoder(tmp_path, method.encoder, {}, decoder)
    unet = UNet(network, classes=3)
    before = {key: tensor.clone() for key, tensor in unet.state_dict().items()}
    load_encoder_into(tmp_path, unet.encoder)
    assert all(torch.equal(before[key], tensor) for key, tensor in unet.state_dict().items() if "decoder" in key)
    assert load_decoder_into(tmp_path, unet.decoder) == blocks
    images = toy_batch(2, size=(64, 64)).views[0]
    method.eval(), unet.eval()
    expected = method.decoder(method.encoder(images))
    for found, wanted in zip(unet.decoder(unet.encoder(images))[:blocks], expected, strict=True):
        torch.testing.assert_close(found, wanted)
    rest = [f"{kind}.{index}." for kind in ("ups", "blocks") for index in range(blocks, 3)]
    kept = [key for key in before if key.startswith("classifier") or any(f"decoder.{part}" in key for part in rest)]
    assert len(kept) > 2
    assert all(torch.equal(before[key], unet.state_dict()[key]) for key in kept)


def test_slices_are_embedded_as_in_the_global_stage():
    method, batch = method_of(), batch_of()
    torch.testing.assert_close(method.embed(torch.cat(batch.views)), embeddings(method, batch))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"meta": {}}, ["lacks", "method=simclr"]),
        ({"meta": {"position": 1}}, ["not 1.", "at least 2 parts"]),
        ({"neighbours": 13}, ["at most 12 neighbours", "method.neighbours"]),
        ({"regions": 5, "neighbours": 5}, ["at most 4 neighbours"]),
        ({"blocks": 2}, ["depth 2 has 1 decoder blocks", "not 2. Set it to at most 1"]),
        ({"regions": 25, "window": 3}, ["25 regions of 3x3 pixels overlap on a map of 16x16", "method.window=1"]),
        ({"window": 5, "regions": 13}, ["13 regions of 5x5 pixels overlap"]),
        (
            {"meta": {}, "neighbours": 13, "regions": 13, "blocks": 3},
            ["meta label position", "12 neighbours", "depth 2"],
        ),
    ],
)
def test_what_does_not_fit_the_data_is_reported_at_once(settings, words):
    with pytest.raises(SettingsError) as caught:
        toy_method("glcl", **{"blocks": 1, **settings}, **TINY)
    assert all(word in str(caught.value) for word in words)
    assert len(caught.value.faults) == (3 if len(words) == 3 else 1)
    assert all(fault.remedy for fault in caught.value.faults)


@pytest.mark.parametrize(
    "word", ["global_share=0", "global_share=1.5", "regions=12", "window=2", "blocks=0", "head=map"]
)
def test_settings_out_of_range_are_refused(word):
    with pytest.raises(SettingsError, match=word.split("=", maxsplit=1)[0]):
        resolve_plugin("fewlabel.methods", nest(["method=glcl", f"method.{word}"])["method"])


def test_defaults_are_those_of_the_specification():
    config = resolve_plugin("fewlabel.methods", "glcl")
    assert (config.same_part, config.temperature, config.dim) == ("attract", 0.1, 128)
    assert (config.head, config.global_share) == ("flatten", 0.5)
    assert (config.blocks, config.regions, config.neighbours, config.window) == (2, None, None, None)
    # The usual network on 192x192 pixels: a 12x12 map flattened as 6x6, and regions on a quarter of the side.
    method = toy_method("glcl", size=(192, 192), network=UNetConfig(width=4, depth=5))
    assert method.image_head.first.weight.shape == (1024, 36 * 64)
    assert method.image_head.second.weight.shape == (128, 1024)
    assert method.region_head.pixels.shape == (13, 9)
    assert (int(method.region_head.pixels.min()), int(method.region_head.pixels.max())) == (0, 48 * 48 - 1)
    assert method.neighbours.shape == (13, 5)
    assert not any("neighbours" in key or "pixels" in key for key in method.state_dict())


@pytest.mark.parametrize(
    ("side", "settings", "expected"),
    [
        (32, {}, (13, 3, 5)),
        (16, {}, (13, 1, 5)),
        (8, {}, (5, 1, 4)),
        (32, {"window": 5}, (5, 5, 4)),
        (16, {"neighbours": 2}, (13, 1, 2)),
        (32, {"regions": 5}, (5, 3, 4)),
        (16, {"regions": 25}, (25, 1, 5)),
    ],
)
def test_regions_that_nobody_set_fit_the_map(side, settings, expected):
    network = UNetConfig(width=4, depth=3)
    method = toy_method("glcl", size=(side, side), blocks=1, network=network, **settings)
    regions, window, neighbours = expected
    assert method.neighbours.shape == (regions, neighbours)
    assert method.region_head.pixels.shape == (regions, window**2)
    found = method.losses(batch_for(method, LOCAL, size=(side, side)))
    assert found.collapsed == pytest.approx(math.log(1 + 2 * neighbours))
