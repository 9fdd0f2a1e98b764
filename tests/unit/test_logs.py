"""Lines of the log: their fields, their two forms, and that nothing in them breaks the form or tells a secret."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from mechaway_core import logs
from mechaway_core.app import App
from mechaway_core.logs import JsonFormatter, TextFormatter, about
from mechaway_core.node import Context, Items, Node
from mechaway_core.redact import remembered
from tests.nodes.doorstep import Doorstep

NASTY = 'first\nsecond\r\t"quoted" \\ \x1b[31m \x85 \u2028 ünïcödé 日本 \ud800 \x00 }{"level":"INFO"}'
CANARY = 'c4nary"of\nthe\\coal mine'

_numbers = count(1)


class Breaks(Node):
    """Break, in a thread of its own: it waits for something, as far as the engine knows."""

    waits = True

    def run(self, items: Items, ctx: Context) -> Items:
        raise RuntimeError(f"broken at {ctx.node_id}")


@pytest.fixture
def canary() -> str:
    """A secret's value that was used in this process."""
    value = f"{CANARY}-{next(_numbers)}"
    remembered.add({value: "KEY"})
    return value


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What is logged while the test runs, as lines of JSON."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    yield stream
    root.removeHandler(handler)


def lines(written: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.getvalue().split("\n")[:-1]]


def record(message: str, *args: object, error: BaseException | None = None, **fields: Any) -> logging.LogRecord:
    caught = None if error is None else (type(error), error, error.__traceback__)
    made = logging.LogRecord("mechaway.test", logging.ERROR, __file__, 1, message, args, caught)
    made.created = 1_764_108_603.25
    made.__dict__.update(fields)
    return made


def as_json(made: logging.LogRecord) -> dict[str, Any]:
    """The object of a line, after making sure that it is one line."""
    line = JsonFormatter().format(made)
    assert line.isprintable()
    line.encode()
    said: dict[str, Any] = json.loads(line)
    return said


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


# -- JSON


def test_a_line_of_json_has_the_keys_of_powertools_and_the_fields() -> None:
    said = as_json(record("run %s failed", "r1", **about(project="default", workflow_id="w", version=3, node_id=None)))
    assert said == {
        "timestamp": "2025-11-25T22:10:03.250Z",
        "level": "ERROR",
        "service": "mechaway",
        "logger": "mechaway.test",
        "message": "run r1 failed",
        "project": "default",
        "workflow_id": "w",
        "version": 3,
    }


def test_a_line_of_json_is_one_line_whatever_is_in_it() -> None:
    said = as_json(record("%s", NASTY, error=raised(ValueError(NASTY)), workflow_id=NASTY, project=["no", "text"], version=object()))
    assert said["message"] == NASTY
    assert said["workflow_id"] == NASTY
    assert said["project"] == "['no', 'text']"
    assert said["exception_name"] == "ValueError"
    assert said["exception"].startswith("Traceback (most recent call last):\n")


def test_what_is_not_a_field_of_ours_is_not_written() -> None:
    assert set(as_json(record("x", password="y", stack_info="Stack:\n  here"))) >= {"message", "stack"}
    assert "password" not in as_json(record("x", password="y"))


def test_values_that_do_not_fit_their_text_are_written_all_the_same(canary: str) -> None:
    """Python would print both on standard error, as they are."""
    said = as_json(record("%d of %s", canary))
    assert said["message"] == "%d of %s ('[secret KEY]',)"


def test_an_error_that_nobody_caught_here_has_no_traceback() -> None:
    made = record("x")
    made.exc_info = (None, None, None)
    assert "exception" not in as_json(made)


@pytest.mark.parametrize("form", [JsonFormatter, TextFormatter])
def test_neither_sentence_nor_fields_nor_traceback_tell_a_secret(form: type[logging.Formatter], canary: str) -> None:
    remembered.add({"8765309": "NUMBER"})
    error = raised(RuntimeError(f"cannot connect with {canary}"))
    made = record(f"no luck with {canary} and %s", canary, error=error, workflow_id=canary, project=f"p-{canary}", version=8765309)
    line = form().format(made)
    assert "c4nary" not in line
    assert "coal mine" not in line
    assert "8765309" not in line
    assert line.count("[secret KEY]") >= 5
    assert "[secret NUMBER]" in line


