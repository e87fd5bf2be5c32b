/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The order that makes it safe: the file is synced; its blocks are read, compared, and named at
 * their places in it, a batch in a transaction; then the path is made a holder; and when that is
 * durable, the places in segments go, a batch in a transaction again. Whoever reads meanwhile finds
 * the one or the other. After a crash in between the same call goes on where it was.
 */

#include "store/adopt.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "hash/sha256.h"
#include "store/externals_priv.h"
#include "store/files_priv.h"
#include "store/followed_priv.h"
#include "store/index_priv.h"
#include "store/pins_priv.h"
#include "store/read.h"
#include "store/store_priv.h"
#include "store/writer.h"

/* Blocks of one transaction: as many as a withdrawal drops at once. */
#define ADOPT_BATCH ((size_t)1024)

struct adoption {
    struct store *store;
    const struct id *file;
    const char *path;
    int fd;
    struct file_identity identity;
    struct file_metadata metadata;
    uint64_t container;
};

static void adoption_done(struct adoption *adoption)
{
    if (adoption->fd >= 0) {
        close(adoption->fd);
    }
    file_metadata_done(&adoption->metadata);
}
#define CLEANUP_ADOPTION __attribute__((cleanup(adoption_done)))

/* A place of the block in the file; NULL: it has none. */
static const struct location *find_place(const struct adoption *adoption,
                                         const struct block_record *record)
{
    for (uint8_t i = 0; i < record->locations_count; i++) {
        if (record->locations[i].container == adoption->container) {
            return &record->locations[i];
        }
    }
    return NULL;
}

/* ---- the file ---------------------------------------------------------------------------------
 */

static int open_file(struct adoption *adoption)
{
    if (adoption->path[0] != '/') {
        return -EINVAL;
    }
    if (strlen(adoption->path) >= PATH_MAX) {
        return -ENAMETOOLONG;
    }
    /* What it is is asked before it is opened, see externals.c. */
    struct stat stat;
    int err = lstat(adoption->path, &stat) < 0 ? err_from_errno(errno) : 0;
    if (!err && !S_ISREG(stat.st_mode)) {
        err = -ESTALE;
    }
    if (!err) {
        err = file_open_at(AT_FDCWD, adoption->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY,
                           0, &adoption->fd);
    }
    if (!err) {
        err = file_sync(adoption->fd);
    }
    if (!err && fstat(adoption->fd, &stat) < 0) {
        err = err_from_errno(errno);
    }
    if (err) {
        return err == -ENOENT || err == -ENOTDIR || err == -EINVAL ? -ESTALE : err;
    }
    file_identity_of(&stat, &adoption->identity);
    const bool is_it =
        S_ISREG(stat.st_mode) && adoption->identity.size_bytes == adoption->metadata.length_bytes;
    return is_it ? 0 : -ESTALE;
}

static int check_unchanged(const struct adoption *adoption)
{
    struct stat stat;
    if (fstat(adoption->fd, &stat) < 0) {
        return err_from_errno(errno);
    }
    struct file_identity identity;
    file_identity_of(&stat, &identity);
    return file_identity_equal(&identity, &adoption->identity) ? 0 : -ESTALE;
}

/* ---- naming -----------------------------------------------------------------------------------
 */

/* A block as it was found in the file. */
struct found {
    const struct block_ref *ref;
    uint64_t offset_bytes;
    uint32_t *crcs;
};

struct name_job {
    struct store_job job;
    struct adoption *adoption;
    const struct found *found;
    size_t found_count;
    uint64_t container; /* of the last apply */
};

/* The row of the path, and the file outside that it is about. */
static int register_file(struct name_job *self, struct kv_txn *txn)
{
    const struct adoption *adoption = self->adoption;
    struct followed row = {0};
    struct external external;
    int err = followed_get(txn, adoption->path, &row);
    if (!err && !id_equal(&row.file, adoption->file)) {
        return -ESTALE; /* somebody else has adopted it meanwhile */
    }
    if (!err && row.container != 0) {
        err = externals_get(txn, row.container, &external);
        if (!err) {
            self->container = row.container;
            return external.withdrawn ? -ESTALE : 0;
        }
        /* Its last place was dropped. */
    }
    if (err && err != -ENOENT) {
        return err;
    }
    err = externals_add(txn, &adoption->identity, adoption->path, true, &self->container);
    row.file = *adoption->file;
    row.container = self->container;
    return err ? err : followed_put(txn, adoption->path, &row);
}

