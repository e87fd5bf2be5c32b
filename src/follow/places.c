/* SPDX-License-Identifier: Apache-2.0 */
#include "follow/places_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/err.h"
#include "base/file.h"
#include "follow/tables_priv.h"
#include "hash/sha256.h"

/* Of the tables below. */
#define FORMAT "1"

static const char *const tables[TABLES_COUNT] = {"places", "roots",     "hooks",
                                                 "about",  "adoptions", "adopted"};

/* kind, flags, version, id, mode, mtime (s, ns), inode, size, mtime, ctime; then the path */
#define PLACE_BYTES (1u + 1u + 8u + ID_BYTES + 4u + 12u + 8u + 8u + 12u + 12u)
#define PLACE_IMPLIED 1u
#define PLACE_INTENDED 2u
#define PLACE_LATE 4u
/* version, is_switching, count; the old ones; then the path */
#define ROOT_BYTES (8u + 1u + 4u)
#define ROOT_OLD_MAX 4096u

struct places {
    int lock_fd;
    struct kv *kv;
    struct kv_txn *txn; /* the batch; NULL: nothing in it */
    int err;            /* of the batch */
    struct adoptions *adoptions;
    struct place *all;
    struct root *roots;
    uint64_t number_last;
    _Atomic uint64_t hook_last;
    _Atomic uint64_t hooks_count;
};

struct mark mark_of(const struct stat *info)
{
    return (struct mark){
        .inode = info->st_ino,
        .size_bytes = (uint64_t)info->st_size,
        .mtime = info->st_mtim,
        .ctime = info->st_ctim,
    };
}

static bool is_same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

bool mark_is_same_content(const struct mark *a, const struct mark *b)
{
    return a->inode == b->inode && a->size_bytes == b->size_bytes &&
           is_same_time(&a->mtime, &b->mtime);
}

bool mark_equal(const struct mark *a, const struct mark *b)
{
    return mark_is_same_content(a, b) && is_same_time(&a->ctime, &b->ctime);
}

/* ---- as bytes ---------------------------------------------------------------------------------
 */

static uint8_t *put_time(uint8_t *at, const struct timespec *time)
{
    codec_put_le64(at, (uint64_t)time->tv_sec);
    codec_put_le32(at + 8, (uint32_t)time->tv_nsec);
    return at + 12;
}

static const uint8_t *get_time(const uint8_t *at, struct timespec *ret_time)
{
    ret_time->tv_sec = (time_t)codec_get_le64(at);
    ret_time->tv_nsec = (long)codec_get_le32(at + 8);
    return at + 12;
}

static void encode_place(const struct place *place, struct buf *buf)
{
    uint8_t *at = buf_extend(buf, PLACE_BYTES);
    at[0] = (uint8_t)place->kind;
    at[1] =
        (uint8_t)((place->is_implied ? PLACE_IMPLIED : 0) |
                  (place->is_intended ? PLACE_INTENDED : 0) | (place->is_late ? PLACE_LATE : 0));
    codec_put_le64(at + 2, place->version);
    memcpy(at + 10, place->id.bytes, ID_BYTES);
    at += 10 + ID_BYTES;
    codec_put_le32(at, (uint32_t)place->mode);
    at = put_time(at + 4, &place->mtime);
    codec_put_le64(at, place->mark.inode);
    codec_put_le64(at + 8, place->mark.size_bytes);
    at = put_time(at + 16, &place->mark.mtime);
    put_time(at, &place->mark.ctime);
    buf_add_string(buf, place->path);
}

static struct place *new_place(const struct place *values, struct bytes path)
{
    struct place *place = mem_alloc(sizeof *place + path.size + 1);
    if (values) {
        *place = *values;
        place->hh = (UT_hash_handle){0};
    }
    memcpy(place->path, path.data, path.size);
    place->path[path.size] = 0;
    return place;
}

int tables_decode_place(struct bytes value, struct place **ret_place)
{
    if (value.size <= PLACE_BYTES) {
        return -EIO;
    }
    const uint8_t *at = value.data;
    if (at[0] < PLACE_FILE || at[0] > PLACE_DIRECTORY) {
        return -EIO;
    }
    struct place *place =
        new_place(NULL, BYTES(value.data + PLACE_BYTES, value.size - PLACE_BYTES));
    place->kind = (enum place_kind)at[0];
    place->is_implied = at[1] & PLACE_IMPLIED;
    place->is_intended = at[1] & PLACE_INTENDED;
    place->is_late = at[1] & PLACE_LATE;
    place->version = codec_get_le64(at + 2);
    memcpy(place->id.bytes, at + 10, ID_BYTES);
    at += 10 + ID_BYTES;
    place->mode = (mode_t)codec_get_le32(at);
    at = get_time(at + 4, &place->mtime);
    place->mark.inode = codec_get_le64(at);
    place->mark.size_bytes = codec_get_le64(at + 8);
    at = get_time(at + 16, &place->mark.mtime);
    get_time(at, &place->mark.ctime);
    *ret_place = place;
    return 0;
}

