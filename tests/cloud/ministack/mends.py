"""What ministack 1.5.33 does unlike AWS, as far as Mechaway's template depends on it, mended in memory.

1. A `Body` of AWS::ApiGatewayV2::Api, which is what every HttpApi of SAM becomes, is ignored: no route, 404 on every path.
2. AWS::Lambda::Function loses its `DeadLetterConfig` (and what it has of file systems and networks), and cannot start when a variable
   of its environment is a number in the template.
3. Rules and schedules invoke a function once and forget it. On AWS that is an asynchronous invocation: tried again when it fails,
   and handed to the dead-letter queue in the end.
4. A rule invokes a function that has not permitted it. On AWS nothing arrives, silently.
5. EventBridge Scheduler hands `<aws.scheduler.scheduled-time>` and its like on as they stand. On AWS they become what they name.
6. It serves plain HTTP, as is fit on loopback, so a bucket that refuses plain connections would refuse all.
7. A `Ref` to an AWS::SecretsManager::Secret is its name, where AWS gives the ARN, which is what policies and functions need; and a
   generated one has punctuation in it although it was not to have any.
8. It answers OPTIONS itself although an API has no CORS of its own. On AWS it is a call like any other.
9. When it asks whether somebody may, it names rules and schedules otherwise than AWS does, so that no policy fits.
10. Functions run with the emulator's own interpreter and find its libraries. Here they get one of their own, with what the managed
   runtime has; what else they need has to be in their package or layer.
11. EventBridge Scheduler takes a schedule's expression as UTC, whatever its time zone.
12. Each attempt at an asynchronous event has a request id of its own. On AWS all attempts at one have the same.

Each mend wraps a function of ministack and leaves the rest to it. A ministack of another version is refused: somebody has to look first.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path
from string import punctuation
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

VERSION = "1.5.33"

METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "x-amazon-apigateway-any-method"})
KEPT = ("DeadLetterConfig", "FileSystemConfigs", "VpcConfig", "KmsKeyArn")

Handler = Callable[..., Any]


def mend() -> None:
    """Apply all of them to the ministack of this process, before it serves."""
    found = version("ministack")
    if found != VERSION:
        raise SystemExit(f"the mends are made for ministack {VERSION}, this is {found}: look at each, then change VERSION")
    import ministack.app  # noqa: F401 - it loads the services in the order they need

    _after_each("AWS::ApiGatewayV2::Api", _import_routes)
    _after_each("AWS::Lambda::Function", _keep_properties)
    _deliver_as_lambda_does()
    _take_loopback_for_encrypted()
    _know_secrets_by_arn()
    _hand_on_options()
    _name_rules_and_schedules()
    _run_functions_by_themselves()
    _keep_time_in_zones()
    _know_events_by_their_id()


def _after_each(resource_type: str, then: Callable[[str, Mapping[str, Any]], None]) -> None:
    """Call `then` with the physical id and the properties after each creation and each update of resources of a type."""
    from ministack.services.cloudformation import provisioners

    handlers: dict[str, Any] = provisioners._RESOURCE_HANDLERS[resource_type]
    create: Handler = handlers["create"]
    update: Handler = handlers["update"]

    def created(logical_id: str, props: Mapping[str, Any], stack: str) -> Any:
        made = create(logical_id, props, stack)
        then(made[0], props)
        return made

    def updated(physical_id: str, old: Mapping[str, Any], new: Mapping[str, Any], stack: str, logical_id: str | None = None) -> Any:
        made = update(physical_id, old, new, stack, logical_id=logical_id)
        then(made[0] if isinstance(made, tuple) else physical_id, new)
        return made

    handlers.update(create=created, update=updated)


# -- 1: the routes of an HTTP API


def _import_routes(api_id: str, props: Mapping[str, Any]) -> None:
    """What API Gateway does with an OpenAPI document: routes, their integrations, and CORS."""
    from ministack.services import apigateway

    body = props.get("Body")
    if not isinstance(body, Mapping):
        return
    apigateway._routes[api_id] = {}
    apigateway._integrations[api_id] = {}
    for path, operations in body.get("paths", {}).items():
        for method, operation in operations.items():
            if method in METHODS:
                _import_route(api_id, path, method, operation.get("x-amazon-apigateway-integration") or {})
    if cors := body.get("x-amazon-apigateway-cors"):
        apigateway._apis[api_id]["corsConfiguration"] = cors


def _import_route(api_id: str, path: str, method: str, integration: Mapping[str, Any]) -> None:
    from ministack.services import apigateway

    wanted = {
        "integrationType": str(integration.get("type", "aws_proxy")).upper(),
        "integrationUri": integration.get("uri", ""),
        "integrationMethod": integration.get("httpMethod", "POST"),
        "payloadFormatVersion": str(integration.get("payloadFormatVersion", "2.0")),
        "timeoutInMillis": int(integration.get("timeoutInMillis", 30_000)),
    }
    made = json.loads(apigateway._create_integration(api_id, wanted)[2])
    verb = "ANY" if method.startswith("x-") else method.upper()
    key = "$default" if path.strip("/") == "$default" else f"{verb} {path}"
    apigateway._create_route(api_id, {"routeKey": key, "target": f"integrations/{made['integrationId']}"})


# -- 2: properties of a function


def _keep_properties(name: str, props: Mapping[str, Any]) -> None:
    from ministack.services import lambda_svc

    function = lambda_svc._functions.get(name)
    if function is not None:
        config = function["config"]
        config.update({key: props[key] for key in KEPT if props.get(key)})
        variables = config.get("Environment", {}).get("Variables", {})
        variables.update({key: _as_text(value) for key, value in variables.items()})


def _as_text(value: Any) -> str:
    """What CloudFormation makes of a value where a text is expected."""
    return str(value).lower() if isinstance(value, bool) else str(value)


# -- 3 to 5: how rules and schedules reach a function


def _deliver_as_lambda_does() -> None:
    from ministack.services import eventbridge, lambda_svc

    invoke_target: Handler = eventbridge._invoke_target
    firing = threading.local()

    def invoke(target: Mapping[str, Any], event: Mapping[str, Any], source: Mapping[str, Any], *more: Any) -> None:
        firing.source = str(source.get("Arn", ""))
        invoke_target(_filled_in(target, firing.source), event, source, *more)

    def to_lambda(arn: str, payload: str) -> None:
        function, config, name = lambda_svc._get_func_record_for_ref(arn)
        if not (function and config):
            print(f"ministack: {firing.source} fired for {name}, which is not there", flush=True)
        elif _is_rule(firing.source) and not _permits(function["policy"], firing.source):
            print(f"ministack: {name} does not permit {firing.source} to invoke it", flush=True)
        else:
            lambda_svc.invoke_async_with_retry(lambda_svc._execution_record_for_config(function, config), json.loads(payload))

    eventbridge._invoke_target = invoke
    eventbridge._dispatch_to_lambda = to_lambda


def _filled_in(target: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    """A target whose input says when and for which schedule; rules know no such words."""
    if _is_rule(source) or "Input" not in target:
        return target
    words = {
        "scheduled-time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "schedule-arn": source,
        "execution-id": str(uuid4()),
        "attempt-number": "1",
    }
    text = target["Input"]
    for word, value in words.items():
        text = text.replace(f"<aws.scheduler.{word}>", value)
    return {**target, "Input": text}


def _is_rule(arn: str) -> bool:
    """Schedules of EventBridge Scheduler need no permission of the function: they come with a role."""
    return ":events:" in arn


def _permits(policy: Mapping[str, Any], source: str) -> bool:
    """Whether a function's policy lets EventBridge invoke it for the rule of this ARN."""
    return any(
        statement.get("Principal") == {"Service": "events.amazonaws.com"}
        and fnmatchcase(source, statement.get("Condition", {}).get("ArnLike", {}).get("AWS:SourceArn", "*"))
        for statement in policy["Statement"]
    )


