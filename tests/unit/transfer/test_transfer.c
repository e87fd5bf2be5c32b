/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer_net.h"

static void one_source_gives_all(void **state)
{
    (void)state;
    struct net *net = net_new(1, 0);
    const uint32_t file = net_add_file(net, 100, BLOCK_BYTES, 1, 0);
    net_give(net, 0, file, 0, 1);
    net_start(net, file, 0);
    uint64_t us = 0;
    assert_int_equal(net_finish(net, file, &us), 0);
    assert_true(net_is_whole(net, file));
    assert_int_equal(net->peers[0].requested, 100);
    /* It was kept at work: 2 ms a block, and a few for the questions. */
    assert_true(us < 100 * 2 * MS_US + 20 * MS_US);
    struct transfer_status status;
    assert_false(transfer_status(net->transfer, net->now_us, &net->files[file].id, &status));
    net_free(net);
}

static void an_empty_file_is_committed(void **state)
{
    (void)state;
    struct net *net = net_new(1, 0);
    const uint32_t file = net_add_file(net, 0, BLOCK_BYTES, 1, 0);
    net_give(net, 0, file, 0, 1);
    net_start(net, file, 0);
    assert_int_equal(net_finish(net, file, NULL), 0);
    assert_int_equal(net->files[file].commits, 1);
    net_free(net);
}

static void many_sources_share_the_work(void **state)
{
    (void)state;
    struct net *net = net_new(8, 0);
    const uint32_t file = net_add_file(net, 400, BLOCK_BYTES, 1, 0);
    for (uint32_t i = 0; i < 8; i++) {
        net_give(net, i, file, 0, 1);
    }
    net_start(net, file, NO_PUBLISHER);
    uint64_t us = 0;
    assert_int_equal(net_finish(net, file, &us), 0);
    assert_true(net_is_whole(net, file));
    uint32_t requested = 0;
    for (uint32_t i = 0; i < 8; i++) {
        requested += net->peers[i].requested;
        assert_true(net->peers[i].served > 20);
    }
    assert_true(requested <= 404); /* a few in the race at the end */
    assert_true(us < 400 * 2 * MS_US / 8 * 3 / 2 + 50 * MS_US);
    net_free(net);
}

static void parts_lie_scattered(void **state)
{
    (void)state;
    struct net *net = net_new(5, 0);
    const uint32_t file = net_add_file(net, 100, BLOCK_BYTES, 1, 0);
    for (uint32_t i = 0; i < 5; i++) {
        net_give(net, i, file, i, 5);
    }
    net_start(net, file, NO_PUBLISHER);
    assert_int_equal(net_finish(net, file, NULL), 0);
    assert_true(net_is_whole(net, file));
    net_free(net);
}

static void blocks_are_found_singly(void **state)
{
    (void)state;
    /* Nobody but the publisher knows the file; the rest of its blocks lies with nodes that have
     * them by other files. */
    struct net *net = net_new(60, 0);
    const uint32_t file = net_add_file(net, 200, BLOCK_BYTES, 1, 0);
    for (uint32_t i = 0; i < 60; i++) {
        net_give(net, i, file, i, 60);
        net->peers[i].has_list[file] = i == 0;
    }
    net_start(net, file, 0);
    assert_int_equal(net_finish(net, file, NULL), 0);
    assert_true(net_is_whole(net, file));
    assert_true(net->block_finds >= 190);
    net_free(net);
}

static void what_nobody_has_is_not_found(void **state)
{
    (void)state;
    struct net *net = net_new(3, 0);
    const uint32_t file = net_add_file(net, 10, BLOCK_BYTES, 1, 0);
    net_start(net, file, 0);
    assert_int_equal(net_finish(net, file, NULL), -ENOENT);

    /* All but one block is somewhere. */
    const uint32_t other = net_add_file(net, 10, BLOCK_BYTES, 100, 0);
    net_give(net, 1, other, 1, 1);
    net_start(net, other, 1);
    assert_int_equal(net_finish(net, other, NULL), -ENOENT);
    assert_false(net_is_whole(net, other));
    assert_int_equal(net->files[other].writes, 9);

    const uint32_t third = net_add_file(net, 10, BLOCK_BYTES, 200, 0);
    net->unasked_count = 1;
    net_start(net, third, NO_PUBLISHER);
    assert_int_equal(net_finish(net, third, NULL), -EHOSTUNREACH);
    net_free(net);
}