static int name_block(const struct adoption *adoption, uint64_t container, struct kv_txn *txn,
                      const struct found *found)
{
    const struct id *id = &found->ref->id;
    struct block_record record;
    int err = index_block(txn, id, &record);
    if (err == -ENOENT) {
        record = (struct block_record){.size_bytes = found->ref->size_bytes};
        memcpy(record.crcs, found->crcs, sizeof(uint32_t) * block_spans(record.size_bytes));
        err = 0;
    }
    for (uint8_t i = 0; !err && i < record.locations_count; i++) {
        if (record.locations[i].container == container) {
            return 0;
        }
    }
    /* With so many places it needs no more; none that others rely on is taken from it. */
    if (err || record.locations_count == BLOCK_LOCATIONS_MAX) {
        return err;
    }
    const struct location location = {container, found->offset_bytes};
    err = index_add_location(adoption->store, txn, id, &record, &location, SEGMENT_LARGE);
    return err ? err : index_put_block(adoption->store, txn, id, &record);
}

static int name_apply(struct store_job *job, struct kv_txn *txn)
{
    struct name_job *self = CONTAINER_OF(job, struct name_job, job);
    int err = register_file(self, txn);
    for (size_t i = 0; !err && i < self->found_count; i++) {
        err = name_block(self->adoption, self->container, txn, &self->found[i]);
    }
    return err;
}

static int name_batch(struct adoption *adoption, const struct found *found, size_t found_count)
{
    struct name_job self = {
        .job = {.apply = name_apply},
        .adoption = adoption,
        .found = found,
        .found_count = found_count,
    };
    const int err = store_submit_wait(adoption->store, &self.job);
    if (!err) {
        adoption->container = self.container;
    }
    return err;
}

static int read_block(const struct adoption *adoption, uint8_t *data, const struct found *found)
{
    const uint32_t size = found->ref->size_bytes;
    const int err = file_read_all_at(adoption->fd, data, size, found->offset_bytes);
    if (err) {
        return err == -ENOENT ? -ESTALE : err;
    }
    struct id id;
    sha256_id(BYTES(data, size), &id);
    if (!id_equal(&id, &found->ref->id)) {
        return -ESTALE;
    }
    block_crcs(BYTES(data, size), found->crcs);
    return 0;
}

/* Reads, compares and names `count` blocks from `first` on, the first of which is at *offset. */
static int take_batch(struct adoption *adoption, size_t first, size_t count, uint64_t *offset)
{
    CLEANUP_FREE struct found *found = mem_alloc_array(count, sizeof *found);
    CLEANUP_FREE uint8_t *data = mem_alloc_aligned(64, CHUNK_BLOCK_BYTES_MAX);
    size_t spans = 0;
    for (size_t i = 0; i < count; i++) {
        spans += block_spans(adoption->metadata.blocks[first + i].size_bytes);
    }
    CLEANUP_FREE uint32_t *crcs = mem_alloc_array(spans, sizeof *crcs);
    uint32_t *at = crcs;
    for (size_t i = 0; i < count; i++) {
        found[i] = (struct found){&adoption->metadata.blocks[first + i], *offset, at};
        const int err = read_block(adoption, data, &found[i]);
        if (err) {
            return err;
        }
        at += block_spans(found[i].ref->size_bytes);
        *offset += found[i].ref->size_bytes;
    }
    return name_batch(adoption, found, count);
}

static int name_all(struct adoption *adoption)
{
    const size_t blocks_count = adoption->metadata.blocks_count;
    uint64_t offset = 0;
    int err = 0;
    for (size_t at = 0; !err && at < blocks_count; at += ADOPT_BATCH) {
        const size_t left = blocks_count - at;
        err = take_batch(adoption, at, left < ADOPT_BATCH ? left : ADOPT_BATCH, &offset);
    }
    return err ? err : check_unchanged(adoption);
}

/* ---- holding ----------------------------------------------------------------------------------
 */

struct hold_job {
    struct store_job job;
    const struct adoption *adoption;
};

static int hold_apply(struct store_job *job, struct kv_txn *txn)
{
    const struct adoption *adoption = CONTAINER_OF(job, struct hold_job, job)->adoption;
    struct followed row = {0};
    struct external external;
    int err = followed_get(txn, adoption->path, &row);
    if (err == -ENOENT && adoption->container == 0) {
        row.file = *adoption->file;
        err = 0;
    }
    if (err || row.container != adoption->container || !id_equal(&row.file, adoption->file)) {
        return !err || err == -ENOENT ? -ESTALE : err; /* somebody else was at it meanwhile */
    }
    if (row.container != 0) {
        err = externals_get(txn, row.container, &external);
        if (err || external.withdrawn) {
            return !err || err == -ENOENT ? -ESTALE : err;
        }
        err = externals_renew(txn, row.container, &adoption->identity);
    }
    if (!err && !row.is_held) {
        row.is_held = true;
        err = files_hold(adoption->store, txn, adoption->file, STORE_FOLLOW);
    }
    return err ? err : followed_put(txn, adoption->path, &row);
}

