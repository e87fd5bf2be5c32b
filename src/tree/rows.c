/* SPDX-License-Identifier: Apache-2.0 */
#include "tree/rows_priv.h"

#include "base/codec.h"
#include "base/err.h"
#include "base/mem.h"
#include "hash/sha256.h"
#include "wire/fields.h"

const char *const tree_table_names[TREE_TABLES] = {
    [TREE_ENTRIES] = "tree-entries",
    [TREE_DIRECTORIES] = "tree-directories",
    [TREE_META] = "tree-meta",
    [TREE_ORIGINS] = "tree-origins",
    [TREE_ORIGIN_IDS] = "tree-origin-ids",
    [TREE_OPS] = "tree-ops",
    [TREE_FEED] = "tree-feed",
    [TREE_HISTORY] = "tree-history",
    [TREE_EXPIRY] = "tree-expiry",
    [TREE_REPLACED] = "tree-replaced",
};

/* Half a page of LMDB: larger values go to pages of their own. */
#define OP_PART_BYTES ((size_t)1900)
#define OP_KEY_BYTES 16

static int forget(const struct tree *tree, struct kv_txn *txn, enum tree_table table,
                  struct bytes key)
{
    const int err = kv_delete(txn, tree_table(tree, table), key);
    return err == -ENOENT ? 0 : err;
}

static struct bytes key_u64(uint64_t number, uint8_t key[8])
{
    codec_put_be64(key, number);
    return BYTES(key, 8);
}

static struct bytes key_u32(uint32_t number, uint8_t key[4])
{
    codec_put_be32(key, number);
    return BYTES(key, 4);
}

/* State. */

#define STATE_BYTES 112

int state_get(const struct tree *tree, struct kv_txn *txn, struct tree_state *ret_state)
{
    struct bytes value;
    const int err = kv_get(txn, tree_table(tree, TREE_META), bytes_of_string("state"), &value);
    if (err) {
        return err;
    }
    struct field_reader reader = field_reader_of(value);
    ret_state->next_directory = field_get_u64(&reader);
    ret_state->lamport = field_get_u64(&reader);
    ret_state->entries_count = field_get_u64(&reader);
    ret_state->epoch = field_get_u64(&reader);
    ret_state->feed_first = field_get_u64(&reader);
    ret_state->feed_last = field_get_u64(&reader);
    ret_state->own_origin = field_get_u32(&reader);
    ret_state->next_origin = field_get_u32(&reader);
    for (int i = 0; i < 4; i++) {
        ret_state->fingerprint[i] = field_get_u64(&reader);
    }
    ret_state->vector_sum = field_get_u64(&reader);
    ret_state->ops_count = field_get_u64(&reader);
    ret_state->replaced_count = field_get_u64(&reader);
    return field_reader_ended(&reader) ? 0 : -EIO;
}

int state_put(const struct tree *tree, struct kv_txn *txn, const struct tree_state *state)
{
    uint8_t value[STATE_BYTES];
    codec_put_le64(value, state->next_directory);
    codec_put_le64(value + 8, state->lamport);
    codec_put_le64(value + 16, state->entries_count);
    codec_put_le64(value + 24, state->epoch);
    codec_put_le64(value + 32, state->feed_first);
    codec_put_le64(value + 40, state->feed_last);
    codec_put_le32(value + 48, state->own_origin);
    codec_put_le32(value + 52, state->next_origin);
    for (int i = 0; i < 4; i++) {
        codec_put_le64(value + 56 + 8 * i, state->fingerprint[i]);
    }
    codec_put_le64(value + 88, state->vector_sum);
    codec_put_le64(value + 96, state->ops_count);
    codec_put_le64(value + 104, state->replaced_count);
    return kv_put(txn, tree_table(tree, TREE_META), bytes_of_string("state"),
                  BYTES(value, sizeof value));
}

