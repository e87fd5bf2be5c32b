/* SPDX-License-Identifier: Apache-2.0 */

#include "intake_helpers.h"

#include "store/hold.h"

static bool is_aside(struct store *store, const struct id *id, enum store_reason reason)
{
    struct store_intake_info info;
    assert_ok(store_intake_next(store, NULL, &info));
    assert_true(id_equal(&info.id, id));
    assert_int_equal(info.reason, reason);
    assert_int_equal(store_intake_next(store, &info.id, &info), -ENOENT);
    return info.is_aside;
}

static void what_came_stays_and_is_marked(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_COMING struct coming coming = {0};
    make_coming(&coming, 1, SIZE);
    struct store_intake *intake = open_intake(scratch->store, &coming, STORE_FOLLOW);
    assert_false(is_aside(scratch->store, &coming.id, STORE_FOLLOW));
    give(intake, &coming, 0, 4);
    assert_ok(store_intake_set_aside(intake));
    assert_true(is_aside(scratch->store, &coming.id, STORE_FOLLOW));
    scratch_reopen(scratch);
    tidy_now(scratch);
    assert_true(is_aside(scratch->store, &coming.id, STORE_FOLLOW));

    /* Somebody wants it again. */
    intake = open_intake(scratch->store, &coming, STORE_CACHE);
    assert_false(is_aside(scratch->store, &coming.id, STORE_CACHE));
    assert_int_equal(here(intake), 4);
    assert_ok(store_intake_close(intake));
    scratch_reopen(scratch);
    assert_false(is_aside(scratch->store, &coming.id, STORE_CACHE));
    assert_ok(store_intake_forget(scratch->store, &coming.id));
}

static void what_is_forgotten_goes(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_COMING struct coming coming = {0};
    make_coming(&coming, 1, SIZE);
    assert_ok(store_intake_forget(scratch->store, &coming.id)); /* there is none */
    struct store_intake *intake = open_intake(scratch->store, &coming, STORE_COPY);
    give(intake, &coming, 0, 4);
    assert_int_equal(store_intake_forget(scratch->store, &coming.id), -EBUSY);
    assert_ok(store_intake_set_aside(intake));
    assert_ok(store_intake_forget(scratch->store, &coming.id));
    struct store_intake_info info;
    assert_int_equal(store_intake_next(scratch->store, NULL, &info), -ENOENT);
    assert_nothing(scratch);
}

/* The file came whole some other way: it keeps its own holders, and no other. */
static void a_whole_file_stays(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_COMING struct coming coming = {0};
    make_coming(&coming, 1, SIZE);
    struct store_intake *intake = open_intake(scratch->store, &coming, STORE_FOLLOW);
    give(intake, &coming, 0, 4);
    assert_ok(store_intake_set_aside(intake));
    (void)put_bytes(scratch->store, STORE_ORIGIN, BYTES(coming.data, SIZE));
    assert_ok(store_intake_forget(scratch->store, &coming.id));
    tidy_now(scratch);
    struct store_file_info info;
    assert_ok(store_file_info(scratch->store, &coming.id, &info));
    assert_int_equal(info.holders[STORE_ORIGIN], 1);
    assert_int_equal(info.holders[STORE_FOLLOW], 0);
    assert_content(scratch->store, &coming.id, BYTES(coming.data, SIZE));
    assert_ok(store_release(scratch->store, &coming.id, STORE_ORIGIN));
    assert_nothing(scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(what_came_stays_and_is_marked),
        STORE_TEST(what_is_forgotten_goes),
        STORE_TEST(a_whole_file_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
