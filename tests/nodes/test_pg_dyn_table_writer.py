"""PGDynTableWriter: items become rows on a real PostgreSQL server, all of them or none, whoever else is writing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mechaway_core.app import App
from mechaway_core.errors import Invalid, MechawayError, Unavailable
from mechaway_core.node import Context, Items, Node
from mechaway_core.nodes.pg_dyn_table_writer import PGDynTableWriter
from mechaway_core.ports import Column
from mechaway_core.postgres import Postgres
from mechaway_core.settings import Settings
from tests.nodes.bench import Bench, Connected, Document, node
from tests.postgres import PASSWORD, Proxy, Server

SECRETS = ["$secret.DB"]


def writer(columns: list[Any], inputs: list[Any] | None = None, about: Document | None = None, table: str = "t", **params: Any) -> Document:
    about = {"secrets": SECRETS} | (about or {})
    return node("PGDynTableWriter", id="save", inputs=inputs, about=about, table=table, columns=columns, **params)


def ask(sql: str) -> Document:
    return node("PGQuery", id="ask", about={"secrets": SECRETS}, query=sql)


def stored(bench: Bench, columns: str = "*", table: str = "t") -> list[Any]:
    return bench.gives(ask(f'SELECT {columns} FROM mway_dynamic_tables."{table}" ORDER BY id'))


def types(bench: Bench, table: str = "t") -> dict[str, str]:
    sql = "SELECT column_name AS name, data_type AS type FROM information_schema.columns WHERE table_schema = 'mway_dynamic_tables' "
    rows = bench.gives(ask(f"{sql} AND table_name = '{table}' ORDER BY ordinal_position"))
    return {row["name"]: row["type"] for row in rows}


def test_each_item_is_a_row_and_comes_back_with_its_id(bench: Bench, connected: Connected) -> None:
    items: list[dict[str, Any]] = [{"b": "x", "a": 1, "more": True}, {"a": 2}]
    given = bench.gives(writer(["a", "b"]), items=items)
    assert given == [items[0] | {"_inserted_id": 1, "_rows_affected": 1}, items[1] | {"_inserted_id": 2, "_rows_affected": 1}]
    assert list(given[0]) == ["a", "b", "more", "_inserted_id", "_rows_affected"]
    assert stored(bench) == [{"id": 1, "a": 1, "b": "x"}, {"id": 2, "a": 2, "b": None}]


def test_inputs_are_the_values_by_position(bench: Bench, connected: Connected) -> None:
    given = bench.gives(writer(["name", "twice"], ["$json.n", "$json.v"]), items=[{"n": "x", "v": 2}, 5])
    assert given[0] == {"n": "x", "v": 2, "_inserted_id": 1, "_rows_affected": 1}
    assert given[1] == {"value": 5, "_inserted_id": 2, "_rows_affected": 1}
    assert stored(bench, "name, twice") == [{"name": "x", "twice": 2}, {"name": None, "twice": None}]


def test_no_items_touch_nothing(bench: Bench, connected: Connected) -> None:
    assert bench.gives(writer(["a"]), items=[]) == []
    assert bench.gives(ask("SELECT to_regnamespace('mway_dynamic_tables') IS NULL AS none")) == [{"none": True}]


def test_types_follow_the_first_values(bench: Bench, connected: Connected) -> None:
    item: dict[str, Any] = {"b": True, "i": 1, "f": 0.5, "t": "x", "l": [1], "o": {"a": 1}, "n": None, "big": 2**70, "odd": 1}
    bench.gives(writer(list(item)), items=[item, item | {"odd": "x", "f": 2}])
    assert types(bench) == {
        "id": "bigint",
        "b": "boolean",
        "i": "bigint",
        "f": "double precision",
        "t": "text",
        "l": "jsonb",
        "o": "jsonb",
        "n": "jsonb",
        "big": "numeric",
        "odd": "jsonb",
    }
    assert stored(bench)[1] == {"id": 2, **item, "odd": "x", "f": 2.0, "big": str(2**70)}


def test_a_column_may_say_its_type(bench: Bench, connected: Connected) -> None:
    columns = [{"name": "at", "type": "timestamptz"}, {"name": "price", "type": "NUMERIC(10, 2)"}, {"name": "tags", "type": "text[]"}]
    item = {"at": "2024-01-02T03:04:05Z", "price": 1.25, "tags": ["a", "b"]}
    bench.gives(writer(columns), items=[item])
    assert list(types(bench).values()) == ["bigint", "timestamp with time zone", "numeric", "ARRAY"]
    assert stored(bench, "at, price, tags") == [item | {"at": "2024-01-02T03:04:05+00:00"}]


def test_missing_columns_are_added(bench: Bench, connected: Connected) -> None:
    bench.gives(writer(["a"]), items=[{"a": 1}])
    bench.gives(writer(["b", "a"]), items=[{"a": 2, "b": "x"}])
    assert stored(bench) == [{"id": 1, "a": 1, "b": None}, {"id": 2, "a": 2, "b": "x"}]


def test_a_column_of_whole_numbers_widens_when_others_come(bench: Bench, connected: Connected) -> None:
    bench.gives(writer(["v"]), items=[{"v": 2**62 + 1}])
    bench.gives(writer(["v"]), items=[{"v": 3.0}])
    assert types(bench)["v"] == "bigint"
    bench.gives(writer(["v"]), items=[{"v": 21.5}])
    assert [row["v"] for row in stored(bench)] == [2**62 + 1, 3, 21.5]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(-1e15, 1e15, allow_subnormal=False).map(lambda number: number + 0.0)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), inside, max_size=3)
    ),
    max_leaves=6,
)


@given(value=JSON)
@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_whatever_json_it_is_it_reads_back_the_same(bench: Bench, connected: Connected, value: Any) -> None:
    bench.gives(ask("DROP SCHEMA IF EXISTS mway_dynamic_tables CASCADE"))
    bench.gives(writer(["v"]), items=[{"v": value}])
    [row] = stored(bench)
    assert row["v"] == value
    assert isinstance(row["v"], bool) == isinstance(value, bool)


NAMES = ['odd "name"', "SELECT", "Ünï", "a;b", "x" * 63, "a.b", "%s", "$1", "?", "\\"]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_quoted(bench: Bench, connected: Connected, name: str) -> None:
    for _ in range(2):
        bench.gives(writer([name], table=name, on_conflict={"columns": [name]}), items=[{name: 1}])
    quoted = name.replace('"', '""')
    assert bench.gives(ask(f'SELECT count(*) AS n FROM mway_dynamic_tables."{quoted}"')) == [{"n": 1}]


class Unheard(PGDynTableWriter):
    """Write the rows, but the first time nobody hears that it was done."""

    times: ClassVar[list[str]] = []

    def run(self, items: Items, ctx: Context) -> Items:
        given = super().run(items, ctx)
        self.times.append(ctx.run.id)
        if self.times.count(ctx.run.id) == 1:
            raise Unavailable("the answer was lost")
        return given


# -- on_conflict


def test_with_the_key_of_the_run_a_row_whose_write_is_tried_again_is_there_once(
    bench: Bench, connected: Connected, add_node_type: Callable[[type[Node]], None]
) -> None:
    add_node_type(Unheard)
    save = writer(
        ["key", "v"],
        ["$run.key", "$json.v"],
        about={"retry": {"attempts": 2, "delay": 0}},
        on_conflict={"columns": ["key"], "update": False},
    )
    for _ in range(2):
        given = bench.gives(save | {"node_type": "Unheard"}, items=[{"v": 1}, {"v": 1}])
        assert [item["_rows_affected"] for item in given] == [0, 0]
    assert stored(bench, "v") == [{"v": 1}] * 4


def test_on_conflict_updates_keeps_or_updates_some(bench: Bench, connected: Connected) -> None:
    def write(item: Any, **conflict: Any) -> Any:
        return bench.gives(writer(["k", "a", "b"], on_conflict={"columns": ["k"], **conflict}), items=[item])[0]

    assert write({"k": "x", "a": 1, "b": 1})["_inserted_id"] == 1
    updated = write({"k": "x", "a": 2, "b": 2})
    assert (updated["_inserted_id"], updated["_rows_affected"]) == (1, 1)
    kept = write({"k": "x", "a": 3, "b": 3}, update=False)
    assert (kept["_inserted_id"], kept["_rows_affected"]) == (1, 0)
    some = write({"k": "x", "a": 4, "b": 4}, update=["b"])
    assert (some["_inserted_id"], some["_rows_affected"]) == (1, 1)
    assert stored(bench) == [{"id": 1, "k": "x", "a": 2, "b": 4}]


def test_rows_of_one_key_in_one_write_follow_each_other(bench: Bench, connected: Connected) -> None:
    given = bench.gives(writer(["k", "v"], on_conflict={"columns": ["k"]}), items=[{"k": 1, "v": 1}, {"k": 1, "v": 2}, {"k": 2, "v": 3}])
    assert [item["_inserted_id"] for item in given[:2]] == [1, 1]
    assert [row["v"] for row in stored(bench)] == [2, 3]


def test_a_key_of_several_columns_and_only_keys(bench: Bench, connected: Connected) -> None:
    save = writer(["a", "b"], on_conflict={"columns": ["b", "a"]})
    for _ in range(2):
        assert bench.gives(save, items=[{"a": 1, "b": "x"}])[0]["_rows_affected"] == 1
    assert stored(bench, "a, b") == [{"a": 1, "b": "x"}]
    indexes = bench.gives(ask("SELECT count(*) AS n FROM pg_indexes WHERE schemaname = 'mway_dynamic_tables'"))
    assert indexes == [{"n": 2}]


def test_a_key_that_is_unique_already_needs_no_rights_to_make_one(bench: Bench, connected: Connected, server: Server) -> None:
    database = connected.conninfo.rpartition("/")[2]
    for statement in (
        "CREATE SCHEMA mway_dynamic_tables",
        "CREATE TABLE mway_dynamic_tables.t (id uuid DEFAULT gen_random_uuid(), k int UNIQUE, v text)",
        "DROP ROLE IF EXISTS clerk",
        "CREATE ROLE clerk LOGIN PASSWORD 'clerk'",
        "GRANT USAGE ON SCHEMA mway_dynamic_tables TO clerk",
        "GRANT INSERT, SELECT, UPDATE ON mway_dynamic_tables.t TO clerk",
    ):
        server.admin(statement, database=database)
    connected.conninfo = server.url(database, user="clerk", password="clerk")
    [given] = bench.gives(writer(["k", "v"], on_conflict={"columns": ["k"]}), items=[{"k": 1, "v": "x"}])
    assert len(given["_inserted_id"]) == 36
    assert "permission denied" in bench.fails(writer(["k"], table="other"), items=[{"k": 1}])
    connected.conninfo = server.url(database)
    bench.gives(ask("DROP OWNED BY clerk"))


def test_a_table_without_ids_takes_rows_too(bench: Bench, connected: Connected) -> None:
    bench.gives(ask("CREATE SCHEMA mway_dynamic_tables"))
    bench.gives(ask("CREATE TABLE mway_dynamic_tables.t (v int)"))
    assert bench.gives(writer(["v"]), items=[{"v": 1}]) == [{"v": 1, "_inserted_id": None, "_rows_affected": 1}]


# -- all or none


def test_one_row_that_cannot_be_stored_keeps_all_out(bench: Bench, connected: Connected) -> None:
    bench.gives(writer(["v"]), items=[{"v": 1}])
    items = [{"v": n} for n in range(600)]
    for place in (0, 300, 599):
        message = bench.fails(writer(["v"]), items=[*items[:place], {"v": "x"}, *items[place:]])
        assert 'invalid input syntax for type bigint: "x"' in message
    assert stored(bench, "v") == [{"v": 1}]
    assert bench.gives(writer(["v"]), items=[{"v": 2}])[0]["_rows_affected"] == 1


def test_what_was_made_for_a_write_that_failed_is_undone(bench: Bench, connected: Connected) -> None:
    assert "NUL" in bench.fails(writer(["v", "w"]), items=[{"v": 1, "w": "x"}, {"v": 2, "w": "\0"}])
    assert bench.gives(ask("SELECT to_regnamespace('mway_dynamic_tables') IS NULL AS none")) == [{"none": True}]


def test_ten_thousand_rows_go_in_together(bench: Bench, connected: Connected) -> None:
    given = bench.gives(writer(["n", "t"]), items=[{"n": n, "t": f"row {n}"} for n in range(10_000)])
    assert [item["_inserted_id"] for item in given] == list(range(1, 10_001))
    assert bench.gives(ask("SELECT count(*) AS n, count(DISTINCT xmin::text) AS transactions FROM mway_dynamic_tables.t")) == [
        {"n": 10_000, "transactions": 1}
    ]


def test_rows_larger_than_what_a_socket_holds_go_in(bench: Bench, connected: Connected) -> None:
    text = "x" * 200_000
    bench.gives(writer(["v"]), items=[{"v": text}] * 40)
    assert bench.gives(ask("SELECT sum(length(v)) AS n FROM mway_dynamic_tables.t")) == [{"n": 8_000_000}]


# -- writers that meet


def test_many_writers_make_one_table(bench: Bench, connected: Connected, app: App) -> None:
    """Threads with connections of their own begin at the same moment, each with a column of its own."""
    many, gate = 8, threading.Barrier(8)
    postgres = [Postgres(Settings()) for _ in range(many)]
    failures: list[Exception] = []

    def write(number: int) -> None:
        row = {"k": 1, f"c{number}": number}
        gate.wait()
        try:
            postgres[number].insert_rows(connected.conninfo, "t", [row], [Column(name) for name in row], deadline=time.monotonic() + 60)
        except MechawayError as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(many)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in postgres:
        one.close()
    assert failures == []
    assert sorted(types(bench)) == sorted(["id", "k", *(f"c{number}" for number in range(many))])
    assert len(stored(bench)) == many


def test_writers_that_lock_each_other_out_both_get_through(bench: Bench, connected: Connected, app: App) -> None:
    save = writer(["k", "v"], on_conflict={"columns": ["k"]})
    name = bench.put(save)
    keys = [{"k": k, "v": 0} for k in range(300)]
    app.start(bench.project, name, "hook", keys)
    runs: list[Any] = []
    threads = [
        threading.Thread(target=lambda o=order: runs.append(app.start(bench.project, name, "hook", o))) for order in (keys, keys[::-1])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [run.failure for run in runs] == [None, None]
    assert len(stored(bench)) == 300


def test_a_lock_of_somebody_else_is_waited_for_only_so_long(bench: Bench, connected: Connected) -> None:
    bench.gives(writer(["v"]), items=[{"v": 1}])
    with psycopg.connect(connected.conninfo) as other:
        other.execute("LOCK TABLE mway_dynamic_tables.t")
        run = bench.run(writer(["v"], about={"timeout": 0.5}), items=[{"v": 2}])
    assert run.failure is not None
    assert run.failure.kind == "timeout"
    assert stored(bench, "v") == [{"v": 1}]


def test_a_connection_that_breaks_in_the_middle_stores_nothing(bench: Bench, connected: Connected, server: Server) -> None:
    bench.gives(writer(["v"]), items=[{"v": 1}])
    database = connected.conninfo.rpartition("/")[2]
    proxy = Proxy(server.port)
    with psycopg.connect(connected.conninfo) as other:
        other.execute("LOCK TABLE mway_dynamic_tables.t")
        connected.conninfo = server.url(database, port=proxy.port)

        def hang_up() -> None:
            while not any("INSERT" in text and state == "active" for state, text in server.sessions(database)):
                time.sleep(0.01)
            proxy.hang_up()

        thread = threading.Thread(target=hang_up)
        thread.start()
        message = bench.fails(writer(["v"]), items=[{"v": n} for n in range(1000)])
        thread.join()
    assert "the connection to PostgreSQL broke; nothing was stored" in message
    proxy.close()
    connected.conninfo = server.url(database)
    assert stored(bench, "v") == [{"v": 1}]


# -- refused


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (writer(["a"], about={"secrets": None}), "needs `secrets`"),
        (writer(["a"], table=""), "a name cannot be empty"),
        (writer(["a"], table="x" * 64), "63 bytes"),
        (writer(["ü" * 32]), "63 bytes"),
        (writer(["a\0"]), "control characters"),
        (writer(["a", "a"]), 'the column "a" is named twice'),
        (writer(["a"], ["1", "2"]), "there are 1 columns but 2 inputs"),
        (writer([{"name": "a", "type": "tekst"}]), 'did you mean "text"?'),
        (writer([{"name": "a", "type": "int); DROP TABLE t; --"}]), "is not a type"),
        (writer(["a"], on_conflict={"columns": ["b"]}), '"b" is not one of the columns'),
        (writer(["a"], on_conflict={"columns": ["a"], "update": ["A"]}), '"A" is not one of the columns'),
        (writer([]), "columns is empty"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_saved(bench: Bench, connected: Connected, document: Document, sentence: str) -> None:
    with pytest.raises(Invalid) as refused:
        bench.put(document)
    assert any(sentence in problem.message for problem in refused.value.problems), refused.value.problems


def test_an_item_that_is_no_object_has_no_columns(bench: Bench, connected: Connected) -> None:
    assert "item 2 is not an object (int)" in bench.fails(writer(["a"]), items=[{"a": 1}, 5])


def test_the_password_stays_out_of_errors(bench: Bench, connected: Connected, server: Server) -> None:
    connected.conninfo = server.url("nowhere")
    message = bench.fails(writer(["a"]), items=[{"a": 1}])
    assert "no such database" in message
    assert PASSWORD not in json.dumps(message)
