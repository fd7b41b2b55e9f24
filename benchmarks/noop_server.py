"""The cheapest MCP server over stdio: answers every tools/call at once. For benchmarks/hop.py."""

from __future__ import annotations

import json
import sys

RESULTS = {
    "initialize": {
        "protocolVersion": "2025-11-25",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "noop", "version": "1"},
    },
    "tools/list": {"tools": [{"name": "noop", "inputSchema": {"type": "object"}}]},
    "tools/call": {"content": [], "structuredContent": {}},
}

for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    answer = {"jsonrpc": "2.0", "id": message["id"]}
    if message["method"] in RESULTS:
        answer["result"] = RESULTS[message["method"]]
    else:
        answer["error"] = {"code": -32601, "message": "Method not found"}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
