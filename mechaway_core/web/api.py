"""Everything under `/api`, `/docs` and `/openapi.json`: FastAPI, one sentence per route. The thinking is in `app.py`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Header, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException

from mechaway_core import __version__, jsontext
from mechaway_core.access.scopes import SCOPES
from mechaway_core.app import DEFAULT_PROJECT, App, Saved, node_types
from mechaway_core.errors import Invalid, MechawayError, NotFound, Problem
from mechaway_core.storage import Entry
from mechaway_core.web import moving, problems, records
from mechaway_core.web.bodies import Limit, Project, json_body, json_response, read_object
from mechaway_core.web.problems import Answer
from mechaway_core.web.threads import Threads
from mechaway_core.web.transfers import UNTIL
from mechaway_core.workflow.shape import EdgeShape, NodeShape, WorkflowShape

_ABOUT = """Workflows as JSON documents: save them, run them, look at what they hold.

Every route also exists under `/p/{project}`; without that prefix it means the project `default`. Every error is
`application/problem+json` with `type`, `title`, `status`, `detail` and, where they apply, `errors`, `run_id` and `node_id`.

Where the server has a token, calls show it, or the key of a project with the scope that a route asks for: `Authorization: Bearer …`."""

_PROBLEM = {
    "description": "A problem, told in one sentence.",
    "content": {problems.CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_DOCUMENT = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [
                        {"type": "object", "properties": {"workflow": {"$ref": "#/components/schemas/Workflow"}}, "required": ["workflow"]},
                        {"$ref": "#/components/schemas/Workflow"},
                    ]
                }
            }
        },
    }
}


_RUN_BODY = json_body(
    {
        "type": "object",
        "properties": {
            "node": {"type": "string", "description": "The trigger to start at; the first when left out."},
            "items": {"type": "array", "items": {}, "description": "What the trigger gives; one empty object when left out."},
        },
        "additionalProperties": False,
        "examples": [{"items": [{"student_id": "s124", "score": 60}]}],
    },
    required=False,
)
_BACKFILL_BODY = json_body(
    {
        "type": "object",
        "properties": {
            "from": {"type": "string", "description": "The first time, in ISO 8601; without an offset in the zone of the schedule."},
            "to": {"type": "string", "description": "The time before which it ends; not in the future."},
            "node": {"type": "string", "description": "The trigger; needed when the workflow has several with a schedule."},
            "dry_run": {"type": "boolean", "default": True, "description": "Only tell; false begins the runs."},
        },
        "required": ["from", "to"],
        "additionalProperties": False,
        "examples": [{"from": "2026-11-01T00:00:00", "to": "2026-11-08T00:00:00", "dry_run": True}],
    }
)
_PROJECT_BODY = json_body(
    {
        "type": "object",
        "properties": {"slug": {"type": "string", "description": "Small letters, digits and '-'; 63 at most."}},
        "required": ["slug"],
        "additionalProperties": False,
        "examples": [{"slug": "shop"}],
    }
)

_KEY_BODY = json_body(
    {
        "type": "object",
        "properties": {
            "project": {"type": "string", "description": "The project of the key; that of the address when left out."},
            "name": {"type": "string", "maxLength": 100, "description": "What the key is for."},
            "scopes": {"type": "array", "items": {"type": "string", "enum": list(SCOPES)}, "minItems": 1, "description": "What it opens."},
            "expires": {"type": "string", "format": "date-time", "description": "When it ends; never when left out."},
        },
        "required": ["name", "scopes"],
        "additionalProperties": False,
        "examples": [{"project": "shop", "name": "build robot", "scopes": ["read", "run"], "expires": "2030-01-31T00:00:00Z"}],
    }
)

_TOKEN = {"type": "http", "scheme": "bearer", "description": "The server's token (MECHAWAY_API_TOKEN), or the key of a project."}

_SECRET_BODY = json_body(
    {
        "type": "object",
        "properties": {"value": {"type": "string", "writeOnly": True, "minLength": 1, "description": "Text of 64 KB at most."}},
        "required": ["value"],
        "additionalProperties": False,
        "examples": [{"value": "postgresql://shop:password@db.example.com/shop"}],
    }
)


class _Anything(Convertor[str]):
    """The rest of a path, slashes and line breaks included, so that a wrong name is told what is wrong with it."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("anything", _Anything())

