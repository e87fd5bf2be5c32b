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

/* True if the bytes at `location` are the block's. */
static int check_place(struct store *store, const struct id *id, const struct block_record *record,
                       const struct location *location, uint8_t *data, bool *ret_good)
{
    const int err = location_read(store, location, 0, data, record->size_bytes);
    if (err == -EBADMSG) {
        *ret_good = false;
        return 0;
    }
    if (err) {
        return err;
    }
    struct id actual;
    sha256_id(BYTES(data, record->size_bytes), &actual);
    struct block_record crcs;
    block_crcs(BYTES(data, record->size_bytes), crcs.crcs);
    const size_t crcs_bytes = sizeof(uint32_t) * block_spans(record->size_bytes);
    *ret_good = id_equal(&actual, id) && memcmp(crcs.crcs, record->crcs, crcs_bytes) == 0;
    return 0;
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
    for (uint8_t i = 0; !err && i < record.locations_count; i++) {
        bool good = true;
        err = check_place(store, id, &record, &record.locations[i], data, &good);
        err = err == -ESTALE ? 0 : err; /* withdrawn by the read */
        if (!err && !good) {
            err = drop_place(store, id, &record.locations[i]);
            dropped = dropped || !err;
            err = err == -ENOENT ? 0 : err; /* moved or removed meanwhile */
        }
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
