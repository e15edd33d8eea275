"""Running statistics of batch normalisation from other images (AdaBN, Li et al., arXiv:1603.04779; α-BN mixes)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from fewlabel.core.full_precision import full_precision
from fewlabel.nets.synchronised_batch_norm import BatchNorm


def recalibrate(
    network: nn.Module, batches: Iterable[Tensor], *, share: float = 1.0, keep: Iterable[nn.Module] = ()
) -> None:
    """Replace the running mean and variance of every batch normalisation by those over all values of these batches.

    With a ``share`` below 1 they become those of a mixture in which that share of the values is of these batches and
    the rest as before.

    In this one pass every layer normalises by the batch at hand, as in training, so that what reaches the next layer
    does not depend on the old statistics. The mean is that of the batches' means and the variance the mean of their
    variances plus the variance of their means, each batch weighted by its number of values: the (unbiased) variance of
    all values, where an average of running variances would leave out how batches differ. All else in the network is in
    eval mode; weights and modes stay as they are. A second call with the same batches and a share of 1 changes nothing,
    and every process that makes the call finds the same by itself: the batches are whole, not shared out. If a batch
    fails, the statistics stay as they were.

    Args:
        network: The network.
        batches: (rows, channels, *space) images, as the network sees them at prediction, on its device.
        share: Of the statistics of these batches in the result, above 0 and at most 1.
        keep: Parts of the network whose statistics stay, and are used, as they are.
    """
    kept = {layer for part in keep for layer in part.modules()}
    layers = [layer for layer in network.modules() if isinstance(layer, BatchNorm) and layer not in kept]
    moments_of = {layer: _Moments(layer) for layer in layers if layer.running_mean is not None}
    if not moments_of:
        return
    modes = {module: module.training for module in network.modules()}
    hooks = [layer.register_forward_pre_hook(moments.take) for layer, moments in moments_of.items()]
    network.eval()
    passes = 0
    try:
        with torch.no_grad():
            for batch in batches:
                network(batch)
                passes += 1
            for layer, moments in moments_of.items():
                moments.give(layer, passes, share)
    except BaseException:
        for layer, moments in moments_of.items():
            moments.undo(layer)
        raise
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training


class _Moments:
    """Mean and squared deviations of all values that entered one layer, channel by channel (Chan et al. 1979)."""

    def __init__(self, layer: nn.Module) -> None:
        # Copies, of a network in float64 too: its buffers are written over by every map.
        self.before = tuple(
            layer.get_buffer(name).to(torch.float64, copy=True) for name in ("running_mean", "running_var")
        )
        self.count = 0
        self.mean = torch.zeros(())
        self.squares = torch.zeros(())

    def take(self, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Add a map, and have the layer, which is in eval mode, normalise it by its own statistics."""
        values = full_precision(inputs[0])
        axes = (0, *range(2, values.dim()))
        variance, mean = torch.var_mean(values, dim=axes, correction=0)
        layer.get_buffer("running_mean").copy_(mean)
        layer.get_buffer("running_var").copy_(variance)
        size = values.numel() // values.shape[1]
        total = self.count + size
        apart = mean.double() - self.mean.to(mean.device)
        self.mean = self.mean.to(mean.device) + apart * (size / total)
        self.squares = self.squares.to(mean.device) + variance.double() * size + apart**2 * (self.count * size / total)
        self.count = total

    def undo(self, layer: nn.Module) -> None:
        """Leave the statistics in the layer that it had before."""
        for name, before in zip(("running_mean", "running_var"), self.before, strict=True):
            layer.get_buffer(name).copy_(before)

    def give(self, layer: nn.Module, passes: int, share: float) -> None:
        """Leave the statistics of all maps, mixed with those before, in the layer."""
        if not self.count:
            return
        mean, variance = self.before
        apart = self.mean - mean
        inside = torch.lerp(variance, self.squares / max(self.count - 1, 1), share)
        layer.get_buffer("running_mean").copy_(torch.lerp(mean, self.mean, share))
        layer.get_buffer("running_var").copy_(inside + share * (1 - share) * apart**2)
        layer.get_buffer("num_batches_tracked").fill_(passes)
