"""The API's reference as one page, made from the OpenAPI document: no script, nothing from another host."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

router = APIRouter(tags=["reference"])
METHODS = ("get", "post", "put", "patch", "delete")
STYLE = """
:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}body{max-width:60rem;margin:2rem auto;padding:0 1rem}
code,pre{font:14px/1.4 ui-monospace,monospace}
pre{overflow:auto;padding:.5rem;border:1px solid color-mix(in srgb,currentColor 20%,transparent)}
h2{margin-top:2.5rem;border-bottom:1px solid color-mix(in srgb,currentColor 20%,transparent)}
table{border-collapse:collapse;width:100%}
td,th{text-align:left;vertical-align:top;padding:.2rem .8rem .2rem 0}nav li{display:inline-block;width:100%}
""".strip()
POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"


@router.get("/api", response_class=HTMLResponse)
def reference(request: Request) -> HTMLResponse:
    """This page."""
    page = render(request.app.openapi())
    return HTMLResponse(page, headers={"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"})


def render(document: Mapping[str, Any]) -> str:
    """The page for an OpenAPI document."""
    operations = [
        (method, path, item[method]) for path, item in document["paths"].items() for method in METHODS if method in item
    ]
    links = "".join(
        f'<li><a href="#{_anchor(method, path)}"><code>{method.upper()} {escape(path)}</code></a></li>'
        for method, path, _ in operations
    )
    body = "".join(part for operation in operations for part in _operation(*operation, document))
    title = escape(f"{document['info']['title']} API")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body><h1>{title}</h1>'
        f"<p>{escape(document['info'].get('summary', ''))}. The same as a document: "
        f'<a href="openapi.json">openapi.json</a>.</p><nav><ul>{links}</ul></nav>{body}</body></html>'
    )


def _operation(method: str, path: str, operation: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    yield f'<h2 id="{_anchor(method, path)}"><code>{method.upper()} {escape(path)}</code></h2>'
    yield f"<p>{escape(operation.get('description', ''))}</p>"
    if parameters := operation.get("parameters"):
        rows = "".join(
            f"<tr><td><code>{escape(one['name'])}</code></td><td>{escape(one['in'])}</td>"
            f"<td>{escape(_type(one.get('schema', {})))}</td><td>{escape(one.get('description', ''))}</td></tr>"
            for one in parameters
        )
        yield f"<table><tr><th>parameter</th><th>in</th><th>type</th><th></th></tr>{rows}</table>"
    for content in operation.get("requestBody", {}).get("content", {}).values():
        yield f"<p>Body:</p><pre>{escape(_shape(content['schema'], document))}</pre>"
    for status, answer in operation.get("responses", {}).items():
        yield f"<p><strong>{escape(str(status))}</strong> {escape(answer.get('description', ''))}</p>"
        schema = answer.get("content", {}).get("application/json", {}).get("schema")
        if schema:
            yield f"<pre>{escape(_shape(schema, document))}</pre>"


def _shape(schema: Mapping[str, Any], document: Mapping[str, Any], depth: int = 0) -> str:
    """A schema as an example of its shape."""
    return json.dumps(_example(schema, document, depth), indent=2, ensure_ascii=False)


def _example(schema: Mapping[str, Any], document: Mapping[str, Any], depth: int) -> Any:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return name if depth > 4 else _example(document["components"]["schemas"][name], document, depth + 1)
    if "anyOf" in schema:
        found = [_example(one, document, depth) for one in schema["anyOf"]]
        texts = [one for one in found if isinstance(one, str)]
        return " | ".join(texts) if len(texts) == len(found) else next(one for one in found if not isinstance(one, str))
    if "properties" in schema:
        return {name: _example(one, document, depth + 1) for name, one in schema["properties"].items()}
    if schema.get("type") == "array":
        return [_example(schema.get("items", {}), document, depth + 1)]
    return _type(schema)


def _type(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " | ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    return str(schema.get("format") or schema.get("type") or schema.get("const") or "any")


def _anchor(method: str, path: str) -> str:
    return escape(f"{method}{path}".replace("/", "-").replace("{", "").replace("}", ""))
