"""Connection strings: what they may say, what is never filled in from elsewhere, and that errors do not repeat them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechaway_core.errors import NodeError, Unavailable
from mechaway_core.postgres import hosts_of, secrets_of
from mechaway_core.postgres.conninfo import targets
from mechaway_core.postgres.faults import connecting


@pytest.mark.parametrize(
    ("conninfo", "hosts"),
    [
        ("postgresql://u:p@h/db", [("h", 5432)]),
        ("postgres://u@[::1]:1/db", [("::1", 1)]),
        ("host=a user=u", [("a", 5432)]),
        ("host=a,b port=1,2 user=u", [("a", 1), ("b", 2)]),
        ("postgresql://u@a:1,b/db", [("a", 1), ("b", 5432)]),
        ("host=a,b port=7 user=u", [("a", 7), ("b", 7)]),
    ],
)
def test_the_hosts_are_named(conninfo: str, hosts: list[tuple[str, int]]) -> None:
    assert hosts_of(conninfo) == hosts


def test_everything_that_libpq_would_take_from_elsewhere_is_said() -> None:
    [target] = targets("host=h user=u")
    said = dict(target.params)
    assert {"host": "h", "port": "5432", "user": "u", "dbname": "u", "password": "", "options": ""}.items() <= said.items()
    assert {"sslcertmode": "disable", "gssencmode": "disable", "require_auth": "!gss,!sspi"}.items() <= said.items()
    assert "passfile" in said


def test_what_the_string_says_counts() -> None:
    [target] = targets("postgresql://u:p%40@h/db?application_name=mine&sslmode=require&client_encoding=latin1")
    assert target.params["password"] == "p@"
    assert target.params["application_name"] == "mine"
    assert target.params["sslmode"] == "require"
    assert target.params["client_encoding"] == "UTF8"


@pytest.mark.parametrize(
    "key",
    [
        "passfile",
        "service",
        "sslkey",
        "sslcert",
        "sslcrl",
        "sslcrldir",
        "sslpassword",
        "hostaddr",
        "require_auth",
        "sslkeylogfile",
        "krbsrvname",
    ],
)
def test_what_reads_files_or_goes_round_the_checks_is_refused(key: str) -> None:
    with pytest.raises(NodeError, match=f"may not set {key}"):
        targets(f"host=h user=u {key}=canary")


@given(st.text())
def test_whatever_the_string_is_errors_do_not_repeat_it(text: str) -> None:
    conninfo = f"postgresql://canary{text}"
    said = ""
    try:
        hosts_of(conninfo)
    except NodeError as error:
        said = str(error)
    assert "canary" not in said
    secrets_of(conninfo)


def test_the_password_is_what_must_be_hidden() -> None:
    assert secrets_of("postgresql://u:p%40ss@h/db") == ["p@ss"]
    assert secrets_of("host=h user=u password='a b'") == ["a b"]
    assert secrets_of("host=h user=u") == []
    assert secrets_of("nonsense") == []


@pytest.mark.parametrize(
    ("message", "kind", "words"),
    [
        ('connection to server at "h", port 5432 failed: FATAL:  password authentication failed for user "canary"', NodeError, "password"),
        ('connection to server at "h" failed: FATAL:  database "canary" does not exist', NodeError, "no such database"),
        ('connection to server at "h" failed: FATAL:  role "canary" does not exist', NodeError, "no such user"),
        ('FATAL:  no pg_hba.conf entry for host "canary", user "canary", database "canary", SSL off', NodeError, "pg_hba.conf"),
        ("FATAL:  sorry, too many clients already", Unavailable, "no connection free"),
        ("FATAL:  the database system is starting up", Unavailable, "starting up"),
        ("connection failed: Connection refused\n\tIs the server running on that host?", Unavailable, "refuses"),
        ("SSL error: certificate verify failed", NodeError, "certificate"),
        ("FATAL:  canary in another language", NodeError, "refuses the connection"),
        ("canary", Unavailable, "cannot be reached"),
    ],
)
def test_what_libpq_says_becomes_a_sentence_of_ours(message: str, kind: type[Exception], words: str) -> None:
    error = connecting(message)
    assert type(error) is kind
    assert words in str(error)
    assert "canary" not in str(error)
