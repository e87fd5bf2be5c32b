/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "sim/scenario.h"
#include "sim/world.h"

#define NODES 16u
#define DELIVERED_BYTES ((uint64_t)32 * 1024 * 1024)

static void run_as(const struct sim_protocol *protocol, const char *name, uint64_t seed,
                   struct sim_report *ret_report)
{
    const struct sim_scenario *scenario = sim_scenario_find(name);
    assert_non_null(scenario);
    const struct sim_scenario_options options = {.protocol = protocol,
                                                 .nodes_count = NODES,
                                                 .seed = seed,
                                                 .loss_ppm = SIM_LOSS_DEFAULT,
                                                 .delivery = {.size_bytes = DELIVERED_BYTES}};
    sim_scenario_run(scenario, &options, ret_report);
}

static void assert_seed_holds(const char *name, uint64_t seed)
{
    struct sim_report report;
    run_as(sim_protocol_artel(), name, seed, &report);
    for (size_t i = 0; i < report.checks_count; i++) {
        if (!report.checks[i].holds) {
            print_error("%s, seed %llu: %s: %s\n", name, (unsigned long long)seed,
                        report.checks[i].name, report.checks[i].text);
        }
    }
    assert_true(sim_report_holds(&report));
    assert_true(report.events_count > 0);
}

static void assert_holds(const char *name)
{
    assert_seed_holds(name, 1);
}

static void cold_start_holds(void **state)
{
    (void)state;
    assert_holds("cold-start");
}

static void idle_holds(void **state)
{
    (void)state;
    assert_holds("idle");
}

static void crash_holds(void **state)
{
    (void)state;
    assert_holds("crash");
}

static void broadcast_holds(void **state)
{
    (void)state;
    assert_holds("broadcast");
}

static void join_holds(void **state)
{
    (void)state;
    assert_holds("join");
}

static void deliver_holds(void **state)
{
    (void)state;
    assert_holds("deliver");
}

static void deliver_kill_holds(void **state)
{
    (void)state;
    assert_holds("deliver-kill");
}

static void deliver_freeze_holds(void **state)
{
    (void)state;
    assert_holds("deliver-freeze");
}

static void deliver_holders_holds(void **state)
{
    (void)state;
    assert_holds("deliver-holders");
}

static void deliver_scattered_holds(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        assert_seed_holds("deliver-scattered", seed);
    }
}

static void deliver_parts_holds(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        assert_seed_holds("deliver-parts", seed);
    }
}

/* More than a fetch has places for, none of which has what lacks: each named the others without an
 * end, and nobody ever heard that it is not there. */
static void many_that_lack_the_same_hear_so(void **state)
{
    (void)state;
    struct sim_report report;
    const struct sim_scenario_options options = {.protocol = sim_protocol_artel(),
                                                 .nodes_count = 60,
                                                 .seed = 3,
                                                 .delivery = {.size_bytes = DELIVERED_BYTES / 2}};
    sim_scenario_run(sim_scenario_find("deliver-parts"), &options, &report);
    assert_true(sim_report_holds(&report));
}

static void deliver_orphans_holds(void **state)
{
    (void)state;
    assert_holds("deliver-orphans");
}

static void leave_holds(void **state)
{
    (void)state;
    assert_holds("leave");
}

static void loss_holds(void **state)
{
    (void)state;
    assert_holds("loss");
}

static void pause_holds(void **state)
{
    (void)state;
    assert_holds("pause");
}

static void bad_node_holds(void **state)
{
    (void)state;
    assert_holds("bad-node");
}

static void partition_holds(void **state)
{
    (void)state;
    assert_holds("partition");
}

static void skew_holds(void **state)
{
    (void)state;
    assert_holds("skew");
}

static void clone_holds(void **state)
{
    (void)state;
    assert_holds("clone");
}

static void lost_disk_holds(void **state)
{
    (void)state;
    assert_holds("lost-disk");
}

static void mass_restart_holds(void **state)
{
    (void)state;
    assert_holds("mass-restart");
}

static void mass_crash_holds(void **state)
{
    (void)state;
    assert_holds("mass-crash");
}

static void hostile_holds(void **state)
{
    (void)state;
    assert_holds("hostile");
}

static void chaos_holds(void **state)
{
    (void)state;
    assert_holds("chaos");
}

static void table_holds(void **state)
{
    (void)state;
    assert_holds("table");
}