WorkflowId = Annotated[str, Path(description="The id of a workflow.")]
SecretName = Annotated[str, Path(description="The name of a secret: a letter or '_', then letters, digits and '_'; 128 at most.")]
Number = Annotated[int, Path(description="The number of a version.")]
Slug = Annotated[str, Path(description="The slug of a project.")]
KeyId = Annotated[str, Path(description="The id of a key, as its list shows it.")]
Cursor = Annotated[str, Query(description="What the page before gave as `next`.")]
Before = Annotated[int | None, Query(description="Only versions below this number.")]
TableName = Annotated[str, Path(description="The name of a table.")]
RowCursor = Annotated[int, Query(ge=0, description="What the page before gave as `next`.")]
IfMatch = Annotated[str | None, Header(description="Only when the workflow still has this ETag.")]
IfNoneMatch = Annotated[str | None, Header(description="Only when the workflow has another ETag.")]


def _root(request: Request) -> str:
    """What stands in front of all addresses here, such as the stage of an API Gateway; mostly nothing."""
    return str(request.scope.get("root_path", ""))


def make_api(app: App, threads: Threads) -> FastAPI:
    """The API over an app. `threads` are those that runs happen in."""
    api = FastAPI(
        title="Mechaway",
        version=__version__,
        description=_ABOUT,
        servers=[
            {"url": "/", "description": "The project default"},
            {"url": "/p/{project}", "description": "Another project", "variables": {"project": {"default": DEFAULT_PROJECT}}},
        ],
        responses={"default": _PROBLEM},
        redirect_slashes=False,
    )
    router = _routes(app, threads)
    api.include_router(router, prefix="/api")
    api.include_router(router, prefix="/p/{project}/api", include_in_schema=False)
    api.add_exception_handler(MechawayError, _failed)
    api.add_exception_handler(Exception, _failed)
    api.add_exception_handler(HTTPException, _refused)
    api.add_exception_handler(RequestValidationError, _unfit)
    _describe(api)
    return api