static int hold(const struct adoption *adoption)
{
    struct hold_job self = {.job = {.apply = hold_apply}, .adoption = adoption};
    const int err = store_submit_wait(adoption->store, &self.job);
    return err == -EAGAIN ? -ENOENT : err;
}

/* ---- giving up --------------------------------------------------------------------------------
 */

struct give_up_job {
    struct store_job job;
    const struct adoption *adoption;
    const struct block_ref *blocks;
    size_t blocks_count;
    bool *is_marked;              /* each of them */
    struct store_adopted adopted; /* of the last apply */
};

static int give_up_block(struct give_up_job *self, struct kv_txn *txn, size_t index)
{
    const struct adoption *adoption = self->adoption;
    const struct id *id = &self->blocks[index].id;
    struct store *store = adoption->store;
    struct block_record record;
    int err = index_block(txn, id, &record);
    if (err) {
        return err == -ENOENT ? 0 : err;
    }
    if (!find_place(adoption, &record)) { /* others have all its places, and may go */
        self->adopted.busy_bytes += record.size_bytes;
        return 0;
    }
    self->adopted.file_bytes += record.size_bytes;
    if (!block_owned_location(&record)) {
        return 0;
    }
    if (record.holders[STORE_ORIGIN] > 0 || record.holders[STORE_COPY] > 0 || record.is_promised) {
        self->adopted.kept_bytes += record.size_bytes;
        return 0;
    }
    if (!pins_begin_removal(store->pins, id, clock_monotonic_ms(store->clock))) {
        self->adopted.busy_bytes += record.size_bytes;
        return 0;
    }
    self->is_marked[index] = true;
    for (uint8_t i = record.locations_count; !err && i-- > 0;) {
        if (!location_is_external(&record.locations[i])) {
            err = index_remove_location(store, txn, &record, i);
            self->adopted.given_up_bytes += record.size_bytes;
        }
    }
    return err ? err : index_put_block(store, txn, id, &record);
}

static int give_up_apply(struct store_job *job, struct kv_txn *txn)
{
    struct give_up_job *self = CONTAINER_OF(job, struct give_up_job, job);
    self->adopted = (struct store_adopted){0};
    struct external external;
    const int gone = externals_get(txn, self->adoption->container, &external);
    if (gone || external.withdrawn) {
        return !gone || gone == -ENOENT ? -ESTALE : gone;
    }
    int err = 0;
    for (size_t i = 0; !err && i < self->blocks_count; i++) {
        err = give_up_block(self, txn, i);
    }
    return err;
}

static int give_up_batch(const struct adoption *adoption, size_t first, size_t count,
                         struct store_adopted *adopted)
{
    CLEANUP_FREE bool *is_marked = mem_alloc_array(count, sizeof *is_marked);
    struct give_up_job self = {
        .job = {.apply = give_up_apply},
        .adoption = adoption,
        .blocks = adoption->metadata.blocks + first,
        .blocks_count = count,
        .is_marked = is_marked,
    };
    const int err = store_submit_wait(adoption->store, &self.job);
    for (size_t i = 0; i < count; i++) {
        if (is_marked[i]) {
            pins_end_removal(adoption->store->pins, &self.blocks[i].id);
        }
    }
    if (!err) {
        adopted->file_bytes += self.adopted.file_bytes;
        adopted->given_up_bytes += self.adopted.given_up_bytes;
        adopted->kept_bytes += self.adopted.kept_bytes;
        adopted->busy_bytes += self.adopted.busy_bytes;
    }
    return err;
}

static int give_up_all(const struct adoption *adoption, struct store_adopted *adopted)
{
    int err = 0;
    for (size_t at = 0; !err && at < adoption->metadata.blocks_count; at += ADOPT_BATCH) {
        const size_t left = adoption->metadata.blocks_count - at;
        err = give_up_batch(adoption, at, left < ADOPT_BATCH ? left : ADOPT_BATCH, adopted);
    }
    return err;
}

/* ---- the whole --------------------------------------------------------------------------------
 */

/* What is known of the path. */
static int look_up(struct store *store, const char *path, struct followed *ret_row,
                   struct external *ret_external, bool *ret_has_external)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    int err = kv_read(store->kv, &txn);
    if (!err) {
        err = followed_get(txn, path, ret_row);
    }
    if (err) {
        return err;
    }
    *ret_has_external = false;
    if (ret_row->container != 0) {
        err = externals_get(txn, ret_row->container, ret_external);
        *ret_has_external = !err;
    }
    return err == -ENOENT ? 0 : err;
}

