/* SPDX-License-Identifier: Apache-2.0 */
/* Scrub: every place is compared with its id, what is wrong is dropped, and the files are named. */
#include "helpers.h"

#include <time.h>

#include "store/index_priv.h"
#include "store/writer.h"

/* What scrub said. */
struct heard {
    struct id blocks[32];
    size_t blocks_count;
    struct id files[32];
    uint32_t lost[32];
    size_t files_count;
    uint64_t asked_count;
    uint64_t stop_at; /* 0: never */
};

static void hear_block(void *context, const struct id *block)
{
    struct heard *heard = context;
    assert_true(heard->blocks_count < ARRAY_SIZE(heard->blocks));
    heard->blocks[heard->blocks_count++] = *block;
}

static void hear_file(void *context, const struct id *file, uint32_t blocks_lost)
{
    struct heard *heard = context;
    assert_true(heard->files_count < ARRAY_SIZE(heard->files));
    heard->lost[heard->files_count] = blocks_lost;
    heard->files[heard->files_count++] = *file;
}

static bool ask(void *context)
{
    struct heard *heard = context;
    heard->asked_count++;
    return heard->asked_count == heard->stop_at;
}

static struct store_scrub_report scrub(struct store *store, struct heard *heard)
{
    const struct store_scrub_options options = {
        .bad_block = hear_block,
        .hit_file = hear_file,
        .stop = ask,
        .context = heard,
    };
    struct store_scrub_report report;
    *heard = (struct heard){0};
    assert_ok(store_scrub(store, &options, &report));
    return report;
}

static bool contains(const struct id *ids, size_t count, const struct id *id)
{
    for (size_t i = 0; i < count; i++) {
        if (id_equal(&ids[i], id)) {
            return true;
        }
    }
    return false;
}

static void a_clean_store(void **state)
{
    struct scratch *scratch = *state;
    struct heard heard;
    struct store_scrub_report report = scrub(scratch->store, &heard);
    assert_int_equal(report.blocks_checked, 0);
    for (uint64_t i = 0; i < 300; i++) {
        put_seed(scratch->store, STORE_ORIGIN, i, 1000 + i);
    }
    put_seed(scratch->store, STORE_CACHE, 1000, 3 * BLOCK);
    report = scrub(scratch->store, &heard);
    assert_int_equal(report.blocks_checked, 303);
    assert_int_equal(report.files_checked, 301);
    assert_int_equal(report.bytes_checked, status_of(scratch->store).live_bytes);
    assert_int_equal(report.blocks_bad, 0);
    assert_int_equal(report.files_hit, 0);
    assert_int_equal(heard.blocks_count, 0);
    assert_int_equal(heard.files_count, 0);
}

