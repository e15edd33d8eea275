"""Names that other libraries give to the tensors of our encoder, and how they build the same network.

nnU-Net: ``PlainConvUNet`` of dynamic-network-architectures; MONAI: ``BasicUNet``. Neither library is imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from fewlabel.core.errors import Fault, SettingsError
from fewlabel.engine.weight_matching import WeightMatch, load_strictly
from fewlabel.nets.unet import UNetConfig, UNetEncoder

Target = Literal["nnunet", "monai"]
Pool = Literal["max", "conv"]

PLAIN_CONV_UNET = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
BASIC_UNET = "monai.networks.nets.BasicUNet"
#: Levels of MONAI's BasicUNet, which are fixed.
BASIC_LEVELS = 5
#: What follows a name of a convolution or a normalisation in a state.
_CONV = ("weight",)
_AFFINE = ("weight", "bias")
_BATCH = (*_AFFINE, "running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Foreign:
    """Our encoder in another library's terms.

    Attributes:
        names: Our name of a tensor → theirs; several where their network knows a tensor by several names.
        network: Dotted name of their class.
        arguments: What its constructor takes, beside the numbers of classes and, for nnU-Net, of input channels.
        imported: The arguments whose values are dotted names of classes.
        pool: How their encoder goes from a level to the next.
        exact: Whether their forward pass is ours.
        note: What the user must know, in a sentence.
    """

    names: Mapping[str, tuple[str, ...]]
    network: str
    arguments: Mapping[str, Any]
    imported: tuple[str, ...]
    pool: Pool
    exact: bool
    note: str

    def renamed(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of our encoder under every name they have there."""
        return {theirs: tensors[ours] for ours, every in self.names.items() for theirs in every}

    def load(self, encoder: UNetEncoder, tensors: Mapping[str, Tensor], *, where: str) -> WeightMatch:
        """Give their encoder's weights to ours; their decoder, classifier and second names are left out.

        Args:
            encoder: Receives the weights; untouched if they do not fit.
            tensors: State of their network, or of its encoder under the same names.
            where: File, for the message.

        Raises:
            ArtifactError: Unless every tensor of our encoder is there with its shape, and none of theirs is left over.
        """
        return load_strictly(encoder, tensors, where=where, rename=self.own_name())

    def own_name(self) -> Callable[[str], str | None]:
        """Their name → ours; None for a second name and for what is no part of the encoder."""
        ours = {every[0]: name for name, every in self.names.items()}
        second = {theirs for every in self.names.values() for theirs in every[1:]}
        stems = {theirs.split(".")[0] for every in self.names.values() for theirs in every}

        def rename(theirs: str) -> str | None:
            if theirs in second or theirs.split(".", maxsplit=1)[0] not in stems:
                return None
            return ours.get(theirs, theirs)

        return rename


def foreign(target: Target, config: UNetConfig, pool: Pool = "max") -> Foreign:
    """Our encoder in the terms of nnU-Net or MONAI.

    Args:
        target: ``nnunet`` or ``monai``.
        config: Architecture of the encoder.
        pool: For nnU-Net: ``max`` names a ``PlainConvUNet`` whose encoder halves by the maximum, as ours does; ``conv``
            one as nnU-Net builds it, which halves by a stride in the first convolution of a level. The tensors have
            the same shapes; with ``conv`` the forward pass is another.

    Raises:
        SettingsError: If the other library cannot build this network; every reason is named.
    """
    faults = _plain_conv_faults(config) if target == "nnunet" else _basic_faults(config, pool)
    if faults:
        raise SettingsError(f"{target} cannot build this encoder:", faults)
    return _plain_conv(config, pool) if target == "nnunet" else _basic(config)


def _own_names(config: UNetConfig) -> list[tuple[int, int, str, str]]:
    """(level, convolution, ``conv`` or ``norm``, our name without the last word) of every layer, in order."""
    return [
        (level, index, kind, f"blocks.{level}.{kind}{index + 1}")
        for level in range(config.depth)
        for index in range(2)
        for kind in ("conv", "norm")
    ]


def _entries(config: UNetConfig, kind: str) -> tuple[str, ...]:
    if kind == "conv":
        return _CONV
    return _BATCH if config.norm == "batch" else _AFFINE


