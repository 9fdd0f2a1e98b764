"""Everything at once, by `examples/github-issues.yaml`: a signed delivery, an API with pages, PostgreSQL and a table of the project.

Only the address of the API is another one than in the file, and in the tests with `kill -9` the time that a run may take.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml

from tests import postgres
from tests.journeys.server import EXAMPLES, Server, problem, until
from tests.web_server import Reply, Seen, WebServer, as_json

REPOSITORY = "octo/hello"
SECRET, TOKEN = "it's a s3cret to everybody", "ghp_0123456789abcdef"
KEPT = "SELECT comment, repository, issue, author, body FROM mway_dynamic_tables.github_comments ORDER BY comment"
PAGE = 3  # comments of one


class GitHub:
    """What the API knows of issues, and how it is: `down` answers so many calls with 503 (-1: all), `gate` holds answers back."""

    def __init__(self, web: WebServer) -> None:
        self.web = web
        self.comments: dict[int, list[dict[str, Any]]] = {}
        self.down = 0
        self.asked = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def issue(self, number: int, count: int) -> None:
        """There is an issue with so many comments."""
        self.comments[number] = [
            {"id": number * 1000 + n, "user": {"login": f"user-{n}"}, "body": f"«{n}» it's\n'so'", "created_at": "2030-01-02T03:04:05Z"}
            for n in range(count)
        ]
        self.web.on(f"/repos/{REPOSITORY}/issues/{number}/comments", lambda seen: self.answer(number, seen))

    def answer(self, number: int, seen: Seen) -> Reply:
        self.asked.set()
        self.gate.wait(60)
        if self.down:
            self.down -= 1
            return as_json({"message": "down for maintenance"}, 503)
        if seen.headers.get("authorization") != f"Bearer {TOKEN}":
            return as_json({"message": "Bad credentials"}, 401)
        page = int(seen.query.get("page", ["1"])[0])
        found = self.comments[number][(page - 1) * PAGE : page * PAGE]
        more = page * PAGE < len(self.comments[number])
        link = f'<{self.web.url}{seen.path}?per_page={seen.query["per_page"][0]}&page={page + 1}>; rel="next"'
        return as_json(found, headers={"link": link} if more else {})


@pytest.fixture
def github() -> Iterator[GitHub]:
    with WebServer() as web:
        made = GitHub(web)
        yield made
        made.gate.set()


@pytest.fixture
def mechaway(data: Path, github: GitHub, database: str) -> Iterator[Server]:
    with ready(data, github, database) as server:
        yield server


def ready(data: Path, github: GitHub, database: str, **settings: Any) -> Server:
    """A server with the workflow and its secrets."""
    text = (EXAMPLES / "github-issues.yaml").read_text()
    document = yaml.safe_load(text.replace("https://api.github.com", github.web.url))
    server = Server(data)
    server.keep_secrets(GITHUB_WEBHOOK_SECRET=SECRET, GITHUB_TOKEN=TOKEN, DATABASE_URL=database)
    assert server.save(document | ({"settings": settings} if settings else {})).get("warnings", []) == []
    return server


def deliver(server: Server, number: int, delivery: str = "d-1", secret: str = SECRET, title: str = "It breaks") -> httpx.Response:
    """What GitHub sends when an issue was opened, signed with this secret."""
    event = {
        "action": "opened",
        "issue": {"number": number, "title": title, "state": "open"},
        "repository": {"full_name": REPOSITORY},
    }
    return send(server, "issues", json.dumps(event).encode(), delivery, secret)


def send(server: Server, event: str, body: bytes, delivery: str, secret: str = SECRET) -> httpx.Response:
    """A delivery as GitHub makes it."""
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {
        "content-type": "application/json",
        "x-github-event": event,
        "x-github-delivery": delivery,
        "x-hub-signature-256": f"sha256={signature}",
    }
    return server.http.post("/webhook/github-issues/events", content=body, headers=headers)


def kept(database: str) -> list[tuple[Any, ...]]:
    """The comments in PostgreSQL; none as long as there is no table."""
    with psycopg.connect(database) as connection:
        if connection.execute("SELECT to_regclass('mway_dynamic_tables.github_comments')").fetchone() == (None,):
            return []
        return connection.execute(KEPT).fetchall()


def issues(server: Server) -> list[dict[str, Any]]:
    """The rows of the project's table; none as long as there is no table."""
    answer = server.http.get("/api/tables/github_issues/rows")
    found: list[dict[str, Any]] = answer.json()["rows"] if answer.status_code == 200 else []
    return [{name: value for name, value in row.items() if name != "id"} for row in found]


def told(number: int, comments: int) -> dict[str, Any]:
    """What a delivery is answered."""
    return {"event": "issues", "repository": REPOSITORY, "issue": number, "comments": comments}


def row(number: int, comments: int, title: str = "It breaks") -> dict[str, Any]:
    """What the project's table holds then."""
    return {"repository": REPOSITORY, "number": number, "title": title, "state": "open", "comments": comments}


def expected(github: GitHub, number: int) -> list[tuple[Any, ...]]:
    """What PostgreSQL holds then."""
    return [(one["id"], REPOSITORY, number, one["user"]["login"], one["body"]) for one in github.comments[number]]


def test_a_signed_delivery_is_looked_up_page_by_page_and_kept_in_both_databases(mechaway: Server, github: GitHub, database: str) -> None:
    github.issue(7, 8)
    answer = deliver(mechaway, 7)
    assert (answer.status_code, answer.json()) == (200, told(7, 8))
    assert kept(database) == expected(github, 7)
    assert issues(mechaway) == [row(7, 8)]
    assert [seen.query.get("page") for seen in github.web.seen] == [None, ["2"], ["3"]]