int merge_mark_get(const struct tree *tree, struct kv_txn *txn, bool *ret_is_merging)
{
    struct bytes value;
    const int err = kv_get(txn, tree_table(tree, TREE_META), bytes_of_string("merge"), &value);
    if (err && err != -ENOENT) {
        return err;
    }
    *ret_is_merging = !err;
    return 0;
}

/* Entries. */

struct bytes entry_key(uint64_t directory, struct bytes name, uint8_t key[ENTRY_KEY_BYTES_MAX])
{
    CHECK(name.size <= PATH_NAME_BYTES_MAX);
    codec_put_be64(key, directory);
    if (name.size > 0) {
        memcpy(key + 8, name.data, name.size);
    }
    return BYTES(key, 8 + name.size);
}

void entry_row_done(struct entry_row *row)
{
    if (row->heads != row->few) {
        free(row->heads);
    }
    row->heads = NULL;
    row->heads_count = 0;
}

struct head *entry_row_add(struct entry_row *row)
{
    if (!row->heads) {
        row->heads = row->few;
    }
    if (row->heads != row->few) {
        /* Heads may have been taken off since, so this may shrink it. */
        row->heads = mem_resize_array(row->heads, row->heads_count + 1, sizeof *row->heads);
    } else if (row->heads_count == ARRAY_SIZE(row->few)) {
        row->heads = mem_alloc_array(row->heads_count + 1, sizeof *row->heads);
        memcpy(row->heads, row->few, sizeof row->few);
    }
    struct head *head = &row->heads[row->heads_count++];
    *head = (struct head){0};
    return head;
}

void head_format(const struct head *head, struct buf *ret_bytes)
{
    const struct tree_version *version = &head->version;
    field_put_u32(ret_bytes, head->origin);
    field_put_u64(ret_bytes, version->dot.seq);
    field_put_u64(ret_bytes, version->lamport);
    field_put_u8(ret_bytes, (uint8_t)version->kind);
    field_put_u8(ret_bytes, head->is_held);
    field_put_u32(ret_bytes, version->mode);
    field_put_u64(ret_bytes, (uint64_t)version->mtime_ns);
    if (version->kind == TREE_FILE) {
        buf_add(ret_bytes, id_bytes(&version->file_id));
        field_put_u64(ret_bytes, version->size_bytes);
    } else if (version->kind == TREE_SYMLINK) {
        field_put_string(ret_bytes, version->target);
    }
    field_put_string(ret_bytes, version->attributes);
}

void head_read(struct field_reader *reader, struct head *ret_head)
{
    struct tree_version *version = &ret_head->version;
    ret_head->origin = field_get_u32(reader);
    version->dot.seq = field_get_u64(reader);
    version->lamport = field_get_u64(reader);
    version->kind = (enum tree_kind)field_get_u8(reader);
    ret_head->is_held = field_get_u8(reader) != 0;
    version->mode = field_get_u32(reader);
    version->mtime_ns = (int64_t)field_get_u64(reader);
    if (version->kind == TREE_FILE) {
        const struct bytes id = field_get_raw(reader, ID_BYTES);
        if (id.size == ID_BYTES) {
            memcpy(version->file_id.bytes, id.data, ID_BYTES);
        }
        version->size_bytes = field_get_u64(reader);
    } else if (version->kind == TREE_SYMLINK) {
        version->target = field_get_string(reader, TREE_TARGET_BYTES_MAX);
    } else if (version->kind != TREE_DIRECTORY) {
        field_fail(reader);
    }
    version->attributes = field_get_string(reader, UINT16_MAX);
}

int entry_decode(struct bytes value, struct entry_row *ret_row)
{
    struct field_reader reader = field_reader_of(value);
    ret_row->child = field_get_u64(&reader);
    const uint32_t count = field_get_u32(&reader);
    ret_row->heads_count = 0;
    ret_row->heads = ret_row->few;
    for (uint32_t i = 0; i < count && !reader.bad; i++) {
        head_read(&reader, entry_row_add(ret_row));
    }
    if (!field_reader_ended(&reader)) {
        entry_row_done(ret_row);
        return -EIO;
    }
    return 0;
}

