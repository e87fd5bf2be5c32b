/* SPDX-License-Identifier: Apache-2.0 */

/* What could keep a fetch from its end, or end it too soon. */

#include "transfer_net.h"

static void a_frozen_sole_source_is_asked_again(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct net *net = net_new_seeded(1, 0, seed);
        const uint32_t file = net_add_file(net, 30, BLOCK_BYTES, 1, 0);
        net_give(net, 0, file, 0, 1);
        net_start(net, file, 0);
        net_run(net, 20);
        net_freeze(net, 0, 2000);
        assert_int_equal(net_finish(net, file, NULL), 0);
        assert_true(net_is_whole(net, file));
        net_free(net);
    }
}

/* Peer 1 has part of it and is slow; of the rest, one member could not be asked about. */
static void who_could_not_be_asked_is_remembered(void **state)
{
    (void)state;
    struct net *net = net_new(2, 0);
    const uint32_t file = net_add_file(net, 20, BLOCK_BYTES, 1, 0);
    net_give(net, 1, file, 0, 2);
    net->peers[1].block_us = 300 * MS_US;
    net->unasked_count = 1;
    net_start(net, file, NO_PUBLISHER);
    net_run(net, 1500);
    net->unasked_count = 0; /* of later searches */
    assert_true(net->files[file].writes > 0);
    assert_int_equal(net_finish(net, file, NULL), -EHOSTUNREACH);
    assert_int_equal(net->files[file].writes, 10);
    net_free(net);
}

static void a_holder_whose_stream_breaks_is_no_denial(void **state)
{
    (void)state;
    struct net *net = net_new(1, 0);
    const uint32_t file = net_add_file(net, 20, BLOCK_BYTES, 1, 0);
    net_give(net, 0, file, 0, 1);
    net->finds_nobody = true;
    net->peers[0].is_silent = true;
    net_start(net, file, 0);
    const struct node_id node = node_of(0);
    while (!net->files[file].has_ended) {
        const uint32_t asks = net->peers[0].asks;
        net_step(net, net->now_us + 1000 * MS_US);
        if (net->peers[0].asks > asks) {
            transfer_peer_lost(net->transfer, net->now_us, &node);
        }
    }
    assert_int_equal(net->files[file].err, -EHOSTUNREACH);
    net_free(net);
}

/* It breaks, and before it is asked again it asks us. */
static void a_peer_is_one_source_only(void **state)
{
    (void)state;
    struct net *net = net_new(2, 0);
    net->finds_nobody = true;
    const uint32_t file = net_add_file(net, 400, BLOCK_BYTES, 1, 0);
    net_give(net, 0, file, 0, 1);
    net_give(net, 1, file, 0, 2);
    net->peers[0].block_us = 20 * MS_US;
    net_start(net, file, 0);
    const struct node_id node = node_of(1);
    transfer_asked(net->transfer, net->now_us, &node, &net->files[file].id);
    net_run(net, 50);
    transfer_asked(net->transfer, net->now_us, &node, &net->files[file].id);
    net_run(net, 50);
    transfer_peer_lost(net->transfer, net->now_us, &node);
    transfer_asked(net->transfer, net->now_us, &node, &net->files[file].id);
    net_run(net, 500);
    struct transfer_status status;
    assert_true(transfer_status(net->transfer, net->now_us, &net->files[file].id, &status));
    assert_int_equal(status.sources_count, 2);
    net_free(net);
}

/* Files that are too short to be looked for as long as somebody seems to have them. */
static void who_is_shunned_is_no_source_of_others(void **state)
{
    (void)state;
    struct net *net = net_new(2, 0);
    uint32_t files[3];
    for (uint32_t i = 0; i < 3; i++) {
        files[i] = net_add_file(net, 6, BLOCK_BYTES, 1000 * (i + 1), 0);
        net_give(net, 0, files[i], 0, 1);
        net_give(net, 1, files[i], 0, 1);
        net_start(net, files[i], 0);
    }
    net->peers[0].is_bad = true;
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(net_finish(net, files[i], NULL), 0);
    }
    assert_int_equal(net->peers[0].shunned, 1);
    net_free(net);
}

