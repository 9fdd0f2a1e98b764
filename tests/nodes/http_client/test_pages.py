"""HTTPClient: pages, and keys that make a call count once."""

from __future__ import annotations

from typing import Any

import pytest

from mechaway_core.errors import Invalid
from tests.nodes.bench import Bench
from tests.nodes.http_client.calls import http
from tests.web_server import Reply, WebServer, as_json

# -- pages


def test_each_page_is_an_item(bench: Bench, web: WebServer) -> None:
    pages = bench.gives(http(url=web.url + "/pages/link", pagination={"kind": "link"}))
    assert [page["data"] for page in pages] == [[{"n": 1}, {"n": 2}], [{"n": 3}, {"n": 4}], [{"n": 5}, {"n": 6}]]


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("link", {"items": "$json"}),
        ("body", {"next": "$json.next", "items": "$json.items"}),
        ("page", {"param": "page", "items": "$json.items"}),
        ("page", {"param": "page", "start": 1, "size": 2, "size_param": "per_page", "items": "$json.items"}),
        ("cursor", {"param": "cursor", "next": "$json.meta.next", "items": "$json.items"}),
    ],
)
def test_items_of_all_pages_are_collected(bench: Bench, web: WebServer, kind: str, more: dict[str, Any]) -> None:
    items = bench.gives(http(url=f"{web.url}/pages/{kind}", query={"q": "x"}, pagination={"kind": kind, **more}))
    assert items == [{"n": n} for n in range(1, 7)]
    assert web.seen[0].query["q"] == ["x"]
    assert web.seen[0].query.get("per_page") == (["2"] if "size" in more else None)


def test_max_pages_stops_and_without_it_a_hundred_are_enough(bench: Bench, web: WebServer) -> None:
    endless = web.on("/endless-pages", lambda seen: as_json({"next": f"?n={len(web.seen)}"}))
    assert len(bench.gives(http(url=endless, pagination={"kind": "body", "next": "$json.next", "max_pages": 3}))) == 3
    assert "more than 100 pages" in bench.fails(http(url=endless, pagination={"kind": "body", "next": "$json.next"}))
    assert len(web.seen) == 103


def test_pages_that_lead_in_a_circle_are_an_error(bench: Bench, web: WebServer) -> None:
    url = web.on("/circle", lambda seen: as_json({"next": "/circle?a=1"}))
    assert "lead in a circle" in bench.fails(http(url=url, pagination={"kind": "body", "next": "$json.next"}))
    assert len(web.seen) == 2


def test_a_page_that_is_not_found_is_behind_the_last(bench: Bench, web: WebServer) -> None:
    url = web.on("/wp", lambda seen: as_json([1]) if seen.query["page"] == ["1"] else Reply(b"", 404))
    assert bench.gives(http(url=url, pagination={"kind": "page", "param": "page", "items": "$json"})) == [1]
    missing = web.on("/none", Reply(b"", 404))
    assert "404" in bench.fails(http(url=missing, pagination={"kind": "page", "param": "page"}))


def test_odd_pages_are_errors(bench: Bench, web: WebServer) -> None:
    url = web.on("/odd", as_json({"items": {"a": 1}, "next": {"b": 2}}))
    assert "not a list" in bench.fails(http(url=url, pagination={"kind": "link", "items": "$json.items"}))
    assert "not a text" in bench.fails(http(url=url, pagination={"kind": "body", "next": "$json.next"}))
    assert "cursor" in bench.fails(http(url=url, pagination={"kind": "cursor", "param": "c", "next": "$json.next"}))
    bad = web.on("/bad", as_json({}, headers={"link": "<file:///etc/passwd>; rel=next"}))
    assert "only http and https" in bench.fails(http(url=bad, pagination={"kind": "link"}))


def test_pages_share_one_limit(bench: Bench, web: WebServer) -> None:
    big = web.on("/big", lambda seen: as_json({"next": f"?n={len(web.seen)}", "text": "x" * 3_000_000}))
    assert "larger than 10 MB, all pages together (MECHAWAY_HTTP_MAX_MB)" in bench.fails(
        http(url=big, pagination={"kind": "body", "next": "$json.next"})
    )
    assert len(web.seen) == 4