# -- 6: what counts as an encrypted connection


def _take_loopback_for_encrypted() -> None:
    from ministack import app

    pin: Handler = app.pin_request_origin
    app.pin_request_origin = lambda address, _encrypted: pin(address, True)


# -- 7: secrets


def _know_secrets_by_arn() -> None:
    from ministack.services.cloudformation import provisioners

    handlers: dict[str, Any] = provisioners._RESOURCE_HANDLERS["AWS::SecretsManager::Secret"]
    create: Handler = handlers["create"]
    update: Handler = handlers["update"]
    delete: Handler = handlers["delete"]
    make_text: Handler = provisioners._sm_secret_string

    def created(*about: Any) -> tuple[str, Any]:
        _, attributes = create(*about)
        return attributes["Arn"], attributes

    def updated(arn: str, *about: Any, **more: Any) -> tuple[str, Any]:
        _, attributes = update(_name_of_secret(arn), *about, **more)
        return attributes["Arn"], attributes

    def without_punctuation(props: Mapping[str, Any]) -> Any:
        wish = props.get("GenerateSecretString") or {}
        if wish.get("ExcludePunctuation") in (True, "true"):
            props = {**props, "GenerateSecretString": {**wish, "ExcludeCharacters": punctuation}}
        return make_text(props)

    handlers.update(create=created, update=updated, delete=lambda arn, props: delete(_name_of_secret(arn), props))
    provisioners._sm_secret_string = without_punctuation


def _name_of_secret(arn: str) -> str:
    """Secrets Manager puts a dash and six characters behind the name."""
    return arn.split(":")[-1][:-7]


