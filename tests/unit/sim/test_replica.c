/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "sim/artel.h"
#include "tree/change.h"

/*
 * Two nodes with trees: what a disk keeps and loses, and when others hear of a change.
 */

#define SLOTS 2u
#define SYNC_US (50 * SIM_US_PER_MS)

struct pair {
    struct sim_world *world;
    struct sim_replicas *replicas;
    uint64_t durable_count[SLOTS];
};

static void on_durable(void *context, uint32_t slot)
{
    struct pair *pair = context;
    pair->durable_count[slot]++;
}

static int setup(void **state)
{
    struct pair *pair = mem_alloc(sizeof *pair);
    const struct sim_world_options options = {
        .protocol = sim_protocol_artel_tree(), .slots_max = SLOTS, .seed = 7};
    pair->world = sim_world_new(&options);
    pair->replicas = sim_artel_replicas(pair->world);
    const struct sim_replica_observer observer = {.durable = on_durable, .context = pair};
    sim_replicas_observe(pair->replicas, &observer);
    sim_replicas_set_sync(pair->replicas, SYNC_US, SYNC_US);
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        const uint32_t seed = 1 - slot;
        sim_world_add(pair->world);
        sim_world_set_seeds(pair->world, slot, &seed, 1);
        sim_world_start(pair->world, slot, SIM_DISK_KEPT);
    }
    sim_world_run(pair->world, 20 * SIM_US_PER_S);
    *state = pair;
    return 0;
}

static int teardown(void **state)
{
    struct pair *pair = *state;
    sim_world_free(pair->world);
    free(pair);
    return 0;
}

static int make_directory(void *context, const struct tree *tree, struct kv_txn *txn,
                          struct dot *ret_dot)
{
    const struct tree_put put = {
        .path = bytes_of_string(context), .kind = TREE_DIRECTORY, .mode = 0755};
    return tree_change_put(tree, txn, &put, ret_dot);
}

static void change(struct pair *pair, uint32_t slot, char *path)
{
    struct dot dot;
    assert_int_equal(sim_artel_change(pair->world, slot, make_directory, path, &dot), 0);
}

static bool has(const struct pair *pair, uint32_t slot, const char *path)
{
    struct kv_txn *txn = NULL;
    const struct tree *tree = sim_replicas_read(pair->replicas, slot, &txn);
    assert_non_null(tree);
    struct tree_entry entry;
    const int err = tree_find(tree, txn, bytes_of_string(path), &entry);
    assert_true(err == 0 || err == -ENOENT);
    kv_abort(txn);
    return err == 0;
}

static void others_hear_of_a_change_when_it_is_on_disk(void **state)
{
    struct pair *pair = *state;
    const uint64_t before = pair->durable_count[0];
    change(pair, 0, "a");
    sim_world_run(pair->world, SYNC_US - SIM_US_PER_MS);
    assert_int_equal(pair->durable_count[0], before);
    assert_false(has(pair, 1, "a"));
    sim_world_run(pair->world, SYNC_US);
    assert_int_equal(pair->durable_count[0], before + 1);
    assert_true(has(pair, 1, "a"));
}

static void what_waits_for_the_disk_goes_on_in_its_order(void **state)
{
    struct pair *pair = *state;
    char paths[5][2] = {"a", "b", "c", "d", "e"};
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        change(pair, i % 2 ? 1 : 0, paths[i]);
    }
    sim_world_run(pair->world, 5 * SIM_US_PER_S);
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        assert_true(has(pair, 0, paths[i]));
        assert_true(has(pair, 1, paths[i]));
    }
}

static void a_crash_takes_back_what_was_not_on_disk(void **state)
{
    struct pair *pair = *state;
    change(pair, 0, "kept");
    sim_world_run(pair->world, 2 * SYNC_US);
    change(pair, 0, "lost");
    assert_true(has(pair, 0, "lost"));
    sim_world_run(pair->world, SYNC_US / 2);
    sim_world_crash(pair->world, 0);
    assert_true(has(pair, 0, "kept"));
    assert_false(has(pair, 0, "lost"));
    sim_world_start(pair->world, 0, SIM_DISK_KEPT);
    sim_world_run(pair->world, 5 * SIM_US_PER_S);
    assert_true(has(pair, 0, "kept"));
    assert_false(has(pair, 1, "lost"));
}

static void a_lost_disk_is_filled_by_the_others(void **state)
{
    struct pair *pair = *state;
    change(pair, 0, "a");
    sim_world_run(pair->world, 2 * SYNC_US);
    sim_world_crash(pair->world, 0);
    sim_world_start(pair->world, 0, SIM_DISK_LOST);
    assert_false(has(pair, 0, "a"));
    sim_world_run(pair->world, 20 * SIM_US_PER_S);
    assert_true(has(pair, 0, "a"));
}

static void an_old_disk_is_what_it_was_when_it_was_copied(void **state)
{
    struct pair *pair = *state;
    change(pair, 0, "before");
    sim_world_run(pair->world, 2 * SYNC_US);
    sim_world_snapshot_disk(pair->world, 0);
    change(pair, 0, "behind");
    sim_world_run(pair->world, 2 * SYNC_US);
    for (int i = 0; i < 2; i++) { /* more than once */
        sim_world_crash(pair->world, 0);
        sim_world_start(pair->world, 0, SIM_DISK_ROLLED_BACK);
        assert_true(has(pair, 0, "before"));
        assert_false(has(pair, 0, "behind"));
        sim_world_run(pair->world, 20 * SIM_US_PER_S);
        assert_true(has(pair, 0, "behind"));
    }
}

static void a_torn_disk_lacks_its_last_writes(void **state)
{
    struct pair *pair = *state;
    sim_replicas_set_torn(pair->replicas, 1);
    change(pair, 0, "a");
    sim_world_run(pair->world, 2 * SYNC_US);
    change(pair, 0, "b");
    sim_world_run(pair->world, 2 * SYNC_US);
    sim_world_crash(pair->world, 0);
    sim_world_start(pair->world, 0, SIM_DISK_TORN);
    assert_true(has(pair, 0, "a"));
    assert_false(has(pair, 0, "b"));
    sim_world_run(pair->world, 20 * SIM_US_PER_S);
    assert_true(has(pair, 0, "b"));
}

static void logs_are_forgotten_and_entries_are_not(void **state)
{
    struct pair *pair = *state;
    change(pair, 0, "a");
    sim_world_run(pair->world, 2 * SYNC_US);
    sim_artel_expire(pair->world, 0, 0);
    struct kv_txn *txn = NULL;
    const struct tree *tree = sim_replicas_read(pair->replicas, 0, &txn);
    struct tree_summary summary;
    assert_int_equal(tree_summary(tree, txn, &summary), 0);
    assert_true(summary.feed_first > 1);
    kv_abort(txn);
    assert_true(has(pair, 0, "a"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(others_hear_of_a_change_when_it_is_on_disk),
        TEST(what_waits_for_the_disk_goes_on_in_its_order),
        TEST(a_crash_takes_back_what_was_not_on_disk),
        TEST(a_lost_disk_is_filled_by_the_others),
        TEST(an_old_disk_is_what_it_was_when_it_was_copied),
        TEST(a_torn_disk_lacks_its_last_writes),
        TEST(logs_are_forgotten_and_entries_are_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
