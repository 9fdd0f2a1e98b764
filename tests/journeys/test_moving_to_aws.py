"""A project moves from a laptop into an account and back, by the command line with settings of the installation there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.account import REGION, RUNNER, Account, unique
from tests.journeys.server import Server, mechaway
from tests.journeys.test_moving import fill

PHRASE = b"correct horse battery staple\n"


@pytest.fixture
def installation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, object]]:
    """The settings of an installation in an account of its own, and the variables of AWS that lead there."""
    account = Account()
    bucket = unique("moved")
    account.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    key = account.client("kms").create_key()["KeyMetadata"]["Arn"]
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, account.endpoint)
    for name, value in {"AWS_REGION": REGION, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}.items():
        monkeypatch.setenv(name, value)
    cache = tmp_path / "cache"
    cache.mkdir()
    yield {"bucket": bucket, "kms_key": key, "runner_function": RUNNER, "cache_dir": cache}
    account.close()


def test_a_project_moves_into_an_account_and_back(installation: dict[str, object], tmp_path: Path) -> None:
    here, there, back = tmp_path / "here", tmp_path / "there.zip", tmp_path / "back.zip"
    secrets = ("--passphrase-file", "-")
    with Server(here) as server:
        fill(server)
    done = mechaway("export", "shop", "-o", str(there), *secrets, "--data-dir", str(here), given=PHRASE)
    assert done.returncode == 0, done.stderr
    done = mechaway("import", str(there), *secrets, given=PHRASE, settings=installation)
    assert (done.stdout, done.stderr) == ('project "shop" imported: 2 workflows, 4 versions, 1 table, 1 row, 1 secret\n', "")
    assert mechaway("secret", "list", "--project", "shop", settings=installation).stdout.startswith("TOKEN  version 1")
    done = mechaway("export", "shop", "-o", str(back), *secrets, given=PHRASE, settings=installation)
    assert done.returncode == 0, done.stderr
    done = mechaway("import", str(back), "--project", "again", *secrets, "--data-dir", str(here), given=PHRASE, settings=installation)
    assert done.returncode == 0, done.stderr
    with Server(here) as server:
        for path in ("/api/workflows", "/api/workflows/guarded/versions", "/api/tables/student_grades/rows"):
            assert server.http.get(f"/p/again{path}").json() == server.http.get(f"/p/shop{path}").json()
        answer = server.http.get("/p/again/webhook/guarded", headers={"authorization": "Bearer opens-the-door"})
        assert answer.json() == {"ok": True}


def test_what_is_for_this_machine_alone_says_so(installation: dict[str, object]) -> None:
    done = mechaway("secret", "rotate", settings=installation)
    assert done.returncode == 1
    assert "--data-dir" in done.stderr


def test_a_bucket_that_is_not_there_is_said_once(installation: dict[str, object]) -> None:
    done = mechaway("secret", "list", settings=installation | {"bucket": "no-such-bucket-anywhere"})
    assert done.returncode == 1
    assert done.stderr.count("no-such-bucket-anywhere") == 1


def test_an_installation_that_is_told_by_half_says_what_is_missing(installation: dict[str, object], tmp_path: Path) -> None:
    done = mechaway("export", "shop", "-o", str(tmp_path / "x.zip"), settings={"bucket": "moved"})
    assert (done.returncode, list(tmp_path.glob("*.zip"))) == (1, [])
    assert "MECHAWAY_KMS_KEY" in done.stderr
