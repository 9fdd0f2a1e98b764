"""The floor: the same work with nothing around it.

A bare ASGI application under the server's own uvicorn settings. Each request decodes the body, runs the script in a fresh Lua
runtime inside this process, stores one row and encodes the answer. No engine, no sandbox process, no checks, no records: nobody
should serve this, and nothing that serves safely can be faster in this language.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import apsw
import orjson
from lupa import lua54

from bench.bare import serve

Asgi = Callable[[dict[str, Any], Callable[[], Awaitable[dict[str, Any]]], Callable[[dict[str, Any]], Awaitable[None]]], Awaitable[None]]

COLUMNS = ("student_id", "original_score", "doubled_score", "passed")
TABLE = f"CREATE TABLE student_grades (id INTEGER PRIMARY KEY AUTOINCREMENT, {', '.join(COLUMNS)})"
INSERT = f"INSERT INTO student_grades ({', '.join(COLUMNS)}) VALUES (?, ?, ?, ?)"

_WRAPPED = """
local student_id, score = ...
local data = {{{{student_id = student_id, score = score}}}}
local result = (function() {script} end)()
return result.student_id, result.original_score, result.doubled_score, result.passed
"""


def wrapped(script: str) -> str:
    """A chunk that takes and gives plain values around the script of the POC: the cheapest way into Lua and out."""
    return _WRAPPED.format(script=script)


def run_fresh(chunk: str, student_id: str, score: float) -> Any:
    """What the script gives, in a runtime made for this one call."""
    runtime = lua54.LuaRuntime(register_eval=False, register_builtins=False)
    return runtime.execute(chunk, student_id, score)


def open_table(path: Path, sync: str) -> apsw.Connection:
    """A database with the POC's table, journalled as the server's."""
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode=wal")
    connection.execute(f"PRAGMA synchronous={sync}")
    connection.execute(TABLE)
    return connection


def make_app(connection: apsw.Connection, script: str) -> Asgi:
    """The application over an open table."""
    chunk = wrapped(script)
    execute = connection.cursor().execute
    last_id = connection.last_insert_rowid

    async def app(_scope: dict[str, Any], receive: Callable[..., Awaitable[dict[str, Any]]], send: Callable[..., Awaitable[None]]) -> None:
        message = await receive()
        body = message["body"]
        while message["more_body"]:
            message = await receive()
            body += message["body"]
        item = orjson.loads(body)
        values = run_fresh(chunk, item["student_id"], item["score"])
        execute(INSERT, values)
        answer = orjson.dumps({**dict(zip(COLUMNS, values, strict=True)), "_inserted_id": last_id(), "_rows_affected": 1})
        headers = [(b"content-length", b"%d" % len(answer)), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


def main() -> None:
    """Serve on a free port of 127.0.0.1; the first line printed tells which."""
    parser = argparse.ArgumentParser(prog="python -m bench.floor")
    parser.add_argument("database", type=Path)
    parser.add_argument("script", type=Path)
    parser.add_argument("--sync", choices=("full", "normal"), default="full")
    arguments = parser.parse_args()
    connection = open_table(arguments.database, arguments.sync)
    serve(make_app(connection, arguments.script.read_text()), "floor")


if __name__ == "__main__":
    main()
