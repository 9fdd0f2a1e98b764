"""A hunt for the secrets of the node types that call others and of webhooks, through whatever goes well and wrong with them.

Servers that are called tell in every way what they were shown. What is out of scope: a file that a server sends is kept as it came, so
one whose bytes repeat a secret holds it, like any file that somebody else wrote.
"""

from __future__ import annotations

import base64
import gzip
import hmac
import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import httpx
import psycopg
import pytest
from psycopg import sql

from tests import postgres
from tests.journeys.canaries import Answers, hunt
from tests.journeys.server import Server, chain, hook, lua, problem, until
from tests.web_server import Reply, Seen, WebServer, as_json, certificate

STEM = 11  # characters at the beginning of a canary, which no encoder changes and which tell each from the others
LOOK = lua("look", "log(json.encode(data)); return {seen = data, headers = headers, query = query}")
SAVE = {"id": "save", "node_type": "SimpleTableWriter", "params": {"table": "seen", "columns": ["seen", "headers", "query"]}}


def walked(workflow_id: str, *nodes: dict[str, Any], **webhook: Any) -> dict[str, Any]:
    """A workflow after whose nodes Lua looks at what they gave, and a table keeps it."""
    return chain(workflow_id, hook(**webhook), *nodes, LOOK, SAVE)


def ends(server: Server, answers: Answers, values: Collection[str]) -> None:
    """Look at everything, on a server that is there, one that was killed, and one that came again."""
    for path in ("secrets", "tables", "tables/seen/rows?limit=1000", "workflows", "access/refusals"):
        assert answers.keep(server.http.get(f"/api/{path}")).status_code == 200
    lines = answers.keep(server.http.get("/api/runs?limit=1000")).json()["runs"]
    for line in lines:
        assert answers.keep(server.http.get(f"/api/runs/{line['run_id']}")).status_code == 200
    looked_for = [*values, *(value[:STEM] for value in values if value.startswith("c4nary"))]
    hunt(server, answers.texts, looked_for)
    server.kill()
    hunt(server, answers.texts, looked_for)
    assert b"Traceback" not in b"".join(answers.texts)


# -- HTTPClient

BEARER = {"kind": "bearer", "token": "$secret.BEARER"}
FIXED: tuple[dict[str, str], ...] = (
    {"kind": "basic", "username": "ann", "password": "$secret.BASIC"},
    BEARER,
    {"kind": "header", "name": "X-Api-Key", "value": "$secret.HEADER"},
    {"kind": "query", "name": "key", "value": "$secret.QUERY"},
)
SENT = {name: f"c4nary-{name.lower()}/with+odd='chars\"&ä%20" for name in ("BASIC", "BEARER", "HEADER", "QUERY", "OAUTH")}
TOKEN = "c4nary-token/that+was=fetched"


def shown(seen: Seen) -> str:
    """The credential that a request shows."""
    if "key" in seen.query:
        return seen.query["key"][0]
    said = seen.headers.get("x-api-key") or seen.headers.get("authorization", "none at all")
    kind, _, rest = said.partition(" ")
    return base64.b64decode(rest).decode() if kind == "Basic" else rest if kind == "Bearer" else said


def raw(*lines: bytes | str) -> list[bytes]:
    """Bytes of an answer."""
    return [line.encode("latin-1", "replace") if isinstance(line, str) else line for line in lines]


def text(seen: Seen) -> bytes:
    """Everything that came, and the credential by itself."""
    return json.dumps([shown(seen), seen.as_json()], ensure_ascii=False).encode()


def in_headers(seen: Seen) -> bytes:
    return shown(seen).encode("latin-1", "replace")


def next_page(said: str) -> str:
    return f'<?{quote(said)}>; rel="next"'


