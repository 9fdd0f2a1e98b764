"""What every `KeyRing` does, and what the one of this machine does with its file."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mechaway_core.errors import Invalid, Locked, Unavailable
from mechaway_core.local.keyring import LocalKeyRing, given_keys, rotate
from mechaway_core.ports import KeyRing
from mechaway_core.settings import Settings
from mechaway_core.vault.sealed import new_key
from tests.account import Account
from tests.contracts.adapters import ROOT, finish
from tests.contracts.keyrings import FACTORIES, fingerprint_of, master_key


@pytest.fixture(params=list(FACTORIES))
def keyring(request: pytest.FixtureRequest, tmp_path: Path, account: Account) -> KeyRing:
    return FACTORIES[request.param](tmp_path / "data", account)


# -- the contract


def test_what_was_wrapped_opens_for_the_same_project_only(keyring: KeyRing) -> None:
    key = new_key()
    wrapped = keyring.wrap("a", key)
    assert key not in wrapped
    assert base64.b64encode(key) not in wrapped
    assert keyring.unwrap("a", wrapped) == key
    with pytest.raises(Locked):
        keyring.unwrap("b", wrapped)


def test_wrapping_twice_gives_two_texts(keyring: KeyRing) -> None:
    key = new_key()
    assert keyring.wrap("a", key) != keyring.wrap("a", key)


def test_what_was_just_wrapped_is_current(keyring: KeyRing) -> None:
    assert keyring.is_current(keyring.wrap("a", new_key()))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(data=st.data())
def test_what_was_changed_does_not_open(keyring: KeyRing, data: st.DataObject) -> None:
    key = new_key()
    wrapped = bytearray(keyring.wrap("a", key))
    place = data.draw(st.integers(0, len(wrapped) - 1))
    wrapped[place] ^= data.draw(st.integers(1, 255))
    try:
        opened = keyring.unwrap("a", bytes(wrapped))
    except Locked:
        return
    assert opened == key  # white space between the parts, or a bit of base64 that means nothing


@given(st.binary(max_size=300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_garbage_does_not_open(keyring: KeyRing, garbage: bytes) -> None:
    with pytest.raises(Locked):
        keyring.unwrap("a", garbage)


def test_another_installation_cannot_open_it(tmp_path: Path, account: Account) -> None:
    for make in FACTORIES.values():
        wrapped = make(tmp_path / "one", account).wrap("a", new_key())
        with pytest.raises(Locked):
            make(tmp_path / "two", account).unwrap("a", wrapped)


# -- the file


def local(folder: Path, **changes: str) -> LocalKeyRing:
    return LocalKeyRing(Settings(data_dir=folder, **changes))  # type: ignore[arg-type]


def test_the_file_is_made_when_something_is_first_wrapped_and_for_its_owner_only(tmp_path: Path) -> None:
    ring, file = local(tmp_path / "data"), tmp_path / "data" / "master.key"
    with pytest.raises(Locked):
        ring.unwrap("a", LocalKeyRing(Settings(data_dir=tmp_path / "other")).wrap("a", new_key()))
    assert not file.exists()
    ring.wrap("a", new_key())
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o077 == 0


def test_a_restart_finds_the_key_again(tmp_path: Path) -> None:
    key = new_key()
    wrapped = local(tmp_path).wrap("a", key)
    assert local(tmp_path).unwrap("a", wrapped) == key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_may_read_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    wrapped = local(tmp_path).wrap("a", new_key())
    (tmp_path / "master.key").chmod(mode)
    with pytest.raises(Locked, match="chmod 600"):
        local(tmp_path).unwrap("a", wrapped)
    with pytest.raises(Locked, match="chmod 600"):
        local(tmp_path).wrap("a", new_key())


@pytest.mark.parametrize("text", ["", "# nothing\n", "not a key\n", "AAAA\n", "\xff\xfe", "A" * 2_000_000])
def test_a_file_without_a_key_in_it_is_never_taken_for_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "master.key").write_text(text)
    (tmp_path / "master.key").chmod(0o600)
    with pytest.raises(Locked, match="32 bytes in base64 or hex"):
        local(tmp_path).wrap("a", new_key())
    assert (tmp_path / "master.key").read_text() == text


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises((Unavailable, Locked), match="master key cannot be"):
        local(tmp_path / "data").wrap("a", new_key())


def test_another_key_is_told_by_its_fingerprint(tmp_path: Path) -> None:
    one, two = local(tmp_path / "one"), local(tmp_path / "two")
    wrapped, other = one.wrap("a", new_key()), two.wrap("a", new_key())
    with pytest.raises(Locked) as failed:
        two.unwrap("a", wrapped)
    said = str(failed.value)
    assert fingerprint_of(wrapped) in said
    assert fingerprint_of(other) in said
    assert '"a"' in said


def test_processes_that_make_the_first_key_at_once_agree_on_one(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from mechaway_core.local.keyring import LocalKeyRing
from mechaway_core.settings import Settings
ring = LocalKeyRing(Settings(data_dir=Path(sys.argv[1])))
import cryptography.hazmat.primitives.ciphers.aead
print("ready", flush=True)
sys.stdin.read(1)
sys.stdout.write(ring.wrap("a", bytes(32)).decode())
"""
    command = [sys.executable, "-c", script, str(tmp_path / "data")]
    processes = [subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(6)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()
    wrapped = [output.encode() for output in finish(*processes)]
    assert len({fingerprint_of(one) for one in wrapped}) == 1
    ring = local(tmp_path / "data")
    assert all(ring.unwrap("a", one) == bytes(32) for one in wrapped)


# -- the settings


@pytest.mark.parametrize(
    "write",
    [
        lambda key: base64.b64encode(key).decode(),
        lambda key: base64.urlsafe_b64encode(key).decode(),
        lambda key: base64.b64encode(key).decode().rstrip("="),
        bytes.hex,
        lambda key: key.hex().upper(),
        lambda key: f" {key.hex()} ,",
    ],
)
@given(key=st.binary(min_size=32, max_size=32))
def test_a_key_is_32_bytes_in_base64_or_hex(write: object, key: bytes) -> None:
    assert callable(write)
    [master] = given_keys(Settings(master_key=write(key)))
    assert master.key == key
    assert repr(key) not in repr(master)


@pytest.mark.parametrize("text", ["hunter22", "A" * 42, "0" * 63, "0" * 62 + "xy", "é" * 32, f"{'0' * 64},short", "0 " * 32])
def test_a_key_that_is_none_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(Invalid, match="MECHAWAY_MASTER_KEY") as refused:
        given_keys(Settings(master_key=text))
    assert text not in str(refused.value)
    assert "hunter22" not in str(refused.value)


def test_of_several_keys_the_first_wraps_and_all_unwrap(tmp_path: Path) -> None:
    old, new = master_key(), master_key()
    wrapped = local(tmp_path, master_key=old).wrap("a", bytes(32))
    both = local(tmp_path, master_key=f"{new}, {old}")
    assert both.unwrap("a", wrapped) == bytes(32)
    assert not both.is_current(wrapped)
    again = both.wrap("a", bytes(32))
    assert both.is_current(again)
    assert local(tmp_path, master_key=new).unwrap("a", again) == bytes(32)
    with pytest.raises(Locked):
        local(tmp_path, master_key=new).unwrap("a", wrapped)
    assert os.listdir(tmp_path) == []  # no file beside a key from the settings


# -- rotation


def test_a_rotation_leaves_one_new_key_and_others_see_it_without_a_restart(tmp_path: Path) -> None:
    ring, another = local(tmp_path), local(tmp_path)
    held = {"a": ring.wrap("a", bytes(32))}
    assert another.unwrap("a", held["a"]) == bytes(32)

    def rewrap() -> int:
        assert not ring.is_current(held["a"])
        held["a"] = ring.wrap("a", ring.unwrap("a", held["a"]))
        return 1

    assert rotate(ring, rewrap) == 1
    assert len(ring.file.read()) == 1
    assert another.unwrap("a", held["a"]) == bytes(32)
    assert another.is_current(another.wrap("b", bytes(32)))
    assert local(tmp_path).unwrap("a", held["a"]) == bytes(32)


def test_a_rotation_that_fails_drops_no_key(tmp_path: Path) -> None:
    ring = local(tmp_path)
    wrapped = ring.wrap("a", bytes(32))

    def fail() -> int:
        raise Unavailable("the disk is full")

    with pytest.raises(Unavailable):
        rotate(ring, fail)
    assert len(ring.file.read()) == 2
    assert local(tmp_path).unwrap("a", wrapped) == bytes(32)
