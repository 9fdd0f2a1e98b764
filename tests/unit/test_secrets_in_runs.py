"""Secrets in runs: opened before any node acts, handed to the nodes that name them, and kept out of everything else."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any, ClassVar

import pytest

from mechaway_core.app import App
from mechaway_core.errors import NodeError
from mechaway_core.logs import JsonFormatter, TextFormatter
from mechaway_core.node import Context, Exits, Item, ItemNode, Items, Node, Response, param
from mechaway_core.record import Run
from mechaway_core.triggers import Call
from tests.conftest import MakeApp
from tests.told import told

CANARY = "c4nary/of the+coal=mine"
TOKEN = "t0ken-that-was-fetched"

FORMS = (JsonFormatter, TextFormatter)

acted: list[str] = []


class Acts(Node):
    """Do something in the world."""

    def run(self, items: Items, ctx: Context) -> Items:
        acted.append(ctx.node_id)
        return items


class Uses(Node):
    """Do something with a secret that tells of it in some way."""

    uses_secrets: ClassVar[str] = "what is told"
    exits: ClassVar[tuple[str, ...]] = ("main", "other")

    how: str = param("What to do.", "echo")
    auth: Any = param("More secrets.", None, secret=True, template=True)

    def run(self, items: Items, ctx: Context) -> Items | Exits:
        value = ctx.secrets[0]
        return getattr(self, self.how)(value, items, ctx)  # type: ignore[no-any-return]

    def echo(self, value: str, items: Items, ctx: Context) -> Items:
        return [{"said": value, value: [value, {"in": f"<{value}>"}], "length": len(value)}]

    def exits_by(self, value: str, items: Items, ctx: Context) -> Exits:
        return {"main": [value], "other": [{"x": value}]}

    def refuse(self, value: str, items: Items, ctx: Context) -> Items:
        raise NodeError(f"cannot connect with {value} today")

    def break_(self, value: str, items: Items, ctx: Context) -> Items:
        raise RuntimeError(f"broken by {value}")

    def tell(self, value: str, items: Items, ctx: Context) -> Items:
        ctx.log(f"logging in with {value}")
        return items

    def answer(self, value: str, items: Items, ctx: Context) -> Items:
        ctx.respond(Response(200, {"x-key": value}, {"key": value}))
        return items

    def script(self, value: str, items: Items, ctx: Context) -> Items:
        return [ctx.lua("log(data.key); return {seen = data.key, size = #data.key}", [{"key": value}])]

    def rendered(self, value: str, items: Items, ctx: Context) -> Items:
        return [ctx.render({"size": "{{ string.len($json.key) }}"}, {"key": value})]

    def derive(self, value: str, items: Items, ctx: Context) -> Items:
        ctx.hide(TOKEN)
        return [f"Bearer {TOKEN}"]

    def first(self, value: str, items: Items, ctx: Context) -> Items:
        known = [*ctx.secrets, *ctx.reveal(self.auth)]
        return [[text == expected for text, expected in zip(known, ["one", "two", "one"], strict=True)]]

    def both(self, value: str, items: Items, ctx: Context) -> Items:
        item = items[0]
        return [
            {
                "render then reveal": _sizes(ctx.reveal(ctx.render(self.auth, item))),
                "reveal then render": _sizes(ctx.render(ctx.reveal(self.auth), item)),
            }
        ]


def _sizes(values: dict[str, str]) -> dict[str, int]:
    return {key: len(text) for key, text in values.items()}


class UsesEach(ItemNode):
    """Give the secret back for each item, or fail for it."""

    uses_secrets: ClassVar[str] = "what is told"

    def run_item(self, item: Item, inputs: Any, ctx: Context) -> Items:
        if item.get("fail"):
            raise NodeError(f"no luck with {ctx.secrets[0]}")
        return [{"key": ctx.secrets[0]}]


@pytest.fixture(autouse=True)
def types(add_node_type: Callable[[type[Node]], None]) -> None:
    acted.clear()
    for node_type in (Acts, Uses, UsesEach):
        add_node_type(node_type)


def workflow(*nodes: dict[str, Any]) -> dict[str, Any]:
    chain = [{"id": "hook", "node_type": "Webhook", "params": {"path": "/", "method": "any"}}, *nodes]
    ids = [node["id"] for node in chain]
    return {"id": "w", "nodes": chain, "edges": [{"from": one, "to": two} for one, two in pairwise(ids)]}


def uses(how: str = "echo", *names: str, node_type: str = "Uses", **fields: Any) -> dict[str, Any]:
    params = {"how": how} if node_type == "Uses" else {}
    return {"id": "use", "node_type": node_type, "secrets": [f"$secret.{name}" for name in names or ("KEY",)], "params": params} | fields


def lua(script: str, node_id: str = "look") -> dict[str, Any]:
    return {"id": node_id, "node_type": "FunLogic", "params": {"script": script}}


def run(app: App, *nodes: dict[str, Any], items: Any = None) -> Run:
    app.put("default", workflow(*nodes))
    return app.start("default", "w", None, items)


@pytest.fixture
def app(make_app: MakeApp) -> App:
    app = make_app()
    app.put_secret("default", "KEY", CANARY)
    return app


# -- before a run


def test_a_missing_secret_fails_the_run_before_any_node_acts(app: App) -> None:
    done = run(app, {"id": "act", "node_type": "Acts"}, uses("echo", "KEY", "GONE", "LOST"))
    assert done.status == "failed"
    assert done.failure is not None
    assert (done.failure.kind, done.failure.node) == ("secret", "use")
    assert done.failure.message.startswith('node "use" cannot do its work: there are no secrets "GONE", "LOST" in project "default"')
    assert acted == []
    assert told(done, 10)["nodes"] == []
    app.put_secret("default", "GONE", "here")
    app.put_secret("default", "LOST", "found")
    assert run(app, {"id": "act", "node_type": "Acts"}, uses("echo", "KEY", "GONE", "LOST")).status == "succeeded"
    assert acted == ["act"]


def test_secrets_in_params_are_needed_too(app: App) -> None:
    done = run(app, uses(params={"auth": {"deep": ["$secret.GONE"]}}))
    assert done.failure is not None
    assert '"GONE"' in done.failure.message


def test_nodes_that_take_no_part_need_no_secrets(app: App) -> None:
    app.put("default", workflow(uses("echo", "GONE", disabled=True)))
    assert app.start("default", "w").status == "succeeded"


def test_a_secret_of_another_project_is_none(app: App) -> None:
    app.create_project("shop")
    app.create("shop", workflow(uses()))
    done = app.start("shop", "w")
    assert done.failure is not None
    assert 'in project "shop"' in done.failure.message
    assert "--project shop" in done.failure.message


def test_a_vault_that_does_not_open_fails_the_run_with_its_sentence(app: App, make_app: MakeApp) -> None:
    app.put("default", workflow(uses()))
    other = make_app(master_key="0" * 64)
    done = other.start("default", "w")
    assert done.failure is not None
    assert done.failure.kind == "secret"
    assert "locked with another master key (fingerprint " in done.failure.message
    assert done.status == "failed"


def test_a_change_counts_from_the_next_run(app: App) -> None:
    nodes = (uses(params={"how": "first", "auth": ["$secret.TWO", "$secret.KEY"]}),)
    app.put_secret("default", "TWO", "two")
    assert run(app, *nodes).output == [[False, True, False]]
    app.put_secret("default", "KEY", "one")
    assert run(app, *nodes).output == [[True, True, True]]


# -- what leaves a node


def nowhere(done: Run, *values: str) -> str:
    """The record as text, after making sure that no secret stands in it."""
    text = json.dumps(told(done, 1000), ensure_ascii=False)
    for value in values or (CANARY,):
        assert value not in text
    return text


def test_what_a_node_gives_is_clean_before_a_script_sees_it(app: App) -> None:
    done = run(
        app, uses(), lua("local keys = {} for key in pairs(data[1]) do keys[#keys + 1] = key end table.sort(keys) return {keys, data}")
    )
    nowhere(done)
    [keys, [item]] = done.output
    assert keys == ["[secret KEY]", "length", "said"]
    assert item == {"said": "[secret KEY]", "[secret KEY]": ["[secret KEY]", {"in": "<[secret KEY]>"}], "length": len(CANARY)}


def test_so_is_what_it_gives_by_several_exits(app: App) -> None:
    done = run(app, uses("exits_by"))
    nowhere(done)
    assert done.nodes[1].exits == {"main": ["[secret KEY]"], "other": [{"x": "[secret KEY]"}]}


def test_so_is_what_it_gives_item_by_item_and_why_it_failed(app: App) -> None:
    node = uses(node_type="UsesEach", on_error="continue")
    done = run(app, node, lua("return data"), items=[{}, {"fail": True}])
    nowhere(done)
    assert done.output[0] == {"key": "[secret KEY]"}
    assert done.output[1]["error"]["message"] == 'node "use": no luck with [secret KEY]'


def test_an_error_is_clean(app: App) -> None:
    done = run(app, uses("refuse"))
    nowhere(done)
    assert done.failure is not None
    assert done.failure.message == 'node "use": cannot connect with [secret KEY] today'


@pytest.mark.parametrize("form", FORMS)
def test_an_unexpected_error_is_clean_in_the_record_and_in_the_log(
    app: App, form: type[logging.Formatter], caplog: pytest.LogCaptureFixture
) -> None:
    done = run(app, uses("break_"))
    nowhere(done)
    assert done.failure is not None
    assert done.failure.kind == "internal"
    [record] = caplog.records
    line = form().format(record)
    assert "RuntimeError: broken by [secret KEY]" in line
    assert CANARY not in line


def test_log_lines_and_the_answer_are_clean(app: App) -> None:
    told = run(app, uses("tell"))
    nowhere(told)
    assert told.nodes[1].log == ["logging in with [secret KEY]"]
    answered = run(app, uses("answer"))
    nowhere(answered)
    assert answered.response == Response(200, {"x-key": "[secret KEY]"}, {"key": "[secret KEY]"})


def test_lua_sees_no_secret_even_when_a_node_hands_it_one(app: App) -> None:
    done = run(app, uses("script"))
    nowhere(done)
    assert done.output == [{"seen": "[secret KEY]", "size": len("[secret KEY]")}]
    assert done.nodes[1].log == ["[secret KEY]"]
    assert run(app, uses("rendered")).output == [{"size": len("[secret KEY]")}]


def test_what_was_derived_is_hidden(app: App) -> None:
    done = run(app, uses("derive"), lua("return data"))
    nowhere(done, CANARY, TOKEN)
    assert done.output == ["Bearer [secret]"]


def test_what_the_caller_sent_is_clean_as_well(app: App) -> None:
    """A caller shows who it is by a secret; no script needs to see that."""
    app.put("default", workflow(lua("return {headers.authorization, query.key, data}"), uses("tell")))
    call = Call(
        "POST",
        (),
        b"key=c4nary%2Fof+the%2Bcoal%3Dmine",
        [(b"authorization", f"Bearer {CANARY}".encode())],
        json.dumps({"key": CANARY}).encode(),
    )
    done = app.calls.answer("default", "w", call).run
    nowhere(done)
    assert done.output == ["Bearer [secret KEY]", "[secret KEY]", [{"key": "[secret KEY]"}]]


def test_a_text_of_an_item_is_never_taken_for_the_name_of_a_secret(app: App) -> None:
    """Whoever can send an item must not get a secret by its name, nor have a secret's value run as an expression."""
    app.put_secret("default", "BRACES", "{{ string.rep('x', 1000) }}")
    auth = {"mine": "$secret.BRACES", "sent": "{{ $json.x }}", "plain": "text"}
    done = run(app, uses(params={"how": "both", "auth": auth}), items=[{"x": "$secret.KEY"}])
    assert done.failure is None, done.failure
    sizes = {"mine": 27, "sent": len("$secret.KEY"), "plain": 4}
    assert done.output == [{"render then reveal": sizes, "reveal then render": sizes}]


def test_without_secrets_nothing_of_the_vault_is_imported_or_read(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app()

    def never(*_: Any) -> Any:
        raise AssertionError("the vault was asked")

    monkeypatch.setattr(app.vault, "values", never)
    assert run(app, lua("return 1")).status == "succeeded"


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_that_a_library_logs_after_the_run_is_still_left_out(app: App, form: type[logging.Formatter]) -> None:
    run(app, uses("tell"))
    record = logging.LogRecord("psycopg.pool", logging.WARNING, __file__, 1, "cannot connect: %s", (f"host=db password='{CANARY}'",), None)
    assert CANARY not in form().format(record)
    try:
        raise ValueError(CANARY)
    except ValueError:
        record.exc_info = sys.exc_info()
    assert CANARY not in form().format(record)
