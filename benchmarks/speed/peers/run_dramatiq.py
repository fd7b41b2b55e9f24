"""A plain Dramatiq pipeline: one message per step and nothing stored. Not durable: the floor of the broker's own cost."""

from __future__ import annotations

import json
import signal
import threading
import time
from typing import Any

import dramatiq
import orjson
import redis
from dramatiq.brokers.redis import RedisBroker
from held import CLIENTS, OPTIONS, ROLE, answer, hold, rate, wait_until

DONE = "bench:done"
STEPS: int = OPTIONS["steps"]
EXECUTIONS: int = OPTIONS["executions"]


class OrjsonEncoder(dramatiq.Encoder):
    def encode(self, data: Any) -> bytes:
        return orjson.dumps(data)

    def decode(self, data: bytes) -> Any:
        return orjson.loads(data)


dramatiq.set_encoder(OrjsonEncoder())
broker = RedisBroker(url=OPTIONS["redis_url"])
dramatiq.set_broker(broker)
store = redis.Redis.from_url(OPTIONS["redis_url"])


@dramatiq.actor(max_retries=0)
def noop(last: bool, stamps: list[float] | None = None) -> list[float]:
    """Stamps travel with the pipeline; its last step leaves them for the client."""
    now = [*(stamps or []), time.time()]
    if last:
        store.rpush(DONE, json.dumps(now))
    return now


def work() -> None:
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    hold()
    worker = dramatiq.Worker(broker, worker_threads=OPTIONS["threads"])
    worker.start()
    stopping.wait()
    worker.stop(timeout=3000)


def submit() -> None:
    dramatiq.pipeline([noop.message(index == STEPS - 1) for index in range(STEPS)]).run()


def one() -> tuple[float, list[float]]:
    asked = time.time()
    submit()
    done = store.blpop([DONE], 60)
    return asked, json.loads(done[1])


def client() -> None:
    match OPTIONS["workload"]:
        case "W1":
            for _ in range(OPTIONS["warm_up"]):
                one()
            hold()
            runs = [one() for _ in range(EXECUTIONS)]
            answer({"submitted": [asked for asked, _ in runs], "stamps": [stamps for _, stamps in runs]})
        case "W4":
            rate(50, 1, submit)
            hold()
            single, sixteen = rate(EXECUTIONS, 1, submit), rate(OPTIONS["many"], CLIENTS, submit)
            answer({"single_per_s": single, "sixteen_per_s": sixteen})
        case _:
            for _ in range(EXECUTIONS):
                submit()
            hold()
            wait_until(lambda: store.llen(DONE) >= EXECUTIONS)
            runs = [json.loads(line) for line in store.lrange(DONE, 0, -1)]
            begin, end = min(stamps[0] for stamps in runs), max(stamps[-1] for stamps in runs)
            answer({"begin": begin, "end": end, "steps": sum(map(len, runs)), "executions": len(runs)})


if __name__ == "__main__":
    work() if ROLE == "worker" else client()
