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
#include "sim/oracle.h"
#include "sim/workload.h"
#include "tree/change.h"

/*
 * The oracle has nothing to say about a world in which all is well, and finds each thing that is
 * not: trees are tampered with behind its back.
 */

#define SLOTS 3u

struct story {
    struct sim_world *world;
    struct sim_oracle *oracle;
    struct sim_workload workload;
};

static int setup(void **state)
{
    struct story *story = mem_alloc(sizeof *story);
    const struct sim_world_options options = {
        .protocol = sim_protocol_artel_tree(), .slots_max = SLOTS, .seed = 3};
    story->world = sim_world_new(&options);
    story->oracle = sim_oracle_new(story->world, SLOTS);
    story->workload = (struct sim_workload){.world = story->world,
                                            .oracle = story->oracle,
                                            .tops_count = 3,
                                            .pause_us = 50 * SIM_US_PER_MS};
    random_init(&story->workload.random, 5);
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        const uint32_t seed = (slot + 1) % SLOTS;
        sim_world_add(story->world);
        sim_world_set_seeds(story->world, slot, &seed, 1);
        sim_world_start(story->world, slot, SIM_DISK_KEPT);
    }
    sim_world_run(story->world, 20 * SIM_US_PER_S);
    *state = story;
    return 0;
}

static int teardown(void **state)
{
    struct story *story = *state;
    sim_oracle_free(story->oracle);
    sim_world_free(story->world);
    free(story);
    return 0;
}

static void work(struct story *story)
{
    sim_workload_run(&story->workload, 5 * SIM_US_PER_S);
    sim_world_run(story->world, 10 * SIM_US_PER_S);
}

static uint64_t faults(const struct story *story, enum sim_fault fault)
{
    return sim_oracle_faults(story->oracle, fault)->count;
}

static void judge(struct story *story)
{
    sim_oracle_look(story->oracle, true);
    sim_oracle_judge(story->oracle);
}

static int put(void *context, const struct tree *tree, struct kv_txn *txn, struct dot *ret_dot)
{
    const struct tree_put file = {
        .path = bytes_of_string(context), .kind = TREE_SYMLINK, .target = bytes_of_string("t")};
    return tree_change_put(tree, txn, &file, ret_dot);
}

static void all_is_well(void **state)
{
    struct story *story = *state;
    work(story);
    assert_true(story->workload.made > 20);
    assert_true(sim_oracle_is_agreed(story->oracle));
    judge(story);
    for (size_t i = 0; i < SIM_FAULTS; i++) {
        assert_int_equal(faults(story, (enum sim_fault)i), 0);
    }
    assert_int_equal(sim_oracle_figures(story->oracle)->acknowledged, story->workload.made);
    assert_int_equal(sim_oracle_figures(story->oracle)->ops, story->workload.made);
}

/* Takes away the last row of a table of the tree. */
static int take_row(void *context, const struct tree *tree, struct kv_txn *txn, struct dot *ret_dot)
{
    (void)tree;
    (void)ret_dot;
    const char *name = context;
    kv_table table = 0;
    while (strcmp(tree_table_names[table], name) != 0) {
        table++;
        assert_true(table < TREE_TABLES);
    }
    struct kv_cursor *cursor = NULL;
    struct bytes key;
    struct bytes value;
    assert_int_equal(kv_cursor_open(txn, table, &cursor), 0);
    assert_int_equal(kv_seek_before(cursor, BYTES(NULL, 0), &key, &value), 0);
    uint8_t copy[KV_KEY_BYTES_MAX];
    memcpy(copy, key.data, key.size);
    const size_t size = key.size;
    kv_cursor_close(cursor);
    return kv_delete(txn, table, BYTES(copy, size));
}

static void an_entry_that_is_gone_is_found(void **state)
{
    struct story *story = *state;
    struct dot dot;
    work(story);
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        assert_int_equal(sim_artel_change(story->world, slot, take_row, "tree-entries", &dot), 0);
    }
    judge(story);
    assert_true(faults(story, SIM_FAULT_FINGERPRINT) > 0);
    assert_true(faults(story, SIM_FAULT_MERGE) > 0);
}

