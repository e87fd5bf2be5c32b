/* SPDX-License-Identifier: Apache-2.0 */

/* Intakes that nobody waits for. */

#include "base/err.h"
#include "store/fetches_priv.h"
#include "store/intake_priv.h"
#include "store/read.h"
#include "store/store_priv.h"

struct aside_job {
    struct store_job job;
    struct id file;
};

static int aside_apply(struct store_job *job, struct kv_txn *txn)
{
    const struct aside_job *self = CONTAINER_OF(job, struct aside_job, job);
    return fetches_set_aside(txn, &self->file);
}

int store_intake_set_aside(struct store_intake *intake)
{
    if (!intake) {
        return 0;
    }
    struct store *store = intake->store;
    struct aside_job self = {.job = {.apply = aside_apply}, .file = intake->id};
    /* A flush writes the rows anew, without the mark. */
    int err = store_intake_flush(intake);
    if (!err) {
        err = store_submit_wait(store, &self.job);
    }
    const int close_err = store_intake_close(intake);
    return err ? err : close_err;
}

/* 0: it exists; -ENOENT. */
static int look_up(struct store *store, const struct id *file)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    enum store_reason reason;
    const int err = kv_read(store->kv, &txn);
    return err ? err : fetches_get(txn, file, &reason);
}

int store_intake_forget(struct store *store, const struct id *file)
{
    int err = look_up(store, file);
    if (err) {
        return err == -ENOENT ? 0 : err;
    }
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    struct store_intake *intake = NULL;
    err = store_file_metadata(store, file, &metadata);
    if (!err) {
        err = store_intake_open(store, &metadata, STORE_CACHE, &intake);
    }
    return err ? err : store_intake_drop(intake);
}
