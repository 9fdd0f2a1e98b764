"""Where calls come from, and what is counted about those that were not let in."""

from __future__ import annotations

from pathlib import Path

import pytest

from mechaway_core.access import Door
from mechaway_core.errors import Forbidden, Invalid, Unauthorized
from mechaway_core.folders import FolderStore
from mechaway_core.local.clock import LocalClock
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles


def make(tmp_path: Path, **settings: str) -> Door:
    chosen = Settings(data_dir=tmp_path, **settings)  # type: ignore[arg-type]
    return Door(chosen, FolderStore(ProjectFiles(chosen)), LocalClock())


@pytest.mark.parametrize(
    ("client", "said", "source"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", [b"198.51.100.1"], "203.0.113.9"),  # no proxy of ours: whatever it says
        ("10.0.0.1", [b"198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", [b"6.6.6.6, 198.51.100.1"], "198.51.100.1"),  # what the caller wrote itself stands before
        ("10.0.0.1", [b"6.6.6.6", b"198.51.100.1, 10.9.9.9 "], "198.51.100.1"),
        ("10.0.0.1", [b"10.0.0.2,10.0.0.3"], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [b""], "10.0.0.1"),
        ("::1", [b"2001:db8::1"], "2001:db8::1"),
        ("", [b"198.51.100.1"], ""),
        ("10.0.0.1", [b"not an address\xff"], "not an addressÿ"),
    ],
)
def test_only_trusted_proxies_are_believed_about_where_a_call_comes_from(
    tmp_path: Path, client: str, said: list[bytes], source: str
) -> None:
    door = make(tmp_path, trusted_proxies="10.0.0.0/8, ::1")
    assert door.source(client, [(b"x-forwarded-for", value) for value in said]) == source


def test_without_trusted_proxies_nobody_is(tmp_path: Path) -> None:
    assert make(tmp_path).source("127.0.0.1", [(b"x-forwarded-for", b"198.51.100.1")]) == "127.0.0.1"


def test_a_proxy_that_is_no_address_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="MECHAWAY_TRUSTED_PROXIES"):
        make(tmp_path, trusted_proxies="proxy.local")


def test_refusals_are_counted_by_reason(tmp_path: Path) -> None:
    door = make(tmp_path)
    for reason in ("b", "a", "b"):
        door.refuse(Forbidden("no", reason=reason), client="", headers=[], target="GET /", request_id="1")
    assert door.refusals.as_json() == {"refusals": {"a": 1, "b": 2}, "total": 3}


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"", "token_missing"),
        (b"Bearer", "token_missing"),
        (b"Basic YTpi", "token_missing"),
        (b"Bearer admi", "token_wrong"),
        (b"Bearer adminn", "token_wrong"),
        (b"Bearer \xff", "token_wrong"),
    ],
)
def test_only_the_whole_token_is_the_token(tmp_path: Path, header: bytes, reason: str) -> None:
    door = make(tmp_path, api_token="admin")
    assert door.credential([(b"authorization", b"bearer  admin ")], "") is None
    with pytest.raises(Unauthorized) as refused:
        door.credential([(b"authorization", header)], "")
    assert refused.value.reason == reason
    with pytest.raises(Unauthorized):
        door.credential([(b"authorization", b"Bearer admin"), (b"authorization", header)], "")
