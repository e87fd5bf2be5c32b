/* SPDX-License-Identifier: Apache-2.0 */

/* Two contents whose ids begin with the same 160 bits: one key, under which holders are found of
 * either, but not one content. */

#include "real_nodes.h"

#include "node/fetch.h"
#include "store/hold.h"
#include "store/put.h"
#include "wire/ring_key.h"

struct fetched {
    struct waiting waiting;
    int err;
};

static void fetched(void *context, const struct fetch_result *result)
{
    struct fetched *fetched = context;
    fetched->err = result->err;
    answer(&fetched->waiting);
}

static void begin(const struct one *one, const struct id *id, struct fetched *ret_fetched)
{
    *ret_fetched = (struct fetched){.waiting = WAITING_INIT, .err = 1};
    const struct fetch_options options = {.file = *id, .reason = STORE_CACHE};
    fetch_start(network_fetch(one->network), &options, fetched, ret_fetched);
}

static struct id put_file(const struct one *one, size_t size)
{
    uint8_t *content = mem_alloc(size);
    struct store_put *put = NULL;
    struct store_put_result result;
    assert_int_equal(store_put_begin(node_store(one->node), STORE_ORIGIN, &put), 0);
    assert_int_equal(store_put_write(put, BYTES(content, size)), 0);
    assert_int_equal(store_put_commit(put, &result), 0);
    free(content);
    return result.id;
}

/* Another id of the same key. */
static struct id twin_of(const struct id *id, uint8_t number)
{
    struct id twin = *id;
    twin.bytes[RING_KEY_BYTES] ^= number;
    const struct ring_key keys[] = {ring_key_of(id), ring_key_of(&twin)};
    assert_memory_equal(&keys[0], &keys[1], sizeof keys[0]);
    return twin;
}

static bool has_file(const struct one *one, const struct id *id)
{
    struct store_file_info info;
    return store_file_info(node_store(one->node), id, &info) == 0 && info.is_held;
}

static void each_of_one_key_is_looked_for_by_itself(void **state)
{
    (void)state;
    static const size_t sizes[] = {1000, 3000000};
    struct one pair[2];
    open_pair(pair);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        const struct id id = put_file(&pair[0], sizes[i]);
        const struct id twins[] = {twin_of(&id, 1), twin_of(&id, 2)};
        struct fetched before;
        struct fetched right;
        struct fetched behind;
        begin(&pair[1], &twins[0], &before);
        begin(&pair[1], &id, &right);
        begin(&pair[1], &twins[1], &behind);
        wait_for_answers(&right.waiting, 1);
        wait_for_answers(&before.waiting, 1);
        wait_for_answers(&behind.waiting, 1);
        assert_int_equal(right.err, 0);
        assert_int_equal(before.err, -ENOENT);
        assert_int_equal(behind.err, -ENOENT);
        assert_true(has_file(&pair[1], &id));
        assert_false(has_file(&pair[1], &twins[0]) || has_file(&pair[1], &twins[1]));
        /* Here is what the key names, and not the twin, which is not found either. */
        begin(&pair[1], &twins[0], &before);
        wait_for_answers(&before.waiting, 1);
        assert_int_equal(before.err, -ENOENT);
    }
    close_one(&pair[1]);
    close_one(&pair[0]);
}

int main(void)
{
    log_set_level(LOG_OFF);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_of_one_key_is_looked_for_by_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