static void a_liar_costs_questions_only(void **state)
{
    (void)state;
    struct net *net = net_new(3, 0);
    const uint32_t file = net_add_file(net, 50, BLOCK_BYTES, 1, 0);
    net_give(net, 0, file, 0, 1);
    net_give(net, 1, file, 0, 1);
    net->peers[0].lies = true;
    net_start(net, file, 0);
    assert_int_equal(net_finish(net, file, NULL), 0);
    assert_true(net_is_whole(net, file));
    assert_int_equal(net->peers[0].served, 0);
    net_free(net);
}

static void who_gives_wrong_bytes_is_shunned(void **state)
{
    (void)state;
    struct net *net = net_new(3, 0);
    const uint32_t file = net_add_file(net, 100, BLOCK_BYTES, 1, 0);
    net_give(net, 0, file, 0, 1);
    net_give(net, 1, file, 0, 1);
    net->peers[0].is_bad = true;
    net_start(net, file, 0);
    assert_int_equal(net_finish(net, file, NULL), 0);
    assert_true(net_is_whole(net, file));
    assert_int_equal(net->peers[0].shunned, 1);
    /* What was on its way when the third came, and no more. */
    assert_true(net->peers[0].requested < 20);
    assert_true(transfer_counters(net->transfer)->bad_blocks >= TRANSFER_BAD_BLOCKS_MAX);

    /* It is not asked for another file either. */
    const uint32_t asks = net->peers[0].asks;
    const uint32_t other = net_add_file(net, 10, BLOCK_BYTES, 1000, 0);
    net_give(net, 0, other, 0, 1);
    net_start(net, other, 0);
    assert_int_equal(net_finish(net, other, NULL), -EHOSTUNREACH);
    assert_int_equal(net->peers[0].asks, asks);
    net_free(net);
}

static void a_wrong_list_is_asked_of_another(void **state)
{
    (void)state;
    struct net *net = net_new(2, 0);
    const uint32_t file = net_add_file(net, 10, BLOCK_BYTES, 1, 0);
    net_give(net, 0, file, 0, 1);
    net_give(net, 1, file, 0, 1);
    net->peers[0].sends_lies = true;
    net_start(net, file, 0);
    assert_int_equal(net_finish(net, file, NULL), 0);
    assert_true(net_is_whole(net, file));
    net_free(net);
}

static void a_silent_source_costs_little(void **state)
{
    (void)state;
    uint64_t calm_us = 0;
    for (unsigned silent = 0; silent < 2; silent++) {
        struct net *net = net_new(3, 0);
        const uint32_t file = net_add_file(net, 1200, BLOCK_BYTES, 1, 0);
        for (uint32_t i = 0; i < 3; i++) {
            net_give(net, i, file, 0, 1);
        }
        net_start(net, file, 0);
        net_run(net, 60);
        net->peers[1].is_silent = silent;
        for (size_t i = 0; silent && i < net->events_high; i++) {
            net->events[i].is_used &= net->events[i].peer != 1;
        }
        uint64_t us = 0;
        assert_int_equal(net_finish(net, file, &us), 0);
        assert_true(net_is_whole(net, file));
        if (silent) {
            /* Two do the work of three, and half a second at most is lost. */
            assert_true(us <= calm_us * 3 / 2 + 500 * MS_US);
            assert_true(transfer_counters(net->transfer)->hedged > 0);
        } else {
            calm_us = us;
        }
        net_free(net);
    }
}

