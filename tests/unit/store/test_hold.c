/* SPDX-License-Identifier: Apache-2.0 */
/* What is kept and why: holders are counted, the last one gone starts the grace time. */
#include "helpers.h"

#include "store/writer.h"

static const struct store_grace grace = {.collect_ms = 1000, .punch_ms = 0};

static struct store_file_info info_of(struct store *store, const struct id *file)
{
    struct store_file_info info;
    assert_ok(store_file_info(store, file, &info));
    assert_true(id_equal(&info.id, file));
    return info;
}

static void collect(struct scratch *scratch)
{
    size_t removed = 0;
    bool more = false;
    assert_ok(store_collect(scratch->store, &grace, SIZE_MAX, &removed, &more));
}

static void holders_are_counted(void **state)
{
    struct scratch *scratch = *state;
    struct store *store = scratch->store;
    const struct id id = put_seed(store, STORE_FOLLOW, 1, 3 * BLOCK);
    assert_int_equal(info_of(store, &id).holders[STORE_FOLLOW], 1);
    assert_ok(store_hold(store, &id, STORE_FOLLOW));
    assert_ok(store_hold(store, &id, STORE_ORIGIN));
    const struct store_file_info info = info_of(store, &id);
    assert_int_equal(info.holders[STORE_FOLLOW], 2);
    assert_int_equal(info.holders[STORE_ORIGIN], 1);
    assert_int_equal(info.holders[STORE_COPY], 0);
    assert_int_equal(info.holders[STORE_CACHE], 0);
    assert_int_equal(info.length_bytes, 3 * BLOCK);
    assert_int_equal(info.blocks_count, 3);

    /* Another session knows the same. */
    scratch_reopen(scratch);
    store = scratch->store;
    assert_int_equal(info_of(store, &id).holders[STORE_FOLLOW], 2);

    /* Each of the three keeps it. */
    const enum store_reason reasons[] = {STORE_FOLLOW, STORE_ORIGIN, STORE_FOLLOW};
    for (size_t i = 0; i < ARRAY_SIZE(reasons); i++) {
        advance(scratch, 10000);
        collect(scratch);
        assert_seed(store, &id, 1, 3 * BLOCK);
        assert_int_equal(status_of(store).unreferenced_count, 0);
        assert_ok(store_release(store, &id, reasons[i]));
    }
    assert_int_equal(status_of(store).unreferenced_count, 4); /* the file and its blocks */
    assert_int_equal(store_release(store, &id, STORE_FOLLOW), -ENOENT);
    advance(scratch, 1000);
    collect(scratch);
    struct store_file_info gone;
    assert_int_equal(store_file_info(store, &id, &gone), -ENOENT);
    assert_int_equal(status_of(store).blocks_count, 0);
}

static void a_put_holds_once(void **state)
{
    struct scratch *scratch = *state;
    struct store *store = scratch->store;
    const struct id id = put_seed(store, STORE_ORIGIN, 1, 5000);
    put_seed(store, STORE_ORIGIN, 1, 5000);
    assert_int_equal(info_of(store, &id).holders[STORE_ORIGIN], 1);
    assert_ok(store_hold(store, &id, STORE_ORIGIN));
    put_seed(store, STORE_ORIGIN, 1, 5000);
    assert_int_equal(info_of(store, &id).holders[STORE_ORIGIN], 2);
    put_seed(store, STORE_CACHE, 1, 5000);
    assert_int_equal(info_of(store, &id).holders[STORE_CACHE], 1);
}

static void unknown_files(void **state)
{
    struct scratch *scratch = *state;
    struct store *store = scratch->store;
    const struct id id = {.bytes = {9}};
    struct store_file_info info;
    assert_int_equal(store_hold(store, &id, STORE_ORIGIN), -ENOENT);
    assert_int_equal(store_release(store, &id, STORE_ORIGIN), -ENOENT);
    assert_int_equal(store_file_info(store, &id, &info), -ENOENT);
    assert_int_equal(store_promise(store, &id, 1000), -ENOENT);
    const struct id known = put_seed(store, STORE_ORIGIN, 1, 10);
    assert_int_equal(store_release(store, &known, STORE_COPY), -ENOENT);
    assert_int_equal(info_of(store, &known).holders[STORE_ORIGIN], 1);
}