/* A file of four blocks of which two are damaged, one that shares one of them, one that doesn't. */
static void damage_is_named_dropped_and_mended(void **state)
{
    struct scratch *scratch = *state;
    struct store *store = scratch->store;
    CLEANUP_FREE uint8_t *data = make_content(1, 3 * BLOCK + 5000);
    CLEANUP_FREE uint8_t *other = make_content(2, 2 * BLOCK);
    memcpy(other, data + BLOCK, BLOCK);
    const struct id one = put_bytes(store, STORE_ORIGIN, BYTES(data, 3 * BLOCK + 5000)).id;
    const struct id two = put_bytes(store, STORE_COPY, BYTES(other, 2 * BLOCK)).id;
    const struct id whole = put_seed(store, STORE_ORIGIN, 3, 70000);
    const struct bytes shared = BYTES(data + BLOCK, BLOCK);
    const struct bytes last = BYTES(data + 3 * BLOCK, 5000);
    const struct id bad[] = {block_id(shared), block_id(last)};
    damage(scratch, shared);
    damage(scratch, last);

    struct heard heard;
    struct store_scrub_report report = scrub(store, &heard);
    assert_int_equal(report.blocks_checked, 6);
    assert_int_equal(report.blocks_bad, 2);
    assert_int_equal(report.files_hit, 2);
    assert_int_equal(heard.blocks_count, 2);
    assert_true(contains(heard.blocks, 2, &bad[0]));
    assert_true(contains(heard.blocks, 2, &bad[1]));
    assert_int_equal(heard.files_count, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_true(id_equal(&heard.files[i], heard.lost[i] == 2 ? &one : &two));
    }
    assert_int_equal(heard.lost[0] + heard.lost[1], 3);
    struct store_status status = status_of(store);
    assert_int_equal(status.corrupt_count, 2);
    assert_int_equal(status.lost_count, 2);
    assert_false(store_has_block(store, &bad[0]));
    assert_false(store_has_block(store, &bad[1]));
    assert_seed(store, &whole, 3, 70000);

    /* The next one finds nothing new, but still names the files; also after a restart. */
    scratch_reopen(scratch);
    store = scratch->store;
    report = scrub(store, &heard);
    assert_int_equal(report.blocks_checked, 4);
    assert_int_equal(report.blocks_bad, 0);
    assert_int_equal(report.files_hit, 2);
    assert_int_equal(status_of(store).corrupt_count, 0); /* since the start */

    /* Putting one of the two again mends what it has of them. */
    const struct store_put_result again = put_bytes(store, STORE_COPY, BYTES(other, 2 * BLOCK));
    assert_int_equal(again.new_bytes, BLOCK);
    report = scrub(store, &heard);
    assert_int_equal(report.files_hit, 1);
    assert_true(id_equal(&heard.files[0], &one));
    assert_int_equal(heard.lost[0], 1);
    put_bytes(store, STORE_ORIGIN, BYTES(data, 3 * BLOCK + 5000));
    report = scrub(store, &heard);
    assert_int_equal(report.files_hit, 0);
    assert_int_equal(status_of(store).lost_count, 0);
    assert_content(store, &one, BYTES(data, 3 * BLOCK + 5000));
    assert_content(store, &two, BYTES(other, 2 * BLOCK));
}

/* The bytes of what was dropped are given back like those of all others. */
static void damaged_bytes_are_given_back(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_FREE uint8_t *data = make_content(1, 100000);
    const struct id id = put_bytes(scratch->store, STORE_ORIGIN, BYTES(data, 100000)).id;
    damage(scratch, BYTES(data, 100000));
    struct heard heard;
    scrub(scratch->store, &heard);
    assert_int_equal(status_of(scratch->store).live_bytes, 0);
    assert_ok(store_release(scratch->store, &id, STORE_ORIGIN));
    tidy_now(scratch);
    const struct store_status status = status_of(scratch->store);
    assert_int_equal(status.blocks_count, 0);
    assert_int_equal(status.lost_count, 0);
    assert_int_equal(disk_bytes(scratch), 0);
}

/* A cached block that is damaged is not lost to anybody: it can be fetched again. */
static void damage_in_the_cache(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_FREE uint8_t *data = make_content(1, 100000);
    put_bytes(scratch->store, STORE_CACHE, BYTES(data, 100000));
    damage(scratch, BYTES(data, 100000));
    struct heard heard;
    const struct store_scrub_report report = scrub(scratch->store, &heard);
    assert_int_equal(report.blocks_bad, 1);
    assert_int_equal(status_of(scratch->store).cache_bytes, 0);
    assert_int_equal(put_bytes(scratch->store, STORE_CACHE, BYTES(data, 100000)).new_bytes, 100000);
    assert_int_equal(status_of(scratch->store).cache_bytes, 100000);
}