def _routes(app: App, threads: Threads) -> APIRouter:
    router = APIRouter()

    @router.post("/workflows", status_code=201, tags=["workflows"], openapi_extra=_DOCUMENT)
    async def create_workflow(project: Project, request: Request) -> Response:
        """Save a new workflow."""
        document = await _document(request)
        saved = await run_in_threadpool(app.create, project, document)
        where = f"{str(request.url.path).rstrip('/')}/{saved.entry.document['id']}"
        return _saved(saved, 201, "created", {"location": where})

    @router.get("/workflows", tags=["workflows"])
    async def list_workflows(project: Project, limit: Limit = 100, cursor: Cursor = "") -> Response:
        """The workflows of a project in the order of their ids; `cursor` is what the page before gave as `next`."""
        found = await run_in_threadpool(app.find, project, cursor, limit + 1)
        page = found[:limit]
        return json_response({"workflows": page, "next": page[-1]["id"] if len(found) > limit else None})

    @router.get("/workflows/{workflow_id}", tags=["workflows"])
    async def get_workflow(project: Project, workflow_id: WorkflowId, if_none_match: IfNoneMatch = None) -> Response:
        """The document of a workflow, in canonical form."""
        entry = await run_in_threadpool(app.get, project, workflow_id)
        if if_none_match is not None and _weakly_matches(entry.etag, if_none_match):
            return Response(status_code=304, headers={"etag": entry.etag})
        return _entry(entry)

    @router.put("/workflows/{workflow_id}", tags=["workflows"], openapi_extra=_DOCUMENT)
    async def update_workflow(project: Project, workflow_id: WorkflowId, request: Request, if_match: IfMatch = None) -> Response:
        """Save a new version of a workflow; the id in the address wins over the one in the document."""
        document = await _document(request)
        saved = await run_in_threadpool(app.update, project, workflow_id, document, _tags(if_match))
        return _saved(saved, 200, "updated")

    @router.delete("/workflows/{workflow_id}", tags=["workflows"])
    async def delete_workflow(project: Project, workflow_id: WorkflowId, if_match: IfMatch = None) -> Response:
        """Delete a workflow with its history."""
        await run_in_threadpool(app.delete, project, workflow_id, _tags(if_match))
        return json_response({"message": f'workflow "{workflow_id}" deleted'})

    @router.get("/workflows/{workflow_id}/versions", tags=["workflows"])
    async def list_versions(project: Project, workflow_id: WorkflowId, limit: Limit = 100, before: Before = None) -> Response:
        """The versions of a workflow, newest first; `before` lists those below a number."""
        return json_response({"versions": await run_in_threadpool(app.versions, project, workflow_id, before, limit)})

    @router.get("/workflows/{workflow_id}/versions/{number}", tags=["workflows"])
    async def get_version(project: Project, workflow_id: WorkflowId, number: Number) -> Response:
        """The document of one version."""
        entry = await run_in_threadpool(app.version, project, workflow_id, number)
        return json_response(entry.document)

    @router.post("/workflows/{workflow_id}/versions/{number}/restore", tags=["workflows"])
    async def restore_version(project: Project, workflow_id: WorkflowId, number: Number) -> Response:
        """Save an old version again as the newest."""
        saved = await run_in_threadpool(app.restore, project, workflow_id, number)
        return _saved(saved, 200, f"version {number} restored")

    @router.post("/workflows/{workflow_id}/run", tags=["runs"], openapi_extra=_RUN_BODY)
    async def run_workflow(project: Project, workflow_id: WorkflowId, request: Request) -> Response:
        """Run a workflow by hand and wait for its end; answers the record of the run, whether it succeeded or not."""
        wish = await read_object(request, ("node", "items"), needed=False)
        node = wish.get("node")
        if node is not None and not isinstance(node, str):
            raise Invalid("node must be the id of a trigger")
        timeout = app.calls.left(request.scope.get(UNTIL))
        record = await threads.run(lambda: app.start_and_show(project, workflow_id, node, wish.get("items"), timeout))
        return json_response(record, headers={"mechaway-run-id": record["run_id"]})

    @router.post("/validate", tags=["workflows"], openapi_extra=_DOCUMENT)
    async def validate(project: Project, request: Request) -> Response:
        """Everything that is wrong with a document, and what there is to warn of, without saving it."""
        errors, warnings = await run_in_threadpool(app.validate, await _document(request), project)
        return json_response({"errors": problems.problems(errors), "warnings": problems.problems(warnings)})

    @router.get("/node-types", tags=["nodes"])
    async def list_node_types() -> Response:
        """Every node type: help, exits, what `inputs` and `secrets` mean to it, and the JSON Schema of its params.

        In a schema `x-template` marks a param that may hold `{{ expression }}`, `x-secret` one that takes `$secret.NAME`."""
        return json_response({"node_types": await run_in_threadpool(node_types)})

    @router.get("/tables", tags=["tables"])
    async def list_tables(project: Project) -> Response:
        """The tables of a project."""
        found = await run_in_threadpool(app.tables, project)
        return json_response(
            {"tables": [{"name": t.name, "columns": [{"name": c.name, "type": c.type} for c in t.columns], "rows": t.rows} for t in found]}
        )

    @router.get("/tables/{table}/rows", tags=["tables"])
    async def list_rows(project: Project, table: TableName, limit: Limit = 100, cursor: RowCursor = 0) -> Response:
        """Rows of a table in the order they were made; `cursor` is what the page before gave as `next`."""
        page = await run_in_threadpool(app.rows, project, table, cursor, limit)
        return json_response({"table": table, "columns": page.columns, "rows": page.rows, "next": page.next})

    _secret_routes(router, app)
    _schedule_routes(router, app)
    records.add_routes(router, app, threads)

    @router.get("/projects", tags=["projects"])
    async def list_projects(request: Request) -> Response:
        """Every project; with a project's key its own."""
        key = request.scope.get("mechaway.key")
        slugs = await run_in_threadpool(app.projects.list) if key is None else [key.project]
        return json_response({"projects": [{"slug": slug} for slug in slugs]})

    @router.post("/projects", status_code=201, tags=["projects"], openapi_extra=_PROJECT_BODY)
    async def create_project(request: Request) -> Response:
        """Make a project."""
        wish = await read_object(request, ("slug",))
        slug = wish.get("slug")
        if not isinstance(slug, str):
            raise Invalid("slug must be a text", [Problem("/slug", "slug is missing or not a text")])
        await run_in_threadpool(app.create_project, slug)
        return json_response(
            {"slug": slug, "message": f'project "{slug}" created'}, 201, {"location": f"{_root(request)}/p/{slug}/api/workflows"}
        )

    @router.get("/projects/{slug}", tags=["projects"])
    async def get_project(slug: Slug) -> Response:
        """One project."""
        if not await run_in_threadpool(app.projects.exists, slug):
            raise NotFound(f'there is no project "{slug[:80]}"')
        return json_response({"slug": slug})

    @router.delete("/projects/{slug}", tags=["projects"])
    async def delete_project(slug: Slug) -> Response:
        """Delete a project with all it holds: workflows, tables, secrets, keys and files."""
        await run_in_threadpool(app.delete_project, slug)
        return json_response({"message": f'project "{slug}" deleted'})

    moving.add_routes(router, app)
    _access_routes(router, app)
    return router


