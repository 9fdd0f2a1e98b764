"""Pins and templates: what is a path, what is JSON, what is Lua, and what each gives."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechaway_core import expressions, jsontext
from mechaway_core.errors import Malformed, ScriptError
from mechaway_core.expressions import Literal, Lua, Outputs, Path, Pins, parse, template
from mechaway_core.node import Item, Request, RunInfo
from mechaway_core.sandbox import Limits, LuaExpression, Sandbox

RUN = RunInfo("0190-run", "wf", "default", "2026-01-02T03:04:05.678Z", "webhook")
FILES = {"photo": {"handle": "file:1"}, "odd name": [{"size": 1}, {"size": 2}]}
REQUEST = Request("POST", {"page": "2", "tag": ["a", "b"]}, {"content-type": "text/plain", "x-id": "7"}, {"slug": "hello"}, FILES)


class Scope:
    run = RUN
    request: Request | None = REQUEST

    def first_item_of(self, node_id: str) -> Item:
        return {"hook": {"who": "ann"}, "my-node": 5}.get(node_id)

    def key(self, number: int) -> str:
        return f"key of {number}"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    sandbox = Sandbox(workers=1)
    yield sandbox
    sandbox.close()


@pytest.fixture
def value(sandbox: Sandbox) -> Any:
    def evaluate(needed: Sequence[LuaExpression], rows: Sequence[Sequence[Sequence[Any]]]) -> list[list[Any] | ScriptError]:
        return sandbox.evaluate(needed, rows, Limits())

    def value(text: Any, item: Any = None) -> Any:
        answer = Pins.parse([text]).evaluate([item], Scope(), evaluate)[0]
        if isinstance(answer, ScriptError):
            raise answer
        return answer[0]

    value.evaluate = evaluate  # type: ignore[attr-defined]
    return value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$json", {"a": {"b": 1}, "list": [{"x": True}, 2], "odd key": "o", 'q"t': 3, "a-b": 4, "n": None}),
        ("$json.a.b", 1),
        ("$json.list[0].x", True),
        ("$json.list[1]", 2),
        ("$json.list[2]", None),
        ('$json["odd key"]', "o"),
        ("$json['odd key']", "o"),
        ('$json["q\\"t"]', 3),
        ("$json.a-b", 4),
        ("$json.n", None),
        ("$json.n.deeper", None),
        ("$json.list.x", None),
        ("$json.nothing.at[3].all", None),
        ("  $json.a.b  ", 1),
        ("$query.page", "2"),
        ("$query.tag", ["a", "b"]),
        ("$headers.Content-Type", "text/plain"),
        ('$headers["X-Id"]', "7"),
        ("$path.slug", "hello"),
        ("$file.photo.handle", "file:1"),
        ('$file["odd name"][1].size', 2),
        ("$file.none.size", None),
        ("$node.hook.who", "ann"),
        ('$node["my-node"]', 5),
        ("$node.my-node", 5),
        ("$run.id", "0190-run"),
        ("$run.trigger", "webhook"),
        ("10", 10),
        ("-1.5e3", -1500.0),
        ("true", True),
        ("null", None),
        ('"text"', "text"),
        ('"$json.a"', "$json.a"),
        ("[1,2]", [1, 2]),
        ('{"a":1}', {"a": 1}),
        (10, 10),
        (None, None),
        ({"a": "$json.a"}, {"a": "$json.a"}),
    ],
)
def test_paths_and_json_never_enter_lua(text: Any, expected: Any) -> None:
    item = {"a": {"b": 1}, "list": [{"x": True}, 2], "odd key": "o", 'q"t': 3, "a-b": 4, "n": None}

    def no_lua(*_: Any) -> Any:
        raise AssertionError("this must not need Lua")

    assert Pins.parse([text]).evaluate([item], Scope(), no_lua) == [[expected]]


@pytest.mark.parametrize(
    ("text", "item", "expected"),
    [
        ("math.floor($json.score / 10)", {"score": 87}, 8),
        ("string.upper($json.name)", {"name": "ann"}, "ANN"),
        ("$json.name:upper()", {"name": "ann"}, "ANN"),
        ("$json.a + $json.a * $json.b", {"a": 2, "b": 5}, 12),
        ("$json.a-$json.b", {"a": 2, "b": 5}, -3),
        ("$json.a-1", {"a": 2}, 1),
        ("$json.list[0] .. '$json.list[0]' .. \"$x\"", {"list": ["v"]}, "v$json.list[0]$x"),
        ("[[ $json ]] .. $json.a", {"a": "b"}, " $json b"),
        ('$json["odd key"] .. "!"', {"odd key": "o"}, "o!"),
        ("#$json.list", {"list": [1, 2, 3]}, 3),
        ("$json.missing == nil", {}, True),
        ("$json.missing or 'default'", {}, "default"),
        ("{name = $json.name, tags = array{}}", {"name": "n"}, {"name": "n", "tags": []}),
        ("$headers.content-type .. $query.page", {}, "text/plain2"),
        ("$node.hook.who .. '!'", {}, "ann!"),
        ("hash('x')", {}, "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"),
        ("#uuid()", {}, 36),
        ("type(time())", {}, "number"),
        ("date('%Y', 0)", {}, "1970"),
        ("nil", {}, None),
        ("select('#', 1, 2)", {}, 2),
    ],
)
def test_anything_else_is_one_line_of_lua(value: Any, text: str, item: Any, expected: Any) -> None:
    assert isinstance(parse(text), Lua)
    assert value(text, item) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("published", 'did you mean the string "\\"published\\""?'),
        ("maths", 'did you mean "math", or the string'),
        ("", "empty"),
        ("a\nb", "one line"),
        ("$jsn.a", "did you mean json"),
        ("$nothing", "known are"),
        ("$run.nothing", "$run.workflow_id"),
        ("$run.nothing", "$run.key"),
        ("$node", "$node.ID"),
        ("$secret.KEY", "secret"),
        ("1 + $secret.KEY", "secret"),
        ("1 + $", "is not followed by a known name"),
        ("$ $json", "is not followed by a known name"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_sentence(text: str, words: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse(text)
    assert words in str(caught.value)


def test_the_same_path_is_passed_to_lua_once() -> None:
    pin = parse("$json.a + $json.a + $json.b")
    assert isinstance(pin, Lua)
    assert [path.text for path in pin.paths] == ["$json.a", "$json.b"]
    assert pin.expression.source == "p1 + p1 + p2"


def test_an_error_for_one_item_leaves_the_others_alone_and_speaks_of_the_users_words(value: Any) -> None:
    answers = Pins.parse(["$json.n + 1"]).evaluate([{"n": 1}, {"n": {}}, {"n": 3}], Scope(), value.evaluate)
    assert answers[0] == [2]
    assert answers[2] == [4]
    assert isinstance(answers[1], ScriptError)
    assert "$json.n" in str(answers[1])
    assert "p1" not in str(answers[1])


def test_a_run_without_a_request_has_null_for_its_parts() -> None:
    class Bare(Scope):
        request = None

    assert Pins.parse(["$query.page", "$headers.x", "$path.y"]).evaluate([{}], Bare(), lambda *_: []) == [[None, None, None]]


def test_the_key_of_the_run_is_one_for_each_item(value: Any) -> None:
    pins = Pins.parse(["$run.key", '$run["key"]', "$run.key .. '!'", "$run.key.x"])
    expected = [[f"key of {number}", f"key of {number}", f"key of {number}!", None] for number in (4, 5)]
    assert pins.evaluate([{}, {}], Scope(), value.evaluate, first=4) == expected
    assert Outputs.parse({"k": "$run.key"}).apply([{}, {}], Scope(), value.evaluate) == [{"k": "key of 0"}, {"k": "key of 1"}]
    assert expressions.render("{{ $run.key }}", {}, Scope(), value.evaluate, 7) == "key of 7"


def test_a_key_is_a_digest_of_run_node_and_number_and_a_run_may_keep_those_of_another() -> None:
    keys = {RUN.key(node_id, number) for node_id in ("a", "a1", "b") for number in range(20)}
    assert len(keys) == 60
    assert all(re.fullmatch("[0-9a-f]{32}", key) for key in keys)
    assert RUN._replace(id="other").key("a", 1) != RUN.key("a", 1)
    assert RUN._replace(id="other", keys=RUN.id).key("a", 1) == RUN.key("a", 1)
    assert "keys" not in RUN.as_json()


@pytest.mark.parametrize(
    ("text", "item", "expected"),
    [
        ("plain", {}, "plain"),
        ("{{ $json.n }}", {"n": 5}, 5),
        ("{{$json}}", {"n": 5}, {"n": 5}),
        ("n={{ $json.n }};", {"n": 5}, "n=5;"),
        ("{{ $json.a }}{{ $json.b }}", {"a": "x", "b": None}, "x"),
        ("{{ $json.o }}!", {"o": {"k": [1, True, None]}}, '{"k":[1,true,null]}!'),
        ("{{ {a = {1}} }}", {}, {"a": [1]}),
        ("{{ '}}' }}", {}, "}}"),
        ('{{ "{{" }}', {}, "{{"),
        ("a {{ 1 + 1 }} b", {}, "a 2 b"),
        ("} }} {", {}, "} }} {"),
    ],
)
def test_templates_keep_the_type_of_a_single_expression(value: Any, text: str, item: Any, expected: Any) -> None:
    assert expressions.render(text, item, Scope(), value.evaluate) == expected


def test_templates_are_rendered_however_deep_they_stand(value: Any) -> None:
    shape = {"a": ["{{ $json.x }}", {"b": "<{{ $json.x }}>"}], "c": 1, "d": "{{ $json.x + 1 }}"}
    assert expressions.render(shape, {"x": 1}, Scope(), value.evaluate) == {"a": [1, {"b": "<1>"}], "c": 1, "d": 2}


@pytest.mark.parametrize("text", ["{{ $json", "a {{ {a = 1 }}"])
def test_a_template_that_is_never_closed_is_refused(text: str) -> None:
    with pytest.raises(Malformed, match="never closed"):
        template(text)


def test_outputs_by_name_and_by_path(value: Any) -> None:
    item = {"a": {"b": 1}, "c": "x"}
    named = Outputs.parse({"one": "$json.a.b", "up": "string.upper($json.c)", "lit": 3})
    assert named.apply([item], Scope(), value.evaluate) == [{"one": 1, "up": "X", "lit": 3}]
    listed = Outputs.parse(["$json.a.b", "$json.c"])
    assert listed.apply([item, {}], Scope(), value.evaluate) == [{"b": 1, "c": "x"}, {"b": None, "c": None}]


@pytest.mark.parametrize("declared", [["1 + 1"], ["$json"], ["$json.a.x", "$json.b.x"]])
def test_a_list_of_outputs_holds_paths_with_different_names(declared: list[str]) -> None:
    with pytest.raises(Malformed, match="name → expression"):
        Outputs.parse(declared)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(json_values)
def test_json_text_is_itself(data: Any) -> None:
    text = jsontext.encode(data).decode()
    assert parse(text) == Literal(data)


@given(st.lists(st.text(min_size=1).filter(lambda key: "\n" not in key and "\r" not in key), min_size=1, max_size=4), json_values)
def test_every_key_can_be_reached_in_brackets(keys: list[str], leaf: Any) -> None:
    item = leaf
    for key in reversed(keys):
        item = {key: item}
    text = "$json" + "".join(f"[{jsontext.encode(key).decode()}]" for key in keys)
    pin = parse(text)
    assert isinstance(pin, Path)
    assert pin.parts == tuple(keys)
    assert expressions.value_of(pin, item, Scope()) == leaf


@given(st.text())
def test_no_text_makes_the_parser_fail_in_another_way(text: str) -> None:
    for job in (parse, template):
        with contextlib.suppress(Malformed):
            job(text)
