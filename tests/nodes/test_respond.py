"""Respond: what the caller of a webhook gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from mechaway_core.errors import Invalid
from mechaway_core.node import Context, Items, Node, Response
from tests.nodes.bench import Bench, Document, node
from tests.told import told


def answer(bench: Bench, *nodes: Document, items: Any = None) -> Response:
    run = bench.run(*nodes, items=items)
    assert run.failure is None, run.failure
    assert run.response is not None
    return run.response


def test_by_itself_it_answers_the_first_item_with_200(bench: Bench) -> None:
    assert answer(bench, node("Respond"), items=[{"a": 1}, {"a": 2}]) == Response(200, {}, {"a": 1})


def test_without_items_it_answers_null(bench: Bench) -> None:
    assert answer(bench, node("Respond"), items=[]) == Response(200, {}, None)


def test_items_pass_through_it_unchanged(bench: Bench) -> None:
    assert bench.gives(node("Respond", status=201, body="x"), items=[{"a": 1}, 2]) == [{"a": 1}, 2]


def test_status_headers_and_body_are_templates_for_the_first_item(bench: Bench) -> None:
    respond = node(
        "Respond",
        status="{{ $json.ok and 200 or 404 }}",
        headers={"Location": "/posts/{{ $json.id }}", "X-Count": "{{ $json.n }}"},
        body={"id": "{{ $json.id }}", "list": ["{{ $json.n }}", "n = {{ $json.n }}"], "plain": 5},
    )
    expected = Response(404, {"location": "/posts/7", "x-count": "2"}, {"id": 7, "list": [2, "n = 2"], "plain": 5})
    assert answer(bench, respond, items=[{"ok": False, "id": 7, "n": 2}, {"ok": True}]) == expected


@pytest.mark.parametrize("body", [None, "text", "", 5, [], {}, False, {"a": None}])
def test_the_body_may_be_any_json_value(bench: Bench, body: Any) -> None:
    assert answer(bench, node("Respond", body=body), items=[{}]).body == body


@pytest.mark.parametrize(("status", "expected"), [(200, 200), (599, 599), ("201", 201), (204.0, 204)])
def test_a_status_may_be_given_as_text_or_whole_number(bench: Bench, status: Any, expected: int) -> None:
    assert answer(bench, node("Respond", status="{{ $json.s }}"), items=[{"s": status}]).status == expected


@pytest.mark.parametrize("status", [199, 600, "ok", None, True, [200], 200.5, "-200", "２００"])
def test_what_is_no_status_fails_and_names_the_node(bench: Bench, status: Any) -> None:
    message = bench.fails(node("Respond", id="say", status="{{ $json.s }}"), items=[{"s": status}])
    assert 'node "say"' in message
    assert "not a status from 200 to 599" in message


@pytest.mark.parametrize("value", ["a\r\nset-cookie: x=1", "a\nb", "a\0b", "\x7f", "日本"])
def test_a_header_cannot_be_made_to_hold_another(bench: Bench, value: str) -> None:
    message = bench.fails(node("Respond", id="say", headers={"x-a": "{{ $json.v }}"}), items=[{"v": value}])
    assert 'node "say"' in message
    assert '"x-a"' in message


@pytest.mark.parametrize(("value", "expected"), [(5, "5"), (True, "true"), (None, ""), ([1], "[1]"), ("ü", "ü"), ("a\tb", "a\tb")])
def test_a_header_is_text_whatever_the_value_was(bench: Bench, value: Any, expected: str) -> None:
    assert answer(bench, node("Respond", headers={"x-a": "{{ $json.v }}"}), items=[{"v": value}]).headers == {"x-a": expected}


def test_when_several_ran_the_last_one_counts(bench: Bench) -> None:
    assert answer(bench, node("Respond", id="one", body=1), node("Respond", id="two", body=2)).body == 2


def test_it_can_speak_of_what_other_nodes_gave(bench: Bench) -> None:
    nodes = [node("FunLogic", id="calc", script="return {n = 2}"), node("Respond", body="{{ $node.hook.n }} then {{ $node.calc.n }}")]
    assert answer(bench, *nodes, items=[{"n": 1}]).body == "1 then 2"


def test_lua_that_fails_in_a_template_fails_the_node(bench: Bench) -> None:
    message = bench.fails(node("Respond", id="say", body="{{ $json.a.b .. 'x' }}"), items=[{}])
    assert 'node "say"' in message
    assert "$json.a.b" in message


# -- files


class Keep(Node):
    """Keep a file of the run and give what is known about it."""

    group: ClassVar[str] = "Test"

    def run(self, items: Items, ctx: Context) -> Items:
        return [ctx.files.write("../ä.txt", "text/plain", [b"ab", b"c"]).as_json()]


@pytest.fixture
def keep(add_node_type: Callable[[type[Node]], None]) -> Document:
    add_node_type(Keep)
    return node("Keep")


@pytest.mark.parametrize(
    ("file", "filename", "content_type"),
    [("{{ $json }}", "ä.txt", "text/plain"), ("{{ $json.handle }}", "", "application/octet-stream")],
)
def test_it_answers_a_file_by_its_object_or_its_handle(bench: Bench, keep: Document, file: str, filename: str, content_type: str) -> None:
    said = answer(bench, keep, node("Respond", file=file, status=201))
    assert said.file is not None
    assert (said.status, said.body) == (201, None)
    assert (said.file.filename, said.file.content_type, said.file.size) == (filename, content_type, 3)
    with bench.app.open_file(bench.project, said.file.handle) as opened:
        assert opened.read() == b"abc"


def test_the_record_of_the_run_tells_which_file_it_was(bench: Bench, keep: Document) -> None:
    record = told(bench.run(keep, node("Respond", file="{{ $json }}")), 10)
    assert record["response"]["file"] == record["output"][0]


def test_what_an_item_says_about_a_file_is_not_believed(bench: Bench, keep: Document) -> None:
    lie = "{handle = $json.handle, filename = 'a/b\\r\\nc', content_type = 'x\\r\\ny: z', size = 10}"
    said = answer(bench, keep, node("Respond", file=f"{{{{ {lie} }}}}"))
    assert said.file is not None
    assert (said.file.filename, said.file.content_type, said.file.size) == ("bc", "application/octet-stream", 3)


@pytest.mark.parametrize(
    "value", [None, 5, "", "x", "file:x", {}, [], {"handle": 5}, "file:00000000-0000-0000-0000-000000000000/" + "0" * 32]
)
def test_what_names_no_file_fails_the_node(bench: Bench, value: Any) -> None:
    message = bench.fails(node("Respond", id="say", file="{{ $json.f }}"), items=[{"f": value}])
    assert 'node "say"' in message
    assert "file" in message


def test_a_body_and_a_file_together_are_refused(bench: Bench) -> None:
    with pytest.raises(Invalid, match="a body or a file"):
        bench.put(node("Respond", body="x", file="{{ $file.x }}"))


def test_a_run_that_fails_after_it_answers_nothing_of_it(bench: Bench) -> None:
    run = bench.run(node("Respond", body="fine"), node("FunLogic", script="error('no')"))
    assert run.status == "failed"
    assert run.response is None