# -- 8: the method OPTIONS


def _hand_on_options() -> None:
    from ministack.services import apigateway

    execute: Handler = apigateway._handle_execute_in_scope
    invoke: Handler = apigateway._invoke_lambda_proxy

    async def executed(api_id: str, stage: str, path: str, method: str, *more: Any) -> Any:
        own = apigateway._apis.get(api_id, {}).get("corsConfiguration")
        # Ministack looks for exactly "OPTIONS"; what it hands on is in capitals again.
        return await execute(api_id, stage, path, method if own else method.replace("OPTIONS", "options"), *more)

    async def invoked(integration: Any, api_id: str, stage: str, path: str, method: str, *more: Any, **rest: Any) -> Any:
        return await invoke(integration, api_id, stage, path, method.upper(), *more, **rest)

    apigateway._handle_execute_in_scope = executed
    apigateway._invoke_lambda_proxy = invoked


# -- 9: the resources that policies speak of


def _name_rules_and_schedules() -> None:
    from ministack.core import iam_actions

    extract: Handler = iam_actions.extract_resource_arn

    def extracted(
        service: str, method: str, path: str, headers: Any, body: bytes, query: Mapping[str, Any], region: str, account: str, **more: Any
    ) -> str:
        arn = str(extract(service, method, path, headers, body, query, region, account, **more))
        if service == "events":
            rule = _field(body, "Rule")
            return f"arn:aws:events:{region}:{account}:rule/{rule}" if rule else arn.replace(":rule/default/", ":rule/")
        if service == "scheduler":
            group = _field(body, "GroupName") or "".join(query.get("groupName", ()))
            return arn.replace(":schedule/default/", f":schedule/{group or 'default'}/")
        return arn

    iam_actions.extract_resource_arn = extracted


def _field(body: bytes, name: str) -> str:
    """A text of a JSON object; empty when there is none."""
    try:
        return str(json.loads(body)[name])
    except (ValueError, KeyError, TypeError):
        return ""


# -- 10: what functions find


def _run_functions_by_themselves() -> None:
    from ministack.core import lambda_runtime

    runtime = Path(sys.prefix) / "runtime" / "bin" / "python"
    detect: Handler = lambda_runtime._detect_runtime_binary

    def of_python(name: str) -> tuple[str, str]:
        binary, worker = detect(name)
        return (str(runtime) if name.startswith("python") else binary), worker

    lambda_runtime._detect_runtime_binary = of_python


# -- 11: time zones of schedules


class _Zoned(str):
    """An expression that knows its zone."""

    zone: ZoneInfo


class _Fields(tuple[Any, ...]):
    """What an expression was read into, and its zone."""

    zone: ZoneInfo


def _keep_time_in_zones() -> None:
    from ministack.services import eventbridge, scheduler

    tick: Handler = scheduler._tick_schedules
    parse: Handler = eventbridge._parse_cron_fields
    next_fire: Callable[[Any, datetime], datetime | None] = eventbridge._cron_next_fire

    def ticked() -> None:
        for schedule in list(scheduler._schedules._data.values()):
            zoned = _Zoned(schedule["ScheduleExpression"])
            zoned.zone = ZoneInfo(schedule.get("ScheduleExpressionTimezone") or "UTC")
            schedule["ScheduleExpression"] = zoned
        tick()

    def parsed(expression: str) -> Any:
        fields = parse(expression)
        if fields is None or not isinstance(expression, _Zoned):
            return fields
        found = _Fields(fields)
        found.zone = expression.zone
        return found

    def fires(fields: Any, after: datetime) -> datetime | None:
        if not isinstance(fields, _Fields):
            return next_fire(fields, after)
        local = next_fire(fields, after.astimezone(fields.zone).replace(tzinfo=UTC))
        return local and local.replace(tzinfo=fields.zone).astimezone(UTC)

    scheduler._tick_schedules = ticked
    eventbridge._parse_cron_fields = parsed
    eventbridge._cron_next_fire = fires


# -- 12: attempts at one event


def _know_events_by_their_id() -> None:
    from ministack.services import lambda_svc

    invoke: Handler = lambda_svc.invoke_async_with_retry
    execute: Handler = lambda_svc._execute_function_dispatch
    event_id: ContextVar[str] = ContextVar("event_id", default="")

    def invoke_as_one(function: Any, event: Any) -> None:
        token = event_id.set(str(uuid4()))  # attempts are made in a copy of this context
        try:
            invoke(function, event)
        finally:
            event_id.reset(token)

    def attempt(function: Any, config: Any, event: Any, request_id: str, started: float) -> Any:
        return execute(function, config, event, event_id.get() or request_id, started)

    lambda_svc.invoke_async_with_retry = invoke_as_one
    lambda_svc._execute_function_dispatch = attempt
