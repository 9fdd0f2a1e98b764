"""What is said about the params of nodes: their types, tables and SQL, webhooks."""

from __future__ import annotations

from typing import Any

import pytest

from mechaway_core.sandbox import Sandbox
from mechaway_core.settings import Settings
from tests.unit.workflow.documents import (
    Document,
    after_hook,
    assert_has,
    assert_says,
    chain,
    errors,
    hook,
    lua,
    node_of,
    writer,
)

# -- params


@pytest.mark.parametrize(
    ("node", "below", "words"),
    [
        (node_of("Webhook", {}), "path", "path is missing"),
        (node_of("Webhook", {"path": 5}), "path", "path must be a text, not 5"),
        (node_of("Webhook", {"path": "/b", "method": 5}), "method", "method must be a text or a list"),
        (node_of("Webhook", {"path": "/b", "method": ["GET", 5]}), "method/1", "must be a text"),
        (node_of("Webhook", {"path": "/b", "respond": "last"}), "respond", '"first_item", "all_items" or "nothing"'),
        (node_of("FunLogic", {}), "script", "script is missing"),
        (node_of("FunLogic", {"script": ["return 1"]}), "script", "script must be a text, not a list"),
        (node_of("FunLogic", {"script": "1", "memory_mb": 0}), "memory_mb", "at least 1"),
        (node_of("FunLogic", {"script": "1", "memory_mb": 1.5}), "memory_mb", "a whole number"),
        (node_of("FunLogic", {"script": "1", "timeout": 0}), "timeout", "more than 0"),
        (node_of("FunLogic", {"script": "1", "timeout": "1"}), "timeout", "a number"),
        (node_of("SimpleTableWriter", {"columns": ["a"]}), "table", "table is missing"),
        (node_of("SimpleTableWriter", {"table": "t"}), "columns", "columns is missing"),
        (node_of("SimpleTableWriter", {"table": "t", "columns": "a"}), "columns", 'columns must be a list, not "a"'),
        (node_of("SimpleTableWriter", {"table": "t", "columns": []}), "columns", "at least 1"),
        (node_of("SimpleTableWriter", {"table": "t", "columns": ["a", 5]}), "columns/1", "a text or an object, not 5"),
        (node_of("SimpleTableWriter", {"table": "t", "columns": ["a"], "on_conflict": "a"}), "on_conflict", "an object"),
        (node_of("SimpleTableWriter", {"table": "t", "columns": ["a"], "on_conflict": {}}), "on_conflict/columns", "missing"),
        (
            node_of("SimpleTableWriter", {"table": "t", "columns": ["a"], "on_conflict": {"columns": []}}),
            "on_conflict/columns",
            "at least 1",
        ),
        (
            node_of("SimpleTableWriter", {"table": "t", "columns": ["a"], "on_conflict": {"columns": [1]}}),
            "on_conflict/columns/0",
            "a text",
        ),
        (node_of("SimpleTableReader", {"table": "t", "limit": 0}), "limit", "at least 1"),
        (node_of("SimpleTableReader", {"table": "t", "limit": "5"}), "limit", "a whole number"),
        (node_of("SimpleTableReader", {"table": "t", "output": "rows"}), "output", '"list" or "items"'),
        (node_of("SimpleTableReader", {"table": "t", "where": {"a": 1}}), "where", "a text"),
        (node_of("SimpleTableQuery", {}), "query", "query is missing"),
        (node_of("SimpleTableQuery", {"query": "SELECT 1", "write": "yes"}), "write", 'true or false, not "yes"'),
        (node_of("Respond", {"status": 199}), "status", "200"),
        (node_of("Respond", {"status": 600}), "status", "599"),
        (node_of("Respond", {"status": True}), "status", "true"),
        (node_of("Respond", {"headers": ["a"]}), "headers", "an object, not a list"),
        (node_of("Respond", {"headers": {"a": 5}}), "headers/a", "a text, not 5"),
    ],
)
def test_every_param_has_its_type(sandbox: Sandbox, node: Document, below: str, words: str) -> None:
    report = [one for one in errors(sandbox, {"id": "w", "nodes": [hook(), node]}) if one[0].startswith("/nodes/1/params")]
    assert_says(report, f"/nodes/1/params/{below}", "x", words)


