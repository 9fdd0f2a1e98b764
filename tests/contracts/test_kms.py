"""The key ring in AWS on bad days: keys that are disabled, forgotten or not allowed, texts that were meddled with, KMS out of reach."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from mechaway_core.aws.keyring import KmsKeyRing
from mechaway_core.errors import Invalid, Locked, Unavailable
from mechaway_core.folders import FolderStore
from mechaway_core.local.clock import LocalClock
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles
from mechaway_core.vault import Vault
from mechaway_core.vault.sealed import new_key
from tests.account import Account, counting, failing


@pytest.fixture
def kms(account: Account) -> Any:
    return account.client("kms")


def make_key(kms: Any) -> str:
    return str(kms.create_key()["KeyMetadata"]["Arn"])


@pytest.fixture
def arn(kms: Any) -> str:
    return make_key(kms)


def ring(kms: Any, keys: str) -> KmsKeyRing:
    return KmsKeyRing(lambda: kms, keys)


def test_the_project_is_in_the_encryption_context(kms: Any, arn: str) -> None:
    key = new_key()
    sealed = base64.b64decode(orjson.loads(ring(kms, arn).wrap("shop", key))["sealed"])
    assert kms.decrypt(CiphertextBlob=sealed, EncryptionContext={"project": "shop"})["Plaintext"] == key
    with pytest.raises(kms.exceptions.InvalidCiphertextException):
        kms.decrypt(CiphertextBlob=sealed)


def test_a_text_that_was_changed_does_not_open_and_says_why(kms: Any, arn: str) -> None:
    held = orjson.loads(ring(kms, arn).wrap("a", new_key()))
    sealed = bytearray(base64.b64decode(held["sealed"]))
    sealed[-1] ^= 1
    with pytest.raises(Locked, match='the key of project "a" does not open: what is stored was changed'):
        ring(kms, arn).unwrap("a", orjson.dumps(held | {"sealed": base64.b64encode(sealed).decode()}))


def test_a_key_that_the_settings_do_not_name_is_never_asked(kms: Any, arn: str) -> None:
    foreign = make_key(kms)
    planted = ring(kms, foreign).wrap("a", new_key())
    with counting(kms) as called, pytest.raises(Locked, match="MECHAWAY_KMS_KEY") as refused:
        ring(kms, arn).unwrap("a", planted)
    assert foreign in str(refused.value)
    assert called == []


def test_a_text_that_names_one_key_and_holds_what_another_sealed_does_not_open(kms: Any, arn: str) -> None:
    foreign = orjson.loads(ring(kms, make_key(kms)).wrap("a", new_key()))
    with pytest.raises(Locked):
        ring(kms, arn).unwrap("a", orjson.dumps(foreign | {"kms_key": arn}))


def test_of_several_keys_the_first_wraps_and_all_unwrap(kms: Any, arn: str) -> None:
    key, newer = new_key(), make_key(kms)
    wrapped = ring(kms, arn).wrap("a", key)
    both = ring(kms, f"{newer}, {arn}")
    assert both.unwrap("a", wrapped) == key
    assert not both.is_current(wrapped)
    assert both.is_current(both.wrap("a", key))


def test_a_key_may_be_named_by_its_id_or_an_alias(kms: Any, arn: str) -> None:
    kms.create_alias(AliasName="alias/mechaway", TargetKeyId=arn)
    key = new_key()
    wrapped = ring(kms, arn).wrap("a", key)
    for name in (arn.rpartition("/")[2], "alias/mechaway"):
        assert ring(kms, name).unwrap("a", wrapped) == key
        assert ring(kms, name).is_current(wrapped)


def test_without_a_key_there_is_no_ring(kms: Any) -> None:
    with pytest.raises(Invalid, match="MECHAWAY_KMS_KEY"):
        ring(kms, " , ")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("DisabledException", "is disabled; enable it"),
        ("KMSInvalidStateException", "waits for its deletion"),
        ("NotFoundException", "there is no KMS key"),
        ("AccessDeniedException", "role may not use the KMS key"),
    ],
)
def test_a_key_that_cannot_be_used_locks_the_vault_and_says_what_to_do(
    kms: Any, arn: str, code: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    wrapped = ring(kms, arn).wrap("a", new_key())
    calls: dict[str, Callable[[], bytes]] = {
        "Decrypt": lambda: ring(kms, arn).unwrap("a", wrapped),
        "Encrypt": lambda: ring(kms, arn).wrap("a", bytes(32)),
    }
    for operation, call in calls.items():
        with failing(kms, operation, code), pytest.raises(Locked, match=words) as refused:
            call()
        assert arn in str(refused.value)
        assert str(refused.value) in caplog.text
        if code == "AccessDeniedException":
            assert f"kms:{operation}" in str(refused.value)


@pytest.mark.parametrize(
    ("code", "status"),
    [("ThrottlingException", 400), ("KMSInternalException", 500), ("DependencyTimeoutException", 503), ("KeyUnavailableException", 500)],
)
def test_kms_that_cannot_answer_now_is_unavailable_and_not_locked(
    kms: Any, arn: str, code: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    wrapped = ring(kms, arn).wrap("a", new_key())
    with failing(kms, "Decrypt", code, status=status), pytest.raises(Unavailable, match=code) as refused:
        ring(kms, arn).unwrap("a", wrapped)
    assert not isinstance(refused.value, Locked)
    assert str(refused.value) in caplog.text


def test_kms_that_cannot_be_reached_is_a_sentence(account: Account, arn: str) -> None:
    nowhere = account.client("kms", endpoint="http://127.0.0.1:9")
    with pytest.raises(Unavailable, match='cannot lock the key of project "a"'):
        ring(nowhere, arn).wrap("a", bytes(32))


def test_secrets_open_with_one_call_of_kms_and_stay_shut_while_it_is_down(kms: Any, arn: str, tmp_path: Any) -> None:
    store = FolderStore(ProjectFiles(Settings(data_dir=tmp_path, sync="normal")))
    Vault(store, ring(kms, arn), LocalClock()).put("default", "A", "hush")
    vault = Vault(store, ring(kms, arn), LocalClock())
    with failing(kms, "Decrypt", "ThrottlingException"), pytest.raises(Unavailable):
        vault.values("default", ["A"])
    with counting(kms) as called:
        assert vault.values("default", ["A"]) == {"A": "hush"}
        assert vault.values("default", ["A"]) == {"A": "hush"}
    assert called == ["Decrypt"]