static struct root *new_root(const struct root *values, struct bytes path)
{
    struct root *root = mem_alloc(sizeof *root + path.size + 1);
    root->version = values->version;
    root->is_switching = values->is_switching;
    root->old_count = values->old_count;
    root->old = mem_alloc_array(values->old_count + 1, sizeof *root->old);
    for (size_t i = 0; i < values->old_count; i++) {
        root->old[i] = values->old[i];
    }
    memcpy(root->path, path.data, path.size);
    root->path[path.size] = 0;
    return root;
}

static void free_root(struct root *root)
{
    free(root->old);
    free(root);
}

static int decode_root(struct bytes value, struct root **ret_root)
{
    if (value.size < ROOT_BYTES) {
        return -EIO;
    }
    const uint32_t count = codec_get_le32(value.data + 9);
    if (count > ROOT_OLD_MAX || value.size <= ROOT_BYTES + (size_t)count * 8) {
        return -EIO;
    }
    CLEANUP_FREE uint64_t *old = mem_alloc_array((size_t)count + 1, sizeof *old);
    for (uint32_t i = 0; i < count; i++) {
        old[i] = codec_get_le64(value.data + ROOT_BYTES + (size_t)i * 8);
    }
    const size_t skip = ROOT_BYTES + (size_t)count * 8;
    const struct root values = {
        .version = codec_get_le64(value.data),
        .is_switching = value.data[8] != 0,
        .old = old,
        .old_count = count,
    };
    *ret_root = new_root(&values, BYTES(value.data + skip, value.size - skip));
    return 0;
}

static void encode_root(const struct root *root, struct buf *buf)
{
    uint8_t *at = buf_extend(buf, ROOT_BYTES);
    codec_put_le64(at, root->version);
    at[8] = root->is_switching;
    codec_put_le32(at + 9, (uint32_t)root->old_count);
    for (size_t i = 0; i < root->old_count; i++) {
        codec_put_le64(buf_extend(buf, 8), root->old[i]);
    }
    buf_add_string(buf, root->path);
}

/* ---- opening ----------------------------------------------------------------------------------
 */

static int load_table(struct places *places, struct kv_txn *txn, kv_table table)
{
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    struct bytes key;
    struct bytes value;
    int err = kv_cursor_open(txn, table, &cursor);
    if (!err) {
        err = kv_seek(cursor, BYTES(NULL, 0), &key, &value);
    }
    while (!err) {
        struct place *place = NULL;
        struct root *root = NULL;
        if (table == TABLE_PLACES) {
            err = tables_decode_place(value, &place);
        } else if (table == TABLE_ROOTS) {
            err = decode_root(value, &root);
        } else {
            places->hook_last = key.size == 8 ? codec_get_be64(key.data) : 0;
            places->hooks_count++;
        }
        if (place) {
            HASH_ADD_KEYPTR(hh, places->all, place->path, strlen(place->path), place);
        }
        if (root) {
            HASH_ADD_KEYPTR(hh, places->roots, root->path, strlen(root->path), root);
        }
        if (!err) {
            err = kv_next(cursor, &key, &value);
        }
    }
    return err == -ENOENT ? 0 : err;
}

static int load(struct places *places)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    int err = kv_read(places->kv, &txn);
    if (!err) {
        err = load_table(places, txn, TABLE_PLACES);
    }
    if (!err) {
        err = load_table(places, txn, TABLE_ROOTS);
    }
    return err ? err : load_table(places, txn, TABLE_HOOKS);
}

static int check_format(struct places *places)
{
    CLEANUP_FREE char *format = places_get(places, "format");
    if (!format) {
        places_set(places, "format", FORMAT);
        return places_commit(places);
    }
    return strcmp(format, FORMAT) == 0 ? 0 : -EPROTONOSUPPORT;
}

