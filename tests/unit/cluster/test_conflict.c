/* SPDX-License-Identifier: Apache-2.0 */
#include "net.h"

/* Node `index` with the id of `of`. */
static struct cluster *start_copy(struct net *net, unsigned index, unsigned of)
{
    if (!net->nodes[index].net) {
        net_start(net, index, NULL);
    }
    struct cluster_options options = net_options(&net->nodes[index]);
    options.id = net_id(of);
    options.incarnation = 5;
    return net_start(net, index, &options);
}

static size_t count_conflicts(const struct net *net, unsigned at, unsigned of)
{
    return net_count_events(net, at, CLUSTER_CONFLICT, of);
}

static void the_younger_of_two_with_one_id_stops(void **state)
{
    (void)state;
    struct net *net = net_of(6);
    net_run(net, 10 * NET_SECOND);
    start_copy(net, 6, 2);
    net_run(net, 5 * NET_SECOND);
    assert_int_equal(count_conflicts(net, 6, 2), 1);
    assert_int_equal(count_conflicts(net, 2, 2), 0);
    net_stop(net, 6);
    assert_true(net_run_until_agreed(net, 10 * NET_SECOND));
    assert_int_equal(net_sees(net, 0, 2), MEMBER_ALIVE);
    net_free(net);
}

static void of_two_that_start_together_one_stops(void **state)
{
    (void)state;
    struct net *net = net_of(4);
    net_start(net, 4, NULL);
    start_copy(net, 5, 4);
    net_run(net, 10 * NET_SECOND);
    assert_int_equal(count_conflicts(net, 4, 4) + count_conflicts(net, 5, 4), 1);
    net_free(net);
}

static void a_restart_at_another_address_is_no_conflict(void **state)
{
    (void)state;
    struct net *net = net_of(6);
    net_stop(net, 2);
    net->nodes[2].address = net_address(99);
    struct cluster_options options = net_options(&net->nodes[2]);
    options.incarnation = 2;
    net_start(net, 2, &options);
    assert_true(net_run_until_agreed(net, 5 * NET_SECOND));
    const struct node_id id = net_id(2);
    struct cluster_member member;
    assert_true(cluster_find(net->nodes[0].cluster, &id, &member));
    assert_true(address_equal(&member.record.address, &net->nodes[2].address));
    assert_int_equal(count_conflicts(net, 2, 2), 0);
    net_free(net);
}

static void a_disk_that_was_lost_changes_nothing(void **state)
{
    (void)state;
    struct net *net = net_of(6);
    struct cluster_options options = net_options(&net->nodes[2]);
    options.incarnation = 9;
    net_start(net, 2, &options);
    assert_true(net_run_until_agreed(net, 5 * NET_SECOND));
    net_stop(net, 2);
    net_run(net, 10 * NET_SECOND);
    options = net_options(&net->nodes[2]); /* incarnation 1: it knows no better */
    net_start(net, 2, &options);
    assert_true(net_run_until_agreed(net, 5 * NET_SECOND));
    const struct node_id id = net_id(2);
    struct cluster_member member;
    assert_true(cluster_find(net->nodes[0].cluster, &id, &member));
    assert_true(member.record.version.incarnation > 9);
    assert_true(net_count_events(net, 2, CLUSTER_INCARNATION, 2) > 0);
    net_free(net);
}

/* It left, and is started from an older copy of its disk: it knows the others, and not how far it
 * had come itself. */
static void an_old_disk_catches_up_with_its_own_farewell(void **state)
{
    (void)state;
    for (uint64_t incarnation = 1; incarnation <= 9; incarnation += 4) {
        struct net *net = net_of(6);
        struct cluster_options options = net_options(&net->nodes[2]);
        options.incarnation = 9;
        net_start(net, 2, &options);
        assert_true(net_run_until_agreed(net, 5 * NET_SECOND));
        struct buf saved = BUF_INIT;
        cluster_save(net->nodes[2].cluster, &saved);
        cluster_leave(net->nodes[2].cluster, net->now_us, MEMBER_LEFT);
        net_run(net, 3 * NET_SECOND);
        options = net_options(&net->nodes[2]);
        options.incarnation = incarnation;
        options.boot_nonce = 3; /* lower than that of the life before */
        struct cluster *cluster = net_start(net, 2, &options);
        cluster_set_seeds(cluster, NULL, 0);
        assert_int_equal(cluster_restore(cluster, net->now_us, buf_bytes(&saved)), 0);
        buf_done(&saved);
        assert_true(net_run_until_agreed(net, 10 * NET_SECOND));
        net_free(net);
    }
}

/* A datagram that claims a conflict stops nobody: nobody answers at the address that it tells. */
static void a_rumour_stops_nobody(void **state)
{
    (void)state;
    struct net *net = net_of(4);
    const struct node_id id = net_id(2);
    struct cluster_member member;
    assert_true(cluster_find(net->nodes[0].cluster, &id, &member));
    const struct datagram rumour = {
        .type = DATAGRAM_CONFLICT,
        .sender = net_id(0),
        .sender_nonce = 77,
        .receiver_nonce = (uint32_t)member.record.version.boot_nonce,
        .number = 1,
        .address = net_address(100),
        .uptime_ms = UINT64_MAX / 2,
    };
    struct buf bytes = BUF_INIT;
    assert_int_equal(datagram_format(&rumour, &bytes), 0);
    const struct address from = net_address(100);
    cluster_receive_datagram(net->nodes[2].cluster, net_clock(&net->nodes[2]), &from,
                             buf_bytes(&bytes));
    buf_done(&bytes);
    net_run(net, 5 * NET_SECOND);
    assert_int_equal(count_conflicts(net, 2, 2), 0);
    assert_true(net_agrees(net));
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_younger_of_two_with_one_id_stops),
        cmocka_unit_test(of_two_that_start_together_one_stops),
        cmocka_unit_test(a_restart_at_another_address_is_no_conflict),
        cmocka_unit_test(a_disk_that_was_lost_changes_nothing),
        cmocka_unit_test(an_old_disk_catches_up_with_its_own_farewell),
        cmocka_unit_test(a_rumour_stops_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
