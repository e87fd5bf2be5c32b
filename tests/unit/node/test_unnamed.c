/* SPDX-License-Identifier: Apache-2.0 */

/* Copies that no path names any more: one node whose time the test turns, and two real ones. */

#include "real_nodes.h"

#include <errno.h>
#include <stdatomic.h>

#include "node/fetch.h"
#include "node/unnamed_priv.h"
#include "store/held.h"
#include "store/hold.h"
#include "store/put.h"
#include "tree/change.h"

#define HOUR_MS ((uint64_t)3600 * 1000)

/* ---- content and paths -------------------------------------------------------------------------
 */

static struct id put_content(struct node *node, const char *content, enum store_reason reason)
{
    struct store_put *put = NULL;
    struct store_put_result result;
    assert_int_equal(store_put_begin(node_store(node), reason, &put), 0);
    assert_int_equal(store_put_write(put, bytes_of_string(content)), 0);
    assert_int_equal(store_put_commit(put, &result), 0);
    return result.id;
}

static uint32_t holders_of(struct node *node, const struct id *file, enum store_reason reason)
{
    struct store_file_info info;
    return store_file_info(node_store(node), file, &info) == 0 ? info.holders[reason] : 0;
}

static uint32_t copies_of(struct node *node, const struct id *file)
{
    return holders_of(node, file, STORE_COPY);
}

struct change {
    struct waiting waiting;
    const char *path;
    const char *to;        /* rename */
    const struct id *file; /* NULL: delete, or rename */
    int err;
};

static int apply(void *context, const struct tree *tree, struct kv_txn *txn,
                 const struct store_put_result *results)
{
    (void)results;
    const struct change *change = context;
    const struct bytes path = bytes_of_string(change->path);
    struct dot dot;
    if (change->to) {
        return tree_change_rename(tree, txn, path, bytes_of_string(change->to), &dot);
    }
    if (!change->file) {
        return tree_change_delete(tree, txn, &(struct tree_delete){.path = path}, &dot);
    }
    const struct tree_put put = {
        .path = path, .kind = TREE_FILE, .mode = 0644, .file_id = *change->file, .size_bytes = 1};
    return tree_change_put(tree, txn, &put, &dot);
}

static void done(void *context, int err, const struct store_put_result *results)
{
    (void)results;
    struct change *change = context;
    change->err = err;
    answer(&change->waiting);
}

static void make(struct node *node, struct change change)
{
    change.waiting = (struct waiting)WAITING_INIT;
    const struct node_change request = {.apply = apply, .done = done, .context = &change};
    node_change_async(node, &request);
    wait_for_answers(&change.waiting, 1);
    assert_int_equal(change.err, 0);
}

static void put_path(struct node *node, const char *path, const struct id *file)
{
    make(node, (struct change){.path = path, .file = file});
}

static void delete_path(struct node *node, const char *path)
{
    make(node, (struct change){.path = path});
}

/* ---- one node ----------------------------------------------------------------------------------
 */

struct fixture {
    char dir[32];
    struct clock_manual clock;
    struct node *node;
    struct unnamed *unnamed;
    _Atomic bool stopping;
    bool knows_others;
};

static bool is_settled(void *context)
{
    return ((const struct fixture *)context)->knows_others;
}

