"""The gateway as a caller sees it, in this process: for what the server's own process could not be given, such as secrets."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from mechaway_core.app import App
from mechaway_core.errors import NotFound
from mechaway_core.web.gateway import Gateway


class Kept:
    """Secrets of one project, by name."""

    def __init__(self, project: str, **values: str) -> None:
        self.project = project
        self.held = values

    def values(self, project: str, names: Sequence[str]) -> Mapping[str, str]:
        """See `Secrets.values`."""
        missing = [name for name in names if project != self.project or name not in self.held]
        if missing:
            raise NotFound(f'there is no secret "{missing[0]}"')
        return {name: self.held[name] for name in names}


class Doorstep:
    """Calls an app by its gateway; `slept` are the pauses it made, in seconds."""

    def __init__(self, app: App) -> None:
        self.slept: list[float] = []
        self.gateway = Gateway(app, self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def call(self, method: str, path: str, *, client: str = "127.0.0.1", **request: Any) -> httpx.Response:
        """One call from this address."""

        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(self.gateway, client=(client, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
                return await http.request(method, path, **request)

        return asyncio.run(go())

    def post(self, path: str, **request: Any) -> httpx.Response:
        """One POST."""
        return self.call("POST", path, **request)
