"""Batch normalisation that is the same on one process and on many, and that can treat parts of a batch apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from fewlabel.core.collective import gather, sum_across, world_size
from fewlabel.core.full_precision import full_precision


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over (batch, *space) for 2D and 3D maps, with statistics of the joined batch.

    In a single process this is :func:`torch.nn.functional.batch_norm`; with several, mean and variance are
    those of all of them, with gradient, so that ``k`` processes equal one process on the joined batch. Within
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
        mean, variance, count = joined_statistics(input)
        with torch.no_grad():
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
            if self.running_mean is not None and self.running_var is not None:
                share = self._share()
                self.running_mean.lerp_(mean, share)
                self.running_var.lerp_(variance * (count / max(count - 1.0, 1.0)), share)
        weight, bias = (self.weight, self.bias) if self.affine else (torch.ones_like(mean), torch.zeros_like(mean))
        result: Tensor = _NormaliseJoined.apply(  # type: ignore[no-untyped-call]
            input, weight, bias, mean, variance, count, self.eps
        )
        return result

    def _share(self) -> float:
        """What the batch at hand counts in the running statistics; without a momentum they are means over batches."""
        if self.momentum is not None:
            return self.momentum
        return 1.0 if self.num_batches_tracked is None else 1.0 / float(self.num_batches_tracked)


class _NormaliseJoined(torch.autograd.Function):
    """Normalisation by the joined batch's statistics, which follow the input as far as the gradient is concerned.

    Both ways go through the library's fused operations for constant statistics. What the statistics add to the
    gradient needs two sums a channel over all ranks: one message.
    """

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, count: float, eps: float
    ) -> Tensor:
        """(x - mean) / sqrt(variance + eps) * weight + bias, in the type of the input."""
        ctx.save_for_backward(input, weight, mean, variance)
        ctx.count, ctx.eps = count, eps
        return functional.batch_norm(input, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient for constant statistics, less its mean and its part along the normalised map."""
        input, weight, mean, variance = ctx.saved_tensors
        own, for_weight, for_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], input, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        if ctx.needs_input_grad[0]:
            along, level = sum_across(torch.stack([for_weight, for_bias])) / ctx.count
            scale = weight * torch.rsqrt(variance + ctx.eps)
            own -= functional.batch_norm(
                input, mean, variance, scale * along, scale * level, training=False, eps=ctx.eps
            )
        return own, for_weight, for_bias, None, None, None, None


def joined_statistics(maps: Tensor) -> tuple[Tensor, Tensor, float]:
    """Mean and variance per channel over the maps of all ranks, which hold equally many; not differentiable.

    Args:
        maps: (batch, channels, *space), any floating-point type.

    Returns:
        Mean and (biased) variance, (channels,) each, float32 or, for float64 maps, float64; values per channel.
    """
    with torch.no_grad():
        kind = torch.float64 if maps.dtype == torch.float64 else torch.float32
        # Running statistics are what tells the operation its precision; these are thrown away.
        unused = torch.zeros(2, maps.shape[1], dtype=kind, device=maps.device)
        mean, variance = torch.batch_norm_update_stats(maps.detach(), unused[0], unused[1], 0.0)
        count = float(maps.numel() // maps.shape[1])
        if world_size() == 1:
            return mean, variance, count
        means, variances = gather(torch.stack([mean, variance])[None]).unbind(dim=1)
        mean = means.mean(dim=0)
        variance = variances.mean(dim=0) + (means - mean).square().mean(dim=0)
        return mean, variance, count * world_size()


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
            _, variance, _ = joined_statistics(values)
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
