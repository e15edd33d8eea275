"""Point-level Region Contrast: losses and gradients against loops over points, and what the spec of it promises."""

import dataclasses
import functools
import math

import pytest
import torch
from torch.nn import functional

from fewlabel.core.errors import SettingsError
from fewlabel.methods.pointrc import PointRC, teacher_temperature
from fewlabel.methods.points import draw_points
from fewlabel.nets.unet import UNetConfig
from kit import places
from kit.pretraining import settle, toy_batch, toy_method

# Not square, so that rows and columns cannot be exchanged unseen; the last map is 4x6.
SIZE = (8, 12)
#: Regions along a side, points drawn in each, points kept.
GRID, DRAWN, KEPT = 2, 5, 3
CHOICE = {"grid": GRID, "drawn": DRAWN, "kept": KEPT}
POINTS = {"grid": GRID, "drawn": DRAWN, "points": KEPT}
TINY = {"size": SIZE, "network": UNetConfig(width=4, depth=2), "dtype": torch.float64, "dim": 6}
SEED = 7

affine = functools.partial(places.affine, SIZE)
#: A turned pair, one whose second view misses the right regions, one whose second view misses all, one in part.
FIRST = torch.stack([affine(0.3, 1.2), affine(), affine(-0.4, flip=-1), affine(1.0, 0.9, shift=(1, 2))])
SECOND = torch.stack([affine(-0.5, 1.1, -1), affine(zoom=2, shift=(6, 0)), affine(shift=(50, 0)), affine(zoom=1.6)])


def batch_of(first=FIRST, second=SECOND, seed=0, step=0, slices=None):
    batch = toy_batch(len(first), seed=seed, size=SIZE, dtype=torch.float64, step=step)
    slices = batch.slices if slices is None else torch.as_tensor(slices)
    generator = torch.Generator().manual_seed(SEED)
    return dataclasses.replace(batch, matrices=(first, second), slices=slices, generator=generator)


def method_of(*, same_twin=False, **settings):
    """A settled method with a filled queue, a centre off zero and a twin of other weights, unless it must be equal."""
    method = settle(toy_method("pointrc", **{"key_groups": 1, **POINTS, **TINY, **settings}), batch_of())
    generator = torch.Generator().manual_seed(1)
    if same_twin:
        method.key_encoder.network.load_state_dict(method.encoder.state_dict())
        return method
    with torch.no_grad():
        for name, tensor in method.named_parameters():
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.mul_(1 + 0.2 * noise) if tensor.dim() > 1 else tensor.add_(0.1 * noise)
            assert tensor.requires_grad != ("key" in name)
        method.losses(batch_of(seed=5, slices=[50, 51, 52, 53]))
        method.after_step(0, 20)
        method.centre.copy_(torch.linspace(-0.2, 0.3, len(method.centre)))
    return method


def value(losses):
    return losses.terms["views"].item()


def head_unit(head, row):
    hidden = (head.first.weight @ row + head.first.bias).clamp_min(0)
    vector = head.second.weight @ hidden + head.second.bias
    return vector / vector.norm()


def read(features, x, y):
    """A map (channels, rows, columns) at view pixel (x, y), by the library's own reading."""
    place = torch.tensor([2 * (x + 0.5) / SIZE[1] - 1, 2 * (y + 0.5) / SIZE[0] - 1], dtype=features.dtype)
    options = {"mode": "bilinear", "padding_mode": "border", "align_corners": False}
    return functional.grid_sample(features[None], place[None, None, None], **options)[0, :, 0, 0]


