/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "sim/network.h"

#define DRAWS 200000u

static struct sim_network *network_of(uint32_t hosts)
{
    const struct sim_network_options options = {.hosts_max = hosts, .seed = 3};
    return sim_network_new(&options);
}

CLEANUP_DEFINE(sim_network_free, struct sim_network)
#define CLEANUP_NETWORK CLEANUP(sim_network_free)

/* How many of a million datagrams arrive, as draws tell it; copies count. */
static double arrived(struct sim_network *network, uint32_t from, uint32_t to)
{
    uint64_t delays_us[SIM_COPIES_MAX];
    uint64_t copies = 0;
    for (size_t i = 0; i < DRAWS; i++) {
        copies += sim_network_route(network, from, to, delays_us);
    }
    return (double)copies / DRAWS;
}

static void assert_near(double value, double expected)
{
    if (value < expected - 0.01 || value > expected + 0.01) {
        fail_msg("%f is not near %f", value, expected);
    }
}

static int compare(const void *a, const void *b)
{
    const uint64_t left = *(const uint64_t *)a;
    const uint64_t right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static void delays_are_those_of_a_local_network(void **state)
{
    (void)state;
    CLEANUP_NETWORK struct sim_network *network = network_of(2);
    CLEANUP_FREE uint64_t *delays_us = mem_alloc_array(DRAWS, sizeof *delays_us);
    for (size_t i = 0; i < DRAWS; i++) {
        delays_us[i] = sim_network_delay_us(network, 0, 1);
    }
    qsort(delays_us, DRAWS, sizeof *delays_us, compare);
    assert_in_range(delays_us[0], 60, 100);
    assert_in_range(delays_us[DRAWS / 2], 190, 210);
    assert_in_range(delays_us[DRAWS / 100 * 99], 600, 800);
    assert_in_range(delays_us[DRAWS / 1000 * 999], 1700, 2500);
    assert_in_range(delays_us[DRAWS - 1], 10000, 30000);
}

static void other_zones_are_farther_away(void **state)
{
    (void)state;
    CLEANUP_NETWORK struct sim_network *network = network_of(3);
    sim_network_set_zone(network, 1, 1);
    sim_network_set_zone(network, 2, 2);
    sim_network_set_distance(network, 0, 1, 40000);
    for (size_t i = 0; i < 1000; i++) {
        assert_true(sim_network_delay_us(network, 0, 1) > 40000);
        assert_true(sim_network_delay_us(network, 1, 0) > 40000);
        assert_true(sim_network_delay_us(network, 0, 2) < 40000);
        assert_true(sim_network_delay_us(network, 1, 2) < 40000);
    }
}

static void loss_is_as_large_as_it_is_set(void **state)
{
    (void)state;
    CLEANUP_NETWORK struct sim_network *network = network_of(4);
    assert_near(arrived(network, 0, 1), 1.0);
    sim_network_set_loss(network, 100000);
    assert_near(arrived(network, 0, 1), 0.9);
    sim_network_set_host_loss(network, 1, 200000, 500000);
    assert_near(arrived(network, 0, 1), 0.9 * 0.5);
    assert_near(arrived(network, 1, 0), 0.9 * 0.8);
    assert_near(arrived(network, 2, 3), 0.9);
    sim_network_set_loss(network, 0);
    sim_network_set_link_loss(network, 2, 3, 300000);
    assert_near(arrived(network, 2, 3), 0.7);
    assert_near(arrived(network, 3, 2), 1.0);
    sim_network_set_link_loss(network, 2, 3, 0);
    assert_near(arrived(network, 2, 3), 1.0);
}

static void groups_are_cut_one_way_or_both(void **state)
{
    (void)state;
    CLEANUP_NETWORK struct sim_network *network = network_of(3);
    sim_network_set_group(network, 1, 1);
    sim_network_set_group(network, 2, 2);
    sim_network_set_cut(network, 0, 1, true);
    assert_false(sim_network_reaches(network, 0, 1));
    assert_true(sim_network_reaches(network, 1, 0));
    assert_true(sim_network_reaches(network, 0, 2));
    assert_true(sim_network_reaches(network, 2, 1));
    assert_near(arrived(network, 0, 1), 0.0);
    assert_near(arrived(network, 1, 0), 1.0);
    sim_network_heal(network);
    assert_true(sim_network_reaches(network, 0, 1));
    assert_near(arrived(network, 0, 1), 1.0);
}

static void a_pulled_cable_and_a_dead_link_reach_nobody(void **state)
{
    (void)state;
    CLEANUP_NETWORK struct sim_network *network = network_of(3);
    sim_network_set_host_loss(network, 0, SIM_PPM, 0);
    sim_network_set_link_loss(network, 2, 1, SIM_PPM);
    assert_false(sim_network_reaches(network, 0, 1));
    assert_true(sim_network_reaches(network, 1, 0));
    assert_false(sim_network_reaches(network, 2, 1));
    assert_true(sim_network_reaches(network, 1, 2));
    sim_network_clear_links(network);
    assert_true(sim_network_reaches(network, 2, 1));
}

static void datagrams_are_doubled_and_overtake_each_other(void **state)
{
    (void)state;
    CLEANUP_NETWORK struct sim_network *network = network_of(2);
    uint64_t delays_us[SIM_COPIES_MAX];
    sim_network_set_duplicate(network, 250000);
    assert_near(arrived(network, 0, 1), 1.25);
    sim_network_set_duplicate(network, 0);
    sim_network_set_late(network, SIM_PPM);
    uint64_t latest_us = 0;
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(sim_network_route(network, 0, 1, delays_us), 1);
        latest_us = delays_us[0] > latest_us ? delays_us[0] : latest_us;
    }
    assert_true(latest_us > SIM_LATE_US_MAX / 2);
}