def _plain_conv(config: UNetConfig, pool: Pool) -> Foreign:
    names = {}
    for level, index, kind, ours in _own_names(config):
        # A level that begins with a pooling holds its convolutions second.
        place = int(pool == "max" and level > 0)
        stem = f"encoder.stages.{level}.{place}.convs.{index}"
        for entry in _entries(config, kind):
            order = "all_modules.0" if kind == "conv" else "all_modules.1"
            names[f"{ours}.{entry}"] = (f"{stem}.{kind}.{entry}", f"{stem}.{order}.{entry}")
    layer = "BatchNorm" if config.norm == "batch" else "InstanceNorm"
    module = "batchnorm" if config.norm == "batch" else "instancenorm"
    slope = {"negative_slope": config.slope} if config.slope else {}
    return Foreign(
        names=names,
        network=PLAIN_CONV_UNET,
        arguments={
            "n_stages": config.depth,
            "features_per_stage": list(config.widths),
            "conv_op": f"torch.nn.modules.conv.Conv{config.ndim}d",
            "kernel_sizes": [[3] * config.ndim] * config.depth,
            "strides": [[1] * config.ndim, *([[2] * config.ndim] * (config.depth - 1))],
            "n_conv_per_stage": [2] * config.depth,
            "n_conv_per_stage_decoder": [2] * (config.depth - 1),
            "conv_bias": False,
            "norm_op": f"torch.nn.modules.{module}.{layer}{config.ndim}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU" if config.slope else "torch.nn.ReLU",
            "nonlin_kwargs": {**slope, "inplace": True},
        },
        imported=("conv_op", "norm_op", "dropout_op", "nonlin"),
        pool=pool,
        exact=pool == "max",
        note="PlainConvUNet with its encoder built by PlainConvEncoder(..., pool='max') gives the same maps"
        if pool == "max"
        else "a starting point only: PlainConvUNet halves by strided convolution where this encoder takes the maximum, "
        "so its maps differ",
    )


def _plain_conv_faults(config: UNetConfig) -> list[Fault]:
    if config.norm == "group":
        problem = "group cannot be built by PlainConvUNet, which passes on no number of groups"
        return [Fault(problem, "network.norm", "Pre-train with network.norm=batch or network.norm=instance")]
    return []


def _basic(config: UNetConfig) -> Foreign:
    names = {}
    for level, index, kind, ours in _own_names(config):
        stem = f"conv_0.conv_{index}" if level == 0 else f"down_{level}.convs.conv_{index}"
        for entry in _entries(config, kind):
            names[f"{ours}.{entry}"] = (f"{stem}.{'conv' if kind == 'conv' else 'adn.N'}.{entry}",)
    norms: dict[str, Any] = {
        "batch": "batch",
        "instance": ["instance", {"affine": True}],
        "group": ["group", {"num_groups": min(8, config.width)}],
    }
    return Foreign(
        names=names,
        network=BASIC_UNET,
        arguments={
            "spatial_dims": config.ndim,
            "in_channels": config.in_channels,
            # The last one is the decoder's, of our own choice.
            "features": [*config.widths, config.width],
            "act": ["leakyrelu", {"negative_slope": config.slope}] if config.slope else "relu",
            "norm": norms[config.norm],
            "bias": False,
        },
        imported=(),
        pool="max",
        exact=True,
        note="BasicUNet's five encoder levels give the same maps",
    )


def _basic_faults(config: UNetConfig, pool: Pool) -> list[Fault]:
    faults = []
    if config.depth != BASIC_LEVELS:
        remedy = f"Pre-train with network.depth={BASIC_LEVELS}, or use the encoder's own module"
        problem = f"must be {BASIC_LEVELS}, the levels of BasicUNet, not {config.depth}"
        faults.append(Fault(problem, "network.depth", remedy))
    if config.norm == "group" and config.width < 8:
        problem = (
            f"{config.width} makes {config.width} groups at the first level and 8 further down, but BasicUNet has one "
            "number of groups for all levels"
        )
        faults.append(Fault(problem, "network.width", "Pre-train with network.width=8 or more"))
    if pool != "max":
        faults.append(Fault(f"must be max, as in BasicUNet, not {pool}", "pool", "Leave it out"))
    return faults
