"""HTTPClient: credentials, where they go and where they do not, and what the guard refuses."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mechaway_core.app import App
from tests.conftest import MakeApp
from tests.nodes.bench import Bench, Document, node
from tests.web_server import Reply, Seen, WebServer, as_json, certificate

Keep = Callable[[str, str], None]
AUTHS: list[tuple[Document, str]] = [
    ({"kind": "basic", "username": "ann", "password": "$secret.KEY"}, "authorization"),
    ({"kind": "bearer", "token": "$secret.KEY"}, "authorization"),
    ({"kind": "header", "name": "X-Api-Key", "value": "$secret.KEY"}, "x-api-key"),
]
KINDS = [auth["kind"] for auth, _ in AUTHS]


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[WebServer, WebServer]]:
    with WebServer() as home, WebServer() as other:
        yield home, other


@pytest.fixture
def web(shared: tuple[WebServer, WebServer]) -> WebServer:
    return _cleared(shared[0])


@pytest.fixture
def other(shared: tuple[WebServer, WebServer]) -> WebServer:
    """A server at another origin."""
    return _cleared(shared[1])


def _cleared(server: WebServer) -> WebServer:
    server.seen.clear()
    server.counts.clear()
    return server


@pytest.fixture(autouse=True)
def secret(bench: Bench) -> Keep:
    """Keeps a secret for the nodes of the test."""

    def keep(name: str, value: str) -> None:
        bench.app.put_secret(bench.project, name, value)

    keep("KEY", "s3cret:/ &ä")
    return keep


def http(url: str, auth: Any = None, **more: Any) -> Document:
    about = more.pop("about", None)
    return node("HTTPClient", url=url, about=about, **more | ({"auth": auth} if auth else {}))


def oauth(web: WebServer, **more: Any) -> Document:
    return {
        "kind": "oauth2_client_credentials",
        "token_url": web.url + "/token",
        "client_id": "me",
        "client_secret": "$secret.KEY",
        **more,
    }


def guarded(make_app: MakeApp, **settings: Any) -> Bench:
    """A bench over an app of its own; it needs no tables."""
    app: App = make_app(lua_workers=1, **settings)
    app.put_secret("default", "KEY", "s3cret:/ &ä")
    return Bench(app, "default", None)  # type: ignore[arg-type]


# -- kinds


def test_basic_sends_user_and_password_in_utf_8_and_hides_both_forms(bench: Bench, web: WebServer) -> None:
    [item] = bench.gives(http(web.url + "/echo", AUTHS[0][0]))
    sent = web.seen[-1].headers["authorization"].removeprefix("Basic ")
    assert base64.b64decode(sent).decode() == "ann:s3cret:/ &ä"
    assert item["data"]["headers"]["authorization"] == "Basic [secret]"


def test_bearer_header_and_query_send_the_secret(bench: Bench, web: WebServer, secret: Keep) -> None:
    secret("KEY", "a/b +c")
    [item] = bench.gives(http(web.url + "/echo", AUTHS[1][0]))
    assert web.seen[-1].headers["authorization"] == "Bearer a/b +c"
    assert item["data"]["headers"]["authorization"] == "Bearer [secret KEY]"
    [item] = bench.gives(http(web.url + "/echo", AUTHS[2][0]))
    assert web.seen[-1].headers["x-api-key"] == "a/b +c"
    assert item["data"]["headers"]["x-api-key"] == "[secret KEY]"
    [item] = bench.gives(http(web.url + "/echo?q=1", {"kind": "query", "name": "key", "value": "$secret.KEY"}))
    assert web.seen[-1].query == {"q": ["1"], "key": ["a/b +c"]}
    assert item["data"]["query"] == {"q": ["1"], "key": ["[secret KEY]"]}


def test_a_user_in_the_url_is_sent_as_basic_and_never_shown(bench: Bench, web: WebServer) -> None:
    url = web.url.replace("://", "://ann:hush@")
    [item] = bench.gives(http(url + "/echo"))
    assert base64.b64decode(item["data"]["headers"]["authorization"].removeprefix("Basic ")) == b"ann:hush"
    for path in ("/status/500?hush", "/drop?hush", "/nonsense#hush"):
        assert "hush" not in bench.fails(http(url + path))
    assert "hush" not in bench.fails(http("http://ann:hush@127.0.0.1:9/?hush"))


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "日本"])
def test_a_secret_that_no_header_can_hold_is_an_error_that_does_not_show_it(bench: Bench, web: WebServer, secret: Keep, value: str) -> None:
    secret("KEY", value)
    sentence = bench.fails(http(web.url + "/echo", AUTHS[1][0]))
    assert "the auth cannot be sent" in sentence
    assert value not in sentence
    assert web.seen == []


# -- where credentials go


@pytest.mark.parametrize(("auth", "header"), AUTHS, ids=KINDS)
def test_credentials_stay_at_home_when_a_redirect_leads_elsewhere(
    bench: Bench, web: WebServer, other: WebServer, auth: Document, header: str
) -> None:
    [item] = bench.gives(http(f"{web.url}/redirect?to={other.url}/echo", auth, headers={"X-Plain": "1"}))
    assert header in web.seen[0].headers
    assert header not in item["data"]["headers"]
    assert item["data"]["headers"]["x-plain"] == "1"


@pytest.mark.parametrize(("auth", "header"), AUTHS, ids=KINDS)
def test_credentials_go_along_within_the_origin(bench: Bench, web: WebServer, auth: Document, header: str) -> None:
    [item] = bench.gives(http(f"{web.url}/redirect?to=/echo", auth))
    assert header in item["data"]["headers"]


def test_a_way_back_home_does_not_bring_the_credentials_back(bench: Bench, web: WebServer, other: WebServer) -> None:
    [item] = bench.gives(http(f"{web.url}/redirect?to={other.url}/redirect?to={web.url}/echo", AUTHS[1][0]))
    assert "authorization" not in item["data"]["headers"]


def test_the_same_host_by_another_port_or_name_is_elsewhere(bench: Bench, web: WebServer) -> None:
    url = f"http://localhost:{web.port}/redirect?to={web.url}/echo"
    [item] = bench.gives(http(url, AUTHS[1][0]))
    assert web.seen[0].headers["authorization"]
    assert "authorization" not in item["data"]["headers"]


def test_a_key_in_the_query_is_not_taken_elsewhere(bench: Bench, web: WebServer, other: WebServer) -> None:
    [item] = bench.gives(http(f"{web.url}/redirect?to={other.url}/echo", {"kind": "query", "name": "key", "value": "$secret.KEY"}))
    assert item["data"]["query"] == {}


def test_authorization_and_cookies_by_hand_are_not_taken_elsewhere(bench: Bench, web: WebServer, other: WebServer) -> None:
    by_hand = {"Authorization": "Token abc", "Cookie": "a=1", "Proxy-Authorization": "x"}
    [item] = bench.gives(http(f"{web.url}/redirect?to={other.url}/echo", headers=by_hand))
    assert web.seen[0].headers["authorization"] == "Token abc"
    assert not {"authorization", "cookie", "proxy-authorization"} & set(item["data"]["headers"])


def test_cookies_that_a_server_sets_are_not_taken_elsewhere(bench: Bench, web: WebServer) -> None:
    web.on("/sets", Reply(b"", 302, {"location": f"http://localhost:{web.port}/echo", "set-cookie": "session=1; Path=/"}))
    [item] = bench.gives(http(web.url + "/sets"))
    assert "cookie" not in item["data"]["headers"]


@pytest.mark.parametrize("kind", ["link", "body"])
def test_pages_elsewhere_get_no_credentials(bench: Bench, web: WebServer, other: WebServer, kind: str) -> None:
    link = {"link": f'<{other.url}/echo>; rel="next"'}
    url = web.on("/first", as_json({"next": other.url + "/echo"}, headers=link if kind == "link" else {}))
    pagination = {"kind": kind} | ({"next": "$json.next"} if kind == "body" else {})
    first, second = bench.gives(http(url, AUTHS[1][0], pagination=pagination, headers={"Cookie": "a=1"}))
    assert web.seen[0].headers["authorization"]
    assert first["data"]["next"]
    assert not {"authorization", "cookie"} & set(second["data"]["headers"])


def test_pages_at_home_get_credentials(bench: Bench, web: WebServer) -> None:
    bench.gives(http(web.url + "/pages/link", AUTHS[2][0], pagination={"kind": "link"}))
    assert [seen.headers["x-api-key"] for seen in web.seen if "x-api-key" in seen.headers] != []
    assert len([seen for seen in web.seen if "x-api-key" in seen.headers]) == 3


# -- tokens


@pytest.mark.parametrize("place", ["header", "body"])
def test_a_token_is_fetched_once_and_used_until_it_ends(bench: Bench, web: WebServer, place: str) -> None:
    auth = oauth(web, scope="read write", audience="api", **{"in": place})
    items = bench.gives(http(web.url + "/echo", auth), items=[{}, {}])
    assert [seen.headers["authorization"] for seen in web.seen if seen.path == "/echo"] == ["Bearer token-1"] * 2
    assert [item["data"]["headers"]["authorization"] for item in items] == ["Bearer [secret]"] * 2
    assert web.paths().count("/token") == 1
    asked = web.seen[0]
    form = asked.body.decode()
    assert "grant_type=client_credentials&scope=read+write&audience=api" in form
    if place == "header":
        assert base64.b64decode(asked.headers["authorization"].removeprefix("Basic ")) == b"me:s3cret%3A%2F+%26%C3%A4"
        assert "client_secret" not in form
    else:
        assert "client_id=me&client_secret=s3cret%3A%2F+%26%C3%A4" in form
        assert "authorization" not in asked.headers


def test_another_secret_project_or_scope_gets_another_token(bench: Bench, app: App, web: WebServer, secret: Keep) -> None:
    bench.gives(http(web.url + "/echo", oauth(web)))
    bench.gives(http(web.url + "/echo", oauth(web, scope="more")))
    secret("KEY", "another")
    bench.gives(http(web.url + "/echo", oauth(web)))
    app.create_project("tokens-apart")
    app.put_secret("tokens-apart", "KEY", "another")
    Bench(app, "tokens-apart", None).gives(http(web.url + "/echo", oauth(web)))  # type: ignore[arg-type]
    assert web.paths().count("/token") == 4


def test_a_token_that_is_refused_is_fetched_anew_once(bench: Bench, web: WebServer) -> None:
    url = web.on("/strict", lambda seen: as_json(seen.as_json(), 200 if seen.headers["authorization"] != "Bearer token-1" else 401))
    [item] = bench.gives(http(url, oauth(web, scope="renew"), method="POST", body={"a": 1}))
    assert web.seen[-1].headers["authorization"] == "Bearer token-2"
    assert item["data"]["headers"]["authorization"] == "Bearer [secret]"
    assert item["data"]["body"] == '{"a":1}'
    never = web.on("/never", Reply(b"", 401))
    assert "answered 401" in bench.fails(http(never, oauth(web, scope="renew")))
    assert web.paths() == ["/token", "/strict", "/token", "/strict", "/never", "/token", "/never"]


def test_a_short_life_is_kept_to(bench: Bench, web: WebServer) -> None:
    web.on("/short", lambda seen: as_json({"access_token": f"t{len(web.seen)}", "expires_in": 0}))
    bench.gives(http(web.url + "/echo", oauth(web) | {"token_url": web.url + "/short"}), items=[{}, {}])
    assert web.paths() == ["/short", "/echo"] * 2


def test_many_at_once_fetch_one_token(bench: Bench, app: App, web: WebServer) -> None:
    gate = threading.Barrier(4)
    bench.put(http(web.url + "/echo", oauth(web, scope="many")))

    def start() -> None:
        gate.wait(10)
        app.start(bench.project, "w")

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert web.paths().count("/token") == 1
    assert web.paths().count("/echo") == 4


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (as_json({"error": "invalid_client", "error_description": "canary"}, 401), "answered 401 (invalid_client)"),
        (as_json({"error": ["canary"]}, 400), "answered 400"),
        (Reply(b"canary", 500), "answered 500"),
        (as_json({"canary": "x"}), "holds no access_token"),
        (as_json(["canary"]), "holds no access_token"),
        (Reply(b"canary {", 200), "holds no access_token"),
        (as_json({"access_token": "canary\r\nX-Evil: 1"}), "control character"),
        (Reply(b"", 302, {"location": "/echo"}), "answered 302"),
    ],
)
def test_a_token_endpoint_that_gives_none_is_an_error_without_its_words(bench: Bench, web: WebServer, reply: Reply, sentence: str) -> None:
    web.on("/bad-token", reply)
    said = bench.fails(http(web.url + "/echo", oauth(web) | {"token_url": web.url + "/bad-token?hush"}))
    assert sentence in said
    assert "canary" not in said
    assert "hush" not in said
    assert "/echo" not in web.paths()


def test_a_slow_token_endpoint_does_not_outlive_the_timeout(bench: Bench, web: WebServer) -> None:
    began = time.monotonic()
    run = bench.run(http(web.url + "/echo", oauth(web) | {"token_url": web.url + "/silent"}, timeout=0.3))
    assert time.monotonic() - began < 5
    assert run.failure is not None
    assert run.failure.kind == "timeout"


# -- the guard, through the node


def test_metadata_is_never_called_whatever_is_allowed(bench: Bench, web: WebServer) -> None:
    for host in ("169.254.169.254", "[::ffff:169.254.169.254]", "2852039166", "metadata.google.internal"):
        began = time.monotonic()
        assert "Mechaway never calls" in bench.fails(http(f"http://{host}/latest/meta-data/"))
        assert time.monotonic() - began < 5
    assert "Mechaway never calls" in bench.fails(http(f"{web.url}/redirect?to=http://169.254.169.254/latest/"))


def test_private_networks_are_refused_by_a_setting_on_every_hop(make_app: MakeApp, web: WebServer, other: WebServer) -> None:
    bench = guarded(make_app, http_private="refuse", http_allow=f"127.0.0.1:{web.port}")
    assert bench.gives(http(web.url + "/echo"))[0]["success"]
    for url in (other.url + "/echo", f"{web.url}/redirect?to={other.url}/echo", f"http://localhost:{other.port}/echo"):
        assert "MECHAWAY_HTTP_PRIVATE" in bench.fails(http(url))
    pagination = {"kind": "body", "next": "$json.next"}
    leads = web.on("/leads", as_json({"next": other.url + "/echo"}))
    assert "MECHAWAY_HTTP_PRIVATE" in bench.fails(http(leads, pagination=pagination))
    assert "MECHAWAY_HTTP_PRIVATE" in bench.fails(http(web.url + "/echo", oauth(other)))
    assert other.seen == []


def test_a_refused_port_is_refused_by_any_number_that_systems_cut_to_it(make_app: MakeApp, web: WebServer) -> None:
    bench = guarded(make_app, http_refuse=f"127.0.0.1:{web.port}")
    assert "MECHAWAY_HTTP_REFUSE" in bench.fails(http(web.url + "/echo"))
    assert "is not a URL" in bench.fails(http("{{ $json.url }}"), items=[{"url": f"http://127.0.0.1:{web.port + 65536}/echo"}])
    assert web.seen == []


def test_the_connection_goes_to_the_address_that_was_looked_at(make_app: MakeApp, web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that answers harmlessly at first and otherwise later; with a second look-up the connection would follow it."""
    import socket

    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: Any, port: Any, *more: Any, **named: Any) -> Any:
        if host != "rebind.example":
            return real(host, port, *more, **named)
        asked.append(host)
        return real("127.0.0.1" if len(asked) == 1 else "169.254.169.254", port, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    bench = guarded(make_app)
    [item] = bench.gives(http(f"http://rebind.example:{web.port}/echo"))
    assert item["data"]["headers"]["host"] == f"rebind.example:{web.port}"
    assert asked == ["rebind.example"]


# -- TLS


def test_a_certificate_that_is_trusted_is_accepted(make_app: MakeApp, tmp_path: Path) -> None:
    context, public = certificate(tmp_path)
    with WebServer(context) as secure:
        bench = guarded(make_app, http_ca_file=str(public))
        items = bench.gives(http(secure.url + "/echo"), items=[{}, {}])
        assert [item["status"] for item in items] == [200, 200]
        assert len({seen.peer for seen in secure.seen}) == 1


@pytest.mark.parametrize(
    ("made", "trusted", "sentence"),
    [
        ({}, False, "certificate is not trusted: self-signed certificate"),
        ({"expired": True}, True, "certificate is not trusted: certificate has expired"),
        ({"name": "127.0.0.2"}, True, "certificate is not trusted: IP address mismatch"),
    ],
)
def test_a_certificate_that_is_not_right_is_an_error(
    make_app: MakeApp, tmp_path: Path, made: dict[str, Any], trusted: bool, sentence: str
) -> None:
    context, public = certificate(tmp_path, **made)
    with WebServer(context) as secure:
        said = guarded(make_app, http_ca_file=str(public) if trusted else "").fails(http(secure.url + "/echo", AUTHS[1][0]))
        assert sentence in said
        assert secure.seen == []


def test_a_server_without_tls_is_an_error(bench: Bench, web: WebServer) -> None:
    assert "TLS with the server failed" in bench.fails(http(f"https://127.0.0.1:{web.port}/echo"))


def test_a_handshake_that_never_ends_does_not_outlive_the_timeout(bench: Bench) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as deaf:
        run = bench.run(http(f"https://127.0.0.1:{deaf.getsockname()[1]}/", timeout=0.3))
    assert run.failure is not None
    assert run.failure.kind == "timeout"


def test_a_file_of_certificates_that_is_none_is_an_error(make_app: MakeApp, web: WebServer) -> None:
    assert "MECHAWAY_HTTP_CA_FILE" in guarded(make_app, http_ca_file="/nowhere.pem").fails(http(web.url + "/echo"))


# -- what the libraries say


def test_nothing_of_a_call_is_logged(bench: Bench, web: WebServer, caplog: pytest.LogCaptureFixture) -> None:
    def seen_in_a_cookie(seen: Seen) -> Reply:
        return Reply(b"", 200, {"set-cookie": "canary=1"})

    caplog.set_level(0)
    url = web.on("/cookie", seen_in_a_cookie)
    bench.gives(http(url + "?canary=1", AUTHS[1][0]))
    bench.fails(http(web.url + "/drop?canary=1", AUTHS[1][0]))
    assert "canary" not in caplog.text
    assert "s3cret" not in caplog.text