static void a_lost_peer_gives_its_blocks_back(void **state)
{
    (void)state;
    struct net *net = net_new(2, 0);
    const uint32_t file = net_add_file(net, 100, BLOCK_BYTES, 1, 0);
    net_give(net, 0, file, 0, 1);
    net_give(net, 1, file, 0, 1);
    net_start(net, file, 0);
    net_run(net, 40);
    const struct node_id lost = node_of(0);
    for (size_t i = 0; i < net->events_high; i++) {
        net->events[i].is_used &= net->events[i].peer != 0;
    }
    net->peers[0].is_silent = true;
    transfer_peer_lost(net->transfer, net->now_us, &lost);
    uint64_t us = 0;
    assert_int_equal(net_finish(net, file, &us), 0);
    assert_true(net_is_whole(net, file));
    assert_true(us < 300 * MS_US);
    net_free(net);
}

static void an_unreachable_member_is_not_asked(void **state)
{
    (void)state;
    struct net *net = net_new(2, 0);
    const uint32_t file = net_add_file(net, 100, BLOCK_BYTES, 1, 0);
    net_give(net, 0, file, 0, 1);
    net_give(net, 1, file, 0, 1);
    net_start(net, file, 0);
    net_run(net, 40);
    const struct transfer_member members[] = {{.id = node_of(0), .is_alive = false},
                                              {.id = node_of(1), .is_alive = true}};
    transfer_set_members(net->transfer, net->now_us, members, 2);
    const uint32_t requested = net->peers[0].requested;
    assert_int_equal(net_finish(net, file, NULL), 0);
    assert_true(net_is_whole(net, file));
    assert_int_equal(net->peers[0].requested, requested);
    net_free(net);
}

static void who_was_redirected_insists_at_last(void **state)
{
    (void)state;
    struct net *net = net_new(3, 0);
    const uint32_t file = net_add_file(net, 20, BLOCK_BYTES, 1, 0);
    net_give(net, 0, file, 0, 1);
    net->peers[0].redirects = true;
    net->peers[0].given_to = 2; /* which has nothing */
    net_start(net, file, 0);
    assert_int_equal(net_finish(net, file, NULL), 0);
    assert_true(net_is_whole(net, file));
    assert_int_equal(net->peers[0].insisted, 20);
    assert_true(net->peers[2].asks > 0);
    net_free(net);
}

static void a_redirect_is_followed(void **state)
{
    (void)state;
    struct net *net = net_new(3, 0);
    net->finds_nobody = true;
    const uint32_t file = net_add_file(net, 20, BLOCK_BYTES, 1, 0);
    net_give(net, 0, file, 0, 1);
    net_give(net, 2, file, 0, 1);
    net->peers[0].redirects = true;
    net->peers[0].given_to = 2;
    net_start(net, file, 0);
    assert_int_equal(net_finish(net, file, NULL), 0);
    assert_int_equal(net->peers[2].served, 20);
    assert_int_equal(net->peers[0].insisted, 0);
    net_free(net);
}

/* A redirect saves the link of who has all of it; who has a part gives it to whoever lacks it. */
static void who_has_a_part_gives_it_to_all(void **state)
{
    (void)state;
    struct net *net = net_new(3, 0);
    const uint32_t file = net_add_file(net, 40, BLOCK_BYTES, 1, 0);
    net_give(net, 0, file, 0, 1);
    net_give(net, 1, file, 0, 2);
    net->peers[0].block_us = 20 * MS_US;
    net->peers[1].redirects = true;
    net->peers[1].given_to = 2;
    net_start(net, file, 0);
    assert_int_equal(net_finish(net, file, NULL), 0);
    assert_true(net->peers[1].served > 5);
    assert_int_equal(net->peers[1].served, net->peers[1].requested);
    assert_int_equal(net->peers[0].insisted, 0);
    net_free(net);
}

/* To be busy is to be busy, whomever it names. */
static void who_insisted_and_hears_busy_asks_no_sooner(void **state)
{
    (void)state;
    struct net *net = net_new(2, 0);
    net->finds_nobody = true;
    const uint32_t file = net_add_file(net, 20, BLOCK_BYTES, 1, 0);
    net_give(net, 0, file, 0, 2);
    net->peers[0].is_busy = true;
    net->peers[0].redirects = true;
    net->peers[0].given_to = 1;
    net_start(net, file, 0);
    net_run(net, 2000);
    assert_true(net->peers[1].asks > 0);
    assert_true(net->peers[0].requested > 5);
    assert_true(net->peers[0].requested < 30);
    net_free(net);
}