static void a_segment_cut_short(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_FREE uint8_t *data = make_content(1, 3 * BLOCK);
    const struct id id = put_bytes(scratch->store, STORE_ORIGIN, BYTES(data, 3 * BLOCK)).id;
    const struct id blocks[] = {block_id(BYTES(data, BLOCK)), block_id(BYTES(data + BLOCK, BLOCK)),
                                block_id(BYTES(data + 2 * BLOCK, BLOCK))};
    struct store_view view; /* the segment is mapped */
    assert_ok(store_view_open(scratch->store, &blocks[0], &view));
    store_view_close(&view);
    char path[160];
    snprintf(path, sizeof path, "%s/segments/00000001.seg", scratch->store_path);
    if (access(path, F_OK) != 0) {
        snprintf(path, sizeof path, "%s/segments/00000000.seg", scratch->store_path);
    }
    assert_int_equal(truncate(path, (off_t)(BLOCK + 5000)), 0);
    uint8_t byte = 0;
    assert_int_equal(store_view_open(scratch->store, &blocks[2], &view), -EBADMSG);
    assert_int_equal(store_read_block(scratch->store, &blocks[1], BLOCK - 1, &byte, 1), -EBADMSG);
    assert_ok(store_read_block(scratch->store, &blocks[0], BLOCK - 1, &byte, 1));
    struct heard heard;
    const struct store_scrub_report report = scrub(scratch->store, &heard);
    assert_int_equal(report.files_hit, 1);
    assert_int_equal(heard.lost[0], 2);
    put_bytes(scratch->store, STORE_ORIGIN, BYTES(data, 3 * BLOCK));
    assert_content(scratch->store, &id, BYTES(data, 3 * BLOCK));
}

static void a_segment_removed(void **state)
{
    struct scratch *scratch = *state;
    const struct id id = put_seed(scratch->store, STORE_ORIGIN, 1, 3 * BLOCK);
    const struct id small = put_seed(scratch->store, STORE_ORIGIN, 2, 5000);
    scratch_close(scratch);
    char path[160];
    snprintf(path, sizeof path, "%s/segments/00000000.seg", scratch->store_path);
    assert_int_equal(unlink(path), 0);
    scratch_open(scratch);
    struct heard heard;
    const struct store_scrub_report report = scrub(scratch->store, &heard);
    assert_int_equal(report.files_hit, 1);
    assert_true(id_equal(&heard.files[0], &id) || id_equal(&heard.files[0], &small));
    put_seed(scratch->store, STORE_ORIGIN, 1, 3 * BLOCK);
    put_seed(scratch->store, STORE_ORIGIN, 2, 5000);
    assert_seed(scratch->store, &id, 1, 3 * BLOCK);
    assert_seed(scratch->store, &small, 2, 5000);
    assert_int_equal(status_of(scratch->store).lost_count, 0);
}

static void a_reported_block_is_verified(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_FREE uint8_t *data = make_content(1, 100000);
    put_bytes(scratch->store, STORE_ORIGIN, BYTES(data, 100000));
    const struct id block = block_id(BYTES(data, 100000));
    damage(scratch, BYTES(data, 100000));
    bool dropped = false;
    assert_ok(store_report_bad(scratch->store, &block, &dropped));
    assert_true(dropped);
    assert_false(store_has_block(scratch->store, &block));
    assert_int_equal(status_of(scratch->store).corrupt_count, 1);
}

/* ---- an index that is wrong ---- */

struct spoil_job {
    struct store_job job;
    struct store *store;
    struct id id;
};

static int spoil_apply(struct store_job *base, struct kv_txn *txn)
{
    const struct spoil_job *job = CONTAINER_OF(base, struct spoil_job, job);
    struct block_record record;
    MUST(index_block(txn, &job->id, &record) == 0);
    record.crcs[block_spans(record.size_bytes) - 1] ^= 1u;
    return index_put_block(job->store, txn, &job->id, &record);
}

/* One bit of the block's last CRC. */
static void spoil_crcs(struct store *store, const struct id *block)
{
    struct spoil_job job = {.job = {.apply = spoil_apply}, .store = store, .id = *block};
    assert_ok(store_submit_wait(store, &job.job));
}

