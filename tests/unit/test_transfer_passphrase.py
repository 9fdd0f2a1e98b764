"""Secrets on their way open with their passphrase, in their archive, and in no other case."""

from __future__ import annotations

from typing import Any

import pytest

from mechaway_core.errors import Invalid, Malformed, TooLarge
from mechaway_core.transfer import passphrase
from mechaway_core.transfer.passphrase import check_passphrase, lock, unlock

PHRASE, BOUND = "correct horse battery staple", ["workflows.jsonl 1 aa", "tables.jsonl 2 bb"]
SECRETS = {"TOKEN": "t0p-secret", "TEXT": "ä\n😀"}


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passphrase, "N", 2)


def test_a_guess_costs_what_is_advised_today() -> None:
    """https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html names these as the least for scrypt."""
    locked = lock(SECRETS, PHRASE, BOUND)
    assert (locked["kdf"], locked["n"], locked["r"], locked["p"]) == ("scrypt", 131072, 8, 1)
    assert unlock(locked, PHRASE, BOUND) == SECRETS


@pytest.mark.usefixtures("cheap")
def test_the_same_passphrase_opens_however_its_letters_are_composed() -> None:
    assert unlock(lock(SECRETS, "schöne Grüße an alle", BOUND), "scho\u0308ne Gru\u0308ße an alle", BOUND) == SECRETS


@pytest.mark.usefixtures("cheap")
def test_another_passphrase_or_another_archive_does_not_open() -> None:
    locked = lock(SECRETS, PHRASE, BOUND)
    for phrase, bound in (("wrong horse battery staple", BOUND), (PHRASE, [*BOUND, "x"]), (PHRASE, BOUND[::-1])):
        with pytest.raises(Invalid, match="do not open"):
            unlock(locked, phrase, bound)


@pytest.mark.usefixtures("cheap")
def test_two_locks_of_the_same_have_nothing_in_common() -> None:
    one, two = lock(SECRETS, PHRASE, BOUND), lock(SECRETS, PHRASE, BOUND)
    assert one["salt"] != two["salt"]
    assert one["sealed"] != two["sealed"]


@pytest.mark.parametrize("phrase", ["", "short", "x" * 11, "x" * 1025, "lone surrogate \ud800"])
def test_a_passphrase_that_keeps_nobody_out_is_refused(phrase: str) -> None:
    with pytest.raises(Invalid, match="passphrase"):
        check_passphrase(phrase)


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize(
    "change", [{"kdf": "pbkdf2"}, {"n": 2**30}, {"n": 1}, {"r": 9}, {"p": None}, {"salt": 1}, {"sealed": "!"}, {"sealed": None}], ids=str
)
def test_an_archive_does_not_choose_what_opening_it_costs(change: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        unlock(lock(SECRETS, PHRASE, BOUND) | change, PHRASE, BOUND)


@pytest.mark.parametrize("locked", [None, [], "x", {}])
def test_what_is_no_lock_is_refused(locked: Any) -> None:
    with pytest.raises(Malformed):
        unlock(locked, PHRASE, BOUND)


def test_more_secrets_than_an_archive_takes_are_refused() -> None:
    with pytest.raises(TooLarge, match="MB"):
        lock({f"S{number}": "x" * 65_536 for number in range(123)}, PHRASE, BOUND)