def _access_routes(router: APIRouter, app: App) -> None:
    """What only the admin may ask: keys, and who was not let in."""

    @router.post("/keys", status_code=201, tags=["access"], openapi_extra=_KEY_BODY)
    async def create_key(project: Project, request: Request) -> Response:
        """Make a key of a project. This answer is the only one that shows it."""
        wish = await read_object(request, ("project", "name", "scopes", "expires"))
        slug = wish.get("project", project)
        if not isinstance(slug, str):
            raise Invalid("project must be a text", [Problem("/project", "project is not the slug of a project")])
        key, text = await run_in_threadpool(app.create_key, slug, wish.get("name"), wish.get("scopes"), wish.get("expires"))
        return json_response({**key.as_json(), "key": text}, 201, {"location": f"{_root(request)}/p/{slug}/api/keys/{key.id}"})

    @router.get("/keys", tags=["access"])
    async def list_keys(project: Project, limit: Limit = 100, cursor: Cursor = "") -> Response:
        """The keys of a project, by how they begin; `cursor` is what the page before gave as `next`."""
        found = await run_in_threadpool(app.keys, project, cursor, limit + 1)
        page = found[:limit]
        return json_response({"keys": [key.as_json() for key in page], "next": page[-1].id if len(found) > limit else None})

    @router.delete("/keys/{key_id}", tags=["access"])
    async def revoke_key(project: Project, key_id: KeyId) -> Response:
        """Make a key of a project worthless, at once."""
        await run_in_threadpool(app.revoke_key, project, key_id)
        return json_response({"message": f'key "{key_id}" revoked'})

    @router.get("/access/refusals", tags=["access"])
    async def list_refusals() -> Response:
        """How many calls were not let in, by reason, since this process began; each of several processes counts its own."""
        return json_response(app.door.refusals.as_json())


def _schedule_routes(router: APIRouter, app: App) -> None:
    """Add the routes of schedules."""

    @router.get("/schedules", tags=["schedules"])
    async def list_schedules(project: Project, limit: Limit = 100, cursor: Cursor = "") -> Response:
        """When the workflows of a project are due next, what became of the last time, and how many times were missed.

        `overdue` says that a run should have begun by now; `kept` that there is something that keeps the time, `rules` its names in AWS."""
        found, following = await run_in_threadpool(app.schedules, project, cursor, limit)
        return json_response({"schedules": found, "next": following})

    @router.post("/workflows/{workflow_id}/backfill", tags=["schedules"], openapi_extra=_BACKFILL_BODY)
    async def backfill(project: Project, workflow_id: WorkflowId, request: Request) -> Response:
        """The due times of a schedule that are past, and with `dry_run: false` a run for each of them; 1000 at most.

        What had its run within the last three days gets no other."""
        wish = await read_object(request, ("from", "to", "node", "dry_run"))
        dry = wish.get("dry_run", True)
        if not isinstance(dry, bool):
            raise Invalid("dry_run must be true or false")
        span = (wish.get("from"), wish.get("to"), wish.get("node"))
        found = await run_in_threadpool(lambda: app.agenda.backfill(project, workflow_id, *span, act=not dry))
        return json_response(found.as_json(), 200 if dry else 202)


def _secret_routes(router: APIRouter, app: App) -> None:
    """Values go in and never come out."""

    @router.get("/secrets", tags=["secrets"])
    async def list_secrets(project: Project, limit: Limit = 100, cursor: Cursor = "") -> Response:
        """Names, versions and times of a project's secrets, by name; `cursor` is what the page before gave as `next`."""
        found = await run_in_threadpool(app.secrets, project, cursor, limit + 1)
        page = [one.as_json() for one in found[:limit]]
        return json_response({"secrets": page, "next": page[-1]["name"] if len(found) > limit else None})

    @router.get("/secrets/{name:anything}", tags=["secrets"])
    async def get_secret(project: Project, name: SecretName) -> Response:
        """Version and times of a secret. Its value is never answered."""
        return json_response((await run_in_threadpool(app.secret, project, name)).as_json())

    @router.put(
        "/secrets/{name:anything}",
        tags=["secrets"],
        openapi_extra=_SECRET_BODY,
        responses={200: {"description": "Changed."}, 201: {"description": "Kept."}},
    )
    async def put_secret(project: Project, name: SecretName, request: Request) -> Response:
        """Keep a secret (201), or change it (200)."""
        value = (await read_object(request, ("value",))).get("value")
        if not isinstance(value, str):
            raise Invalid("value must be a text", [Problem("/value", "value is missing or not a text")])
        kept = await run_in_threadpool(app.put_secret, project, name, value)
        new = kept.version == 1
        body = kept.as_json() | {"message": f'secret "{name}" {"kept" if new else "changed"}'}
        return json_response(body, 201, {"location": str(request.url.path)}) if new else json_response(body)

    @router.delete("/secrets/{name:anything}", tags=["secrets"])
    async def delete_secret(project: Project, name: SecretName) -> Response:
        """Forget a secret. Runs that need it fail from then on."""
        await run_in_threadpool(app.delete_secret, project, name)
        return json_response({"message": f'secret "{name}" deleted'})