static void a_busy_source_is_not_pestered(void **state)
{
    (void)state;
    struct net *net = net_new(1, 0);
    const uint32_t file = net_add_file(net, 20, BLOCK_BYTES, 1, 0);
    net_give(net, 0, file, 0, 1);
    net->peers[0].is_busy = true;
    net_start(net, file, 0);
    net_run(net, 2000);
    assert_false(net->files[file].has_ended);
    assert_true(net->peers[0].requested > 5);
    assert_true(net->peers[0].requested < 30);
    struct transfer_status status;
    assert_true(transfer_status(net->transfer, net->now_us, &net->files[file].id, &status));
    assert_int_equal(status.phase, TRANSFER_FETCHING);
    net->peers[0].is_busy = false;
    assert_int_equal(net_finish(net, file, NULL), 0);
    net_free(net);
}

/* It had nothing else to be asked for when it refused. */
static void who_refused_its_only_block_is_asked_again(void **state)
{
    (void)state;
    struct net *net = net_new(2, 0);
    const uint32_t file = net_add_file(net, 20, BLOCK_BYTES, 1, 0);
    net_give(net, 0, file, 1, 1);
    net_give(net, 1, file, 0, 20);
    net->peers[0].block_us = 5 * MS_US;
    net->peers[1].is_busy = true;
    net_start(net, file, 0);
    net_run(net, 500);
    assert_true(net->peers[1].requested > 1);
    net->peers[1].is_busy = false;
    assert_int_equal(net_finish(net, file, NULL), 0);
    assert_int_equal(net->peers[1].served, 1);
    net_free(net);
}

static void small_blocks_go_many_to_a_request(void **state)
{
    (void)state;
    struct net *net = net_new(1, 0);
    const uint32_t file = net_add_file(net, 1000, 4096, 1, 0);
    net_give(net, 0, file, 0, 1);
    net->peers[0].block_us = 20;
    net_start(net, file, 0);
    assert_int_equal(net_finish(net, file, NULL), 0);
    assert_true(net_is_whole(net, file));
    assert_true(transfer_counters(net->transfer)->requests < 50);
    net_free(net);
}

static void equal_blocks_come_once(void **state)
{
    (void)state;
    struct net *net = net_new(2, 0);
    const uint32_t file = net_add_file(net, 100, BLOCK_BYTES, 1, 7);
    net_give(net, 0, file, 0, 1);
    net_start(net, file, 0);
    assert_int_equal(net_finish(net, file, NULL), 0);
    assert_true(net_is_whole(net, file));
    assert_int_equal(net->files[file].writes, 7);
    net_free(net);
}

static void two_fetches_share_a_block(void **state)
{
    (void)state;
    struct net *net = net_new(3, 0);
    const uint32_t one = net_add_file(net, 4, BLOCK_BYTES, 1, 0);
    const uint32_t other = net_add_file(net, 4, BLOCK_BYTES, 1, 0);
    for (uint32_t i = 0; i < 3; i++) {
        net_give(net, i, one, 0, 1);
        net_give(net, i, other, 0, 1);
    }
    net_start(net, one, NO_PUBLISHER);
    net_start(net, other, NO_PUBLISHER);
    assert_int_equal(net_finish(net, one, NULL), 0);
    assert_int_equal(net_finish(net, other, NULL), 0);
    assert_true(net_is_whole(net, one));
    assert_true(net_is_whole(net, other));
    /* Whatever was asked for by both at a time was asked for once. */
    assert_true(net->files[one].copies + net->files[other].copies > 0);
    uint32_t served = 0;
    for (uint32_t i = 0; i < 3; i++) {
        served += net->peers[i].served;
    }
    assert_int_equal(served + net->files[one].copies + net->files[other].copies, 8);
    net_free(net);
}

