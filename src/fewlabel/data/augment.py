"""Random views of slices: one fused resampling and a few in-place changes of intensity, on the training device.

Geometry (flip, rotation, scale, crop, elastic) is composed into one sampling grid, so a view is interpolated once.
Parameters are drawn on the CPU for the joined batch and sliced by rank. Views come out of :meth:`Augmenter.apply` on
about [0, 1] and go through :meth:`Augmenter.finish` last, which standardises them. Without that, and with gamma in
[0.5, 2] and shifts of ±0.2, contrastive training was seen to collapse to equal embeddings within 50 steps whatever the
optimiser; with it and shifts of ±0.05 it learns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Generator, Tensor
from torch.nn import functional

from fewlabel.data.augment_settings import AugmentConfig
from fewlabel.data.diffeomorphic_flow import displaced
from fewlabel.data.elastic import source_points
from fewlabel.data.intensity_changes import apply_blur, apply_contrast, apply_gamma, apply_noise, standardise
from fewlabel.data.scanner_appearance import Appearance
from fewlabel.data.store import UNLABELLED


@dataclass(frozen=True)
class Transform:
    """What was drawn for n views, on the CPU.

    View pixel v shows the source at ``matrices⁻¹ (v + d(v))``, where d is the cubic B-spline field of ``control``;
    without an elastic part source pixel s therefore lands at ``matrices s``. Pixel centres have whole coordinates.

    Attributes:
        matrices: (n, 3, 3) float32, source pixel (x, y, 1) → view pixel.
        control: (n, 2, k, k) float32, displacement (x, y) of the control points in view pixels; 0 without elastic.
        contrast: (n,) factor about the slice's mean.
        brightness: (n,) shift.
        gamma: (n,) exponent.
        noise: (n,) standard deviation.
        noise_seeds: (n,) int64, one per row.
        blur: (n,) Gaussian width in pixels.
        size: (height, width) of the view.
        source: (height, width) of the source.
        appearance: Further changes of intensity, before and after the standardisation; None for none.
    """

    matrices: Tensor
    control: Tensor
    contrast: Tensor
    brightness: Tensor
    gamma: Tensor
    noise: Tensor
    noise_seeds: Tensor
    blur: Tensor
    size: tuple[int, int]
    source: tuple[int, int]
    appearance: Appearance | None = None

    def __len__(self) -> int:
        return len(self.matrices)

    def __getitem__(self, rows: slice | Tensor) -> Transform:
        parts = {item.name: getattr(self, item.name) for item in fields(self)}
        whole = {name: part for name, part in parts.items() if name in {"size", "source"} or part is None}
        return Transform(**whole, **{name: part[rows] for name, part in parts.items() if name not in whole})

    def geometry(self) -> Transform:
        """The same geometry, intensities left as they are."""
        one, none = torch.ones_like(self.gamma), torch.zeros_like(self.gamma)
        return replace(self, contrast=one, gamma=one, brightness=none, noise=none, blur=none, appearance=None)

    def source_points(self) -> Tensor:
        """(n, 2, height, width): the source pixel (x, y) that each view pixel shows."""
        return source_points(torch.linalg.inv(self.matrices.double()).float(), self.control, self.size)

    def grid(self, device: torch.device | str, displacement: Tensor | None = None) -> Tensor:
        """(n, height, width, 2): the same points in the units of ``grid_sample`` with ``align_corners=False``.

        Args:
            device: Where to compute them.
            displacement: (n, 2, height, width) of source pixels, after all else; or None. It may have a multiple of the
                rows, for the slices of patches; so then has the grid.
        """
        height, width = self.source
        units = torch.tensor(
            [[2 / width, 0, 1 / width - 1], [0, 2 / height, 1 / height - 1], [0, 0, 1]], dtype=torch.float64
        )
        inverse = (units @ torch.linalg.inv(self.matrices.double())).float()
        points = source_points(inverse.to(device), self.control.to(device), self.size)
        if displacement is not None:
            points = displaced(points, displacement)
        # Planes x and y stay contiguous, which grid_sample reads fastest; the permutation moves no memory.
        return points.permute(0, 2, 3, 1)


class Augmenter:
    """Draws transforms and applies them.

    Args:
        config: What to draw.
    """

    def __init__(self, config: AugmentConfig) -> None:
        self.config = config

    def sample(
        self,
        count: int,
        size: tuple[int, int],
        generator: Generator,
        *,
        view: tuple[int, int] | None = None,
        focus: Tensor | None = None,
    ) -> Transform:
        """Draw the parameters of ``count`` views.

        Args:
            count: Number of views of the joined batch.
            size: (height, width) of the images.
            generator: CPU generator.
            view: (height, width) of the views; None for that of the images. A smaller view lies anywhere in its image.
            focus: (count, 2) float64 source pixel (x, y) that a view is about, NaN for a view that lies anywhere.
        """
        view = view or size
        config = self.config
        u = torch.rand(count, 18, generator=generator, dtype=torch.float64).unbind(1)
        matrices = self._matrices(u[:7], size, view, focus)

        points = config.elastic_intervals + 3
        control = torch.rand(count, 2, points, points, generator=generator).mul_(2).sub_(1)
        strength = torch.where(u[7] < config.elastic_probability, u[8] * config.elastic, 0.0)
        spacing = torch.tensor([view[1], view[0]], dtype=torch.float32) / config.elastic_intervals
        control *= strength.float()[:, None, None, None] * spacing[:, None, None]

        off = torch.zeros(count, dtype=torch.float64)
        gamma = torch.exp((2 * u[12] - 1) * math.log(config.gamma))
        noise = torch.where(u[13] < config.noise_probability, u[14] * config.noise, off)
        blur = torch.where(u[15] < config.blur_probability, (0.5 + 0.5 * u[16]) * config.blur, off)
        return Transform(
            matrices=matrices.float(),
            control=control,
            contrast=_between(u[9], config.contrast_low, config.contrast_high).float(),
            brightness=((2 * u[10] - 1) * config.brightness).float(),
            gamma=torch.where(u[11] < config.gamma_probability, gamma, off + 1).float(),
            noise=noise.float(),
            noise_seeds=(u[17] * 2**53).long(),
            blur=blur.float(),
            size=view,
            source=size,
            # Drawn last, and only where it is switched on: what was drawn before stays as it was.
            appearance=Appearance.sample(config, count, generator),
        )

    def apply(
        self, images: Tensor, transform: Transform, masks: Tensor | None = None, displacement: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Make the views.

        Args:
            images: (n, channels, height, width) float32 on [0, 1], on the training device. The channels may be the
                slices of a patch: they share one geometry and one change of contrast, each about its own mean, and
                have noise of their own.
            transform: n rows drawn for images of that size.
            masks: (n, height, width) class indices, or (n, slices, height, width), 255 where unlabelled; or None.
            displacement: (n, 2, height, width) source pixels, or (n · slices, 2, height, width) with one for each slice
                of the patches; part of the same sampling grid, so that nothing is interpolated twice. None for none.

        Returns:
            Views of the transform's size (outside of the source they are 0), not yet standardised; masks in int64,
            taken at the nearest pixel of the same grid. Outside of the source they are background, or 255 for a
            slice that has no label at all.

        Raises:
            ValueError: If sizes or row counts do not agree.
        """
        if tuple(images.shape[-2:]) != transform.source or len(images) != len(transform):
            given = f"{len(images)} images of {tuple(images.shape[-2:])}"
            raise ValueError(f"the transform holds {len(transform)} rows for size {transform.source}, not {given}")
        grid = transform.grid(images.device, displacement)
        # A grid for each slice of a patch takes the slices apart.
        layers = images.reshape(len(grid), -1, *transform.source)
        views = functional.grid_sample(layers, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        views = views.reshape(*images.shape[:2], *transform.size)
        views = apply_blur(views, transform.blur)
        views = apply_gamma(views, transform.gamma)
        if transform.appearance is not None:
            views = transform.appearance.before_standardisation(views)
        views = apply_contrast(views, transform.contrast, transform.brightness)
        views = apply_noise(views, transform.noise, transform.noise_seeds)
        return views, None if masks is None else _warp_masks(masks, grid)

    def finish(self, views: Tensor, transform: Transform) -> Tensor:
        """Standardise views, then change what comes after that.

        Args:
            views: (n, channels, height, width), from :meth:`apply`.
            transform: The n rows that made them.
        """
        views = standardise(views)
        if transform.appearance is None:
            return views
        return transform.appearance.after_standardisation(views)

    def _matrices(
        self,
        u: tuple[Tensor, ...] | list[Tensor],
        size: tuple[int, int],
        view: tuple[int, int],
        about: Tensor | None,
    ) -> Tensor:
        """(n, 3, 3) float64 source → view: move the crop's centre to 0, flip, rotate, magnify, move to the centre."""
        config = self.config
        sides, window_sides = (torch.tensor([w, h], dtype=torch.float64) for h, w in (size, view))
        angle = (2 * u[2] - 1) * math.radians(config.rotation)
        window = _between(u[3], config.crop, 1.0)
        low, high = math.log(config.scale_low), math.log(config.scale_high)
        zoom = torch.exp(_between(u[4], low, high)) / window
        anywhere = (sides - window_sides).clamp_min(0) / 2
        travel = ((1 - window) / 2 + config.translation)[:, None] * window_sides
        focus = (sides - 1) / 2
        if about is not None:
            free = about.isnan()
            focus, anywhere = torch.where(free, focus, about), torch.where(free, anywhere, 0.0)
        focus = focus + (2 * torch.stack([u[5], u[6]], dim=1) - 1) * (travel + anywhere)
        flips = zip(u, (config.flip_horizontal, config.flip_vertical), strict=False)
        flip = torch.stack([torch.where(part < share, -1.0, 1.0) for part, share in flips], dim=1).double()
        cosine, sine = torch.cos(angle), torch.sin(angle)
        rotation = torch.stack([cosine, -sine, sine, cosine], dim=1).view(-1, 2, 2)
        linear = rotation * flip[:, None, :] * zoom[:, None, None]
        matrices = torch.eye(3, dtype=torch.float64).repeat(len(angle), 1, 1)
        matrices[:, :2, :2] = linear
        matrices[:, :2, 2] = (window_sides - 1) / 2 - (linear @ focus[:, :, None])[:, :, 0]
        return matrices


def _between(u: Tensor, low: float, high: float) -> Tensor:
    return low + u * (high - low)


def _warp_masks(masks: Tensor, grid: Tensor) -> Tensor:
    values = masks.float()
    empty = (masks == UNLABELLED).flatten(-2).all(dim=-1)
    # grid_sample pads with 0, so slices without any label are shifted to have 255 there.
    offset = torch.where(empty, float(UNLABELLED), 0.0)[..., None, None]
    layers = (values - offset).reshape(len(grid), -1, *masks.shape[-2:])
    warped = functional.grid_sample(layers, grid, mode="nearest", align_corners=False)
    return (warped.reshape(*masks.shape[:-2], *grid.shape[1:3]) + offset).round_().long()
