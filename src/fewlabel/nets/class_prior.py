"""Classifiers that begin at how common classes are, so that training does not spend its first steps on that.

A classifier of random biases gives every class about the same probability. As most pixels are background, cross-entropy
first takes all classes down together, and a class whose probability is near 0 hardly moves soft Dice: a plateau of a
hundred steps and more, which a short training may never leave.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from fewlabel.nets.unet import UNet

#: Least share that a class begins at: the rarer it begins, the longer soft Dice takes to see it.
LEAST_SHARE = 0.01


def log_shares(counts: Tensor) -> Tensor:
    """Logarithms of the shares of classes, none below :data:`LEAST_SHARE`.

    Args:
        counts: (classes,) labelled pixels of each class.

    Returns:
        (classes,) float32; those of equal shares where no pixel is labelled.

    Example:
        >>> log_shares(torch.tensor([90, 10, 0])).exp()
        tensor([0.9000, 0.1000, 0.0100])
    """
    total = counts.sum()
    shares = counts / total if total > 0 else torch.full(counts.shape, 1 / len(counts))
    return shares.float().clamp_min(LEAST_SHARE).log()


def begin_at_shares(network: UNet, counts: Tensor) -> None:
    """Set the biases of a network's classifier to the logarithms of the shares of classes.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, section 3.3, for more than two classes.

    Args:
        network: With random weights.
        counts: (classes,) labelled pixels of each class.
    """
    _set_bias(network.classifier, log_shares(counts))


def begin_as(network: UNet, classifiers: Iterable[nn.Module]) -> None:
    """Give further classifiers of the same classes the biases of a network's own.

    Args:
        network: As a regime gets it.
        classifiers: Convolutions with as many outputs, of whatever inputs.
    """
    for classifier in classifiers:
        _set_bias(classifier, network.classifier.bias)


def _set_bias(classifier: nn.Module, values: Tensor | None) -> None:
    if isinstance(classifier, nn.Conv2d | nn.Conv3d) and classifier.bias is not None and values is not None:
        with torch.no_grad():
            classifier.bias.copy_(values)