/* The value of a row; `ret_row` is made empty. */
static int entry_value(const struct tree *tree, struct kv_txn *txn, uint64_t directory,
                       struct bytes name, struct entry_row *ret_row, struct bytes *ret_value)
{
    ret_row->child = 0;
    ret_row->heads_count = 0;
    ret_row->heads = ret_row->few;
    if (name.size > PATH_NAME_BYTES_MAX) {
        return -ENOENT;
    }
    uint8_t key[ENTRY_KEY_BYTES_MAX];
    return kv_get(txn, tree_table(tree, TREE_ENTRIES), entry_key(directory, name, key), ret_value);
}

int entry_get(const struct tree *tree, struct kv_txn *txn, uint64_t directory, struct bytes name,
              struct entry_row *ret_row)
{
    struct bytes value;
    const int err = entry_value(tree, txn, directory, name, ret_row, &value);
    return err ? err : entry_decode(value, ret_row);
}

int entry_copy(const struct tree *tree, struct kv_txn *txn, uint64_t directory, struct bytes name,
               struct buf *copy, struct entry_row *ret_row)
{
    struct bytes value;
    const int err = entry_value(tree, txn, directory, name, ret_row, &value);
    if (err) {
        return err;
    }
    buf_add(copy, value);
    return entry_decode(buf_bytes(copy), ret_row);
}

static void format_row(const struct entry_row *row, struct buf *ret_value)
{
    field_put_u64(ret_value, row->child);
    field_put_u32(ret_value, (uint32_t)row->heads_count);
    for (size_t i = 0; i < row->heads_count; i++) {
        head_format(&row->heads[i], ret_value);
    }
}

int entry_put(const struct tree *tree, struct kv_txn *txn, uint64_t directory, struct bytes name,
              const struct entry_row *row)
{
    CLEANUP_BUF struct buf value = BUF_INIT;
    format_row(row, &value);
    uint8_t key[ENTRY_KEY_BYTES_MAX];
    return kv_put(txn, tree_table(tree, TREE_ENTRIES), entry_key(directory, name, key),
                  buf_bytes(&value));
}

int entry_append(const struct tree *tree, struct kv_txn *txn, uint64_t directory, struct bytes name,
                 const struct entry_row *row)
{
    CLEANUP_BUF struct buf value = BUF_INIT;
    format_row(row, &value);
    uint8_t key[ENTRY_KEY_BYTES_MAX];
    const struct bytes key_bytes = entry_key(directory, name, key);
    const int err = kv_append(txn, tree_table(tree, TREE_ENTRIES), key_bytes, buf_bytes(&value));
    return err == -EEXIST
               ? kv_put(txn, tree_table(tree, TREE_ENTRIES), key_bytes, buf_bytes(&value))
               : err;
}

int entry_remove(const struct tree *tree, struct kv_txn *txn, uint64_t directory, struct bytes name)
{
    uint8_t key[ENTRY_KEY_BYTES_MAX];
    return forget(tree, txn, TREE_ENTRIES, entry_key(directory, name, key));
}

bool head_is_greater(const struct head *a, const struct head *b)
{
    if (a->version.lamport != b->version.lamport) {
        return a->version.lamport > b->version.lamport;
    }
    return memcmp(a->version.dot.origin.bytes, b->version.dot.origin.bytes,
                  sizeof a->version.dot.origin.bytes) > 0;
}

int entry_shown(const struct tree *tree, struct kv_txn *txn, struct entry_row *row,
                struct head **ret_directory, struct head **ret_file)
{
    *ret_directory = NULL;
    *ret_file = NULL;
    for (size_t i = 0; i < row->heads_count; i++) {
        struct head *head = &row->heads[i];
        struct origin_row origin;
        const int err = origin_get(tree, txn, head->origin, &origin);
        if (err) {
            return err == -ENOENT ? -EIO : err;
        }
        head->version.dot.origin = origin.id;
        struct head **best = head->version.kind == TREE_DIRECTORY ? ret_directory : ret_file;
        if (!*best || head_is_greater(head, *best)) {
            *best = head;
        }
    }
    return 0;
}