static void nodes_apart_do_not_agree(void **state)
{
    struct story *story = *state;
    sim_network_set_host_loss(sim_world_network(story->world), 0, SIM_PPM, SIM_PPM);
    struct dot dot;
    assert_int_equal(sim_artel_change(story->world, 0, put, "a", &dot), 0);
    sim_oracle_made(story->oracle, 0, &dot);
    sim_world_run(story->world, 5 * SIM_US_PER_S);
    assert_false(sim_oracle_is_agreed(story->oracle));
    sim_network_set_host_loss(sim_world_network(story->world), 0, 0, 0);
    sim_world_run(story->world, 30 * SIM_US_PER_S);
    assert_true(sim_oracle_is_agreed(story->oracle));
}

static void a_lost_disk_voids_only_its_own_promises(void **state)
{
    struct story *story = *state;
    struct dot dot;
    sim_network_set_host_loss(sim_world_network(story->world), 0, SIM_PPM, SIM_PPM);
    assert_int_equal(sim_artel_change(story->world, 0, put, "a", &dot), 0);
    sim_oracle_made(story->oracle, 0, &dot);
    sim_world_run(story->world, SIM_US_PER_S);
    assert_int_equal(sim_oracle_figures(story->oracle)->acknowledged, 1);
    sim_world_crash(story->world, 0);
    sim_network_set_host_loss(sim_world_network(story->world), 0, 0, 0);
    sim_world_start(story->world, 0, SIM_DISK_LOST);
    sim_world_run(story->world, 20 * SIM_US_PER_S);
    judge(story);
    assert_int_equal(faults(story, SIM_FAULT_LOST), 0);
}

/* What was acknowledged by a node whose disk was not lost, and is on none. */
static void a_promise_that_is_broken_is_found(void **state)
{
    struct story *story = *state;
    struct dot dot;
    sim_world_snapshot_disk(story->world, 0);
    sim_network_set_host_loss(sim_world_network(story->world), 0, SIM_PPM, SIM_PPM);
    assert_int_equal(sim_artel_change(story->world, 0, put, "a", &dot), 0);
    sim_oracle_made(story->oracle, 0, &dot);
    sim_world_run(story->world, SIM_US_PER_S);
    sim_world_crash(story->world, 0);
    /* The oracle is not told that the disk was put back. */
    const struct sim_replica_observer nobody = {0};
    sim_replicas_observe(sim_artel_replicas(story->world), &nobody);
    sim_world_start(story->world, 0, SIM_DISK_ROLLED_BACK);
    judge(story);
    assert_int_equal(faults(story, SIM_FAULT_LOST), 1);
}

/* Goes on with the log of nobody and everybody. */
static int put_as_another(void *context, const struct tree *tree, struct kv_txn *txn,
                          struct dot *ret_dot)
{
    const struct origin_id origin = {.bytes = {1}};
    const int err = tree_renew_origin(tree, txn, &origin);
    return err ? err : put(context, tree, txn, ret_dot);
}

static void a_name_of_two_ops_is_found(void **state)
{
    struct story *story = *state;
    struct dot dot;
    assert_int_equal(sim_artel_change(story->world, 0, put_as_another, "a", &dot), 0);
    assert_int_equal(sim_artel_change(story->world, 1, put_as_another, "b", &dot), 0);
    sim_world_run(story->world, SIM_US_PER_S);
    assert_int_equal(faults(story, SIM_FAULT_NAME), 1);
    assert_int_equal(sim_oracle_figures(story->oracle)->forks, 1);
    assert_true(faults(story, SIM_FAULT_SYNC) > 0);
}

static void a_hole_in_a_feed_is_found(void **state)
{
    struct story *story = *state;
    struct dot dot;
    work(story);
    assert_int_equal(sim_artel_change(story->world, 0, put, "a", &dot), 0);
    assert_int_equal(sim_artel_change(story->world, 0, take_row, "tree-feed", &dot), 0);
    sim_world_run(story->world, SIM_US_PER_S);
    assert_true(faults(story, SIM_FAULT_WATCHER) > 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(all_is_well),
        TEST(an_entry_that_is_gone_is_found),
        TEST(nodes_apart_do_not_agree),
        TEST(a_lost_disk_voids_only_its_own_promises),
        TEST(a_promise_that_is_broken_is_found),
        TEST(a_name_of_two_ops_is_found),
        TEST(a_hole_in_a_feed_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
