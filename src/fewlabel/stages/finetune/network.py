"""Settings of the network that fine-tuning cannot follow: those that would have no effect are refused, others said."""

from __future__ import annotations

from pathlib import Path

from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.progress import say
from fewlabel.core.settings.config import given
from fewlabel.nets.unet import UNetConfig
from fewlabel.stages.finetune.settings import FinetuneSettings


def check_network(settings: FinetuneSettings, built: UNetConfig, where: str = "") -> None:
    """Refuse settings of the network that would have no effect.

    An encoder brings its architecture along, so the default and a recipe give way to it: they serve where there is no
    encoder. Settings of the command line do not.

    Args:
        settings: Settings of the stage as given.
        built: The network to build.
        where: Prefix of keys in messages.

    Raises:
        SettingsError: Naming each setting and what the encoder or the data have instead.
    """
    asked = settings.network
    faults = []
    for key in UNetConfig.model_fields:
        value, wanted = getattr(built, key), getattr(asked, key)
        if value == wanted or key not in asked.model_fields_set:
            continue
        remedy = f"Leave out network.{key}"
        if key == "in_channels":
            problem = f"is {wanted}, but the data in {settings.data} have {value}"
        elif key == "ndim":
            problem = f"is {wanted}, but a network of {'slices' if settings.patch is None else 'patches'} is {value}D"
        elif key in given(asked):
            problem = f"is {wanted}, but the encoder {settings.encoder} has {value}"
            remedy += ", or give another encoder"
        else:
            continue
        faults.append(Fault(problem, f"{where}network.{key}", remedy))
    if faults:
        raise SettingsError("These settings are not valid:", faults)


def say_network(asked: UNetConfig, built: UNetConfig, encoder: Path | None) -> None:
    """Say where an encoder takes the place of what a recipe asks of the network."""
    fields = [key for key in UNetConfig.model_fields if key in asked.model_fields_set]
    differing = [key for key in fields if getattr(asked, key) != getattr(built, key)]
    if differing:
        words = ", ".join(f"{key}={getattr(built, key)} (not {getattr(asked, key)})" for key in differing)
        say(f"network: that of {encoder}, {words}.")
