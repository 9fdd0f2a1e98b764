"""The gateway as a caller sees it, in this process: for what a caller from outside could not choose, such as the address it calls from."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from mechaway_core.app import App
from mechaway_core.web.gateway import Gateway


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
