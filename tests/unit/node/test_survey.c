/* SPDX-License-Identifier: Apache-2.0 */

/* Two real nodes with empty trees, of which all have all that is in them: who asks, how it ends.
 * With content and more nodes: tests/integration/test_wait.py. */

#include "real_nodes.h"

#include <errno.h>

#include "node/survey.h"

struct surveyed {
    struct waiting waiting;
    int err;
    bool is_reached;
    size_t members_count;
    size_t wanted_count;
    size_t have_count;
    enum survey_outcome outcomes[2];
};

static void surveyed(void *context, int err, const struct survey_result *result)
{
    struct surveyed *surveyed = context;
    surveyed->err = err;
    if (!err) {
        surveyed->is_reached = result->is_reached;
        surveyed->members_count = result->members_count;
        surveyed->wanted_count = result->wanted_count;
        surveyed->have_count = result->have_count;
        for (size_t i = 0; i < result->members_count && i < 2; i++) {
            surveyed->outcomes[i] = result->members[i].outcome;
        }
    }
    answer(&surveyed->waiting);
}

static void begin(const struct one *one, const struct survey_options *options,
                  struct surveyed *ret_surveyed)
{
    *ret_surveyed = (struct surveyed){.waiting = WAITING_INIT};
    survey_begin(network_fetch(one->network), options, surveyed, ret_surveyed);
}

/* More than there are, so that it waits. */
static const struct survey_options too_many = {.nodes_count = 3, .wait_ms = SURVEY_WAIT_MS_MAX};

static void all_are_asked_and_counted(void **state)
{
    (void)state;
    struct one pair[2];
    struct surveyed result;
    open_pair(pair);
    begin(&pair[1], &(struct survey_options){0}, &result);
    wait_for_answers(&result.waiting, 1);
    assert_int_equal(result.err, 0);
    assert_true(result.is_reached);
    assert_int_equal(result.members_count, 2);
    assert_int_equal(result.wanted_count, 2);
    assert_int_equal(result.have_count, 2);
    assert_int_equal(result.outcomes[0], SURVEY_WHOLE);
    assert_int_equal(result.outcomes[1], SURVEY_WHOLE);
    /* The time is over at once, but each is asked. */
    begin(&pair[0], &(struct survey_options){.nodes_count = 3}, &result);
    wait_for_answers(&result.waiting, 1);
    assert_false(result.is_reached);
    assert_int_equal(result.wanted_count, 3);
    assert_int_equal(result.have_count, 2);
    begin(&pair[0], &(struct survey_options){.path = bytes_of_string("none")}, &result);
    wait_for_answers(&result.waiting, 1);
    assert_int_equal(result.err, -ENOENT);
    close_one(&pair[0]);
    close_one(&pair[1]);
}

static void no_more_than_so_many_wait_and_each_is_told_once(void **state)
{
    (void)state;
    static struct surveyed results[SURVEYS_MAX + 1];
    struct one one;
    open_one(&one, NULL);
    struct fetch *fetch = network_fetch(one.network);
    for (size_t i = 0; i <= SURVEYS_MAX; i++) {
        begin(&one, &too_many, &results[i]);
    }
    wait_for_answers(&results[SURVEYS_MAX].waiting, 1);
    assert_int_equal(results[SURVEYS_MAX].err, -EBUSY);
    /* One goes, and another one finds room. */
    survey_cancel(fetch, &results[7]);
    wait_for_answers(&results[7].waiting, 1);
    assert_int_equal(results[7].err, -ECANCELED);
    survey_cancel(fetch, &results[7]); /* which is gone */
    begin(&one, &(struct survey_options){0}, &results[7]);
    wait_for_answers(&results[7].waiting, 1);
    assert_int_equal(results[7].err, 0);
    close_one(&one);
    for (size_t i = 0; i < SURVEYS_MAX; i++) {
        wait_for_answers(&results[i].waiting, 1);
        assert_int_equal(results[i].err, i == 7 ? 0 : -ECANCELED);
    }
}

int main(void)
{
    log_set_level(LOG_OFF);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_are_asked_and_counted),
        cmocka_unit_test(no_more_than_so_many_wait_and_each_is_told_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