/* Every block has a place in the file. */
static int is_complete(const struct adoption *adoption, bool *ret_is)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    int err = kv_read(adoption->store->kv, &txn);
    *ret_is = !err;
    for (size_t i = 0; !err && *ret_is && i < adoption->metadata.blocks_count; i++) {
        struct block_record record;
        err = index_block(txn, &adoption->metadata.blocks[i].id, &record);
        *ret_is = !err &&
                  (find_place(adoption, &record) || record.locations_count == BLOCK_LOCATIONS_MAX);
    }
    return err == -ENOENT ? 0 : err;
}

/* Ends what the path was adopted for, unless that is the file as it stands now, or with another
 * ctime. *ret_is_done: it is, and nothing has to be compared. */
static int settle_former(struct adoption *adoption, bool *ret_is_done)
{
    struct followed row;
    struct external external;
    bool has_external = false;
    *ret_is_done = false;
    int err = look_up(adoption->store, adoption->path, &row, &external, &has_external);
    if (err) {
        return err == -ENOENT ? 0 : err;
    }
    const bool is_small = adoption->metadata.length_bytes < STORE_ADOPT_BYTES_MIN;
    const bool is_same =
        id_equal(&row.file, adoption->file) &&
        (is_small || (has_external && !external.withdrawn &&
                      (file_identity_equal(&external.identity, &adoption->identity) ||
                       file_identity_is_touched(&external.identity, &adoption->identity))));
    if (!is_same) {
        return store_adopt_end(adoption->store, &row.file, adoption->path);
    }
    adoption->container = row.container;
    if (is_small || !row.is_held || !file_identity_equal(&external.identity, &adoption->identity)) {
        return 0;
    }
    return is_complete(adoption, ret_is_done);
}

static int adopt(struct adoption *adoption, struct store_adopted *adopted)
{
    bool is_done = false;
    int err = settle_former(adoption, &is_done);
    if (err) {
        return err;
    }
    if (adoption->metadata.length_bytes < STORE_ADOPT_BYTES_MIN) {
        return hold(adoption);
    }
    if (!is_done) {
        err = name_all(adoption);
        if (!err) {
            err = hold(adoption);
        }
    }
    return err ? err : give_up_all(adoption, adopted);
}

int store_adopt(struct store *store, const struct id *file, const char *path,
                struct store_adopted *ret_adopted)
{
    if (!store->writer) {
        return -EROFS;
    }
    CLEANUP_ADOPTION struct adoption adoption = {
        .store = store,
        .file = file,
        .path = path,
        .fd = -1,
        .metadata = FILE_METADATA_INIT,
    };
    int err = store_file_metadata(store, file, &adoption.metadata);
    if (!err) {
        err = open_file(&adoption);
    }
    struct store_adopted adopted = {0};
    if (!err) {
        err = adopt(&adoption, &adopted);
    }
    if (err == -ESTALE || err == -EACCES) {
        /* What it was adopted for before it is not any more, either. */
        const int failed = store_adopt_end(store, file, path);
        err = failed ? failed : err;
    }
    if (!err) {
        *ret_adopted = adopted;
    }
    return err;
}

struct end_job {
    struct store_job job;
    struct store *store;
    const struct id *file;
    const char *path;
    uint64_t container; /* of the last apply */
};

static int end_apply(struct store_job *job, struct kv_txn *txn)
{
    struct end_job *self = CONTAINER_OF(job, struct end_job, job);
    struct followed row;
    self->container = 0;
    int err = followed_get(txn, self->path, &row);
    if (err || !id_equal(&row.file, self->file)) {
        return err == -ENOENT ? 0 : err;
    }
    struct external external;
    err = row.container ? externals_end(txn, row.container) : 0;
    if (!err && row.container) {
        err = externals_get(txn, row.container, &external);
    }
    if (err && err != -ENOENT) {
        return err;
    }
    if (err || !row.container) {
        return followed_forget(self->store, txn, self->path, row.container);
    }
    self->container = row.container; /* its places go first */
    return followed_release(self->store, txn, self->path, row.container);
}

int store_adopt_end(struct store *store, const struct id *file, const char *path)
{
    if (!store->writer) {
        return -EROFS;
    }
    struct end_job self = {
        .job = {.apply = end_apply},
        .store = store,
        .file = file,
        .path = path,
    };
    const int err = store_submit_wait(store, &self.job);
    return err || self.container == 0 ? err : externals_withdraw(store, self.container);
}