# -- what comes in


async def _document(request: Request) -> Any:
    """The document in a body, bare or under `workflow`."""
    body = jsontext.decode(await request.body(), "the body")
    if isinstance(body, dict) and "workflow" in body and "nodes" not in body:
        unknown = [name for name in body if name != "workflow"]
        if unknown:
            raise Invalid(f'"{unknown[0]}" is not a known field beside workflow')
        return body["workflow"]
    return body


def _tags(header: str | None) -> frozenset[str] | None:
    """The entity tags of If-Match or If-None-Match (RFC 9110, section 13.1); None for none and for `*`."""
    if header is None or header.strip() == "*":
        return None
    return frozenset(tag.strip() for tag in header.split(","))


def _weakly_matches(etag: str, header: str) -> bool:
    """Whether If-None-Match names this entity tag, or any (RFC 9110, section 13.1.2)."""
    return header.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in header.split(","))


# -- what goes out


def _entry(entry: Entry) -> Response:
    return json_response(entry.document, headers={"etag": entry.etag})


def _saved(saved: Saved, status: int, done: str, headers: dict[str, str] | None = None) -> Response:
    entry = saved.entry
    body: dict[str, Any] = {
        "id": entry.document["id"],
        "message": f'workflow "{entry.document["id"]}" {done}',
        "version": entry.version,
    }
    if saved.warnings:
        body["warnings"] = problems.problems(saved.warnings)
    return json_response(body, status, {**(headers or {}), "etag": entry.etag})


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, dict(answer.headers), answer.content_type)


async def _failed(request: Request, error: Exception) -> Response:
    return _response(problems.answer(error, request.scope.get("mechaway.request_id", "")))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    details = {404: f"there is nothing at {request.url.path[:200]}", 405: f"{request.url.path[:200]} does not answer {request.method}"}
    return _response(problems.problem(error.status_code, details.get(error.status_code, str(error.detail)), error.headers))


async def _unfit(_: Request, error: Exception) -> Response:
    """A path or query parameter of the wrong shape."""
    assert isinstance(error, RequestValidationError)
    found = [{"pointer": "/" + "/".join(str(part) for part in one["loc"]), "message": one["msg"]} for one in error.errors()]
    first = found[0]
    return _response(problems.problem(422, f"{first['pointer'].rsplit('/', 1)[-1]}: {first['message']}", errors=found))


# -- the description


def _describe(api: FastAPI) -> None:
    """Add the schemas of documents and problems, which no route declares by its signature, to the OpenAPI document."""
    plain = api.openapi

    def openapi() -> dict[str, Any]:
        if api.openapi_schema is None:
            described = plain()
            schemas = described.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(_schemas())
            described["components"]["securitySchemes"] = {"token": _TOKEN}
            described["security"] = [{"token": []}, {}]  # none where the server has no token
            api.openapi_schema = described
        return api.openapi_schema

    api.openapi = openapi  # type: ignore[method-assign]


def _schemas() -> dict[str, Any]:
    workflow = WorkflowShape.model_json_schema(ref_template="#/components/schemas/{model}")
    node = NodeShape.model_json_schema(ref_template="#/components/schemas/{model}")
    edge = EdgeShape.model_json_schema(ref_template="#/components/schemas/{model}", by_alias=True)
    schemas = {**workflow.pop("$defs", {}), **node.pop("$defs", {}), **edge.pop("$defs", {})}
    workflow["properties"]["nodes"]["items"] = {"$ref": "#/components/schemas/Node"}
    workflow["properties"]["edges"]["items"] = {"$ref": "#/components/schemas/Edge"}
    schemas |= {"Workflow": workflow, "Node": node, "Edge": edge}
    schemas["Problem"] = {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string", "format": "uri"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "One sentence: what is wrong and what to do."},
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["pointer", "message"],
                    "properties": {"pointer": {"type": "string"}, "node": {"type": "string"}, "message": {"type": "string"}},
                },
            },
            "run_id": {"type": "string"},
            "node_id": {"type": "string"},
        },
    }
    return schemas