/* Sanitizers make a run ten times as long. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TREE_SEEDS 1
#else
#define TREE_SEEDS 3
#endif

static void tree_churn_holds(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= TREE_SEEDS; seed++) {
        assert_seed_holds("tree-churn", seed);
    }
}

static void tree_partition_holds(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= TREE_SEEDS; seed++) {
        assert_seed_holds("tree-partition", seed);
    }
}

static void tree_absent_holds(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= TREE_SEEDS; seed++) {
        assert_seed_holds("tree-absent", seed);
    }
}

static void tree_disks_holds(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= TREE_SEEDS; seed++) {
        assert_seed_holds("tree-disks", seed);
    }
}

/* Found two branches of one log that never became one. */
static void tree_fork_holds(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= TREE_SEEDS; seed++) {
        assert_seed_holds("tree-fork", seed);
    }
}

static void tree_forged_holds(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= TREE_SEEDS; seed++) {
        assert_seed_holds("tree-forged", seed);
    }
}

static void tree_join_holds(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= TREE_SEEDS; seed++) {
        assert_seed_holds("tree-join", seed);
    }
}

static void a_tree_needs_artel(void **state)
{
    (void)state;
    struct sim_report report;
    run_as(sim_protocol_swim(), "tree-churn", 1, &report);
    assert_false(sim_report_holds(&report));
}

static void a_seed_gives_the_same_run_bit_for_bit(void **state)
{
    (void)state;
    const struct sim_protocol *protocols[] = {sim_protocol_artel(), sim_protocol_swim()};
    for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
        struct sim_report one;
        struct sim_report again;
        struct sim_report other;
        run_as(protocols[i], "chaos", 5, &one);
        run_as(protocols[i], "chaos", 5, &again);
        run_as(protocols[i], "chaos", 6, &other);
        assert_memory_equal(&one, &again, sizeof one);
        assert_true(one.trace != other.trace);
    }
    struct sim_report one;
    struct sim_report again;
    run_as(sim_protocol_artel(), "tree-disks", 5, &one);
    run_as(sim_protocol_artel(), "tree-disks", 5, &again);
    assert_memory_equal(&one, &again, sizeof one);
}

static void unknown_scenarios_are_not_found_and_known_ones_are(void **state)
{
    (void)state;
    size_t count;
    const struct sim_scenario *const *scenarios = sim_scenarios(&count);
    assert_int_equal(count, 33);
    for (size_t i = 0; i < count; i++) {
        assert_ptr_equal(sim_scenario_find(scenarios[i]->name), scenarios[i]);
    }
    assert_null(sim_scenario_find("no-such"));
}

static void the_time_series_has_a_line_a_second(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf csv = BUF_INIT;
    const struct sim_scenario_options options = {.protocol = sim_protocol_artel(),
                                                 .nodes_count = NODES,
                                                 .seed = 1,
                                                 .loss_ppm = SIM_LOSS_DEFAULT,
                                                 .csv = &csv};
    struct sim_report report;
    sim_scenario_run(sim_scenario_find("mass-crash"), &options, &report);
    size_t lines = 0;
    for (size_t i = 0; i < csv.size; i++) {
        lines += csv.data[i] == '\n' ? 1 : 0;
    }
    assert_int_equal(lines, report.virtual_us / SIM_US_PER_S + 1);
    /* protocol, seed, time, running, alive: at first nobody runs, at the end 16 - 4 do. */
    assert_non_null(strstr(buf_string(&csv), "artel,1,0,0,0,0.00,0,0,"));
    assert_non_null(strstr(buf_string(&csv), ",12,12,12.00,12,1,"));
}

/*
 * Broken protocols. Each is artel's with one fault, and each must fail the scenario that is there
 * to find just that. They show that a verdict can be "does not hold".
 */

enum fault {
    NEVER_JOINS,        /* hears nothing */
    TALKS_TOO_MUCH,     /* a hundred bytes with every tick */
    NEVER_DOUBTS,       /* stops ticking when it has been up for a few seconds */
    CRIES_WOLF,         /* says of a neighbour that it is unreachable */
    DROPS_FROM_RING,    /* says of a neighbour that it left the ring */
    GRUDGES,            /* hears nobody whom it believes unreachable */
    LOOKS_AT_THE_CLOCK, /* does nothing in odd hours */
    BELIEVES_NOISE,     /* what makes no sense means that a neighbour is gone */
};

struct broken {
    void *inner;
    struct sim_world *world;
    uint32_t slot;
    uint64_t born_us;
    uint64_t ticks;
};

static enum fault fault;

static void *broken_new(const struct sim_birth *birth, uint64_t now_us)
{
    struct broken *broken = mem_alloc(sizeof *broken);
    broken->inner = sim_protocol_artel()->node_new(birth, now_us);
    broken->world = birth->world;
    broken->slot = birth->slot;
    broken->born_us = now_us;
    return broken;
}

static void broken_free(void *node)
{
    struct broken *broken = node;
    sim_protocol_artel()->node_free(broken->inner);
    free(broken);
}

