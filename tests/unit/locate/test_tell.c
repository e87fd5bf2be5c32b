/* SPDX-License-Identifier: Apache-2.0 */

/* Owners know what is held, whatever happens to them, to messages, and to the ring. */

#include "locate_net.h"

#define KEYS 3000u

static void hold_many(struct net *net, uint32_t index, uint64_t first, uint64_t count, bool is_told)
{
    for (uint64_t i = first; i < first + count; i++) {
        const struct ring_key key = key_of(i);
        net_hold(net, index, &key, i % 5 == 0 ? LOCATE_PARTIAL : LOCATE_COMPLETE, is_told);
    }
}

static void run_until_right(struct net *net, uint64_t limit_ms)
{
    const uint64_t end_us = net->now_us + limit_ms * MS_US;
    while (net_wrong_rows(net) > 0) {
        if (net->now_us >= end_us) {
            fail_msg("%zu rows are wrong", net_wrong_rows(net));
        }
        net_run(net, 100);
    }
}

static void test_changes_are_told_in_batches(void **state)
{
    (void)state;
    struct net *net = net_new(5, 5, 1);
    net_run(net, 3000);
    hold_many(net, 0, 0, KEYS, true);
    net_run(net, 100);
    assert_int_equal(net_wrong_rows(net), 0);
    /* At most one each, and none of them needs more. */
    assert_true(net->messages_count[LOCATE_TELL] <= 4);
    assert_true(net->bytes_count[LOCATE_TELL] < (uint64_t)KEYS * 3 * 22);
    assert_int_equal(locate_counters(net->nodes[0].locate)->queued_keys, 0);
    for (uint64_t i = 0; i < KEYS; i += 3) {
        const struct ring_key key = key_of(i);
        net_hold(net, 0, &key, i % 2 == 0 ? LOCATE_NONE : LOCATE_PARTIAL, true);
    }
    net_run(net, 100);
    assert_int_equal(net_wrong_rows(net), 0);
    assert_int_equal(net->messages_count[LOCATE_ARC], 0);
    net_free(net);
}

static void test_lost_messages_are_sent_again(void **state)
{
    (void)state;
    struct net *net = net_new(8, 8, 2);
    net->loss_percent = 30;
    for (uint64_t i = 0; i < 200; i++) {
        const struct ring_key key = key_of(i % 50);
        net_hold(net, (uint32_t)(i % 3), &key, (enum locate_state)random_below(&net->random, 3),
                 true);
        net_run(net, 20);
    }
    net->loss_percent = 0;
    run_until_right(net, 40000);
    net_free(net);
}

static void test_what_was_there_before_the_start_is_compared(void **state)
{
    (void)state;
    struct net *net = net_new(6, 6, 3);
    net_run(net, 3000);
    hold_many(net, 0, 0, KEYS, true);
    hold_many(net, 1, KEYS / 2, KEYS, true);
    net_run(net, 1000);
    /* Again from the start, with nothing changed: owners are asked, and told nothing. */
    memset(net->messages_count, 0, sizeof net->messages_count);
    net_kill(net, 0);
    net_begin(net, 0);
    net_members_changed(net);
    net_run(net, 3000);
    assert_int_equal(net_wrong_rows(net), 0);
    assert_true(net->messages_count[LOCATE_COMPARE] >= 5);
    assert_int_equal(net->messages_count[LOCATE_TELL], 0);
    assert_int_equal(net->messages_count[LOCATE_ARC], 0);

    /* And with things that changed while nobody looked. */
    net_kill(net, 0);
    hold_many(net, 0, KEYS * 2, 10, false);
    for (uint64_t i = 0; i < 10; i++) {
        const struct ring_key key = key_of(i * 7);
        net_hold(net, 0, &key, LOCATE_NONE, false);
    }
    net_begin(net, 0);
    net_members_changed(net);
    net_run(net, 3000);
    assert_int_equal(net_wrong_rows(net), 0);
    assert_true(net->messages_count[LOCATE_ARC] > 0);
    net_free(net);
}

static void test_an_owner_that_lost_its_index_is_told_again(void **state)
{
    (void)state;
    struct net *net = net_new(6, 6, 4);
    net_run(net, 3000);
    for (uint32_t i = 0; i < 6; i++) {
        hold_many(net, i, i * 1000, KEYS, true);
    }
    net_run(net, 1000);
    net_kill(net, 2);
    net->nodes[2].rows_count = 0;
    net_begin(net, 2);
    net_members_changed(net);
    run_until_right(net, 5000);
    net_free(net);
}

