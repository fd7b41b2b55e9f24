"""Rings the bell: one Dramatiq message per ready step, always after the commit that made it ready.

A push that fails is not an error: the step's row says when it is due, and the dispatcher pushes it again. With the messages
goes a hint, the ids of the executions that changed, for whoever watches them; a lost one is made good by looking at the rows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import lru_cache
from itertools import islice
from typing import cast
from uuid import UUID

import redis
from dramatiq import Message
from dramatiq.broker import MessageProxy

from orchestrator import trace
from orchestrator.broker import StepBroker
from orchestrator.hints import write_hint
from persistence.transitions import ReadyStep

log = logging.getLogger(__name__)

STEP_QUEUE = "steps"
START_QUEUE = "afu9.start"  # other services' producers push here: workers/start_workflow.py
QUEUES = (STEP_QUEUE, START_QUEUE)
STEP_ACTOR = "run_step"
BATCH = 500


def step_message(step: ReadyStep) -> Message[None]:
    """The message of one attempt: ids only, and an id of its own that makes a second push of it harmless."""
    name = str(step.step_id)
    return Message(
        queue_name=STEP_QUEUE,
        actor_name=STEP_ACTOR,
        args=(name, step.attempt),
        kwargs={},
        options={},
        message_id=f"{name}:{step.attempt}",
    )


def handed_message(step: ReadyStep) -> MessageProxy:
    """The message of a step that this process has claimed, for its own threads."""
    message = MessageProxy(step_message(step))
    vars(message)["step"] = step
    return message


def step_of(message: MessageProxy) -> ReadyStep | None:
    """The step that a message names, None if it names none."""
    if (handed := vars(message).get("step")) is not None:
        return cast(ReadyStep, handed)
    try:
        step_id, attempt = message.args
        return ReadyStep(read_id(step_id), int(attempt))
    except (ValueError, TypeError, AttributeError):
        return None


read_id = lru_cache(maxsize=4096)(UUID)  # a message's id is read by each middleware and the actor


def push_steps(
    broker: StepBroker, steps: Iterable[ReadyStep], *, changed: Sequence[UUID | None] = (), force: bool = False
) -> int:
    """Pushes the steps' messages, with a hint of the changed executions in the first round trip; how many were new. Never
    raises for Redis: it answers less, and says so in the log."""
    pushed, told = 0, False
    try:
        for batch in _batches(steps):
            hint = "" if told else write_hint(changed)
            messages = [step_message(step) for step in batch]
            with trace.on.sending(STEP_QUEUE, batch, messages) if trace.on is not None else nullcontext():
                pushed += broker.enqueue_many(messages, force=force, hint=hint)
            told = True
        if not told:
            broker.tell(changed)
    except redis.RedisError as error:
        log.debug("redis: push failed, the dispatcher will repeat it: %s", error)  # redis_health.py has said it once
    return pushed


def _batches(steps: Iterable[ReadyStep]) -> Iterator[Sequence[ReadyStep]]:
    iterator = iter(steps)
    while batch := list(islice(iterator, BATCH)):
        yield batch
