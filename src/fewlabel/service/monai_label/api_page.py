"""A page about the routes, made of their OpenAPI description: one file without scripts, so it works offline."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from jinja2 import Environment

_STYLE = """
body { font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1b1b1b; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
code { font-size: .95em; overflow-wrap: anywhere; }
.method { display: inline-block; min-width: 4.5em; font-weight: 600; }
dl { margin: .3rem 0 1.2rem 1rem; } dt { font-family: monospace; } dd { margin: 0 0 .3rem 1.5rem; color: #444; }
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ api.info.title }}</title><style>{{ style }}</style></head><body>
<h1>{{ api.info.title }}</h1>
<p>{{ api.info.description }}</p>
<p>For programs: <a href="openapi.json">openapi.json</a></p>
{% for tag, operations in tags.items() %}<h2>{{ tag }}</h2>
{% for one in operations %}<h3><span class="method">{{ one.method }}</span> <code>{{ one.path }}</code></h3>
<p>{{ one.words }}</p>
{% if one.fields %}<dl>{% for field in one.fields %}
<dt>{{ field.name }} ({{ field.place }}{{ ", required" if field.required }})</dt><dd>{{ field.words }}</dd>
{% endfor %}</dl>{% endif %}
{% endfor %}{% endfor %}</body></html>
"""

#: What the page needs of a content security policy: its own style, and no other.
STYLE_POLICY = f"'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"


def api_page(api: dict[str, Any]) -> str:
    """The page.

    Args:
        api: As FastAPI describes an application.
    """
    tags: dict[str, list[dict[str, Any]]] = {}
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            one = {"method": method.upper(), "path": path, "words": operation.get("description", "")}
            fields = [*_parameters(operation), *_form(operation, api)]
            tags.setdefault(operation["tags"][0], []).append({**one, "fields": fields})
    page = Environment(autoescape=True).from_string(_PAGE)
    # The hash of the policy is that of the style as it stands, so nothing in it may be escaped.
    return page.render(api=api, tags=tags, style=_raw(_STYLE))


def _parameters(operation: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": field["name"],
            "place": field["in"],
            "required": field.get("required", False),
            "words": field.get("description", ""),
        }
        for field in operation.get("parameters", ())
    ]


def _form(operation: dict[str, Any], api: dict[str, Any]) -> list[dict[str, Any]]:
    """Fields of a form, of a request that has one."""
    fields = []
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        name = content["schema"].get("$ref", "").rpartition("/")[2]
        schema = api["components"]["schemas"].get(name, {})
        for field, facts in schema.get("properties", {}).items():
            needed = field in schema.get("required", ())
            fields.append({"name": field, "place": kind, "required": needed, "words": facts.get("description", "")})
    return fields


def _raw(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)
