/* SPDX-License-Identifier: Apache-2.0 */
#include "net.h"

static void a_seed_that_comes_later_is_found(void **state)
{
    (void)state;
    struct net *net = net_new();
    for (unsigned i = 1; i < 4; i++) {
        net_start(net, i, NULL);
    }
    net_run(net, 60 * NET_SECOND);
    assert_true(cluster_is_alone(net->nodes[1].cluster));
    net_start(net, 0, NULL);
    assert_true(net_run_until_agreed(net, 10 * NET_SECOND));
    net_free(net);
}

static void one_live_seed_of_several_is_enough(void **state)
{
    (void)state;
    struct net *net = net_of(3);
    net_start(net, 3, NULL);
    const struct address seeds[] = {net_address(90), net_address(91), net_address(92),
                                    net_address(93), net_address(2)};
    cluster_set_seeds(net->nodes[3].cluster, seeds, ARRAY_SIZE(seeds));
    assert_true(net_run_until_agreed(net, 10 * NET_SECOND));
    net_free(net);
}

/* Two networks of which each node has a seed in its own only, but for one. */
static void two_networks_become_one(void **state)
{
    (void)state;
    struct net *net = net_of(4);
    for (unsigned i = 4; i < 8; i++) {
        net_start(net, i, NULL);
        const struct address seed = net_address(4);
        cluster_set_seeds(net->nodes[i].cluster, &seed, i == 4 ? 0 : 1);
    }
    net_run(net, 10 * NET_SECOND);
    assert_int_equal(cluster_count(net->nodes[5].cluster, MEMBER_ALIVE), 4);
    const struct address seeds[] = {net_address(4), net_address(1)};
    cluster_set_seeds(net->nodes[5].cluster, seeds, 2);
    assert_true(net_run_until_agreed(net, 20 * NET_SECOND));
    net_free(net);
}

static void clocks_may_be_anything(void **state)
{
    (void)state;
    struct net *net = net_new();
    for (unsigned i = 0; i < 10; i++) {
        net_start(net, i, NULL);
        net->nodes[i].offset_us = i * (uint64_t)43200 * NET_SECOND;
        net_start(net, i, NULL);
    }
    assert_true(net_run_until_agreed(net, 10 * NET_SECOND));
    net_run(net, 60 * NET_SECOND);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(cluster_counters(net->nodes[i].cluster)->alerts, 0);
    }
    net_stop(net, 3);
    assert_true(net_run_until_agreed(net, 4 * NET_SECOND));
    net_free(net);
}

/* A join of a node that is at no address known so far. */
static void join_of_a_stranger(struct net *net, unsigned stranger, const struct address *from)
{
    const struct datagram join = {
        .type = DATAGRAM_JOIN,
        .sender = net_id(stranger),
        .sender_nonce = 1 + stranger,
        .number = 1,
        .updates = {{.is_record = true,
                     .record = {.id = net_id(stranger),
                                .version = {1, 1 + stranger, MEMBER_ALIVE},
                                .address = *from,
                                .name = bytes_of_string("stranger"),
                                .zone = bytes_of_string("default")}}},
        .updates_count = 1,
    };
    struct buf bytes = BUF_INIT;
    assert_int_equal(datagram_format(&join, &bytes), 0);
    cluster_receive_datagram(net->nodes[0].cluster, net->now_us, from, buf_bytes(&bytes));
    buf_done(&bytes);
}

/* Or a node would send to any victim ten times what somebody sends to it. */
static void strangers_are_welcomed_so_often_in_a_second(void **state)
{
    (void)state;
    struct net *net = net_of(20);
    const struct cluster_counters *counters = cluster_counters(net->nodes[0].cluster);
    const struct address victim = net_address(5000);
    uint64_t before = counters->datagram_bytes_sent;
    for (unsigned i = 0; i < 5000; i++) {
        join_of_a_stranger(net, 1000 + i, &victim);
    }
    assert_true(counters->welcomes_withheld > 4000);
    assert_true(counters->datagram_bytes_sent - before < (uint64_t)1024 * 1024);
    /* The next second has as many again. */
    const uint64_t withheld = counters->welcomes_withheld;
    net_run(net, NET_SECOND);
    join_of_a_stranger(net, 9000, &victim);
    assert_true(counters->welcomes_withheld == withheld);
    /* Members that say who they are get their answer, however many strangers there are. */
    for (unsigned i = 0; i < 5000; i++) {
        join_of_a_stranger(net, 10000 + i, &victim);
    }
    const uint64_t sent = counters->datagrams_sent;
    const struct node_id id = net_id(3);
    struct cluster_member member;
    assert_true(cluster_find(net->nodes[0].cluster, &id, &member));
    const struct datagram join = {
        .type = DATAGRAM_JOIN,
        .sender = id,
        .sender_nonce = member.record.version.boot_nonce,
        .number = 1,
        .updates = {{.is_record = true, .record = member.record}},
        .updates_count = 1,
    };
    struct buf bytes = BUF_INIT;
    assert_int_equal(datagram_format(&join, &bytes), 0);
    const struct address from = net_address(3);
    cluster_receive_datagram(net->nodes[0].cluster, net->now_us, &from, buf_bytes(&bytes));
    buf_done(&bytes);
    assert_true(counters->datagrams_sent == sent + 1);
    net_free(net);
}

static void a_good_bye_is_heard_by_all(void **state)
{
    (void)state;
    struct net *net = net_of(30);
    cluster_leave(net->nodes[7].cluster, net->now_us, MEMBER_LEFT);
    net_run(net, CLUSTER_LEAVE_MS * NET_MS);
    assert_int_equal(net_count_events(net, 7, CLUSTER_LEAVE_DONE, 7), 1);
    for (unsigned i = 0; i < 30; i++) {
        if (i != 7) {
            assert_int_equal(net_sees(net, i, 7), MEMBER_LEFT);
        }
    }
    net_free(net);
}

