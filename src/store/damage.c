/* SPDX-License-Identifier: Apache-2.0 */
#include "store/damage_priv.h"

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "hash/sha256.h"
#include "store/index_priv.h"
#include "store/pins_priv.h"
#include "store/store_priv.h"
#include "store/writer.h"

/* Of one place, as it was found. */
enum verdict {
    PLACE_GOOD,
    PLACE_BAD,       /* its bytes are not the block's */
    PLACE_MISJUDGED, /* they are, and the CRCs in the index are wrong */
};

struct drop_job {
    struct store_job job;
    struct store *store;
    const struct id *id;
    struct location location;
};

static int drop_apply(struct store_job *job, struct kv_txn *txn)
{
    const struct drop_job *drop = CONTAINER_OF(job, struct drop_job, job);
    struct block_record record;
    int err = index_block(txn, drop->id, &record);
    for (uint8_t i = 0; !err && i < record.locations_count; i++) {
        if (location_equal(&record.locations[i], &drop->location)) {
            err = index_remove_location(drop->store, txn, &record, i);
            return err ? err : index_put_block(drop->store, txn, drop->id, &record);
        }
    }
    return err ? err : -ENOENT;
}

/* The CRCs of a block whose bytes were just compared with its id. */
struct crcs_job {
    struct store_job job;
    struct store *store;
    const struct id *id;
    struct bytes data;
};

static int crcs_apply(struct store_job *job, struct kv_txn *txn)
{
    const struct crcs_job *crcs = CONTAINER_OF(job, struct crcs_job, job);
    struct block_record record;
    int err = index_block(txn, crcs->id, &record);
    if (!err && record.size_bytes != crcs->data.size) {
        err = -EIO;
    }
    if (err) {
        return err;
    }
    block_crcs(crcs->data, record.crcs);
    return index_put_block(crcs->store, txn, crcs->id, &record);
}

static void check_place_bytes(const struct id *id, const struct block_record *record,
                              struct bytes data, enum verdict *ret_verdict)
{
    struct id actual;
    sha256_id(data, &actual);
    struct block_record crcs;
    block_crcs(data, crcs.crcs);
    const size_t crcs_bytes = sizeof(uint32_t) * block_spans(record->size_bytes);
    *ret_verdict = !id_equal(&actual, id)                             ? PLACE_BAD
                   : memcmp(crcs.crcs, record->crcs, crcs_bytes) == 0 ? PLACE_GOOD
                                                                      : PLACE_MISJUDGED;
}

/* Leaves the bytes of the place in `data`. */
static int check_place(struct store *store, const struct id *id, const struct block_record *record,
                       const struct location *location, uint8_t *data, enum verdict *ret_verdict)
{
    const int err = location_read(store, location, 0, data, record->size_bytes);
    if (err == -EBADMSG) {
        *ret_verdict = PLACE_BAD;
        return 0;
    }
    if (!err) {
        check_place_bytes(id, record, BYTES(data, record->size_bytes), ret_verdict);
    }
    return err;
}

static int drop_place(struct store *store, const struct id *id, const struct location *location)
{
    if (!store->writer) {
        return -EROFS;
    }
    struct drop_job drop = {
        .job = {.apply = drop_apply},
        .store = store,
        .id = id,
        .location = *location,
    };
    const int err = store_submit_wait(store, &drop.job);
    if (err) {
        return err;
    }
    store->corrupt_count++;
    char hex[ID_HEX_CHARS + 1];
    id_format(id, hex);
    log_error("block_corrupt", KV("id", hex), KV("container", location->container),
              KV("offset", location->offset_bytes));
    return 0;
}

/* The id is what a block is; its CRCs are only a quick way to see that it still is. */
static int mend_crcs(struct store *store, const struct id *id, struct bytes data)
{
    if (!store->writer) {
        return -EROFS;
    }
    struct crcs_job crcs = {
        .job = {.apply = crcs_apply},
        .store = store,
        .id = id,
        .data = data,
    };
    const int err = store_submit_wait(store, &crcs.job);
    if (err) {
        return err;
    }
    char hex[ID_HEX_CHARS + 1];
    id_format(id, hex);
    log_warn("index_crcs_mended", KV("id", hex));
    return 0;
}

static int verify_places(struct store *store, const struct id *id, bool *ret_dropped)
{
    struct block_record record;
    struct kv_txn *txn = NULL;
    int err = kv_read(store->kv, &txn);
    if (err) {
        return err;
    }
    err = index_block(txn, id, &record);
    kv_abort(txn);
    if (err) {
        return err;
    }
    CLEANUP_FREE uint8_t *data = mem_alloc_aligned(64, record.size_bytes);
    bool dropped = false;
    bool crcs_are_right = false;
    for (uint8_t i = 0; !err && i < record.locations_count; i++) {
        enum verdict verdict = PLACE_GOOD;
        err = check_place(store, id, &record, &record.locations[i], data, &verdict);
        err = err == -ESTALE ? 0 : err; /* withdrawn by the read */
        if (!err && verdict == PLACE_BAD) {
            err = drop_place(store, id, &record.locations[i]);
            dropped = dropped || !err;
        } else if (!err && verdict == PLACE_MISJUDGED && !crcs_are_right) {
            err = mend_crcs(store, id, BYTES(data, record.size_bytes));
            crcs_are_right = !err;
        }
        err = err == -ENOENT ? 0 : err; /* moved or removed meanwhile */
    }
    *ret_dropped = dropped;
    return err;
}

int damage_verify(struct store *store, const struct id *id, bool *ret_dropped)
{
    /* Pinned, so that no place is moved away or removed while it is looked at. */
    pins_add(store->pins, id);
    const int err = verify_places(store, id, ret_dropped);
    pins_drop(store->pins, id);
    return err;
}