/* Held again before the grace time ends, by a hold or by a put: it stays. */
static void held_again_in_time(void **state)
{
    struct scratch *scratch = *state;
    struct store *store = scratch->store;
    const struct id one = put_seed(store, STORE_ORIGIN, 1, 2 * BLOCK);
    const struct id two = put_seed(store, STORE_ORIGIN, 2, 5000);
    const struct id three = put_seed(store, STORE_ORIGIN, 3, 5000);
    assert_ok(store_release(store, &one, STORE_ORIGIN));
    assert_ok(store_release(store, &two, STORE_ORIGIN));
    assert_ok(store_release(store, &three, STORE_ORIGIN));
    advance(scratch, 999);
    collect(scratch);
    assert_ok(store_hold(store, &one, STORE_COPY));
    CLEANUP_FREE uint8_t *data = make_content(2, 5000);
    assert_int_equal(put_bytes(store, STORE_COPY, BYTES(data, 5000)).new_bytes, 0);
    assert_int_equal(status_of(store).unreferenced_count, 2); /* the third */
    advance(scratch, 1);
    collect(scratch);
    assert_seed(store, &one, 1, 2 * BLOCK);
    assert_seed(store, &two, 2, 5000);
    assert_int_equal(status_of(store).files_count, 2);

    /* Its grace time begins anew with the next release. */
    assert_ok(store_release(store, &one, STORE_COPY));
    advance(scratch, 999);
    collect(scratch);
    assert_seed(store, &one, 1, 2 * BLOCK);
    advance(scratch, 1);
    collect(scratch);
    assert_int_equal(store_hold(store, &one, STORE_COPY), -ENOENT);
}

static void files_come_in_the_order_of_their_ids(void **state)
{
    struct scratch *scratch = *state;
    struct store *store = scratch->store;
    struct store_file_info info;
    assert_int_equal(store_next_file(store, NULL, &info), -ENOENT);
    enum { COUNT = 300 };
    for (uint64_t i = 0; i < COUNT; i++) {
        put_seed(store, STORE_ORIGIN, i, 10 + i);
    }
    size_t count = 0;
    uint64_t length_bytes = 0;
    struct id before = {0};
    for (int err = store_next_file(store, NULL, &info); err != -ENOENT; count++) {
        assert_ok(err);
        assert_true(memcmp(info.id.bytes, before.bytes, ID_BYTES) > 0);
        assert_int_equal(info.blocks_count, 1);
        length_bytes += info.length_bytes;
        before = info.id;
        err = store_next_file(store, &before, &info);
    }
    assert_int_equal(count, COUNT);
    assert_int_equal(length_bytes, 10 * COUNT + COUNT * (COUNT - 1) / 2);

    /* Behind ids that no file has. */
    const struct id least = {0};
    struct id greatest;
    memset(greatest.bytes, 0xFF, ID_BYTES);
    assert_ok(store_next_file(store, &least, &info));
    assert_int_equal(store_next_file(store, &greatest, &info), -ENOENT);
}

/* A file whose block is not here any more can't be held for another reason. */
static void not_without_its_blocks(void **state)
{
    struct scratch *scratch = *state;
    struct store *store = scratch->store;
    const struct id id = put_seed(store, STORE_CACHE, 1, 5000);
    struct store_candidate candidate;
    size_t count = 0;
    struct store_evicted evicted;
    assert_ok(store_evict_candidates(store, 1, 1, &candidate, &count));
    assert_ok(store_evict(store, &candidate.id, 1, &evicted));
    assert_int_equal(evicted.bytes, 5000);
    assert_int_equal(evicted.blocks_count, 1);
    assert_int_equal(store_hold(store, &id, STORE_ORIGIN), -ENOENT);
    assert_int_equal(info_of(store, &id).holders[STORE_ORIGIN], 0);
}

struct again {
    struct store_job job;
    struct store *store;
    const struct id *id;
    enum store_reason reason;
    int err;
};

static int hold_again_apply(struct store_job *job, struct kv_txn *txn)
{
    struct again *again = CONTAINER_OF(job, struct again, job);
    again->err = store_hold_again_in(again->store, txn, again->id, again->reason);
    return 0;
}

static int hold_again(struct store *store, const struct id *id, enum store_reason reason)
{
    struct again again = {
        .job = {.apply = hold_again_apply}, .store = store, .id = id, .reason = reason};
    assert_ok(store_submit_wait(store, &again.job));
    return again.err;
}

static void only_what_has_a_holder_gets_one_more(void **state)
{
    struct scratch *scratch = *state;
    struct store *store = scratch->store;
    const struct id id = put_seed(store, STORE_CACHE, 1, 5000);
    const struct id unknown = {.bytes = {1}};
    assert_int_equal(hold_again(store, &id, STORE_ORIGIN), -ENOENT);
    assert_int_equal(info_of(store, &id).holders[STORE_ORIGIN], 0);
    assert_ok(hold_again(store, &id, STORE_CACHE));
    assert_int_equal(info_of(store, &id).holders[STORE_CACHE], 2);
    assert_int_equal(hold_again(store, &unknown, STORE_CACHE), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(holders_are_counted),
        STORE_TEST(a_put_holds_once),
        STORE_TEST(unknown_files),
        STORE_TEST(held_again_in_time),
        STORE_TEST(files_come_in_the_order_of_their_ids),
        STORE_TEST(not_without_its_blocks),
        STORE_TEST(only_what_has_a_holder_gets_one_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