static int set_up(void **state)
{
    struct fixture *fixture = mem_alloc(sizeof *fixture);
    snprintf(fixture->dir, sizeof fixture->dir, "/tmp/test-node.XXXXXX");
    assert_non_null(mkdtemp(fixture->dir));
    clock_manual_init(&fixture->clock, HOUR_MS);
    const struct node_options options = {.data = fixture->dir, .clock = &fixture->clock.clock};
    assert_int_equal(node_open(&options, &fixture->node), 0);
    fixture->knows_others = true;
    fixture->unnamed = unnamed_new(fixture->node, &fixture->stopping);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    unnamed_free(fixture->unnamed);
    node_set_settled(fixture->node, NULL, NULL);
    node_close(fixture->node);
    nftw(fixture->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(fixture);
    return 0;
}

/* The settled callback is set for the time of the call, so that the node's own rounds do nothing.
 */
static void round_after(struct fixture *fixture, uint64_t ms)
{
    clock_manual_advance(&fixture->clock, ms);
    node_set_settled(fixture->node, is_settled, fixture);
    assert_int_equal(unnamed_round(fixture->unnamed), 0);
    node_set_settled(fixture->node, NULL, NULL);
}

/* All rounds that one look and the next take. */
static void look_twice(struct fixture *fixture)
{
    round_after(fixture, UNNAMED_PAUSE_MS);
    round_after(fixture, UNNAMED_GRACE_MS);
}

static void what_a_path_names_stays_until_it_does_not(void **state)
{
    struct fixture *fixture = *state;
    struct node *node = fixture->node;
    const struct id kept = put_content(node, "kept", STORE_COPY);
    const struct id deleted = put_content(node, "deleted", STORE_COPY);
    const struct id replaced = put_content(node, "replaced", STORE_COPY);
    const struct id mine = put_content(node, "mine", STORE_ORIGIN);
    put_path(node, "a/kept", &kept);
    put_path(node, "a/deleted", &deleted);
    put_path(node, "replaced", &replaced);
    look_twice(fixture);
    look_twice(fixture);
    delete_path(node, "a/deleted");
    put_path(node, "replaced", &mine);
    assert_int_equal(copies_of(node, &deleted), 1);
    round_after(fixture, UNNAMED_PAUSE_MS); /* suspected */
    round_after(fixture, UNNAMED_GRACE_MS - 1);
    assert_int_equal(copies_of(node, &deleted), 1);
    assert_int_equal(copies_of(node, &replaced), 1);
    round_after(fixture, 1);
    assert_int_equal(copies_of(node, &deleted), 0);
    assert_int_equal(copies_of(node, &replaced), 0);
    assert_int_equal(copies_of(node, &kept), 1);
    assert_true(node_counters(node)->copies_released == 2);
    look_twice(fixture);
    assert_int_equal(copies_of(node, &kept), 1);
}

static void what_is_named_again_in_time_stays(void **state)
{
    struct fixture *fixture = *state;
    struct node *node = fixture->node;
    const struct id early = put_content(node, "early", STORE_COPY); /* its change comes later */
    const struct id again = put_content(node, "again", STORE_COPY);
    round_after(fixture, UNNAMED_PAUSE_MS);
    put_path(node, "early", &early);
    put_path(node, "z/again", &again);
    make(node, (struct change){.path = "z", .to = "a"});
    round_after(fixture, UNNAMED_GRACE_MS);
    assert_int_equal(copies_of(node, &early), 1);
    assert_int_equal(copies_of(node, &again), 1);
    delete_path(node, "early");
    look_twice(fixture);
    assert_int_equal(copies_of(node, &early), 0);
    assert_int_equal(copies_of(node, &again), 1);
}

static void several_holders_of_one_are_released(void **state)
{
    struct fixture *fixture = *state;
    const struct id file = put_content(fixture->node, "thrice", STORE_COPY);
    assert_int_equal(store_hold(node_store(fixture->node), &file, STORE_COPY), 0);
    assert_int_equal(store_hold(node_store(fixture->node), &file, STORE_COPY), 0);
    assert_int_equal(copies_of(fixture->node, &file), 3);
    look_twice(fixture);
    assert_int_equal(copies_of(fixture->node, &file), 0);
}

static void what_was_read_goes_as_copies_do(void **state)
{
    struct fixture *fixture = *state;
    struct node *node = fixture->node;
    const struct id kept = put_content(node, "kept", STORE_CACHE);
    const struct id deleted = put_content(node, "deleted", STORE_CACHE);
    const struct id mine = put_content(node, "mine", STORE_CACHE);
    assert_int_equal(store_hold(node_store(node), &mine, STORE_ORIGIN), 0);
    assert_int_equal(store_hold(node_store(node), &deleted, STORE_CACHE), 0);
    put_path(node, "kept", &kept);
    put_path(node, "deleted", &deleted);
    look_twice(fixture);
    assert_int_equal(holders_of(node, &deleted, STORE_CACHE), 2);
    assert_int_equal(holders_of(node, &mine, STORE_CACHE), 0);
    assert_int_equal(holders_of(node, &mine, STORE_ORIGIN), 1); /* that is no business of others */
    delete_path(node, "deleted");
    look_twice(fixture);
    assert_int_equal(holders_of(node, &deleted, STORE_CACHE), 0);
    assert_int_equal(holders_of(node, &kept, STORE_CACHE), 1);
    assert_true(node_counters(node)->cached_released == 2);
    assert_true(node_counters(node)->copies_released == 0);
}

/* Another node has been told that it is kept here, and makes its change a little later. */
static void a_suspect_that_is_wanted_again_has_a_grace_of_its_own(void **state)
{
    struct fixture *fixture = *state;
    struct node *node = fixture->node;
    const struct id wanted = put_content(node, "wanted", STORE_COPY);
    const struct id other = put_content(node, "other", STORE_COPY);
    const struct id unknown = {.bytes = {1}};
    unnamed_want(fixture->unnamed, &wanted); /* nobody is suspected */
    round_after(fixture, UNNAMED_PAUSE_MS);
    unnamed_want(fixture->unnamed, &wanted);
    unnamed_want(fixture->unnamed, &unknown);
    round_after(fixture, UNNAMED_GRACE_MS);
    assert_int_equal(copies_of(node, &wanted), 1);
    assert_int_equal(copies_of(node, &other), 0);
    look_twice(fixture);
    assert_int_equal(copies_of(node, &wanted), 0);
}

static void nothing_is_released_before_others_are_known(void **state)
{
    struct fixture *fixture = *state;
    const struct id file = put_content(fixture->node, "alone", STORE_COPY);
    fixture->knows_others = false;
    look_twice(fixture);
    look_twice(fixture);
    assert_int_equal(copies_of(fixture->node, &file), 1);
    /* Once is enough. */
    fixture->knows_others = true;
    round_after(fixture, 0);
    fixture->knows_others = false;
    look_twice(fixture);
    assert_int_equal(copies_of(fixture->node, &file), 0);
}

/* ---- two ---------------------------------------------------------------------------------------
 */

static void fetched(void *context, const struct fetch_result *result)
{
    assert_int_equal(result->err, 0);
    answer(context);
}

/* Not collected yet. */
static bool is_here(struct node *node, const struct id *file)
{
    struct store_file_info info;
    return store_file_info(node_store(node), file, &info) == 0;
}

static bool is_gone_a_minute_later(struct clock_manual *clock, struct node *node,
                                   const struct id *file)
{
    clock_manual_advance(clock, 60000);
    usleep(100000);
    return !is_here(node, file);
}

static size_t entries_of(struct node *node)
{
    struct tree_summary summary = {0};
    struct kv_txn *txn = NULL;
    assert_int_equal(node_snapshot(node, &txn), 0);
    assert_int_equal(tree_summary(node_tree(node), txn, &summary), 0);
    kv_abort(txn);
    return summary.entries_count;
}

static void a_keeper_lets_go_of_what_another_deletes(void **state)
{
    (void)state;
    struct one pair[2];
    struct clock_manual clock;
    clock_manual_init(&clock, HOUR_MS);
    open_pair_of(pair, &clock.clock);
    const struct id file = put_content(pair[0].node, "content", STORE_ORIGIN);
    const struct id other = put_content(pair[0].node, "other", STORE_ORIGIN);
    put_path(pair[0].node, "file", &file);
    put_path(pair[0].node, "other", &other);
    WAIT_FOR(entries_of(pair[1].node) == 2);
    struct waiting waiting = WAITING_INIT;
    const struct fetch_options first = {.file = file, .reason = STORE_COPY};
    const struct fetch_options second = {.file = other, .reason = STORE_COPY};
    fetch_start(network_fetch(pair[1].network), &first, fetched, &waiting);
    fetch_start(network_fetch(pair[1].network), &second, fetched, &waiting);
    wait_for_answers(&waiting, 2);
    delete_path(pair[0].node, "file");
    WAIT_FOR(entries_of(pair[1].node) == 1);
    assert_int_equal(copies_of(pair[1].node, &file), 1);
    /* Its time goes on by leaps, so that rounds find something due; what is held there stays. */
    WAIT_FOR(is_gone_a_minute_later(&clock, pair[1].node, &file));
    assert_int_equal(copies_of(pair[1].node, &other), 1);
    enum store_held_state held = STORE_HELD_NONE;
    assert_int_equal(store_held_state(node_store(pair[1].node), &other, &held), 0);
    assert_int_equal(held, STORE_HELD_COMPLETE);
    close_one(&pair[1]);
    close_one(&pair[0]);
}

int main(void)
{
    log_set_level(LOG_OFF);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_a_path_names_stays_until_it_does_not, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_named_again_in_time_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(several_holders_of_one_are_released, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_read_goes_as_copies_do, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_suspect_that_is_wanted_again_has_a_grace_of_its_own,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_is_released_before_others_are_known, set_up,
                                        tear_down),
        cmocka_unit_test(a_keeper_lets_go_of_what_another_deletes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
