/* SPDX-License-Identifier: Apache-2.0 */

/* Two real nodes: one evicts a file since the other has its blocks, in a file of its own that it
 * lets go of later. */

#include "real_nodes.h"

#include "node/fetch.h"
#include "node/guests_priv.h"
#include "store/hold.h"
#include "store/put.h"
#include "store/read.h"

#define BLOCK ((size_t)256 * 1024)
#define HOUR_MS ((uint64_t)3600 * 1000)

static struct id put_file(struct node *node, enum store_reason reason, size_t size)
{
    uint8_t *data = mem_alloc(size);
    for (size_t i = 0; i < size; i++) {
        data[i] = (uint8_t)(i * 31 + i / 251);
    }
    struct store_put *put = NULL;
    struct store_put_result result;
    assert_int_equal(store_put_begin(node_store(node), reason, &put), 0);
    assert_int_equal(store_put_write(put, BYTES(data, size)), 0);
    assert_int_equal(store_put_commit(put, &result), 0);
    free(data);
    return result.id;
}

static void done(void *context, const struct fetch_result *result)
{
    assert_int_equal(result->err, 0);
    answer(context);
}

static void fetch_it(const struct one *one, const struct id *file)
{
    struct waiting waiting = WAITING_INIT;
    const struct fetch_options options = {.file = *file, .reason = STORE_CACHE};
    fetch_start(network_fetch(one->network), &options, done, &waiting);
    wait_for_answers(&waiting, 1);
}

/* Its time goes on by leaps, so that its rounds find something due. */
static bool is_needed_minutes_later(struct clock_manual *clock, const struct one *one,
                                    uint64_t count)
{
    clock_manual_advance(clock, 5 * 60000);
    usleep(10000);
    return counters_of(one).guests_needed_blocks >= count;
}

static bool is_ended_minutes_later(struct clock_manual *clock, const struct one *one,
                                   uint64_t count)
{
    clock_manual_advance(clock, 5 * 60000);
    usleep(10000);
    return counters_of(one).guests_ended_blocks >= count;
}

static void what_was_promised_stays_as_long_as_somebody_needs_it(void **state)
{
    (void)state;
    struct one pair[2];
    struct clock_manual clock;
    clock_manual_init(&clock, HOUR_MS);
    open_pair_of(pair, &clock.clock);
    const struct id file = put_file(pair[0].node, STORE_CACHE, 2 * BLOCK);
    const struct id other = put_file(pair[1].node, STORE_ORIGIN, 2 * BLOCK + 1000);
    limit(pair);
    WAIT_FOR(counters_of(&pair[0]).evicted_blocks == 2);
    assert_int_equal(store_release(node_store(pair[1].node), &other, STORE_ORIGIN), 0);
    /* Nothing in the other node needs them; days later they are there. */
    WAIT_FOR(is_needed_minutes_later(&clock, &pair[1], 2));
    clock_manual_advance(&clock, 100 * HOUR_MS);
    WAIT_FOR(is_needed_minutes_later(&clock, &pair[1], 4));
    assert_int_equal(counters_of(&pair[1]).guests_ended_blocks, 0);
    WAIT_FOR(alive_count(&pair[0]) == 2 && alive_count(&pair[1]) == 2);
    fetch_it(&pair[0], &file);
    /* When nobody does, they go. */
    WAIT_FOR(counters_of(&pair[0]).evicted_blocks == 4);
    assert_int_equal(store_release(node_store(pair[0].node), &file, STORE_CACHE), 0);
    WAIT_FOR(is_ended_minutes_later(&clock, &pair[1], 2));
    struct store_status status;
    assert_int_equal(store_status(node_store(pair[1].node), &status), 0);
    assert_int_equal(status.cache_bytes, 0);
    close_one(&pair[0]);
    close_one(&pair[1]);
}

static void who_can_not_be_asked_may_need_it(void **state)
{
    (void)state;
    struct one pair[2];
    struct clock_manual clock;
    clock_manual_init(&clock, HOUR_MS);
    open_pair_of(pair, &clock.clock);
    const struct id file = put_file(pair[0].node, STORE_CACHE, 2 * BLOCK);
    const struct id other = put_file(pair[1].node, STORE_ORIGIN, 2 * BLOCK + 1000);
    limit(pair);
    WAIT_FOR(counters_of(&pair[0]).evicted_blocks == 2);
    assert_int_equal(store_release(node_store(pair[1].node), &other, STORE_ORIGIN), 0);
    WAIT_FOR(is_needed_minutes_later(&clock, &pair[1], 2));
    stop_one(&pair[0]);
    WAIT_FOR(is_needed_minutes_later(&clock, &pair[1], 6));
    assert_int_equal(counters_of(&pair[1]).guests_ended_blocks, 0);
    char join[ADDRESS_TEXT_CHARS + 1];
    const struct address address = network_address(pair[1].network);
    address_format(&address, join);
    pair[0].cache_bytes = 0;
    start_one(&pair[0], join);
    WAIT_FOR(alive_count(&pair[0]) == 2 && alive_count(&pair[1]) == 2);
    fetch_it(&pair[0], &file);
    /* It has all again: it needs them from nobody. */
    WAIT_FOR(is_ended_minutes_later(&clock, &pair[1], 2));
    close_one(&pair[0]);
    close_one(&pair[1]);
}

int main(void)
{
    log_set_level(LOG_OFF);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_promised_stays_as_long_as_somebody_needs_it),
        cmocka_unit_test(who_can_not_be_asked_may_need_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
