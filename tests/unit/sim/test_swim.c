/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "sim/world.h"

#define NODES 30u

struct scene {
    struct sim_world *world;
    uint32_t subject;
    uint64_t gone_count; /* how often somebody told that the subject is gone */
    uint64_t left_count;
    uint64_t first_us;
};

static void on_news(void *context, uint32_t slot, enum sim_news news, uint32_t identity)
{
    struct scene *scene = context;
    if (identity != scene->subject || slot == identity) {
        return;
    }
    if (news == SIM_SEES_UNREACHABLE) {
        scene->first_us = scene->gone_count++ ? scene->first_us : sim_world_now_us(scene->world);
    }
    scene->left_count += news == SIM_SEES_LEFT ? 1 : 0;
}

/* Whether all that run have one view, of all that run. */
static bool is_agreed(void *context)
{
    const struct scene *scene = context;
    const struct sim_protocol *protocol = sim_protocol_swim();
    size_t running = 0;
    for (uint32_t slot = 0; slot < NODES; slot++) {
        running += sim_world_state(scene->world, slot) == SIM_RUNNING ? 1 : 0;
    }
    uint64_t digest = 0;
    for (uint32_t slot = 0; slot < NODES; slot++) {
        const void *node = sim_world_node(scene->world, slot);
        if (sim_world_state(scene->world, slot) != SIM_RUNNING) {
            continue;
        }
        if (protocol->alive_count(node) != running ||
            (digest && protocol->digest(node) != digest)) {
            return false;
        }
        digest = protocol->digest(node);
    }
    return true;
}

static void run_until_agreed(struct scene *scene, uint64_t for_s)
{
    const uint64_t until_us = sim_world_now_us(scene->world) + for_s * SIM_US_PER_S;
    assert_true(sim_world_run_until(scene->world, until_us, 10 * SIM_US_PER_MS, is_agreed, scene));
}

static int set_up(void **state)
{
    struct scene *scene = mem_alloc(sizeof *scene);
    const struct sim_world_options options = {
        .protocol = sim_protocol_swim(), .slots_max = NODES, .seed = 11};
    scene->world = sim_world_new(&options);
    scene->subject = 7;
    const struct sim_observer observer = {.news = on_news, .context = scene};
    sim_world_observe(scene->world, &observer);
    for (size_t i = 0; i < NODES; i++) {
        const uint32_t slot = sim_world_add(scene->world);
        const uint32_t seed = slot == 0 ? 1 : 0;
        sim_world_set_seeds(scene->world, slot, &seed, 1);
        sim_world_start(scene->world, slot, SIM_DISK_KEPT);
    }
    run_until_agreed(scene, 30);
    sim_world_run(scene->world, 10 * SIM_US_PER_S);
    *state = scene;
    return 0;
}

static int tear_down(void **state)
{
    struct scene *scene = *state;
    sim_world_free(scene->world);
    free(scene);
    return 0;
}

static void a_crash_is_noticed_after_probe_and_suspicion(void **state)
{
    struct scene *scene = *state;
    const uint64_t begin_us = sim_world_now_us(scene->world);
    sim_world_crash(scene->world, scene->subject);
    sim_world_run(scene->world, 60 * SIM_US_PER_S);
    assert_true(is_agreed(scene));
    assert_int_equal(scene->gone_count, NODES - 1);
    /* At least a probe (1 s) and the shortest suspicion, 4 s times log10 of 30. */
    assert_in_range(scene->first_us - begin_us, 6 * SIM_US_PER_S, 12 * SIM_US_PER_S);
}

static void a_short_pause_is_refuted(void **state)
{
    struct scene *scene = *state;
    sim_world_pause(scene->world, scene->subject);
    sim_world_run(scene->world, 4 * SIM_US_PER_S);
    sim_world_resume(scene->world, scene->subject);
    sim_world_run(scene->world, 30 * SIM_US_PER_S);
    assert_int_equal(scene->gone_count, 0);
    assert_true(is_agreed(scene));
}

static void a_restart_is_taken_in_again(void **state)
{
    struct scene *scene = *state;
    sim_world_crash(scene->world, scene->subject);
    sim_world_run(scene->world, 20 * SIM_US_PER_S);
    sim_world_start(scene->world, scene->subject, SIM_DISK_KEPT);
    run_until_agreed(scene, 30);
    assert_int_equal(scene->gone_count, NODES - 1);
}

static void good_bye_is_no_crash(void **state)
{
    struct scene *scene = *state;
    sim_world_leave(scene->world, scene->subject);
    sim_world_run(scene->world, 10 * SIM_US_PER_S);
    assert_int_equal(sim_world_state(scene->world, scene->subject), SIM_LEFT);
    assert_true(is_agreed(scene));
    assert_int_equal(scene->gone_count, 0);
    assert_int_equal(scene->left_count, NODES - 1);
}

static void a_node_that_one_cannot_hear_is_reached_by_others(void **state)
{
    struct scene *scene = *state;
    sim_network_set_link_loss(sim_world_network(scene->world), 3, scene->subject, SIM_PPM);
    sim_world_run(scene->world, 120 * SIM_US_PER_S);
    assert_int_equal(scene->gone_count, 0);
}

static void parted_halves_find_each_other_again(void **state)
{
    struct scene *scene = *state;
    struct sim_network *network = sim_world_network(scene->world);
    for (uint32_t slot = 0; slot < NODES; slot++) {
        sim_network_set_group(network, slot, slot % 2);
    }
    sim_network_set_cut(network, 0, 1, true);
    sim_network_set_cut(network, 1, 0, true);
    sim_world_run(scene->world, 90 * SIM_US_PER_S);
    assert_true(scene->gone_count > 0);
    assert_false(is_agreed(scene));
    sim_network_heal(network);
    run_until_agreed(scene, 120); /* an attempt of Serf's every 30 s */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_crash_is_noticed_after_probe_and_suspicion, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_short_pause_is_refuted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_restart_is_taken_in_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(good_bye_is_no_crash, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_node_that_one_cannot_hear_is_reached_by_others, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(parted_halves_find_each_other_again, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
