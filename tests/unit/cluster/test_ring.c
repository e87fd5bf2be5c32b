/* SPDX-License-Identifier: Apache-2.0 */
#include "net.h"

static bool in_ring(struct net *net, unsigned at, unsigned of)
{
    const struct node_id id = net_id(of);
    struct cluster_member member;
    assert_true(cluster_find(net->nodes[at].cluster, &id, &member));
    return member.in_ring;
}

static void silence_of_thirty_seconds_ends_a_place(void **state)
{
    (void)state;
    struct net *net = net_of(6);
    net_stop(net, 3);
    net_run(net, 25 * NET_SECOND);
    assert_int_equal(net_sees(net, 0, 3), MEMBER_UNREACHABLE);
    assert_true(in_ring(net, 0, 3));
    net_run(net, 15 * NET_SECOND);
    for (unsigned i = 0; i < 6; i++) {
        if (i != 3) {
            assert_false(in_ring(net, i, 3));
            assert_int_equal(net_count_events(net, i, CLUSTER_RING_LEFT, 3), 1);
        }
    }
    net_free(net);
}

static void a_pause_of_less_costs_nothing(void **state)
{
    (void)state;
    struct net *net = net_of(6);
    for (unsigned round = 0; round < 3; round++) {
        net->nodes[3].is_paused = true;
        net_run(net, 25 * NET_SECOND);
        assert_int_equal(net_sees(net, 0, 3), MEMBER_UNREACHABLE);
        net->nodes[3].is_paused = false;
        assert_true(net_run_until_agreed(net, 5 * NET_SECOND));
    }
    for (unsigned i = 0; i < 6; i++) {
        for (unsigned j = 0; j < 6; j++) {
            assert_int_equal(net_count_events(net, i, CLUSTER_RING_LEFT, j), 0);
            /* The paused one accuses nobody of its own absence. */
            assert_int_equal(net_count_events(net, i, CLUSTER_UNREACHABLE, j) > 0,
                             j == 3 && i != 3);
        }
    }
    net_free(net);
}

static void who_comes_and_goes_changes_the_ring_once(void **state)
{
    (void)state;
    struct net *net = net_of(6);
    for (unsigned round = 0; round < 5; round++) {
        net->nodes[3].is_paused = true;
        net_run(net, 40 * NET_SECOND);
        net->nodes[3].is_paused = false;
        net_run(net, 15 * NET_SECOND);
        assert_int_equal(net_sees(net, 0, 3), MEMBER_ALIVE);
    }
    for (unsigned i = 0; i < 6; i++) {
        if (i != 3) {
            assert_int_equal(net_count_events(net, i, CLUSTER_RING_LEFT, 3), 1);
            assert_int_equal(net_count_events(net, i, CLUSTER_RING_ENTERED, 3), 0);
        }
    }
    /* It stays, and is let in: five departures were one. */
    net_run(net, (CLUSTER_RING_RETURN_MS + 1000) * NET_MS);
    assert_true(in_ring(net, 0, 3));
    net_free(net);
}

static void each_return_takes_longer(void **state)
{
    (void)state;
    struct net *net = net_of(4);
    uint64_t wait_ms = CLUSTER_RING_RETURN_MS;
    for (unsigned round = 0; round < 4; round++) {
        net->nodes[3].is_paused = true;
        net_run(net, 40 * NET_SECOND);
        assert_false(in_ring(net, 0, 3));
        net->nodes[3].is_paused = false;
        assert_true(net_run_until_agreed(net, 20 * NET_SECOND));
        net_run(net, (wait_ms - 2000) * NET_MS);
        assert_false(in_ring(net, 0, 3));
        net_run(net, 4000 * NET_MS);
        assert_true(in_ring(net, 0, 3));
        wait_ms *= 2;
    }
    net_free(net);
}

static bool is_lost_on_the_way_to_0(struct net *net, unsigned from, unsigned to, struct bytes bytes,
                                    bool is_message)
{
    (void)net;
    (void)from;
    (void)bytes;
    (void)is_message;
    return to == 0;
}

/* It did not see that another came back; what it slept does not count as silence of that one. */
static void who_slept_takes_nobody_out(void **state)
{
    (void)state;
    struct net *net = net_of(8);
    net->nodes[3].is_paused = true;
    net_run(net, 5 * NET_SECOND);
    assert_int_equal(net_sees(net, 0, 3), MEMBER_UNREACHABLE);
    net->nodes[0].is_paused = true;
    net->nodes[3].is_paused = false;
    net_run(net, 29 * NET_SECOND);
    net->nodes[0].is_paused = false;
    net->loses = is_lost_on_the_way_to_0;
    net_run(net, 100 * NET_MS);
    net->loses = NULL;
    assert_true(net_run_until_agreed(net, 10 * NET_SECOND));
    net_run(net, 60 * NET_SECOND);
    assert_int_equal(net_count_events(net, 0, CLUSTER_RING_LEFT, 3), 0);
    net_free(net);
}

static void a_good_bye_ends_it_at_once_and_a_return_begins_it_at_once(void **state)
{
    (void)state;
    struct net *net = net_of(6);
    cluster_leave(net->nodes[3].cluster, net_clock(&net->nodes[3]), MEMBER_LEFT);
    net_run(net, 500 * NET_MS);
    for (unsigned i = 0; i < 6; i++) {
        if (i != 3) {
            assert_int_equal(net_sees(net, i, 3), MEMBER_LEFT);
            assert_false(in_ring(net, i, 3));
        }
    }
    struct cluster_options options = net_options(&net->nodes[3]);
    options.incarnation = 2;
    net_start(net, 3, &options);
    assert_true(net_run_until_agreed(net, 5 * NET_SECOND));
    assert_true(in_ring(net, 0, 3));
    net_free(net);
}

static void the_silent_are_forgotten_after_a_week(void **state)
{
    (void)state;
    struct net *net = net_of(4);
    net_stop(net, 3);
    const uint64_t stopped_us = net->now_us;
    net_run(net, 60 * NET_SECOND);
    /* A node that comes later learns how long it has been silent. */
    net_start(net, 4, NULL);
    net_run(net, 60 * NET_SECOND);
    assert_int_equal(net_sees(net, 4, 3), MEMBER_UNREACHABLE);
    net_run_until(net, stopped_us + CLUSTER_ROSTER_MS * NET_MS - 60 * NET_SECOND);
    assert_int_equal(net_sees(net, 0, 3), MEMBER_UNREACHABLE);
    net_run(net, 120 * NET_SECOND);
    for (unsigned i = 0; i < 5; i++) {
        if (i != 3) {
            assert_int_equal(net_sees(net, i, 3), 0);
            assert_int_equal(net_count_events(net, i, CLUSTER_FORGOTTEN, 3), 1);
        }
    }
    /* And nobody brings it back. */
    net_run(net, 600 * NET_SECOND);
    assert_true(net_agrees(net));
    assert_int_equal(net_sees(net, 0, 3), 0);
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(silence_of_thirty_seconds_ends_a_place),
        cmocka_unit_test(a_pause_of_less_costs_nothing),
        cmocka_unit_test(who_comes_and_goes_changes_the_ring_once),
        cmocka_unit_test(each_return_takes_longer),
        cmocka_unit_test(who_slept_takes_nobody_out),
        cmocka_unit_test(a_good_bye_ends_it_at_once_and_a_return_begins_it_at_once),
        cmocka_unit_test(the_silent_are_forgotten_after_a_week),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
