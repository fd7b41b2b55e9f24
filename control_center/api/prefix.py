"""The path that a proxy puts before ours. Proxies that strip it and proxies that do not are both understood."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class Prefix:
    """An ASGI middleware. `root`: '' or /path."""

    def __init__(self, app: ASGIApp, root: str):
        self._app = app
        self._root = root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._root and scope["type"] in ("http", "websocket"):
            path: str = scope["path"]
            if path != self._root and not path.startswith(self._root + "/"):
                path = self._root + path
            scope = {**scope, "root_path": self._root, "path": path}
        await self._app(scope, receive, send)
