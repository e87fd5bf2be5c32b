/* SPDX-License-Identifier: Apache-2.0 */

/* Finding holders: the ladder from owners to everyone. */

#include "locate_net.h"

static void test_owners_tell_who_holds_it(void **state)
{
    (void)state;
    struct net *net = net_new(10, 10, 1);
    net_run(net, 3000);
    for (uint64_t i = 0; i < 100; i++) {
        const struct ring_key key = key_of(i);
        net_hold(net, (uint32_t)(i % 10), &key, LOCATE_COMPLETE, true);
    }
    net_run(net, 100);
    assert_int_equal(net_wrong_rows(net), 0);
    for (uint64_t i = 0; i < 100; i++) {
        const struct ring_key key = key_of(i);
        for (uint32_t node = 0; node < 10; node++) {
            if (node != i % 10) {
                const struct result *result =
                    net_find(net, node, &key, LOCATE_UNTIL_COMPLETE, NULL);
                assert_int_equal(result->holders_count, 1);
                assert_true(result_has(result, (uint32_t)(i % 10), LOCATE_COMPLETE));
                assert_false(result->asked_everyone);
            }
        }
    }
    assert_int_equal(net->messages_count[LOCATE_HAVE], 0);
    net_free(net);
}

static void test_not_found_is_said_after_everyone_denied(void **state)
{
    (void)state;
    struct net *net = net_new(12, 12, 2);
    net_run(net, 3000);
    const struct ring_key key = key_of(1);
    const struct result *result = net_find(net, 3, &key, LOCATE_UNTIL_COMPLETE, NULL);
    assert_true(result->asked_everyone);
    assert_int_equal(result->holders_count, 0);
    assert_int_equal(result->outcomes[LOCATE_DENIED], 11);
    assert_int_equal(result->outcomes[LOCATE_SILENT], 0);
    assert_int_equal(net->messages_count[LOCATE_HAVE], 11);
    net_free(net);
}

static void test_who_could_not_be_asked_is_named(void **state)
{
    (void)state;
    struct net *net = net_new(12, 12, 3);
    net_run(net, 3000);
    net_kill(net, 5); /* and nobody knows it yet */
    net_kill(net, 6);
    net->nodes[6].is_alive = false;
    net_members_changed(net);
    const struct ring_key key = key_of(1);
    const struct result *result = net_find(net, 3, &key, LOCATE_UNTIL_COMPLETE, NULL);
    assert_true(result->asked_everyone);
    assert_int_equal(result->outcomes[LOCATE_DENIED], 9);
    assert_int_equal(result->outcomes[LOCATE_SILENT], 1);
    assert_int_equal(result->outcomes[LOCATE_UNREACHABLE], 1);
    net_free(net);
}

static void test_a_member_lost_during_a_search_is_not_waited_for(void **state)
{
    (void)state;
    struct net *net = net_new(6, 6, 4);
    net_run(net, 3000);
    net_kill(net, 5);
    const struct ring_key key = key_of(1);
    const uint64_t begun_us = net->now_us;
    assert_int_equal(
        locate_find(net->nodes[0].locate, net->now_us,
                    &(struct locate_find){.key = key, .number = 1, .depth = LOCATE_EVERYONE}),
        0);
    net_run(net, 200);
    assert_false(result_of(&net->nodes[0], 1)->is_final);
    net->nodes[5].is_alive = false;
    net_members_changed(net);
    net_run(net, 10);
    const struct result *result = result_of(&net->nodes[0], 1);
    assert_true(result->is_final);
    assert_true(result->us < begun_us + 300 * MS_US);
    assert_int_equal(result->outcomes[LOCATE_UNREACHABLE], 1);
    net_free(net);
}

