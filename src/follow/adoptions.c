/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A row of the queue has in its key how often it was tried: those that were never tried come first.
 * Those that failed so often wait together: a *turn* of them begins when the pause of their kind is
 * over, and goes up to the last number that was given out when the pause began. So no time is kept
 * for each, and nothing but the number of attempts over a restart.
 */

#include "follow/adoptions_priv.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/backoff.h"
#include "base/buf.h"
#include "base/codec.h"
#include "base/mem.h"
#include "base/random.h"
#include "follow/tables_priv.h"
#include "hash/sha256.h"

#define KEY_BYTES (1u + 8u)
#define NAME_BYTES (2u * ID_BYTES)
/* flags, id, size; then the path */
#define VALUE_BYTES (1u + ID_BYTES + 8u)
#define IS_RELEASE 1u
#define IS_LEARNT 2u
#define PAUSE_FIRST_MS 1000u
#define PAUSE_LIMIT_MS ((uint64_t)300 * 1000)
/* Places that are looked at in one read transaction, files or not. */
#define LOOK_MAX 4096u
/* Rows that are dropped in one transaction: the engine waits for its end. */
#define DROP_MAX 4096u

#define ABOUT_ADOPTER "adopter"
#define ABOUT_WAY "way" /* the key of the place before the next; one byte: the first is next */

struct turn {
    uint64_t until;
    uint64_t due_ms; /* UINT64_MAX: none has failed so often */
};

struct adoptions {
    struct kv *kv;
    _Atomic bool are_made;
    _Atomic uint64_t number_last;
    struct turn turns[ADOPTION_ATTEMPTS_MAX]; /* by attempts */
};

/* ---- rows -------------------------------------------------------------------------------------
 */

struct key {
    uint8_t bytes[KEY_BYTES];
};

static struct key key_of(unsigned attempts, uint64_t number)
{
    struct key key;
    key.bytes[0] = (uint8_t)attempts;
    codec_put_be64(key.bytes + 1, number);
    return key;
}

static struct bytes key_bytes(const struct key *key)
{
    return BYTES(key->bytes, sizeof key->bytes);
}

struct name {
    uint8_t bytes[NAME_BYTES];
};

static struct name name_of(const struct adoption *adoption)
{
    struct id path;
    struct name name;
    sha256_id(bytes_of_string(adoption->path), &path);
    memcpy(name.bytes, path.bytes, ID_BYTES);
    memcpy(name.bytes + ID_BYTES, adoption->id.bytes, ID_BYTES);
    return name;
}

static struct bytes name_bytes(const struct name *name)
{
    return BYTES(name->bytes, sizeof name->bytes);
}

static int decode(struct bytes key, struct bytes value, struct adoption *ret_adoption)
{
    if (key.size != KEY_BYTES || value.size <= VALUE_BYTES) {
        return -EIO;
    }
    *ret_adoption = (struct adoption){
        .number = codec_get_be64(key.data + 1),
        .attempts = key.data[0],
        .is_release = value.data[0] & IS_RELEASE,
        .is_learnt = value.data[0] & IS_LEARNT,
        .size_bytes = codec_get_le64(value.data + 1 + ID_BYTES),
        .path = mem_format("%.*s", (int)(value.size - VALUE_BYTES),
                           (const char *)value.data + VALUE_BYTES),
    };
    memcpy(ret_adoption->id.bytes, value.data + 1, ID_BYTES);
    return 0;
}

static int not_there_is_good(int err)
{
    return err == -ENOENT ? 0 : err;
}

/* A new row, for `attempts`. */
static int put(struct adoptions *adoptions, struct kv_txn *txn, const struct adoption *adoption,
               unsigned attempts)
{
    const struct name name = name_of(adoption);
    const struct key key = key_of(attempts, ++adoptions->number_last);
    CLEANUP_BUF struct buf value = BUF_INIT;
    uint8_t *at = buf_extend(&value, VALUE_BYTES);
    at[0] =
        (uint8_t)((adoption->is_release ? IS_RELEASE : 0) | (adoption->is_learnt ? IS_LEARNT : 0));
    memcpy(at + 1, adoption->id.bytes, ID_BYTES);
    codec_put_le64(at + 1 + ID_BYTES, adoption->size_bytes);
    buf_add_string(&value, adoption->path);
    const int err = kv_put(txn, TABLE_ADOPTIONS, key_bytes(&key), buf_bytes(&value));
    return err ? err : kv_put(txn, TABLE_ADOPTED, name_bytes(&name), key_bytes(&key));
}