static void many_fetches_wait_for_room(void **state)
{
    (void)state;
    struct net *net = net_new(1, 0);
    uint32_t files[4];
    for (uint32_t i = 0; i < ARRAY_SIZE(files); i++) {
        files[i] = net_add_file(net, 20, BLOCK_BYTES, 1000 * (i + 1), 0);
        net_give(net, 0, files[i], 0, 1);
        net_start(net, files[i], 0);
    }
    uint64_t us = 0;
    for (uint32_t i = 0; i < ARRAY_SIZE(files); i++) {
        assert_int_equal(net_finish(net, files[i], &us), 0);
        assert_true(us < 400 * MS_US);
    }
    net_free(net);
}

static void a_stopped_fetch_gives_what_others_wait_for_back(void **state)
{
    (void)state;
    struct net *net = net_new(3, 0);
    const uint32_t one = net_add_file(net, 4, BLOCK_BYTES, 1, 0);
    const uint32_t other = net_add_file(net, 4, BLOCK_BYTES, 1, 0);
    for (uint32_t i = 0; i < 3; i++) {
        net_give(net, i, one, 0, 1);
        net_give(net, i, other, 0, 1);
        net->peers[i].block_us = 100 * MS_US;
    }
    net_start(net, one, NO_PUBLISHER);
    net_start(net, other, NO_PUBLISHER);
    net_run(net, 50);
    transfer_stop(net->transfer, net->now_us, &net->files[one].id);
    assert_int_equal(net_finish(net, other, NULL), 0);
    assert_true(net_is_whole(net, other));
    assert_false(net->files[one].has_ended);
    net_free(net);
}

static void a_full_disk_is_waited_for(void **state)
{
    (void)state;
    struct net *net = net_new(1, 0);
    const uint32_t file = net_add_file(net, 50, BLOCK_BYTES, 1, 0);
    net_give(net, 0, file, 0, 1);
    net->files[file].open_err = -ENOSPC;
    net_start(net, file, 0);
    net_run(net, 1000);
    struct transfer_status status;
    assert_true(transfer_status(net->transfer, net->now_us, &net->files[file].id, &status));
    assert_int_equal(status.err, -ENOSPC);
    assert_int_equal(status.waits_for, TRANSFER_WAITS_FOR_SPACE);
    net->files[file].open_err = 0;
    net_run(net, 2030);
    net->files[file].write_err = -ENOSPC;
    net_run(net, 10000);
    assert_false(net->files[file].has_ended);
    assert_true(transfer_status(net->transfer, net->now_us, &net->files[file].id, &status));
    assert_int_equal(status.err, -ENOSPC);
    assert_true(status.blocks_here > 0);
    /* It is tried now and then, not all the time. */
    assert_true(net->peers[0].requested < 100);
    net->files[file].write_err = 0;
    net->files[file].commit_err = -ENOSPC;
    net_run(net, 5000);
    assert_false(net->files[file].has_ended);
    net->files[file].commit_err = 0;
    assert_int_equal(net_finish(net, file, NULL), 0);
    assert_true(net_is_whole(net, file));
    net_free(net);
}

static void other_errors_of_the_disk_end_it(void **state)
{
    (void)state;
    struct net *net = net_new(1, 0);
    const uint32_t file = net_add_file(net, 50, BLOCK_BYTES, 1, 0);
    net_give(net, 0, file, 0, 1);
    net->files[file].write_err = -EIO;
    net_start(net, file, 0);
    assert_int_equal(net_finish(net, file, NULL), -EIO);
    net_free(net);
}

static void a_block_that_lacks_at_the_commit_is_fetched(void **state)
{
    (void)state;
    struct net *net = net_new(1, 0);
    const uint32_t file = net_add_file(net, 10, BLOCK_BYTES, 1, 0);
    net_give(net, 0, file, 0, 1);
    net->files[file].commit_err = -EAGAIN;
    net_start(net, file, 0);
    while (net->files[file].commits == 0) {
        net_step(net, net->now_us + 1000 * MS_US);
    }
    net->files[file].commit_err = 0;
    net->files[file].have[0] &= 0xf7;
    assert_int_equal(net_finish(net, file, NULL), 0);
    assert_true(net_is_whole(net, file));
    assert_int_equal(net->files[file].writes, 11);
    net_free(net);
}