# -- keys that make a call count once


def sent_keys(web: WebServer) -> list[str | None]:
    """What the header `Idempotency-Key` said, call by call."""
    return [seen.headers.get("idempotency-key") for seen in web.seen]


def test_a_call_has_no_key_unless_it_is_asked_for(bench: Bench, web: WebServer) -> None:
    bench.gives(http(url=web.url + "/echo", method="POST"), http(url=web.url + "/echo", method="POST", idempotency_key=False) | {"id": "b"})
    assert sent_keys(web) == [None, None]


def test_every_attempt_for_an_item_has_the_same_key_and_every_item_another(bench: Bench, web: WebServer) -> None:
    url = web.on("/shaky", lambda seen: as_json({}, 200 if len(web.seen) % 3 == 0 else 503))
    call = http(url=url, method="POST", idempotency_key=True, about={"retry": {"attempts": 3, "delay": 0}, "outputs": {"key": "$run.key"}})
    items = bench.gives(call, items=[{"same": 1}, {"same": 1}])
    keys = sent_keys(web)
    assert len(keys) == 6
    assert keys == [item["key"] for item in items for _ in range(3)]
    assert len(set(keys)) == 2
    bench.gives(call, items=[{"same": 1}])
    assert sent_keys(web)[6] not in keys


@pytest.mark.parametrize("name", ["Idempotency-Key", "idempotency-key"])
def test_a_key_in_headers_wins_unless_it_is_null(bench: Bench, web: WebServer, name: str) -> None:
    call = http(url=web.url + "/echo", method="POST", headers={name: "{{ $json.id }}"}, idempotency_key=True)
    bench.gives(call, items=[{"id": "mine"}, {}])
    own, other = sent_keys(web)
    assert own == "mine"
    assert other is not None
    assert len(other) == 32


def test_a_key_may_be_a_template(bench: Bench, web: WebServer) -> None:
    call = http(url=web.url + "/echo", method="POST", idempotency_key="order-{{ $json.id }}")
    bench.gives(call, items=[{"id": 7}, {"id": 8}])
    bench.gives(http(url=web.url + "/echo", method="POST", idempotency_key="{{ $json.id }}"), items=[{"id": 9}])
    assert sent_keys(web) == ["order-7", "order-8", "9"]


@pytest.mark.parametrize("value", [None, "", "  ", True, [1], {}])
def test_without_a_key_that_can_be_one_nothing_is_sent(bench: Bench, web: WebServer, value: Any) -> None:
    message = bench.fails(http(url=web.url + "/echo", method="POST", idempotency_key="{{ $json.id }}"), items=[{"id": value}])
    assert "idempotency_key" in message
    assert web.seen == []


def test_a_redirect_takes_the_key_along(bench: Bench, web: WebServer) -> None:
    web.on("/moved", Reply(b"", 307, {"location": "/echo"}))
    bench.gives(http(url=web.url + "/moved", method="POST", body={"a": 1}, idempotency_key=True))
    assert web.paths() == ["/moved", "/echo"]
    first, second = sent_keys(web)
    assert first is not None
    assert first == second


def test_every_page_is_a_call_of_its_own(bench: Bench, web: WebServer) -> None:
    pages = {"kind": "link"}
    bench.gives(http(url=web.url + "/pages/link", method="POST", idempotency_key="k{{ $json.id }}", pagination=pages), items=[{"id": 1}])
    assert sent_keys(web) == ["k1", "k1-2", "k1-3"]
    web.seen.clear()
    bench.gives(http(url=web.url + "/pages/link", headers={"Idempotency-Key": "x"}, idempotency_key=True, pagination=pages))
    assert sent_keys(web) == ["x"] * 3


@pytest.mark.parametrize("key", ["", "constant"])
def test_a_key_that_is_the_same_for_every_call_is_not_saved(bench: Bench, key: str) -> None:
    with pytest.raises(Invalid) as caught:
        bench.put(http(url="https://example.com", idempotency_key=key))
    assert [problem.pointer for problem in caught.value.problems] == ["/nodes/1/params/idempotency_key"]
