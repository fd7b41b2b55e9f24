"""A Python client for the HTTP API. It needs httpx and nothing else of this project.

    from control_center.client import Client

    with Client("https://afu9.example.com") as afu9:  # or AFU9_URL; the key comes from AFU9_API_KEY
        accepted = afu9.submit("issue_to_pr", input={"issue_number": 42})
        print(afu9.result(accepted.execution_id, timeout=60))

As a pytest fixture:

    @pytest.fixture(scope="session")
    def afu9():
        with Client() as client:
            yield client

docs/client.md tells the rest; errors.py draws the error tree.
"""

from control_center.client.answers import (
    TERMINAL,
    Accepted,
    CalledTool,
    Change,
    ComparedDefinition,
    ComparedExecution,
    ComparedSide,
    ComparedStep,
    Comparison,
    ComparisonSummary,
    Controlled,
    ControlledTool,
    Cost,
    CostList,
    CostSum,
    Count,
    Delta,
    Divergence,
    DryRun,
    Event,
    Execution,
    ExecutionDetail,
    ExecutionRow,
    Health,
    Hold,
    Job,
    McpHealth,
    Metadata,
    Preview,
    Readiness,
    Registered,
    Released,
    Request,
    ServerHealth,
    Step,
    StepDetail,
    StepResult,
    Tool,
    Workflow,
    WorkflowDetail,
)
from control_center.client.asynchronous import AsyncClient
from control_center.client.blocking import Client
from control_center.client.errors import (
    ApiError,
    ClientError,
    Conflict,
    ConnectionFailed,
    ExecutionFailed,
    ExecutionTimeout,
    Forbidden,
    InvalidRequest,
    NotFound,
    RateLimited,
    Refused,
    Unauthenticated,
    Unavailable,
    UnexpectedAnswer,
    Unsendable,
)

__all__ = [
    "TERMINAL",
    "Accepted",
    "ApiError",
    "AsyncClient",
    "CalledTool",
    "Change",
    "Client",
    "ClientError",
    "ComparedDefinition",
    "ComparedExecution",
    "ComparedSide",
    "ComparedStep",
    "Comparison",
    "ComparisonSummary",
    "Conflict",
    "ConnectionFailed",
    "Controlled",
    "ControlledTool",
    "Cost",
    "CostList",
    "CostSum",
    "Count",
    "Delta",
    "Divergence",
    "DryRun",
    "Event",
    "Execution",
    "ExecutionDetail",
    "ExecutionFailed",
    "ExecutionRow",
    "ExecutionTimeout",
    "Forbidden",
    "Health",
    "Hold",
    "InvalidRequest",
    "Job",
    "McpHealth",
    "Metadata",
    "NotFound",
    "Preview",
    "RateLimited",
    "Readiness",
    "Refused",
    "Registered",
    "Released",
    "Request",
    "ServerHealth",
    "Step",
    "StepDetail",
    "StepResult",
    "Tool",
    "Unauthenticated",
    "Unavailable",
    "UnexpectedAnswer",
    "Unsendable",
    "Workflow",
    "WorkflowDetail",
]
