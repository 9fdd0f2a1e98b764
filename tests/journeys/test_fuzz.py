"""Anything at all, sent to every door: an answer always comes, and when it is an error, it is a problem document."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.journeys.server import PROBLEM, Server, chain, echo, hook, lua

FUZZ = settings(max_examples=80, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
WRONG: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1.5,
    10**30,
    1e308,
    "",
    " ",
    "x",
    "\0",
    "☃",
    "$json",
    "$nope",
    "{{ x",
    "{{ }}",
    "'; DROP TABLE t",
    "../x",
    "a" * 5000,
    [],
    [None],
    [[]],
    ["x", 5],
    {},
    {"x": 1},
    {"": None},
    {"name": 5},
    {"columns": []},
    [{"name": "a", "type": "NOPE"}],
    "any",
    ["GET", 5],
    ":",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("fuzz") / "data", run_timeout=5) as made:
        made.save(echo("echo"))
        made.save(full() | {"id": "full"})
        yield made
        assert "Traceback" not in made.err


def full() -> dict[str, Any]:
    """A document in which every field stands that there is."""
    nodes = [
        {
            "id": "hook",
            "name": "In",
            "node_type": "Webhook",
            "params": {"path": "/a/:b", "method": ["GET", "POST"], "respond": "all_items", "mode": "wait", "auth": "none"},
            "meta": {"x": 1},
        },
        {
            "id": "lua",
            "node_type": "FunLogic",
            "disabled": False,
            "params": {"script": "return data", "memory_mb": 16, "timeout": 1},
            "outputs": {"a": "$json.a", "b": "1 + 1"},
            "timeout": 5,
            "retry": {"attempts": 1, "delay": 0, "backoff": 1, "max_delay": 1, "on": ["timeout", 429, "5xx"]},
        },
        {
            "id": "write",
            "node_type": "SimpleTableWriter",
            "params": {"table": "t", "columns": ["a", {"name": "b", "type": "JSON"}], "on_conflict": {"columns": ["a"], "update": ["b"]}},
            "inputs": ["$json.a", "now()"],
            "on_error": "branch",
        },
        {
            "id": "read",
            "node_type": "SimpleTableReader",
            "params": {"table": "t", "where": "a = ?", "order_by": "id", "limit": 5, "output": "items"},
            "inputs": ["$query.x"],
        },
        {
            "id": "ask",
            "node_type": "SimpleTableQuery",
            "params": {"query": "SELECT :a AS a", "table": "t", "write": False, "output": "list"},
            "inputs": ["$headers.host"],
            "on_error": "continue",
        },
        {
            "id": "say",
            "node_type": "Respond",
            "params": {"status": "{{ 200 }}", "headers": {"x-a": "{{ $json.a }}"}, "body": {"deep": ["{{ $json }}"]}},
        },
    ]
    edges = [
        {"from": "hook", "to": "lua", "on": "main", "meta": 5},
        {"from": "lua", "to": "write"},
        {"from": "write", "to": "read"},
        {"from": "write", "to": "ask", "on": "error"},
        {"from": "read", "to": "say"},
        {"from": "ask", "to": "say"},
    ]
    return {
        "id": "full",
        "name": "All",
        "description": "x",
        "active": True,
        "settings": {"timeout": 5},
        "nodes": nodes,
        "edges": edges,
        "meta": {},
    }


def places(value: Any, way: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The ways to every value inside a value."""
    inside: list[tuple[str | int, Any]] = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    return [way, *(deeper for key, child in inside for deeper in places(child, (*way, key)))]


def put(document: Any, way: tuple[str | int, ...], value: Any) -> Any:
    """The document with another value at a place."""
    if not way:
        return value
    changed = copy.deepcopy(document)
    here = changed
    for part in way[:-1]:
        here = here[part]
    here[way[-1]] = value
    return changed


def fine(answer: httpx.Response, *more: int) -> httpx.Response:
    """An answer that is a success or a problem of the caller's making (or one of `more`)."""
    assert answer.status_code < 500 or answer.status_code in (503, 504, *more), f"{answer.status_code}: {answer.text[:2000]}"
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == PROBLEM, answer.text[:500]
        document = answer.json()
        assert document["status"] == answer.status_code
        assert document["title"]
        assert document["detail"]
        for error in document.get("errors", []):
            assert isinstance(error["pointer"], str)
            assert error["message"]
    else:
        assert b'"type":"internal"' not in answer.content, answer.text[-2000:]
    return answer