static void a_resumed_fetch_asks_for_the_rest(void **state)
{
    (void)state;
    struct net *net = net_new(1, 0);
    const uint32_t file = net_add_file(net, 80, BLOCK_BYTES, 1, 0);
    net_give(net, 0, file, 0, 1);
    memset(net->files[file].have, 0xff, 5);
    net_start(net, file, 0);
    transfer_opened(net->transfer, net->now_us, &net->files[file].id, 0, &net->files[file].metadata,
                    net->files[file].have);
    assert_int_equal(net_finish(net, file, NULL), 0);
    assert_int_equal(net->files[file].writes, 40);
    assert_int_equal(net->files[file].opens, 0);
    net_free(net);
}

static void readers_come_first(void **state)
{
    (void)state;
    struct net *net = net_new(2, 0);
    const uint32_t file = net_add_file(net, 1000, BLOCK_BYTES, 1, 0);
    net_give(net, 0, file, 0, 1);
    net_give(net, 1, file, 0, 1);
    net_start(net, file, 0);
    assert_int_equal(transfer_want(net->transfer, net->now_us, &net->files[file].id, 5, 700, 8), 0);
    net_run(net, 100);
    assert_true(net->files[file].writes > 20);
    for (uint32_t i = 0; i < 20; i++) {
        assert_in_range(net->files[file].first_writes[i], 700, 772);
    }
    assert_int_equal(transfer_want(net->transfer, net->now_us, &net->files[file].id, 5, 0, 0), 0);
    assert_int_equal(net_finish(net, file, NULL), 0);
    assert_int_equal(transfer_want(net->transfer, net->now_us, &net->files[file].id, 5, 0, 1),
                     -ENOENT);
    net_free(net);
}

static void growth_is_followed(void **state)
{
    (void)state;
    struct net *net = net_new(2, 0);
    const uint32_t file = net_add_file(net, 8, BLOCK_BYTES, 1, 0);
    net_give(net, 0, file, 0, 2);
    net_give(net, 1, file, 8, 2); /* nothing yet */
    net_start(net, file, 0);
    net_run(net, 100);
    assert_int_equal(net->files[file].writes, 4);
    net_give(net, 1, file, 1, 2);
    const struct node_id node = node_of(1);
    const uint32_t more[] = {1, 3, 5, 7, 9, UINT32_MAX};
    transfer_more(net->transfer, net->now_us, &node, &net->files[file].id, more, 6);
    assert_int_equal(net_finish(net, file, NULL), 0);
    assert_true(net_is_whole(net, file));
    assert_int_equal(net->peers[1].stopped, 1);
    net_free(net);
}

static void who_asks_us_becomes_a_source(void **state)
{
    (void)state;
    struct net *net = net_new(2, 0);
    net->finds_nobody = true;
    const uint32_t file = net_add_file(net, 100, BLOCK_BYTES, 1, 0);
    net_give(net, 0, file, 0, 1);
    net_give(net, 1, file, 0, 1);
    net->peers[0].block_us = 20 * MS_US;
    net_start(net, file, 0);
    net_run(net, 50);
    const struct node_id node = node_of(1);
    transfer_asked(net->transfer, net->now_us, &node, &net->files[file].id);
    assert_int_equal(net_finish(net, file, NULL), 0);
    assert_true(net->peers[1].served > 50);
    net_free(net);
}

static void the_rate_is_kept(void **state)
{
    (void)state;
    struct net *net = net_new(1, 10 * UINT64_C(262144));
    const uint32_t file = net_add_file(net, 30, BLOCK_BYTES, 1, 0);
    net_give(net, 0, file, 0, 1);
    net_start(net, file, 0);
    uint64_t us = 0;
    assert_int_equal(net_finish(net, file, &us), 0);
    assert_true(us > 2500 * MS_US);
    assert_true(us < 3500 * MS_US);
    net_free(net);
}