static void messages_take_their_time_at_the_rate_of_both_ends(void **state)
{
    (void)state;
    const struct sim_network_options options = {.hosts_max = 3, .seed = 1, .rate_bps = 8000000};
    CLEANUP_NETWORK struct sim_network *network = sim_network_new(&options);
    /* A second for a million bytes; what comes next waits, at the sender and at the receiver. */
    assert_int_equal(sim_network_transmit_us(network, 100, 0, 1, 1000000), 1000100);
    assert_int_equal(sim_network_transmit_us(network, 100, 0, 2, 1000000), 2000100);
    assert_int_equal(sim_network_transmit_us(network, 100, 2, 1, 1000000), 2000100);
    assert_int_equal(sim_network_transmit_us(network, 9000000, 1, 0, 500000), 9500000);
}

static void equal_seeds_draw_equal_fates(void **state)
{
    (void)state;
    CLEANUP_NETWORK struct sim_network *one = network_of(2);
    CLEANUP_NETWORK struct sim_network *other = network_of(2);
    sim_network_set_loss(one, 100000);
    sim_network_set_loss(other, 100000);
    for (size_t i = 0; i < 10000; i++) {
        uint64_t left_us[SIM_COPIES_MAX] = {0};
        uint64_t right_us[SIM_COPIES_MAX] = {0};
        assert_int_equal(sim_network_route(one, 0, 1, left_us),
                         sim_network_route(other, 0, 1, right_us));
        assert_int_equal(left_us[0], right_us[0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delays_are_those_of_a_local_network),
        cmocka_unit_test(other_zones_are_farther_away),
        cmocka_unit_test(loss_is_as_large_as_it_is_set),
        cmocka_unit_test(groups_are_cut_one_way_or_both),
        cmocka_unit_test(a_pulled_cable_and_a_dead_link_reach_nobody),
        cmocka_unit_test(datagrams_are_doubled_and_overtake_each_other),
        cmocka_unit_test(messages_take_their_time_at_the_rate_of_both_ends),
        cmocka_unit_test(equal_seeds_draw_equal_fates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