static uint32_t neighbour(const struct broken *broken)
{
    return (broken->slot + 1) % NODES;
}

static void broken_receive_datagram(void *node, uint64_t now_us, uint32_t from_slot,
                                    struct bytes datagram)
{
    struct broken *broken = node;
    const struct sim_protocol *artel = sim_protocol_artel();
    const bool is_ignored =
        fault == NEVER_JOINS ||
        (fault == GRUDGES && now_us - broken->born_us > 5 * SIM_US_PER_S &&
         !artel->sees_alive(broken->inner, sim_world_identity(broken->world, from_slot)));
    if (fault == BELIEVES_NOISE && (datagram.size == 0 || datagram.data[0] != 0xA7)) {
        sim_tell(broken->world, broken->slot, SIM_SEES_UNREACHABLE, neighbour(broken), 0);
    }
    if (!is_ignored) {
        artel->receive_datagram(broken->inner, now_us, from_slot, datagram);
    }
}

static void broken_receive_message(void *node, uint64_t now_us, uint32_t from_slot,
                                   uint32_t from_identity, struct bytes message)
{
    struct broken *broken = node;
    const struct sim_protocol *artel = sim_protocol_artel();
    if (fault != NEVER_JOINS &&
        !(fault == GRUDGES && !artel->sees_alive(broken->inner, from_identity))) {
        artel->receive_message(broken->inner, now_us, from_slot, from_identity, message);
    }
}

static void broken_tick(void *node, uint64_t now_us)
{
    struct broken *broken = node;
    static const uint8_t chatter[100] = {0xA7};
    broken->ticks++;
    if (fault == TALKS_TOO_MUCH) {
        sim_send_datagram(broken->world, broken->slot, neighbour(broken),
                          BYTES(chatter, sizeof chatter), sizeof chatter);
    }
    if (fault == CRIES_WOLF && broken->slot == 3 && broken->ticks == 200) {
        sim_tell(broken->world, broken->slot, SIM_SEES_UNREACHABLE, neighbour(broken), 0);
    }
    if (fault == DROPS_FROM_RING && broken->slot == 3 && broken->ticks == 200) {
        sim_tell(broken->world, broken->slot, SIM_RING_LEFT, neighbour(broken), 0);
    }
    const bool is_idle = (fault == NEVER_DOUBTS && now_us - broken->born_us > 8 * SIM_US_PER_S) ||
                         (fault == LOOKS_AT_THE_CLOCK && now_us / SIM_US_PER_S / 3600 % 2 == 1);
    if (!is_idle) {
        sim_protocol_artel()->tick(broken->inner, now_us);
    }
}

static uint64_t broken_next_us(const void *node)
{
    const struct broken *broken = node;
    return sim_protocol_artel()->next_us(broken->inner);
}

static void broken_leave(void *node, uint64_t now_us)
{
    struct broken *broken = node;
    sim_protocol_artel()->leave(broken->inner, now_us);
}

static void broken_save(const void *node, struct buf *ret_bytes)
{
    const struct broken *broken = node;
    sim_protocol_artel()->save(broken->inner, ret_bytes);
}

static uint64_t broken_digest(const void *node)
{
    const struct broken *broken = node;
    return sim_protocol_artel()->digest(broken->inner);
}

static size_t broken_alive_count(const void *node)
{
    const struct broken *broken = node;
    return sim_protocol_artel()->alive_count(broken->inner);
}

static bool broken_sees_alive(const void *node, uint32_t identity)
{
    const struct broken *broken = node;
    return sim_protocol_artel()->sees_alive(broken->inner, identity);
}

/* That check of that scenario fails with that fault. */
static void assert_caught(enum fault with, const char *scenario, const char *check)
{
    struct sim_protocol broken = *sim_protocol_artel();
    broken.name = "broken";
    broken.node_new = broken_new;
    broken.node_free = broken_free;
    broken.receive_datagram = broken_receive_datagram;
    broken.receive_message = broken_receive_message;
    broken.tick = broken_tick;
    broken.next_us = broken_next_us;
    broken.leave = broken_leave;
    broken.save = broken_save;
    broken.digest = broken_digest;
    broken.alive_count = broken_alive_count;
    broken.sees_alive = broken_sees_alive;
    fault = with;
    struct sim_report report;
    run_as(&broken, scenario, 1, &report);
    assert_false(sim_report_holds(&report));
    bool found = false;
    for (size_t i = 0; i < report.checks_count; i++) {
        found = found || (strcmp(report.checks[i].name, check) == 0 && !report.checks[i].holds);
    }
    if (!found) {
        fail_msg("%s does not fail in %s", check, scenario);
    }
}