/* Directories. */

int directory_get(const struct tree *tree, struct kv_txn *txn, uint64_t directory,
                  struct directory_row *ret_row)
{
    uint8_t key[8];
    struct bytes value;
    const int err =
        kv_get(txn, tree_table(tree, TREE_DIRECTORIES), key_u64(directory, key), &value);
    if (err) {
        return err;
    }
    if (value.size < 16 || value.size - 16 > PATH_NAME_BYTES_MAX) {
        return -EIO;
    }
    ret_row->parent = codec_get_le64(value.data);
    ret_row->entries_count = codec_get_le64(value.data + 8);
    ret_row->name_bytes = value.size - 16;
    memcpy(ret_row->name, value.data + 16, ret_row->name_bytes);
    return 0;
}

int directory_put(const struct tree *tree, struct kv_txn *txn, uint64_t directory,
                  const struct directory_row *row)
{
    uint8_t key[8];
    uint8_t value[16 + PATH_NAME_BYTES_MAX];
    codec_put_le64(value, row->parent);
    codec_put_le64(value + 8, row->entries_count);
    memcpy(value + 16, row->name, row->name_bytes);
    return kv_put(txn, tree_table(tree, TREE_DIRECTORIES), key_u64(directory, key),
                  BYTES(value, 16 + row->name_bytes));
}

int directory_remove(const struct tree *tree, struct kv_txn *txn, uint64_t directory)
{
    uint8_t key[8];
    return forget(tree, txn, TREE_DIRECTORIES, key_u64(directory, key));
}

/* Origins. */

#define ORIGIN_ROW_BYTES (16 + 8 + ID_BYTES)

int origin_decode(struct bytes value, struct origin_row *ret_row)
{
    if (value.size != ORIGIN_ROW_BYTES) {
        return -EIO;
    }
    memcpy(ret_row->id.bytes, value.data, 16);
    ret_row->seq = codec_get_le64(value.data + 16);
    memcpy(ret_row->hash.bytes, value.data + 24, ID_BYTES);
    return 0;
}

int origin_get(const struct tree *tree, struct kv_txn *txn, uint32_t number,
               struct origin_row *ret_row)
{
    uint8_t key[4];
    struct bytes value;
    const int err = kv_get(txn, tree_table(tree, TREE_ORIGINS), key_u32(number, key), &value);
    return err ? err : origin_decode(value, ret_row);
}

int origin_put(const struct tree *tree, struct kv_txn *txn, uint32_t number,
               const struct origin_row *row)
{
    uint8_t key[4];
    uint8_t value[ORIGIN_ROW_BYTES];
    memcpy(value, row->id.bytes, 16);
    codec_put_le64(value + 16, row->seq);
    memcpy(value + 24, row->hash.bytes, ID_BYTES);
    return kv_put(txn, tree_table(tree, TREE_ORIGINS), key_u32(number, key),
                  BYTES(value, sizeof value));
}

uint64_t origin_sum(const struct origin_row *row)
{
    return row->seq > 0 ? codec_get_le64(row->hash.bytes) : 0;
}

void state_count_origin(struct tree_state *state, const struct origin_row *before,
                        const struct origin_row *after)
{
    state->vector_sum += origin_sum(after) - origin_sum(before);
    state->ops_count += after->seq - before->seq;
}

int origin_number(const struct tree *tree, struct kv_txn *txn, const struct origin_id *id,
                  uint32_t *ret_number)
{
    struct bytes value;
    const int err =
        kv_get(txn, tree_table(tree, TREE_ORIGIN_IDS), BYTES(id->bytes, sizeof id->bytes), &value);
    if (err) {
        return err;
    }
    if (value.size != 4) {
        return -EIO;
    }
    *ret_number = codec_get_le32(value.data);
    return 0;
}

