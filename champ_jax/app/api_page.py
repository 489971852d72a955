"""The API's page for people, made of its OpenAPI description. It runs no script and loads nothing."""

from collections.abc import Mapping
from html import escape
from typing import Any

_STYLE = """:root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;
padding:0 1rem}code{font-family:ui-monospace,monospace}h2{margin-top:2rem;text-transform:capitalize}
h3{margin:1.5rem 0 .3rem}table{border-collapse:collapse}td,th{text-align:left;padding:.2rem 1rem .2rem 0;
vertical-align:top}.method{display:inline-block;min-width:4.5rem}"""


def api_page(description: Mapping[str, Any], root: str) -> str:
    """The page's HTML.

    Args:
      description: what FastAPI's `openapi()` gives.
      root: the path that all addresses begin with.
    """
    about = description["info"]
    groups: dict[str, list[str]] = {}
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            groups.setdefault(operation["tags"][0], []).append(_operation(method, root + path, operation))
    parts = "".join(f"<h2>{escape(name)}</h2>{''.join(operations)}" for name, operations in groups.items())
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(about["title"])} API</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<h1>{escape(about['title'])} API {escape(about['version'])}</h1><p>{_text(about['description'])}</p>"
        f'<p>For programs: <a href="openapi.json">openapi.json</a>.</p>{parts}'
    )


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    rows = [
        _row(one["name"], f"in the {one['in']}", one.get("schema", {}), one.get("required", False))
        for one in operation.get("parameters", [])
    ]
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        rows += _fields(content["schema"]) or [f"<tr><td>body</td><td>{escape(kind)}</td><td></td></tr>"]
    table = f"<table><tr><th>Name</th><th>Value</th><th>Default</th></tr>{''.join(rows)}</table>" if rows else ""
    title = f'<code><span class="method">{method.upper()}</span>{escape(path)}</code>'
    return f"<h3>{title}</h3><p>{_text(operation.get('description', ''))}</p>{table}"


def _fields(schema: Mapping[str, Any], group: str = "") -> list[str]:
    rows: list[str] = []
    for name, field in schema.get("properties", {}).items():
        if "properties" in field:
            rows += _fields(field, f"{group}{name}.")
        else:
            rows.append(_row(f"{group}{name}", "", field, False))
    return rows


def _row(name: str, where: str, schema: Mapping[str, Any], required: bool) -> str:
    kinds = [one.get("type", "") for one in schema.get("anyOf", [schema])]
    value = ", ".join(filter(None, (" or ".join(kinds), where, "required" if required else "")))
    default = "" if "default" not in schema else escape(str(schema["default"]))
    return f"<tr><td><code>{escape(name)}</code></td><td>{escape(value)}</td><td>{default}</td></tr>"


def _text(text: str) -> str:
    """Text whose words between backticks are code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
