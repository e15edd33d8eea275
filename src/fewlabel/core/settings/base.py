"""Settings: declared once as a pydantic class, used by the command line, recipes, Python and the record."""

from __future__ import annotations

import json
import os
import types
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Self, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from fewlabel.core.errors import MISSING, UNKNOWN, Fault, SettingsError
from fewlabel.core.plugin_discovery import load_plugin
from fewlabel.core.settings.value_syntax import as_text_where_due, quoted, show_value, type_name
from fewlabel.core.suggestions import did_you_mean

#: What is wrong with a value, by pydantic's name for it.
_PROBLEMS = {
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "float_parsing": "must be a number",
    "bool_parsing": "must be true or false",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "literal_error": "must be {expected}",
    "tuple_type": "must be a list",
    "dict_type": "must hold names and their values",
    "model_type": "must hold settings",
    "path_type": "must be a path",
    "too_short": "must have at least {min_length} values",
    "too_long": "must have at most {max_length} values",
}

#: A path given as text or ``Path``.
PathSetting = Annotated[Path, Field(strict=False)]
#: A list of names given as a list, a tuple or ``[a, b]`` on the command line.
Names = Annotated[tuple[str, ...], Field(strict=False)]
#: A list of whole numbers.
Integers = Annotated[tuple[int, ...], Field(strict=False)]
#: A list of numbers.
Floats = Annotated[tuple[float, ...], Field(strict=False)]


def setting(default: Any = ..., doc: str = "", *, unit: str = "", source: str = "", **limits: Any) -> Any:
    """Declare one setting.

    Args:
        default: Its default; ``...`` makes it required.
        doc: One sentence for help and docs.
        unit: Unit or range, such as ``mm`` or ``steps``.
        source: Where the default comes from (paper, equation, code or our own measurement).
        **limits: Constraints of :func:`pydantic.Field`, such as ``ge`` and ``le``.
    """
    return Field(default, description=doc, json_schema_extra={"unit": unit, "source": source}, **limits)


#: The problem of a setting without a default that is not given.
REQUIRED = "this setting is required"
#: Error of pydantic → kind of fault.
_KINDS = {"missing": MISSING, "extra_forbidden": UNKNOWN}