/* A file of one small block whose list is known; node 0 is asked, who names all others. */
static struct net *net_with_small_file(void)
{
    struct net *net = net_new(4, 0);
    net->names_others = true;
    const uint32_t file = net_add_file(net, 1, 10000, 1, 0);
    for (uint32_t i = 0; i < 4; i++) {
        net_give(net, i, file, 0, 1);
    }
    net_start(net, file, 0);
    transfer_opened(net->transfer, net->now_us, &net->files[file].id, 0, &net->files[file].metadata,
                    net->files[file].have);
    return net;
}

static uint32_t asks_of_others(const struct net *net)
{
    return net->peers[1].asks + net->peers[2].asks + net->peers[3].asks;
}

static void a_small_file_is_asked_of_one(void **state)
{
    (void)state;
    struct net *net = net_with_small_file();
    assert_int_equal(net_finish(net, 0, NULL), 0);
    assert_true(net_is_whole(net, 0));
    assert_int_equal(net->peers[0].asks, 1);
    assert_int_equal(asks_of_others(net), 0);
    net_free(net);
}

static void a_small_file_is_asked_of_others_if_one_does_not_give(void **state)
{
    (void)state;
    enum { BUSY, REDIRECTS, FROZEN, LOST, LIAR, WAYS };
    for (unsigned way = 0; way < WAYS; way++) {
        struct net *net = net_with_small_file();
        const struct node_id first = node_of(0);
        net->peers[0].is_busy = way == BUSY;
        net->peers[0].redirects = way == REDIRECTS;
        net->peers[0].given_to = 1;
        net->peers[0].lies = way == LIAR;
        net->peers[0].block_us = 50 * MS_US;
        while (net->peers[0].requested == 0) {
            net_step(net, net->now_us + MS_US);
        }
        if (way == FROZEN) {
            net_freeze(net, 0, 100000);
        } else if (way == LOST) {
            net->peers[0].is_silent = true;
            net_freeze(net, 0, 100000);
            transfer_peer_lost(net->transfer, net->now_us, &first);
        }
        uint64_t took_us = 0;
        assert_int_equal(net_finish(net, 0, &took_us), 0);
        assert_true(net_is_whole(net, 0));
        assert_true(asks_of_others(net) > 0);
        assert_true(took_us < 3000 * MS_US);
        net_free(net);
    }
}

static void nonsense_changes_nothing(void **state)
{
    (void)state;
    struct net *net = net_new(2, 0);
    const uint32_t file = net_add_file(net, 50, BLOCK_BYTES, 1, 0);
    net_give(net, 0, file, 0, 1);
    net_start(net, file, 0);
    const struct node_id peers[] = {node_of(0), node_of(1), node_of(77)};
    const struct id unknown = {{1, 2, 3}};
    uint8_t much[40000];
    memset(much, 0xff, sizeof much);
    const uint32_t indices[] = {0, 49, 50, 149999, 150000, UINT32_MAX};
    for (unsigned round = 0; !net->files[file].has_ended; round++) {
        const struct node_id *peer = &peers[round % 3];
        const struct transfer_offer offer = {.state = TRANSFER_PARTIAL,
                                             .have = BYTES(much, sizeof much),
                                             .others = peers,
                                             .others_count = 3};
        transfer_offered(net->transfer, net->now_us, peer, 1000 + round, &offer);
        transfer_more(net->transfer, net->now_us, peer, &unknown, indices, 6);
        transfer_block(net->transfer, net->now_us, &peers[1], round, 0, 0);
        transfer_block(net->transfer, net->now_us, &peers[0], round, 999, 0);
        transfer_refused(net->transfer, net->now_us, &peers[1], round, 0, TRANSFER_REFUSED_BUSY,
                         peers, 3);
        transfer_found(net->transfer, net->now_us, &unknown, false, NULL, 0, true, 9);
        transfer_copied(net->transfer, net->now_us, &net->files[file].id, round, 0);
        transfer_committed(net->transfer, net->now_us, &unknown, 0);
        transfer_opened(net->transfer, net->now_us, &unknown, 0, NULL, NULL);
        transfer_received(net->transfer, net->now_us, &peers[2], 1);
        transfer_peer_lost(net->transfer, net->now_us, &peers[2]);
        transfer_asked(net->transfer, net->now_us, &peers[2], &unknown);
        net_step(net, net->now_us + 10 * MS_US);
    }
    assert_int_equal(net->files[file].err, 0);
    assert_true(net_is_whole(net, file));
    net_free(net);
}

