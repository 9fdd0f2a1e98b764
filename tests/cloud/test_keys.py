"""Journeys of keys and tokens, through the invoke URL."""

# ruff: noqa: F401 - the tests are those of tests/journeys; what they call is the fixture `server` of this folder

import pytest

from tests.cloud.stack import Cloud
from tests.journeys.server import echo, problem
from tests.journeys.test_keys import (
    prepare,
    test_a_key_does_what_it_is_for_in_its_own_project,
    test_a_key_is_shown_once_and_listed_by_how_it_begins,
    test_a_key_that_is_revoked_is_worth_nothing_at_once,
    test_a_wish_that_cannot_be_met_makes_no_key,
    test_another_project_answers_as_one_that_is_not_there,
    test_keys_cannot_be_made_up,
    test_long_lists_of_keys_come_in_pages,
    test_only_the_admin_manages_keys_and_projects,
    test_without_the_scope_it_is_told_which_one_is_missing,
)
from tests.journeys.test_token import (
    test_webhooks_and_health_ask_for_no_token,
)


@pytest.fixture(scope="module", autouse=True)
def _prepared(server: Cloud) -> None:
    prepare(server)
    server.save(echo("open"))


@pytest.mark.parametrize("path", ["/api/workflows", "/docs", "/api"])
def test_without_the_token_the_api_is_closed(server: Cloud, path: str) -> None:
    with server.stranger() as stranger:
        problem(stranger.get(path), 401)
        problem(stranger.get(path, headers={"authorization": "Bearer wrong"}), 401)