static void test_everyone_finds_what_no_owner_knows(void **state)
{
    (void)state;
    struct net *net = net_new(20, 20, 5);
    net_run(net, 3000);
    const struct ring_key key = key_of(1);
    net_hold(net, 13, &key, LOCATE_COMPLETE, false);
    net_hold(net, 14, &key, LOCATE_PARTIAL, false);
    const struct result *result = net_find(net, 2, &key, LOCATE_EVERYONE, NULL);
    assert_true(result->asked_everyone);
    assert_true(result_has(result, 13, LOCATE_COMPLETE));
    assert_true(result_has(result, 14, LOCATE_PARTIAL));
    assert_int_equal(result->outcomes[LOCATE_HAS_COMPLETE], 1);
    assert_int_equal(result->outcomes[LOCATE_HAS_PARTIAL], 1);
    assert_int_equal(result->outcomes[LOCATE_DENIED], 17);

    /* Partial ones alone do not end a search, and are told of. */
    net_hold(net, 13, &key, LOCATE_NONE, false);
    const struct result *partial = net_find(net, 2, &key, LOCATE_UNTIL_COMPLETE, NULL);
    assert_true(partial->asked_everyone);
    assert_int_equal(partial->holders_count, 1);
    assert_true(result_has(partial, 14, LOCATE_PARTIAL));
    net_free(net);
}

static void test_a_lost_broadcast_is_asked_again(void **state)
{
    (void)state;
    struct net *net = net_new(20, 20, 6);
    net_run(net, 3000);
    const struct ring_key key = key_of(1);
    net_hold(net, 13, &key, LOCATE_COMPLETE, false);
    net->broadcast_loss_percent = 100;
    const struct result *result = net_find(net, 2, &key, LOCATE_EVERYONE, NULL);
    assert_true(result_has(result, 13, LOCATE_COMPLETE));
    assert_int_equal(result->outcomes[LOCATE_DENIED], 18);
    net_free(net);
}

/* A node that owns nothing of `key` and is none of `others`. */
static uint32_t bystander(struct net *net, const struct ring_key *key, uint32_t other)
{
    for (uint32_t i = 0; i < net->count; i++) {
        struct node_id owners[LOCATE_OWNERS];
        const size_t count = locate_owners(net->nodes[0].locate, key, owners);
        bool is_free = i != other && net->nodes[i].locate;
        for (size_t j = 0; j < count; j++) {
            is_free = is_free && index_of(&owners[j]) != i;
        }
        if (is_free) {
            return i;
        }
    }
    fail();
    return 0;
}

/* A find joins another one of the same key just when that has come to the end of the index. */
static void test_who_joins_at_the_end_is_not_told_less(void **state)
{
    (void)state;
    struct net *net = net_new(20, 20, 6);
    net_run(net, 3000);
    const struct ring_key key = key_of(1);
    struct node_id owners[LOCATE_OWNERS];
    (void)locate_owners(net->nodes[0].locate, &key, owners);
    const uint32_t holder = bystander(net, &key, 0);
    const uint32_t asker = bystander(net, &key, holder);
    net_hold(net, holder, &key, LOCATE_COMPLETE, false);
    struct locate *locate = net->nodes[asker].locate;
    const struct locate_find first = {.key = key, .number = 1, .depth = LOCATE_INDEX};
    assert_int_equal(locate_find(locate, net->now_us, &first), 0);
    for (size_t i = 0; i < LOCATE_OWNERS; i++) {
        net->nodes[index_of(&owners[i])].is_alive = false;
    }
    net_tell_members(net, asker);
    /* Nobody is waited for any more, and no tick comes in between. */
    const struct locate_find next = {.key = key, .number = 2, .depth = LOCATE_INDEX};
    assert_int_equal(locate_find(locate, net->now_us, &next), 0);
    const struct locate_find all = {.key = key, .number = 3, .depth = LOCATE_UNTIL_COMPLETE};
    assert_int_equal(locate_find(locate, net->now_us, &all), 0);
    net_run(net, 5000);
    const struct result *result = result_of(&net->nodes[asker], 3);
    assert_true(result->is_final);
    assert_true(result_has(result, holder, LOCATE_COMPLETE));
    net_free(net);
}

