"""For load balancers and supervisors: is the process there, and can it serve. Outside of authentication."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel

from control_center.api.problems import Problem, documented
from persistence.errors import Afu9Error
from persistence.pool import run

router = APIRouter(tags=["health"])


class Word(BaseModel):
    status: str


class Readiness(BaseModel):
    """`redis`: ok or away; without it submissions still succeed."""

    status: str
    database: str
    redis: str
    workers: int


@router.get("/healthz")
def healthz() -> Word:
    """The process runs."""
    return Word(status="ok")


@router.get("/readyz", responses=documented())
def readyz(request: Request) -> Readiness:
    """The database answers and has our schema."""
    try:
        facts = run(request.app.state.read_pool, "server_facts")[0]
    except Afu9Error as error:
        raise Problem("database-away", str(error)) from None
    away = request.app.state.broker.health.away_for() > 0
    return Readiness(status="ok", database="ok", redis="away" if away else "ok", workers=facts["workers_alive"])
