/* SPDX-License-Identifier: Apache-2.0 */

/* Two real nodes that have the same blocks as cache: who evicts what, and when. As people see it:
 * tests/integration/test_evict.py. */

#include "real_nodes.h"

#include "node/fetch.h"
#include "store/hold.h"
#include "store/maintain.h"
#include "store/put.h"

#define FILES 5u

static void put_cached(struct node *node)
{
    for (unsigned i = 0; i < FILES; i++) {
        char content[16];
        struct store_put *put = NULL;
        struct store_put_result result;
        snprintf(content, sizeof content, "content %u", i);
        assert_int_equal(store_put_begin(node_store(node), STORE_CACHE, &put), 0);
        assert_int_equal(store_put_write(put, bytes_of_string(content)), 0);
        assert_int_equal(store_put_commit(put, &result), 0);
    }
}

static void what_another_is_about_to_evict_stays(void **state)
{
    (void)state;
    struct one pair[2];
    open_pair(pair);
    put_cached(pair[0].node);
    put_cached(pair[1].node);
    /* The other one has marked them all, and has not asked yet. */
    struct store *other = node_store(pair[1].node);
    struct store_candidate candidates[FILES];
    struct id ids[FILES];
    size_t count = 0;
    assert_int_equal(store_evict_candidates(other, UINT64_MAX, FILES, candidates, &count), 0);
    assert_int_equal(count, FILES);
    for (size_t i = 0; i < FILES; i++) {
        ids[i] = candidates[i].id;
    }
    limit(pair);
    WAIT_FOR(counters_of(&pair[0]).evict_refused_blocks >= 2 * FILES);
    assert_int_equal(counters_of(&pair[0]).evicted_blocks, 0);
    assert_int_equal(counters_of(&pair[1]).promised_blocks, 0);
    /* It thinks better of it, promises them, and keeps them. */
    store_evict_cancel(other, ids, FILES);
    WAIT_FOR(counters_of(&pair[0]).evicted_blocks == FILES);
    assert_int_equal(counters_of(&pair[1]).promised_blocks, FILES);
    assert_int_equal(store_evict_candidates(other, UINT64_MAX, FILES, candidates, &count), 0);
    assert_int_equal(count, 0);
    close_one(&pair[0]);
    close_one(&pair[1]);
}

static void what_nobody_else_has_stays(void **state)
{
    (void)state;
    struct one pair[2];
    open_pair(pair);
    put_cached(pair[0].node);
    limit(pair);
    WAIT_FOR(counters_of(&pair[0]).evict_refused_blocks >= FILES);
    assert_int_equal(counters_of(&pair[0]).evicted_blocks, 0);
    put_cached(pair[1].node);
    WAIT_FOR(counters_of(&pair[0]).evicted_blocks == FILES);
    assert_int_equal(counters_of(&pair[1]).evicted_blocks, 0); /* it has no limit */
    close_one(&pair[0]);
    close_one(&pair[1]);
}

#define BLOCK ((size_t)256 * 1024)

static struct id put_long(struct node *node, enum store_reason reason, size_t size)
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

struct had {
    _Atomic bool is_over;
    int err;
};

static void done(void *context, const struct fetch_result *result)
{
    struct had *had = context;
    had->err = result->err;
    had->is_over = true;
}

/* The other one has the block in another file: the list of this one is here alone. */
static void find_evicted(unsigned blocks)
{
    struct one pair[2];
    open_pair(pair);
    const struct id file = put_long(pair[0].node, STORE_CACHE, blocks * BLOCK);
    put_long(pair[1].node, STORE_ORIGIN, blocks * BLOCK + 1000);
    limit(pair);
    WAIT_FOR(counters_of(&pair[0]).evicted_blocks == blocks);
    WAIT_FOR(alive_count(&pair[0]) == 2 && alive_count(&pair[1]) == 2);
    for (int i = 1; i >= 0; i--) {
        struct had had = {.err = 1};
        const struct fetch_options options = {.file = file, .reason = STORE_COPY};
        fetch_start(network_fetch(pair[i].network), &options, done, &had);
        WAIT_FOR(had.is_over);
        assert_int_equal(had.err, 0);
    }
    close_one(&pair[0]);
    close_one(&pair[1]);
}

static void a_file_whose_blocks_were_evicted_is_found(void **state)
{
    (void)state;
    find_evicted(2);
    find_evicted(1);
}

int main(void)
{
    log_set_level(LOG_OFF);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_another_is_about_to_evict_stays),
        cmocka_unit_test(what_nobody_else_has_stays),
        cmocka_unit_test(a_file_whose_blocks_were_evicted_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