static void who_hides_the_list_is_passed_over(void **state)
{
    (void)state;
    struct net *net = net_new(2, 0);
    const uint32_t file = net_add_file(net, 6, BLOCK_BYTES, 1, 0);
    net_give(net, 0, file, 0, 1);
    net_give(net, 1, file, 0, 1);
    net->peers[0].hides_list = true;
    net_start(net, file, 0);
    assert_int_equal(net_finish(net, file, NULL), 0);
    assert_true(net->peers[0].asks < 4);

    /* With nobody else it is over, not asked for ever. */
    const uint32_t other = net_add_file(net, 6, BLOCK_BYTES, 100, 0);
    net_give(net, 0, other, 0, 1);
    net_start(net, other, 0);
    assert_int_equal(net_finish(net, other, NULL), -EHOSTUNREACH);
    net_free(net);
}

/* A short file whose publisher freezes, and one that is said to be busy for ever. */
static void others_are_looked_for_when_a_source_gives_nothing(void **state)
{
    (void)state;
    for (unsigned busy = 0; busy < 2; busy++) {
        struct net *net = net_new(2, 0);
        const uint32_t file = net_add_file(net, 8, BLOCK_BYTES, 1, 0);
        net_give(net, 0, file, 0, 1);
        net_give(net, 1, file, 0, 1);
        net->peers[0].is_busy = busy;
        net_start(net, file, 0);
        if (!busy) {
            net_run(net, 8);
            assert_int_equal(net->finds, 0);
            net_freeze(net, 0, 200000);
        }
        uint64_t us = 0;
        assert_int_equal(net_finish(net, file, &us), 0);
        assert_true(net->peers[1].served > 4);
        net_free(net);
    }
}

/* More members than there are places, each of which is named and has nothing, but the last. */
static void all_candidates_are_asked_before_the_end(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct net *net = net_new_seeded(80, 0, seed);
        const uint32_t file = net_add_file(net, 8, BLOCK_BYTES, 1, 0);
        for (uint32_t i = 0; i < 80; i++) {
            net_give(net, i, file, 8, 1);
            net->peers[i].is_stale = i != 79;
        }
        net_give(net, 79, file, 0, 1);
        net_start(net, file, NO_PUBLISHER);
        assert_int_equal(net_finish(net, file, NULL), 0);
        net_free(net);
    }
}

static void who_refuses_a_block_is_not_believed_again(void **state)
{
    (void)state;
    struct net *net = net_new(2, 0);
    const uint32_t file = net_add_file(net, 8, BLOCK_BYTES, 1, 0);
    uint8_t denied[8] = {0, 0, 0, 1};
    net_give(net, 0, file, 0, 1);
    net->peers[0].denies[file] = denied;
    net_start(net, file, 0);
    assert_int_equal(net_finish(net, file, NULL), -EHOSTUNREACH);
    assert_int_equal(net->files[file].writes, 7);
    assert_true(net->peers[0].requested < 12);
    net_free(net);
}

static struct event *find_block_event(struct net *net, uint32_t number, uint16_t position)
{
    for (size_t i = 0; i < net->events_high; i++) {
        struct event *event = &net->events[i];
        if (event->is_used && event->type == EVENT_BLOCK && event->number == number &&
            event->position == position) {
            return event;
        }
    }
    fail_msg("it is not on its way");
    return &net->events[0];
}

/* The request of most blocks, and its last one. */
static uint32_t find_longest_request(const struct net *net, uint16_t *ret_position)
{
    uint32_t number = 0;
    for (size_t i = 0; i < net->events_high; i++) {
        const struct event *event = &net->events[i];
        if (event->is_used && event->type == EVENT_BLOCK && event->position > *ret_position) {
            number = event->number;
            *ret_position = event->position;
        }
    }
    return number;
}

/* Small blocks of one request. One is late and comes from elsewhere, then the last one comes: when
 * the late one comes all the same, the file is being committed, and there is no place for it. */
