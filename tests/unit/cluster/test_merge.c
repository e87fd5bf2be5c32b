/* SPDX-License-Identifier: Apache-2.0 */
#include "net.h"

#include "base/random.h"
#include "wire/member_sync.h"

/* A cluster that is told of members by broadcasts from a peer that it knows. */
struct listener {
    struct net *net;
    struct cluster *cluster;
    uint64_t nonces[2];
    uint32_t number;
};

static struct listener listener_new(void)
{
    struct listener listener = {.net = net_of(2)};
    listener.cluster = listener.net->nodes[0].cluster;
    for (unsigned i = 0; i < 2; i++) {
        const struct node_id id = net_id(i);
        struct cluster_member member;
        assert_true(cluster_find(listener.cluster, &id, &member));
        listener.nonces[i] = member.record.version.boot_nonce;
    }
    return listener;
}

static void tell(struct listener *listener, const struct member_update *updates, size_t count)
{
    struct buf payload = BUF_INIT;
    for (size_t i = 0; i < count; i++) {
        field_put_member_update(&payload, &updates[i]);
    }
    listener->number++;
    const struct datagram broadcast = {
        .type = DATAGRAM_BROADCAST,
        .sender = net_id(1),
        .sender_nonce = listener->nonces[1],
        .receiver_nonce = (uint32_t)listener->nonces[0],
        .number = listener->number,
        .range_end = net_id(0),
        .origin = 99,
        .origin_number = listener->number,
        .payload_kind = DATAGRAM_PAYLOAD_MEMBERS,
        .payload = buf_bytes(&payload),
    };
    struct buf bytes = BUF_INIT;
    assert_int_equal(datagram_format(&broadcast, &bytes), 0);
    const struct address from = net_address(1);
    cluster_receive_datagram(listener->cluster, listener->net->now_us, &from, buf_bytes(&bytes));
    buf_done(&bytes);
    buf_done(&payload);
}

static struct member_update update_of(unsigned member, uint64_t incarnation,
                                      enum member_status status)
{
    return (struct member_update){
        .is_record = true,
        .record = {.id = net_id(member),
                   .version = {incarnation, 100 + member + incarnation, status},
                   .address = net_address(member),
                   .name = bytes_of_string("told"),
                   .zone = bytes_of_string("default")},
    };
}

static void the_order_of_what_is_said_does_not_matter(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct random random;
        random_init(&random, seed);
        struct member_update updates[200];
        for (size_t i = 0; i < ARRAY_SIZE(updates); i++) {
            updates[i] =
                update_of(10 + (unsigned)random_below(&random, 20), 1 + random_below(&random, 5),
                          (enum member_status)(1 + random_below(&random, 3)));
        }
        uint64_t digest = 0;
        for (unsigned order = 0; order < 4; order++) {
            struct listener listener = listener_new();
            for (size_t i = ARRAY_SIZE(updates); order > 0 && i > 1; i--) {
                const size_t other = random_below(&random, i);
                const struct member_update swapped = updates[i - 1];
                updates[i - 1] = updates[other];
                updates[other] = swapped;
            }
            for (size_t i = 0; i < ARRAY_SIZE(updates); i++) {
                tell(&listener, &updates[i], 1);
            }
            /* The two themselves are the same each time: the net has no randomness of its own. */
            const uint64_t found = cluster_digest(listener.cluster);
            digest = order == 0 ? found : digest;
            assert_true(found == digest);
            net_free(listener.net);
        }
    }
}

static void a_status_of_an_unknown_version_waits_for_its_record(void **state)
{
    (void)state;
    struct listener listener = listener_new();
    struct member_update update = update_of(10, 3, MEMBER_UNREACHABLE);
    update.is_record = false;
    tell(&listener, &update, 1);
    assert_int_equal(net_sees(listener.net, 0, 10), 0);
    struct member_update record = update_of(10, 2, MEMBER_ALIVE);
    tell(&listener, &record, 1);
    tell(&listener, &update, 1);
    assert_int_equal(net_sees(listener.net, 0, 10), MEMBER_ALIVE);
    record = update_of(10, 3, MEMBER_ALIVE);
    tell(&listener, &record, 1);
    tell(&listener, &update, 1);
    assert_int_equal(net_sees(listener.net, 0, 10), MEMBER_UNREACHABLE);
    net_free(listener.net);
}

static void a_jump_far_ahead_is_not_believed(void **state)
{
    (void)state;
    struct listener listener = listener_new();
    const struct member_update first = update_of(10, 2, MEMBER_ALIVE);
    tell(&listener, &first, 1);
    const struct member_update far_ahead = update_of(10, (uint64_t)1 << 40, MEMBER_UNREACHABLE);
    tell(&listener, &far_ahead, 1);
    assert_int_equal(net_sees(listener.net, 0, 10), MEMBER_ALIVE);
    assert_true(cluster_counters(listener.cluster)->updates_refused > 0);
    net_free(listener.net);
}

