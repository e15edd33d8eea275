"""A transform without its intensities, and the reach of its geometry."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from fewlabel.data.augment import AugmentConfig, Augmenter
from fewlabel.data.intensity import standardise

SIZE = (24, 28)
#: Every change of intensity.
EVERYTHING = {
    "gamma_probability": 1.0, "blur_probability": 1.0, "noise_probability": 1.0, "low_resolution": 3.0,
    "low_resolution_probability": 0.6, "inverted_gamma": 1.7, "inverted_gamma_probability": 0.6, "bias": 0.3,
    "random_convolutions_probability": 0.6, "gain": 1.5, "shift": 0.3,
}  # fmt: skip
#: No geometry and no noise.
STILL = {
    "flip_horizontal": 0.0, "flip_vertical": 0.0, "rotation": 0.0, "scale_low": 1.0, "scale_high": 1.0, "crop": 1.0,
    "translation": 0.0, "elastic_probability": 0.0, "noise_probability": 0.0,
}  # fmt: skip


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


class TestGeometry:
    def test_it_keeps_geometry_and_switches_off_every_intensity(self):
        config = AugmentConfig(
            **EVERYTHING | {"gamma_probability": 1.0, "blur_probability": 1.0, "noise_probability": 1.0}
        )
        drawn = Augmenter(config).sample(6, SIZE, stream(7))
        found = drawn.geometry()
        assert torch.equal(found.matrices, drawn.matrices)
        assert torch.equal(found.control, drawn.control)
        assert found.appearance is None
        augmenter = Augmenter(AugmentConfig())
        given = torch.rand(6, 2, *SIZE, generator=stream())
        expected = functional.grid_sample(
            given, drawn.grid("cpu"), mode="bilinear", padding_mode="zeros", align_corners=False
        )
        applied, _ = augmenter.apply(given.clone(), found)
        assert torch.equal(applied, expected)
        assert torch.equal(augmenter.finish(applied, found), standardise(expected))
        assert len(found[1:3]) == 2
        assert found[1:3].appearance is None

    @pytest.mark.parametrize("reach", [0.0, 0.3, 1.0])
    def test_reach_is_a_share_of_rotation_of_the_logarithm_of_scale_and_of_translation(self, reach):
        config = AugmentConfig(
            **STILL | {"rotation": 80.0, "scale_low": 0.6, "scale_high": 1.7, "translation": 0.2, "flip_vertical": 0.5}
        )
        whole = Augmenter(config).sample(200, SIZE, stream(8)).matrices.double()
        found = Augmenter(config).sample(200, SIZE, stream(8), reach=reach).matrices.double()
        flip = torch.where(torch.linalg.det(whole[:, :2, :2]) < 0, -1.0, 1.0).double()

        def parts(matrices):
            linear = matrices[:, :2, :2] * torch.stack([torch.ones_like(flip), flip], dim=1)[:, None]
            scale = torch.linalg.det(linear).sqrt()
            # The source pixel in the middle of the view.
            centre = torch.tensor([(SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2]).double()
            focus = torch.linalg.solve(matrices[:, :2, :2], (centre - matrices[:, :2, 2])[:, :, None])[:, :, 0] - centre
            return torch.atan2(linear[:, 1, 0], linear[:, 0, 0]), scale.log(), focus

        for part, all_of_it in zip(parts(found), parts(whole), strict=True):
            torch.testing.assert_close(part, reach * all_of_it, rtol=1e-4, atol=1e-4)
        assert float(parts(whole)[0].abs().max()) > math.radians(75)

    def test_reach_leaves_the_crop_and_the_order_of_draws_alone(self):
        config = AugmentConfig(**STILL | {"crop": 0.5, "rotation": 30.0, "noise_probability": 1.0})
        generators = [stream(9), stream(9)]
        whole, none = (
            Augmenter(config).sample(20, SIZE, generator, reach=reach)
            for generator, reach in zip(generators, (1.0, 0.0), strict=True)
        )
        assert torch.equal(*(generator.get_state() for generator in generators))
        assert torch.equal(whole.noise, none.noise)
        torch.testing.assert_close(*(torch.linalg.det(t.matrices) for t in (whole, none)))
