import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from fewlabel.data.augment import Augmenter
from fewlabel.data.augment_settings import AugmentConfig
from fewlabel.methods.rotation import Rotation, four_turns, inscribed_circle
from fewlabel.nets.unet import UNetConfig
from kit.golden import plant
from kit.pretraining import settle, toy_batch, toy_method

TINY = {"size": (8, 8), "network": UNetConfig(width=4, depth=2), "dtype": torch.float64}


def tiny_batch(**options):
    return toy_batch(4, size=(8, 8), dtype=torch.float64, **options)


class Recorder(nn.Module):
    """An encoder that keeps what it is shown, and answers with a map made by ``answer``."""

    def __init__(self, config, answer):
        super().__init__()
        self.config = config
        self.answer = answer
        self.seen = []

    def forward(self, images):
        self.seen.append(images.detach().clone())
        return [self.answer(images)]


def recorded(method, answer):
    method.encoder = Recorder(method.encoder.config, answer)
    return method


def mean_map(images):
    """Sixteen features that no turn changes."""
    scale = torch.arange(1.0, 17.0, dtype=images.dtype)
    return torch.sin(scale * 40 * images.square().mean((1, 2, 3))[:, None])[:, :, None, None]


def test_all_four_turns_of_every_slice_are_shown_and_classes_are_balanced():
    method = recorded(toy_method("rotation", circle=False).train(), mean_map)
    batch = toy_batch()
    method.losses(batch)
    (seen,) = method.encoder.seen
    assert seen.shape == (32, 1, 32, 32)
    for turn in range(4):
        for index in range(8):
            expected = torch.rot90(batch.views[0][index], turn, (1, 2))
            assert torch.equal(seen[turn * 8 + index], expected)
            # Turning back restores the slice.
            assert torch.equal(torch.rot90(seen[turn * 8 + index], -turn, (1, 2)), batch.views[0][index])


def test_turns_are_counter_clockwise_by_a_picture():
    image = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]
    expected = [[1, 2, 3, 4], [2, 4, 1, 3], [4, 3, 2, 1], [3, 1, 4, 2]]
    assert [turned.flatten().tolist() for turned in four_turns(image)] == expected


def pictures_of_turns(**changes):
    """For each number of quarter turns, all pictures that flips of the augmentation make of one picture."""
    still = {"rotation": 0, "scale_low": 1, "scale_high": 1, "crop": 1, "elastic": 0, "brightness": 0}
    grey = {"contrast_low": 1, "contrast_high": 1, "gamma": 1, "noise": 0, "blur": 0}
    augmenter = Augmenter(AugmentConfig.parse({**still, **grey}).model_copy(update=changes))
    picture = torch.arange(16.0).view(1, 1, 4, 4) / 16
    transform = augmenter.sample(64, (4, 4), torch.Generator().manual_seed(0))
    views, _ = augmenter.apply(picture.expand(64, -1, -1, -1), transform)
    turned = four_turns(views).mul(16).round().flatten(1).view(4, 64, -1)
    return [{tuple(row.tolist()) for row in rows} for rows in turned]


def test_no_flip_of_the_augmentation_looks_like_turns():
    # Both flips together are a half turn, and a flip alone is the other one with a half turn.
    plain = pictures_of_turns()
    assert plain[0] == plain[2]
    assert plain[1] == plain[3]
    assert [len(pictures) for pictures in plain] == [4] * 4
    assert Rotation.augment_changes == {"flip_vertical": 0.0}
    found = pictures_of_turns(**Rotation.augment_changes)
    assert [len(pictures) for pictures in found] == [2] * 4
    assert all(found[one].isdisjoint(found[other]) for one in range(4) for other in range(one))


def test_only_squares_can_be_turned_and_views_are_cut_to_their_central_one():
    with pytest.raises(ValueError, match="square"):
        four_turns(torch.zeros(1, 1, 4, 6))
    for size in ((32, 48), (48, 32)):
        method = recorded(toy_method("rotation", size=size, circle=False).train(), mean_map)
        batch = toy_batch(size=size)
        method.losses(batch)
        part = (slice(None), slice(8, 40))
        rows, columns = part if size == (32, 48) else part[::-1]
        assert torch.equal(method.encoder.seen[0][:8], batch.views[0][:, :, rows, columns])