def slow_losses(method, batch, temperature=0.2, foreign=1024, sharp=0.04, soft=0.1):
    """Region loss, affinity loss, teacher's entropy and the centre's next target, by loops over points."""
    generator = torch.Generator().manual_seed(SEED)
    points = places.slow_points(batch.matrices, SIZE, generator, **CHOICE)
    query_map, key_map = method.encoder(batch.views[0])[-1], method.key_encoder.network(batch.views[1])[-1]
    teacher_map = method.key_encoder.network(batch.views[0])[-1]

    def vectors(head, features, view):
        return [
            [(region, None if x is None else head_unit(head, read(features[n], x, y))) for region, x, y in row]
            for n, row in enumerate(points[view])
        ]

    anchors, keys = (
        vectors(method.point_head, query_map, 0),
        vectors(method.key_point_head.network, key_map.detach(), 1),
    )
    teachers = vectors(method.key_point_head.network, teacher_map.detach(), 0)
    every = [(int(owner), key) for owner, row in zip(batch.slices, keys, strict=True) for _, key in row]
    drawn = [every[i] for i in torch.randperm(len(every), generator=generator)[:foreign]]
    contrast, affinity, entropy, sums = [], [], [], {}
    for n, owner in enumerate(batch.slices.tolist()):
        there = [(region, key.detach()) for region, key in keys[n] if key is not None]
        others = [key.detach() for slice_, key in drawn if slice_ != owner and key is not None]
        for (region, anchor), (_, teacher) in zip(anchors[n], teachers[n], strict=True):
            if anchor is None or not there:
                continue
            positives = [key for other, key in there if other == region]
            negatives = [key for other, key in there if other != region] + others
            repelled = [anchor @ key / temperature for key in negatives]
            costs = []
            for key in positives:
                logits = torch.stack([anchor @ key / temperature, *repelled])
                costs.append(logits.logsumexp(0) - logits[0])
            if costs:
                contrast.append(torch.stack(costs).mean())
            cosines = [(other, (teacher @ key).detach()) for other, key in there]
            target = torch.stack([(cosine - method.centre[other]) / sharp for other, cosine in cosines]).softmax(0)
            found = torch.stack([anchor @ key / soft for _, key in there]).log_softmax(0)
            affinity.append(-(target * found).sum())
            entropy.append(-(target * target.log()).sum())
            for other, cosine in cosines:
                sums.setdefault(other, []).append(cosine)
    centre = [torch.stack(sums[r]).mean() if r in sums else method.centre[r] for r in range(len(method.centre))]
    return torch.stack(contrast).mean(), torch.stack(affinity).mean(), torch.stack(entropy).mean(), torch.stack(centre)


def weights(image=0.0, region=0.0, affinity=0.0):
    return {"image_weight": image, "region_weight": region, "affinity_weight": affinity}


@pytest.mark.parametrize(
    ("parts", "foreign", "slices"),
    [
        (weights(region=1.0), 1024, None),
        # A few keys of other slices, and the same slice twice in the batch.
        (weights(region=1.0), 7, [4, 9, 2, 9]),
        (weights(affinity=1.0), 1024, None),
        (weights(0.7, 0.3, 0.4), 0, None),
    ],
)
def test_loss_and_gradient_equal_slow_loops(parts, foreign, slices):
    method = method_of(foreign=foreign, temperature=0.3, **parts)
    batch = batch_of(slices=slices)
    losses = method.losses(batch)
    region, affinity, entropy, centre = slow_losses(method, batch, 0.3, foreign)
    image, _ = method.image_term(method.maps(batch))
    expected = parts["image_weight"] * image + parts["region_weight"] * region + parts["affinity_weight"] * affinity
    assert value(losses) == pytest.approx(expected.item(), abs=1e-12)
    for name, part in (("image", image), ("region", region), ("affinity", affinity), ("teacher_entropy", entropy)):
        assert losses.scalars[name] == pytest.approx(part.item(), abs=1e-6)
    trained = [tensor for tensor in method.parameters() if tensor.requires_grad]
    options = {"materialize_grads": True, "retain_graph": True}
    found, slow = (torch.autograd.grad(term, trained, **options) for term in (losses.terms["views"], expected))
    assert all(gradient.abs().max() > 1e-9 for gradient in slow[: len(list(method.encoder.parameters()))])
    for own, reference in zip(found, slow, strict=True):
        torch.testing.assert_close(own, reference, rtol=1e-8, atol=1e-11)
    before = method.centre.clone()
    method.after_step(0, 20)
    torch.testing.assert_close(method.centre, 0.9 * before + 0.1 * centre, rtol=0, atol=1e-12)


def test_without_any_correspondence_nothing_is_lost_and_nothing_moves():
    method = method_of(**weights(0.0, 0.5, 0.5))
    nowhere = affine(shift=(50, 0)).expand(4, 3, 3)
    for first, second in ((FIRST, nowhere), (nowhere, FIRST)):
        losses = method.losses(batch_of(first, second))
        assert value(losses) == 0
        assert losses.collapsed == losses.lower_bound == 0
        trained = [tensor for tensor in method.parameters() if tensor.requires_grad]
        gradients = torch.autograd.grad(losses.terms["views"], trained, materialize_grads=True)
        assert all(torch.equal(gradient, torch.zeros_like(gradient)) for gradient in gradients)
        before = method.centre.clone()
        method.after_step(0, 20)
        torch.testing.assert_close(method.centre, before, rtol=1e-12, atol=1e-15)