static void a_stop_is_heard_by_all_and_the_ring_waits(void **state)
{
    (void)state;
    struct net *net = net_of(30);
    cluster_leave(net->nodes[7].cluster, net->now_us, MEMBER_UNREACHABLE);
    net_run(net, CLUSTER_LEAVE_MS * NET_MS);
    assert_int_equal(net_count_events(net, 7, CLUSTER_LEAVE_DONE, 7), 1);
    for (unsigned i = 0; i < 30; i++) {
        if (i != 7) {
            struct cluster_member stopped;
            assert_int_equal(net_sees(net, i, 7), MEMBER_UNREACHABLE);
            assert_int_equal(net_count_events(net, i, CLUSTER_UNREACHABLE, 7), 1);
            const struct node_id id = net_id(7);
            assert_true(cluster_find(net->nodes[i].cluster, &id, &stopped));
            assert_true(stopped.in_ring);
            assert_int_equal(cluster_counters(net->nodes[i].cluster)->alerts, 0);
        }
    }
    struct cluster_options options = net_options(&net->nodes[7]);
    options.incarnation = 2;
    net_start(net, 7, &options);
    assert_true(net_run_until_agreed(net, 5 * NET_SECOND));
    net_run(net, 60 * NET_SECOND);
    assert_int_equal(net_count_events(net, 0, CLUSTER_RING_LEFT, 7), 0);
    net_free(net);
}

static void who_is_alone_leaves_at_once(void **state)
{
    (void)state;
    struct net *net = net_of(1);
    cluster_leave(net->nodes[0].cluster, net->now_us, MEMBER_UNREACHABLE);
    net_run(net, NET_MS);
    assert_int_equal(net_count_events(net, 0, CLUSTER_LEAVE_DONE, 0), 1);
    net_free(net);
}

/* Who welcomes tells of itself, of what it knew of the joiner, and of as many others as fit: all of
 * them with the longest names. */
static void welcomes_fit_whatever_names_are(void **state)
{
    (void)state;
    static const char *const longest =
        "a-name-of-64-bytes-as-long-as-names-of-members-and-zones-may-be.";
    assert_int_equal(strlen(longest), MEMBER_NAME_BYTES_MAX);
    struct net *net = net_new();
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 20; i++) {
            net_start(net, i, NULL);
            struct cluster_options options = net_options(&net->nodes[i]);
            options.name = longest;
            options.zone = longest;
            options.incarnation = round + 1;
            net_start(net, i, &options);
            net_run(net, NET_SECOND);
        }
        assert_true(net_run_until_agreed(net, 20 * NET_SECOND));
    }
    net_free(net);
}

/* A tick that was never due is not late: nobody doubts itself because a first member came, or
 * because somebody has been lost for long. */
static void a_newcomer_makes_no_tick_late(void **state)
{
    (void)state;
    struct net *net = net_of(5);
    net_stop(net, 4);
    net_run(net, 120 * NET_SECOND);
    net_start(net, 5, NULL);
    assert_true(net_run_until_agreed(net, 5 * NET_SECOND));
    const struct node_id id = net_id(4);
    struct cluster_member member;
    assert_true(cluster_find(net->nodes[5].cluster, &id, &member));
    assert_false(member.in_ring); /* at once: its age was told */
    assert_int_equal(net_count_events(net, 5, CLUSTER_RING_LEFT, 4), 0);
    net_free(net);
}

/* Whoever sends it: one that claims to be a member and is far ahead is asked, and so is the member.
 */
static void a_stranger_locks_nobody_out(void **state)
{
    (void)state;
    struct net *net = net_of(6);
    const struct member_update lie = {
        .is_record = true,
        .record = {.id = net_id(2),
                   .version = {(uint64_t)1 << 61, 77, MEMBER_ALIVE},
                   .address = net->nodes[2].address,
                   .name = bytes_of_string("node"),
                   .zone = bytes_of_string("default")},
    };
    const struct datagram join = {
        .type = DATAGRAM_JOIN,
        .sender = net_id(2),
        .sender_nonce = 77,
        .number = 1,
        .updates = {lie},
        .updates_count = 1,
    };
    struct buf bytes = BUF_INIT;
    assert_int_equal(datagram_format(&join, &bytes), 0);
    const struct address from = net_address(100);
    cluster_receive_datagram(net->nodes[0].cluster, net->now_us, &from, buf_bytes(&bytes));
    buf_done(&bytes);
    net_run(net, 10 * NET_SECOND);
    assert_true(net_agrees(net));
    const struct node_id id = net_id(2);
    struct cluster_member member;
    assert_true(cluster_find(net->nodes[0].cluster, &id, &member));
    assert_true(member.record.version.incarnation < 1000);
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_seed_that_comes_later_is_found),
        cmocka_unit_test(one_live_seed_of_several_is_enough),
        cmocka_unit_test(two_networks_become_one),
        cmocka_unit_test(clocks_may_be_anything),
        cmocka_unit_test(a_newcomer_makes_no_tick_late),
        cmocka_unit_test(a_stranger_locks_nobody_out),
        cmocka_unit_test(strangers_are_welcomed_so_often_in_a_second),
        cmocka_unit_test(a_good_bye_is_heard_by_all),
        cmocka_unit_test(a_stop_is_heard_by_all_and_the_ring_waits),
        cmocka_unit_test(who_is_alone_leaves_at_once),
        cmocka_unit_test(welcomes_fit_whatever_names_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