def test_the_loss_is_the_cross_entropy_of_the_turns_by_loops():
    method = settle(toy_method("rotation", **TINY), tiny_batch())
    batch = tiny_batch()
    found = method.losses(batch)
    centre = method.head.norm
    total = 0.0
    for view in batch.views[0]:
        for turn in range(4):
            picture = torch.rot90(view, turn, (1, 2)).clone()
            for y in range(8):
                for x in range(8):
                    if math.hypot(y - 3.5, x - 3.5) > 4:
                        picture[:, y, x] = 0
            feature = method.encoder(picture[None])[-1][0].mean((1, 2))
            feature = (feature - centre.running_mean) / (centre.running_var + centre.eps).sqrt()
            scores = [sum(w * f for w, f in zip(row, feature, strict=True)) for row in method.head.last.weight]
            scores = torch.stack(scores)
            total = total + torch.logsumexp(scores, 0) - scores[turn]
    torch.testing.assert_close(found.terms["rotation"], total / 16, rtol=0, atol=1e-12)
    parameters = list(method.parameters())
    pairs = zip(
        torch.autograd.grad(found.terms["rotation"], parameters),
        torch.autograd.grad(total / 16, parameters),
        strict=True,
    )
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


def test_an_encoder_that_no_turn_changes_sits_at_log_4_whatever_the_head_learns():
    method = recorded(toy_method("rotation", dtype=torch.float64).train(), mean_map)
    batch = toy_batch(dtype=torch.float64)
    optimiser = torch.optim.Adam(method.head.parameters(), lr=0.1)
    for _ in range(150):
        loss = method.losses(batch).terms["rotation"]
        assert loss.item() >= math.log(4) - 1e-12
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert method.losses(batch).terms["rotation"].item() == pytest.approx(math.log(4), abs=1e-3)


def test_equal_features_are_at_chance_with_any_head():
    constant = lambda images: torch.full((len(images), 16, 1, 1), 3.0, dtype=images.dtype)  # noqa: E731
    method = recorded(toy_method("rotation", dtype=torch.float64).train(), constant)
    losses = method.losses(toy_batch(dtype=torch.float64))
    assert losses.terms["rotation"].item() == pytest.approx(math.log(4), abs=1e-12)
    assert losses.collapsed == math.log(4)
    assert losses.lower_bound == 0


def test_the_circle_is_the_same_for_every_turn_and_leaves_the_corners_out():
    for side in (4, 7, 8, 32, 48):
        circle = inscribed_circle(side)
        assert all(torch.equal(circle, torch.rot90(circle, turn)) for turn in range(4))
        assert torch.equal(circle, circle.T)
        assert not circle[0, 0]
        assert circle[0].any()
        assert float(circle.double().mean()) == pytest.approx(math.pi / 4, abs=0.6 / side)


@pytest.mark.parametrize("circle", [True, False])
def test_what_lies_outside_of_the_circle_takes_part_only_if_wanted(circle):
    method = toy_method("rotation", circle=circle).train()
    batch = toy_batch()
    marked = batch.views[0].clone()
    marked[:, :, ~inscribed_circle(32)] = 9.0
    one = method.losses(batch).terms["rotation"].item()
    two = method.losses(replace(batch, views=(marked, batch.views[1]))).terms["rotation"].item()
    assert (one == two) == circle


def test_the_second_view_takes_no_part():
    method = toy_method("rotation").train()
    batch = toy_batch()
    other = replace(batch, views=(batch.views[0], batch.views[1] + 5))
    assert method.losses(batch).terms["rotation"].item() == method.losses(other).terms["rotation"].item()


def test_embeddings_are_pooled_features_of_one_copy_per_slice_in_every_turn():
    method = settle(toy_method("rotation", dtype=torch.float64), toy_batch(dtype=torch.float64))
    batch = toy_batch(dtype=torch.float64)
    found = method.losses(batch).embeddings
    squares = method.squares(batch.views[0])
    for index in range(8):
        feature = method.encoder(torch.rot90(squares[index], index % 4, (1, 2))[None])[-1][0].mean((1, 2))
        torch.testing.assert_close(found[index], functional.normalize(feature, dim=0))


def test_accuracy_is_logged():
    method = toy_method("rotation", dtype=torch.float64).train()
    optimiser = torch.optim.Adam(method.parameters(), lr=3e-3)
    for _ in range(25):
        losses = method.losses(toy_batch(dtype=torch.float64))
        optimiser.zero_grad()
        losses.terms["rotation"].backward()
        optimiser.step()
    assert losses.terms["rotation"].item() < 0.5
    assert losses.scalars["accuracy"] > 0.9


@pytest.mark.parametrize(("circle", "expected"), [(True, 1.2821158794237764), (False, 1.294284069995314)])
def test_golden_values(circle, expected):
    method = toy_method("rotation", circle=circle, **TINY).train()
    batch = plant(method, tiny_batch())
    assert method.losses(batch).terms["rotation"].item() == pytest.approx(expected, abs=1e-8)
