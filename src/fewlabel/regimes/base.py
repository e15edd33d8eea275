"""The contract of a fine-tuning regime."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from fewlabel.core.config import Settings
from fewlabel.data.batch import SegmentationBatch
from fewlabel.nets.unet import UNet


class Regime(nn.Module, ABC):
    """One way to train a segmentation network from few labels.

    Args:
        config: The regime's own settings.
        network: The network to train; kept as ``self.network``.
    """

    class Config(Settings):
        """Settings of a regime; ``name`` is its id."""

        name: str = ""

    #: Whether the regime asks for slices without labels.
    uses_unlabelled: ClassVar[bool] = False
    #: Where the regime comes from, for ``fewlabel regimes``.
    paper: ClassVar[str] = ""

    def __init__(self, config: Config, network: UNet) -> None:
        super().__init__()
        self.config = config
        self.network = network

    @abstractmethod
    def losses(self, batch: SegmentationBatch) -> dict[str, Tensor]:
        """Named scalar terms whose sum is minimised; means over this rank's slices."""

    def inference_network(self) -> UNet:
        """The network that predicts after training."""
        return self.network

    def after_step(self, step: int, total_steps: int) -> None:
        """Called once the optimiser has stepped."""


PLUGIN_BASE = Regime