static void sources_are_told(void *context, const struct transfer_source *source)
{
    uint64_t *bytes = context;
    bytes[index_of(&source->node)] = source->bytes;
    assert_true(source->is_answered);
}

static void sources_are_known_by_what_they_did(void **state)
{
    (void)state;
    struct net *net = net_new(2, 0);
    const uint32_t file = net_add_file(net, 100, BLOCK_BYTES, 1, 0);
    net_give(net, 0, file, 0, 1);
    net_give(net, 1, file, 0, 1);
    net_start(net, file, 0);
    net_run(net, 100);
    uint64_t bytes[2] = {0};
    transfer_visit_sources(net->transfer, &net->files[file].id, sources_are_told, bytes);
    struct transfer_status status;
    assert_true(transfer_status(net->transfer, net->now_us, &net->files[file].id, &status));
    assert_true(bytes[0] > 0 && bytes[1] > 0);
    assert_int_equal(bytes[0] + bytes[1], status.received_bytes);
    assert_int_equal(status.here_bytes, status.received_bytes);
    assert_int_equal(status.waits_for, TRANSFER_WAITS_FOR_BLOCKS);
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_source_gives_all),
        cmocka_unit_test(an_empty_file_is_committed),
        cmocka_unit_test(many_sources_share_the_work),
        cmocka_unit_test(parts_lie_scattered),
        cmocka_unit_test(blocks_are_found_singly),
        cmocka_unit_test(what_nobody_has_is_not_found),
        cmocka_unit_test(a_liar_costs_questions_only),
        cmocka_unit_test(who_gives_wrong_bytes_is_shunned),
        cmocka_unit_test(a_wrong_list_is_asked_of_another),
        cmocka_unit_test(a_silent_source_costs_little),
        cmocka_unit_test(a_lost_peer_gives_its_blocks_back),
        cmocka_unit_test(an_unreachable_member_is_not_asked),
        cmocka_unit_test(who_was_redirected_insists_at_last),
        cmocka_unit_test(a_redirect_is_followed),
        cmocka_unit_test(who_has_a_part_gives_it_to_all),
        cmocka_unit_test(who_insisted_and_hears_busy_asks_no_sooner),
        cmocka_unit_test(a_busy_source_is_not_pestered),
        cmocka_unit_test(who_refused_its_only_block_is_asked_again),
        cmocka_unit_test(small_blocks_go_many_to_a_request),
        cmocka_unit_test(equal_blocks_come_once),
        cmocka_unit_test(two_fetches_share_a_block),
        cmocka_unit_test(many_fetches_wait_for_room),
        cmocka_unit_test(a_stopped_fetch_gives_what_others_wait_for_back),
        cmocka_unit_test(a_full_disk_is_waited_for),
        cmocka_unit_test(other_errors_of_the_disk_end_it),
        cmocka_unit_test(a_block_that_lacks_at_the_commit_is_fetched),
        cmocka_unit_test(a_resumed_fetch_asks_for_the_rest),
        cmocka_unit_test(readers_come_first),
        cmocka_unit_test(growth_is_followed),
        cmocka_unit_test(who_asks_us_becomes_a_source),
        cmocka_unit_test(the_rate_is_kept),
        cmocka_unit_test(a_small_file_is_asked_of_one),
        cmocka_unit_test(a_small_file_is_asked_of_others_if_one_does_not_give),
        cmocka_unit_test(nonsense_changes_nothing),
        cmocka_unit_test(sources_are_known_by_what_they_did),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