int origin_add(const struct tree *tree, struct kv_txn *txn, struct tree_state *state,
               const struct origin_id *id, uint32_t *ret_number)
{
    const uint32_t number = state->next_origin++;
    uint8_t value[4];
    codec_put_le32(value, number);
    const int err = kv_put(txn, tree_table(tree, TREE_ORIGIN_IDS),
                           BYTES(id->bytes, sizeof id->bytes), BYTES(value, sizeof value));
    if (err) {
        return err;
    }
    *ret_number = number;
    return origin_put(tree, txn, number, &(struct origin_row){.id = *id});
}

int origin_rename(const struct tree *tree, struct kv_txn *txn, uint32_t number,
                  const struct origin_row *row, const struct origin_id *id)
{
    struct origin_row renamed = *row;
    uint8_t value[4];
    renamed.id = *id;
    codec_put_le32(value, number);
    int err = kv_delete(txn, tree_table(tree, TREE_ORIGIN_IDS),
                        BYTES(row->id.bytes, sizeof row->id.bytes));
    if (!err) {
        err = kv_put(txn, tree_table(tree, TREE_ORIGIN_IDS), BYTES(id->bytes, sizeof id->bytes),
                     BYTES(value, sizeof value));
    }
    if (err) {
        return err == -ENOENT ? -EIO : err;
    }
    return origin_put(tree, txn, number, &renamed);
}

/* Ops. */

static struct bytes op_key(uint32_t origin, uint64_t seq, uint32_t part, uint8_t key[OP_KEY_BYTES])
{
    codec_put_be32(key, origin);
    codec_put_be64(key + 4, seq);
    codec_put_be32(key + 12, part);
    return BYTES(key, OP_KEY_BYTES);
}

int op_put(const struct tree *tree, struct kv_txn *txn, uint32_t origin, uint64_t seq,
           struct bytes bytes)
{
    int err = 0;
    for (uint32_t part = 0; !err && bytes.size > 0; part++) {
        uint8_t key[OP_KEY_BYTES];
        const size_t size = bytes.size < OP_PART_BYTES ? bytes.size : OP_PART_BYTES;
        err = kv_put(txn, tree_table(tree, TREE_OPS), op_key(origin, seq, part, key),
                     BYTES(bytes.data, size));
        bytes = BYTES(bytes.data + size, bytes.size - size);
    }
    return err;
}

int op_get(const struct tree *tree, struct kv_txn *txn, uint32_t origin, uint64_t seq,
           struct buf *ret_bytes)
{
    struct bytes value = {0};
    for (uint32_t part = 0; part == 0 || value.size == OP_PART_BYTES; part++) {
        uint8_t key[OP_KEY_BYTES];
        const int err =
            kv_get(txn, tree_table(tree, TREE_OPS), op_key(origin, seq, part, key), &value);
        if (err == -ENOENT && part > 0) {
            return 0; /* the last part was a whole one */
        }
        if (err) {
            return err;
        }
        buf_add(ret_bytes, value);
    }
    return 0;
}

/* The first part has all that comes before the paths of an op. */
static int op_get_head(const struct tree *tree, struct kv_txn *txn, uint32_t origin, uint64_t seq,
                       struct bytes *ret_head)
{
    uint8_t key[OP_KEY_BYTES];
    struct bytes value;
    const int err = kv_get(txn, tree_table(tree, TREE_OPS), op_key(origin, seq, 0, key), &value);
    if (err) {
        return err;
    }
    if (value.size < TREE_OP_LAMPORT_OFFSET + 8) {
        return -EIO;
    }
    *ret_head = value;
    return 0;
}

int op_get_lamport(const struct tree *tree, struct kv_txn *txn, uint32_t origin, uint64_t seq,
                   uint64_t *ret_lamport)
{
    struct bytes head;
    const int err = op_get_head(tree, txn, origin, seq, &head);
    if (!err) {
        *ret_lamport = codec_get_le64(head.data + TREE_OP_LAMPORT_OFFSET);
    }
    return err;
}