def points(document: Any, pointer: str) -> bool:
    """Whether a JSON pointer leads to something in a document, or to a field that is missing from it."""
    here = document
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    for number, part in enumerate(parts):
        if isinstance(here, dict) and part in here:
            here = here[part]
        elif isinstance(here, list) and part.isdigit() and int(part) < len(here):
            here = here[int(part)]
        else:
            return number == len(parts) - 1
    return True


def test_the_document_with_every_field_is_fine(server: Server) -> None:
    assert server.http.post("/api/validate", json=full()).json() == {"errors": [], "warnings": []}


def test_a_wrong_value_anywhere_in_a_document_is_told_and_never_fails_the_server(server: Server) -> None:
    chance = random.Random(11)
    document = full()
    everywhere = places(document)
    server.save(full() | {"id": "mutant"})
    for way in everywhere:
        for value in chance.sample(WRONG, 6):
            mutant = put(document, way, value)
            checked = fine(server.http.post("/api/validate", json=mutant))
            assert checked.status_code == 200, f"{way}: {value!r}"
            for error in checked.json()["errors"]:
                assert points(mutant, error["pointer"]), f"{way} = {value!r}: {error}"
            saved = fine(server.http.put("/api/workflows/mutant", json=mutant))
            errors = [error for error in checked.json()["errors"] if error["pointer"] != "/id"]
            assert saved.status_code == (422 if errors else 200), f"{way} = {value!r}: {saved.text}"
            if saved.status_code == 200:
                fine(server.http.post("/api/workflows/mutant/run", json={"items": [{"a": 1}]}))
                again = server.http.get("/api/workflows/mutant")
                assert server.http.put("/api/workflows/mutant", content=again.content).status_code == 200
                assert server.http.get("/api/workflows/mutant").content == again.content


def test_a_missing_or_unknown_field_anywhere_is_told(server: Server) -> None:
    document = full()
    for way in places(document):
        holder: Any = document
        for part in way:
            holder = holder[part]
        if isinstance(holder, dict):
            free = "meta" in way or way[-1:] in [("outputs",), ("headers",)] or "body" in way
            checked = fine(server.http.post("/api/validate", json=put(document, (*way, "no~such/field"), 5))).json()
            if not free:
                assert any(error["pointer"].endswith("/no~0such~1field") for error in checked["errors"]), way
            for name in holder:
                fine(
                    server.http.post("/api/validate", json=put(document, way, {key: value for key, value in holder.items() if key != name}))
                )


@FUZZ
@given(body=JSON)
def test_any_json_is_answered_by_every_door(server: Server, body: Any) -> None:
    text = json.dumps(body)
    headers = {"content-type": "application/json"}
    for path in ("/api/workflows", "/api/validate", "/api/workflows/echo/run", "/api/projects", "/webhook/full/a/b"):
        fine(server.http.post(path, content=text, headers=headers))
    for wrapped in ({"items": body}, {"items": [body]}, {"node": body}):
        fine(server.http.post("/api/workflows/full/run", json=wrapped))
    fine(server.http.put("/api/workflows/echo2", content=text, headers=headers))
    echoed = fine(server.http.post("/webhook/echo", content=text, headers=headers))
    if echoed.status_code == 200:
        assert _same(echoed.json(), body)


def _same(one: Any, two: Any) -> bool:
    """Equal, where integers beyond 64 bits may have become floats."""
    if isinstance(two, dict):
        return isinstance(one, dict) and one.keys() == two.keys() and all(_same(one[key], value) for key, value in two.items())
    if isinstance(two, list):
        return isinstance(one, list) and len(one) == len(two) and all(_same(a, b) for a, b in zip(one, two, strict=True))
    if isinstance(two, int) and not isinstance(two, bool) and not -(2**63) <= two < 2**63:
        return isinstance(one, float | int) and float(one) == float(two)
    return (type(one) is type(two) and one == two) or (isinstance(two, float) and one == two)


