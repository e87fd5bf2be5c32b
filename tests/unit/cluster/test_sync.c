/* SPDX-License-Identifier: Apache-2.0 */
#include "net.h"

#include "wire/member_sync.h"

static uint64_t count_syncs(const struct net *net)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < net->count; i++) {
        count += cluster_counters(net->nodes[i].cluster)->syncs_begun;
    }
    return count;
}

static bool loses_broadcasts(struct net *net, unsigned from, unsigned to, struct bytes bytes,
                             bool is_message)
{
    (void)net;
    (void)from;
    (void)to;
    return !is_message && bytes.size > 3 && bytes.data[3] == DATAGRAM_BROADCAST;
}

static void what_no_broadcast_told_comes_by_lists(void **state)
{
    (void)state;
    struct net *net = net_of(30);
    net_run(net, 5 * NET_SECOND);
    const uint64_t before = count_syncs(net);
    net->loses = loses_broadcasts;
    net_start(net, 30, NULL);
    assert_true(net_run_until_agreed(net, 8 * NET_SECOND));
    assert_true(count_syncs(net) > before);
    net_free(net);
}

static struct cluster_member member_of(const struct net *net, unsigned at, unsigned of)
{
    const struct node_id id = net_id(of);
    struct cluster_member member;
    assert_true(cluster_find(net->nodes[at].cluster, &id, &member));
    return member;
}

/* Node `to` is told by node `from` that its list is another one. */
static void tell_other_digest(struct net *net, unsigned from, unsigned to)
{
    const struct datagram ping = {
        .type = DATAGRAM_PING,
        .sender = net_id(from),
        .sender_nonce = member_of(net, to, from).record.version.boot_nonce,
        .receiver_nonce = (uint32_t)member_of(net, to, to).record.version.boot_nonce,
        .number = 1,
        .incarnation = 1,
        .digests = {.members = cluster_digest(net->nodes[to].cluster) + 1},
    };
    struct buf bytes = BUF_INIT;
    assert_int_equal(datagram_format(&ping, &bytes), 0);
    const struct address address = net_address(from);
    cluster_receive_datagram(net->nodes[to].cluster, net->now_us, &address, buf_bytes(&bytes));
    buf_done(&bytes);
}

/* Its neighbours on the ring, whom it hears most, may lack the same. */
static void who_agrees_does_not_hide_who_differs(void **state)
{
    (void)state;
    struct net *net = net_of(30);
    net_run(net, 10 * NET_SECOND);
    const struct cluster_counters *counters = cluster_counters(net->nodes[0].cluster);
    const uint64_t before = counters->syncs_begun;
    for (unsigned i = 0; i < 10; i++) {
        tell_other_digest(net, 1 + i, 0);
        net_run(net, 900 * NET_MS); /* in which others tell that they have what it has */
    }
    assert_true(counters->syncs_begun > before);
    net_free(net);
}

/* A broadcast that was on its way. */
static void a_difference_that_passes_costs_nothing(void **state)
{
    (void)state;
    struct net *net = net_of(30);
    net_run(net, 10 * NET_SECOND);
    const uint64_t before = count_syncs(net);
    for (unsigned i = 0; i < 5; i++) {
        tell_other_digest(net, 1 + i, 0);
        net_run(net, 10 * NET_SECOND);
    }
    assert_int_equal(count_syncs(net), before);
    net_free(net);
}

static void equal_lists_are_left_alone(void **state)
{
    (void)state;
    struct net *net = net_of(30);
    net_run(net, 10 * NET_SECOND);
    const uint64_t before = count_syncs(net);
    net_run(net, 60 * NET_SECOND);
    assert_int_equal(count_syncs(net), before);
    net_free(net);
}

static bool is_cut_in_two(struct net *net, unsigned from, unsigned to, struct bytes bytes,
                          bool is_message)
{
    (void)net;
    (void)bytes;
    (void)is_message;
    return from % 2 != to % 2;
}

static void halves_grow_together_again(void **state)
{
    (void)state;
    static const uint64_t seconds[] = {3, 20, 120};
    struct net *net = net_of(40);
    for (size_t i = 0; i < ARRAY_SIZE(seconds); i++) {
        net->loses = is_cut_in_two;
        net_run(net, seconds[i] * NET_SECOND);
        if (seconds[i] >= 20) {
            assert_int_equal(cluster_count(net->nodes[0].cluster, MEMBER_ALIVE), 20);
            assert_int_equal(cluster_count(net->nodes[1].cluster, MEMBER_ALIVE), 20);
        }
        net->loses = NULL;
        assert_true(net_run_until_agreed(net, 10 * NET_SECOND));
    }
    net_free(net);
}

/* The other half is told, and refutes; nobody takes its own half for lost because of it. */
static void old_claims_are_looked_into(void **state)
{
    (void)state;
    struct net *net = net_of(40);
    net->loses = is_cut_in_two;
    net_run(net, 60 * NET_SECOND);
    for (unsigned i = 0; i < net->count; i++) {
        net->nodes[i].events_count = 0;
    }
    net->loses = NULL;
    assert_true(net_run_until_agreed(net, 10 * NET_SECOND));
    for (unsigned i = 0; i < net->count; i++) {
        for (unsigned j = i % 2; j < net->count; j += 2) {
            assert_int_equal(net_count_events(net, i, CLUSTER_UNREACHABLE, j), 0);
        }
    }
    net_free(net);
}

static void malformed_messages_are_refused(void **state)
{
    (void)state;
    struct net *net = net_of(3);
    struct cluster *cluster = net->nodes[0].cluster;
    const uint64_t digest = cluster_digest(cluster);
    const struct node_id member = net_id(1);
    const struct node_id stranger = net_id(77);
    const struct member_sync open = {.type = MEMBER_SYNC_OPEN};
    struct buf bytes = BUF_INIT;
    member_sync_format(&open, &bytes);
    for (size_t size = 0; size < bytes.size; size++) {
        cluster_receive_message(cluster, net->now_us, &member, BYTES(bytes.data, size));
    }
    assert_int_equal(cluster_counters(cluster)->messages_refused, bytes.size);
    cluster_receive_message(cluster, net->now_us, &stranger, buf_bytes(&bytes));
    assert_int_equal(cluster_counters(cluster)->messages_refused, bytes.size + 1);
    buf_done(&bytes);
    assert_true(cluster_digest(cluster) == digest);
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_no_broadcast_told_comes_by_lists),
        cmocka_unit_test(who_agrees_does_not_hide_who_differs),
        cmocka_unit_test(a_difference_that_passes_costs_nothing),
        cmocka_unit_test(equal_lists_are_left_alone),
        cmocka_unit_test(halves_grow_together_again),
        cmocka_unit_test(old_claims_are_looked_into),
        cmocka_unit_test(malformed_messages_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
