"""What AWS asks for what a run uses, in one place. Change it here when AWS does; `docs/deploy.md` shows what comes of it.

US East (N. Virginia), without the free tier, as of November 2026. Sources: the pricing pages of Lambda, API Gateway, S3, EventBridge,
CloudWatch, KMS and Secrets Manager. Other Regions cost up to a third more.
"""

from __future__ import annotations

from dataclasses import dataclass

AS_OF = "2026-11"

MILLION = 1_000_000
ALARMS = 3
TABLE_DAYS = 3.5  # what TableVersionDays: 3 comes to: S3 counts days from the midnight after


@dataclass(frozen=True, slots=True)
class Prices:
    """Dollars for one of each, unless a name says otherwise."""

    lambda_request: float = 0.20 / MILLION
    lambda_gb_second: float = 0.0000133334  # arm64
    http_api_request: float = 1.00 / MILLION
    s3_put: float = 0.005 / 1000  # PUT, POST, COPY and LIST; DELETE is free
    s3_get: float = 0.0004 / 1000  # GET and HEAD, answered 304 or not
    s3_gb_month: float = 0.023
    scheduler_invocation: float = 1.00 / MILLION  # rules cost nothing
    log_gb: float = 0.50  # taken in; keeping them is $0.03 a GB and month
    kms_key_month: float = 1.00
    secret_month: float = 0.40
    alarm_month: float = 0.10


@dataclass(frozen=True, slots=True)
class Usage:
    """What one run uses. `seconds` of so many `functions`, with `memory_mb`; `kept_mb` are put over what was there, and kept."""

    puts: float = 0.0
    gets: float = 0.0
    seconds: float = 0.0
    memory_mb: int = 512
    functions: int = 1
    over_http: bool = True
    by_scheduler: bool = False
    log_bytes: int = 1000
    kept_mb: float = 0.0
    kept_days: float = TABLE_DAYS


def dollars_per_million(usage: Usage, prices: Prices | None = None) -> float:
    """What a million such runs cost."""
    p = prices or Prices()
    return MILLION * (
        p.lambda_request * usage.functions
        + p.lambda_gb_second * usage.seconds * usage.memory_mb / 1024
        + p.http_api_request * usage.over_http
        + p.scheduler_invocation * usage.by_scheduler
        + p.s3_put * usage.puts
        + p.s3_get * usage.gets
        + p.log_gb * usage.log_bytes / 1e9
        + p.s3_gb_month * usage.kept_mb / 1000 * usage.kept_days / 30
    )


def dollars_idle_per_month(prices: Prices | None = None) -> float:
    """What an installation costs that nobody calls: key, token, alarms, and the looks at schedules and runs, daily and quarterly."""
    p = prices or Prices()
    daily = 30 * (p.lambda_request + p.lambda_gb_second * 0.5 + 20 * p.s3_put)
    quarterly = 30 * 96 * (p.lambda_request + p.lambda_gb_second * 0.1 + 3 * p.s3_put)
    return p.kms_key_month + p.secret_month + ALARMS * p.alarm_month + daily + quarterly