static void test_the_publisher_and_hints_are_asked_before_everyone(void **state)
{
    (void)state;
    struct net *net = net_new(20, 20, 7);
    net_run(net, 3000);
    const struct ring_key key = key_of(1);
    const uint32_t holder = bystander(net, &key, UINT32_MAX);
    const uint32_t finder = bystander(net, &key, holder);
    net_hold(net, holder, &key, LOCATE_COMPLETE, false);
    const struct node_id id = node_id_of(holder);
    const struct result *result = net_find(net, finder, &key, LOCATE_UNTIL_COMPLETE, &id);
    assert_false(result->asked_everyone);
    assert_true(result_has(result, holder, LOCATE_COMPLETE));

    locate_hint(net->nodes[finder].locate, net->now_us, &key, &id);
    result = net_find(net, finder, &key, LOCATE_UNTIL_COMPLETE, NULL);
    assert_false(result->asked_everyone);
    assert_true(result_has(result, holder, LOCATE_COMPLETE));

    net_run(net, LOCATE_HINT_MS);
    net_hold(net, holder, &key, LOCATE_NONE, true);
    net_hold(net, holder, &key, LOCATE_COMPLETE, false);
    net_run(net, 1000);
    result = net_find(net, finder, &key, LOCATE_INDEX, NULL);
    assert_int_equal(result->holders_count, 0);
    net_free(net);
}

static void test_a_silent_owner_costs_a_moment(void **state)
{
    (void)state;
    struct net *net = net_new(20, 20, 8);
    net_run(net, 3000);
    for (uint64_t i = 0; i < 30; i++) {
        const struct ring_key key = key_of(i);
        struct node_id owners[LOCATE_OWNERS];
        assert_int_equal(locate_owners(net->nodes[0].locate, &key, owners), LOCATE_OWNERS);
        const uint32_t holder = bystander(net, &key, UINT32_MAX);
        net_hold(net, holder, &key, LOCATE_COMPLETE, true);
        net_run(net, 50);
        const uint32_t finder = bystander(net, &key, holder);
        /* Two owners of three say nothing. */
        struct locate *first = net->nodes[index_of(&owners[0])].locate;
        struct locate *second = net->nodes[index_of(&owners[1])].locate;
        net->nodes[index_of(&owners[0])].locate = NULL;
        net->nodes[index_of(&owners[1])].locate = NULL;
        const uint64_t begun_us = net->now_us;
        const struct result *result = net_find(net, finder, &key, LOCATE_UNTIL_COMPLETE, NULL);
        assert_true(result_has(result, holder, LOCATE_COMPLETE));
        assert_false(result->asked_everyone);
        assert_true(result->us - begun_us < 4 * LOCATE_NEXT_MS_MIN * MS_US);
        net->nodes[index_of(&owners[0])].locate = first;
        net->nodes[index_of(&owners[1])].locate = second;
    }
    net_free(net);
}

static void test_finds_of_one_key_share_one_search(void **state)
{
    (void)state;
    struct net *net = net_new(10, 10, 9);
    net_run(net, 3000);
    struct net_node *node = &net->nodes[4];
    for (uint64_t i = 0; i < 40; i++) { /* two for each of 20 keys */
        const struct locate_find find = {
            .key = key_of(i / 2), .number = 100 + i, .depth = LOCATE_UNTIL_COMPLETE};
        assert_int_equal(locate_find(node->locate, net->now_us, &find), 0);
    }
    assert_int_equal(node->results_count, 0); /* never before it returns */
    locate_cancel(node->locate, 103);
    locate_cancel(node->locate, 104);
    locate_cancel(node->locate, 105);
    net_run(net, 5000);
    assert_int_equal(locate_counters(node->locate)->lookups, 20);
    assert_true(locate_counters(node->locate)->searches <= 3);
    assert_int_equal(node->results_count, 37);
    for (size_t i = 0; i < node->results_count; i++) {
        assert_true(node->results[i].is_final);
        assert_true(node->results[i].number < 103 || node->results[i].number > 105);
    }
    assert_int_equal(locate_counters(node->locate)->lookups_running, 0);
    net_free(net);
}