static void who_never_joins_is_caught(void **state)
{
    (void)state;
    assert_caught(NEVER_JOINS, "cold-start", "cold-start");
    assert_caught(NEVER_JOINS, "chaos", "grows-together");
}

static void who_talks_too_much_is_caught(void **state)
{
    (void)state;
    assert_caught(TALKS_TOO_MUCH, "idle", "idle-out");
}

static void who_never_doubts_is_caught(void **state)
{
    (void)state;
    assert_caught(NEVER_DOUBTS, "crash", "noticed-by-all-p50");
    assert_caught(NEVER_DOUBTS, "mass-crash", "noticed-by-all");
}

static void who_cries_wolf_is_caught(void **state)
{
    (void)state;
    assert_caught(CRIES_WOLF, "loss", "no-healthy-unreachable");
    assert_caught(CRIES_WOLF, "idle", "no-healthy-unreachable");
}

static void who_drops_others_from_the_ring_is_caught(void **state)
{
    (void)state;
    assert_caught(DROPS_FROM_RING, "loss", "none-leaves-ring-at-5%");
    assert_caught(DROPS_FROM_RING, "pause", "none-leaves-ring");
}

static void who_bears_a_grudge_is_caught(void **state)
{
    (void)state;
    assert_caught(GRUDGES, "partition", "halves-healed");
}

static void who_looks_at_the_clock_is_caught(void **state)
{
    (void)state;
    assert_caught(LOOKS_AT_THE_CLOCK, "skew", "clocks-12h-apart-change-nothing");
}

static void who_believes_noise_is_caught(void **state)
{
    (void)state;
    assert_caught(BELIEVES_NOISE, "hostile", "no-healthy-unreachable");
}

/* The baseline knows nothing of clones, and takes its time with crashes. */
static void the_baseline_fails_where_it_should(void **state)
{
    (void)state;
    struct sim_report report;
    run_as(sim_protocol_swim(), "clone", 1, &report);
    assert_false(sim_report_holds(&report));
    run_as(sim_protocol_swim(), "crash", 1, &report);
    assert_false(sim_report_holds(&report));
    run_as(sim_protocol_swim(), "loss", 1, &report);
    assert_true(sim_report_holds(&report));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cold_start_holds),
        cmocka_unit_test(idle_holds),
        cmocka_unit_test(crash_holds),
        cmocka_unit_test(broadcast_holds),
        cmocka_unit_test(join_holds),
        cmocka_unit_test(leave_holds),
        cmocka_unit_test(deliver_holds),
        cmocka_unit_test(deliver_kill_holds),
        cmocka_unit_test(deliver_freeze_holds),
        cmocka_unit_test(deliver_holders_holds),
        cmocka_unit_test(deliver_scattered_holds),
        cmocka_unit_test(deliver_parts_holds),
        cmocka_unit_test(many_that_lack_the_same_hear_so),
        cmocka_unit_test(deliver_orphans_holds),
        cmocka_unit_test(loss_holds),
        cmocka_unit_test(pause_holds),
        cmocka_unit_test(bad_node_holds),
        cmocka_unit_test(partition_holds),
        cmocka_unit_test(skew_holds),
        cmocka_unit_test(clone_holds),
        cmocka_unit_test(lost_disk_holds),
        cmocka_unit_test(mass_restart_holds),
        cmocka_unit_test(mass_crash_holds),
        cmocka_unit_test(hostile_holds),
        cmocka_unit_test(chaos_holds),
        cmocka_unit_test(table_holds),
        cmocka_unit_test(tree_churn_holds),
        cmocka_unit_test(tree_partition_holds),
        cmocka_unit_test(tree_absent_holds),
        cmocka_unit_test(tree_disks_holds),
        cmocka_unit_test(tree_fork_holds),
        cmocka_unit_test(tree_forged_holds),
        cmocka_unit_test(tree_join_holds),
        cmocka_unit_test(a_tree_needs_artel),
        cmocka_unit_test(a_seed_gives_the_same_run_bit_for_bit),
        cmocka_unit_test(unknown_scenarios_are_not_found_and_known_ones_are),
        cmocka_unit_test(the_time_series_has_a_line_a_second),
        cmocka_unit_test(who_never_joins_is_caught),
        cmocka_unit_test(who_talks_too_much_is_caught),
        cmocka_unit_test(who_never_doubts_is_caught),
        cmocka_unit_test(who_cries_wolf_is_caught),
        cmocka_unit_test(who_drops_others_from_the_ring_is_caught),
        cmocka_unit_test(who_bears_a_grudge_is_caught),
        cmocka_unit_test(who_looks_at_the_clock_is_caught),
        cmocka_unit_test(who_believes_noise_is_caught),
        cmocka_unit_test(the_baseline_fails_where_it_should),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