/* The bytes are what their id says: no reason to lose them. */
static void wrong_crcs_cost_no_block(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_FREE uint8_t *data = make_content(1, 100000);
    const struct bytes content = BYTES(data, 100000);
    const struct id file = put_bytes(scratch->store, STORE_ORIGIN, content).id;
    const struct id block = block_id(content);
    struct heard heard;

    spoil_crcs(scratch->store, &block);
    struct store_scrub_report report = scrub(scratch->store, &heard);
    assert_int_equal(report.blocks_checked, 1);
    assert_int_equal(report.blocks_bad, 0);
    assert_int_equal(report.files_hit, 0);
    assert_content(scratch->store, &file, content);

    spoil_crcs(scratch->store, &block);
    assert_content(scratch->store, &file, content); /* a reader finds it */
    scratch_reopen(scratch);
    assert_content(scratch->store, &file, content);
    assert_int_equal(status_of(scratch->store).corrupt_count, 0);
    assert_int_equal(status_of(scratch->store).lost_count, 0);
}

/* A good place and a bad one beside it: the index is mended by the good one. */
static void wrong_crcs_and_a_bad_place(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_FREE uint8_t *data = make_content(1, 100000);
    const struct bytes content = BYTES(data, 100000);
    char path[128];
    snprintf(path, sizeof path, "%s/outside", scratch->root);
    write_path(path, content);
    struct store_put *put = NULL;
    struct store_put_result result;
    assert_ok(store_put_begin(scratch->store, STORE_ORIGIN, &put));
    assert_ok(store_put_in_place(put, path));
    assert_ok(store_put_commit(put, &result));
    put_bytes(scratch->store, STORE_ORIGIN, content); /* puts it into a segment, too */
    const struct id block = block_id(content);

    damage(scratch, content);
    spoil_crcs(scratch->store, &block);
    struct heard heard;
    const struct store_scrub_report report = scrub(scratch->store, &heard);
    assert_int_equal(report.blocks_bad, 1);
    assert_int_equal(report.files_hit, 0);
    assert_content(scratch->store, &result.id, content);
    assert_int_equal(status_of(scratch->store).corrupt_count, 1);
    assert_int_equal(status_of(scratch->store).lost_count, 0);
}

static void stopped_early(void **state)
{
    struct scratch *scratch = *state;
    for (uint64_t i = 0; i < 20; i++) {
        put_seed(scratch->store, STORE_ORIGIN, i, 1000);
    }
    struct heard heard = {.stop_at = 7};
    const struct store_scrub_options options = {.stop = ask, .context = &heard};
    struct store_scrub_report report;
    assert_int_equal(store_scrub(scratch->store, &options, &report), -ECANCELED);
    assert_int_equal(report.blocks_checked, 7);
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* By the true clock: 300 KB at 1 MB/s take 0.3 s at least. */
static void no_faster_than_allowed(void **state)
{
    struct scratch *scratch = *state;
    scratch->options.clock = NULL;
    scratch_open(scratch);
    for (uint64_t i = 0; i < 30; i++) {
        put_seed(scratch->store, STORE_ORIGIN, i, 10000);
    }
    const struct store_scrub_options options = {.bytes_per_second = 1000000};
    struct store_scrub_report report;
    const int64_t begun = now_ms();
    assert_ok(store_scrub(scratch->store, &options, &report));
    assert_int_equal(report.bytes_checked, 300000);
    assert_true(now_ms() - begun >= 299);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(a_clean_store),
        STORE_TEST(damage_is_named_dropped_and_mended),
        STORE_TEST(damaged_bytes_are_given_back),
        STORE_TEST(damage_in_the_cache),
        STORE_TEST(a_segment_cut_short),
        STORE_TEST(a_segment_removed),
        STORE_TEST(a_reported_block_is_verified),
        STORE_TEST(wrong_crcs_cost_no_block),
        STORE_TEST(wrong_crcs_and_a_bad_place),
        STORE_TEST(stopped_early),
        DIRECTORY_TEST(no_faster_than_allowed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