def test_a_wrong_signature_makes_nothing_happen_anywhere(mechaway: Server, github: GitHub, database: str) -> None:
    github.issue(7, 2)
    said = problem(deliver(mechaway, 7, secret="guessed"), 403)
    assert "signature" not in said["detail"]
    assert github.web.seen == []
    assert kept(database) == []
    assert issues(mechaway) == []
    assert mechaway.refusals("webhook_wrong") == 1
    assert deliver(mechaway, 7).json() == told(7, 2), "a forged delivery does not use up the id of the real one"


def test_a_delivery_that_comes_again_runs_once_and_gets_the_same_answer(mechaway: Server, github: GitHub, database: str) -> None:
    github.issue(7, 2)
    first = deliver(mechaway, 7)
    github.issue(7, 5)
    again = deliver(mechaway, 7)
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["mechaway-repeated"] == "true"
    assert again.headers["mechaway-run-id"] == first.headers["mechaway-run-id"]
    assert len(github.web.seen) == 1
    assert len(kept(database)) == 2
    another = deliver(mechaway, 7, "d-2", title="It still breaks")
    assert another.json() == told(7, 5)
    assert kept(database) == expected(github, 7)
    assert issues(mechaway) == [row(7, 5, "It still breaks")]


def test_the_ping_that_comes_first_stores_nothing_and_is_no_error(mechaway: Server, github: GitHub, database: str) -> None:
    answer = send(mechaway, "ping", b'{"zen": "Keep it logically awesome."}', "d-0")
    assert (answer.status_code, answer.json()["event"], answer.json()["issue"]) == (200, "ping", None)
    assert github.web.seen == []
    assert (kept(database), issues(mechaway)) == ([], [])


def test_an_api_that_comes_back_is_asked_again(mechaway: Server, github: GitHub, database: str) -> None:
    github.issue(7, 4)
    github.down = 2
    assert deliver(mechaway, 7).json() == told(7, 4)
    assert kept(database) == expected(github, 7)


def test_an_api_that_stays_down_fails_the_run_and_the_delivery_can_be_sent_again(mechaway: Server, github: GitHub, database: str) -> None:
    github.issue(7, 4)
    github.down = -1
    said = problem(deliver(mechaway, 7), 422)
    assert said["node_id"] == "comments"
    assert "answered 503 Service Unavailable" in said["detail"]
    assert len(github.web.seen) == 3
    assert (kept(database), issues(mechaway)) == ([], [])
    github.down = 0
    assert deliver(mechaway, 7).json() == told(7, 4)
    assert kept(database) == expected(github, 7)


def test_a_database_that_is_away_fails_the_run_and_the_delivery_can_be_sent_again(
    mechaway: Server, github: GitHub, database: str, postgres_server: postgres.Server
) -> None:
    github.issue(7, 1)
    postgres_server.down()
    try:
        said = problem(deliver(mechaway, 7), 503)
    finally:
        postgres_server.up()
    assert said["node_id"] == "keep-comments"
    assert database not in json.dumps(said)
    assert issues(mechaway) == []
    assert deliver(mechaway, 7).json() == told(7, 1)
    assert kept(database) == expected(github, 7)


def test_a_server_that_was_killed_while_it_asked_the_api_takes_the_delivery_again(data: Path, github: GitHub, database: str) -> None:
    github.issue(7, 4)
    github.gate.clear()
    with ready(data, github, database, timeout=2) as server:
        sender = deliver_and_lose(server, 7)
        assert github.asked.wait(20)
        server.kill()
        sender.join(20)
    github.gate.set()
    with Server(data) as server:
        assert (kept(database), issues(server)) == ([], [])
        taken_over(server, 7, 4)
        assert kept(database) == expected(github, 7)
        assert issues(server) == [row(7, 4)]


def test_a_server_that_was_killed_while_it_stored_leaves_no_half_and_takes_the_delivery_again(
    data: Path, github: GitHub, database: str
) -> None:
    github.issue(6, 1)
    github.issue(7, 4)
    with ready(data, github, database, timeout=2) as server, psycopg.connect(database) as other:
        assert deliver(server, 6, "d-0").status_code == 200
        other.execute("LOCK TABLE mway_dynamic_tables.github_comments IN SHARE MODE")
        sender = deliver_and_lose(server, 7)
        until(lambda: waits_for_lock(other), "the rows to be on their way")
        server.kill()
        sender.join(20)
        other.rollback()
    with Server(data) as server:
        assert kept(database)[:1] == expected(github, 6)
        assert len(kept(database)) in (1, 5), "all rows of the run or none"
        assert issues(server) == [row(6, 1)]
        taken_over(server, 7, 4)
        assert kept(database) == expected(github, 6) + expected(github, 7)
        assert issues(server) == [row(6, 1), row(7, 4)]


def waits_for_lock(connection: psycopg.Connection[Any]) -> bool:
    """Whether somebody waits in this connection's database for a lock."""
    place = "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    return connection.execute(f"SELECT count(*) FROM pg_locks WHERE NOT granted AND {place}").fetchone() != (0,)


def deliver_and_lose(server: Server, number: int) -> threading.Thread:
    """Deliver to a server that will not live to answer."""

    def go() -> None:
        with pytest.raises(httpx.TransportError):
            deliver(server, number)

    thread = threading.Thread(target=go)
    thread.start()
    return thread


def taken_over(server: Server, number: int, comments: int) -> None:
    """The delivery of the server that died is refused until its run would be over, and then it is taken."""
    first = deliver(server, number)
    assert problem(first, 409)["detail"] == "this delivery is being answered; try again soon"
    assert int(first.headers["retry-after"]) > 0
    answer = until(lambda: found if (found := deliver(server, number)).status_code != 409 else None, "the delivery to be taken over")
    assert (answer.status_code, answer.json()) == (200, told(number, comments))