static void test_changes_that_were_not_told_are_found(void **state)
{
    (void)state;
    struct net *net = net_new(6, 6, 5);
    net_run(net, 3000);
    hold_many(net, 0, 0, KEYS, true);
    net_run(net, 1000);
    hold_many(net, 0, KEYS, 100, false);
    locate_changes_lost(net->nodes[0].locate, net->now_us);
    run_until_right(net, 3000);

    /* Without that word, within an hour. */
    hold_many(net, 0, KEYS + 100, 100, false);
    net_run(net, LOCATE_COMPARE_MS);
    run_until_right(net, 5000);
    net_free(net);
}

static void test_what_changes_while_it_is_told_is_not_undone(void **state)
{
    (void)state;
    const uint64_t keys = 40000; /* going through a part takes some steps */
    struct net *net = net_new(4, 4, 6);
    net_run(net, 3000);
    /* Owners know nothing of it, so that all parts are told as a whole, with changes amidst. */
    hold_many(net, 0, 0, keys, false);
    locate_changes_lost(net->nodes[0].locate, net->now_us);
    const struct locate_counters *counters = locate_counters(net->nodes[0].locate);
    while (counters->parts_differed == 0) {
        net_step(net, net->now_us + MS_US);
    }
    for (unsigned i = 0; i < 20000; i++) {
        const struct ring_key key = key_of(random_below(&net->random, keys));
        net_hold(net, 0, &key, (enum locate_state)random_below(&net->random, 3), true);
        if (i % 20 == 0) {
            net_step(net, net->now_us + MS_US);
        }
    }
    /* Long before it is compared again. */
    run_until_right(net, 2000);
    assert_int_equal(counters->queued_keys, 0);
    net_free(net);
}

static void test_new_owners_are_told_and_former_ones_forget(void **state)
{
    (void)state;
    struct net *net = net_new(12, 8, 7);
    net_run(net, 3000);
    for (uint32_t i = 0; i < 8; i++) {
        hold_many(net, i, i * 500, 1000, true);
    }
    net_run(net, 1000);
    assert_int_equal(net_wrong_rows(net), 0);
    for (uint32_t i = 8; i < 12; i++) {
        net_begin(net, i);
        net_members_changed(net);
        run_until_right(net, 3000);
    }
    net_run(net, 2 * LOCATE_FORMER_MS);
    size_t rows = 0;
    size_t wanted = 0;
    for (uint32_t i = 0; i < 12; i++) {
        rows += net->nodes[i].rows_count;
        for (size_t j = 0; j < net->nodes[i].held_count; j++) {
            struct node_id owners[LOCATE_OWNERS];
            (void)locate_owners(net->nodes[i].locate, &net->nodes[i].held[j].key, owners);
            for (size_t k = 0; k < LOCATE_OWNERS; k++) {
                wanted += index_of(&owners[k]) != i;
            }
        }
    }
    assert_int_equal(rows, wanted);
    assert_int_equal(net_wrong_rows(net), 0);

    /* One leaves: only its arcs move, without a comparison of everything. */
    memset(net->bytes_count, 0, sizeof net->bytes_count);
    net_kill(net, 9);
    net->nodes[9].is_alive = false;
    net->nodes[9].in_ring = false;
    net_members_changed(net);
    run_until_right(net, 3000);
    assert_int_equal(net->bytes_count[LOCATE_COMPARE], 0);
    assert_true(net->bytes_count[LOCATE_TELL] < (uint64_t)8000 * 3 / 12 * 2 * 21);
    net_free(net);
}

static void test_rows_of_who_left_go_and_come_back_with_it(void **state)
{
    (void)state;
    struct net *net = net_new(6, 6, 8);
    net_run(net, 3000);
    hold_many(net, 3, 0, KEYS, true);
    net_run(net, 1000);
    assert_int_equal(net_wrong_rows(net), 0);
    /* It is cut off: the others forget it, it goes on and thinks that it is known. */
    struct locate *locate = net->nodes[3].locate;
    net->nodes[3].locate = NULL;
    net->nodes[3].is_alive = false;
    net_members_changed(net);
    net_run(net, 30000);
    assert_true(net->nodes[0].rows_count + net->nodes[1].rows_count > 0);
    net->nodes[3].in_ring = false;
    net_members_changed(net);
    net_run(net, 1000);
    for (uint32_t i = 0; i < 6; i++) {
        assert_int_equal(net->nodes[i].rows_count, 0);
    }
    net->nodes[3].locate = locate;
    net->nodes[3].is_alive = true; /* not in the ring yet */
    for (uint32_t i = 0; i < 6; i++) {
        if (i != 3) {
            net_tell_members(net, i);
        }
    }
    net_run(net, 5000);
    const struct ring_key key = key_of(6);
    const struct result *result = net_find(net, 1, &key, LOCATE_INDEX, NULL);
    assert_true(result_has(result, 3, LOCATE_COMPLETE));
    net->nodes[3].in_ring = true;
    net_members_changed(net);
    run_until_right(net, 5000);
    net_free(net);
}

