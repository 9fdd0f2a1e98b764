"""Which calls a stranger's web page may have made."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechaway_core.access.browser import Guard, Origins
from mechaway_core.errors import Forbidden, Invalid


def reason(guard: Guard, webhook: bool = False, method: str = "POST", **headers: str) -> str:
    """Why a call is refused; empty when it is not."""
    raw = {name.replace("_", "-").encode(): value.encode("latin-1") for name, value in headers.items()}
    try:
        guard.check(method, raw, webhook)
    except Forbidden as error:
        return error.reason
    return ""


@pytest.fixture
def guard() -> Guard:
    return Guard("tunnel.example.com, box.local:8080", Origins.parse("https://app.example.com"))


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:3004", "127.0.0.1", "127.9.9.9:1", "[::1]:3004", "[::1]", "tunnel.example.com", "Tunnel.example.com:443"],
)
def test_names_of_this_machine_and_those_in_the_settings_are_answered(guard: Guard, host: str) -> None:
    assert reason(guard, host=host) == ""
    assert reason(guard, host=host, webhook=True) == ""


@pytest.mark.parametrize(
    "host",
    [
        "evil.com",
        "localhost.evil.com",
        "127.0.0.1.evil.com",
        "evil.com:3004",
        "localhost:3004@evil.com",
        "192.168.0.2",
        "0.0.0.0",
        "[::]",
        "[::ffff:10.0.0.1]",
        "box.local",
        "2130706433",
        "0x7f.1",
        "",
        "localhost evil",
        "localhost,evil.com",
        "\xff",
    ],
)
def test_every_other_host_is_refused_for_all_paths(guard: Guard, host: str) -> None:
    assert reason(guard, host=host) == "host"
    assert reason(guard, host=host, webhook=True, method="GET") == "host"


def test_a_call_without_host_is_no_browsers(guard: Guard) -> None:
    assert reason(guard) == ""


@pytest.mark.parametrize(
    ("origin", "api", "webhook"),
    [
        ("http://localhost:3004", "", ""),
        ("https://localhost:3004", "", ""),
        ("https://app.example.com", "", ""),
        ("HTTPS://APP.example.com", "", ""),
        ("http://localhost:5173", "origin", ""),
        ("http://127.0.0.1:8000", "origin", ""),
        ("http://[::1]:8000", "origin", ""),
        ("https://evil.com", "origin", "origin"),
        ("https://app.example.com.evil.com", "origin", "origin"),
        ("http://localhost.evil.com", "origin", "origin"),
        ("http://app.example.com", "origin", "origin"),
        ("null", "origin", "origin"),
        ("", "origin", "origin"),
        ("file://", "origin", "origin"),
        ("http://localhost:5173@evil.com", "origin", "origin"),
        ("\xff", "origin", "origin"),
    ],
)
def test_only_own_pages_may_use_the_api_and_local_ones_webhooks(guard: Guard, origin: str, api: str, webhook: str) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        assert reason(guard, method=method, host="localhost:3004", origin=origin) == api
        assert reason(guard, method=method, host="localhost:3004", origin=origin, webhook=True) == webhook


def test_default_ports_may_be_left_out(guard: Guard) -> None:
    assert reason(guard, host="localhost", origin="http://localhost:80") == ""
    assert reason(guard, host="tunnel.example.com", origin="https://tunnel.example.com") == ""
    assert reason(guard, host="localhost:443", origin="http://localhost") == "origin"


def test_a_call_from_another_site_without_origin_changes_nothing_and_starts_nothing(guard: Guard) -> None:
    """Images and links of a page carry no Origin; Sec-Fetch-Site still tells."""
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert reason(guard, method=method, host="localhost", sec_fetch_site="cross-site") == "cross_site"
    assert reason(guard, method="GET", host="localhost", sec_fetch_site="cross-site") == ""
    assert reason(guard, method="GET", host="localhost", sec_fetch_site="cross-site", webhook=True) == "cross_site"
    for fine in ("same-origin", "same-site", "none"):
        assert reason(guard, method="POST", host="localhost", sec_fetch_site=fine, webhook=True) == ""


def test_a_star_opens_webhooks_to_every_page_and_the_api_to_none() -> None:
    guard = Guard("", Origins.parse("*"))
    assert reason(guard, host="localhost", origin="https://anywhere.example", webhook=True) == ""
    assert reason(guard, host="localhost", origin="https://anywhere.example") == "origin"


@pytest.mark.parametrize(
    "written", ["app.example.com", "https://", "https://a/b", "ftp://a", "https://a, nonsense", "https://*.example.com"]
)
def test_what_is_no_origin_is_refused_at_start(written: str) -> None:
    with pytest.raises(Invalid, match="MECHAWAY_CORS_ORIGINS"):
        Origins.parse(written)


def test_what_is_no_host_is_refused_at_start() -> None:
    with pytest.raises(Invalid, match="MECHAWAY_ALLOWED_HOSTS"):
        Guard("https://x.example.com", Origins.parse(""))


@given(host=st.text(max_size=40), origin=st.text(max_size=40), webhook=st.booleans())
def test_no_header_makes_it_stumble(host: str, origin: str, webhook: bool) -> None:
    guard = Guard("", Origins.parse(""))
    raw = {b"host": host.encode(), b"origin": origin.encode()}
    with pytest.raises(Forbidden):
        guard.check("POST", raw | {b"origin": b"https://evil.com"}, webhook)
    with contextlib.suppress(Forbidden):
        guard.check("POST", raw, webhook)