/* The row that there is about this content of this path, if any, goes. */
static int drop_former(struct kv_txn *txn, const struct adoption *adoption)
{
    const struct name name = name_of(adoption);
    struct bytes value;
    struct key key;
    int err = kv_get(txn, TABLE_ADOPTED, name_bytes(&name), &value);
    if (err) {
        return not_there_is_good(err);
    }
    if (value.size != KEY_BYTES) {
        return -EIO;
    }
    memcpy(key.bytes, value.data, KEY_BYTES);
    return not_there_is_good(kv_delete(txn, TABLE_ADOPTIONS, key_bytes(&key)));
}

int adoptions_add(struct adoptions *adoptions, struct kv_txn *txn, const struct adoption *adoption)
{
    const int err = drop_former(txn, adoption);
    return err ? err : put(adoptions, txn, adoption, 0);
}

void adoption_batch_done(struct adoption_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        free(batch->all[i].path);
    }
}

/* ---- opening ----------------------------------------------------------------------------------
 */

static int find_last(struct adoptions *adoptions, struct kv_txn *txn)
{
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    struct bytes found;
    struct bytes value;
    int err = kv_cursor_open(txn, TABLE_ADOPTIONS, &cursor);
    for (unsigned attempts = 0; !err && attempts < ADOPTION_ATTEMPTS_MAX; attempts++) {
        const struct key behind = key_of(attempts + 1, 0);
        err = kv_seek_before(cursor, key_bytes(&behind), &found, &value);
        if (!err && found.size == KEY_BYTES) {
            const uint64_t number = codec_get_be64(found.data + 1);
            adoptions->number_last =
                number > adoptions->number_last ? number : adoptions->number_last;
        }
        err = not_there_is_good(err);
    }
    return err;
}

int adoptions_open(struct kv *kv, struct adoptions **ret_adoptions)
{
    struct adoptions *adoptions = mem_alloc(sizeof *adoptions);
    adoptions->kv = kv;
    for (unsigned i = 0; i < ADOPTION_ATTEMPTS_MAX; i++) {
        adoptions->turns[i].due_ms = UINT64_MAX;
    }
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    struct bytes value;
    int err = kv_read(kv, &txn);
    if (!err) {
        err = kv_get(txn, TABLE_ABOUT, bytes_of_string(ABOUT_ADOPTER), &value);
        adoptions->are_made = !err;
        err = not_there_is_good(err);
    }
    if (!err) {
        err = find_last(adoptions, txn);
    }
    if (err) {
        free(adoptions);
        return err;
    }
    *ret_adoptions = adoptions;
    return 0;
}

void adoptions_close(struct adoptions *adoptions)
{
    free(adoptions);
}

bool adoptions_are_made(const struct adoptions *adoptions)
{
    return adoptions->are_made;
}

/* ---- who adopts -------------------------------------------------------------------------------
 */

char *adoptions_adopter(const struct adoptions *adoptions)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    struct bytes value;
    if (kv_read(adoptions->kv, &txn) ||
        kv_get(txn, TABLE_ABOUT, bytes_of_string(ABOUT_ADOPTER), &value)) {
        return NULL;
    }
    return mem_format("%.*s", (int)value.size, (const char *)value.data);
}

/* Commits, or aborts after an error. */
static int end_write(struct kv_txn *txn, int err)
{
    if (err) {
        kv_abort(txn);
        return err;
    }
    return kv_commit(txn);
}

int adoptions_rename(struct adoptions *adoptions, const char *adopter)
{
    struct kv_txn *txn = NULL;
    int err = kv_write(adoptions->kv, &txn);
    if (err) {
        return err;
    }
    err = kv_put(txn, TABLE_ABOUT, bytes_of_string(ABOUT_ADOPTER), bytes_of_string(adopter));
    return end_write(txn, err);
}

int adoptions_begin(struct adoptions *adoptions, const char *adopter)
{
    static const uint8_t first = 0;
    struct kv_txn *txn = NULL;
    /* Before the transaction: what the engine put without a word is durable when that begins, and
     * so found on the way. */
    adoptions->are_made = true;
    int err = kv_write(adoptions->kv, &txn);
    if (err) {
        return err;
    }
    err = kv_put(txn, TABLE_ABOUT, bytes_of_string(ABOUT_ADOPTER), bytes_of_string(adopter));
    if (!err) {
        err = kv_put(txn, TABLE_ABOUT, bytes_of_string(ABOUT_WAY), BYTES(&first, 1));
    }
    return end_write(txn, err);
}

