"""What the measures of calls to the outside stand beside: a service to call, and floors that call with nothing around it.

    python -m bench.outside service            answers every request with a small JSON object
    python -m bench.outside http URL           a bare ASGI application that GETs this URL for each request and answers with the JSON
    python -m bench.outside postgres SETTINGS  one that runs a statement through Mechaway's own pool, connection string on standard input

The floors call in the threads that asyncio keeps for this, as any synchronous client must be called from a server.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from bench.bare import serve

Asgi = Callable[[dict[str, Any], Callable[[], Awaitable[dict[str, Any]]], Callable[[dict[str, Any]], Awaitable[None]]], Awaitable[None]]

STATEMENT = "SELECT $1::int AS one, now()::text AS at"
ANSWER = orjson.dumps({"temperature": 21.5, "wind": {"speed": 3, "from": "NW"}, "tags": ["a", "b"]})


def answering(work: Callable[[], Any] | None) -> Asgi:
    """An application that answers with what `work` gives, called in a thread; without it with the same bytes every time."""

    async def app(_scope: dict[str, Any], receive: Callable[..., Awaitable[dict[str, Any]]], send: Callable[..., Awaitable[None]]) -> None:
        while (await receive()).get("more_body"):
            pass
        answer = ANSWER if work is None else orjson.dumps(await asyncio.get_running_loop().run_in_executor(None, work))
        headers = [(b"content-length", b"%d" % len(answer)), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


def http_work(url: str) -> Callable[[], Any]:
    """GET a URL with the client that HTTPClient stands on."""
    import httpx

    client = httpx.Client(trust_env=False)

    def work() -> Any:
        answer = client.get(url)
        return {"status": answer.status_code, "headers": dict(answer.headers), "data": answer.json(), "success": answer.is_success}

    return work


def postgres_work(conninfo: str) -> Callable[[], Any]:
    """Run the statement of the measure through the pool that PGQuery uses."""
    from mechaway_core.postgres import Postgres
    from mechaway_core.settings import Settings

    postgres = Postgres(Settings())
    return lambda: postgres.query(conninfo, STATEMENT, [1], deadline=time.monotonic() + 10).rows[0]


def main() -> None:
    """Serve on a free port of 127.0.0.1; the first line printed tells which."""
    kind = sys.argv[1]
    work = http_work(sys.argv[2]) if kind == "http" else postgres_work(sys.stdin.readline().strip()) if kind == "postgres" else None
    serve(answering(work), kind)


if __name__ == "__main__":
    main()