class Settings(BaseModel):
    """Base of every group of settings: strict types, unknown keys refused, frozen once built."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False, protected_namespaces=()
    )

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, where: str = "", base: Settings | None = None) -> Self:
        """Build from nested values; every fault at once.

        Args:
            values: Nested mapping of keys to values, plug-ins by name or as ``{"name": …, key: …}``; a mapping
                without a name sets keys of the default plug-in.
            where: Prefix of keys in messages.
            base: Values of the keys not given, where they are not the defaults of the class: a group's default may
                differ from the defaults of its class, and naming one of its keys leaves the others as they were.

        Raises:
            SettingsError: Naming each unknown key (with the nearest known one), each bad value, and what
                :meth:`contradictions` has of the others.
        """
        try:
            built = cls._built(values, where, base)
        except SettingsError as error:
            wrong = [fault.where.removeprefix(where).split(".") for fault in error.faults]
            rest = dict(values)
            for keys in wrong:
                rest = _without(rest, keys)
            required = {name: "" for name, field in cls.model_fields.items() if field.is_required()}
            try:
                left = cls._built({**required, **rest}, where, base)
            except SettingsError:
                raise error from None
            faults = left.contradictions(where, without={keys[0] for keys in wrong})
            raise SettingsError(error.message, [*error.faults, *faults]) from None
        if faults := built.contradictions(where):
            raise SettingsError("These settings are not valid:", faults)
        return built

    def contradictions(self, where: str = "", *, without: Set[str] = frozenset()) -> list[Fault]:  # noqa: ARG002
        """What no single setting shows to be wrong; told at once with all other faults.

        Args:
            where: Prefix of keys in messages.
            without: Settings that are wrong anyhow and have their defaults here: rules about them are passed over.
        """
        return []

    @classmethod
    def _built(cls, values: Mapping[str, Any], where: str, base: Settings | None) -> Self:
        """Of values that are right one by one."""
        faults: list[Fault] = []
        ready = {**(dict(base) if base is not None else {}), **values}
        for name in ready.keys() & cls.model_fields.keys():
            ready[name] = as_text_where_due(cls.model_fields[name].annotation, ready[name])
        for name, package in plugin_fields(cls).items():
            if name in ready and not isinstance(ready[name], Settings):
                try:
                    value = _with_default_name(ready[name], default_of(cls, name, base))
                    ready[name] = resolve_plugin(package, value, where=f"{where}{name}")
                except SettingsError as error:
                    faults.extend(
                        error.faults or (Fault(f"{error.message}, not {quoted(ready[name])}", f"{where}{name}"),)
                    )
                    del ready[name]
                    if cls.model_fields[name].is_required():
                        raise SettingsError("These settings are not valid:", faults) from error
        for name, group in group_fields(cls).items():
            if isinstance(ready.get(name), Mapping):
                start = default_of(cls, name, base)
                inner = start if isinstance(start, group) else None
                try:
                    ready[name] = (type(inner) if inner else group).parse(
                        ready[name], where=f"{where}{name}.", base=inner
                    )
                except SettingsError as error:
                    faults.extend(error.faults)
                    del ready[name]
        try:
            built = cls.model_validate(ready)
        except ValidationError as error:
            faults.extend(_faults(cls, error, where))
        if faults:
            raise SettingsError("These settings are not valid:", faults)
        # What ``base`` gave is a default as well.
        built.model_fields_set.intersection_update(values)
        return built

    def record(self, home: Path | None = None) -> dict[str, Any]:
        """All settings as JSON-ready values, plug-ins included.

        Args:
            home: Folder from which paths are written, so that they hold true wherever it goes with what they name, and
                name no folder above the one that holds both; None leaves them as they were given.
        """
        values = dict(json.loads(self.model_dump_json()))
        if home is not None:
            paths = {name for name in values if isinstance(getattr(self, name), Path)}
            values = {
                name: path_from(home, value) if name in paths else without_absolute(home, value)
                for name, value in values.items()
            }
        return values


def path_from(home: Path, path: Path | str) -> str:
    """A path from a folder on, as records have it; absolute only where there is no way, as to another drive."""
    place = os.path.abspath(path)  # noqa: PTH100  # Path.absolute keeps "..", and resolve follows the last link too
    # By the name that it has, also where that is a link.
    named = os.path.join(os.path.realpath(os.path.dirname(place)), os.path.basename(place))  # noqa: PTH118, PTH119, PTH120
    try:
        return Path(os.path.relpath(named, os.path.realpath(home))).as_posix()
    except ValueError:
        return str(path)


def without_absolute(home: Path, value: Any) -> Any:
    """A value, nested or not, whose absolute paths are written from a folder on; of a word ``key=value`` its value."""
    if isinstance(value, Mapping):
        return {key: without_absolute(home, inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_absolute(home, inner) for inner in value]
    if not isinstance(value, str):
        return value
    if Path(value).is_absolute():
        return path_from(home, value)
    key, equals, text = value.partition("=")
    return f"{key}{equals}{path_from(home, text)}" if Path(text).is_absolute() else value


def found_from(home: Path, value: Any) -> Any:
    """What :func:`without_absolute` gave, with the paths that lead to something as they are from here."""
    if isinstance(value, Mapping):
        return {key: found_from(home, inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [found_from(home, inner) for inner in value]
    if not isinstance(value, str) or "/" not in value or Path(value).is_absolute():
        return value
    return located_from(home, value) if (home / value).exists() else value


def located_from(home: Path, path: str) -> str:
    """The absolute path of what :func:`path_from` named."""
    return os.path.normpath(Path(os.path.realpath(home)) / path)


def _without(values: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Nested values without the setting that the keys of each level lead to."""
    left = dict(values)
    inner = left.pop(keys[0], None)
    if isinstance(inner, Mapping) and len(keys) > 1:
        left[keys[0]] = _without(inner, keys[1:])
    return left


class _Plugin:
    """Marks a field whose value is the Config of a plug-in of ``package``."""

    def __init__(self, package: str) -> None:
        self.package = package


def plugin_field(package: str) -> Any:
    """Annotation of a setting whose value names a plug-in of ``package``, such as ``fewlabel.methods``."""
    return Annotated[
        SerializeAsAny[Settings],
        BeforeValidator(lambda value: resolve_plugin(package, value)),
        _Plugin(package),
    ]


def resolve_plugin(package: str, value: Any, *, where: str = "") -> Settings:
    """The Config of the plug-in that ``value`` names, with its own settings checked.

    Args:
        package: Dotted name of the family, such as ``fewlabel.methods``.
        value: A name, or a mapping with ``name`` and settings, or a ready Config.
        where: Key of the choice, for messages.

    Raises:
        SettingsError: If the name is unknown or a setting of the plug-in is wrong.
    """
    if isinstance(value, Settings):
        return value
    values = {"name": value} if isinstance(value, str) else dict(value) if isinstance(value, Mapping) else {}
    name = values.get("name")
    if not isinstance(name, str):
        fault = Fault(f"a name is missing in {quoted(value)}", where, f"Write {where or 'key'}=NAME")
        raise SettingsError("These settings are not valid:", [fault])
    config: type[Settings] = load_plugin(package, name, where=where).Config
    return config.parse(values, where=f"{where}." if where else "")


