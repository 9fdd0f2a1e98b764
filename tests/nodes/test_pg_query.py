"""PGQuery: SQL on a real PostgreSQL server, values both ways, and every way in which it can go wrong."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from mechaway_core.app import App
from mechaway_core.cancellation import Cancellation
from mechaway_core.errors import Invalid
from mechaway_core.postgres import Postgres
from mechaway_core.settings import Settings
from tests.nodes.bench import Bench, Connected, Document, node
from tests.postgres import PASSWORD, Proxy, Server, free_port

SECRETS = ["$secret.DB"]


def query(sql: str, inputs: list[Any] | None = None, about: Document | None = None, **params: Any) -> Document:
    return node("PGQuery", id="ask", inputs=inputs, about={"secrets": SECRETS} | (about or {}), query=sql, **params)


def value_of(bench: Bench, sql: str, *values: Any) -> Any:
    """The only value of the only row."""
    inputs = [f"$json.v[{number}]" for number in range(len(values))]
    [row] = bench.gives(query(sql, inputs or None), items=[{"v": list(values)}])
    [value] = row.values()
    return value


# -- what it gives


def test_each_row_is_an_item(bench: Bench, connected: Connected) -> None:
    assert bench.gives(query("SELECT n, n * 2 AS twice FROM generate_series(1, 3) n")) == [{"n": n, "twice": 2 * n} for n in (1, 2, 3)]


def test_it_runs_once_for_each_item(bench: Bench, connected: Connected) -> None:
    given = bench.gives(
        query("SELECT $1::int AS a, $2::text AS b", ["$json.a", "$json.b"]), items=[{"a": 1, "b": "x"}, {"a": 2, "b": None}]
    )
    assert given == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]


def test_a_list_is_one_item(bench: Bench, connected: Connected) -> None:
    given = bench.gives(query("SELECT n FROM generate_series(1, 2) n", output="list"))
    assert given == [{"results": [{"n": 1}, {"n": 2}], "count": 2}]
    assert bench.gives(query("SELECT 1 AS n WHERE false", output="list")) == [{"results": [], "count": 0}]
    assert bench.gives(query("SELECT 1 AS n WHERE false")) == []


def test_a_statement_without_rows_says_how_many_it_changed(bench: Bench, connected: Connected) -> None:
    assert bench.gives(query("CREATE TABLE t (n int)")) == [{"_rows_affected": 0}]
    assert bench.gives(query("INSERT INTO t VALUES (1), (2)")) == [{"_rows_affected": 2}]
    assert bench.gives(query("UPDATE t SET n = n + 1 WHERE n > $1", ["$json.n"]), items=[{"n": 1}]) == [{"_rows_affected": 1}]
    assert bench.gives(query("DELETE FROM t RETURNING n")) == [{"n": 1}, {"n": 3}]


def test_columns_of_one_name_are_told_apart(bench: Bench, connected: Connected) -> None:
    assert bench.gives(query("SELECT 1 AS a, 2 AS a, 3 AS b")) == [{"a": 1, "a_2": 2, "b": 3}]


def test_question_marks_stand_for_parameters(bench: Bench, connected: Connected) -> None:
    sql = "SELECT ?::int + ?::int AS sum, '?' AS mark, '{\"a\": 1}'::jsonb ?? 'a' AS has /* ? */ -- ?"
    assert bench.gives(query(sql, ["1", "2"])) == [{"sum": 3, "mark": "?", "has": True}]


# -- values


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("SELECT true", True),
        ("SELECT 9223372036854775807", 2**63 - 1),
        ("SELECT (-9223372036854775807 - 1)", -(2**63)),
        ("SELECT 9223372036854775808", "9223372036854775808"),
        ("SELECT 1.5::numeric", 1.5),
        ("SELECT 5.00::numeric", 5.0),
        ("SELECT sum(n) FROM (VALUES (1::bigint), (2)) v(n)", 3),
        ("SELECT 0.1::numeric", 0.1),
        ("SELECT 1234567890.12345678901::numeric", "1234567890.12345678901"),
        ("SELECT 'NaN'::numeric", "NaN"),
        ("SELECT 0.1::float8", 0.1),
        ("SELECT 0.1::real", 0.1),
        ("SELECT 'NaN'::float8", "NaN"),
        ("SELECT '-Infinity'::float4", "-Infinity"),
        ("SELECT 'ünï 日本 🎉'", "ünï 日本 🎉"),
        ("SELECT NULL::int", None),
        ("""SELECT '{"a": [1, null, {"b": 2.5}]}'::json""", {"a": [1, None, {"b": 2.5}]}),
        ("SELECT '\"text\"'::jsonb", "text"),
        ("SELECT 'null'::jsonb", None),
        ("SELECT ARRAY[1, NULL, 3]", [1, None, 3]),
        ("SELECT ARRAY[[1, 2], [3, 4]]", [[1, 2], [3, 4]]),
        ("SELECT ARRAY['a,b', 'c\"d', NULL, 'NULL', '']", ["a,b", 'c"d', None, "NULL", ""]),
        ("SELECT ARRAY['{\"a\": 1}'::jsonb]", [{"a": 1}]),
        ("SELECT '[2:3]={1,2}'::int[]", [1, 2]),
        ("SELECT ARRAY[]::text[]", []),
        ("SELECT TIMESTAMP '2024-01-02 03:04:05.678'", "2024-01-02T03:04:05.678"),
        ("SELECT TIMESTAMPTZ '2024-01-02 03:04:05+00' AT TIME ZONE 'UTC'", "2024-01-02T03:04:05"),
        ("SELECT ARRAY[TIMESTAMP '2024-01-02 03:04:05']", ["2024-01-02T03:04:05"]),
        ("SELECT 'infinity'::timestamptz", "infinity"),
        ("SELECT '0044-03-15 BC'::date", "0044-03-15 BC"),
        ("SELECT DATE '2024-02-29'", "2024-02-29"),
        ("SELECT TIME '03:04:05'", "03:04:05"),
        ("SELECT '03:04:05+02'::timetz", "03:04:05+02:00"),
        ("SELECT INTERVAL '1 year 2 days 3 hours'", "P1Y2DT3H"),
        ("SELECT '0b2f9f3e-1111-2222-3333-444455556666'::uuid", "0b2f9f3e-1111-2222-3333-444455556666"),
        ("SELECT '\\x00ff'::bytea", "AP8="),
        ("SELECT int4range(1, 5)", "[1,5)"),
        ("SELECT ROW(1, 'a')", "(1,a)"),
        ("SELECT '10.0.0.0/8'::cidr", "10.0.0.0/8"),
        ("SELECT point(1, 2)", "(1,2)"),
        ("SELECT 'pg_class'::regclass", "pg_class"),
    ],
)
def test_a_value_comes_back_as_json(bench: Bench, connected: Connected, sql: str, value: Any) -> None:
    assert json.dumps(value_of(bench, sql)) == json.dumps(value)


def test_moments_carry_the_offset_of_the_session(bench: Bench, connected: Connected, server: Server) -> None:
    database = connected.conninfo.rpartition("/")[2]
    server.admin(f"ALTER DATABASE {database} SET timezone = 'Asia/Kolkata'")
    server.admin(f"ALTER DATABASE {database} SET datestyle = 'SQL, DMY'")
    assert value_of(bench, "SELECT TIMESTAMPTZ '2024-01-02T03:04:05Z'") == "2024-01-02T08:34:05+05:30"


@pytest.mark.parametrize(
    ("declared", "value", "back"),
    [
        ("int", 5, 5),
        ("int", 5.0, 5),
        ("bigint", 2**63 - 1, 2**63 - 1),
        ("numeric", 2**70, str(2**70)),
        ("numeric", 0.1, 0.1),
        ("float8", 5, 5.0),
        ("float8", "NaN", "NaN"),
        ("bool", True, True),
        ("bool", 1, True),
        ("text", "x' OR 1=1 --", "x' OR 1=1 --"),
        ("text", 5, "5"),
        ("text", True, "true"),
        ("text", {"a": 1}, '{"a":1}'),
        ("jsonb", {"a": [1, None]}, {"a": [1, None]}),
        ("json", [1, "two"], [1, "two"]),
        ("jsonb", "text", "text"),
        ("jsonb", '{"a":1}', '{"a":1}'),
        ("jsonb", 5, 5),
        ("jsonb", False, False),
        ("jsonb", None, None),
        ("int[]", [1, None, 3], [1, None, 3]),
        ("int[]", [[1, 2], [3, 4]], [[1, 2], [3, 4]]),
        ("int[]", "{1,2}", [1, 2]),
        ("text[]", ["a,b", 'c"d', "\\", "NULL", "", None, "{}"], ["a,b", 'c"d', "\\", "NULL", "", None, "{}"]),
        ("text[]", [], []),
        ("bool[]", [True, False], [True, False]),
        ("jsonb[]", [{"a": 1}, [1, 2], "x"], [{"a": 1}, [1, 2], "x"]),
        ("timestamptz[]", ["2024-01-02T03:04:05Z"], ["2024-01-02T03:04:05+00:00"]),
        ("timestamptz", "2024-01-02T03:04:05.5Z", "2024-01-02T03:04:05.5+00:00"),
        ("date", "2024-02-29", "2024-02-29"),
        ("interval", "P1DT2H", "P1DT2H"),
        ("uuid", "0b2f9f3e-1111-2222-3333-444455556666", "0b2f9f3e-1111-2222-3333-444455556666"),
        ("bytea", "AP8=", "AP8="),
        ("bytea", "\\x00ff", "AP8="),
        ("int4range", "[1,5)", "[1,5)"),
    ],
)
def test_an_input_goes_in_as_the_type_that_the_server_expects(
    bench: Bench, connected: Connected, declared: str, value: Any, back: Any
) -> None:
    bench.gives(query(f"CREATE TABLE t (v {declared})"))
    bench.gives(query("INSERT INTO t VALUES ($1)", ["$json.v"]), items=[{"v": value}])
    assert json.dumps(value_of(bench, "SELECT v FROM t")) == json.dumps(back)


def test_types_that_users_made_go_both_ways(bench: Bench, connected: Connected) -> None:
    for statement in (
        "CREATE TYPE mood AS ENUM ('sad', 'happy')",
        "CREATE DOMAIN doc AS jsonb",
        "CREATE DOMAIN tags AS text[]",
        "CREATE TABLE t (one mood, many mood[], doc doc, docs doc[], tags tags)",
    ):
        bench.gives(query(statement))
    item = {"one": "sad", "many": ["happy", None], "doc": {"a": 1}, "docs": [{"b": 2}], "tags": ["x", "y"]}
    bench.gives(query("INSERT INTO t VALUES ($1, $2, $3, $4, $5)", [f"$json.{name}" for name in item]), items=[item])
    assert bench.gives(query("SELECT * FROM t")) == [item]


def test_a_parameter_of_no_type_takes_that_of_its_value(bench: Bench, connected: Connected) -> None:
    sql = "SELECT jsonb_build_object('a', $1, 'b', $2, 'c', $3, 'd', $4) AS o"
    given = bench.gives(query(sql, ["$json.a", "$json.b", "$json.c", "$json.d"]), items=[{"a": 1, "b": "x", "c": True, "d": {"e": [1]}}])
    assert given == [{"o": {"a": 1, "b": "x", "c": True, "d": {"e": [1]}}}]


def test_a_statement_goes_on_working_when_the_type_of_a_column_changes(bench: Bench, connected: Connected) -> None:
    insert = query("INSERT INTO t VALUES ($1)", ["$json.v"])
    bench.gives(query("CREATE TABLE t (v int[])"))
    bench.gives(insert, items=[{"v": [1]}])
    bench.gives(query("DROP TABLE t"))
    bench.gives(query("CREATE TABLE t (v jsonb)"))
    bench.gives(insert, items=[{"v": [1]}])
    assert value_of(bench, "SELECT v FROM t") == [1]


def test_a_column_of_a_new_type_is_known_in_a_statement_that_ran_before(bench: Bench, connected: Connected) -> None:
    bench.gives(query("CREATE TABLE t (a int)"))
    bench.gives(query("INSERT INTO t VALUES (1)"))
    assert bench.gives(query("SELECT * FROM t")) == [{"a": 1}]
    bench.gives(query("CREATE TYPE mood AS ENUM ('sad', 'happy')"))
    bench.gives(query("ALTER TABLE t ADD COLUMN moods mood[] DEFAULT '{sad,happy}'"))
    assert bench.gives(query("SELECT * FROM t")) == [{"a": 1, "moods": ["sad", "happy"]}]


# -- refused when saved


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (query("SELECT 1", about={"secrets": []}), "needs `secrets`"),
        (query("SELECT 1", about={"secrets": ["$secret.A", "$secret.B"]}), "there are 2"),
        (query("SELECT $1"), "the statement has 1 parameters, but there are 0 inputs"),
        (query("SELECT 1", ["1"]), "the statement has 0 parameters, but there are 1 inputs"),
        (query("SELECT '{}'::jsonb ? 'a'"), "write ?? for the operator ?"),
        (query("SELECT ?, $1", ["1", "2"]), "both $1 and ?"),
        (query("SELECT $1, $3", ["1", "2", "3"]), "has $3 but no $2"),
        (query("SELECT 1; SELECT 2"), "more than one statement"),
        (query("BEGIN"), "a transaction of its own"),
        (query("COPY t FROM STDIN"), "COPY"),
        (query(" -- nothing"), "the statement is empty"),
        (query("SELECT 'x"), "does not end"),
        (query("SELECT 1\0"), "NUL"),
        (query("SELECT 1", timeout=1e6), "MECHAWAY_PG_TIMEOUT"),
        (query("SELECT 1", output="rows"), "output must be one of"),
    ],
)
def test_what_cannot_run_is_refused_when_it_is_saved(bench: Bench, connected: Connected, document: Document, sentence: str) -> None:
    with pytest.raises(Invalid) as refused:
        bench.put(document)
    assert any(sentence in problem.message for problem in refused.value.problems), refused.value.problems


# -- what goes wrong when it runs


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELEKT 1", ("syntax error", "SQLSTATE 42601")),
        (
            "SELECT nam FROM (SELECT 1 AS name) t",
            ('column "nam" does not exist', 'hint: Perhaps you meant to reference the column "t.name"'),
        ),
        ("SELECT 1 / 0", ("division by zero", "SQLSTATE 22012")),
        ("DO $$BEGIN RAISE EXCEPTION 'no' USING HINT = 'do not', DETAIL = 'why'; END$$", ("PostgreSQL: no; detail: why; hint: do not",)),
    ],
)
def test_an_error_of_the_server_is_told_with_its_state_and_hint(
    bench: Bench, connected: Connected, sql: str, words: tuple[str, ...]
) -> None:
    message = bench.fails(query(sql))
    assert all(word in message for word in words), message
    assert PASSWORD not in message


@pytest.mark.parametrize(
    ("sql", "value", "words"),
    [
        ("SELECT $1::int", "five", 'invalid input syntax for type integer: "five"'),
        ("SELECT $1::int", 2**40, "out of range for type integer"),
        ("SELECT $1::int", 0.5, "invalid input syntax for type integer"),
        ("SELECT $1::text", "a\0b", "NUL character"),
        ("SELECT $1::jsonb", {"a": "x\0"}, "NUL character"),
        ("SELECT $1::bytea", "not base64!", "not base64"),
        ("SELECT $1::bytea", 5, "base64"),
        ("SELECT $1::int[]", {"a": 1}, "malformed array literal"),
        ("SELECT $1::timestamptz", "yesterdayish", "invalid input syntax for type timestamp with time zone"),
        ("SELECT $1::uuid", "x", "invalid input syntax for type uuid"),
    ],
)
def test_a_value_of_the_wrong_type_is_a_sentence(bench: Bench, connected: Connected, sql: str, value: Any, words: str) -> None:
    run = bench.run(query(sql, ["$json.v"]), items=[{"v": value}])
    assert run.failure is not None
    assert run.failure.kind == "query"
    assert words in run.failure.message


def test_a_text_that_looks_like_an_escaped_nul_is_text(bench: Bench, connected: Connected) -> None:
    assert value_of(bench, "SELECT $1::text", "\\u0000") == "\\u0000"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT generate_series(1, 1000000000)",
        "SELECT generate_series(1, 1000000000) AS n, repeat('x', 100) AS text",
    ],
)
def test_a_result_of_too_many_rows_is_stopped(bench: Bench, connected: Connected, sql: str) -> None:
    assert "more than 1000 rows (MECHAWAY_SQL_MAX_ROWS)" in bench.fails(query(sql))
    assert value_of(bench, "SELECT 1") == 1


def test_a_single_value_that_is_too_large_is_stopped(bench: Bench, connected: Connected) -> None:
    assert "more than 16 MB (MECHAWAY_SQL_MAX_MB)" in bench.fails(query("SELECT repeat('x', 20000000)"))
    assert "more than 16 MB (MECHAWAY_SQL_MAX_MB)" in bench.fails(query("SELECT repeat(md5(random()::text), 16000000)"))


@pytest.mark.parametrize("about", [{}, {"timeout": 0.3}])
def test_a_slow_statement_is_stopped_in_time(bench: Bench, connected: Connected, server: Server, about: Document) -> None:
    params: Document = {} if about else {"timeout": 0.3}
    began = time.monotonic()
    run = bench.run(query("SELECT pg_sleep(60)", about=about, **params))
    assert time.monotonic() - began < 10
    assert run.failure is not None
    assert (run.failure.kind, "longer than" in run.failure.message) == ("timeout", True)
    assert not any("pg_sleep" in text and state == "active" for state, text in server.sessions(connected.conninfo.rpartition("/")[2]))


def test_a_server_that_falls_silent_holds_nobody(bench: Bench, connected: Connected, server: Server) -> None:
    proxy = Proxy(server.port)
    connected.conninfo = server.url(connected.conninfo.rpartition("/")[2], port=proxy.port)
    try:
        assert value_of(bench, "SELECT 1") == 1
        proxy.silence()
        began = time.monotonic()
        run = bench.run(query("SELECT 2", timeout=0.5))
        assert time.monotonic() - began < 10
        assert run.failure is not None
        assert run.failure.kind == "timeout"
    finally:
        proxy.close()


def test_a_run_that_was_cancelled_begins_no_further_statement(app: App, bench: Bench, connected: Connected, server: Server) -> None:
    name = bench.put(query("SELECT pg_sleep(0.5)", about={"id": "first"}), query("CREATE TABLE never ()", about={"id": "second"}))
    runs: list[Any] = []
    thread = threading.Thread(target=lambda: runs.append(app.start(bench.project, name)))
    thread.start()
    database = connected.conninfo.rpartition("/")[2]
    while not any("pg_sleep" in text and state == "active" for state, text in server.sessions(database)):
        time.sleep(0.01)
    [going] = app.runs._going.values()
    going.run.cancel()
    thread.join(30)
    assert runs[0].status == "cancelled"
    assert value_of(bench, "SELECT to_regclass('never') IS NULL")


# -- connections


def refused(bench: Bench, conninfo: str, connected: Connected) -> tuple[str, str]:
    connected.conninfo = conninfo
    run = bench.run(query("SELECT 1"))
    assert run.failure is not None
    return run.failure.kind, run.failure.message


def test_what_is_wrong_with_a_connection_is_said_without_its_string(
    bench: Bench, connected: Connected, server: Server, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    good = server.url()
    cases = {
        server.url(password="wr0ng-canary"): ("error", "does not accept this user and password"),
        server.url(user="canary-user"): ("error", "does not accept this user and password"),
        server.url(password=None): ("error", "asks for a password"),
        server.url("canary-database"): ("error", "has no such database"),
        server.url(port=free_port()): ("unavailable", "refuses the connection"),
        good.replace("127.0.0.1", "canary-host.invalid"): ("unavailable", "has no address"),
        good + "?sslmode=require": ("error", "does not speak TLS"),
        good + "?sslmode=canary": ("error", "an option of the connection string"),
        "postgresql://canary:canary@[": ("error", "cannot be read"),
        "canary nonsense": ("error", "cannot be read"),
        " ": ("error", "names no host"),
        "host=localhost": ("error", "names no user"),
        "host=/tmp user=canary": ("error", "must name a host"),
        "host=localhost user=canary port=canary": ("error", "is not a number from 1 to 65535"),
        "host=a,b user=canary port=1,2,3": ("error", "as many ports as hosts"),
        good + "?passfile=/etc/canary": ("error", "may not set passfile"),
        good + "?sslkey=/etc/canary": ("error", "may not set sslkey"),
        good + "?service=canary": ("error", "may not set service"),
        good + "?hostaddr=10.0.0.1": ("error", "may not set hostaddr"),
        good + "?sslrootcert=/etc/canary": ("error", "may not name a file"),
        good + "?connect_timeout=canary": ("error", "connect_timeout"),
    }
    for conninfo, (kind, words) in cases.items():
        got_kind, message = refused(bench, conninfo, connected)
        assert (got_kind, words in message) == (kind, True), (conninfo, message)
        assert "canary" not in message
        assert PASSWORD not in message
        assert "127.0.0.1" not in message
    written = caplog.text + "".join(capfd.readouterr())
    assert "canary" not in written
    assert PASSWORD not in written


def test_the_password_does_not_come_back_as_data(bench: Bench, connected: Connected) -> None:
    assert "[secret" in value_of(bench, f"SELECT '{PASSWORD[:3]}' || '{PASSWORD[3:]}' AS value")


def test_nothing_is_taken_from_the_environment(bench: Bench, connected: Connected, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    monkeypatch.setenv("PGOPTIONS", "-c search_path=canary")
    monkeypatch.setenv("PGHOSTADDR", "203.0.113.1")
    assert "asks for a password" in refused(bench, server.url(password=None), connected)[1]
    connected.conninfo = server.url()
    assert value_of(bench, "SHOW search_path") == '"$user", public'


@pytest.mark.parametrize(
    "change",
    [
        "SET search_path = elsewhere",
        "SET ROLE pg_monitor",
        "SET SESSION AUTHORIZATION pg_monitor",
        "SET statement_timeout = 1",
        "SET datestyle = 'SQL, DMY'",
        "SET timezone = 'Asia/Tokyo'",
        "SELECT set_config('search_path', 'elsewhere', false)",
        "SELECT pg_advisory_lock(7)",
        "LISTEN canary",
        "PREPARE canary AS SELECT 1",
        "CREATE TEMP TABLE canary (n int)",
        "DISCARD ALL",
    ],
)
def test_what_one_run_does_to_its_session_the_next_does_not_see(bench: Bench, connected: Connected, change: str) -> None:
    state = (
        "SELECT pg_backend_pid() AS pid, current_user, session_user, current_setting('search_path') AS path, "
        "current_setting('datestyle') AS style, current_setting('timezone') AS zone, current_setting('statement_timeout') AS timeout, "
        "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks, "
        "(SELECT count(*) FROM pg_listening_channels()) AS channels, "
        "(SELECT count(*) FROM pg_prepared_statements WHERE name <> '') AS kept, "
        "to_regclass('canary') IS NULL AS clean"
    )
    before = bench.gives(query(state))
    bench.gives(query(change))
    assert bench.gives(query(state)) == before


def test_nothing_is_left_in_a_transaction(bench: Bench, connected: Connected, server: Server) -> None:
    value_of(bench, "SELECT 1")
    bench.fails(query("SELECT 1 / 0"))
    bench.fails(query("DO $$ BEGIN COMMIT; PERFORM 1 / 0; END $$"))
    states = [state for state, _ in server.sessions(connected.conninfo.rpartition("/")[2])]
    assert states
    assert set(states) <= {"idle", "active"}  # active: being made as new


def test_a_connection_that_died_between_two_runs_costs_nothing(bench: Bench, connected: Connected, server: Server) -> None:
    for _ in range(3):
        assert value_of(bench, "SELECT 1") == 1
        assert server.cut(connected.conninfo.rpartition("/")[2]) >= 1
    assert value_of(bench, "SELECT 1") == 1


def test_a_connection_that_is_cut_in_the_middle_is_an_error_and_the_next_run_works(
    bench: Bench, connected: Connected, server: Server
) -> None:
    proxy = Proxy(server.port)
    database = connected.conninfo.rpartition("/")[2]
    connected.conninfo = server.url(database, port=proxy.port)

    def hang_up() -> None:
        while not any("pg_sleep" in text and state == "active" for state, text in server.sessions(database)):
            time.sleep(0.01)
        proxy.hang_up()

    thread = threading.Thread(target=hang_up)
    thread.start()
    run = bench.run(query("SELECT pg_sleep(20)"))
    thread.join()
    assert run.failure is not None
    assert (run.failure.kind, "the connection to PostgreSQL broke" in run.failure.message) == ("error", True)
    assert value_of(bench, "SELECT 1") == 1
    proxy.close()


def test_a_backend_that_is_ended_in_the_middle_is_an_error(bench: Bench, connected: Connected, server: Server) -> None:
    database = connected.conninfo.rpartition("/")[2]

    def end() -> None:
        while not any("pg_sleep" in text and state == "active" for state, text in server.sessions(database)):
            time.sleep(0.01)
        server.cut(database)

    thread = threading.Thread(target=end)
    thread.start()
    message = bench.fails(query("SELECT pg_sleep(20)"))
    thread.join()
    assert "terminating connection" in message
    assert value_of(bench, "SELECT 1") == 1


def test_a_server_that_was_restarted_costs_nothing(bench: Bench, connected: Connected, server: Server) -> None:
    assert value_of(bench, "SELECT 1") == 1
    server.restart()
    assert value_of(bench, "SELECT 1") == 1


def test_runs_side_by_side_share_a_few_connections(bench: Bench, connected: Connected, server: Server, app: App) -> None:
    name = bench.put(query("SELECT pg_sleep(0.01), $1::int AS n", ["$json.n"]))
    given: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda n=n: given.__setitem__(n, app.start(bench.project, name, "hook", [{"n": n}]).output))
        for n in range(24)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [given[n][0]["n"] for n in range(24)] == list(range(24))
    assert len(server.sessions(connected.conninfo.rpartition("/")[2])) <= 4


def test_waiting_for_a_connection_ends_in_time(server: Server, database: str) -> None:
    postgres = Postgres(Settings(pg_pool=1))
    slow = threading.Thread(target=lambda: postgres.query(database, "SELECT pg_sleep(2)", [], deadline=time.monotonic() + 30))
    slow.start()
    while not any("pg_sleep" in text for _, text in server.sessions(database.rpartition("/")[2])):
        time.sleep(0.01)
    with pytest.raises(Exception, match="all 1 connections to this database are in use"):
        postgres.query(database, "SELECT 1", [], deadline=time.monotonic() + 0.1)
    slow.join()
    postgres.close()


def test_connections_go_only_to_addresses_that_were_allowed(server: Server, database: str) -> None:
    asked: list[tuple[str, int]] = []

    def addresses(host: str, port: int, deadline: float, cancellation: Cancellation) -> list[str]:
        asked.append((host, port))
        return ["127.0.0.1"]

    postgres = Postgres(Settings(), addresses)
    elsewhere = database.replace("127.0.0.1", "database.invalid")
    assert postgres.query(elsewhere, "SELECT 1 AS n", [], deadline=time.monotonic() + 10).rows == [{"n": 1}]
    assert asked == [("database.invalid", server.port)]
    postgres.close()


def test_a_failure_to_connect_can_be_tried_again(bench: Bench, connected: Connected, server: Server) -> None:
    """The server is down for the first attempts and up for a later one."""
    retry = {"attempts": 50, "delay": 0.2, "backoff": 1, "on": ["unavailable"]}
    server.down()
    thread = threading.Thread(target=server.up)
    thread.start()
    run = bench.run(query("SELECT 1 AS n", about={"retry": retry}))
    thread.join()
    assert run.failure is None, run.failure
    assert run.output == [{"n": 1}]


def test_whole_numbers_of_any_size_reach_the_caller_of_a_webhook(bench: Bench, connected: Connected) -> None:
    answered = bench.call(query("SELECT '{\"n\": 123456789012345678901234567890}'::json AS v"))
    assert answered.run.output == [{"v": {"n": 123456789012345678901234567890}}]