static void a_late_block_does_not_end_a_commit(void **state)
{
    (void)state;
    struct net *net = net_new(2, 0);
    const uint32_t file = net_add_file(net, 32, 4096, 1, 0);
    net_give(net, 0, file, 0, 1);
    net_start(net, file, 0);
    while (net->peers[0].served < 32) {
        net_step(net, net->now_us + MS_US);
    }
    uint16_t last = 0;
    const uint32_t number = find_longest_request(net, &last);
    assert_true(last > 0);
    const uint32_t index = find_block_event(net, number, 0)->index;
    find_block_event(net, number, 0)->due_us += 60000 * MS_US;
    find_block_event(net, number, last)->due_us += 60000 * MS_US;
    net_give(net, 1, file, 0, 1);
    net->peers[1].block_us = 50 * MS_US;
    const struct node_id node = node_of(1);
    transfer_asked(net->transfer, net->now_us, &node, &net->files[file].id);
    while (net->files[file].writes < 31) {
        net_step(net, net->now_us + MS_US);
    }
    assert_true(net->files[file].have[index / 8] & 1u << index % 8);
    find_block_event(net, number, last)->due_us = net->now_us;
    while (net->files[file].commits == 0) {
        net_step(net, net->now_us + MS_US);
    }
    const struct node_id slow = node_of(0);
    transfer_block(net->transfer, net->now_us, &slow, number, 0, -ECANCELED);
    assert_int_equal(net_finish(net, file, NULL), 0);
    assert_true(net->peers[0].cancelled > 0);
    net_free(net);
}

/* As many fetches as run at a time, of which nothing comes for a long time. */
static void readers_do_not_wait_for_other_fetches(void **state)
{
    (void)state;
    struct net *net = net_new(1, 0);
    net->file_find_us = 100000 * MS_US;
    for (uint32_t i = 0; i < TRANSFER_RUNNING_MAX; i++) {
        net_start(net, net_add_file(net, 1, BLOCK_BYTES, 10 * i, 0), NO_PUBLISHER);
    }
    const uint32_t plain = net_add_file(net, 4, BLOCK_BYTES, 100000, 0);
    const uint32_t read = net_add_file(net, 4, BLOCK_BYTES, 200000, 0);
    net_give(net, 0, plain, 0, 1);
    net_give(net, 0, read, 0, 1);
    net_start(net, plain, 0);
    net_run(net, 200);
    const struct node_id publisher = node_of(0);
    assert_int_equal(transfer_start(net->transfer, net->now_us, &net->files[read].id, &publisher,
                                    TRANSFER_PRIORITY_READER),
                     0);
    uint64_t us = 0;
    assert_int_equal(net_finish(net, read, &us), 0);
    assert_in_range(us, 0, 1000 * MS_US);
    struct transfer_status status;
    assert_true(transfer_status(net->transfer, net->now_us, &net->files[plain].id, &status));
    assert_int_equal(status.phase, TRANSFER_QUEUED);

    /* Somebody comes to read what waits. */
    assert_int_equal(transfer_start(net->transfer, net->now_us, &net->files[plain].id, NULL,
                                    TRANSFER_PRIORITY_READER),
                     0);
    assert_int_equal(net_finish(net, plain, &us), 0);
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frozen_sole_source_is_asked_again),
        cmocka_unit_test(who_could_not_be_asked_is_remembered),
        cmocka_unit_test(a_holder_whose_stream_breaks_is_no_denial),
        cmocka_unit_test(a_peer_is_one_source_only),
        cmocka_unit_test(who_is_shunned_is_no_source_of_others),
        cmocka_unit_test(who_hides_the_list_is_passed_over),
        cmocka_unit_test(others_are_looked_for_when_a_source_gives_nothing),
        cmocka_unit_test(all_candidates_are_asked_before_the_end),
        cmocka_unit_test(who_refuses_a_block_is_not_believed_again),
        cmocka_unit_test(a_late_block_does_not_end_a_commit),
        cmocka_unit_test(readers_do_not_wait_for_other_fetches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
