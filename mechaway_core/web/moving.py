"""The routes by which projects leave and come in. For the admin only: no scope of a key opens them.

An archive goes out from a file and comes in as a file, in pieces: the gateway writes the body of an import to the disk before that.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from mechaway_core import jsontext
from mechaway_core.app import App
from mechaway_core.errors import Malformed
from mechaway_core.web.transfers import FILE_BODY

_CHUNK = 256 * 1024
_ARCHIVE = "application/zip"
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_BODY = {"requestBody": {"required": True, "content": {_ARCHIVE: _BINARY}}}

Slug = Annotated[str, Path(description="The slug of a project.")]
As = Annotated[str | None, Query(description="Import it as this project; as the one that it was when left out.")]
IntoEmpty = Annotated[bool, Query(description="The project may be there already, if it holds nothing.")]
WithoutSecrets = Annotated[bool, Query(description="Leave the secrets of the archive out.")]
Passphrase = Annotated[str | None, Header(description="What locks the secrets in the archive, in UTF-8; without it none are exported.")]


def add_routes(router: APIRouter, app: App) -> None:
    """Add the two routes."""

    @router.get(
        "/projects/{slug}/export",
        tags=["projects"],
        response_class=StreamingResponse,
        responses={200: {"description": "The archive.", "content": {_ARCHIVE: _BINARY}}},
    )
    async def export_project(slug: Slug, mechaway_passphrase: Passphrase = None) -> Response:
        """A project as an archive: workflows with all versions, tables, and with a passphrase its secrets."""
        file = await run_in_threadpool(_exported, app, slug, _text(mechaway_passphrase))
        length = file.seek(0, 2)
        headers = {"content-length": str(length), "content-disposition": f'attachment; filename="{slug}.mechaway.zip"'}
        return StreamingResponse(_pieces(file), headers=headers, media_type=_ARCHIVE)

    @router.post("/projects/import", status_code=201, tags=["projects"], openapi_extra=_BODY)
    async def import_project(
        request: Request,
        slug: As = None,
        into_empty: IntoEmpty = False,
        without_secrets: WithoutSecrets = False,
        mechaway_passphrase: Passphrase = None,
    ) -> Response:
        """Make a project from an archive, whole or not at all."""
        how: dict[str, Any] = {"into_empty": into_empty, "skip_secrets": without_secrets, "passphrase": _text(mechaway_passphrase)}
        file: BinaryIO = request.scope[FILE_BODY]
        summary = await run_in_threadpool(lambda: app.import_project(file, slug, **how))
        body = summary.as_json() | {"message": f'project "{summary.project}" imported'}
        return Response(jsontext.encode(body), 201, {"location": f"/p/{summary.project}/api/workflows"}, "application/json")


def _exported(app: App, slug: str, passphrase: str | None) -> BinaryIO:
    folder = app.settings.data_dir if app.settings.data_dir.is_dir() else None
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - whoever sends it closes it
    try:
        app.export_project(slug, file, passphrase)
    except BaseException:
        file.close()
        raise
    return file


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        file.seek(0)
        while piece := file.read(_CHUNK):
            yield piece


def _text(header: str | None) -> str | None:
    """A header as the UTF-8 that it is; servers hand headers on as Latin-1."""
    try:
        return None if header is None else header.encode("latin-1").decode()
    except UnicodeError:
        raise Malformed("the header Mechaway-Passphrase is not text in UTF-8") from None
