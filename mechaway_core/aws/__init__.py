"""The AWS edge: everything in one account.

A function's handler is made when its environment starts, not by its first event: Lambda gives an environment that starts a whole
processor, and what fails then is in the log in one sentence. A Lua process starts meanwhile; it lives as long as the environment.

Importing this imports next to nothing: a handler imports what it needs while no garbage is collected, which is quicker.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mechaway_core.app import App
    from mechaway_core.aws.attempt import LambdaContext
    from mechaway_core.aws.http import Handler
    from mechaway_core.settings import Settings


def build(settings: Settings) -> App:
    """Mechaway over the bucket, or the file system, of these settings. Nothing is asked of AWS yet. Raises `Invalid` for settings."""
    from mechaway_core.aws import installation

    return installation.build(settings)


def api_handler(start: Callable[[], App] | None = None) -> Handler:
    """The handler of the function behind the HTTP API. `start` makes the app; without it, it is that of the environment's settings.

    Raises `Invalid` for settings that cannot be used.
    """
    with _making():
        from mechaway_core.aws import http
        from mechaway_core.web.gateway import Gateway
        from mechaway_core.web.threads import OneAtATime

        app = _started(start or _installation)
        return http.make_handler(Gateway(app, threads=OneAtATime()), app.settings.base_path)


def runner_handler(start: Callable[[], App] | None = None) -> Callable[[Any, LambdaContext], dict[str, Any]]:
    """The handler of the function that runs what the clock starts and what nobody waits for. `start` and errors as above."""
    with _making():
        from mechaway_core.aws import logs
        from mechaway_core.aws.runner import dispatch

        app = _started(start or _runner_installation)

    def handler(event: Any, context: LambdaContext) -> dict[str, Any]:
        logs.invoked(context)
        return dispatch(event, context, app)

    return handler


@contextmanager
def _making() -> Iterator[None]:
    """Without collecting garbage: what is made here stays, and looking it through again and again takes 6 ms of a cold start.

    It need not be walked later either, while events wait.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _started(start: Callable[[], App]) -> App:
    from mechaway_core.aws import logs

    logs.set_up()
    app = start()
    app.sandbox.prepare()
    return app


def _installation() -> App:
    from mechaway_core.aws import environment

    return build(behind_http_api(environment.load()))


def _runner_installation() -> App:
    from mechaway_core.aws import environment

    return build(environment.load(serves=False))


def behind_http_api(settings: Settings) -> Settings:
    """The settings within the bounds of a function behind an HTTP API."""
    from dataclasses import replace

    from mechaway_core.aws.http import FRONT_DOOR, MOST_BODY_MB

    return replace(
        settings,
        front_door_timeout=settings.front_door_timeout or FRONT_DOOR,
        max_body_mb=min(settings.max_body_mb, MOST_BODY_MB),
        max_upload_mb=min(settings.max_upload_mb, MOST_BODY_MB),
    )