@pytest.mark.parametrize(
    ("column", "below", "words"),
    [
        ({"name": "c", "typ": "TEXT"}, "typ", '"typ" is not a known field'),
        ({"name": "c", "type": "INT"}, "type", '"INTEGER"'),
        ({"name": 5}, "name", "a text, not 5"),
        ({"type": "TEXT"}, "name", "is missing"),
    ],
)
def test_a_column_that_is_an_object_is_looked_at_as_one(sandbox: Sandbox, column: Document, below: str, words: str) -> None:
    assert_says(errors(sandbox, after_hook(writer(columns=["a", column]))), f"/nodes/1/params/columns/1/{below}", "save", words)


@pytest.mark.parametrize(("memory_mb", "timeout", "words"), [(257, 1, "256 MB"), (1, 61, "60 s")])
def test_a_script_cannot_ask_for_more_than_the_server_gives(sandbox: Sandbox, memory_mb: int, timeout: float, words: str) -> None:
    node = node_of("FunLogic", {"script": "1", "memory_mb": memory_mb, "timeout": timeout})
    below = "memory_mb" if memory_mb > 256 else "timeout"
    assert_says(errors(sandbox, after_hook(node)), f"/nodes/1/params/{below}", "x", words, "MECHAWAY_")


def test_a_reader_cannot_ask_for_more_rows_than_the_server_reads(sandbox: Sandbox) -> None:
    node = node_of("SimpleTableReader", {"table": "t", "limit": 11})
    assert_says(errors(sandbox, after_hook(node), Settings(sql_max_rows=10)), "/nodes/1/params/limit", "x", "10 rows")


# -- tables, columns, SQL


@pytest.mark.parametrize("name", ["", "sqlite_x", "SQLITE_master", "a\0b", "a\nb", "n" * 129])
@pytest.mark.parametrize("node_type", ["SimpleTableWriter", "SimpleTableReader", "SimpleTableQuery"])
def test_a_table_needs_a_name_that_can_be_one(sandbox: Sandbox, node_type: str, name: str) -> None:
    needed: dict[str, Document] = {
        "SimpleTableWriter": {"columns": ["a"]},
        "SimpleTableReader": {},
        "SimpleTableQuery": {"query": "SELECT 1"},
    }
    assert_says(errors(sandbox, after_hook(node_of(node_type, {"table": name} | needed[node_type]))), "/nodes/1/params/table", "x", "name")


@pytest.mark.parametrize("name", ["Schüler", "with space", 'quo"ted', "select", "1st", "a;b"])
def test_a_table_may_have_any_name_that_sqlite_can_quote(sandbox: Sandbox, name: str) -> None:
    assert errors(sandbox, after_hook(writer(table=name, columns=[name]))) == []


def test_columns_need_names_and_each_only_once(sandbox: Sandbox) -> None:
    report = errors(sandbox, after_hook(writer(columns=["a", "", {"name": "A"}, "sqlite_b"])))
    assert_has(report, "/nodes/1/params/columns/1", "save", "empty")
    assert_has(report, "/nodes/1/params/columns/2", "save", '"A"', "twice")
    assert_has(report, "/nodes/1/params/columns/3", "save", "sqlite_")
    assert len(report) == 3


@pytest.mark.parametrize("conflict", [{"columns": ["b"]}, {"columns": ["a"], "update": ["b"]}])
def test_on_conflict_speaks_of_columns_of_the_node(sandbox: Sandbox, conflict: Document) -> None:
    assert_says(errors(sandbox, after_hook(writer(on_conflict=conflict))), "/nodes/1/params/on_conflict", "save", '"b"')


@pytest.mark.parametrize(("columns", "inputs"), [(["a", "b"], ["1"]), (["a"], ["1", "2", "3"])])
def test_inputs_are_counted_against_columns(sandbox: Sandbox, columns: list[str], inputs: list[str]) -> None:
    report = errors(sandbox, after_hook(writer(columns=columns, inputs=inputs)))
    assert_says(report, "/nodes/1/params/columns", "save", f"{len(columns)} column", f"{len(inputs)} input")


