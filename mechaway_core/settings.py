"""Every setting: its name, default and help. This is the only module that reads the environment."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from mechaway_core.errors import Invalid

PREFIX = "MECHAWAY_"


def setting(about: str, default: Any, *, least: float | None = None, most: float | None = None, secret: bool = False) -> Any:
    """Declare one setting. Numbers are refused outside `least`…`most`; a `secret` value is never printed."""
    return field(default=default, repr=not secret, metadata={"help": about, "least": least, "most": most, "secret": secret})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings, typed and checked. `Settings()` holds the defaults, `Settings.load()` reads the environment."""

    host: str = setting("Address to listen on. Anything but loopback needs an API token.", "127.0.0.1")
    port: int = setting("Port to listen on; 0 takes a free one.", 3004, least=0, most=65535)
    data_dir: Path = setting("Folder that holds a folder for each project.", Path("data"))
    workers: int = setting("Server processes.", 1, least=1, most=64)
    api_token: str = setting("Bearer token that /api and /docs ask for. Empty: none, loopback only.", "", secret=True)
    allowed_hosts: str = setting(
        "Names beside localhost, separated by commas, that a server without an API token may be called by, such as that of a tunnel.", ""
    )
    cors_origins: str = setting(
        "Origins, separated by commas, whose web pages may call this server, such as https://app.example.com; * allows webhooks to all.", ""
    )
    trusted_proxies: str = setting(
        "Addresses and networks, separated by commas, of proxies in front of the server; what they say in X-Forwarded-For is believed.", ""
    )
    auth_delay: float = setting(
        "Longest pause before the answer to a failed authentication, in seconds; it grows with the failures of a source. 0: none.",
        5.0,
        least=0,
        most=60,
    )
    master_key: str = setting(
        "Key that locks the vault: 32 bytes in base64 or hex. Several separated by commas: the first locks, all unlock. "
        "Empty: the file master.key in the data folder, made when first needed.",
        "",
        secret=True,
    )
    log: Literal["auto", "text", "json"] = setting(
        "Form of the log: text, json (one object a line), or auto, which is text on a terminal and json elsewhere. In AWS it is json.",
        "auto",
    )
    grace: float = setting("Seconds that running runs get to finish when the server is told to stop.", 30.0, least=0, most=3600)

    max_body_mb: float = setting("Largest request body, in MB.", 10.0, least=0.001, most=1024)
    body_timeout: float = setting(
        "Seconds that a request's head, and its body unless it is an upload, may take to arrive; a body gets one more for each 100 KB.",
        60.0,
        least=0.1,
        most=86400,
    )
    max_import_mb: float = setting(
        "Largest project that is imported, in MB as it is unpacked; what comes by the API has MAX_UPLOAD_MB, too.",
        1000.0,
        least=0.001,
        most=2000,
    )
    max_file_mb: float = setting("Largest file that a run may keep, uploaded or received, in MB.", 100.0, least=0.001, most=100_000)
    max_upload_mb: float = setting("Largest multipart body with all its files, in MB.", 100.0, least=0.001, most=100_000)
    max_upload_files: int = setting("Files that one multipart body may hold.", 100, least=0, most=10_000)
    upload_timeout: float = setting(
        "Seconds that an upload, the multipart body of a webhook call, may take to arrive.", 600.0, least=0.01, most=86400
    )
    file_hours: float = setting("Hours that the files of a run are kept, from its start.", 24.0, least=0, most=1_000_000)
    run_timeout: float = setting(
        "Seconds a run may take when its workflow does not say (settings.timeout).", 300.0, least=0.001, most=86400
    )
    front_door_timeout: float = setting("Seconds before whatever stands in front of webhooks gives up; 0: never.", 0.0, least=0, most=86400)
    base_path: str = setting(
        "AWS: path that a custom domain puts in front of all addresses, such as /flows; it is cut off calls and stands in links.", ""
    )
    max_runs: int = setting("Runs at the same time in one process; more wait in line.", 32, least=1, most=1024)
    max_waiting: int = setting("Runs that may wait in line in one process; more are answered 503.", 1000, least=0, most=1_000_000)
    max_branches: int = setting("Threads of one process that help with branches that can run side by side.", 8, least=0, most=256)
    max_items: int = setting("Items that may come to one node at once.", 100_000, least=1, most=100_000_000)
    max_fires_per_minute: int = setting("Runs that one schedule may start within a minute.", 60, least=1, most=60)
    max_accepted: int = setting(
        "Accepted runs of one process that may wait to begin; more are answered 503.", 100_000, least=1, most=10_000_000
    )
    record: Literal["all", "errors", "none"] = setting(
        "Which runs are put on record when their workflow does not say (settings.record).", "all"
    )
    run_days: float = setting(
        "Days that a run stays on record when its workflow does not say (settings.keep_days).", 30.0, least=0.001, most=36_500
    )
    runs_max_mb: float = setting(
        "Size of the records of one project on disk, in MB; beyond it the oldest go.", 1024.0, least=1, most=1_000_000
    )
    record_kb: float = setting(
        "Size of one run's record, in KB, beyond which its large values are kept as files.", 256.0, least=1, most=100_000
    )
    record_items: int = setting("Items of each input and output that the record of a run shows.", 100, least=0, most=1_000_000)

    lua_memory_mb: int = setting("Memory of one Lua execution, in MB, when the node does not say (memory_mb).", 16, least=1, most=4096)
    lua_memory_mb_max: int = setting("The most a node may ask for with memory_mb.", 256, least=1, most=4096)
    lua_timeout: float = setting("Seconds one Lua execution may take when the node does not say (timeout).", 5.0, least=0.001, most=3600)
    lua_timeout_max: float = setting("The most a node may ask for with timeout.", 60.0, least=0.001, most=3600)
    lua_workers: int = setting("Lua processes of one server process; 0: one per CPU, at least 2. One more stands by.", 0, least=0, most=256)

    http_timeout: float = setting("Seconds one HTTP request may take when the node does not say (timeout).", 30.0, least=0.001, most=86400)
    http_max_mb: float = setting(
        "Largest answer that HTTPClient reads into items, all pages of it together, in MB; files have MAX_FILE_MB.",
        10.0,
        least=0.001,
        most=1024,
    )
    http_private: Literal["allow", "refuse"] = setting(
        "Whether workflows may connect to this machine and to private networks. Link-local and metadata addresses are always refused.",
        "allow",
    )
    http_allow: str = setting("Hosts, host:port and networks to allow when private ones are refused, separated by commas.", "")
    http_refuse: str = setting(
        "Hosts, host:port and networks never to connect to, separated by commas; the runtime and credentials endpoints of AWS Lambda "
        "are added by themselves.",
        "",
    )
    http_ca_file: str = setting("File of certificates (PEM) to trust besides those of the system.", "")

    processors: Literal["one", "any"] = setting(
        "Where the threads of a server process run: all on one processor, which it chooses, or on any. On macOS always on any.", "one"
    )
    sync: Literal["full", "normal"] = setting(
        "full: what was answered survives loss of power. normal: it survives a crash of Mechaway, and is faster.", "full"
    )
    busy_timeout: float = setting("Seconds to wait for a database that another process holds.", 5.0, least=0, most=600)
    sql_timeout: float = setting("Seconds one SQL statement of a node may take.", 5.0, least=0.001, most=3600)
    sql_max_rows: int = setting("Rows one SQL statement may return.", 10_000, least=1, most=10_000_000)
    sql_max_mb: float = setting("Size of what one SQL statement may return, and of its largest value, in MB.", 16.0, least=0.001, most=1024)
    tables_max_mb: int = setting("Largest size of the tables of one project, in MB.", 1024, least=1, most=1_000_000)

    pg_timeout: float = setting("Seconds one statement of PostgreSQL nodes may take.", 30.0, least=0.001, most=86400)
    pg_connect_timeout: float = setting("Seconds connecting to a PostgreSQL server may take.", 10.0, least=0.001, most=600)
    pg_pool: int = setting("Connections one process keeps for each connection string of PostgreSQL nodes.", 4, least=1, most=1000)

    revalidate_seconds: float = setting(
        "Seconds for which what was read from the bucket counts as current. 0: a saved change is live for the next request.",
        0.0,
        least=0,
        most=3600,
    )
    s3_timeout: float = setting("Seconds that a call of S3 may take with all its attempts.", 20.0, least=0.1, most=600)
    s3_tables_max_mb: int = setting("Largest size of the tables of one project in a bucket, in MB.", 64, least=1, most=1024)
    cache_dir: Path = setting("Folder for copies of what is in the bucket.", Path("/tmp"))  # noqa: S108 - all that Lambda lets us write
    cache_max_mb: int = setting("Size of those copies together, in MB; those used longest ago go first.", 256, least=1, most=10_000)

    max_plans: int = setting("Compiled workflows one process keeps.", 1000, least=1, most=1_000_000)
    max_open_projects: int = setting("Projects whose databases one process keeps open.", 64, least=1, most=10_000)

    prefix: str = setting("AWS: first part of the names of what Mechaway makes in the account, such as rules.", "mechaway")
    stage: str = setting("AWS: second part of these names, which tells several installations in one account apart.", "dev")
    storage: Literal["s3", "efs"] = setting("AWS: where projects are kept: in the bucket, or on the file system under EFS_DIR.", "s3")
    bucket: str = setting("AWS: name of the bucket that holds projects, and files of runs.", "")
    file_days: float = setting(
        "AWS: days that the files of a run are kept, from its start; FILE_HOURS does not count there.", 30.0, least=0.01, most=40_000
    )
    efs_dir: Path = setting("AWS: folder that the file system is mounted at.", Path("/mnt/mechaway"))
    kms_key: str = setting(
        "AWS: KMS key that locks the vault, as ARN, id or alias. Several separated by commas: the first locks, all unlock.", ""
    )
    api_token_secret: str = setting(
        "AWS: ARN of the secret in Secrets Manager that holds the API token; its text, or JSON with a token.", ""
    )
    runner_function: str = setting("AWS: ARN of the function that runs what schedules and asynchronous starts ask for.", "")
    schedules: Literal["rules", "scheduler"] = setting(
        "AWS: what keeps time: EventBridge rules (300 in an account by default) or EventBridge Scheduler (a million).",
        "rules",
    )
    scheduler_group: str = setting("AWS: group of schedules in EventBridge Scheduler. Empty: named by PREFIX and STAGE.", "")
    scheduler_role: str = setting("AWS: ARN of the role with which EventBridge Scheduler calls the runner.", "")
    dead_letter_queue: str = setting("AWS: ARN of the queue for events that could not be delivered to the runner. Empty: none.", "")

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, **given: Any) -> Settings:
        """The settings of the environment, with `given` (from the command line, None meaning "not given") above them.

        Raises `Invalid` naming every variable whose value cannot be used.
        """
        environ = os.environ if environ is None else environ
        known = {f.name: f for f in fields(cls)}
        hints = get_type_hints(cls)
        values, wrong = {}, []
        for name, declared in known.items():
            raw = given.get(name)
            source = f"--{name.replace('_', '-')}"
            if raw is None:
                source = variable(name)
                raw = environ.get(source)
            if raw is None or raw == "":
                continue
            try:
                values[name] = _parse(str(raw), hints[name], declared)
            except ValueError as error:
                wrong.append(f"{source} {error}")
        if wrong:
            raise Invalid("; ".join(wrong))
        refused = [*filter(None, values.get("http_refuse", "").split(",")), *_runtime_endpoints(environ)]
        return cls(**values | ({"http_refuse": ",".join(dict.fromkeys(refused))} if refused else {}))

    def child_environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """An environment from which `load` reads these very settings again; for worker processes."""
        environ = dict(os.environ if base is None else base)
        for f in fields(self):
            environ[variable(f.name)] = str(getattr(self, f.name))
        return environ

    def rows(self) -> list[dict[str, Any]]:
        """Name, value, default and help of every setting, for people and for `--json`. Secret values are hidden."""
        rows = []
        for f in fields(self):
            value = getattr(self, f.name)
            shown = ("(set)" if value else "") if f.metadata["secret"] else _plain(value)
            default = _plain(f.default) if f.default is not MISSING else None
            rows.append({"name": variable(f.name), "value": shown, "default": default, "help": f.metadata["help"]})
        return rows


