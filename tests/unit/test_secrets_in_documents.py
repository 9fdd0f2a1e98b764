"""Where a document may name secrets, and what is said when it names them elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from mechaway_core.app import App, node_types
from mechaway_core.node import Context, Items, Node, param
from mechaway_core.workflow import Plan, compile_plan
from mechaway_core.workflow.shape import params_model


class Dial(Node):
    """Call somebody with a secret."""

    group: ClassVar[str] = "Test"
    uses_secrets: ClassVar[str] = "the number to dial"

    auth: Any = param("Who calls.", None, secret=True)
    headers: dict[str, str] = param("What else is said.", default_factory=dict, template=True, secret=True)
    note: Any = param("A plain text.", None)

    def run(self, items: Items, ctx: Context) -> Items:
        return items


@pytest.fixture(autouse=True)
def types(add_node_type: Callable[[type[Node]], None]) -> None:
    add_node_type(Dial)


def document(node: dict[str, Any], **more: Any) -> dict[str, Any]:
    shaped = {"id": "dial", "node_type": "Dial", "secrets": ["$secret.NUMBER"]} | node
    hook = {"id": "hook", "node_type": "Webhook", "params": {"path": "/"}}
    return {"id": "w", "nodes": [hook, shaped], "edges": [{"from": "hook", "to": "dial"}], **more}


def errors(app: App, node: dict[str, Any]) -> list[tuple[str, str]]:
    found, _ = app.validate(document(node))
    return [(problem.pointer.removeprefix("/nodes/1"), problem.message) for problem in found]


def test_secrets_name_secrets_in_order(app: App) -> None:
    assert errors(app, {"secrets": ["$secret.A", "$secret._b2", "$secret.A"]}) == []


@pytest.mark.parametrize(
    "entry",
    [
        "hunter22", "postgresql://app:hunter22@db/shop", "$secret.", "$secret.hunter22 ", " $secret.A", "$secret.1hunter22",
        "$secret.A.hunter22", '$secret["A"]', "{{ $secret.A }}", "$json.hunter22", "", 5, None, ["$secret.A"], {"hunter22": 1},
        "$secret.A\n", "$secret." + "A" * 129,
    ],
)  # fmt: skip
def test_anything_else_in_secrets_is_an_error_that_does_not_repeat_it(app: App, entry: Any) -> None:
    [(pointer, sentence)] = errors(app, {"secrets": ["$secret.A", entry]})
    assert pointer == "/secrets/1"
    assert sentence.startswith("secrets[1] must name a secret of the vault: $secret.NAME")
    assert "hunter22" not in sentence


def test_a_node_that_takes_no_secrets_says_so(app: App) -> None:
    lua = {"node_type": "FunLogic", "params": {"script": "return 1"}}
    assert errors(app, lua) == [("/secrets", "a FunLogic takes no secrets")]
    assert errors(app, lua | {"secrets": []}) == []
    assert errors(app, lua | {"secrets": None}) == []


@pytest.mark.parametrize("given", [None, []])
def test_a_node_that_needs_secrets_says_what_for(app: App, given: Any) -> None:
    assert errors(app, {"secrets": given}) == [("/secrets", 'a Dial needs `secrets`: ["$secret.NAME"], the number to dial')]


def test_secrets_of_the_wrong_shape_are_one_error(app: App) -> None:
    assert len(errors(app, {"secrets": "$secret.A"})) == 1


def test_a_param_that_takes_secrets_names_them_however_deep(app: App) -> None:
    params = {"auth": {"deep": ["$secret.A", {"user": "$secret.B", "plain": "text"}]}, "headers": {"x": "$secret.C", "y": "{{ $json.y }}"}}
    assert errors(app, {"params": params}) == []


@pytest.mark.parametrize("text", ["$secret.", "$secret.a-b", "$secret.hunter22!", "  $secret.A", "$secret.A.b"])
def test_what_begins_like_a_secret_in_such_a_param_must_be_one(app: App, text: str) -> None:
    [(pointer, sentence)] = errors(app, {"params": {"auth": {"a/b": [text]}}})
    assert pointer == "/params/auth/a~1b/0"
    assert sentence.startswith("auth must name a secret")
    assert "hunter22" not in sentence


@pytest.mark.parametrize("value", ["$secret.A", " $secret.A ", {"x": ["$secret.A"]}])
def test_a_plain_param_takes_no_secret(app: App, value: Any) -> None:
    [(pointer, sentence)] = errors(app, {"params": {"note": value}})
    assert pointer.startswith("/params/note")
    assert "takes no secret" in sentence


@pytest.mark.parametrize("expression", ["$secret.A", "1 .. $secret.A", '"{{" .. $secret.A'])
def test_no_expression_reaches_a_secret(app: App, expression: str) -> None:
    for node in (
        {"outputs": {"x": expression}},
        {"params": {"headers": {"x": f"{{{{ {expression} }}}}"}}},
        {"node_type": "SimpleTableQuery", "params": {"query": "SELECT ?"}, "inputs": [expression], "secrets": None},
        {"node_type": "Respond", "params": {"body": f"a {{{{ {expression} }}}}"}, "secrets": None},
    ):
        [(_, sentence)] = errors(app, node)
        assert sentence.startswith("$secret may only stand in `secrets` of a node")


def test_secrets_that_are_not_there_yet_are_warned_of_and_do_not_keep_it_from_being_saved(app: App) -> None:
    app.put_secret("default", "NUMBER", "value")
    wanted = document({"params": {"auth": "$secret.NEW"}, "secrets": ["$secret.NUMBER", "$secret.OTHER"]})
    _, warnings = app.validate(wanted)
    sentences = {problem.pointer: problem.message for problem in warnings}
    assert sentences == {
        "/nodes/1/params/auth": 'there is no secret "NEW" yet; runs fail until it is kept',
        "/nodes/1/secrets/1": 'there is no secret "OTHER" yet; runs fail until it is kept',
    }
    assert app.create("default", wanted).warnings == warnings
    app.create_project("shop")
    assert {problem.pointer for problem in app.create("shop", wanted).warnings} == {*sentences, "/nodes/1/secrets/0"}
    assert app.validate(wanted, "no-such-project")[0] == ()
    app.put_secret("default", "NEW", "value")
    app.put_secret("default", "OTHER", "value")
    assert app.update("default", "w", wanted).warnings == ()


def plan(node: dict[str, Any]) -> Plan:
    return compile_plan(document({"params": {}} | node))


def test_a_plan_knows_the_secrets_of_each_node_and_of_each_start() -> None:
    made = plan({"params": {"auth": {"x": ["$secret.B", "$secret.A"]}}, "secrets": ["$secret.C", "$secret.A"]})
    [hook, dial] = made.steps
    assert (hook.secrets, hook.needs) == ((), ())
    assert dial.secrets == ("C", "A")
    assert dial.needs == ("C", "A", "B")
    assert made.start(0).secrets == {"C": "dial", "A": "dial", "B": "dial"}


def test_a_node_that_is_switched_off_needs_no_secrets() -> None:
    assert plan({"disabled": True}).start(0).secrets == {}


def test_forms_and_lists_of_node_types_say_what_takes_secrets() -> None:
    schema = params_model(Dial).model_json_schema()["properties"]
    assert schema["auth"]["x-secret"] is True
    assert schema["headers"]["x-template"] is schema["headers"]["x-secret"] is True
    assert "x-secret" not in schema["note"]
    listed = {one["name"]: one["secrets"] for one in node_types()}
    assert listed["Dial"] == "the number to dial"
    assert listed["FunLogic"] is None
