"""The vault: what goes in, what comes out, and what does not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mechaway_core.app import App
from mechaway_core.errors import Invalid, Locked, NotFound, SecretMissing, TooLarge
from mechaway_core.folders import FolderStore
from mechaway_core.local.clock import LocalClock
from mechaway_core.local.keyring import LocalKeyRing, rotate
from mechaway_core.ports import Stored
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles
from mechaway_core.vault import MOST_BYTES, Vault
from tests.conftest import MakeApp
from tests.contracts.keyrings import MemoryKeyRing, master_key
from tests.house.tree import ROOT

VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=200)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[ProjectFiles]:
    files = ProjectFiles(Settings(data_dir=tmp_path / "data", sync="normal"))
    yield files
    files.close()


@pytest.fixture
def store(files: ProjectFiles) -> FolderStore:
    return FolderStore(files)


@pytest.fixture
def keyring() -> MemoryKeyRing:
    return MemoryKeyRing()


@pytest.fixture
def vault(store: FolderStore, keyring: MemoryKeyRing) -> Vault:
    return Vault(store, keyring, LocalClock())


def read(store: FolderStore, key: str, project: str = "default") -> Stored:
    found = store.get(project, key)
    assert isinstance(found, Stored)
    return found


@given(value=VALUES)
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_a_value_comes_back_as_it_was_and_stands_nowhere_in_the_store(vault: Vault, store: FolderStore, value: str) -> None:
    vault.put("default", "KEY", value)
    assert vault.values("default", ["KEY"]) == {"KEY": value}
    if len(value) > 3:
        assert value.encode() not in read(store, "secrets/KEY").data


def test_each_change_is_a_version_and_keeps_when_it_was_made(vault: Vault) -> None:
    first = vault.put("default", "KEY", "one")
    second = vault.put("default", "KEY", "two")
    assert (first.version, second.version) == (1, 2)
    assert first.created_at == second.created_at <= second.updated_at
    assert vault.info("default", "KEY") == second
    assert vault.find("default") == [second]


def test_lists_are_in_the_order_of_names_and_go_on_behind_one(vault: Vault) -> None:
    for name in ("b", "_a", "A", "c"):
        vault.put("default", name, "value")
    assert [one.name for one in vault.find("default")] == ["A", "_a", "b", "c"]
    assert [one.name for one in vault.find("default", "_a", 1)] == ["b"]


def test_a_deleted_secret_is_gone(vault: Vault) -> None:
    vault.put("default", "KEY", "value")
    vault.delete("default", "KEY")
    with pytest.raises(NotFound, match="KEY"):
        vault.info("default", "KEY")
    with pytest.raises(NotFound):
        vault.delete("default", "KEY")
    assert vault.put("default", "KEY", "value").version == 1


def test_every_missing_name_is_told_with_how_to_keep_it(vault: Vault) -> None:
    vault.put("default", "HAVE", "value")
    with pytest.raises(SecretMissing, match=r'"A", "B".*mechaway secret set A') as missing:
        vault.values("default", ["A", "HAVE", "B", "A"])
    assert missing.value.names == ("A", "B")
    assert vault.missing("default", ["A", "HAVE"]) == ["A"]


@pytest.mark.parametrize("name", ["", "a b", "a/b", "1a", "a-b", "é", "a" * 129, "a\n", "../x", "a.b", "$secret.a"])
def test_a_name_that_cannot_be_one_is_refused(vault: Vault, name: str) -> None:
    for act in (vault.info, vault.delete):
        with pytest.raises(Invalid, match="cannot be the name of a secret"):
            act("default", name)
    with pytest.raises(Invalid, match="cannot be the name of a secret"):
        vault.put("default", name, "value")


def test_a_value_that_cannot_be_one_is_refused_without_being_shown(vault: Vault) -> None:
    vault.put("default", "MOST", "x" * MOST_BYTES)
    assert vault.values("default", ["MOST"]) == {"MOST": "x" * MOST_BYTES}
    for value, error in (("", Invalid), ("hunter22\0", Invalid), ("hunter22\ud800", Invalid), ("hunter22" + "é" * 40_000, TooLarge)):
        with pytest.raises(error) as refused:
            vault.put("default", "KEY", value)
        assert "hunter22" not in str(refused.value)
    assert vault.missing("default", ["KEY"]) == ["KEY"]


# -- what was tampered with


def test_documents_that_were_swapped_do_not_open(vault: Vault, store: FolderStore, files: ProjectFiles) -> None:
    files.create("other")
    for project in ("default", "other"):
        for name in ("A", "B"):
            vault.put(project, name, f"{name} of {project}")
    mine = read(store, "secrets/A").data
    store.put("default", "secrets/B", mine)
    store.put("other", "secrets/A", mine)
    for project, name in (("default", "B"), ("other", "A")):
        with pytest.raises(Locked, match=f'"{name}" of project "{project}" does not open'):
            vault.values(project, [name])


def test_another_version_does_not_open(vault: Vault, store: FolderStore) -> None:
    vault.put("default", "KEY", "old")
    vault.put("default", "KEY", "new")
    held = orjson.loads(read(store, "secrets/KEY").data)
    store.put("default", "secrets/KEY", orjson.dumps(held | {"version": 1}))
    with pytest.raises(Locked):
        vault.values("default", ["KEY"])


@given(data=st.binary(max_size=200) | st.just(b"{}") | st.just(b'{"version": [], "sealed": "AA==", "created_at": 1, "updated_at": 1}'))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_garbage_is_told_listed_and_can_be_replaced(vault: Vault, store: FolderStore, data: bytes) -> None:
    store.put("default", "secrets/KEY", data)
    vault.put("default", "OTHER", "value")
    with pytest.raises(Locked, match="set it again"):
        vault.values("default", ["KEY"])
    assert [one.name for one in vault.find("default")] == ["KEY", "OTHER"]
    vault.put("default", "KEY", "value")
    assert vault.values("default", ["KEY"]) == {"KEY": "value"}


@given(place=st.integers(0, 40), change=st.integers(1, 255))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_a_wrapped_key_that_was_changed_is_told(vault: Vault, store: FolderStore, place: int, change: int) -> None:
    vault.put("default", "KEY", "value")
    before = read(store, "vault/key").data
    changed = bytearray(before)
    changed[place] ^= change
    store.put("default", "vault/key", bytes(changed))
    with pytest.raises(Locked):
        vault.values("default", ["KEY"])
    store.put("default", "vault/key", before)
    assert vault.values("default", ["KEY"]) == {"KEY": "value"}


def test_with_another_master_key_nothing_opens_and_nothing_is_overwritten(vault: Vault, store: FolderStore) -> None:
    vault.put("default", "KEY", "value")
    other = Vault(store, MemoryKeyRing(), LocalClock())
    with pytest.raises(Locked):
        other.values("default", ["KEY"])
    with pytest.raises(Locked):
        other.put("default", "NEW", "value")
    assert vault.values("default", ["KEY"]) == {"KEY": "value"}
    other.delete("default", "KEY")
    other.put("default", "KEY", "again")  # nothing is lost any more, so the project gets a key that opens
    assert other.values("default", ["KEY"]) == {"KEY": "again"}


# -- several at once


def test_many_who_keep_the_first_secrets_of_a_project_use_one_key(files: ProjectFiles, store: FolderStore) -> None:
    keyring = MemoryKeyRing()
    vaults = [Vault(store, keyring, LocalClock()) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: vaults[number].put("default", f"KEY_{number}", str(number)), range(8)))
    names = [f"KEY_{number}" for number in range(8)]
    assert vaults[0].values("default", names) == {name: str(number) for number, name in enumerate(names)}


def test_many_who_change_one_secret_lose_no_version(vault: Vault) -> None:
    vault.put("default", "KEY", "first")
    with ThreadPoolExecutor(4) as pool:
        versions = list(pool.map(lambda number: vault.put("default", "KEY", str(number)).version, range(12)))
    assert sorted(versions) == list(range(2, 14))
    assert vault.info("default", "KEY").version == 13


def test_processes_that_keep_the_first_secrets_at_once_agree(tmp_path: Path, make_app: MakeApp) -> None:
    script = """