@pytest.mark.parametrize(
    ("query", "write", "words"),
    [
        ("", False, "empty"),
        ("  -- nothing", False, "empty"),
        ("SELECT 1; SELECT 2", False, "one statement"),
        ("INSERT INTO t VALUES (1)", False, '"write": true'),
        ("update t set a = 1", False, '"write": true'),
        ("DELETE FROM t", False, '"write": true'),
        ("WITH x AS (SELECT 1) DELETE FROM t", False, '"write": true'),
        ("CREATE TABLE t (a)", False, '"write": true'),
        ("DROP TABLE t", False, '"write": true'),
        ("ATTACH 'x' AS y", True, "ATTACH is not allowed"),
        ("PRAGMA journal_mode = DELETE", True, "PRAGMA is not allowed"),
        ("VACUUM INTO 'x'", True, "VACUUM is not allowed"),
        ("BEGIN", True, "BEGIN is not allowed"),
        ("COMMIT", True, "COMMIT is not allowed"),
        ("CREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT 1", True, "not allowed"),
        ("CREATE VIRTUAL TABLE x USING fts5(a)", True, "not allowed"),
        ("SELECT load_extension('x')", True, "load_extension"),
        ("DELETE FROM sqlite_schema", True, "not allowed"),
        ("SELEC 1", False, "SELEC is not allowed"),
        ("SELECT FROM", False, "syntax error"),
        ("SELECT (1", False, "incomplete"),
        ("SELECT nonsense(1)", False, "no such function"),
        ("SELECT '\0'", False, "NUL"),
    ],
)
def test_sql_that_the_guard_would_refuse_is_refused_before_it_is_saved(sandbox: Sandbox, query: str, write: bool, words: str) -> None:
    report = errors(sandbox, after_hook(node_of("SimpleTableQuery", {"query": query, "write": write})))
    assert_says(report, "/nodes/1/params/query", "x", words)


@pytest.mark.parametrize(
    "query", ["SELECT * FROM not_there_yet WHERE a = ?", "SELECT :name", "WITH x AS (SELECT 1) SELECT * FROM x", "VALUES (1)", "SELECT 1;"]
)
def test_sql_that_only_reads_is_good_whether_its_tables_are_there_or_not(sandbox: Sandbox, query: str) -> None:
    assert errors(sandbox, after_hook(node_of("SimpleTableQuery", {"query": query}))) == []


@pytest.mark.parametrize(
    ("params", "below", "words"),
    [
        ({"where": "a = "}, "where", "syntax error"),
        ({"where": "1; DROP TABLE t"}, "where", ";"),
        ({"where": "a = 'x"}, "where", "never closed"),
        ({"where": "1) OR (1"}, "where", ")"),
        ({"order_by": "id; DROP TABLE t"}, "order_by", ";"),
        ({"order_by": "id (("}, "order_by", "never closed"),
        ({"where": "a = 1", "order_by": "id; DROP TABLE t"}, "order_by", ";"),
    ],
)
def test_the_condition_and_order_of_a_reader_are_sql_and_no_more(sandbox: Sandbox, params: Document, below: str, words: str) -> None:
    report = errors(sandbox, after_hook(node_of("SimpleTableReader", {"table": "t"} | params)))
    assert_says(report, f"/nodes/1/params/{below}", "x", words)


def test_inputs_without_a_condition_have_nothing_to_be_bound_to(sandbox: Sandbox) -> None:
    report = errors(sandbox, after_hook(node_of("SimpleTableReader", {"table": "t"}, inputs=["1"])))
    assert_says(report, "/nodes/1/params/where", "x", "inputs")


@pytest.mark.parametrize("node", [lua(inputs=["1"]), node_of("Respond", {}, inputs=["1"])])
def test_a_node_that_takes_no_inputs_says_so(sandbox: Sandbox, node: Document) -> None:
    assert_says(errors(sandbox, after_hook(node)), "/nodes/1/inputs", node["id"], "takes no inputs")


