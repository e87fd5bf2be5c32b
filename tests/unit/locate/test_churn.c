/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Hundreds of nodes that come, go, crash, lose what they knew, and change what they hold, with lost
 * messages. The oracle is what the nodes hold: after any of it, every key that a node alive holds
 * is found by every node; once it is quiet, owners know exactly what is so.
 */

#include <stdio.h>

#include "locate_net.h"

#define NODES 200u
#define KEYS 4000u
#define ROUNDS 10u
#define COPIES 2u

static void change_holdings(struct net *net, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        const uint32_t index = (uint32_t)random_below(&net->random, net->count);
        const struct ring_key key = key_of(random_below(&net->random, KEYS));
        net_hold(net, index, &key, (enum locate_state)random_below(&net->random, 3), true);
    }
}

static void churn(struct net *net)
{
    for (uint32_t i = 0; i < net->count; i++) {
        struct net_node *node = &net->nodes[i];
        const uint64_t dice = random_below(&net->random, 100);
        if (node->locate && dice < 4) { /* down, noticed, and out of the ring perhaps */
            net_kill(net, i);
            node->is_alive = false;
            node->in_ring = dice < 2;
        } else if (node->locate && dice < 6) { /* a fast restart */
            net_kill(net, i);
            node->rows_count = dice == 4 ? 0 : node->rows_count;
            net_begin(net, i);
        } else if (node->locate && dice == 6) { /* unreachable for a while, and still running */
            node->is_alive = false;
        } else if (node->locate && !node->is_alive) {
            node->is_alive = true;
        } else if (!node->locate && dice < 30) {
            net_begin(net, i);
        }
    }
    net_members_changed(net);
}

static bool is_up(const struct net_node *node)
{
    return node->locate && node->is_alive;
}

/* Some keys at some nodes. The rows behind it may be wrong still: then everyone is asked. */
static size_t check_found(struct net *net, unsigned count, size_t *ret_asked_everyone)
{
    size_t checked = 0;
    for (unsigned i = 0; i < count; i++) {
        const struct net_node *holder = &net->nodes[random_below(&net->random, net->count)];
        struct net_node *finder = &net->nodes[random_below(&net->random, net->count)];
        if (!is_up(holder) || !is_up(finder) || holder == finder || holder->held_count == 0) {
            continue;
        }
        const struct locate_held held =
            holder->held[random_below(&net->random, holder->held_count)];
        const struct result *result =
            net_find(net, finder->index, &held.key, LOCATE_UNTIL_COMPLETE, NULL);
        bool is_right = false;
        for (size_t j = 0; j < result->holders_count; j++) {
            struct net_node *told = &net->nodes[index_of(&result->holders[j].node)];
            is_right = is_right || (told != finder && net_state(told, &held.key) != LOCATE_NONE);
        }
        if (!is_right) { /* it was told of holders that have it no more, and says so */
            result = net_find(net, finder->index, &held.key, LOCATE_EVERYONE, NULL);
        }
        bool is_complete = false;
        for (size_t j = 0; j < result->holders_count; j++) {
            is_complete = is_complete || result->holders[j].state == LOCATE_COMPLETE;
        }
        *ret_asked_everyone += result->asked_everyone && is_complete;
        assert_true(is_right || result_has(result, holder->index, held.state));
        checked++;
    }
    return checked;
}

static void run_churn(uint64_t seed)
{
    struct net *net = net_new(NODES, NODES * 9 / 10, seed);
    net_run(net, 3000);
    for (uint64_t i = 0; i < KEYS * COPIES; i++) {
        const struct ring_key key = key_of(i % KEYS);
        net_hold(net, (uint32_t)random_below(&net->random, NODES), &key, LOCATE_COMPLETE, true);
    }
    net_run(net, 1000);
    size_t checked = 0;
    size_t asked_everyone = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        net->loss_percent = 0;
        churn(net);
        net->loss_percent = 2;
        change_holdings(net, 100);
        net_run(net, random_below(&net->random, 3000));
        net->loss_percent = 0;
        checked += check_found(net, 20, &asked_everyone);
    }
    for (uint32_t i = 0; i < NODES; i++) { /* all are back or gone */
        struct net_node *node = &net->nodes[i];
        node->is_alive = node->locate;
        node->in_ring = node->locate;
    }
    net_members_changed(net);
    net_run(net, LOCATE_FORMER_MS + 10000);
    assert_int_equal(net_wrong_rows(net), 0);
    size_t at_the_end = 0;
    const size_t checked_at_the_end = check_found(net, 200, &at_the_end);
    assert_true(checked > 0 && checked_at_the_end > 0);
    assert_int_equal(at_the_end, 0); /* owners knew what somebody has complete */
    uint64_t bytes = 0;
    uint64_t keys = 0;
    for (uint32_t i = 0; i < NODES; i++) {
        keys += net->nodes[i].held_count;
    }
    for (unsigned type = LOCATE_TELL; type <= LOCATE_COMPARE_ASK; type++) {
        bytes += net->bytes_count[type];
    }
    print_message("seed %llu: %zu finds in churn, %zu asked everyone; %zu and %zu when quiet; "
                  "%llu keys held, %llu bytes to keep owners right\n",
                  (unsigned long long)seed, checked, asked_everyone, checked_at_the_end, at_the_end,
                  (unsigned long long)keys, (unsigned long long)bytes);
    net_free(net);
}

static void test_what_is_held_is_found_after_any_churn(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 2; seed++) {
        run_churn(seed);
    }
}

/* A thousand keys at one of hundreds of quiet nodes: what it costs to have them known. */
static void test_a_key_costs_its_owners_little(void **state)
{
    (void)state;
    struct net *net = net_new(NODES, NODES, 3);
    net_run(net, 5000);
    memset(net->bytes_count, 0, sizeof net->bytes_count);
    struct locate_held *held = mem_alloc_array(100000, sizeof *held);
    for (uint64_t i = 0; i < 100000; i++) {
        held[i] = (struct locate_held){key_of(i), LOCATE_COMPLETE};
    }
    locate_changed(net->nodes[0].locate, net->now_us, held, 100000);
    free(held);
    net_run(net, 5000);
    assert_int_equal(locate_counters(net->nodes[0].locate)->queued_keys, 0);
    const uint64_t bytes = net->bytes_count[LOCATE_TELL] + net->bytes_count[LOCATE_TAKEN];
    print_message("%.1f bytes a key\n", (double)bytes / 100000);
    assert_true(bytes < 100000 * 3 * 22);
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_held_is_found_after_any_churn),
        cmocka_unit_test(test_a_key_costs_its_owners_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