# How a server tells what it was shown, by path.
TELLS: dict[str, Callable[[Seen], Reply | Iterable[bytes]]] = {
    "/shout": lambda seen: Reply(text(seen), int(seen.query.get("status", ["200"])[0]), {"content-type": "text/plain"}),
    "/utf-16": lambda seen: Reply(shown(seen).encode("utf-16"), 200, {"content-type": "text/plain; charset=utf-16"}),
    "/gzip": lambda seen: Reply(gzip.compress(text(seen)), 500, {"content-type": "text/plain", "content-encoding": "gzip"}),
    "/broken-json": lambda seen: Reply(b"[" + text(seen) + b"] " + text(seen), 200, {"content-type": "application/json"}),
    "/headers": lambda seen: raw(b"HTTP/1.1 200 OK\r\nset-cookie: a=", in_headers(seen), b"\r\nx-told: ", in_headers(seen), b"\r\n\r\n{}"),
    "/reason": lambda seen: raw(b"HTTP/1.1 500 ", in_headers(seen), b"\r\n\r\n"),
    "/status-line": lambda seen: raw(in_headers(seen), b"\r\n\r\n"),
    "/header-line": lambda seen: raw(b"HTTP/1.1 200 OK\r\n", in_headers(seen), b"\r\n\r\n"),
    "/header-name": lambda seen: raw(b"HTTP/1.1 200 OK\r\n", quote(shown(seen), safe=""), b": x\r\n\r\n{}"),
    "/length": lambda seen: raw(b"HTTP/1.1 200 OK\r\ncontent-length: ", in_headers(seen), b"\r\n\r\n"),
    "/chunk": lambda seen: raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", in_headers(seen), b"\r\n"),
    "/encoding": lambda seen: raw(b"HTTP/1.1 200 OK\r\ncontent-encoding: ", in_headers(seen), b"\r\n\r\nx"),
    "/transfer": lambda seen: raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: ", in_headers(seen), b"\r\n\r\nx"),
    "/charset": lambda seen: raw(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=", in_headers(seen), b"\r\n\r\nx"),
    "/type": lambda seen: raw(b"HTTP/1.1 200 OK\r\ncontent-type: text/x", in_headers(seen), b"\r\n\r\nx"),
    "/later": lambda seen: raw(b"HTTP/1.1 503 No\r\nretry-after: ", in_headers(seen), b"\r\n\r\n"),
    "/half-told": lambda seen: raw(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 9999\r\n\r\n", text(seen)),
    "/to-a-scheme": lambda seen: raw(b"HTTP/1.1 302 Go\r\nlocation: ", in_headers(seen), b"://x/\r\n\r\n"),
    "/to-a-host": lambda seen: raw(b"HTTP/1.1 302 Go\r\nlocation: http://", quote(shown(seen), safe=""), b".invalid/\r\n\r\n"),
    "/to-a-port": lambda seen: raw(b"HTTP/1.1 302 Go\r\nlocation: http://127.0.0.1:", in_headers(seen), b"/\r\n\r\n"),
    "/to-itself": lambda seen: raw(b"HTTP/1.1 302 Go\r\nlocation: /to-itself?", quote(shown(seen)), b"\r\n\r\n"),
    "/to-a-path": lambda seen: raw(b"HTTP/1.1 302 Go\r\nlocation: /status/404/", quote(shown(seen), safe=""), b"\r\n\r\n"),
    "/pages-of-one": lambda seen: as_json({"items": shown(seen) * 2, "next": shown(seen)}, 200, {"link": next_page(shown(seen))}),
    "/pages-of-lists": lambda seen: as_json({"items": [shown(seen), seen.as_json()], "next": seen.path + "?n=" + quote(shown(seen))}),
}  # fmt: skip
BUILT_IN = ("/echo", "/drop", "/half", "/nonsense", "/huge-head")
SLOW = ("/silent", "/drip")  # each takes all the time there is


def tokens(seen: Seen) -> Reply | Iterable[bytes]:
    """A token endpoint that goes well or tells what it was shown; which, its path says."""
    how = seen.path.split("/")[2]
    secret = parse_qs(seen.body.decode()).get("client_secret", [shown(seen)])[0]
    if how == "fine":
        return as_json({"access_token": TOKEN, "token_type": secret, "expires_in": 3600})
    if how == "refused":
        return as_json({"error": secret, "error_description": secret, "token": TOKEN}, 401)
    if how == "broken":
        return Reply(f"{secret} {TOKEN}".encode(), 200, {"content-type": "application/json"})
    if how == "odd":
        return as_json({"access_token": f"{TOKEN}\r\nx: {secret}", "expires_in": secret})
    return raw(secret, b"\r\n\r\n")


@pytest.fixture
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        for path, tell in TELLS.items():
            server.on(path, tell)
        server.on("/tokens", tokens)
        yield server


def call(auth: dict[str, str], about: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
    """An HTTPClient that calls what the item says, with a credential."""
    asked = {"url": "{{ $json.url }}", "timeout": 1, "auth": auth, **params}
    return {"id": "call", "node_type": "HTTPClient", "params": asked, **(about or {})}


def oauth(web: WebServer, way: str, place: str = "header") -> dict[str, str]:
    """A credential that must be fetched first."""
    kind = {"kind": "oauth2_client_credentials", "client_id": "me", "client_secret": "$secret.OAUTH"}
    return kind | {"token_url": f"{web.url}/tokens/{way}", "in": place}


def callers(web: WebServer) -> Iterator[dict[str, Any]]:
    """Workflows with every kind of credential, by what happens to errors."""
    retry = {"retry": {"attempts": 2, "delay": 0.001, "on": ["http", "5xx"]}}
    for auth in (*FIXED, oauth(web, "fine")):
        yield walked(f"{auth['kind']}-stop", call(auth, retry))
        yield walked(f"{auth['kind']}-continue", call(auth, {"on_error": "continue"}, response="text", fail_on_status=False))
    for way in ("refused", "broken", "odd", "nonsense"):
        for place in ("header", "body"):
            yield walked(f"token-{way}-{place}", call(oauth(web, way, place), {"on_error": "continue"}))


def page_readers() -> Iterator[dict[str, Any]]:
    """Workflows that go from page to page."""
    for auth in (BEARER, FIXED[-1]):
        for pages in ({"kind": "link"}, {"kind": "body", "next": "$json.next"}, {"kind": "cursor", "param": "c", "next": "$json.next"}):
            pagination = pages | {"items": "$json.items", "max_pages": 3}
            yield walked(f"{auth['kind']}-{pages['kind']}", call(auth, pagination=pagination))


def places(web: WebServer, other: WebServer, untrusted: WebServer) -> list[str]:
    """What to call: servers that tell, lead elsewhere, are not trusted, speak no TLS, or are not there."""
    led = (f"{other.url}/shout", f"{web.url}/shout", "https://[::1/")
    urls = [web.url + path for path in (*TELLS, *BUILT_IN, "/shout?status=500", "/shout?status=404")]
    urls += [f"{web.url}/redirect?to={quote(place, safe='')}" for place in led]
    return [*urls, f"{untrusted.url}/echo", web.url.replace("http:", "https:"), f"http://127.0.0.1:{postgres.free_port()}/dead"]


def test_no_secret_gets_out_of_calls_to_http_servers_that_tell_it_in_every_way(data: Path, tmp_path: Path, web: WebServer) -> None:
    heard = Answers()
    context, _ = certificate(tmp_path)
    with WebServer() as other, WebServer(context) as untrusted, Server(data, http_max_mb=1) as server:
        other.on("/shout", TELLS["/shout"])
        server.keep_secrets(**SENT)
        urls = places(web, other, untrusted)
        for document in (*callers(web), *page_readers()):
            paged = "pagination" in document["nodes"][1]["params"]
            server.save(document)
            for url in [f"{web.url}{path}" for path in ("/pages-of-one", "/pages-of-lists", "/echo")] if paged else urls:
                heard.keep(server.http.post(f"/webhook/{document['id']}", json={"url": url}))
            heard.keep(server.http.post(f"/api/workflows/{document['id']}/run", json={"items": [{"url": f"{web.url}/shout?status=500"}]}))
        for path in SLOW:
            heard.keep(server.http.post("/webhook/bearer-stop", json={"url": web.url + path}))
        came = {shown(seen).encode("latin-1", "ignore").decode("utf-8", "ignore") for seen in web.seen} | {shown(seen) for seen in web.seen}
        assert came > {f"ann:{SENT['BASIC']}", SENT["BEARER"], SENT["HEADER"], SENT["QUERY"], TOKEN}, "the servers were shown the secrets"
        assert {shown(seen) for seen in other.seen} <= {"none at all"}, "and the one that another led to was not"
        for mark in ("BASIC", "BEARER", "HEADER", "QUERY"):
            assert f"[secret {mark}]".encode() in b"".join(heard.texts)
        ends(server, heard, (*SENT.values(), TOKEN))


# -- PostgreSQL

PASSWORD = "c4nary-role/with+odd='chars\"&ä% 20"
WRONG = "c4nary-wrong/with+odd='chars\"&ä% 20"
TELLING = """
CREATE TABLE told (told text, code bytea);
GRANT SELECT ON told TO teller;
CREATE FUNCTION cry() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    RAISE 'it is %', (SELECT told FROM told) USING DETAIL = (SELECT told FROM told), HINT = (SELECT encode(code, 'base64') FROM told);
END $$;
CREATE FUNCTION cry(row_of anyelement) RETURNS bool LANGUAGE sql AS $$ SELECT cry() = 1 $$;
CREATE SCHEMA mway_dynamic_tables AUTHORIZATION teller;
"""
QUERIES = (
    "SELECT told, code, encode(code, 'hex') AS hex, ARRAY[told], jsonb_build_object(told, told) AS doc, 'x' || told || 'y' AS x FROM told",
    "SELECT told::int FROM told",
    "SELECT told::jsonb FROM told",
    "SELECT cry()",
    "DO $$ BEGIN EXECUTE (SELECT 'SELECT ''a'' ' || quote_ident(told) || ' FROM ' || quote_ident(told) FROM told); END $$",
    "SELECT pg_terminate_backend(pg_backend_pid()), told FROM told",
    "SELECT pg_sleep(9), told FROM told",
    "SELECT passwd FROM pg_shadow",
)  # fmt: skip


def telling_role(database: str) -> None:
    """A user whose password the database tells in a table and in errors."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS teller")
        connection.execute(sql.SQL("CREATE ROLE teller LOGIN PASSWORD {}").format(sql.Literal(PASSWORD)))
        connection.execute(TELLING)
        connection.execute("INSERT INTO told VALUES (%s, %s)", (PASSWORD, PASSWORD.encode()))


def connection_strings(server: postgres.Server, name: str) -> dict[str, str]:
    """Secrets with the password that is right, in two ways, and some with one that leads nowhere."""
    quoted, port = quote(WRONG, safe=""), server.port
    escaped = WRONG.replace("'", "\\'")
    right = PASSWORD.replace("'", "\\'")
    return {
        "RIGHT": server.url(name, user="teller", password=PASSWORD),
        "WORDS": f"host=127.0.0.1 port={port} dbname={name} user=teller password='{right}'",
        "WRONG": server.url(name, user="teller", password=WRONG),
        "NOBODY": server.url(name, user="nobody-here", password=WRONG),
        "NOWHERE": server.url("no-such-database", user="teller", password=WRONG),
        "DEAD": server.url(name, password=WRONG, port=postgres.free_port()),
        "UNRESOLVED": f"postgresql://teller:{quoted}@no-such-host.invalid/{name}",
        "BRACKET": f"postgresql://teller:{quoted}@[::1/{name}",
        "AT": f"postgresql://teller:{WRONG}@127.0.0.1:{port}/{name}",
        "OPTION": f"postgresql://teller:{quoted}@127.0.0.1:{port}/{name}?{quoted}={quoted}",
        "MODE": f"postgresql://teller:{quoted}@127.0.0.1:{port}/{name}?sslmode={quoted}",
        "PORT": f"host=127.0.0.1 user=teller port='{escaped}' password='{escaped}'",
        "UNCLOSED": f"host=127.0.0.1 user=teller password='{escaped}",
        "BARE": WRONG,
    }


READABLE = ("WRONG", "NOBODY", "NOWHERE", "DEAD", "UNRESOLVED")  # of them with a wrong password


def writers(secret: str) -> Iterator[dict[str, Any]]:
    """Nodes that write what the item says into tables of the database."""
    integer = {"name": "a", "type": "int"}
    for table, column in (("fine", "a"), ("typed", integer), ("checked", "a"), ("no_rights", "a")):
        params = {"table": table, "columns": [column]}
        yield {"id": "call", "node_type": "PGDynTableWriter", "params": params, "secrets": [f"$secret.{secret}"]}


def sql_documents() -> Iterator[dict[str, Any]]:
    """Workflows that ask and write with the right connection string."""
    for number, query in enumerate(QUERIES):
        for on_error in ("stop", "continue"):
            ask = {"id": "call", "node_type": "PGQuery", "params": {"query": query, "timeout": 0.5}, "secrets": ["$secret.RIGHT"]}
            yield walked(f"ask-{number}-{on_error}", ask | {"on_error": on_error})
    for number, write in enumerate(writers("WORDS")):
        for on_error in ("stop", "continue"):
            yield walked(f"write-{number}-{on_error}", write | {"on_error": on_error})


def strangers(secrets: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Workflows with connection strings that lead nowhere."""
    for secret in secrets:
        ask = {"id": "call", "node_type": "PGQuery", "params": {"query": "SELECT 1"}, "secrets": [f"$secret.{secret}"]}
        yield walked(f"ask-{secret}", ask)
        yield walked(f"write-{secret}", next(writers(secret)) | {"on_error": "continue"})


def test_no_secret_gets_out_of_databases_that_tell_it_in_every_way(data: Path, database: str, postgres_server: postgres.Server) -> None:
    heard = Answers()
    telling_role(database)
    secrets = connection_strings(postgres_server, database.rpartition("/")[2])
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE mway_dynamic_tables.no_rights (id bigserial PRIMARY KEY, a text)")
        connection.execute("CREATE TABLE mway_dynamic_tables.checked (id bigserial PRIMARY KEY, a text CHECK (cry(a)))")
        connection.execute("ALTER TABLE mway_dynamic_tables.checked OWNER TO teller")
    with Server(data, pg_connect_timeout=5) as server:
        server.keep_secrets(**secrets)
        for document in (*sql_documents(), *strangers(secrets)):
            server.save(document)
            # What a caller sends is searched for the secrets of its run, where these can be read.
            own = WRONG if document["id"].endswith(READABLE) else "plain" if document["id"][-1].isupper() else PASSWORD
            for value in ("plain", own):
                heard.keep(server.http.post(f"/webhook/{document['id']}", json={"a": value}))
            heard.keep(server.http.post(f"/api/workflows/{document['id']}/run", json={"items": [{"a": own}]}))
        said = b"".join(heard.texts)
        for mark in (b"it is [secret", b"[secret RIGHT]", b"does not accept this user and password", b"refuses the connection"):
            assert mark in said
        ends(server, heard, (*secrets.values(), PASSWORD, WRONG))


# -- webhooks

HELD = {name: f"c4nary-{name.lower()}/with+odd='chars\"&ä%20" for name in ("BEARING", "PASSING", "KEYED", "SIGNING", "FREE")}
LOCKS: dict[str, dict[str, Any]] = {
    "bearer": {"kind": "bearer", "token": "$secret.BEARING"},
    "basic": {"kind": "basic", "username": "ann", "password": "$secret.PASSING"},
    "header": {"kind": "header", "name": "X-Api-Key", "value": ["$secret.KEYED"]},
    **{preset: {"kind": "hmac", "preset": preset, "secret": "$secret.SIGNING"} for preset in ("github", "slack", "stripe", "shopify")},
    "free": {"kind": "hmac", "secret": "$secret.FREE", "header": "X-Sign", "algorithm": "sha512", "encoding": "base64", "prefix": "v="},
}  # fmt: skip
OF_LOCK = dict(zip(LOCKS, ("BEARING", "PASSING", "KEYED", *["SIGNING"] * 4, "FREE"), strict=True))


def credentials(kind: str, secret: str, body: bytes) -> dict[str, bytes]:
    """The headers of a caller who knows this secret."""
    now = str(int(time.time())).encode()

    def sign(signed: bytes, algorithm: str = "sha256") -> hmac.HMAC:
        return hmac.new(secret.encode(), signed, algorithm)

    if kind == "bearer":
        return {"authorization": b"Bearer " + secret.encode()}
    if kind == "basic":
        return {"authorization": b"Basic " + base64.b64encode(f"ann:{secret}".encode())}
    if kind == "header":
        return {"x-api-key": secret.encode()}
    if kind == "slack":
        signature = b"v0=" + sign(b"v0:" + now + b":" + body).hexdigest().encode()
        return {"x-slack-signature": signature, "x-slack-request-timestamp": now}
    if kind == "stripe":
        return {"stripe-signature": b"t=" + now + b",v1=" + sign(now + b"." + body).hexdigest().encode()}
    if kind == "shopify":
        return {"x-shopify-hmac-sha256": base64.b64encode(sign(body).digest())}
    if kind == "github":
        return {"x-hub-signature-256": b"sha256=" + sign(body).hexdigest().encode()}
    return {"x-sign": b"v=" + base64.b64encode(sign(body, "sha512").digest())}


def wrong_ones(kind: str, secret: str, body: bytes) -> Iterator[dict[str, bytes]]:
    """What callers show who know much of a secret, or put the right one in a wrong place."""
    right = credentials(kind, secret, body)
    [name, value] = next(iter(right.items()))
    yield {}
    yield credentials(kind, secret + "x", body)
    yield credentials(kind, secret[:-1], body)
    yield {name: value[:-4]}
    yield right | {name: secret.encode() + b" " + secret.encode()}
    yield {"authorization": b"Digest " + secret.encode(), "cookie": secret.encode(), "x-other": secret.encode()}
    yield {
        "x-slack-signature": b"v0=" + secret.encode(),
        "x-slack-request-timestamp": secret.encode(),
        "stripe-signature": b"t=" + secret.encode(),
    }


def test_no_secret_gets_out_of_webhooks_whoever_calls(data: Path) -> None:
    heard = Answers()
    with Server(data, auth_delay=0) as server:
        server.keep_secrets(**HELD)
        for kind, auth in LOCKS.items():
            name = OF_LOCK[kind]
            by_all = {"key": '{{ $headers["x-other"] }} {{ $json.a }} {{ $query.q }}'}
            server.save(walked(kind, auth=auth, path="/:a", dedupe=by_all))
            call_with_secret(server, heard, kind, name, HELD[name])
            server.save(walked(f"{kind}-later", auth=auth, path="/:a", mode="accept"))
            accept_with_secret(server, heard, kind, HELD[name])
        ends(server, heard, tuple(HELD.values()))


def accept_with_secret(server: Server, heard: Answers, kind: str, secret: str) -> None:
    """A call whose run is accepted, which holds the secret wherever a caller could put it; what is on record of it before and after."""
    said = secret if kind in ("bearer", "basic", "header") else "plain"
    body = json.dumps({"a": said, said: [1]}).encode()
    headers = {"content-type": b"application/json", "x-other": said.encode(), "cookie": said.encode()} | credentials(kind, secret, body)
    address = f"/webhook/{kind}-later/{quote(said, safe='')}?q={quote(said)}"
    answer = heard.keep(server.http.post(address, content=body, headers=[(name.encode(), value) for name, value in headers.items()]))
    assert answer.status_code == 202, answer.text
    where = answer.headers["location"]

    def over() -> bool:
        return bool(heard.keep(server.http.get(where)).json()["status"] == "succeeded")

    until(over, "the end of an accepted run")


def call_with_secret(server: Server, heard: Answers, kind: str, name: str, secret: str) -> None:
    """Calls with and without the right to come in that hold the secret wherever a caller could put it.

    What signs a body is never sent itself; whoever knows it and still sends it, where they may come in, is handed on as they are.
    """
    guess = json.dumps({"a": secret, secret: [secret]}, ensure_ascii=False).encode()
    other = secret.encode() if kind in ("bearer", "basic", "header") else b"plain"
    body = json.dumps({"a": other.decode(), other.decode(): [1]}).encode()
    boundary = b"multipart/form-data; boundary=" + quote(secret, safe="").encode()

    def call(shows: Mapping[str, bytes], content: bytes, said: bytes, content_type: bytes = b"application/json") -> httpx.Response:
        address = f"/webhook/{kind}/{quote(said, safe='')}?q={quote(said)}"
        headers = {"content-type": content_type, "x-other": said} | dict(shows)
        return heard.keep(server.http.post(address, content=content, headers=[(key.encode(), value) for key, value in headers.items()]))

    for shows in wrong_ones(kind, secret, guess):
        assert call(shows, guess, secret.encode()).status_code in (401, 403), (kind, shows)
    first, again = (call(credentials(kind, secret, body), body, other) for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200), first.text
    assert again.headers["mechaway-repeated"] == "true"
    assert (f"[secret {name}]" in first.text) == (other != b"plain")
    for content in (guess[:-1], secret.encode()):
        problem(call(credentials(kind, secret, content), content, secret.encode()), 400)
    problem(call(credentials(kind, secret, guess), guess, secret.encode(), boundary), 400)
