"""From the result of tools/call to what a step stores.

structuredContent as it is; else a single text block, parsed as JSON if it is JSON; else the list of blocks, with bulky
binary reduced to size and digest. Links a server returns are data and are never fetched.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from orchestrator.outcome import Failed, Succeeded
from persistence.json_value import decode_json
from workers.mcp_client.failures import clip, trouble

_SERVER_IDENTITY = "io.modelcontextprotocol/serverInfo"  # one known server puts a picture in it on every answer
_KEEP_BASE64_BYTES = 64 * 1024


def outcome_of(result: Any, where: str) -> Succeeded | Failed:
    """Succeeded or a tool's own failure. Raises Trouble for a result this client cannot act on."""
    if not isinstance(result, dict):
        return Succeeded(result)
    kind = result.get("resultType", "complete")
    if kind == "input_required":
        raise trouble(
            "protocol_error", f"{where} asks for input from a person during the call; a workflow step cannot give it"
        )
    if kind != "complete":
        raise trouble("protocol_error", f"{where} answered with the unknown result type {clip(str(kind), 80)!r}")
    if "content" not in result and "structuredContent" not in result and not isinstance(result.get("isError"), bool):
        return Succeeded(dict(result))  # a bare server that answers with its value itself
    output = output_of(result)
    if result.get("isError") is True:
        return Failed("tool_error", error_text(result.get("content"), output), "definite", None, output)
    return Succeeded(output, _meta(result))


def output_of(result: Mapping[str, Any]) -> Any:
    """The step's output: any JSON value."""
    if "structuredContent" in result:
        return result["structuredContent"]
    blocks = result.get("content")
    if not isinstance(blocks, list):
        return blocks
    if len(blocks) == 1 and isinstance(blocks[0], dict) and isinstance(blocks[0].get("text"), str):
        return parsed_text(blocks[0]["text"])
    return [_block(block) for block in blocks] if blocks else None


def parsed_text(text: str) -> Any:
    """The JSON value the text holds, else the text."""
    try:
        return decode_json(text)
    except ValueError:
        return text


def _block(block: Any) -> Any:
    if not isinstance(block, dict):
        return block
    kind = block.get("type")
    if kind == "text":
        return {"type": "text", "text": block.get("text")}
    if kind in ("image", "audio"):
        return {"type": kind, **_binary(block.get("data"), block.get("mimeType"))}
    if kind == "resource_link":
        return {key: block[key] for key in ("type", "uri", "name", "mimeType") if key in block}
    resource = block.get("resource")
    if kind == "resource" and isinstance(resource, dict):
        head = {"type": "resource", "uri": resource.get("uri")}
        if "blob" in resource:
            return {**head, **_binary(resource["blob"], resource.get("mimeType"))}
        return {**head, "mimeType": resource.get("mimeType"), "text": resource.get("text")}
    return {key: value for key, value in block.items() if key not in ("_meta", "annotations")}


def _binary(encoded: Any, mime: Any) -> dict[str, Any]:
    """Size and digest of the bytes; the base64 itself only while it is small."""
    text = encoded if isinstance(encoded, str) else ""
    try:
        raw = base64.b64decode(text, validate=False)
    except (binascii.Error, ValueError):
        raw = text.encode("utf-8", "replace")
    facts = {"mimeType": mime, "size": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    return facts | ({"data": text} if len(text) <= _KEEP_BASE64_BYTES else {})


def error_text(content: Any, output: Any) -> str:
    """The sentence of an isError result: its text blocks, else its output as JSON."""
    blocks = content if isinstance(content, list) else []
    texts = [b["text"] for b in blocks if isinstance(b, dict) and isinstance(b.get("text"), str)]
    said = "\n".join(texts) or json.dumps(output, ensure_ascii=False)
    return clip(said.strip() or "the tool failed without saying why")


def _meta(result: Mapping[str, Any]) -> Mapping[str, Any] | None:
    meta = result.get("_meta")
    kept = {k: v for k, v in meta.items() if k != _SERVER_IDENTITY} if isinstance(meta, dict) else {}
    return kept or None
