/* SPDX-License-Identifier: Apache-2.0 */

/* Looking for what no source of a file has. */

#include "transfer_net.h"

/* The list of a file at peer 0, who has nothing else of it. */
static uint32_t add_list_only(struct net *net, uint32_t blocks_count, uint32_t first_number)
{
    const uint32_t file = net_add_file(net, blocks_count, BLOCK_BYTES, first_number, 0);
    net_give(net, 0, file, blocks_count, 1);
    return file;
}

/* The peer has all blocks, by way of some other file. */
static void give_singly(struct net *net, uint32_t peer, uint32_t file)
{
    net_give(net, peer, file, 0, 1);
    net->peers[peer].has_list[file] = false;
}

/* What one fetch looks for is not there for another one that needs it, too, until it is found. */
static void two_fetches_look_for_the_same_blocks(void **state)
{
    (void)state;
    for (uint64_t late_ms = 0; late_ms < 30; late_ms += 3) {
        struct net *net = net_new(2, 0);
        const uint32_t one = add_list_only(net, 8, 1);
        const uint32_t other = add_list_only(net, 8, 1);
        give_singly(net, 1, one);
        give_singly(net, 1, other);
        net->block_find_us = 3000 * MS_US;
        net_start(net, one, 0);
        net_run(net, late_ms + 1);
        net_start(net, other, 0);
        assert_int_equal(net_finish(net, one, NULL), 0);
        if (!net->files[other].has_ended) {
            (void)net_finish(net, other, NULL);
        }
        assert_int_equal(net->files[other].err, 0);
        net_free(net);
    }
}

/* The first one is stopped; the other one still hears. */
static void who_stops_looking_takes_nothing_from_others(void **state)
{
    (void)state;
    struct net *net = net_new(2, 0);
    const uint32_t one = add_list_only(net, 8, 1);
    const uint32_t other = add_list_only(net, 8, 1);
    give_singly(net, 1, one);
    give_singly(net, 1, other);
    net->block_find_us = 500 * MS_US;
    net_start(net, one, 0);
    net_run(net, 100);
    net_start(net, other, 0);
    net_run(net, 200);
    assert_true(net->block_finds > 0);
    transfer_stop(net->transfer, net->now_us, &net->files[one].id);
    assert_int_equal(net_finish(net, other, NULL), 0);
    net_free(net);
}

/* Who could not be asked about a block is remembered by each fetch that looked for it. */
static void each_fetch_remembers_who_was_not_asked(void **state)
{
    (void)state;
    struct net *net = net_new(1, 0);
    const uint32_t one = add_list_only(net, 8, 1);
    const uint32_t other = add_list_only(net, 8, 1);
    net->block_find_us = 500 * MS_US;
    net->block_unasked_count = 1;
    net_start(net, one, 0);
    net_run(net, 20);
    net_start(net, other, 0);
    assert_int_equal(net_finish(net, one, NULL), -EHOSTUNREACH);
    if (!net->files[other].has_ended) {
        (void)net_finish(net, other, NULL);
    }
    assert_int_equal(net->files[other].err, -EHOSTUNREACH);
    net_free(net);
}

/* Of thousands that nobody has, some are looked for, and that is the end. */
static void many_blocks_that_nobody_has_are_given_up_soon(void **state)
{
    (void)state;
    struct net *net = net_new(1, 0);
    const uint32_t file = add_list_only(net, 20000, 1);
    net->block_find_us = 3000 * MS_US; /* as when a member is silent */
    uint64_t us = 0;
    net_start(net, file, 0);
    assert_int_equal(net_finish(net, file, &us), -ENOENT);
    assert_in_range(us, 0, 10000 * MS_US);
    assert_in_range(net->block_finds, 1, 2 * TRANSFER_BLOCK_FINDS_MAX);
    net_free(net);
}

/* However many there are, and however slowly they are found: each is looked for once. */
static void many_blocks_that_are_found_singly_come(void **state)
{
    (void)state;
    struct net *net = net_new(2, 0);
    const uint32_t file = add_list_only(net, 1000, 1);
    give_singly(net, 1, file);
    net->block_find_us = 1000 * MS_US;
    net_start(net, file, 0);
    assert_int_equal(net_finish(net, file, NULL), 0);
    assert_int_equal(net->block_finds, 1000);
    net_free(net);
}

/* While something comes, what nobody had may have come to somebody: it is looked for again. */
static void what_lacks_is_looked_for_again_later(void **state)
{
    (void)state;
    struct net *net = net_new(2, 0);
    const uint32_t file = net_add_file(net, 200, BLOCK_BYTES, 1, 0);
    net_give(net, 0, file, 0, 2);
    net->peers[0].block_us = 400 * MS_US;
    net_start(net, file, 0);
    net_run(net, 5000);
    assert_true(net->block_finds > 0);
    assert_false(net->files[file].has_ended);
    give_singly(net, 1, file);
    assert_int_equal(net_finish(net, file, NULL), 0);
    net_free(net);
}

/* The text of a list may be published as a file of its own, and be a block: of the same id. Who has
 * the one is not who has the other. */
static void a_block_may_have_the_id_of_a_file(void **state)
{
    (void)state;
    struct net *net = net_new(2, 0);
    const uint32_t file = add_list_only(net, 8, 1);
    const uint32_t other = net_add_file(net, 4, BLOCK_BYTES, 100, 0);
    net->files[other].id = net->files[file].metadata.blocks[0].id;
    net_give(net, 1, other, 0, 1);
    net->block_find_us = 300 * MS_US;
    net->file_find_us = 100 * MS_US;
    net_start(net, file, 0);
    while (net->block_finds == 0) {
        net_step(net, net->now_us + MS_US);
    }
    net_start(net, other, NO_PUBLISHER);
    assert_int_equal(net_finish(net, other, NULL), 0);
    assert_int_equal(net_finish(net, file, NULL), -ENOENT);
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_fetches_look_for_the_same_blocks),
        cmocka_unit_test(who_stops_looking_takes_nothing_from_others),
        cmocka_unit_test(each_fetch_remembers_who_was_not_asked),
        cmocka_unit_test(many_blocks_that_nobody_has_are_given_up_soon),
        cmocka_unit_test(many_blocks_that_are_found_singly_come),
        cmocka_unit_test(what_lacks_is_looked_for_again_later),
        cmocka_unit_test(a_block_may_have_the_id_of_a_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