@dataclass(frozen=True, kw_only=True)
class AwsVariables:
    """What AWS's own variables say, as Lambda and its tools set them. Empty: not said."""

    region: str = ""
    s3_endpoint: str = ""
    ca_bundle: str = ""
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    function_name: str = ""
    trace_id: str = ""

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> AwsVariables:
        """What they say at this moment."""
        environ = os.environ if environ is None else environ
        return cls(
            region=environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION", ""),
            s3_endpoint=environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL", ""),
            ca_bundle=environ.get("AWS_CA_BUNDLE", ""),
            access_key=environ.get("AWS_ACCESS_KEY_ID", ""),
            secret_key=environ.get("AWS_SECRET_ACCESS_KEY", ""),
            session_token=environ.get("AWS_SESSION_TOKEN", ""),
            function_name=environ.get("AWS_LAMBDA_FUNCTION_NAME", ""),
            trace_id=environ.get("_X_AMZN_TRACE_ID", "").partition(";")[0].removeprefix("Root="),
        )


def markdown() -> str:
    """`docs/settings.md` from the settings themselves: `python -m mechaway_core.settings > docs/settings.md`."""
    lines = [_HEAD, "| variable | default | what it is |", "|---|---|---|"]
    for row in Settings().rows():
        default = f"`{row['default']}`" if row["default"] != "" else ""
        lines.append(f"| `{row['name']}` | {default} | {row['help']} |")
    return "\n".join(lines) + "\n"


