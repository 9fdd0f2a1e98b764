"""Settings: from the environment and the command line, checked, and told without secrets."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechaway_core.errors import Invalid
from mechaway_core.settings import PREFIX, Settings, variable


def test_without_anything_the_defaults_hold() -> None:
    settings = Settings.load({})
    assert settings == Settings()
    defaults = {"host": "127.0.0.1", "port": 3004, "data_dir": Path("data"), "workers": 1, "api_token": ""}
    defaults |= {"max_body_mb": 10, "lua_memory_mb": 16, "lua_timeout": 5}
    assert {name: getattr(settings, name) for name in defaults} == defaults


def test_the_environment_is_read_by_prefix_and_name() -> None:
    environ = {
        "MECHAWAY_PORT": "80",
        "MECHAWAY_DATA_DIR": "/srv/x y",
        "MECHAWAY_MAX_BODY_MB": "0.5",
        "PORT": "1",
        "MECHAWAY_SYNC": "Normal",
    }
    settings = Settings.load(environ)
    assert (settings.port, settings.data_dir, settings.max_body_mb, settings.sync) == (80, Path("/srv/x y"), 0.5, "normal")


@pytest.mark.parametrize("raw", ["1", "1.5"])
def test_seconds_may_be_whole_or_not(raw: str) -> None:
    assert Settings.load({"MECHAWAY_LUA_TIMEOUT": raw}).lua_timeout == float(raw)


def test_the_real_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MECHAWAY_PORT", "81")
    assert Settings.load().port == 81


def test_an_empty_variable_is_as_good_as_none() -> None:
    assert Settings.load({"MECHAWAY_PORT": "", "MECHAWAY_HOST": ""}) == Settings()


def test_what_is_given_stands_above_the_environment() -> None:
    environ = {"MECHAWAY_PORT": "80", "MECHAWAY_HOST": "::1"}
    settings = Settings.load(environ, port=0, host=None, data_dir=Path("d"))
    assert (settings.port, settings.host, settings.data_dir) == (0, "::1", Path("d"))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PORT", "http", "must be a whole number, not 'http'"),
        ("PORT", "80.5", "must be a whole number"),
        ("PORT", "-1", "must be between 0 and 65535, not -1"),
        ("PORT", "65536", "must be between"),
        ("WORKERS", "0", "must be between 1 and 64"),
        ("LUA_TIMEOUT", "0", "must be between"),
        ("LUA_TIMEOUT", "nan", "must be"),
        ("LUA_TIMEOUT", "inf", "must be"),
        ("LUA_TIMEOUT", "fast", "must be a number"),
        ("SYNC", "off", "must be one of full, normal"),
        ("DATA_DIR", "a\0b", "NUL"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_its_name(name: str, value: str, words: str) -> None:
    with pytest.raises(Invalid) as refused:
        Settings.load({PREFIX + name: value})
    assert str(refused.value).startswith(PREFIX + name)
    assert words in str(refused.value)


def test_all_values_that_cannot_be_used_are_named_at_once() -> None:
    with pytest.raises(Invalid) as refused:
        Settings.load({"MECHAWAY_PORT": "x", "MECHAWAY_WORKERS": "0"}, data_dir="a\0")
    for name in ("MECHAWAY_PORT", "MECHAWAY_WORKERS", "--data-dir"):
        assert name in str(refused.value)


def test_limits_are_written_in_plain_figures() -> None:
    with pytest.raises(Invalid, match="1000000"):
        Settings.load({"MECHAWAY_MAX_PLANS": "0"})


@pytest.mark.parametrize("declared", fields(Settings), ids=lambda declared: declared.name)
def test_every_setting_explains_itself_and_keeps_its_own_limits(declared: Any) -> None:
    assert declared.metadata["help"].endswith(".")
    least, most = declared.metadata["least"], declared.metadata["most"]
    if isinstance(declared.default, int | float):
        assert least <= declared.default <= most
    assert variable(declared.name) == "MECHAWAY_" + declared.name.upper()


def test_rows_tell_name_value_default_and_help_of_every_setting() -> None:
    rows = {row["name"]: row for row in Settings(port=80).rows()}
    assert len(rows) == len(fields(Settings))
    assert rows["MECHAWAY_PORT"] == {
        "name": "MECHAWAY_PORT",
        "value": 80,
        "default": 3004,
        "help": "Port to listen on; 0 takes a free one.",
    }
    assert rows["MECHAWAY_DATA_DIR"]["value"] == "data"


def test_a_secret_is_never_told() -> None:
    settings = Settings(api_token="hush-hush")
    assert "hush-hush" not in str(settings.rows())
    assert {row["name"]: row["value"] for row in settings.rows()}["MECHAWAY_API_TOKEN"] == "(set)"
    assert "hush-hush" not in repr(settings)


@given(
    port=st.integers(0, 65535),
    lua_timeout=st.floats(0.001, 3600),
    api_token=st.text(st.characters(codec="ascii", exclude_characters="\0")),
    data_dir=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).map(Path),
    sync=st.sampled_from(["full", "normal"]),
)
def test_a_worker_process_reads_the_very_same_settings(port: int, lua_timeout: float, api_token: str, data_dir: Path, sync: Any) -> None:
    settings = Settings(port=port, lua_timeout=lua_timeout, api_token=api_token, data_dir=data_dir, sync=sync)
    assert Settings.load(settings.child_environment({"PATH": "/bin", "MECHAWAY_PORT": "1"})) == settings
    assert settings.child_environment({"PATH": "/bin"})["PATH"] == "/bin"
