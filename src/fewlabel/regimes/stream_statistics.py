"""Labelled and unlabelled slices in one pass: whose statistics batch normalisation uses."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from torch import nn

from fewlabel.core.settings.base import setting
from fewlabel.nets.synchronised_batch_norm import separate_statistics
from fewlabel.regimes.supervised_loss import SupervisedSettings


class StreamSettings(SupervisedSettings):
    """Settings of regimes with labelled and unlabelled slices.

    Public codes let both streams share the statistics of batch normalisation. With one or two labelled patients that is
    harmful (decision 0008): the supervised loss then shapes the unlabelled activations through the statistics; it falls
    faster, and predictions for all other patients become flat. So each stream has statistics of its own by default.
    """

    joint: bool = setting(
        False,
        "labelled and unlabelled slices share the statistics of batch normalisation",
        source="own choice; SSL4MIS, ARCO: true",
    )


def streams(settings: StreamSettings, module: nn.Module, *rows: int) -> AbstractContextManager[None]:
    """Within, a pass of rows (labelled, then unlabelled) normalises each stream by itself, unless they are joint.

    Args:
        settings: Whether the streams are joint.
        module: Holds all networks of the pass; those in eval mode are not touched.
        rows: Length of each stream, in order.
    """
    return nullcontext() if settings.joint else separate_statistics(module, rows)
