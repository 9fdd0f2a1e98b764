"""Journeys of callers of webhooks, through the invoke URL.

Not here: limits, for the front door has its own; and text that is not in UTF-8, which it decodes before a function sees it.
"""

# ruff: noqa: F401 - the tests are those of tests/journeys; what they call is the fixture `server` of this folder

import pytest

from tests.cloud.stack import Cloud
from tests.journeys.test_webhooks import (
    prepare,
    test_a_failed_node_is_422_and_names_itself_and_its_run,
    test_a_header_cannot_be_split,
    test_a_hundred_levels_are_not_too_deep,
    test_a_respond_node_says_status_headers_and_body,
    test_a_respond_node_sends_text_as_it_is,
    test_a_run_that_is_out_of_time_is_504,
    test_a_script_that_goes_wrong_costs_its_own_run_only,
    test_a_status_that_is_none_fails_the_node,
    test_a_status_without_a_body_has_none,
    test_a_switched_off_trigger_or_workflow_is_404,
    test_a_webhook_for_any_method_answers_each,
    test_an_empty_body_is_an_empty_object_whatever_it_says_it_is,
    test_every_way_to_say_json_is_json,
    test_failures_inside_failures_never_fail_the_server,
    test_fields_of_a_multipart_form_come_as_the_item,
    test_fixed_parts_go_before_named_ones_whatever_their_order_in_the_document,
    test_forms_come_as_fields,
    test_ids_of_runs_are_different_and_sort_by_time,
    test_json_comes_back_as_it_was_sent,
    test_query_fields_come_as_text_and_repeated_ones_as_lists,
    test_respond_chooses_what_of_the_output_is_the_answer,
    test_the_servers_own_headers_cannot_be_set,
)


@pytest.fixture(scope="module", autouse=True)
def _prepared(server: Cloud) -> None:
    prepare(server)