/* The first rows of a table go. *ret_more: there may be others. */
static int drop_rows(struct kv_txn *txn, kv_table table, bool *ret_more)
{
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    struct bytes found;
    struct bytes value;
    uint8_t key[KV_KEY_BYTES_MAX];
    int err = kv_cursor_open(txn, table, &cursor);
    for (unsigned i = 0; !err && i < DROP_MAX; i++) {
        err = kv_seek(cursor, BYTES(NULL, 0), &found, &value);
        if (!err) {
            const size_t size = found.size;
            memcpy(key, found.data, size);
            err = kv_delete(txn, table, BYTES(key, size));
        }
    }
    *ret_more = !err;
    return not_there_is_good(err);
}

int adoptions_end(struct adoptions *adoptions)
{
    bool has_more = true;
    int err = 0;
    adoptions->are_made = false;
    while (!err && has_more) {
        struct kv_txn *txn = NULL;
        bool has_names = false;
        err = kv_write(adoptions->kv, &txn);
        if (err) {
            return err;
        }
        err = not_there_is_good(kv_delete(txn, TABLE_ABOUT, bytes_of_string(ABOUT_ADOPTER)));
        if (!err) {
            err = not_there_is_good(kv_delete(txn, TABLE_ABOUT, bytes_of_string(ABOUT_WAY)));
        }
        if (!err) {
            err = drop_rows(txn, TABLE_ADOPTIONS, &has_more);
        }
        if (!err) {
            err = drop_rows(txn, TABLE_ADOPTED, &has_names);
        }
        has_more |= has_names;
        err = end_write(txn, err);
    }
    return err;
}

/* ---- what is to be done -----------------------------------------------------------------------
 */

static uint64_t pause_ms(unsigned attempts)
{
    struct backoff backoff = {
        .first_ms = PAUSE_FIRST_MS, .limit_ms = PAUSE_LIMIT_MS, .failures = attempts - 1};
    uint64_t number = 0;
    random_system(&number, sizeof number);
    return backoff_next_ms(&backoff, number);
}

/* True if one of that number may be tried now; of those that were never tried always. */
static bool is_due(const struct adoptions *adoptions, struct turn *turn, unsigned attempts,
                   uint64_t number, uint64_t now_ms)
{
    if (attempts == 0) {
        return true;
    }
    if (turn->due_ms == UINT64_MAX || (now_ms >= turn->due_ms && number > turn->until)) {
        turn->until = adoptions->number_last;
        turn->due_ms = now_ms + pause_ms(attempts);
    }
    return now_ms >= turn->due_ms && number <= turn->until;
}

/* Those that were tried so often. */
static int take_tried(struct adoptions *adoptions, struct kv_cursor *cursor, unsigned attempts,
                      uint64_t now_ms, struct adoption_batch *batch)
{
    struct turn *turn = &adoptions->turns[attempts];
    const struct key first = key_of(attempts, 0);
    struct bytes key;
    struct bytes value;
    int err = kv_seek(cursor, key_bytes(&first), &key, &value);
    bool has_some = false;
    while (!err && batch->count < ADOPTION_BATCH_MAX && key.size == KEY_BYTES &&
           key.data[0] == attempts) {
        has_some = true;
        if (!is_due(adoptions, turn, attempts, codec_get_be64(key.data + 1), now_ms)) {
            break;
        }
        err = decode(key, value, &batch->all[batch->count]);
        batch->count += !err;
        if (!err) {
            err = kv_next(cursor, &key, &value);
        }
    }
    if (attempts > 0 && !has_some && batch->count < ADOPTION_BATCH_MAX) {
        turn->due_ms = UINT64_MAX;
    }
    return not_there_is_good(err);
}

static void add_place(struct adoption_batch *batch, const struct place *place)
{
    if (place->kind == PLACE_FILE && !place->is_intended) {
        batch->all[batch->count++] = (struct adoption){
            .id = place->id,
            .size_bytes = place->mark.size_bytes,
            .path = mem_copy_string(place->path),
        };
    }
}

