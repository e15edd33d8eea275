"""A study of nested values, with all that is wrong with it told at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.suggestions import did_you_mean
from fewlabel.pipelines.study.spec import OWN, ArmSettings, ClaimSettings, SourceSettings, Study, StudySettings

#: Characters that a name of an arm, a source or a size may have.
LONGEST = 60


def parse_study(values: Mapping[str, Any]) -> Study:
    """A study of nested values; every fault at once.

    Args:
        values: As in a file of a study, with ``data`` and ``out``.

    Raises:
        SettingsError: With every unknown or missing setting, bad value and name that is not there.
    """
    faults: list[Fault] = []
    settings: StudySettings | None = None
    try:
        settings = StudySettings.parse(values)
    except SettingsError as error:
        faults.extend(error.faults)
    # What is wrong within arms is told at once with what is wrong beside them.
    arms = _each(ArmSettings, values.get("arms", {}), "arms", faults)
    sources = _each(SourceSettings, values.get("sources", {}), "sources", faults)
    claims = _each(ClaimSettings, values.get("claims", ()), "claims", faults)
    faults += _unknown_names(values, arms, claims) + _names(values)
    faults += [
        Fault(f'compares "{claim.better}" with itself', f"claims.{at}.than", "Name another arm")
        for at, claim in claims.items()
        if claim.better == claim.than
    ]
    if settings is not None and not values["arms"]:
        faults.append(Fault("must name one arm or more", "arms", "Write arms: {NAME: {method: gcl}}"))
    elif settings is not None:
        arms = {name: arm for name, arm in arms.items() if name not in settings.skip}
        faults += _left_out(settings, arms, sources)
    if settings is None or faults:
        raise SettingsError("The study is not valid:", list(dict.fromkeys(faults)))
    return Study(settings, arms, sources, tuple(claims.values()))


def _left_out(
    settings: StudySettings, arms: Mapping[str, ArmSettings], sources: Mapping[str, SourceSettings]
) -> list[Fault]:
    """A fault where what is left out is needed: the control, or the data of an arm."""
    faults = []
    if not settings.arms.keys() - set(settings.skip):
        faults.append(Fault("leaves out every arm", "skip", "Keep one or more"))
    elif settings.control in settings.skip:
        faults.append(Fault("leaves out the control", "skip", "Name another control"))
    for source, data in sources.items():
        takers = [name for name, arm in arms.items() if source in arm.pretrain_on]
        if data.data is None and takers:
            remedy = f"Add it, or leave out the arms that learn from it: skip=[{','.join(takers)}]"
            faults.append(Fault("this setting is required", f"sources.{source}.data", remedy))
    return faults


def _names(values: Mapping[str, Any]) -> list[Fault]:
    """A fault for each name that no table could show, and for what is named as the study's own data are."""
    faults = []
    for what, kind in (("arms", "an arm"), ("sources", "a source"), ("sizes", "a size")):
        given = values.get(what, {})
        names = [name for name in given if isinstance(name, str)] if isinstance(given, Mapping) else []
        faults += [
            Fault(f"{name[:LONGEST]!r} cannot name {kind}", what, f"Use a line of 1 to {LONGEST} characters")
            for name in names
            if not (name.strip() and name.isprintable() and len(name) <= LONGEST)
        ]
        if what == "sources" and OWN in names:
            faults.append(Fault("names the data of the study itself", f"{what}.{OWN}", "Use another name"))
    return faults


def _unknown_names(
    values: Mapping[str, Any], arms: Mapping[str, ArmSettings], claims: Mapping[int, ClaimSettings]
) -> list[Fault]:
    """A fault for each name of an arm or a source that is none."""
    named = values.get("arms", {})
    names = [str(name) for name in named] if isinstance(named, Mapping) else []
    left_out = values.get("skip", ())
    asked = [("control", str(values.get("control") or ""))]
    asked += [("skip", str(name)) for name in (left_out if isinstance(left_out, list | tuple) else ())]
    asked += [(f"claims.{at}.{key}", getattr(claim, key)) for at, claim in claims.items() for key in ("better", "than")]
    faults = [
        Fault(f'there is no arm "{name}"', where, did_you_mean(name, names))
        for where, name in asked
        if name and name not in names
    ]
    given = values.get("sources", {})
    known = [OWN, *map(str, given if isinstance(given, Mapping) else ())]
    for name, arm in arms.items():
        where = f"arms.{name}.pretrain_on"
        faults += [
            Fault(f'there is no source "{source}"', where, did_you_mean(source, known))
            for source in arm.pretrain_on
            if source not in known
        ]
        if not arm.pretrain_on or len(set(arm.pretrain_on)) < len(arm.pretrain_on):
            faults.append(Fault("must name different data, one or more", where, f"Write [{OWN}], or names of sources"))
    return faults


def _each(kind: type[Any], given: Any, where: str, faults: list[Fault]) -> dict[Any, Any]:
    """Settings of each name, or number; what is wrong with them is added to the faults."""
    built: dict[Any, Any] = {}
    if not isinstance(given, Mapping | list | tuple):
        # Told as a fault of the setting itself.
        return built
    for name, values in given.items() if isinstance(given, Mapping) else enumerate(given):
        if values is not None and not isinstance(values, Mapping):
            faults.append(Fault(f"must hold settings, not {values!r}", f"{where}.{name}", "Write key: value lines"))
            continue
        try:
            built[name] = kind.parse(values or {}, where=f"{where}.{name}.")
        except SettingsError as error:
            faults.extend(error.faults)
    return built
