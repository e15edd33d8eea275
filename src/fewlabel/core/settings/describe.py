"""Settings as rows for help, docs and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from fewlabel.core.plugin_discovery import load_plugin
from fewlabel.core.settings.base import Settings, default_of, group_fields, plugin_fields, plugin_name
from fewlabel.core.settings.value_syntax import show_value, type_name


def describe(
    settings: type[Settings], prefix: str = "", *, picks: Mapping[str, Any] | None = None, base: Settings | None = None
) -> list[dict[str, str]]:
    """A row per setting: key, type, default, unit, source, doc; groups and plug-ins with rows of their own.

    A group's own row has no default. Where it changes the default of a setting in it, the source is the group's.

    Args:
        settings: The class to describe.
        prefix: Put before each key.
        picks: Nested values; a plug-in named here is described in place of the default one.
        base: Instance whose values are the defaults, where they are not those of the class.

    Raises:
        SettingsError: If ``picks`` names an unknown plug-in.
    """
    rows: list[dict[str, str]] = []
    plugins = plugin_fields(settings)
    groups = group_fields(settings)
    for name, field in settings.model_fields.items():
        default = default_of(settings, name, base)
        picked = (picks or {}).get(name)
        if name in groups:
            start = default if isinstance(default, Settings) else None
            rows.extend(_group(field, groups[name], f"{prefix}{name}", start, picked))
            continue
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        row = {
            "key": f"{prefix}{name}",
            "type": "name" if name in plugins else type_name(field.annotation),
            "default": "required" if default is PydanticUndefined else show_value(default),
            "unit": str(extra.get("unit", "")),
            "source": str(extra.get("source", "")),
            "doc": field.description or "",
        }
        rows.append(row)
        if name in plugins:
            plugin = plugin_name(picked) or plugin_name(default)
            if plugin:
                config = load_plugin(plugins[name], plugin, where=f"{prefix}{name}").Config
                inside = describe(config, f"{prefix}{name}.")
                rows.extend(inner for inner in inside if inner["key"] != f"{prefix}{name}.name")
    return rows


def _group(
    field: FieldInfo, kind: type[Settings], key: str, start: Settings | None, picked: object
) -> list[dict[str, str]]:
    """The row of a group, then those of its settings."""
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    source = str(extra.get("source", ""))
    shown = type(start) if start else kind
    inside = describe(shown, f"{key}.", picks=picked if isinstance(picked, Mapping) else None, base=start)
    changed = {
        f"{key}.{name}"
        for name in shown.model_fields
        if start is not None and getattr(start, name) != default_of(shown, name, None)
    }
    head = {"key": key, "type": "group", "default": "", "unit": "", "source": source, "doc": field.description or ""}
    return [head, *({**row, "source": source} if row["key"] in changed else row for row in inside)]