@FUZZ
@given(
    body=st.binary(max_size=60),
    kind=st.sampled_from(
        [
            "application/json",
            "text/plain",
            "application/x-www-form-urlencoded",
            "text/x; charset=utf-16",
            "",
            "multipart/form-data",
            ";",
            "a/b; charset",
            'a/b; charset="',
            "text/plain; charset=hex",
        ]
    ),
)
def test_any_bytes_are_answered_by_every_door(server: Server, body: bytes, kind: str) -> None:
    for path in ("/api/workflows", "/api/validate", "/api/workflows/echo/run", "/webhook/echo", "/webhook/full/a/b"):
        fine(server.http.post(path, content=body, headers={"content-type": kind}))


@FUZZ
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PROPFIND"]),
    parts=st.lists(
        st.sampled_from(
            [
                "api",
                "p",
                "webhook",
                "default",
                "workflows",
                "echo",
                "full",
                "a",
                "versions",
                "1",
                "restore",
                "run",
                "tables",
                "t",
                "rows",
                "projects",
                "..",
                ".",
                "",
                "%2e%2e",
                "%00",
                "%2F",
                "%ff",
                "%",
                "x" * 300,
                "healthz",
                "docs",
                "node-types",
                "~",
                "%F0%9F%8E%89",
                "*",
            ]
        ),
        max_size=6,
    ),
    query=st.sampled_from(
        [
            "",
            "?",
            "?limit=1",
            "?limit=a",
            "?cursor=%00",
            "?cursor=1",
            "?before=0",
            "?a=%ff",
            "?a&b=&=c",
            "?" + "a" * 3000,
            "?limit=1&limit=2",
        ]
    ),
)
def test_any_address_is_answered(server: Server, method: str, parts: list[str], query: str) -> None:
    target = "/" + "/".join(parts) + query
    if "projects/default" in target or (method == "DELETE" and "workflows" in parts):
        return
    answer = server.raw(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode())
    assert 200 <= answer.status < 500, f"{method} {target}: {answer.status} {answer.body!r}"
    if answer.status >= 400:
        assert answer.headers["content-type"] == PROBLEM, f"{method} {target}"


@FUZZ
@given(
    name=st.sampled_from(
        [
            "if-match",
            "if-none-match",
            "content-type",
            "content-encoding",
            "accept",
            "authorization",
            "x-forwarded-for",
            "host",
            "range",
            "cookie",
            "expect",
            "origin",
            "forwarded",
            "te",
        ]
    ),
    value=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30),
)
def test_any_header_is_answered(server: Server, name: str, value: str) -> None:
    headers = {name: value.strip()}
    for method, path, body in [
        ("GET", "/api/workflows/echo", None),
        ("PUT", "/api/workflows/full", full()),
        ("POST", "/webhook/echo", {"a": 1}),
    ]:
        fine(server.http.request(method, path, json=body, headers=headers))


@FUZZ
@given(
    text=TEXT
    | st.sampled_from(
        [
            "$",
            "$$",
            "$json",
            "$json.",
            "$json[",
            "$json[0]",
            "$json['",
            "$node",
            "$node.x",
            "$node.hook.a",
            "$run.id",
            "$run.x",
            "$secret.A",
            "$query",
            "$file.x",
            "{",
            "[1,",
            "nil",
            "nil + 1",
            "error()",
            "error({})",
            "1/0",
            "0/0",
            "{}",
            "{1}",
            "function() end",
            "...",
            "]]",
            "--",
            "--[[",
            "p1",
            "_ENV",
            "goto x",
            "return 1",
            "local x",
            "1;",
            "1) + (1",
            "{{",
            "}}",
            "'}}'",
            '"',
            "a.b.c",
            "data",
            "item",
            "json.encode",
            "string.rep('x', 1e8)",
            "(function() while true do end end)()",
        ]
    )
)
def test_any_expression_is_judged_at_save_and_answered_at_run(server: Server, text: str) -> None:
    nodes = [
        {"id": "q", "node_type": "SimpleTableQuery", "params": {"query": "SELECT ? AS a"}, "inputs": [text]},
        lua("l", "return data", outputs={"a": text}),
        {"id": "r", "node_type": "Respond", "params": {"body": f"{{{{ {text} }}}}", "headers": {"x-a": f"{{{{{text}}}}}"}}},
    ]
    for node in nodes:
        document = chain("expression", hook(), node, settings={"timeout": 0.5})
        saved = fine(server.http.post("/api/workflows", json=document))
        if saved.status_code == 409:
            saved = fine(server.http.put("/api/workflows/expression", json=document))
        if saved.status_code in (200, 201):
            fine(server.http.post("/webhook/expression", json={"a": {"b": [1]}}))
            fine(server.http.post("/api/workflows/expression/run", json={"items": [1, None, {"a": 2}]}))


