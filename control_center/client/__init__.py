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
    DryRun,
    Event,
    Execution,
    ExecutionDetail,
    ExecutionRow,
    Metadata,
    Request,
    State,
    Step,
    StepDetail,
    StepResult,
    StepState,
)
from control_center.client.asynchronous import AsyncClient
from control_center.client.blocking import Client
from control_center.client.comparison_answers import (
    Change,
    ComparedDefinition,
    ComparedExecution,
    ComparedSide,
    ComparedStep,
    Comparison,
    ComparisonSummary,
    Delta,
    Divergence,
)
from control_center.client.control_answers import (
    Controlled,
    ControlledTool,
    Count,
    Hold,
    Job,
    JobError,
    Preview,
    Released,
)
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
from control_center.client.keep_answers import (
    Cost,
    CostList,
    CostSum,
    Health,
    McpHealth,
    Readiness,
    Registered,
    ServerHealth,
    Tool,
    Workflow,
    WorkflowDetail,
)
from control_center.client.stats_answers import (
    EndedStat,
    ErrorStat,
    QueueList,
    QueueStat,
    RedisStat,
    SchemaVersions,
    StatList,
    WorkerList,
    WorkerStat,
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
    "EndedStat",
    "ErrorStat",
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
    "JobError",
    "McpHealth",
    "Metadata",
    "NotFound",
    "Preview",
    "QueueList",
    "QueueStat",
    "RateLimited",
    "Readiness",
    "RedisStat",
    "Refused",
    "Registered",
    "Released",
    "Request",
    "SchemaVersions",
    "ServerHealth",
    "StatList",
    "State",
    "Step",
    "StepDetail",
    "StepResult",
    "StepState",
    "Tool",
    "Unauthenticated",
    "Unavailable",
    "UnexpectedAnswer",
    "Unsendable",
    "WorkerList",
    "WorkerStat",
    "Workflow",
    "WorkflowDetail",
]
