"""Every name of a span and an attribute, in one place; docs/traces.md is their table, by test.

Taken from open-telemetry/semantic-conventions-genai v0.1.0 (MCP, GenAI; status Development) and from
open-telemetry/semantic-conventions v1.45.0 (network, errors: stable; messaging: Development). Those that begin with
`workflow.` are ours. Spans of HTTP requests are FastAPI's.
"""

from __future__ import annotations

from typing import Final

SCOPE: Final = "afu9"  # the instrumentation scope

# ---------------------------------------------------------------------------------------------------------------- spans

WORKFLOW: Final = "workflow {}"  # the execution, by its workflow's name; INTERNAL
CALL: Final = "tools/call {}"  # an attempt that calls an MCP tool, by the tool's name; CLIENT
EXECUTE: Final = "execute_tool {}"  # the same of a tool of `builtin`, which no protocol is spoken with; INTERNAL
SEND: Final = "send {}"  # an execution's messages, by the queue's name; PRODUCER
PROCESS: Final = "process {}"  # a message, by the queue's name; CONSUMER

# ----------------------------------------------------------------------------------------------------------- attributes

WORKFLOW_NAME: Final = "workflow.name"
EXECUTION_ID: Final = "workflow.execution.id"
EXECUTION_STATUS: Final = "workflow.execution.status"
STEP_NAME: Final = "workflow.step.name"
STEP_ATTEMPT: Final = "workflow.step.attempt"
COST_USD: Final = "workflow.cost.usd"

ERROR_TYPE: Final = "error.type"

MCP_METHOD: Final = "mcp.method.name"
MCP_VERSION: Final = "mcp.protocol.version"
MCP_SESSION: Final = "mcp.session.id"
JSONRPC_ID: Final = "jsonrpc.request.id"
RPC_STATUS: Final = "rpc.response.status_code"
OPERATION: Final = "gen_ai.operation.name"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"  # with AFU9_TRACE_PAYLOADS alone
TOOL_RESULT: Final = "gen_ai.tool.call.result"  # likewise
TRANSPORT: Final = "network.transport"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"

MESSAGING_SYSTEM: Final = "messaging.system"
MESSAGING_DESTINATION: Final = "messaging.destination.name"
MESSAGING_OPERATION: Final = "messaging.operation.name"
MESSAGING_TYPE: Final = "messaging.operation.type"
MESSAGE_ID: Final = "messaging.message.id"
MESSAGE_COUNT: Final = "messaging.batch.message_count"