/* Members come and go for good, as in a network of machines that are made anew each day. */
static void test_who_left_for_good_is_forgotten(void **state)
{
    (void)state;
    struct net *net = net_new(60, 4, 12);
    net_run(net, LOCATE_FORMER_MS + 10000);
    for (uint32_t i = 4; i < 60; i++) {
        struct net_node *node = &net->nodes[i];
        net_begin(net, i);
        net_members_changed(net);
        net_run(net, 2000);
        net_kill(net, i);
        node->is_alive = false;
        node->in_ring = false;
        net_members_changed(net);
        net_run(net, 2000);
        node->life = 0; /* off the list */
        net_members_changed(net);
        net_run(net, 2000);
        assert_int_equal(locate_counters(net->nodes[0].locate)->peers_count, 3);
    }
    net_free(net);
}

/* An owner that is alive and takes nothing: the others are told of their new arcs all the same. */
static void test_a_hung_owner_holds_up_nobody(void **state)
{
    (void)state;
    struct net *net = net_new(6, 5, 13);
    net_run(net, 3000);
    struct locate *hung = net->nodes[4].locate;
    net->nodes[4].locate = NULL;
    const uint64_t many = 600000; /* three fifths of them are its */
    for (uint64_t i = 0; i < many; i++) {
        const struct ring_key key = key_of(i);
        locate_changed(net->nodes[0].locate, net->now_us, &(struct locate_held){key, LOCATE_NONE},
                       1);
        if (i % 2000 == 0) {
            net_run(net, 10);
        }
    }
    hold_many(net, 0, many, 3000, true);
    net_run(net, 20000);
    assert_true(locate_counters(net->nodes[0].locate)->queued_keys > 0);
    net_begin(net, 5);
    net_members_changed(net);
    net_run(net, 10000);
    size_t rows_of_new = 0;
    for (uint64_t i = many; i < many + 3000; i++) {
        const struct locate_row row = {.key = key_of(i), .holder = node_id_of(0)};
        const struct net_node *node = &net->nodes[5];
        const size_t at = row_place(node, &row);
        rows_of_new += at < node->rows_count && row_order(&node->rows[at], &row) == 0;
    }
    size_t wanted = 0;
    for (uint64_t i = many; i < many + 3000; i++) {
        struct node_id owners[LOCATE_OWNERS];
        const struct ring_key key = key_of(i);
        (void)locate_owners(net->nodes[0].locate, &key, owners);
        for (size_t j = 0; j < LOCATE_OWNERS; j++) {
            wanted += index_of(&owners[j]) == 5;
        }
    }
    assert_true(wanted > 0);
    assert_int_equal(rows_of_new, wanted);
    net->nodes[4].locate = hung;
    net_free(net);
}

/* The ring never rests for a minute: what is another's by now goes all the same. */
static void test_rows_go_though_the_ring_keeps_changing(void **state)
{
    (void)state;
    struct net *net = net_new(9, 3, 14);
    net_run(net, 3000);
    hold_many(net, 0, 0, KEYS, true);
    net_run(net, 1000);
    for (uint32_t i = 3; i < 8; i++) {
        net_begin(net, i);
    }
    net_members_changed(net);
    net_begin(net, 8);
    for (unsigned i = 0; i < 24; i++) { /* 12 minutes */
        net->nodes[8].in_ring = i % 2 == 0;
        net_members_changed(net);
        net_run(net, 30000);
    }
    net->nodes[8].in_ring = false;
    net_members_changed(net);
    net_run(net, 1000);
    size_t rows = 0;
    for (uint32_t i = 1; i < 3; i++) {
        rows += net->nodes[i].rows_count;
    }
    /* Two nodes had all keys each, of which three eighths are theirs. */
    assert_true(rows > KEYS / 2);
    assert_true(rows < KEYS * 5 / 4);
    assert_true(locate_counters(net->nodes[1].locate)->rows_dropped > 0);
    net_free(net);
}

