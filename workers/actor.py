"""The broker of a worker, with its middleware and its actors: `run_step`, one message for one step, and `start_workflow` for
other services' producers."""

from __future__ import annotations

import dramatiq
from dramatiq.middleware import CurrentMessage

from orchestrator.broker import StepBroker
from orchestrator.push import START_QUEUE, STEP_ACTOR, STEP_QUEUE, read_id
from persistence.errors import InvalidInput
from persistence.settings import Settings
from persistence.transitions import ReadyStep
from workers.admit import Admission
from workers.count_messages import CountMessages
from workers.process import WorkerProcess
from workers.retry import RetryMiddleware
from workers.run_step import AttemptFailed
from workers.start_workflow import START_ACTOR, StartRefused, start


def make_broker(settings: Settings, process: WorkerProcess) -> StepBroker:
    """A broker with both actors, ready for a worker. Raises InvalidInput without a REDIS_URL."""
    if not settings.redis_url:
        raise InvalidInput("no Redis is configured: set REDIS_URL, or use `afu9 dev`")
    broker = StepBroker(
        settings.redis_url,
        namespace=settings.namespace,
        connections=settings.threads + 16,
        middleware=[
            CurrentMessage(),
            Admission(process.in_flight),
            CountMessages(),
            RetryMiddleware(process),
            process,
        ],
    )

    @dramatiq.actor(broker=broker, queue_name=START_QUEUE, actor_name=START_ACTOR, throws=(StartRefused,))
    def start_workflow(name: object, input: object = None, idempotency_key: object = None) -> None:
        start(process, name, {} if input is None else input, idempotency_key)

    @dramatiq.actor(broker=broker, queue_name=STEP_QUEUE, actor_name=STEP_ACTOR, throws=(AttemptFailed,))
    def run_step(step_id: str, attempt: int) -> None:
        process.runner.work_on(ReadyStep(read_id(step_id), attempt))

    return broker