_HEAD = """# Settings

All settings come from the environment; options of the command line win over it. `mechaway settings` prints them with their values.
This page is made from the code by `python -m mechaway_core.settings`.
"""


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def _runtime_endpoints(environ: Mapping[str, str]) -> Iterator[str]:
    """Where AWS Lambda and containers on AWS have what runs code and gives out credentials, as `host:port`; often on loopback."""
    runtime = environ.get("AWS_LAMBDA_RUNTIME_API", "")
    if runtime:
        yield runtime
    with contextlib.suppress(ValueError):
        credentials = urlsplit(environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", ""))
        if credentials.hostname:
            yield credentials.netloc.rpartition("@")[2]


def _parse(raw: str, kind: Any, declared: Field[Any]) -> Any:
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        if raw.lower() not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, not {raw!r}")
        return raw.lower()
    if kind is str:
        if any("\ud800" <= character <= "\udfff" for character in raw):
            raise ValueError("must be text in UTF-8")
        return raw
    if kind is Path:
        if "\0" in raw:
            raise ValueError("must be a path without NUL characters")
        return Path(raw)
    try:
        number = kind(raw)
    except ValueError:
        raise ValueError(f"must be {'a whole number' if kind is int else 'a number'}, not {raw!r}") from None
    least, most = declared.metadata["least"], declared.metadata["most"]
    if not least <= number <= most:
        raise ValueError(f"must be between {least} and {most}, not {raw}")
    return number


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


if __name__ == "__main__":
    sys.stdout.write(markdown())