static void test_a_store_that_fails_is_read_again(void **state)
{
    (void)state;
    struct net *net = net_new(4, 4, 9);
    net->nodes[0].held_err = -EIO;
    hold_many(net, 0, 0, 100, false);
    net_run(net, 5000);
    assert_true(net_wrong_rows(net) > 0);
    assert_true(locate_counters(net->nodes[0].locate)->host_errors > 0);
    net->nodes[0].held_err = 0;
    run_until_right(net, 3000);
    net_free(net);
}

static bool count_visit(void *context, const struct locate_held_by *holder)
{
    size_t *counts = context;
    counts[holder->state]++;
    return true;
}

static void test_what_is_stored_here_can_be_listed(void **state)
{
    (void)state;
    struct net *net = net_new(3, 3, 10);
    net_run(net, 3000);
    const struct ring_key key = key_of(1);
    net_hold(net, 0, &key, LOCATE_COMPLETE, true);
    net_hold(net, 1, &key, LOCATE_PARTIAL, true);
    net_run(net, 100);
    const struct node_id stranger = node_id_of(99);
    locate_hint(net->nodes[2].locate, net->now_us, &key, &stranger);
    locate_hint(net->nodes[2].locate, net->now_us, &key, &stranger);
    size_t counts[3] = {0};
    assert_int_equal(locate_stored(net->nodes[2].locate, net->now_us, &key, count_visit, counts),
                     0);
    assert_int_equal(counts[LOCATE_COMPLETE], 1);
    assert_int_equal(counts[LOCATE_PARTIAL], 1);
    assert_int_equal(counts[LOCATE_NONE], 1);
    /* Hints are bounded, the oldest goes. */
    for (uint64_t i = 0; i < LOCATE_HINTS_MAX + 10; i++) {
        const struct ring_key other = key_of(1000 + i);
        locate_hint(net->nodes[2].locate, net->now_us, &other, &stranger);
    }
    assert_int_equal(locate_counters(net->nodes[2].locate)->hints_count, LOCATE_HINTS_MAX);
    counts[LOCATE_NONE] = 0;
    assert_int_equal(locate_stored(net->nodes[2].locate, net->now_us, &key, count_visit, counts),
                     0);
    assert_int_equal(counts[LOCATE_NONE], 0);
    net_free(net);
}

static void test_strangers_and_nonsense_are_refused(void **state)
{
    (void)state;
    struct net *net = net_new(4, 3, 11);
    net_run(net, 3000);
    struct locate *locate = net->nodes[0].locate;
    const uint64_t refused = locate_counters(locate)->messages_refused;
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    locate_message_format(&(struct locate_message){.type = LOCATE_TELL, .life = 1, .number = 1},
                          &bytes);
    locate_message_put_held(&bytes, &(struct locate_held){key_of(1), LOCATE_COMPLETE});
    const struct node_id stranger = node_id_of(3);
    locate_message(locate, net->now_us, &stranger, buf_bytes(&bytes));
    const struct node_id member = node_id_of(1);
    locate_message(locate, net->now_us, &member, BYTES(bytes.data, bytes.size - 1));
    assert_int_equal(locate_counters(locate)->messages_refused, refused + 2);
    assert_int_equal(net->nodes[0].rows_count, 0);
    /* Numbers go up: what was overtaken changes nothing. */
    locate_message(locate, net->now_us, &member, buf_bytes(&bytes));
    assert_int_equal(net->nodes[0].rows_count, 1);
    bytes.data[bytes.size - 1] = LOCATE_NONE;
    locate_message(locate, net->now_us, &member, buf_bytes(&bytes));
    assert_int_equal(net->nodes[0].rows_count, 1);
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changes_are_told_in_batches),
        cmocka_unit_test(test_lost_messages_are_sent_again),
        cmocka_unit_test(test_what_was_there_before_the_start_is_compared),
        cmocka_unit_test(test_an_owner_that_lost_its_index_is_told_again),
        cmocka_unit_test(test_changes_that_were_not_told_are_found),
        cmocka_unit_test(test_what_changes_while_it_is_told_is_not_undone),
        cmocka_unit_test(test_new_owners_are_told_and_former_ones_forget),
        cmocka_unit_test(test_rows_of_who_left_go_and_come_back_with_it),
        cmocka_unit_test(test_who_left_for_good_is_forgotten),
        cmocka_unit_test(test_a_hung_owner_holds_up_nobody),
        cmocka_unit_test(test_rows_go_though_the_ring_keeps_changing),
        cmocka_unit_test(test_a_store_that_fails_is_read_again),
        cmocka_unit_test(test_what_is_stored_here_can_be_listed),
        cmocka_unit_test(test_strangers_and_nonsense_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
