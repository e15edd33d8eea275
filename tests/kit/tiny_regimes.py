"""Regimes small enough for slow loops, in float64, and networks whose answers are known."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from fewlabel.core.plugin_discovery import load_plugin
from fewlabel.data.batch import SegmentationBatch
from fewlabel.nets.unet import UNetConfig
from fewlabel.regimes.base import Regime
from fewlabel.regimes.supervised_loss import SupervisedSettings, supervised_terms
from fewlabel.regimes.teacher import Teacher
from fewlabel.regimes.teacher_student import TeacherStudent
from kit.finetuning import FAMILY, build, toy_batch

TINY = UNetConfig(width=4, depth=2)
SIZE = (16, 16)


def tiny(name: str, *, seed: int = 0, **settings: Any) -> Any:
    """A regime on a two-level U-Net in float64.

    Its streams share the statistics of batch normalisation, so a test can say by one plain pass what is expected;
    that by default they do not is in the contract suite.
    """
    shared = {"joint": True} if "joint" in load_plugin(FAMILY, name).Config.model_fields else {}
    return build(name, seed=seed, network=TINY, dtype=torch.float64, **shared | settings).train()


def tiny_batch(regime: Regime, *, step: int = 10, labelled: int = 2, unlabelled: int = 3) -> SegmentationBatch:
    """Hearts of 16x16 pixels, made anew by every call: a generator serves once."""
    return toy_batch(
        regime, step=step, labelled=labelled, unlabelled=unlabelled, dtype=torch.float64, size=SIZE, seed=3
    )


@torch.no_grad()
def stir(module: nn.Module, seed: int = 7) -> None:
    """Other weights and running statistics."""
    source = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=source, dtype=torch.float64).to(tensor)
            tensor.copy_(tensor * (1 + noise.abs()) if name.endswith("running_var") else tensor + 0.3 * noise)


def apart(regime: TeacherStudent) -> TeacherStudent:
    """A regime whose teacher has moved away from the student, and is sure of some pixels and unsure of others."""
    stir(regime.teacher)
    with torch.no_grad():
        regime.teacher.network.get_parameter("classifier.weight").mul_(6)
    return regime


def use(regime: Any, network: nn.Module) -> Any:
    """The regime with another network, and a teacher that equals it where there is one."""
    regime.network = network
    if isinstance(regime, TeacherStudent):
        regime.teacher = Teacher(network, regime.settings.momentum)
    return regime


def supervised(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The supervised terms with default settings."""
    return supervised_terms(SupervisedSettings(), logits, labels)


def slow_mean_square(first: Tensor, second: Tensor, mask: Tensor | None = None) -> float:
    """Mean (a - b)² over all classes of the pixels of a mask (n, h, w), by a loop; 0 for no pixel."""
    one, two = first.detach(), second.detach()
    found = []
    for n, c, y, x in itertools.product(*map(range, one.shape)):
        if mask is None or bool(mask[n, y, x]):
            found.append((float(one[n, c, y, x]) - float(two[n, c, y, x])) ** 2)
    return sum(found) / max(len(found), 1)


class EachPixel(nn.Module):
    """Logits of a pixel from the pixel alone: a 1x1 convolution."""

    def __init__(self, classes: int = 4, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.classes = classes
        self.layer = nn.Conv2d(1, classes, 1).double()

    def forward(self, images: Tensor) -> Tensor:
        """(n, 1, h, w) → (n, classes, h, w)."""
        return torch.as_tensor(self.layer(images))


class Uniform(EachPixel):
    """All classes are as likely everywhere; still a function of its weights."""

    def forward(self, images: Tensor) -> Tensor:
        """(n, 1, h, w) → (n, classes, h, w)."""
        return 0 * super().forward(images)


class LinearProbabilities(EachPixel):
    """Two classes whose probabilities are linear in the pixel: 1/2 ± slope · x."""

    def __init__(self, slope: float = 0.05) -> None:
        super().__init__(classes=2)
        self.slope = nn.Parameter(torch.tensor(slope, dtype=torch.float64))

    def forward(self, images: Tensor) -> Tensor:
        """Logarithms of the probabilities (n, 2, h, w)."""
        return torch.cat([0.5 + self.slope * images, 0.5 - self.slope * images], dim=1).log()