int places_open(int follow_fd, const char *follow_path, struct places **ret_places)
{
    struct places *places = mem_alloc(sizeof *places);
    places->lock_fd = -1;
    CLEANUP_FREE char *index = mem_format("%s/index", follow_path);
    const struct kv_options options = {
        .tables = tables, .tables_count = TABLES_COUNT, .path = index};
    int err = file_open_at(follow_fd, "lock", O_RDWR | O_CREAT, 0600, &places->lock_fd);
    if (!err) {
        err = file_lock(places->lock_fd);
    }
    if (!err && mkdirat(follow_fd, "index", 0700) < 0 && errno != EEXIST) {
        err = err_from_errno(errno);
    }
    if (!err) {
        err = kv_open(&options, &places->kv);
    }
    if (!err) {
        err = check_format(places);
    }
    if (!err) {
        err = adoptions_open(places->kv, &places->adoptions);
    }
    if (!err) {
        err = load(places);
    }
    if (!err) {
        CLEANUP_FREE char *number = places_get(places, "number");
        places->number_last = number ? strtoull(number, NULL, 10) : 0;
        *ret_places = places;
        return 0;
    }
    places_close(places);
    return err;
}

void places_abandon(struct places *places)
{
    if (places) {
        kv_abort(STEAL_PTR(places->txn));
    }
}

void places_close(struct places *places)
{
    if (!places) {
        return;
    }
    kv_abort(places->txn);
    struct place *place;
    struct place *next_place;
    HASH_ITER(hh, places->all, place, next_place)
    {
        HASH_DEL(places->all, place);
        free(place);
    }
    struct root *root;
    struct root *next_root;
    HASH_ITER(hh, places->roots, root, next_root)
    {
        HASH_DEL(places->roots, root);
        free_root(root);
    }
    adoptions_close(places->adoptions);
    kv_close(places->kv);
    if (places->lock_fd >= 0) {
        close(places->lock_fd);
    }
    free(places);
}

struct place *places_all(struct places *places)
{
    return places->all;
}

struct root *places_roots(struct places *places)
{
    return places->roots;
}

size_t places_count(const struct places *places)
{
    return HASH_COUNT(places->all);
}

struct place *places_find(struct places *places, const char *path)
{
    struct place *place = NULL;
    HASH_FIND(hh, places->all, path, strlen(path), place);
    return place;
}

static struct root *find_root(struct places *places, const char *path, size_t size)
{
    struct root *root = NULL;
    HASH_FIND(hh, places->roots, path, size, root);
    return root;
}

struct root *places_find_root(struct places *places, const char *path)
{
    return find_root(places, path, strlen(path));
}

struct root *places_root_of(struct places *places, const char *path)
{
    for (const char *end = path; places->roots && *end;) {
        end += strcspn(end, "/");
        struct root *root = find_root(places, path, (size_t)(end - path));
        if (root) {
            return root;
        }
        end += *end == '/';
    }
    return NULL;
}

/* ---- a batch ----------------------------------------------------------------------------------
 */

static bool begin(struct places *places)
{
    if (!places->err && !places->txn) {
        places->err = kv_write(places->kv, &places->txn);
    }
    return !places->err;
}

static void put(struct places *places, kv_table table, struct bytes key, struct bytes value)
{
    if (begin(places)) {
        places->err = kv_put(places->txn, table, key, value);
    }
}

static void drop(struct places *places, kv_table table, struct bytes key)
{
    if (begin(places)) {
        const int err = kv_delete(places->txn, table, key);
        places->err = err == -ENOENT ? 0 : err;
    }
}

/* A path may be longer than a key. */
static void put_at(struct places *places, kv_table table, const char *path, const struct buf *value)
{
    struct id key;
    sha256_id(bytes_of_string(path), &key);
    put(places, table, id_bytes(&key), buf_bytes(value));
}

static void drop_at(struct places *places, kv_table table, const char *path)
{
    struct id key;
    sha256_id(bytes_of_string(path), &key);
    drop(places, table, id_bytes(&key));
}

static bool may_be_adopted(const struct place *place)
{
    return place->kind == PLACE_FILE && !place->is_intended;
}

static void add_adoption(struct places *places, const struct place *place, bool is_release)
{
    if (may_be_adopted(place) && adoptions_are_made(places->adoptions) && begin(places)) {
        const struct adoption adoption = {
            .is_release = is_release,
            .id = place->id,
            .size_bytes = place->mark.size_bytes,
            .path = (char *)(uintptr_t)place->path,
        };
        places->err = adoptions_add(places->adoptions, places->txn, &adoption);
    }
}

void places_adopt(struct places *places, const struct place *place)
{
    add_adoption(places, place, false);
}

void places_release(struct places *places, const struct place *place)
{
    add_adoption(places, place, true);
}

/* What follows for the node from a place that is another one now. */
static void adopt_instead(struct places *places, const struct place *place,
                          const struct place *replaced)
{
    const bool is_same_content = replaced && may_be_adopted(replaced) && may_be_adopted(place) &&
                                 id_equal(&replaced->id, &place->id);
    if (!place->is_late &&
        !(is_same_content && !replaced->is_late && mark_equal(&replaced->mark, &place->mark))) {
        places_adopt(places, place);
    }
    if (replaced && !is_same_content) {
        places_release(places, replaced);
    }
}