def test_slices_whose_views_have_nothing_in_common_do_not_weigh_on_the_others():
    method = method_of(foreign=0, **weights(0.0, 0.6, 0.4))
    whole = method.losses(batch_of())
    batch = batch_of()
    # All but slice 2; its numbers are left out of the draw by hand.
    uniform = torch.rand(2, 4, GRID**2, DRAWN, 2, generator=torch.Generator().manual_seed(SEED))
    rest = [0, 1, 3]
    part = dataclasses.replace(
        batch,
        views=tuple(view[rest] for view in batch.views),
        matrices=tuple(matrices[rest] for matrices in batch.matrices),
        slices=batch.slices[rest],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", lambda *_, **__: uniform[:, rest])
        assert value(method.losses(part)) == pytest.approx(value(whole), abs=1e-12)


def test_affinity_loss_is_the_teachers_entropy_if_student_and_teacher_are_one():
    same = {"teacher_start": 0.1, "teacher_end": 0.1, "student_temperature": 0.1}
    method = method_of(same_twin=True, **same, **weights(affinity=1.0))
    losses = method.losses(batch_of())
    assert losses.scalars["affinity"] == pytest.approx(losses.scalars["teacher_entropy"], abs=1e-6)
    assert value(losses) == pytest.approx(losses.lower_bound, abs=1e-12)
    # It is the smallest value: there is no gradient, and any other student costs more.
    trained = [tensor for tensor in method.parameters() if tensor.requires_grad]
    gradients = torch.autograd.grad(losses.terms["views"], trained, materialize_grads=True)
    assert all(gradient.abs().max() < 1e-12 for gradient in gradients)
    with torch.no_grad():
        method.point_head.second.weight.add_(0.1 * torch.randn_like(method.point_head.second.weight))
    moved = method.losses(batch_of())
    assert value(moved) > moved.lower_bound + 1e-4
    assert moved.lower_bound == pytest.approx(losses.lower_bound, abs=1e-12)


def test_with_one_region_it_is_instance_contrast_of_points():
    method = method_of(grid=1, drawn=1, points=1, temperature=0.3, **weights(region=1.0))
    still = affine().expand(4, 3, 3)
    batch = batch_of(still, still)
    first, second = draw_points(batch_of(still, still), 1, 1, 1)
    query, key = method.encoder(batch.views[0])[-1], method.key_encoder.network(batch.views[1])[-1]
    anchors = torch.stack([head_unit(method.point_head, row) for row in first.read(query)[:, 0]])
    keys = torch.stack([head_unit(method.key_point_head.network, row) for row in second.read(key)[:, 0]])
    expected = functional.cross_entropy(anchors @ keys.T / 0.3, torch.arange(4))
    assert value(method.losses(batch)) == pytest.approx(expected.item(), abs=1e-12)
    # Points of the same slice never repel each other then: a batch of one slice alone costs nothing.
    alone = method_of(grid=1, drawn=4, points=4, **weights(region=1.0))
    assert value(alone.losses(batch_of(FIRST[:1], SECOND[:1]))) == 0


@pytest.mark.parametrize("training", [False, True])
def test_the_image_loss_is_moco_exactly(training):
    options = {"queue": 6, **TINY}
    moco = toy_method("moco", **options).train(training)
    method = toy_method("pointrc", **weights(image=1.0), **POINTS, **options).train(training)
    for number in range(3):
        numbers = torch.arange(3 * number, 3 * number + 4)
        expected, found = (each.losses(batch_of(seed=number, slices=numbers)) for each in (moco, method))
        assert value(found) == value(expected)
        assert torch.equal(found.embeddings, expected.embeddings)
        assert found.collapsed == pytest.approx(expected.collapsed)
        assert found.lower_bound == pytest.approx(expected.lower_bound)
        # A head whose part has no weight has no gradient: it would decay without being trained.
        point = torch.autograd.grad(found.terms["views"], list(method.point_head.parameters()), allow_unused=True)
        assert set(point) == {None}
        for each in (moco, method):
            each.after_step(number, 20)
    assert torch.equal(moco.image_contrast.memory.keys, method.image_contrast.memory.keys)


def test_equal_embeddings_cost_what_is_stated():
    method = toy_method("pointrc", queue=6, **POINTS, **TINY).train()
    for encoder in (method.encoder, method.key_encoder.network):
        torch.nn.init.zeros_(encoder.blocks[-1].norm2.weight)
        torch.nn.init.ones_(encoder.blocks[-1].norm2.bias)
    for number in range(3):
        losses = method.losses(batch_of(slices=range(4 * number, 4 * number + 4)))
        assert value(losses) == pytest.approx(losses.collapsed, abs=1e-6)
        assert losses.lower_bound < losses.collapsed
        assert losses.scalars["teacher_entropy"] == pytest.approx(losses.scalars["affinity"], abs=1e-6)
        method.after_step(number, 20)
    # Image term against a full queue of 6, region term against what else there is.
    assert losses.scalars["image"] == pytest.approx(math.log(7), abs=1e-6)
    assert losses.scalars["region"] > math.log(7)


def test_no_gradient_enters_the_twin():
    method = method_of()
    batch = batch_of()
    views = tuple(view.clone().requires_grad_() for view in batch.views)
    term = method.losses(dataclasses.replace(batch, views=views)).terms["views"]
    queries, keys = torch.autograd.grad(term, views, allow_unused=True)
    assert queries.abs().sum() > 0
    assert keys is None
    assert not any(tensor.requires_grad for tensor in [*method.key_point_head.parameters(), method.centre])


def test_after_a_step_the_point_twin_is_the_average_exactly():
    method = toy_method("pointrc", momentum=0.9, **TINY).train()
    before = [tensor.clone() for tensor in method.key_point_head.parameters()]
    with torch.no_grad():
        for tensor in method.point_head.parameters():
            tensor.add_(torch.randn_like(tensor))
    method.after_step(0, 20)
    assert torch.equal(method.centre, torch.zeros_like(method.centre))
    pairs = zip(method.point_head.parameters(), method.key_point_head.parameters(), before, strict=True)
    for theta, key, old in pairs:
        torch.testing.assert_close(key, 0.9 * old + 0.1 * theta, rtol=1e-15, atol=1e-15)


def test_the_teacher_warms_up_in_a_line():
    config = PointRC.Config()
    steps = (0, 15, 30, 31, 100)
    expected = (0.04, 0.055, 0.07, 0.07, 0.07)
    assert [teacher_temperature(config, step, 100) for step in steps] == pytest.approx(expected, abs=1e-15)
    assert teacher_temperature(PointRC.Config(teacher_warmup=0.0), 0, 100) == 0.07
    # The step's own is used.
    method = method_of(**weights(affinity=1.0))
    late = method.losses(batch_of(step=3))
    assert value(late) == pytest.approx(slow_losses(method, batch_of(), sharp=0.055)[1].item(), abs=1e-12)


def test_default_settings_are_the_published_ones():
    config = PointRC.Config()
    assert (config.grid, config.drawn, config.points) == (4, 32, 16)
    assert (config.image_weight, config.region_weight, config.affinity_weight) == (0.7, 0.3, 0.3)
    assert (config.temperature, config.student_temperature, config.centre_momentum) == (0.2, 0.1, 0.9)


@pytest.mark.parametrize(
    ("key", "bad"),
    [
        ("grid", 0),
        ("drawn", 0),
        ("points", 0),
        ("foreign", -1),
        ("region_weight", -0.1),
        ("teacher_start", 0.0),
        ("student_temperature", 0.0),
        ("centre_momentum", 1.1),
        ("teacher_warmup", 1.1),
    ],
)
def test_settings_out_of_range_are_refused(key, bad):
    with pytest.raises(SettingsError) as caught:
        toy_method("pointrc", **{**TINY, key: bad})
    assert key in str(caught.value)


def test_more_points_cannot_be_kept_than_are_drawn():
    assert toy_method("pointrc", points=4, drawn=4, **TINY).settings.points == 4
    with pytest.raises(SettingsError) as caught:
        toy_method("pointrc", points=5, drawn=4, **TINY)
    assert "method.points" in str(caught.value)
    assert "at most 4" in str(caught.value)


def test_weights_that_are_all_0_are_refused_with_all_else_that_is_wrong():
    with pytest.raises(SettingsError) as caught:
        toy_method("pointrc", points=5, drawn=4, **weights(), **TINY)
    assert [fault.where for fault in caught.value.faults] == ["method.points", "method.image_weight"]