static void what_is_said_of_oneself_is_refuted(void **state)
{
    (void)state;
    struct listener listener = listener_new();
    struct member_update lie = {
        .record = {.id = net_id(0), .version = {1, listener.nonces[0], MEMBER_UNREACHABLE}}};
    tell(&listener, &lie, 1);
    const struct node_id self = net_id(0);
    struct cluster_member member;
    assert_true(cluster_find(listener.cluster, &self, &member));
    assert_int_equal(member.record.version.status, MEMBER_ALIVE);
    assert_int_equal(member.record.version.incarnation, 2);
    assert_int_equal(cluster_counters(listener.cluster)->refutations, 1);
    /* Again and again: slower and slower. */
    for (unsigned i = 0; i < 600; i++) {
        assert_true(cluster_find(listener.cluster, &self, &member));
        lie.record.version.incarnation = member.record.version.incarnation;
        tell(&listener, &lie, 1);
        net_run(listener.net, 100 * NET_MS);
    }
    assert_true(cluster_counters(listener.cluster)->refutations <= 14);
    assert_true(cluster_counters(listener.cluster)->refutations >= 5);
    /* A number that leaves none above it changes nothing. */
    lie.record.version.incarnation = UINT64_MAX;
    tell(&listener, &lie, 1);
    net_run(listener.net, 60 * NET_SECOND);
    assert_true(cluster_find(listener.cluster, &self, &member));
    assert_true(member.record.version.incarnation < 1000);
    net_free(listener.net);
}

/* That it was alive in between was not heard here; its time in the ring begins anew. */
static void lost_again_counts_anew(void **state)
{
    (void)state;
    struct listener listener = listener_new();
    const struct node_id id = net_id(10);
    struct cluster_member member;
    const struct member_update first = update_of(10, 1, MEMBER_ALIVE);
    const struct member_update lost = update_of(10, 1, MEMBER_UNREACHABLE);
    struct member_update lost_again = update_of(10, 2, MEMBER_UNREACHABLE);
    lost_again.record.version.boot_nonce = first.record.version.boot_nonce;
    tell(&listener, &first, 1);
    tell(&listener, &lost, 1);
    net_run(listener.net, 20 * NET_SECOND);
    tell(&listener, &lost_again, 1);
    net_run(listener.net, 25 * NET_SECOND);
    assert_true(cluster_find(listener.cluster, &id, &member));
    assert_true(member.in_ring);
    net_run(listener.net, 10 * NET_SECOND);
    assert_true(cluster_find(listener.cluster, &id, &member));
    assert_false(member.in_ring);
    net_free(listener.net);
}

/* As the end of an exchange of lists with the peer. */
static void tell_by_list(struct listener *listener, const struct member_update *update)
{
    const struct member_sync close = {.type = MEMBER_SYNC_CLOSE};
    const struct node_id peer = net_id(1);
    struct buf message = BUF_INIT;
    member_sync_format(&close, &message);
    field_put_member_update(&message, update);
    cluster_receive_message(listener->cluster, listener->net->now_us, &peer, buf_bytes(&message));
    buf_done(&message);
}

/* What a list has had as unreachable for long is looked into when we know that very version as
 * alive: the list may be of the other side of a partition. But whoever knows a later version than
 * we knows better; that member may be gone for good, and nobody would ask it. */
static void a_list_of_a_later_version_is_believed(void **state)
{
    (void)state;
    struct listener listener = listener_new();
    const struct member_update alive = update_of(10, 1, MEMBER_ALIVE);
    struct member_update lost = update_of(10, 1, MEMBER_UNREACHABLE);
    lost.age_s = 60;
    tell(&listener, &alive, 1);
    const uint64_t probes = cluster_counters(listener.cluster)->probes_sent;
    tell_by_list(&listener, &lost);
    assert_int_equal(net_sees(listener.net, 0, 10), MEMBER_ALIVE);
    assert_true(cluster_counters(listener.cluster)->probes_sent > probes);
    lost.record.version.incarnation = 2;
    tell_by_list(&listener, &lost);
    assert_int_equal(net_sees(listener.net, 0, 10), MEMBER_UNREACHABLE);
    /* Its age goes with it: 60 s ago it was lost, so it is out of the ring soon. */
    net_run(listener.net, 2 * NET_SECOND);
    const struct node_id id = net_id(10);
    struct cluster_member member;
    assert_true(cluster_find(listener.cluster, &id, &member));
    assert_false(member.in_ring);
    net_free(listener.net);
}

static void a_list_beyond_the_limit_is_cut(void **state)
{
    (void)state;
    struct listener listener = listener_new();
    struct member_update updates[10];
    unsigned told = 0;
    while (told < MEMBERS_MAX + 1000) {
        for (size_t i = 0; i < ARRAY_SIZE(updates); i++) {
            updates[i] = update_of(1000 + told++, 1, MEMBER_LEFT);
            updates[i].record.address = net_address(1);
        }
        tell(&listener, updates, ARRAY_SIZE(updates));
    }
    assert_int_equal(cluster_count(listener.cluster, MEMBER_LEFT), MEMBERS_MAX - 2);
    assert_true(cluster_counters(listener.cluster)->updates_refused >= 1000);
    net_free(listener.net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_order_of_what_is_said_does_not_matter),
        cmocka_unit_test(a_status_of_an_unknown_version_waits_for_its_record),
        cmocka_unit_test(a_jump_far_ahead_is_not_believed),
        cmocka_unit_test(what_is_said_of_oneself_is_refuted),
        cmocka_unit_test(lost_again_counts_anew),
        cmocka_unit_test(a_list_of_a_later_version_is_believed),
        cmocka_unit_test(a_list_beyond_the_limit_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
