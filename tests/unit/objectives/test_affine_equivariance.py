"""Affine warps and equivariance: identities, known turns, masks, and what stays out of the loss."""

from __future__ import annotations

import math

import pytest
import torch

from fewlabel.objectives.affine_equivariance import equivariance, random_warps, warp, warp_images

FLAT, DEEP = (8, 12), (4, 6, 8)


def still(count, space):
    """Warps of no turn, shift, zoom or mirror."""
    return random_warps(count, space, torch.Generator(), angle=0, shift=0, scale=0, mirror=False)


def fixed(space, angle=0.0, shift=0.0, zoom=1.0):
    """One warp by hand, in pixels: source = centre + R (place - centre) / zoom, and a shift of the last axis."""
    axes = len(space)
    theta = torch.cat([torch.eye(axes), torch.zeros(axes, 1)], dim=1).double()
    ratio = space[-2] / space[-1]
    theta[0, 0], theta[0, 1] = math.cos(angle) / zoom, -math.sin(angle) * ratio / zoom
    theta[1, 0], theta[1, 1] = math.sin(angle) / ratio / zoom, math.cos(angle) / zoom
    theta[0, -1] = shift
    return theta[None]


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("space", [FLAT, DEEP])
def test_nothing_asked_for_changes_nothing(space):
    warps = still(2, space)
    identity = torch.cat([torch.eye(len(space)), torch.zeros(len(space), 1)], dim=1).double()
    torch.testing.assert_close(warps, identity.expand(2, -1, -1))
    images = noise(2, 3, *space)
    torch.testing.assert_close(warp(images, warps), images, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("space", [FLAT, DEEP])
def test_an_image_has_no_grey_frame_after_it(space):
    images = noise(2, 1, *space).clamp_min(-1) + torch.tensor([0.0, 3.0]).view(2, *[1] * (len(space) + 1))
    theta = fixed(space, shift=2.0).expand(2, -1, -1)
    # Shifted out altogether: nothing but the darkest value of each.
    found = warp_images(images, theta)
    assert found.flatten(1).amin(dim=1).tolist() == pytest.approx([-1, 2])
    assert found.flatten(1).amax(dim=1).tolist() == pytest.approx([-1, 2])
    torch.testing.assert_close(warp_images(images, still(2, space)), images, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_of_a_square_are_exact(turns):
    images = noise(1, 2, 8, 8)
    found = warp(images, fixed((8, 8), turns * math.pi / 2))
    torch.testing.assert_close(found, torch.rot90(images, turns, (2, 3)), rtol=1e-9, atol=1e-9)


def test_a_turn_of_an_oblong_image_is_no_shear():
    # A disc stays a disc under any turn about its centre.
    y, x = torch.meshgrid(torch.arange(32).double() - 15.5, torch.arange(64).double() - 31.5, indexing="ij")
    disc = (x**2 + y**2).sqrt().sub(9).mul(-1).sigmoid()[None, None]
    found = warp(disc, fixed((32, 64), 0.7))
    assert float((found - disc).abs().max()) < 0.02


def test_a_volume_turns_in_the_plane_of_its_last_axes():
    volume = noise(1, 1, 3, 8, 8)
    found = warp(volume, fixed((3, 8, 8), math.pi / 2))
    torch.testing.assert_close(found, torch.rot90(volume, 1, (3, 4)), rtol=1e-9, atol=1e-9)


def test_shift_zoom_and_border():
    images = noise(1, 1, 4, 8)
    # A quarter of the width, 2 pixels: the last two columns show what lies outside, 0.
    found = warp(images, fixed((4, 8), shift=0.5))
    torch.testing.assert_close(found[..., :6], images[..., 2:], rtol=1e-9, atol=1e-9)
    assert float(found[..., 6:].abs().sum()) < 1e-9
    one = torch.ones(1, 1, 16, 16).double()
    assert float(warp(one, fixed((16, 16), zoom=0.5)).sum()) == pytest.approx(64, rel=0.01)


@pytest.mark.parametrize("space", [FLAT, DEEP])
def test_warps_lie_in_their_ranges_and_differ(space):
    warps = random_warps(500, space, torch.Generator().manual_seed(0))
    axes, ratio = len(space), space[-2] / space[-1]
    assert warps.shape == (500, axes, axes + 1)
    # Back to pixels: columns of the linear part have the length 1/size.
    first = torch.stack([warps[:, 0, 0], warps[:, 1, 0] * ratio], dim=1)
    size = 1 / first.norm(dim=1)
    assert 0.8 <= float(size.min()) < 0.82
    assert 1.18 < float(size.max()) <= 1.2
    second = torch.stack([warps[:, 0, 1] / ratio, warps[:, 1, 1]], dim=1)
    torch.testing.assert_close((first * second).sum(dim=1), torch.zeros(500).double(), atol=1e-12, rtol=0)
    angle = torch.atan2(-second[:, 0], second[:, 1]) * 180 / math.pi
    assert 58 < float(angle.abs().max()) <= 60
    flips = (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) < 0
    assert 200 < int(flips.sum()) < 300
    # A tenth of a side, in coordinates of length 2.
    assert 0.19 < float(warps[:, :, -1].abs().max()) <= 0.2
    if axes == 3:
        torch.testing.assert_close(warps[:, 2, 2], 1 / size)
        assert float(warps[:, :2, 2].abs().sum() + warps[:, 2, :2].abs().sum()) == 0


def confident_disc(scale=8.0):
    """Logits of a sure disc of class 1 in a background, (1, 3, 32, 32)."""
    y, x = torch.meshgrid(torch.arange(32).double() - 15.5, torch.arange(32).double() - 15.5, indexing="ij")
    inside = (8 - (x**2 + y**2).sqrt()).clamp(-1, 1)
    return torch.stack([-scale * inside, scale * inside, torch.full_like(inside, -scale)])[None]


def test_a_network_that_follows_costs_nothing():
    logits = confident_disc()
    for warps in (still(1, (32, 32)), fixed((32, 32), 0.5, 0.1, 1.1)):
        assert float(equivariance(logits, warp(logits, warps), warps, 0.7)) == pytest.approx(0, abs=1e-12)


def test_uniform_output_costs_nothing_even_at_the_border():
    # All classes alike: the padding of logits with 0 is uniform too. A threshold of 0 lets every pixel count.
    logits = torch.zeros(2, 3, 8, 8).double()
    warps = random_warps(2, (8, 8), torch.Generator().manual_seed(1))
    assert float(equivariance(logits, logits, warps, 0.0)) == pytest.approx(0, abs=1e-12)


def test_an_empty_mask_gives_zero_and_a_graph():
    background = torch.zeros(1, 3, 8, 8).double()
    background[:, 0] = 5
    student = noise(1, 3, 8, 8).requires_grad_()
    for logits, threshold in ((background, 0.7), (noise(1, 3, 8, 8) * 0.01, 0.9)):
        loss = equivariance(logits, student, still(1, (8, 8)), threshold)
        loss.backward()
        assert float(loss.detach()) == 0
        assert not bool(student.grad.isnan().any())


def test_the_loss_is_that_of_a_loop_and_only_the_second_pass_learns():
    logits, warped = (4 * noise(2, 3, 6, 6)).requires_grad_(), noise(2, 3, 6, 6, seed=1).requires_grad_()
    loss = equivariance(logits, warped, still(2, (6, 6)), 0.7)
    total, count = 0.0, 0
    for row, other in zip(logits.detach(), warped.detach(), strict=True):
        for i in range(6):
            for j in range(6):
                p, q = row[:, i, j].softmax(0), other[:, i, j].softmax(0)
                if int(p.argmax()) > 0 and float(p.max()) >= 0.7:
                    total += float((p * (p / q).log()).sum())
                    count += 1
    assert count > 5
    assert float(loss.detach()) == pytest.approx(total / count, abs=1e-10)
    gradients = torch.autograd.grad(loss, (logits, warped), allow_unused=True)
    assert gradients[0] is None
    assert float(gradients[1].abs().sum()) > 0