/* Goes on through all places, if there is a way to go. */
static int take_places(struct kv_txn *txn, struct adoption_batch *batch)
{
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    struct bytes from;
    struct bytes key;
    struct bytes value;
    int err = kv_get(txn, TABLE_ABOUT, bytes_of_string(ABOUT_WAY), &from);
    if (err) {
        return not_there_is_good(err);
    }
    batch->is_way = true;
    const bool is_first = from.size != ID_BYTES;
    err = kv_cursor_open(txn, TABLE_PLACES, &cursor);
    if (!err) {
        err = kv_seek(cursor, is_first ? BYTES(NULL, 0) : from, &key, &value);
    }
    if (!err && !is_first && bytes_equal(key, from)) {
        err = kv_next(cursor, &key, &value);
    }
    for (unsigned i = 0; !err && i < LOOK_MAX && batch->count < ADOPTION_BATCH_MAX; i++) {
        CLEANUP_FREE struct place *place = NULL;
        err = key.size == ID_BYTES ? tables_decode_place(value, &place) : -EIO;
        if (!err) {
            memcpy(batch->way_to.bytes, key.data, ID_BYTES);
            add_place(batch, place);
            err = kv_next(cursor, &key, &value);
        }
    }
    batch->is_way_over = err == -ENOENT;
    return not_there_is_good(err);
}

int adoptions_take(struct adoptions *adoptions, uint64_t now_ms, struct adoption_batch *ret_batch)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    int err = kv_read(adoptions->kv, &txn);
    if (!err) {
        err = kv_cursor_open(txn, TABLE_ADOPTIONS, &cursor);
    }
    for (unsigned attempts = 0; !err && attempts < ADOPTION_ATTEMPTS_MAX; attempts++) {
        err = take_tried(adoptions, cursor, attempts, now_ms, ret_batch);
    }
    if (!err && ret_batch->count == 0) {
        err = take_places(txn, ret_batch);
    }
    return err;
}

uint64_t adoptions_due_ms(const struct adoptions *adoptions)
{
    uint64_t due_ms = UINT64_MAX;
    for (unsigned i = 1; i < ADOPTION_ATTEMPTS_MAX; i++) {
        const uint64_t its_ms = adoptions->turns[i].due_ms;
        due_ms = its_ms < due_ms ? its_ms : due_ms;
    }
    return due_ms;
}

/* ---- what was tried ---------------------------------------------------------------------------
 */

static int settle_queued(struct adoptions *adoptions, struct kv_txn *txn,
                         const struct adoption *adoption)
{
    const struct key key = key_of(adoption->attempts, adoption->number);
    const struct name name = name_of(adoption);
    int err = kv_delete(txn, TABLE_ADOPTIONS, key_bytes(&key));
    if (err) {
        return not_there_is_good(err); /* there is a newer word */
    }
    const unsigned attempts = adoption->attempts + 1;
    return adoption->is_again && attempts < ADOPTION_ATTEMPTS_MAX
               ? put(adoptions, txn, adoption, attempts)
               : kv_delete(txn, TABLE_ADOPTED, name_bytes(&name));
}

/* Into the queue, unless there is a newer word. */
static int settle_found(struct adoptions *adoptions, struct kv_txn *txn,
                        const struct adoption *adoption)
{
    const struct name name = name_of(adoption);
    struct bytes value;
    if (!adoption->is_again) {
        return 0;
    }
    const int err = kv_get(txn, TABLE_ADOPTED, name_bytes(&name), &value);
    return err == -ENOENT ? put(adoptions, txn, adoption, 1) : err;
}

static int settle_way(struct kv_txn *txn, const struct adoption_batch *batch, size_t count)
{
    const bool is_all = count == batch->count;
    if (is_all && batch->is_way_over) {
        return not_there_is_good(kv_delete(txn, TABLE_ABOUT, bytes_of_string(ABOUT_WAY)));
    }
    struct id to = batch->way_to;
    if (!is_all && count == 0) {
        return 0;
    }
    if (!is_all) {
        sha256_id(bytes_of_string(batch->all[count - 1].path), &to);
    }
    return kv_put(txn, TABLE_ABOUT, bytes_of_string(ABOUT_WAY), id_bytes(&to));
}

int adoptions_settle(struct adoptions *adoptions, const struct adoption_batch *batch, size_t count)
{
    struct kv_txn *txn = NULL;
    int err = kv_write(adoptions->kv, &txn);
    if (err) {
        return err;
    }
    for (size_t i = 0; !err && i < count; i++) {
        err = batch->is_way ? settle_found(adoptions, txn, &batch->all[i])
                            : settle_queued(adoptions, txn, &batch->all[i]);
    }
    if (!err && batch->is_way) {
        err = settle_way(txn, batch, count);
    }
    return end_write(txn, err);
}