void places_put(struct places *places, const struct place *values, const char *path)
{
    struct place *place = new_place(values, bytes_of_string(path));
    struct place *replaced = places_find(places, path);
    adopt_instead(places, place, replaced);
    if (replaced) {
        HASH_DEL(places->all, replaced);
    }
    HASH_ADD_KEYPTR(hh, places->all, place->path, strlen(place->path), place);
    CLEANUP_BUF struct buf value = BUF_INIT;
    encode_place(place, &value);
    put_at(places, TABLE_PLACES, path, &value);
    free(replaced);
}

void places_delete(struct places *places, struct place *place)
{
    drop_at(places, TABLE_PLACES, place->path);
    places_release(places, place);
    HASH_DEL(places->all, place);
    free(place);
}

void places_move(struct places *places, struct place *place, const char *path)
{
    places_put(places, place, path);
    places_delete(places, place);
}

void places_put_root(struct places *places, const struct root *values, const char *path)
{
    struct root *root = new_root(values, bytes_of_string(path));
    struct root *replaced = places_find_root(places, path);
    if (replaced) {
        HASH_DEL(places->roots, replaced);
    }
    HASH_ADD_KEYPTR(hh, places->roots, root->path, strlen(root->path), root);
    CLEANUP_BUF struct buf value = BUF_INIT;
    encode_root(root, &value);
    put_at(places, TABLE_ROOTS, path, &value);
    if (replaced) {
        free_root(replaced);
    }
}

void places_delete_root(struct places *places, struct root *root)
{
    drop_at(places, TABLE_ROOTS, root->path);
    HASH_DEL(places->roots, root);
    free_root(root);
}

void places_set(struct places *places, const char *key, const char *text)
{
    if (text) {
        put(places, TABLE_ABOUT, bytes_of_string(key), bytes_of_string(text));
    } else {
        drop(places, TABLE_ABOUT, bytes_of_string(key));
    }
}

char *places_get(struct places *places, const char *key)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    struct bytes value;
    if (kv_read(places->kv, &txn) || kv_get(txn, TABLE_ABOUT, bytes_of_string(key), &value)) {
        return NULL;
    }
    return mem_format("%.*s", (int)value.size, (const char *)value.data);
}

uint64_t places_next_number(struct places *places)
{
    places->number_last++;
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)places->number_last);
    places_set(places, "number", text);
    return places->number_last;
}

void places_add_hook(struct places *places, const char *json)
{
    uint8_t key[8];
    codec_put_be64(key, ++places->hook_last);
    put(places, TABLE_HOOKS, BYTES(key, sizeof key), bytes_of_string(json));
    places->hooks_count++;
}

int places_commit(struct places *places)
{
    int err = places->err;
    if (places->txn) {
        struct kv_txn *txn = STEAL_PTR(places->txn);
        if (err) {
            kv_abort(txn);
        } else {
            err = kv_commit(txn);
        }
    }
    places->err = err; /* for good: memory is not what stands on the disk */
    return err;
}

struct adoptions *places_adoptions(struct places *places)
{
    return places->adoptions;
}

/* ---- hooks ------------------------------------------------------------------------------------
 */

int places_hook_first(struct places *places, uint64_t *ret_number, char **ret_json)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    struct bytes key;
    struct bytes value;
    int err = kv_read(places->kv, &txn);
    if (!err) {
        err = kv_cursor_open(txn, TABLE_HOOKS, &cursor);
    }
    if (!err) {
        err = kv_seek(cursor, BYTES(NULL, 0), &key, &value);
    }
    if (!err && key.size != 8) {
        err = -EIO;
    }
    if (!err) {
        *ret_number = codec_get_be64(key.data);
        *ret_json = mem_format("%.*s", (int)value.size, (const char *)value.data);
    }
    return err;
}

int places_hook_done(struct places *places, uint64_t number)
{
    struct kv_txn *txn = NULL;
    uint8_t key[8];
    codec_put_be64(key, number);
    int err = kv_write(places->kv, &txn);
    if (!err) {
        err = kv_delete(txn, TABLE_HOOKS, BYTES(key, sizeof key));
        if (err) {
            kv_abort(txn);
        } else {
            err = kv_commit(txn);
        }
    }
    if (!err) {
        places->hooks_count--;
    }
    return err;
}

uint64_t places_hooks_count(const struct places *places)
{
    return places->hooks_count;
}
