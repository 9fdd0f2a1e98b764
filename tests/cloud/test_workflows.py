"""Journeys of people who build workflows, through the invoke URL: documents, versions, conflicts, runs, projects, secrets."""

# ruff: noqa: F401 - the tests are those of tests/journeys; what they call is the fixture `server` of this folder

from tests.journeys.test_examples import (
    blog,
    test_a_blog_creates_lists_finds_shows_counts_and_updates_posts,
    test_a_post_without_a_title_is_refused_with_the_words_of_the_script,
    test_every_example_passes_the_check,
    test_posts_whose_titles_have_no_latin_letters_do_not_overwrite_each_other,
)
from tests.journeys.test_projects import (
    test_a_project_without_a_slug_is_refused,
    test_projects_are_made_listed_and_deleted,
    test_sql_of_a_project_cannot_leave_it,
    test_the_longest_slug_works,
    test_two_projects_hold_the_same_ids_and_tables_apart,
    test_what_project_a_run_is_of_is_known_to_its_script,
)
from tests.journeys.test_runs import (
    test_a_disabled_node_hands_on_what_it_is_given,
    test_a_failed_attempt_is_made_again,
    test_a_failed_node_is_on_record_and_what_follows_is_not_run,
    test_a_record_shows_the_first_items_of_many,
    test_a_record_tells_what_each_node_took_and_gave,
    test_a_run_by_hand_starts_where_it_is_told_to,
    test_a_run_by_hand_that_makes_no_sense_is_told,
    test_a_run_that_is_out_of_time_says_so,
    test_an_error_can_go_on_as_an_item,
    test_an_error_can_leave_by_its_own_exit_item_by_item,
    test_an_output_pin_that_fails_is_an_error_of_the_node,
    test_branches_side_by_side_give_what_walking_alone_gives,
    test_output_pins_do_not_wipe_out_an_error_that_goes_on,
    test_retry_without_attempts_means_as_many_as_the_api_describes,
    test_what_failed_comes_good_at_a_later_attempt,
)
from tests.journeys.test_secrets import (
    test_a_long_list_goes_on_behind_a_cursor,
    test_a_secret_is_kept_changed_listed_and_forgotten,
    test_a_value_that_cannot_be_one_is_told_so_and_changes_nothing,
    test_each_project_has_its_own,
    test_the_api_describes_them,
)
from tests.journeys.test_workflows_api import (
    test_a_body_that_is_no_document_is_told,
    test_a_deleted_workflow_is_gone_with_its_webhook_and_history_and_can_be_made_again,
    test_a_limit_that_is_none_is_told,
    test_a_method_that_an_address_does_not_know_is_405,
    test_a_project_has_every_address_under_its_own_prefix,
    test_a_save_over_somebody_elses_change_is_refused,
    test_a_workflow_that_did_not_change_is_not_sent_again,
    test_a_workflow_without_trigger_is_refused,
    test_an_id_that_is_taken_is_a_conflict_and_changes_nothing,
    test_an_inactive_workflow_can_still_be_run_by_hand,
    test_creating_answers_201_with_location_etag_and_version,
    test_cursors_may_be_anything,
    test_every_problem_of_a_document_is_told_at_once,
    test_every_version_can_be_seen_and_brought_back,
    test_node_types_come_with_a_form_help_and_exits,
    test_tables_and_their_rows_can_be_read_in_pages,
    test_the_api_describes_itself,
    test_the_document_may_stand_bare_or_under_workflow,
    test_the_id_in_the_address_wins,
    test_two_creations_of_one_id_at_the_same_time_have_one_winner,
    test_warnings_do_not_keep_a_workflow_from_being_saved,
    test_what_is_not_there_is_404_by_every_method,
)
