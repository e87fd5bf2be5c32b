/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Scrub reads every place in the order of the disk and compares it with its SHA-256, which also
 * finds what a CRC of 32 bits might miss. A wrong place is dropped at once. Which files are hit is
 * asked at the end, by one walk over the lists of blocks, and only if a block is lost; the walk
 * compares each list with its own id as well.
 */

#include "store/maintain.h"

#include <time.h>

#include "base/err.h"
#include "base/mem.h"
#include "store/damage_priv.h"
#include "store/files_priv.h"
#include "store/hold.h"
#include "store/index_priv.h"
#include "store/read.h"
#include "store/store_priv.h"

#define PLACES_BATCH ((size_t)256)

struct scrub {
    struct store *store;
    const struct store_scrub_options *options;
    struct store_scrub_report report;
    uint64_t begun_ms;
    int err; /* the first of a place that can't be read */
};

static bool is_stopped(const struct scrub *scrub)
{
    return scrub->options->stop && scrub->options->stop(scrub->options->context);
}

/* Waits until the bytes so far are allowed to have been read. */
static void keep_pace(const struct scrub *scrub)
{
    const uint64_t rate = scrub->options->bytes_per_second;
    if (rate == 0) {
        return;
    }
    const uint64_t due_ms = scrub->begun_ms + scrub->report.bytes_checked * 1000 / rate;
    const uint64_t now_ms = clock_monotonic_ms(scrub->store->clock);
    if (due_ms > now_ms) {
        const uint64_t wait_ms = due_ms - now_ms;
        const struct timespec wait = {(time_t)(wait_ms / 1000), (long)(wait_ms % 1000) * 1000000};
        nanosleep(&wait, NULL);
    }
}

static int scrub_place(struct scrub *scrub, const struct place *place)
{
    bool dropped = false;
    const int err = damage_verify(scrub->store, &place->id, &dropped);
    if (err == -EIO || err == -EACCES) {
        scrub->report.blocks_unreadable++;
        scrub->err = scrub->err ? scrub->err : err;
    } else if (err && err != -ENOENT) {
        return err;
    }
    scrub->report.blocks_checked++;
    scrub->report.bytes_checked += place->size_bytes;
    if (dropped) {
        scrub->report.blocks_bad++;
        if (scrub->options->bad_block) {
            scrub->options->bad_block(scrub->options->context, &place->id);
        }
    }
    keep_pace(scrub);
    return is_stopped(scrub) ? -ECANCELED : 0;
}

static int scrub_places(struct scrub *scrub)
{
    struct place places[PLACES_BATCH];
    struct location from = {0, 0};
    size_t count = PLACES_BATCH;
    int err = 0;
    while (!err && count == PLACES_BATCH) {
        err = index_list_places(scrub->store->kv, &from, false, PLACES_BATCH, places, &count);
        for (size_t i = 0; !err && i < count; i++) {
            err = scrub_place(scrub, &places[i]);
            from = places[i].location;
            from.offset_bytes++;
        }
    }
    return err;
}

static int count_lost(struct scrub *scrub, const struct file_metadata *metadata, uint32_t *ret_lost)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    int err = kv_read(scrub->store->kv, &txn);
    if (err) {
        return err;
    }
    uint32_t lost = 0;
    for (size_t i = 0; i < metadata->blocks_count; i++) {
        struct bytes value;
        err = kv_get(txn, TABLE_LOST, id_bytes(&metadata->blocks[i].id), &value);
        if (err && err != -ENOENT) {
            return err;
        }
        lost += !err;
    }
    *ret_lost = lost;
    return 0;
}

static int scrub_file(struct scrub *scrub, const struct id *id, bool any_lost)
{
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    uint32_t lost = 0;
    int err = store_file_metadata(scrub->store, id, &metadata);
    if (err == -ENOENT) {
        return 0;
    }
    const bool list_is_wrong = err == -EBADMSG || err == -EIO;
    if (!err && any_lost) {
        err = count_lost(scrub, &metadata, &lost);
    }
    if (err && !list_is_wrong) {
        return err;
    }
    scrub->report.files_checked++;
    if (lost > 0 || list_is_wrong) {
        scrub->report.files_hit++;
        if (scrub->options->hit_file) {
            scrub->options->hit_file(scrub->options->context, id, lost);
        }
    }
    return is_stopped(scrub) ? -ECANCELED : 0;
}

static int scrub_files(struct scrub *scrub)
{
    struct store_status status;
    int err = store_status(scrub->store, &status);
    if (err) {
        return err;
    }
    struct store_file_info info;
    err = store_next_file(scrub->store, NULL, &info);
    while (!err) {
        err = scrub_file(scrub, &info.id, status.lost_count > 0);
        if (!err) {
            const struct id after = info.id;
            err = store_next_file(scrub->store, &after, &info);
        }
    }
    return err == -ENOENT ? 0 : err;
}

int store_scrub(struct store *store, const struct store_scrub_options *options,
                struct store_scrub_report *ret_report)
{
    struct scrub scrub = {
        .store = store,
        .options = options,
        .begun_ms = clock_monotonic_ms(store->clock),
    };
    int err = scrub_places(&scrub);
    if (!err) {
        err = scrub_files(&scrub);
    }
    *ret_report = scrub.report;
    return err ? err : scrub.err;
}
