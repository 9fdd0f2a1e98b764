"""Journeys of uploads, through the invoke URL."""

# ruff: noqa: F401 - the tests are those of tests/journeys; what they call is the fixture `server` of this folder

import pytest

from tests.cloud.stack import Cloud
from tests.journeys.test_uploads import (
    prepare,
    test_a_file_goes_out_under_its_name_to_be_saved_not_to_be_run,
    test_a_handle_of_another_project_finds_nothing,
    test_a_multipart_call_without_a_body_is_an_empty_item,
    test_a_workflow_that_answers_a_body_and_a_file_is_not_saved,
    test_an_upload_comes_back_byte_for_byte,
    test_an_upload_in_chunks_comes_back_too,
    test_answering_with_a_file_that_nobody_sent_says_so,
    test_fields_are_the_item_and_files_are_described,
    test_head_tells_the_length_and_sends_nothing,
    test_the_workflow_may_choose_type_and_disposition,
)


@pytest.fixture(scope="module", autouse=True)
def _prepared(server: Cloud) -> None:
    prepare(server)
