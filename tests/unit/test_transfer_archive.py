"""No archive, however it was made, does anything but come in as it should or be refused."""

from __future__ import annotations

import hashlib
import json
import stat
import zipfile
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechaway_core.errors import Invalid, Malformed, MechawayError, TooLarge
from mechaway_core.transfer import archive as archives
from mechaway_core.transfer.archive import MANIFEST, SECRETS, TABLES, WORKFLOWS, Archive, Writer

LIMIT = 10_000_000
ABOUT = {"id": "1", "project": "shop"}
DUMP = b'{"format":"mechaway tables 1"}\n{"end":0}\n'


def good(**more: bytes) -> BytesIO:
    """An archive as it should be."""
    file = BytesIO()
    writer = Writer(file)
    for name, data in {WORKFLOWS: b"", TABLES: DUMP, **more}.items():
        writer.add(name, [data])
    writer.close(ABOUT)
    return file


def made(members: dict[str, bytes], change: Callable[[zipfile.ZipInfo], None] = lambda _: None, comment: bytes = b"") -> BytesIO:
    """An archive of these members with a manifest that fits, each entry changed."""
    listed = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in members.items()}
    manifest = json.dumps({"format": "mechaway project", "version": 1, **ABOUT, "members": listed}).encode()
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        zipped.comment = comment
        for name, data in {MANIFEST: manifest, **members}.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            change(info)
            zipped.writestr(info, data, compress_type=info.compress_type)
    return file


PARTS = {WORKFLOWS: b"", TABLES: DUMP}


def with_manifest(**changes: Any) -> BytesIO:
    file = BytesIO()
    with zipfile.ZipFile(good()) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, json.dumps(json.loads(data) | changes) if name == MANIFEST else data)
    return file


def test_what_was_written_is_read() -> None:
    found = Archive(good(**{WORKFLOWS: b"1\n2\n", SECRETS: b"{}"}), LIMIT)
    assert (found.project, found.has_secrets, list(found.lines(WORKFLOWS)), found.secrets(10)) == ("shop", True, [b"1\n", b"2\n"], {})
    assert not Archive(good(), LIMIT).has_secrets


def test_two_archives_of_the_same_are_the_same() -> None:
    assert good().getvalue() == good().getvalue()


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "..\\evil", "workflows.jsonl/", "C:evil", "extra.json", "a\0.txt"])
def test_a_name_that_has_no_place_is_refused(name: str) -> None:
    with pytest.raises(Malformed):
        Archive(made(PARTS | {name: b"x"}), LIMIT)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR])
def test_what_is_no_plain_file_is_refused(kind: int) -> None:
    def change(info: zipfile.ZipInfo) -> None:
        info.external_attr = (kind | 0o777) << 16

    with pytest.raises(Malformed, match="no place"):
        Archive(made(PARTS, change), LIMIT)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_packing_that_cannot_be_unpacked_in_small_steps_is_refused(method: int) -> None:
    def change(info: zipfile.ZipInfo) -> None:
        info.compress_type = method

    with pytest.raises(Malformed, match="packed in a way"):
        Archive(made(PARTS, change), LIMIT)


def test_a_bomb_is_refused_by_the_size_it_says() -> None:
    with pytest.raises(TooLarge, match="MECHAWAY_MAX_IMPORT_MB"):
        Archive(made(PARTS | {TABLES: bytes(LIMIT)}), LIMIT)


def test_a_bomb_that_lies_about_its_size_is_no_longer_than_it_says() -> None:
    file = made(PARTS | {TABLES: bytes(LIMIT)})
    data = bytearray(file.getvalue())
    data = bytearray(bytes(data).replace(LIMIT.to_bytes(4, "little"), (5).to_bytes(4, "little")))
    with pytest.raises(Malformed):
        Archive(BytesIO(bytes(data)), LIMIT)


def test_a_list_of_members_without_end_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        for number in range(200):
            zipped.writestr(str(number), b"")

    def never(*_: Any) -> None:
        raise AssertionError("the list of members was read")

    monkeypatch.setattr(zipfile, "ZipFile", never)
    with pytest.raises(Malformed, match="too many"):
        Archive(file, LIMIT)


def test_the_64_bit_form_whose_list_of_members_is_elsewhere_is_refused() -> None:
    data = good().getvalue()
    with pytest.raises(Malformed, match="too many"):
        Archive(BytesIO(data[:-22] + b"PK\6\7" + bytes(16) + data[-22:]), LIMIT)


def test_a_comment_at_the_end_is_refused() -> None:
    with pytest.raises(Malformed, match="not an archive"):
        Archive(made(PARTS, comment=b"hello"), LIMIT)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_comes_twice_is_refused() -> None:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        for name in (MANIFEST, WORKFLOWS, TABLES, TABLES):
            zipped.writestr(name, b"")
    with pytest.raises(Malformed, match="twice"):
        Archive(file, LIMIT)


@pytest.mark.parametrize("missing", [WORKFLOWS, TABLES])
def test_a_member_that_is_missing_is_named(missing: str) -> None:
    with pytest.raises(Malformed, match=missing):
        Archive(made({name: data for name, data in PARTS.items() if name != missing}), LIMIT)


def test_a_member_that_was_changed_is_named() -> None:
    changed = {WORKFLOWS: {"bytes": 0, "sha256": hashlib.sha256().hexdigest()}, TABLES: {"bytes": len(DUMP), "sha256": "0" * 64}}
    with pytest.raises(Malformed, match=r"tables\.jsonl is not what the manifest says"):
        Archive(with_manifest(members=changed), LIMIT)


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"format": "other"}, Malformed, "not an archive"),
        ({"version": 2}, Invalid, "update"),
        ({"version": None}, Invalid, "version"),
        ({"project": 1}, Malformed, "which project"),
        ({"members": []}, Malformed, "members"),
        ({"members": {}}, Malformed, "manifest lists"),
        ({"members": {TABLES: 1}}, Malformed, "members"),
    ],
)
def test_a_manifest_that_is_none_is_refused(changes: dict[str, Any], error: type[MechawayError], told: str) -> None:
    with pytest.raises(error, match=told):
        Archive(with_manifest(**changes), LIMIT)


def test_a_line_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST_LINE", 1000)
    found = Archive(good(**{TABLES: b"x" * 1001}), LIMIT)
    with pytest.raises(TooLarge, match="a line of"):
        list(found.lines(TABLES))


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_with_a_sentence(data: bytes) -> None:
    with pytest.raises(Malformed):
        Archive(BytesIO(data), LIMIT)


WHOLE = good(**{WORKFLOWS: b"a line\n" * 50}).getvalue()


@settings(max_examples=300)
@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_an_archive_in_which_one_byte_is_another_is_refused_or_the_same(place: int, change: int) -> None:
    data = bytearray(WHOLE)
    data[place] ^= change
    try:
        found = Archive(BytesIO(bytes(data)), LIMIT)
        assert list(found.lines(WORKFLOWS)) == [b"a line\n"] * 50
        assert b"".join(found.lines(TABLES)) == DUMP
    except MechawayError:
        pass