int op_get_previous(const struct tree *tree, struct kv_txn *txn, uint32_t origin, uint64_t seq,
                    struct id *ret_previous)
{
    struct bytes head;
    const int err = op_get_head(tree, txn, origin, seq, &head);
    if (!err) {
        memcpy(ret_previous->bytes, head.data + TREE_OP_PREVIOUS_OFFSET,
               sizeof ret_previous->bytes);
    }
    return err;
}

int op_remove(const struct tree *tree, struct kv_txn *txn, uint32_t origin, uint64_t seq)
{
    int err = 0;
    for (uint32_t part = 0; !err; part++) {
        uint8_t key[OP_KEY_BYTES];
        err = kv_delete(txn, tree_table(tree, TREE_OPS), op_key(origin, seq, part, key));
    }
    return err == -ENOENT ? 0 : err;
}

/* Feed. */

#define FEED_ROW_BYTES (1 + 4 + 8 + 8)

int feed_decode(struct bytes value, struct feed_row *ret_row)
{
    struct field_reader reader = field_reader_of(value);
    const struct feed_row row = {
        .kind = (enum tree_feed_kind)field_get_u8(&reader),
        .origin = field_get_u32(&reader),
        .seq = field_get_u64(&reader),
        .at_ms = field_get_u64(&reader),
    };
    if (!field_reader_ended(&reader) || row.kind < TREE_FEED_OP || row.kind > TREE_FEED_MERGED) {
        return -EIO;
    }
    *ret_row = row;
    return 0;
}

int feed_put(const struct tree *tree, struct kv_txn *txn, uint64_t position,
             const struct feed_row *row)
{
    uint8_t key[8];
    uint8_t value[FEED_ROW_BYTES];
    value[0] = (uint8_t)row->kind;
    codec_put_le32(value + 1, row->origin);
    codec_put_le64(value + 5, row->seq);
    codec_put_le64(value + 13, row->at_ms);
    return kv_append(txn, tree_table(tree, TREE_FEED), key_u64(position, key),
                     BYTES(value, sizeof value));
}

/* History. */

void history_path_key(struct bytes path, uint8_t ret_key[HISTORY_PATH_BYTES])
{
    struct id hash;
    sha256_id(path, &hash);
    memcpy(ret_key, hash.bytes, HISTORY_PATH_BYTES);
}

int history_add(const struct tree *tree, struct kv_txn *txn, struct bytes path,
                const struct head *head, uint64_t ended_ms)
{
    uint8_t expiry[EXPIRY_KEY_BYTES];
    uint8_t *key = expiry + 8;
    codec_put_be64(expiry, ended_ms);
    history_path_key(path, key);
    codec_put_be64(key + 16, head->version.lamport);
    codec_put_be32(key + 24, head->origin);
    codec_put_be64(key + 28, head->version.dot.seq);

    CLEANUP_BUF struct buf value = BUF_INIT;
    field_put_u64(&value, ended_ms);
    head_format(head, &value);
    int err = history_forget(tree, txn, BYTES(key, HISTORY_KEY_BYTES));
    if (!err || err == -ENOENT) {
        err = kv_put(txn, tree_table(tree, TREE_HISTORY), BYTES(key, HISTORY_KEY_BYTES),
                     buf_bytes(&value));
    }
    return err ? err
               : kv_put(txn, tree_table(tree, TREE_EXPIRY), BYTES(expiry, sizeof expiry),
                        BYTES(NULL, 0));
}

/* Replaced. */

struct bytes replaced_key(const struct dot *dot, struct bytes path, uint8_t key[REPLACED_KEY_BYTES])
{
    memcpy(key, dot->origin.bytes, sizeof dot->origin.bytes);
    codec_put_be64(key + sizeof dot->origin.bytes, dot->seq);
    history_path_key(path, key + REPLACED_DOT_BYTES);
    return BYTES(key, REPLACED_KEY_BYTES);
}