static void test_former_owners_are_asked_after_a_change_of_the_ring(void **state)
{
    (void)state;
    struct net *net = net_new(40, 10, 10);
    net_run(net, 3000);
    for (uint64_t i = 0; i < 50; i++) {
        const struct ring_key key = key_of(i);
        net_hold(net, 0, &key, LOCATE_COMPLETE, true);
    }
    net_run(net, 100);
    /* Many come at once; before they are told anything, what they own now is looked for. */
    for (uint32_t i = 10; i < 40; i++) {
        net_begin(net, i);
    }
    net_members_changed(net);
    for (uint64_t i = 0; i < 50; i++) {
        const struct locate_find find = {
            .key = key_of(i), .number = i, .depth = LOCATE_UNTIL_COMPLETE};
        assert_int_equal(locate_find(net->nodes[5].locate, net->now_us, &find), 0);
    }
    net_run(net, 3000);
    assert_int_equal(net->messages_count[LOCATE_HAVE], 0);
    for (uint64_t i = 0; i < 50; i++) {
        const struct result *result = result_of(&net->nodes[5], i);
        assert_true(result->is_final && result_has(result, 0, LOCATE_COMPLETE));
    }
    net_free(net);
}

static void test_a_holders_own_word_counts_more_than_an_owners(void **state)
{
    (void)state;
    struct net *net = net_new(10, 10, 11);
    net_run(net, 3000);
    const struct ring_key key = key_of(1);
    const uint32_t holder = bystander(net, &key, UINT32_MAX);
    net_hold(net, holder, &key, LOCATE_COMPLETE, true);
    net_run(net, 100);
    net_hold(net, holder, &key, LOCATE_NONE, false); /* it lost it, and owners do not know */
    struct node_id owners[LOCATE_OWNERS];
    assert_int_equal(locate_owners(net->nodes[0].locate, &key, owners), LOCATE_OWNERS);
    const uint32_t owner = index_of(&owners[0]);
    const struct result *result = net_find(net, owner, &key, LOCATE_INDEX, NULL);
    assert_true(result_has(result, holder, LOCATE_COMPLETE));
    result = net_find(net, owner, &key, LOCATE_EVERYONE, NULL);
    assert_int_equal(result->holders_count, 0);
    assert_int_equal(result->outcomes[LOCATE_DENIED], 9);
    net_free(net);
}

static void test_a_node_alone_finds_nothing_and_says_so(void **state)
{
    (void)state;
    struct net *net = net_new(1, 1, 12);
    const struct ring_key key = key_of(1);
    const struct result *result = net_find(net, 0, &key, LOCATE_UNTIL_COMPLETE, NULL);
    assert_true(result->is_final && result->asked_everyone);
    assert_int_equal(result->holders_count, 0);
    net_hold(net, 0, &key, LOCATE_PARTIAL, true);
    result = net_find(net, 0, &key, LOCATE_INDEX, NULL);
    assert_true(result_has(result, 0, LOCATE_PARTIAL));
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_owners_tell_who_holds_it),
        cmocka_unit_test(test_not_found_is_said_after_everyone_denied),
        cmocka_unit_test(test_who_could_not_be_asked_is_named),
        cmocka_unit_test(test_a_member_lost_during_a_search_is_not_waited_for),
        cmocka_unit_test(test_everyone_finds_what_no_owner_knows),
        cmocka_unit_test(test_who_joins_at_the_end_is_not_told_less),
        cmocka_unit_test(test_a_lost_broadcast_is_asked_again),
        cmocka_unit_test(test_the_publisher_and_hints_are_asked_before_everyone),
        cmocka_unit_test(test_a_silent_owner_costs_a_moment),
        cmocka_unit_test(test_finds_of_one_key_share_one_search),
        cmocka_unit_test(test_former_owners_are_asked_after_a_change_of_the_ring),
        cmocka_unit_test(test_a_holders_own_word_counts_more_than_an_owners),
        cmocka_unit_test(test_a_node_alone_finds_nothing_and_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