import sys
from pathlib import Path
from mechaway_core.local import build
from mechaway_core.settings import Settings
app = build(Settings(data_dir=Path(sys.argv[1]), sync="normal"))
print("ready", flush=True)
sys.stdin.read(1)
app.put_secret("default", sys.argv[2], sys.argv[2].lower())
app.close()
"""
    names = ["A", "B", "C", "D"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "data"), name], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for name in names
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        process.communicate(b"x", timeout=60)
        assert process.returncode == 0
    assert make_app().vault.values("default", names) == {name: name.lower() for name in names}


def test_a_project_that_was_deleted_and_made_again_cannot_read_old_secrets(app: App, tmp_path: Path, make_app: MakeApp) -> None:
    app.create_project("shop")
    app.put_secret("shop", "KEY", "old value")
    store = FolderStore(ProjectFiles(Settings(data_dir=tmp_path / "data", sync="normal")))
    old = read(store, "secrets/KEY", "shop")
    another = make_app()  # as another process: its data key must go with the project
    assert another.vault.values("shop", ["KEY"]) == {"KEY": "old value"}
    app.delete_project("shop")
    app.create_project("shop")
    for one in (app, another):
        with pytest.raises(SecretMissing):
            one.vault.values("shop", ["KEY"])
    app.put_secret("shop", "OTHER", "value")
    store.put("shop", "secrets/KEY", old.data)
    for one in (app, another):
        with pytest.raises(Locked):
            one.vault.values("shop", ["KEY"])
        assert one.vault.values("shop", ["OTHER"]) == {"OTHER": "value"}


# -- a new master key


def test_rewrapping_keeps_every_value_and_is_seen_by_who_has_the_key_in_memory(
    vault: Vault, store: FolderStore, keyring: MemoryKeyRing
) -> None:
    vault.put("default", "KEY", "value")
    another = Vault(store, keyring, LocalClock())
    assert another.values("default", ["KEY"]) == {"KEY": "value"}
    keyring.keys.insert(0, bytes(range(32)))
    assert vault.rewrap("default")
    assert not vault.rewrap("default")
    del keyring.keys[1]
    for one in (vault, another, Vault(store, keyring, LocalClock())):
        assert one.values("default", ["KEY"]) == {"KEY": "value"}


def test_a_project_without_secrets_has_nothing_to_rewrap(vault: Vault) -> None:
    assert not vault.rewrap("default")


def test_a_key_that_is_made_while_the_master_key_changes_is_wrapped_with_the_new_one(store: FolderStore) -> None:
    """Between wrapping and storing, a rotation may have looked at all projects already."""

    class Rotating(MemoryKeyRing):
        def wrap(self, project: str, key: bytes) -> bytes:
            wrapped = super().wrap(project, key)
            if len(self.keys) == 1:
                self.keys.insert(0, bytes(range(32)))
            return wrapped

    keyring = Rotating()
    vault = Vault(store, keyring, LocalClock())
    vault.put("default", "KEY", "value")
    del keyring.keys[1]
    assert Vault(store, keyring, LocalClock()).values("default", ["KEY"]) == {"KEY": "value"}


def test_secrets_that_are_kept_and_read_while_the_master_key_is_rotated_all_open(make_app: MakeApp) -> None:
    app, another = make_app(), make_app()
    ring = LocalKeyRing(app.settings)
    projects = [f"project-{number}" for number in range(24)]
    for project in projects:
        app.create_project(project)

    def keep(project: str) -> dict[str, str]:
        app.put_secret(project, "KEY", project)
        return dict(app.vault.values(project, ["KEY"]))

    with ThreadPoolExecutor(4) as pool:
        kept = [pool.submit(keep, project) for project in projects]
        while not all(one.done() for one in kept):
            rotate(ring, another.rewrap_secrets)
        assert [one.result() for one in kept] == [{"KEY": project} for project in projects]
    assert len(ring.file.read()) == 1
    fresh = make_app()
    for one in (fresh, app):
        assert [one.vault.values(project, ["KEY"])["KEY"] for project in projects] == projects


def test_rotating_by_settings_needs_both_keys_and_then_only_the_first(make_app: MakeApp) -> None:
    old, new = master_key(), master_key()
    make_app(master_key=old).put_secret("default", "KEY", "value")
    both = make_app(master_key=f"{new},{old}")
    assert both.vault.values("default", ["KEY"]) == {"KEY": "value"}
    assert both.rewrap_secrets() == 1
    assert both.rewrap_secrets() == 0
    assert make_app(master_key=new).vault.values("default", ["KEY"]) == {"KEY": "value"}
    with pytest.raises(Locked, match="another master key"):
        make_app(master_key=old).vault.values("default", ["KEY"])


def test_nothing_that_holds_keys_shows_them(vault: Vault) -> None:
    vault.put("default", "KEY", "value")
    key = vault._keys["default"]
    assert repr(key.key) not in repr(key)
    assert "value" not in repr(vault)