# -- webhooks


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/a b", "character"),
        ("/a?b=1", "character"),
        ("/a#b", "character"),
        ("/a%20b", "character"),
        ("/a\\b", "character"),
        ("/a\n", "character"),
        ("/a//b", "empty segment"),
        ("/a/../b", '".."'),
        ("/./b", '"."'),
        ("/:", "does not name a part"),
        ("/:1a", "does not name a part"),
        ("/:a-b", "does not name a part"),
        ("/:id/x/:id", "stands twice"),
        ("/" + "a" * 1000, "1000"),
    ],
)
def test_the_path_of_a_webhook_can_be_a_path(sandbox: Sandbox, path: str, words: str) -> None:
    assert_says(errors(sandbox, chain(hook(path=path))), "/nodes/0/params/path", "hook", words)


@pytest.mark.parametrize("path", ["/", "", "grade", "/grade/", "/a/:b/c/:d_2", "/ünïcode", "/~a.b-c_d", "/a:b"])
def test_paths_of_webhooks_that_are_good(sandbox: Sandbox, path: str) -> None:
    assert errors(sandbox, chain(hook(path=path))) == []


@pytest.mark.parametrize("method", ["FETCH", "", "CONNECT", ["GET", "PST"], []])
def test_a_webhook_answers_methods_that_there_are(sandbox: Sandbox, method: Any) -> None:
    assert_says(errors(sandbox, chain(hook(method=method))), "/nodes/0/params/method", "hook", "method")


@pytest.mark.parametrize("method", ["get", "any", "ANY", ["GET", "post"], "PATCH"])
def test_methods_may_be_written_in_either_case(sandbox: Sandbox, method: Any) -> None:
    assert errors(sandbox, chain(hook(method=method))) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"path": "/a"}, {"path": "a/"}),
        ({"path": "/a"}, {"path": "/a", "method": "any"}),
        ({"path": "/a", "method": "ANY"}, {"path": "/a", "method": "GET"}),
        ({"path": "/a", "method": ["GET", "POST"]}, {"path": "/a", "method": ["PUT", "post"]}),
        ({"path": "/a/:x"}, {"path": "/a/:y"}),
    ],
)
def test_two_webhooks_with_one_address_are_an_error_that_names_the_first(sandbox: Sandbox, one: Document, other: Document) -> None:
    document = {"id": "w", "nodes": [hook("first", **one), hook("second", **other)]}
    assert_says(errors(sandbox, document), "/nodes/1/params/path", "second", '"first"')


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"path": "/a"}, {"path": "/a", "method": "GET"}),
        ({"path": "/a/b"}, {"path": "/a/:x"}),
        ({"path": "/a/:x"}, {"path": "/:x/a"}),
        ({"path": "/a"}, {"path": "/A"}),
        ({"path": "/a"}, {"path": "/a", "disabled": True}),
        ({"path": "/a", "disabled": True}, {"path": "/a"}),
    ],
)
def test_webhooks_that_differ_in_method_or_path_live_side_by_side(sandbox: Sandbox, one: Document, other: Document) -> None:
    assert errors(sandbox, {"id": "w", "nodes": [hook("first", **one), hook("second", **other)]}) == []


@pytest.mark.parametrize("name", ["a b", "a:b", "", "ä", "a\n"])
def test_a_header_needs_a_name_that_can_be_one(sandbox: Sandbox, name: str) -> None:
    report = errors(sandbox, after_hook(node_of("Respond", {"headers": {name: "x"}})))
    assert len(report) == 1
    assert report[0][0].startswith("/nodes/1/params/headers")
    assert "cannot be the name of a header" in report[0][2]


@pytest.mark.parametrize("name", ["Content-Length", "connection", "Transfer-Encoding"])
def test_headers_that_are_the_servers_own_cannot_be_set(sandbox: Sandbox, name: str) -> None:
    report = errors(sandbox, after_hook(node_of("Respond", {"headers": {name: "x"}})))
    assert "server's own" in report[0][2]


def test_a_status_that_is_text_is_an_expression(sandbox: Sandbox) -> None:
    assert_says(errors(sandbox, after_hook(node_of("Respond", {"status": "ok"}))), "/nodes/1/params/status", "x", '"ok"')
    assert errors(sandbox, after_hook(node_of("Respond", {"status": "{{ $json.ok and 200 or 404 }}"}))) == []