def test_a_secret_that_looks_like_a_piece_of_json_breaks_no_line() -> None:
    remembered.add({'","message":"': "PIECE", "workflow_id": "WORD"})
    said = as_json(record("x", workflow_id="w"))
    assert (said["message"], said["workflow_id"]) == ("x", "w")


# -- text


def test_a_line_of_text_names_the_fields_that_its_sentence_does_not() -> None:
    fields = about(project="default", workflow_id="w", run_id="r-1", node_id="n", version=3, request_id="abc")
    line = TextFormatter().format(record("run r-1 of workflow w in project default failed: no 3", **fields))
    assert line.endswith("ERROR mechaway.test: run r-1 of workflow w in project default failed: no 3 version=3 node_id=n request_id=abc")


def test_a_value_within_a_longer_word_does_not_count_as_named() -> None:
    assert TextFormatter().format(record("workflow grade-2", workflow_id="grade")).endswith(" workflow_id=grade")


def test_values_with_spaces_are_quoted() -> None:
    assert TextFormatter().format(record("x", project="a b=c")).endswith(' project="a b=c"')


def test_a_line_of_text_is_one_line_apart_from_its_traceback() -> None:
    plain = TextFormatter().format(record("%s", NASTY, workflow_id=NASTY))
    assert "\n" not in plain
    assert "\x1b" not in plain
    plain.encode()
    traced = TextFormatter().format(record("%s", NASTY, error=raised(ValueError(NASTY))))
    assert traced.split("\n")[1] == "Traceback (most recent call last):"
    assert "\x1b" not in traced
    traced.encode()


# -- the id of the request


def test_threads_that_work_for_a_request_know_its_id(app: App, add_node_type: Any, written: io.StringIO) -> None:
    add_node_type(Breaks)
    nodes = [{"id": "hook", "node_type": "Webhook", "params": {"path": "/"}}]
    nodes += [{"id": name, "node_type": "Breaks", "on_error": "continue"} for name in ("a", "b", "c")]
    app.put("default", {"id": "wide", "nodes": nodes, "edges": [{"from": "hook", "to": name} for name in ("a", "b", "c")]})
    step = Doorstep(app)
    for number in ("one", "two"):
        assert step.post("/webhook/wide/", headers={"x-request-id": number}).status_code == 200
    broken = [line for line in lines(written) if "failed unexpectedly" in line["message"]]
    assert [(line["request_id"], line["node_id"]) for line in sorted(broken, key=lambda one: (one["request_id"], one["node_id"]))] == [
        (number, name) for number in ("one", "two") for name in ("a", "b", "c")
    ]
    assert {line["exception_name"] for line in broken} == {"RuntimeError"}
    assert len({line["run_id"] for line in broken}) == 2
    assert {(line["workflow_id"], line["project"], line["version"]) for line in broken} == {("wide", "default", 1)}
    step.gateway.close()


def test_a_run_that_nobody_waits_for_knows_the_request_that_asked_for_it(app: App, written: io.StringIO) -> None:
    nodes = [{"id": "hook", "node_type": "Webhook", "params": {"path": "/"}}]
    nodes += [{"id": "work", "node_type": "FunLogic", "params": {"script": "error('no')"}}]
    app.put("default", {"id": "w", "nodes": nodes, "edges": [{"from": "hook", "to": "work"}]})
    token = logs.request_id.set(b"asked")
    app.start_elsewhere("default", "w")
    logs.request_id.reset(token)
    app.close()  # which waits for it
    [line] = [line for line in lines(written) if line["message"].startswith("run ")]
    assert (line["level"], line["request_id"], line["node_id"]) == ("ERROR", "asked", "work")


def test_outside_of_requests_there_is_none(written: io.StringIO) -> None:
    logging.getLogger("mechaway.test").error("x")
    assert "request_id" not in lines(written)[0]
    assert logs.request_id.get() is None


def test_what_a_line_was_told_counts_more_than_what_it_could_know() -> None:
    token = logs.request_id.set(b"served")
    try:
        assert as_json(record("x"))["request_id"] == "served"
        assert as_json(record("x", request_id="told"))["request_id"] == "told"
    finally:
        logs.request_id.reset(token)


def test_the_fields_are_none_of_those_that_python_has_itself() -> None:
    assert not set(logs.FIELDS) & set(logging.makeLogRecord({}).__dict__)
