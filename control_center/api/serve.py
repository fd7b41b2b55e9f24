"""The server that ends well: its live readers are sent away before it waits for what is being answered.

A stream of events never ends by itself; without this, a server that stops would wait for it.
"""

from __future__ import annotations

import socket

import uvicorn
from fastapi import FastAPI


class ApiServer(uvicorn.Server):
    """A uvicorn server of an application of make_app."""

    def __init__(self, config: uvicorn.Config, app: FastAPI):
        self._api = app
        super().__init__(config)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if (hub := getattr(self._api.state, "hub", None)) is not None:
            hub.goodbye()
        await super().shutdown(sockets)
