/* SPDX-License-Identifier: Apache-2.0 */

/* Who owns a key, against the definition. */

#include "locate_net.h"

#define COUNT 30u

/* How far clockwise `to` is from `from`, as the first 8 bytes: enough to tell hashes apart. */
static uint64_t distance(const struct ring_key *from, const struct ring_key *to)
{
    return codec_get_be64(to->bytes) - codec_get_be64(from->bytes);
}

static uint64_t nearest_point(const struct ring_key *key, uint32_t index)
{
    uint8_t text[NODE_ID_BYTES + 1];
    const struct node_id id = node_id_of(index);
    memcpy(text, id.bytes, sizeof id.bytes);
    uint64_t nearest = UINT64_MAX;
    for (uint8_t i = 0; i < LOCATE_POINTS; i++) {
        text[NODE_ID_BYTES] = i;
        struct id hash;
        sha256_id(BYTES(text, sizeof text), &hash);
        const struct ring_key point = ring_key_of(&hash);
        const uint64_t away = distance(key, &point);
        nearest = away < nearest ? away : nearest;
    }
    return nearest;
}

static void test_owners_are_the_next_three_members(void **state)
{
    (void)state;
    struct net *net = net_new(COUNT, COUNT, 1);
    size_t share[COUNT] = {0};
    for (uint64_t i = 0; i < 1000; i++) {
        const struct ring_key key = key_of(i);
        struct node_id owners[LOCATE_OWNERS];
        assert_int_equal(locate_owners(net->nodes[i % COUNT].locate, &key, owners), 3);
        uint64_t away[COUNT];
        for (uint32_t j = 0; j < COUNT; j++) {
            away[j] = nearest_point(&key, j);
        }
        for (size_t k = 0; k < LOCATE_OWNERS; k++) {
            size_t nearer = 0;
            const uint32_t owner = index_of(&owners[k]);
            for (uint32_t j = 0; j < COUNT; j++) {
                nearer += away[j] < away[owner];
            }
            assert_int_equal(nearer, k);
            share[owner]++;
        }
    }
    for (uint32_t j = 0; j < COUNT; j++) { /* a hundred each; 16 points even it out */
        assert_in_range(share[j], 30, 250);
    }
    net_free(net);
}

static void test_few_members_own_everything(void **state)
{
    (void)state;
    for (uint32_t count = 1; count <= 3; count++) {
        struct net *net = net_new(count, count, 1);
        const struct ring_key key = key_of(7);
        struct node_id owners[LOCATE_OWNERS];
        assert_int_equal(locate_owners(net->nodes[0].locate, &key, owners), count);
        net_free(net);
    }
}

static void test_who_is_out_of_the_ring_owns_nothing(void **state)
{
    (void)state;
    struct net *net = net_new(4, 4, 1);
    net->nodes[2].in_ring = false;
    net_members_changed(net);
    for (uint64_t i = 0; i < 100; i++) {
        const struct ring_key key = key_of(i);
        struct node_id owners[LOCATE_OWNERS];
        assert_int_equal(locate_owners(net->nodes[0].locate, &key, owners), 3);
        for (size_t k = 0; k < LOCATE_OWNERS; k++) {
            assert_int_not_equal(index_of(&owners[k]), 2);
        }
    }
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_owners_are_the_next_three_members),
        cmocka_unit_test(test_few_members_own_everything),
        cmocka_unit_test(test_who_is_out_of_the_ring_owns_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