@FUZZ
@given(script=st.text(st.sampled_from("abxd tin(){}[]=+-*/.,:;'\"\\\n0159#~<>%&|^_$\0"), max_size=30) | TEXT)
def test_any_script_is_judged_at_save_and_answered_at_run(server: Server, script: str) -> None:
    document = echo("script", script) | {"settings": {"timeout": 0.5}}
    saved = fine(server.http.post("/api/workflows", json=document))
    if saved.status_code == 409:
        saved = fine(server.http.put("/api/workflows/script", json=document))
    if saved.status_code in (200, 201):
        fine(server.http.post("/webhook/script", json={"a": 1}))


@FUZZ
@given(
    sql=st.lists(
        st.sampled_from(
            [
                "SELECT",
                "*",
                "FROM",
                "t",
                "sqlite_schema",
                "WHERE",
                "(",
                ")",
                ",",
                ";",
                "?",
                ":a",
                "@b",
                "?5",
                "'",
                '"',
                "--",
                "/*",
                "1",
                "x'00'",
                "WITH",
                "RECURSIVE",
                "c(x)",
                "AS",
                "UNION ALL",
                "INSERT INTO",
                "VALUES",
                "UPDATE",
                "SET",
                "a",
                "=",
                "DELETE",
                "RETURNING",
                "EXPLAIN",
                "QUERY PLAN",
                "PRAGMA",
                "ATTACH",
                "CREATE TABLE",
                "DROP TABLE",
                "VACUUM",
                "count(*)",
                "random()",
                "zeroblob(1e9)",
                "NULL",
                "\0",
                "☃",
                "LIMIT",
                "-1",
                "char(0)",
                "json('[1]')",
                "9e999",
                "CAST",
                "printf('%*d', 1e9, 1)",
                "group_concat(a)",
            ]
        ),
        min_size=1,
        max_size=9,
    ).map(" ".join),
    write=st.booleans(),
)
def test_any_sql_is_judged_at_save_and_answered_at_run(server: Server, sql: str, write: bool) -> None:
    nodes: list[dict[str, Any]] = [
        {"id": "q", "node_type": "SimpleTableQuery", "params": {"query": sql, "write": write}},
        {"id": "r", "node_type": "SimpleTableReader", "params": {"table": "t", "where": sql}},
        {"id": "o", "node_type": "SimpleTableReader", "params": {"table": "t", "order_by": sql}},
    ]
    for node in nodes:
        document = chain("sql", hook(), node, settings={"timeout": 1})
        saved = fine(server.http.post("/api/workflows", json=document))
        if saved.status_code == 409:
            saved = fine(server.http.put("/api/workflows/sql", json=document))
        if saved.status_code in (200, 201):
            fine(server.http.post("/webhook/sql", json={"a": 1, "b": [2]}))


@FUZZ
@given(
    items=st.lists(st.dictionaries(st.sampled_from(["a", "b", "c", "id"]), JSON, max_size=4), max_size=4),
    columns=st.lists(
        st.sampled_from(["a", "b", "c", "id", "A", "rowid", "select", "a b", '"', "☃", "_inserted_id"]), min_size=1, max_size=3
    ),
    conflict=st.booleans(),
)
def test_any_items_are_stored_or_refused(server: Server, items: list[Any], columns: list[str], conflict: bool) -> None:
    params: dict[str, Any] = {"table": "any", "columns": columns}
    if conflict:
        params["on_conflict"] = {"columns": columns[:1]}
    document = chain("store", hook(), {"id": "w", "node_type": "SimpleTableWriter", "params": params})
    saved = fine(server.http.post("/api/workflows", json=document))
    if saved.status_code == 409:
        saved = fine(server.http.put("/api/workflows/store", json=document))
    if saved.status_code in (200, 201):
        record = fine(server.http.post("/api/workflows/store/run", content=json.dumps({"items": items}))).json()
        assert record["status"] in ("succeeded", "failed")
        assert record.get("error", {}).get("type") != "internal", record["error"]
        fine(server.http.get("/api/tables/any/rows"))
