"""Settings of an installation in AWS, and the API token from Secrets Manager."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mechaway_core import aws, cli, local
from mechaway_core.access import Door
from mechaway_core.app import App
from mechaway_core.aws.environment import SecretToken, admin_token, load
from mechaway_core.errors import Invalid, Unauthorized, Unavailable
from mechaway_core.folders import FolderStore
from mechaway_core.local.clock import LocalClock
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles
from mechaway_core.timetable import Timetable
from tests.account import Account, counting, failing, unique
from tests.clockwork import clockwork
from tests.contracts.timekeepers import MemorySchedules

WHOLE = {
    "MECHAWAY_BUCKET": "b",
    "MECHAWAY_KMS_KEY": "alias/mechaway",
    "MECHAWAY_RUNNER_FUNCTION": "runner",
    "MECHAWAY_API_TOKEN_SECRET": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:token",
}


def test_what_is_set_is_read() -> None:
    settings = load(WHOLE | {"MECHAWAY_STAGE": "prod", "MECHAWAY_SCHEDULES": "Rules"})
    assert (settings.bucket, settings.stage, settings.schedules, settings.storage) == ("b", "prod", "rules", "s3")


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_missing_is_named(name: str) -> None:
    with pytest.raises(Invalid, match=name):
        load({**WHOLE, name: ""})


def test_all_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(Invalid) as refused:
        load({"MECHAWAY_SCHEDULES": "scheduler"})
    for name in (*WHOLE, "MECHAWAY_API_TOKEN", "MECHAWAY_SCHEDULER_ROLE"):
        assert name in str(refused.value)


def test_a_file_system_needs_no_bucket_and_who_serves_no_api_no_token() -> None:
    assert load({**WHOLE, "MECHAWAY_BUCKET": "", "MECHAWAY_STORAGE": "efs"}).storage == "efs"
    assert load({**WHOLE, "MECHAWAY_API_TOKEN_SECRET": ""}, serves=False).api_token_secret == ""


# -- the token


class Time(LocalClock):
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def secrets(account: Account) -> Any:
    return account.client("secretsmanager")


@pytest.fixture
def clock() -> Time:
    return Time()


def keep(secrets: Any, text: str) -> str:
    return str(secrets.create_secret(Name=unique("token"), SecretString=text)["ARN"])


def token(secrets: Any, arn: str, clock: Time) -> SecretToken:
    return SecretToken(lambda: secrets, arn, clock)


def test_nothing_is_fetched_before_it_is_needed_and_then_once(secrets: Any, clock: Time) -> None:
    arn = keep(secrets, "right")
    with counting(secrets) as called:
        admin = token(secrets, arn, clock)
        assert admin.is_set
        assert called == []
        assert all(admin.matches(b"right") for _ in range(3))
    assert called == ["GetSecretValue"]


@pytest.mark.parametrize("text", ["right", " right\n", json.dumps({"token": "right"}), json.dumps({"user": "admin", "token": "right"})])
def test_a_secret_is_a_text_or_an_object_with_a_token(secrets: Any, clock: Time, text: str) -> None:
    admin = token(secrets, keep(secrets, text), clock)
    assert admin.matches(b"right")
    assert not admin.matches(b"wrong")
    assert not admin.matches(text.encode()) or text == "right"


@pytest.mark.parametrize("text", [" ", "{}", '{"token": ""}', '{"token": 5}'])
def test_a_secret_without_a_token_lets_nobody_in(secrets: Any, clock: Time, text: str) -> None:
    admin = token(secrets, keep(secrets, text), clock)
    for given in (b"", b"5", b" ", text.encode()):
        with pytest.raises(Unavailable, match="holds none"):
            admin.matches(given)


def test_a_new_token_works_soon_and_the_old_one_ends_in_minutes(secrets: Any, clock: Time) -> None:
    arn = keep(secrets, "old")
    admin = token(secrets, arn, clock)
    assert admin.matches(b"old")
    secrets.put_secret_value(SecretId=arn, SecretString="new")
    clock.seconds = 11
    assert admin.matches(b"new")
    assert not admin.matches(b"old")


def test_without_a_new_token_at_the_door_the_old_one_ends_all_the_same(secrets: Any, clock: Time) -> None:
    arn = keep(secrets, "old")
    admin = token(secrets, arn, clock)
    assert admin.matches(b"old")
    secrets.put_secret_value(SecretId=arn, SecretString="new")
    clock.seconds = 299
    assert admin.matches(b"old")
    clock.seconds = 301
    assert not admin.matches(b"old")


def test_a_guesser_does_not_make_us_ask_each_time(secrets: Any, clock: Time) -> None:
    admin = token(secrets, keep(secrets, "right"), clock)
    with counting(secrets) as called:
        for number in range(100):
            clock.seconds = number / 10
            assert not admin.matches(f"guess {number}".encode())
    assert len(called) == 1


def test_while_secrets_manager_is_down_the_token_that_was_known_holds(secrets: Any, clock: Time) -> None:
    admin = token(secrets, keep(secrets, "right"), clock)
    assert admin.matches(b"right")
    clock.seconds = 1000
    with failing(secrets, "GetSecretValue", "InternalServiceError", status=500):
        assert admin.matches(b"right")
        assert not admin.matches(b"wrong")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("ThrottlingException", "slow down"),
        ("AccessDeniedException", "not allowed"),
        ("ResourceNotFoundException", "MECHAWAY_API_TOKEN_SECRET"),
    ],
)
def test_a_token_that_cannot_be_had_lets_nobody_in(secrets: Any, clock: Time, code: str, words: str) -> None:
    admin = token(secrets, keep(secrets, "right"), clock)
    with failing(secrets, "GetSecretValue", code), pytest.raises(Unavailable, match=words):
        admin.matches(b"right")
    assert admin.matches(b"right")


def test_the_door_asks_for_it(secrets: Any, clock: Time, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, api_token_secret=keep(secrets, "right"))
    door = Door(settings, FolderStore(ProjectFiles(settings)), clock, None, admin_token(settings, lambda: secrets, clock))
    assert door.guard is None
    assert door.credential([(b"authorization", b"Bearer right")], "") is None
    for headers in ([], [(b"authorization", b"Bearer wrong")], [(b"authorization", b"Bearer ")]):
        with pytest.raises(Unauthorized):
            door.credential(headers, "")


def test_a_request_without_a_token_asks_nobody(secrets: Any, clock: Time, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, api_token_secret=keep(secrets, "right"))
    door = Door(settings, FolderStore(ProjectFiles(settings)), clock, None, admin_token(settings, lambda: secrets, clock))
    with counting(secrets) as called, pytest.raises(Unauthorized):
        door.credential([], "")
    assert called == []


def test_a_token_in_the_settings_needs_no_secret() -> None:
    settings = Settings(api_token="x", api_token_secret="arn")
    assert admin_token(settings, lambda: pytest.fail("nobody asks"), LocalClock()) is None


# -- mechaway reconcile


def test_the_command_says_what_is_missing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WHOLE:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit) as ended:
        cli.main(["reconcile", "--dry-run"])
    assert ended.value.code == 1
    assert "MECHAWAY_KMS_KEY, MECHAWAY_RUNNER_FUNCTION, MECHAWAY_BUCKET" in capsys.readouterr().err


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MemorySchedules:
    """An installation whose store is a folder and whose time is kept in memory, where the command looks for the one in AWS."""
    kept = MemorySchedules()

    def build(settings: Settings) -> App:
        assert settings.bucket == "b"
        app = local.build(Settings(data_dir=tmp_path, sync="normal"))
        app.timetable = Timetable(kept, app._workflows)
        return app

    for name, value in WHOLE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(aws, "build", build)
    app = local.build(Settings(data_dir=tmp_path, sync="normal"))
    app.create("default", clockwork())
    app.close()
    return kept


def test_the_command_only_looks_when_it_is_told_to(at_home: MemorySchedules, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["reconcile", "--dry-run"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == "make    default  wf  tick  */5 * * * * UTC\n"
    assert at_home.held == {}


def test_the_command_puts_schedules_right_and_then_has_nothing_to_do(at_home: MemorySchedules, capsys: pytest.CaptureFixture[str]) -> None:
    for said in ("make    default  wf  tick  */5 * * * * UTC\n", "every schedule is what its workflow says\n"):
        with pytest.raises(SystemExit):
            cli.main(["reconcile"])
        assert capsys.readouterr().out == said
    assert len(at_home.held) == 1
    with pytest.raises(SystemExit):
        cli.main(["reconcile", "--json"])
    assert json.loads(capsys.readouterr().out) == {"projects": {}, "problems": [], "swept": 0}


def test_the_command_fails_when_something_could_not_be_put_right(
    at_home: MemorySchedules, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise Unavailable("the quota is used up")

    monkeypatch.setattr(at_home, "put", full)
    with pytest.raises(SystemExit) as ended:
        cli.main(["reconcile"])
    assert ended.value.code == 1
    assert 'mechaway: project "default": the quota is used up' in capsys.readouterr().err
