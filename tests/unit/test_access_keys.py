"""Project keys: made, recognised, revoked, and what they are good for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechaway_core.access.door import Door
from mechaway_core.access.keys import Keys
from mechaway_core.access.scopes import SCOPES, TABLE, scope_for
from mechaway_core.errors import Forbidden, Hidden, Invalid, NotFound, Unauthorized
from mechaway_core.folders import FolderStore
from mechaway_core.local.clock import LocalClock
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles


class Time(LocalClock):
    """A clock that a test moves on."""

    ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def files(tmp_path: Path) -> Iterator[ProjectFiles]:
    files = ProjectFiles(Settings(data_dir=tmp_path, sync="normal"))
    files.create("shop")
    files.create("other")
    yield files
    files.close()


@pytest.fixture
def door(files: ProjectFiles, time: Time) -> Door:
    return Door(Settings(api_token="admin"), FolderStore(files), time)


@pytest.fixture
def keys(door: Door) -> Keys:
    return door.keys


def test_a_key_is_recognised_by_its_text(keys: Keys) -> None:
    key, text = keys.create("shop", "robot", ["run", "read", "run"])
    assert re.fullmatch(r"mway_shop_[0-9a-f]{16}_[0-9a-f]{64}", text)
    assert keys.recognise(text) == key
    assert (key.project, key.name, key.scopes, key.expires) == ("shop", "robot", ("run", "read"), None)


def test_of_a_key_only_a_digest_is_kept(keys: Keys, files: ProjectFiles, tmp_path: Path) -> None:
    _, text = keys.create("shop", "robot", ["read"])
    files.close()
    secret = text.rsplit("_", 1)[1].encode()
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(b"robot" in one for one in written)
    assert not any(secret in one for one in written)


def test_a_key_that_is_listed_cannot_be_used(keys: Keys) -> None:
    key, text = keys.create("shop", "robot", ["read"])
    assert keys.find("shop") == [key]
    assert keys.find("other") == []
    assert text.removeprefix(key.prefix) not in str(key.as_json())
    assert text.startswith(key.prefix)


def test_a_key_that_was_revoked_is_refused_at_once_everywhere(keys: Keys, files: ProjectFiles, time: Time) -> None:
    elsewhere = Keys(FolderStore(files), time)
    key, text = keys.create("shop", "robot", ["read"])
    assert elsewhere.recognise(text) == key
    keys.revoke("shop", key.id)
    with pytest.raises(Unauthorized):
        elsewhere.recognise(text)
    with pytest.raises(NotFound):
        keys.revoke("shop", key.id)
    with pytest.raises(NotFound):
        keys.revoke("shop", "../workflows/x")


def test_a_key_ends_when_it_says(keys: Keys, time: Time) -> None:
    key, text = keys.create("shop", "robot", ["read"], "2999-01-01T00:00:00+02:00")
    assert key.expires == "2998-12-31T22:00:00Z"
    assert keys.recognise(text) == key
    time.ahead = 1000 * 366 * 86400.0
    with pytest.raises(Unauthorized) as refused:
        keys.recognise(text)
    assert refused.value.reason == "key_expired"


def test_a_key_goes_with_its_project(keys: Keys, files: ProjectFiles) -> None:
    _, text = keys.create("shop", "robot", ["read"])
    files.delete("shop")
    with pytest.raises(Unauthorized):
        keys.recognise(text)
    files.create("shop")
    with pytest.raises(Unauthorized):
        keys.recognise(text)


def test_what_is_wrong_with_a_key_is_not_told(keys: Keys, time: Time) -> None:
    key, text = keys.create("shop", "robot", ["read"])
    ended, ended_text = keys.create("shop", "old", ["read"], "2999-01-01T00:00:00Z")
    time.ahead = 1000 * 366 * 86400.0
    flipped = text[:-1] + ("0" if text[-1] != "0" else "1")
    wrong = {
        "key_wrong": flipped,
        "key_unknown": text.replace(key.id, "0" * 16),
        "key_expired": ended_text,
        "key_malformed": "mway_shop_",
    }
    said = set()
    for reason, one in wrong.items():
        with pytest.raises(Unauthorized) as refused:
            keys.recognise(one)
        assert (refused.value.reason, refused.value.guess) == (reason, True)
        said.add(str(refused.value))
    assert len(said) == 1
    with pytest.raises(Unauthorized):
        keys.recognise(text.replace("mway_shop_", "mway_other_"))
    with pytest.raises(Unauthorized):
        keys.recognise(text.replace("mway_shop_", "mway_nowhere_"))
    assert ended.expires


@given(st.text(max_size=200))
def test_no_text_makes_it_stumble(text: str) -> None:
    with pytest.raises(Unauthorized):
        Keys.recognise(Keys.__new__(Keys), "mway_a!" + text)


@pytest.mark.parametrize(
    ("name", "scopes", "expires", "pointer"),
    [
        (None, ["read"], None, "/name"),
        ("", ["read"], None, "/name"),
        ("a\nb", ["read"], None, "/name"),
        ("x" * 101, ["read"], None, "/name"),
        ("k", None, None, "/scopes"),
        ("k", [], None, "/scopes"),
        ("k", "read", None, "/scopes"),
        ("k", ["raed"], None, "/scopes/0"),
        ("k", [{}], None, "/scopes"),
        ("k", ["read"], "2001-01-01T00:00:00Z", "/expires"),
        ("k", ["read"], "2999-01-01T00:00:00", "/expires"),
        ("k", ["read"], "soon", "/expires"),
        ("k", ["read"], 5, "/expires"),
        ("k", ["read"], "0001-01-01T00:00:00+23:59", "/expires"),
    ],
)
def test_a_key_that_says_something_wrong_is_not_made(keys: Keys, name: object, scopes: object, expires: object, pointer: str) -> None:
    with pytest.raises(Invalid) as wrong:
        keys.create("shop", name, scopes, expires)
    assert [problem.pointer for problem in wrong.value.problems] == [pointer]
    assert keys.find("shop") == []


# -- what a key is good for


def may(door: Door, text: str, method: str, path: str) -> str:
    """What becomes of a request with a key."""
    try:
        door.admit_key(text.encode(), method, path)
    except Hidden as missing:
        return str(missing)
    except Forbidden as refused:
        return refused.reason
    return "yes"


@pytest.mark.parametrize(("method", "route", "scope"), TABLE)
def test_each_route_asks_for_its_scope(door: Door, method: str, route: str, scope: str) -> None:
    path = f"/p/shop/api/{route}".replace("projects/*", "projects/shop").replace("*", "x")
    _, right = door.keys.create("shop", "right", [scope])
    _, others = door.keys.create("shop", "others", [other for other in SCOPES if other != scope])
    assert may(door, right, method, path) == "yes"
    assert may(door, others, method, path) == "key_scope"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "keys"),
        ("GET", "keys"),
        ("DELETE", "keys/0123456789abcdef"),
        ("GET", "access/refusals"),
        ("PATCH", "workflows/x"),
        ("GET", "nothing/of/the/kind"),
        ("GET", ""),
        ("POST", "workflows/x/run/y"),
    ],
)
def test_what_no_scope_opens_is_the_admins(door: Door, method: str, path: str) -> None:
    _, text = door.keys.create("shop", "all", list(SCOPES))
    assert may(door, text, method, f"/p/shop/api/{path}") == "key_admin"


def test_another_project_is_as_if_it_were_not_there(door: Door) -> None:
    _, text = door.keys.create("shop", "all", list(SCOPES))
    for method, route in (("GET", "workflows"), ("POST", "workflows"), ("PUT", "secrets/x"), ("GET", "keys"), ("GET", "nothing")):
        assert may(door, text, method, f"/p/other/api/{route}") == 'there is no project "other"'
        assert may(door, text, method, f"/p/nowhere/api/{route}") == 'there is no project "nowhere"'
        assert may(door, text, method, f"/api/{route}") == 'there is no project "default"'
    assert may(door, text, "GET", "/api/projects") == "yes"
    assert may(door, text, "GET", "/api/projects/shop") == "yes"
    assert may(door, text, "GET", "/api/projects/other") == 'there is no project "other"'
    assert may(door, text, "DELETE", "/api/projects/other") == 'there is no project "other"'
    assert may(door, text, "DELETE", "/api/projects/shop") == "key_admin"
    assert may(door, text, "POST", "/api/projects") == "key_admin"


def test_pages_that_describe_the_api_are_for_every_key(door: Door) -> None:
    _, text = door.keys.create("shop", "run", ["run"])
    for path in ("/docs", "/openapi.json", "/redoc", "/docs/oauth2-redirect"):
        assert may(door, text, "GET", path) == "yes"
    assert may(door, text, "GET", "/elsewhere") == "key_admin"


def test_head_counts_as_get() -> None:
    assert scope_for("HEAD", ["workflows"]) == "read"
    assert scope_for("OPTIONS", ["workflows"]) is None
