"""What is said about Lua and the expressions of pins."""

from __future__ import annotations

from typing import Any

import pytest

from mechaway_core.sandbox import Sandbox
from tests.unit.workflow.documents import (
    after_hook,
    assert_has,
    assert_says,
    chain,
    edge,
    errors,
    hook,
    lua,
    node_of,
    writer,
)

# -- Lua and pins


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("return (", ["near"]),
        ("local a = 1\nlocal b = = 2\nreturn a", ["line 2", "'='"]),
        ("return data\nend", ["line 2", "'end'"]),
        ("goto nowhere", ["nowhere"]),
        ("local x <const> = 1; x = 2", ["x"]),
        ("return 'open", ["line 1"]),
        ("\n\n\n  if true then", ["line 4"]),
    ],
)
def test_lua_that_does_not_compile_is_named_with_its_line(sandbox: Sandbox, script: str, words: list[str]) -> None:
    assert_says(errors(sandbox, after_hook(lua(script=script))), "/nodes/1/params/script", "calc", "does not compile", *words)


@pytest.mark.parametrize("script", ["", "  \n "])
def test_an_empty_script_is_an_error(sandbox: Sandbox, script: str) -> None:
    assert_has(errors(sandbox, after_hook(lua(script=script))), "/nodes/1/params/script", "calc", "empty")


@pytest.mark.parametrize("script", ["data", "data.score * 2", "return data", "local a = 1\nreturn a", "-- nothing", "{a = 1}"])
def test_scripts_and_expressions_both_compile(sandbox: Sandbox, script: str) -> None:
    assert errors(sandbox, after_hook(lua(script=script))) == []


@pytest.mark.parametrize("script", [b"\x1bLua".decode("latin-1"), "return 1 -- \0", "return '\0'"])
def test_bytecode_and_strange_characters_in_a_script_are_no_surprise(sandbox: Sandbox, script: str) -> None:
    for where, node, _ in errors(sandbox, after_hook(lua(script=script))):
        assert (where, node) == ("/nodes/1/params/script", "calc")


@pytest.mark.parametrize(
    ("pin", "words"),
    [
        ("$jsn.a", "did you mean json"),
        ("$", "known"),
        ("published", 'did you mean the string "\\"published\\""?'),
        ("", "empty"),
        ("1\n2", "one line"),
        ("$json.a +", "does not compile"),
        ("hello world", "does not compile"),
        ("$run.nothing", "$run.id"),
        ("$node", "$node needs the id of a node"),
        ("$secret.KEY", "$secret"),
        ("'x' .. $secret.KEY", "$secret"),
        ("$nope.x .. 'a'", "$nope"),
    ],
)
def test_a_pin_that_does_not_parse_is_named_by_its_place(sandbox: Sandbox, pin: str, words: str) -> None:
    report = errors(sandbox, after_hook(writer(columns=["a", "b"], inputs=["1", pin])))
    assert_says(report, "/nodes/1/inputs/1", "save", words)


@pytest.mark.parametrize(
    "pin",
    ["$json", "$json.a[0]['odd key']", "$query.q", "$headers.content-type", "$path.id", "$run.id", "10", "null", '"x"', "[1]", "{}",
     "now()", "date('%Y')", "math.floor($json.a / 10)", "$json.a or 'none'", 5, None, {"a": 1}, [True]],
)  # fmt: skip
def test_pins_that_are_good(sandbox: Sandbox, pin: Any) -> None:
    assert errors(sandbox, after_hook(writer(columns=["a"], inputs=[pin]))) == []


def test_output_pins_are_looked_at_as_well(sandbox: Sandbox) -> None:
    report = errors(sandbox, after_hook(lua(outputs={"a/b": "1 +"})))
    assert_says(report, "/nodes/1/outputs/a~1b", "calc", "does not compile")
    assert_has(errors(sandbox, after_hook(lua(outputs=["$json.a", "1 + 1"]))), "/nodes/1/outputs", "calc", "paths")
    assert_has(errors(sandbox, after_hook(lua(outputs=["$json.a", "$query.a"]))), "/nodes/1/outputs", "calc", '"a"')
    assert errors(sandbox, after_hook(lua(outputs=["$json.a", "$query.b"]))) == []


def test_every_output_pin_that_does_not_parse_is_named_by_its_own_place(sandbox: Sandbox) -> None:
    report = errors(sandbox, after_hook(lua(outputs={"a": "$jsn", "b": "1", "c": "bare"})))
    assert_has(report, "/nodes/1/outputs/a", "calc", "$jsn")
    assert_has(report, "/nodes/1/outputs/c", "calc", "bare")
    assert len(report) == 2


def test_expressions_in_template_params_are_looked_at_however_deep_they_are(sandbox: Sandbox) -> None:
    body = {"a/b": ["{{ $json.ok }}", {"c": "x {{ 1 + }} y"}], "d~e": "{{ $jsn }}", "f": "{{ never closed"}
    report = errors(sandbox, after_hook(node_of("Respond", {"body": body})))
    assert_has(report, "/nodes/1/params/body/a~1b/1/c", "x", "does not compile")
    assert_has(report, "/nodes/1/params/body/d~0e", "x", "$jsn")
    assert_has(report, "/nodes/1/params/body/f", "x", "never closed")
    assert len(report) == 3


def test_a_node_path_may_only_look_back_along_the_edges(sandbox: Sandbox) -> None:
    beside = lua("beside")
    for wanted, words in (
        ("nope", "there is no node"),
        ("beside", "does not come before"),
        ("save", "does not come before"),
        ("later", "before"),
    ):
        document = {
            "id": "w",
            "nodes": [hook(), beside, writer(inputs=[f"$node.{wanted}.x"]), lua("later")],
            "edges": [edge("hook", "beside"), edge("hook", "save"), edge("save", "later")],
        }
        assert_says(errors(sandbox, document), "/nodes/2/inputs/0", "save", f"$node.{wanted}.x", words)


def test_an_unknown_node_in_a_path_is_named_with_the_nearest_one(sandbox: Sandbox) -> None:
    document = chain(hook("order-hook"), writer(inputs=["$node.order-hok.x"]))
    assert_says(errors(sandbox, document), "/nodes/1/inputs/0", "save", 'did you mean "order-hook"?')


def test_node_paths_are_found_in_lua_in_outputs_and_in_templates(sandbox: Sandbox) -> None:
    respond = node_of("Respond", {"body": "{{ $node.gone.a }}"}, outputs={"z": "($node.gone.b or 1) + 1"})
    report = errors(sandbox, after_hook(respond))
    assert_has(report, "/nodes/1/params/body", "x", '"gone"')
    assert_has(report, "/nodes/1/outputs/z", "x", '"gone"')
    assert errors(sandbox, chain(hook(), lua("a"), node_of("Respond", {"body": "{{ $node.hook.a }} {{ $node.a.b }}"}))) == []