int replaced_put(const struct tree *tree, struct kv_txn *txn, struct tree_state *state,
                 struct bytes key)
{
    struct bytes value;
    const int err = kv_get(txn, tree_table(tree, TREE_REPLACED), key, &value);
    if (err != -ENOENT || (tree->omits & OMIT_REPLACED)) {
        return err == -ENOENT ? 0 : err;
    }
    state->replaced_count++;
    return kv_put(txn, tree_table(tree, TREE_REPLACED), key, BYTES(NULL, 0));
}

int replaced_add(const struct tree *tree, struct kv_txn *txn, struct tree_state *state,
                 const struct dot *dot, struct bytes path)
{
    uint8_t key[REPLACED_KEY_BYTES];
    return replaced_put(tree, txn, state, replaced_key(dot, path, key));
}

int replaced_has(const struct tree *tree, struct kv_txn *txn, const struct tree_state *state,
                 const struct dot *dot, struct bytes path, bool *ret_has)
{
    *ret_has = false;
    if (state->replaced_count == 0) {
        return 0;
    }
    uint8_t key[REPLACED_KEY_BYTES];
    struct bytes value;
    const int err =
        kv_get(txn, tree_table(tree, TREE_REPLACED), replaced_key(dot, path, key), &value);
    *ret_has = !err;
    return err == -ENOENT ? 0 : err;
}

int replaced_trim(const struct tree *tree, struct kv_txn *txn, struct tree_state *state,
                  const struct dot *dot)
{
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    const size_t origin_bytes = sizeof dot->origin.bytes;
    while (state->replaced_count > 0) {
        struct bytes key;
        struct bytes value;
        int err = cursor ? 0 : kv_cursor_open(txn, tree_table(tree, TREE_REPLACED), &cursor);
        if (!err) {
            err = kv_seek(cursor, BYTES(dot->origin.bytes, origin_bytes), &key, &value);
        }
        if (err) {
            return err == -ENOENT ? 0 : err;
        }
        if (key.size != REPLACED_KEY_BYTES) {
            return -EIO;
        }
        if (memcmp(key.data, dot->origin.bytes, origin_bytes) != 0 ||
            codec_get_be64(key.data + origin_bytes) > dot->seq) {
            return 0;
        }
        uint8_t copy[REPLACED_KEY_BYTES];
        memcpy(copy, key.data, sizeof copy);
        err = kv_delete(txn, tree_table(tree, TREE_REPLACED), BYTES(copy, sizeof copy));
        if (err) {
            return err;
        }
        state->replaced_count--;
    }
    return 0;
}

/* Fingerprint. */

void fingerprint_of(struct bytes path, const struct tree_version *version, uint64_t ret_sum[4])
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    field_put_string(&text, path);
    buf_add(&text, BYTES(version->dot.origin.bytes, sizeof version->dot.origin.bytes));
    /* The number of the origin is this database's own affair, and so is who holds what. */
    const struct head head = {.version = *version};
    head_format(&head, &text);
    struct id hash;
    sha256_id(buf_bytes(&text), &hash);
    for (int i = 0; i < 4; i++) {
        ret_sum[i] = codec_get_le64(hash.bytes + 8 * i);
    }
}

void fingerprint_add(uint64_t sum[4], const uint64_t part[4])
{
    uint64_t carry = 0;
    for (int i = 0; i < 4; i++) {
        uint64_t word = 0;
        const uint64_t first = __builtin_add_overflow(sum[i], part[i], &word);
        const uint64_t second = __builtin_add_overflow(word, carry, &sum[i]);
        carry = first | second;
    }
}

void fingerprint_subtract(uint64_t sum[4], const uint64_t part[4])
{
    uint64_t borrow = 0;
    for (int i = 0; i < 4; i++) {
        uint64_t word = 0;
        const uint64_t first = __builtin_sub_overflow(sum[i], part[i], &word);
        const uint64_t second = __builtin_sub_overflow(word, borrow, &sum[i]);
        borrow = first | second;
    }
}
