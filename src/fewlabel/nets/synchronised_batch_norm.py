"""Batch normalisation that is the same on one process and on many, and that can treat parts of a batch apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fewlabel.core.collective import sum_across, world_size
from fewlabel.core.full_precision import full_precision


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over (batch, *space) for 2D and 3D maps, with statistics of the joined batch.

    In a single process this is :func:`torch.nn.functional.batch_norm`; with several, mean and variance are
    all-reduced with gradient, so that ``k`` processes equal one process on the joined batch. Within
    :func:`separate_statistics` each part of a batch has statistics of its own.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Rows of each part whose statistics are its own; all rows together if empty. An attribute of each layer from
        #: the start: a compiler would take one that comes later for another layer.
        self.parts: tuple[int, ...] = ()

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() not in (4, 5):
            raise ValueError(f"expected a 4D or 5D map, got {input.dim()}D")

    def forward(self, input: Tensor) -> Tensor:
        """Normalise a map; running statistics are used in eval mode."""
        if not self.training or len(self.parts) < 2:
            return self._normalise(input)
        return torch.cat([self._normalise(part) for part in torch.split(input, list(self.parts))])

    def _normalise(self, input: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(input)
        axes = [0, *range(2, input.dim())]
        shape = [1, -1] + [1] * (input.dim() - 2)
        values = full_precision(input)
        count = float(values.numel() // values.shape[1] * world_size())
        mean = sum_across(values.sum(dim=axes)) / count
        centred = values - mean.view(shape)
        variance = sum_across(centred.square().sum(dim=axes)) / count
        with torch.no_grad():
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
            if self.running_mean is not None and self.running_var is not None:
                share = self._share()
                self.running_mean.lerp_(mean.detach(), share)
                self.running_var.lerp_(variance.detach() * (count / max(count - 1.0, 1.0)), share)
        result = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            result = result * self.weight.view(shape) + self.bias.view(shape)
        return result.to(input.dtype)

    def _share(self) -> float:
        """What the batch at hand counts in the running statistics; without a momentum they are means over batches."""
        if self.momentum is not None:
            return self.momentum
        return 1.0 if self.num_batches_tracked is None else 1.0 / float(self.num_batches_tracked)


@contextmanager
def separate_statistics(network: nn.Module, rows: Sequence[int]) -> Iterator[None]:
    """Within, batch normalisation in train mode gives each part of a batch statistics of its own.

    The batch is still one pass. Running statistics take in each part, one after the other.

    Args:
        network: Whose layers; those in eval mode are not touched.
        rows: Length of each part, in order; parts of length 0 are left out. Other batches than of their sum are an
            error of :func:`torch.split` within.
    """
    parts = tuple(count for count in rows if count)
    layers = [module for module in network.modules() if isinstance(module, BatchNorm)]
    before = [layer.parts for layer in layers]
    for layer in layers:
        layer.parts = parts
    try:
        yield
    finally:
        for layer, old in zip(layers, before, strict=True):
            layer.parts = old


def normalisation(kind: str, channels: int, ndim: int) -> nn.Module:
    """A normalisation layer: ``batch``, ``instance`` or ``group`` (8 groups)."""
    if kind == "batch":
        return BatchNorm(channels)
    if kind == "instance":
        layer = nn.InstanceNorm2d if ndim == 2 else nn.InstanceNorm3d
        return layer(channels, affine=True)
    return nn.GroupNorm(min(8, channels), channels)


def affine_scale(norm: nn.Module, pre_norm: Tensor) -> Tensor:
    """γ/σ of a batch normalisation for the batch at hand, per channel, statistics held constant.

    Args:
        norm: The layer, in the mode in which it was applied.
        pre_norm: (batch, channels, *space) map that entered it.

    Returns:
        (channels,) for batch normalisation; (batch, channels) for instance and group normalisation. Float32, or
        float64 for float64 maps.
    """
    values = full_precision(pre_norm.detach())
    weight = full_precision(torch.as_tensor(norm.weight).detach())
    if isinstance(norm, BatchNorm):
        if norm.training or norm.running_var is None:
            axes = [0, *range(2, values.dim())]
            count = float(values.numel() // values.shape[1] * world_size())
            mean = sum_across(values.sum(dim=axes)) / count
            square = sum_across(values.square().sum(dim=axes)) / count
            variance = (square - mean.square()).clamp_min(0)
        else:
            variance = full_precision(norm.running_var)
        return weight * torch.rsqrt(variance + norm.eps)
    if isinstance(norm, nn.GroupNorm):
        grouped = values.reshape(values.shape[0], norm.num_groups, -1).var(dim=2, unbiased=False)
        variance = grouped.repeat_interleave(values.shape[1] // norm.num_groups, dim=1)
        return weight * torch.rsqrt(variance + norm.eps)
    variance = values.flatten(2).var(dim=2, unbiased=False)
    return weight * torch.rsqrt(variance + float(norm.eps))  # type: ignore[arg-type]


def activation(slope: float) -> nn.Module:
    """ReLU for slope 0, else LeakyReLU."""
    return nn.ReLU(inplace=True) if slope == 0 else nn.LeakyReLU(slope, inplace=True)


__all__ = ["BatchNorm", "activation", "affine_scale", "normalisation", "separate_statistics"]