def default_of(settings: type[BaseModel], name: str, base: Settings | None) -> Any:
    """The default of a field, from ``base`` if given; ``PydanticUndefined`` where it is required."""
    if base is not None:
        return getattr(base, name)
    return settings.model_fields[name].get_default(call_default_factory=True)


def plugin_name(value: Any) -> str:
    """The name in a plug-in's value: a name itself, a mapping, or a Config; empty if there is none."""
    name = value.get("name") if isinstance(value, Mapping) else getattr(value, "name", value)
    return name if isinstance(name, str) else ""


def _with_default_name(value: Any, default: Any) -> Any:
    name = plugin_name(default)
    if isinstance(value, Mapping) and "name" not in value and name:
        return {"name": name, **value}
    return value


def plugin_fields(settings: type[BaseModel]) -> dict[str, str]:
    """Settings that choose a plug-in, and the family each chooses from."""
    packages = {}
    for name, field in settings.model_fields.items():
        for mark in field.metadata:
            if isinstance(mark, _Plugin):
                packages[name] = mark.package
    return packages


def group_fields(settings: type[BaseModel]) -> dict[str, type[Settings]]:
    """Settings that are groups of settings themselves."""
    plugins = plugin_fields(settings)
    return {
        name: field.annotation
        for name, field in settings.model_fields.items()
        if name not in plugins and isinstance(field.annotation, type) and issubclass(field.annotation, Settings)
    }


def _faults(settings: type[Settings], error: ValidationError, where: str) -> list[Fault]:
    """One fault per setting: the branches of a union that failed are reported as one."""
    by_field: dict[Any, list[Any]] = {}
    for detail in error.errors(include_url=False):
        by_field.setdefault(detail["loc"][:1], []).append(detail)
    faults = []
    for location, details in by_field.items():
        field = settings.model_fields.get(str(location[0])) if location else None
        union = field is not None and get_origin(field.annotation) in (Union, types.UnionType)
        if field is not None and union and len(details) > 1:
            value = details[0]["input"] if len(details[0]["loc"]) <= 2 else [part["input"] for part in details]
            problem = f"must be {type_name(field.annotation)}, not {quoted(value)}"
            faults.append(Fault(problem, f"{where}{location[0]}", _default_remedy(field)))
        else:
            kinds = [_KINDS.get(detail["type"], "") for detail in details]
            faults += [replace(_fault(settings, d, where), kind=kind) for d, kind in zip(details, kinds, strict=True)]
    return faults


def _fault(settings: type[Settings], detail: Any, where: str) -> Fault:
    location = detail["loc"]
    key = where + ".".join(map(str, location))
    value = quoted(detail["input"])
    if detail["type"] == "extra_forbidden":
        known = sorted(settings.model_fields)
        return Fault("unknown setting", key, did_you_mean(str(location[-1]), known))
    if detail["type"] == "missing":
        return Fault(REQUIRED, key, f"Add {key}=VALUE")
    field = settings.model_fields.get(str(location[0])) if location else None
    remedy = _default_remedy(field)
    if detail["type"] == "tuple_type":
        remedy = f"Write a list, such as {_as_list(detail['input'], key, field)}"
    if detail["type"] == "string_type" and len(location) > 1 and not isinstance(detail["input"], str):
        remedy = f'Put it in quotes: ["{show_value(detail["input"])}"]'
    return Fault(_problem(detail, value), key or where.rstrip("."), remedy)


def _problem(detail: Any, value: str) -> str:
    """What is wrong with a value, and the value unless the sentence has it already."""
    if detail["type"] in _PROBLEMS:
        context = {
            name: f"{item:g}" if isinstance(item, float) else str(item).replace("'", "")
            for name, item in detail.get("ctx", {}).items()
        }
        return f"{_PROBLEMS[detail['type']].format_map(context)}, not {value}"
    text = str(detail["msg"]).removeprefix("Value error, ").removeprefix("Input ").replace("should be", "must be")
    return text if text.endswith(f"not {value}") else f"{text} (given {value})"


def _as_list(value: Any, key: str, field: FieldInfo | None) -> str:
    """A single value as the list that it should have been; a list of so many numbers is a size, one for each axis."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    text = show_value(value) if number or isinstance(value, str) else "a"
    open_ended = field is not None and Ellipsis in get_args(field.annotation)
    return f"{key}=[{text},{text}]" if number and not open_ended else f"{key}=[{text}]"


def _default_remedy(field: FieldInfo | None) -> str:
    if field is None or field.default in (PydanticUndefined, None):
        return ""
    return f"Leave it out for the default, {show_value(field.default)}"
