/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory: kv as persistent treaps.
 *
 * A treap (Seidel and Aragon 1996) is a search tree by key and a heap by priority; with random
 * priorities its expected depth is O(log n). Here the priority is a hash of the key, so that equal
 * content has one shape whatever happened before, and a run of the simulator repeats exactly.
 *
 * Nodes never change once made. A change copies the path from the root down to it (O(log n) nodes
 * of 32 bytes; keys and values are shared) and ends in a new root, so the old root goes on as
 * it was (Driscoll et al. 1989). A version is the roots of all tables: a snapshot is one reference
 * to it, abort forgets the new roots, commit puts a new version in place. Nodes, items and versions
 * are counted atomically: the last holder frees, in whatever thread it is.
 *
 * Functions here borrow the nodes that they are given and return nodes that the caller owns.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "base/err.h"
#include "base/mem.h"
#include "kv/kv_priv.h"

/* What an entry counts besides its bytes: about what node, item and malloc take. */
#define ENTRY_BYTES 128

struct item {
    atomic_size_t refs;
    uint64_t priority;
    size_t key_size;
    size_t value_size;
    uint8_t bytes[]; /* the key, then the value */
};

struct node {
    atomic_size_t refs;
    struct item *item;
    struct node *left;
    struct node *right;
};

struct tree {
    struct node *root;
    uint64_t count;
};

struct version {
    atomic_size_t refs;
    uint64_t number; /* of the commit, from 1 */
    uint64_t size_bytes;
    struct tree trees[KV_TABLES_MAX];
};

struct memory {
    struct kv base;
    uint64_t limit_bytes;
    pthread_mutex_t write_mutex;   /* held by the write transaction */
    pthread_mutex_t current_mutex; /* guards the pointer `current`, for a few instructions */
    struct version *current;
};

struct memory_txn {
    struct kv_txn base;
    struct version *version; /* a writer's is its own until commit */
};

/* The nodes whose keys are still to come, nearest last; the cursor's own key is the last one. */
struct memory_cursor {
    struct kv_cursor base;
    const struct node **path;
    size_t path_count;
    size_t path_capacity;
};

/* ---- items and nodes ---- */

/* FNV-1a, then the finaliser of splitmix64: FNV alone leaves the high bits of short keys alike. */
static uint64_t key_priority(struct bytes key)
{
    uint64_t hash = 0xcbf29ce484222325U;
    for (size_t i = 0; i < key.size; i++) {
        hash = (hash ^ key.data[i]) * 0x100000001b3U;
    }
    hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9U;
    hash = (hash ^ (hash >> 27)) * 0x94d049bb133111ebU;
    return hash ^ (hash >> 31);
}

static struct bytes item_key(const struct item *item)
{
    return BYTES(item->bytes, item->key_size);
}

static struct bytes item_value(const struct item *item)
{
    return BYTES(item->bytes + item->key_size, item->value_size);
}

static uint64_t entry_bytes(size_t key_size, size_t value_size)
{
    return ENTRY_BYTES + (uint64_t)key_size + value_size;
}

static struct item *item_new(struct bytes key, struct bytes value)
{
    struct item *item = mem_alloc(sizeof(*item) + key.size + value.size);
    atomic_init(&item->refs, 1);
    item->priority = key_priority(key);
    item->key_size = key.size;
    item->value_size = value.size;
    memcpy(item->bytes, key.data, key.size);
    if (value.size) {
        memcpy(item->bytes + key.size, value.data, value.size);
    }
    return item;
}

static void ref(atomic_size_t *refs)
{
    atomic_fetch_add_explicit(refs, 1, memory_order_relaxed);
}

/* True for the last one: everything that others did to it happened before. */
static bool unref(atomic_size_t *refs)
{
    return atomic_fetch_sub_explicit(refs, 1, memory_order_acq_rel) == 1;
}

static struct item *item_ref(struct item *item)
{
    ref(&item->refs);
    return item;
}

static void item_unref(struct item *item)
{
    if (unref(&item->refs)) {
        free(item);
    }
}

static struct node *node_ref(struct node *node)
{
    if (node) {
        ref(&node->refs);
    }
    return node;
}

/* As deep as the tree: O(log n). */
static void node_unref(struct node *node)
{
    if (node && unref(&node->refs)) {
        node_unref(node->left);
        node_unref(node->right);
        item_unref(node->item);
        free(node);
    }
}

/* Takes over all three. */
static struct node *node_new(struct item *item, struct node *left, struct node *right)
{
    struct node *node = mem_alloc(sizeof(*node));
    atomic_init(&node->refs, 1);
    node->item = item;
    node->left = left;
    node->right = right;
    return node;
}

/* ---- the treap ---- */

static const struct item *tree_find(const struct node *node, struct bytes key)
{
    while (node) {
        const int order = bytes_compare(key, item_key(node->item));
        if (order == 0) {
            return node->item;
        }
        node = order < 0 ? node->left : node->right;
    }
    return NULL;
}

/* The keys below `key` and those above; `key` itself is not in `node`. */
static void tree_split(const struct node *node, struct bytes key, struct node **ret_below,
                       struct node **ret_above)
{
    if (!node) {
        *ret_below = NULL;
        *ret_above = NULL;
    } else if (bytes_compare(key, item_key(node->item)) < 0) {
        struct node *above;
        tree_split(node->left, key, ret_below, &above);
        *ret_above = node_new(item_ref(node->item), above, node_ref(node->right));
    } else {
        struct node *below;
        tree_split(node->right, key, &below, ret_above);
        *ret_below = node_new(item_ref(node->item), node_ref(node->left), below);
    }
}

/* All of both; the keys of `below` are the smaller ones. */
static struct node *tree_merge(struct node *below, struct node *above)
{
    if (!below || !above) {
        return node_ref(below ? below : above);
    }
    if (below->item->priority >= above->item->priority) {
        return node_new(item_ref(below->item), node_ref(below->left),
                        tree_merge(below->right, above));
    }
    return node_new(item_ref(above->item), tree_merge(below, above->left), node_ref(above->right));
}

/* Takes over `item`. */
static struct node *tree_put(const struct node *node, struct item *item)
{
    if (!node) {
        return node_new(item, NULL, NULL);
    }
    if (item->priority > node->item->priority) {
        /* A key has one priority, so further down there is no node of this key. */
        struct node *below;
        struct node *above;
        tree_split(node, item_key(item), &below, &above);
        return node_new(item, below, above);
    }
    const int order = bytes_compare(item_key(item), item_key(node->item));
    if (order == 0) {
        return node_new(item, node_ref(node->left), node_ref(node->right));
    }
    if (order < 0) {
        return node_new(item_ref(node->item), tree_put(node->left, item), node_ref(node->right));
    }
    return node_new(item_ref(node->item), node_ref(node->left), tree_put(node->right, item));
}

/* `key` is in `node`. */
static struct node *tree_remove(const struct node *node, struct bytes key)
{
    const int order = bytes_compare(key, item_key(node->item));
    if (order == 0) {
        return tree_merge(node->left, node->right);
    }
    if (order < 0) {
        return node_new(item_ref(node->item), tree_remove(node->left, key), node_ref(node->right));
    }
    return node_new(item_ref(node->item), node_ref(node->left), tree_remove(node->right, key));
}

static const struct item *tree_last(const struct node *node)
{
    while (node && node->right) {
        node = node->right;
    }
    return node ? node->item : NULL;
}

/* ---- versions ---- */

static struct version *version_new(const struct version *old)
{
    struct version *version = mem_alloc(sizeof(*version));
    atomic_init(&version->refs, 1);
    version->number = 1;
    if (old) {
        version->number = old->number + 1;
        version->size_bytes = old->size_bytes;
        for (size_t i = 0; i < KV_TABLES_MAX; i++) {
            version->trees[i].root = node_ref(old->trees[i].root);
            version->trees[i].count = old->trees[i].count;
        }
    }
    return version;
}

static void version_unref(struct version *version)
{
    if (unref(&version->refs)) {
        for (size_t i = 0; i < KV_TABLES_MAX; i++) {
            node_unref(version->trees[i].root);
        }
        free(version);
    }
}

static struct version *current_ref(struct memory *memory)
{
    pthread_mutex_lock(&memory->current_mutex);
    struct version *version = memory->current;
    ref(&version->refs);
    pthread_mutex_unlock(&memory->current_mutex);
    return version;
}

/* Takes over `version`. */
static void current_replace(struct memory *memory, struct version *version)
{
    pthread_mutex_lock(&memory->current_mutex);
    struct version *old = memory->current;
    memory->current = version;
    pthread_mutex_unlock(&memory->current_mutex);
    version_unref(old);
}

/* ---- transactions ---- */

static struct memory *memory_of(const struct kv_txn *txn)
{
    return CONTAINER_OF(txn->kv, struct memory, base);
}

static struct version *version_of(struct kv_txn *txn)
{
    return CONTAINER_OF(txn, struct memory_txn, base)->version;
}

static void memory_close(struct kv *kv)
{
    struct memory *memory = CONTAINER_OF(kv, struct memory, base);
    CHECK(pthread_mutex_trylock(&memory->write_mutex) == 0); /* no writer, and no reader: */
    CHECK(atomic_load(&memory->current->refs) == 1);
    pthread_mutex_unlock(&memory->write_mutex);
    version_unref(memory->current);
    pthread_mutex_destroy(&memory->current_mutex);
    pthread_mutex_destroy(&memory->write_mutex);
    free(memory);
}

static struct memory_txn *txn_new(struct memory *memory, bool writes, struct version *version)
{
    struct memory_txn *txn = mem_alloc(sizeof(*txn));
    txn->base.kv = &memory->base;
    txn->base.writes = writes;
    txn->version = version;
    return txn;
}

static uint64_t memory_version(struct kv *kv)
{
    struct memory *memory = CONTAINER_OF(kv, struct memory, base);
    pthread_mutex_lock(&memory->current_mutex);
    const uint64_t number = memory->current->number;
    pthread_mutex_unlock(&memory->current_mutex);
    return number;
}

static int memory_read(struct kv *kv, struct kv_txn **ret_txn)
{
    struct memory *memory = CONTAINER_OF(kv, struct memory, base);
    *ret_txn = &txn_new(memory, false, current_ref(memory))->base;
    return 0;
}

static int memory_write(struct kv *kv, struct kv_txn **ret_txn)
{
    struct memory *memory = CONTAINER_OF(kv, struct memory, base);
    pthread_mutex_lock(&memory->write_mutex);
    /* Nobody else replaces `current` now. */
    *ret_txn = &txn_new(memory, true, version_new(memory->current))->base;
    return 0;
}

static int memory_commit(struct kv_txn *base)
{
    struct memory *memory = memory_of(base);
    struct memory_txn *txn = CONTAINER_OF(base, struct memory_txn, base);
    current_replace(memory, txn->version);
    free(txn);
    pthread_mutex_unlock(&memory->write_mutex);
    return 0;
}

static void memory_abort(struct kv_txn *base)
{
    struct memory *memory = memory_of(base);
    struct memory_txn *txn = CONTAINER_OF(base, struct memory_txn, base);
    const bool writes = base->writes;
    version_unref(txn->version);
    free(txn);
    if (writes) {
        pthread_mutex_unlock(&memory->write_mutex);
    }
}

static uint64_t memory_snapshot(struct kv_txn *txn)
{
    return version_of(txn)->number;
}

/* ---- keys ---- */

static int memory_get(struct kv_txn *txn, kv_table table, struct bytes key, struct bytes *ret_value)
{
    const struct item *item = tree_find(version_of(txn)->trees[table].root, key);
    if (!item) {
        return -ENOENT;
    }
    *ret_value = item_value(item);
    return 0;
}

static void tree_replace_root(struct tree *tree, struct node *root)
{
    struct node *old = tree->root;
    tree->root = root;
    node_unref(old);
}

static int memory_put(struct kv_txn *txn, kv_table table, struct bytes key, struct bytes value)
{
    struct version *version = version_of(txn);
    struct tree *tree = &version->trees[table];
    const struct item *old = tree_find(tree->root, key);
    const uint64_t freed_bytes = old ? entry_bytes(old->key_size, old->value_size) : 0;
    const uint64_t size_bytes =
        version->size_bytes - freed_bytes + entry_bytes(key.size, value.size);
    if (size_bytes > memory_of(txn)->limit_bytes) {
        return -ENOSPC;
    }
    tree_replace_root(tree, tree_put(tree->root, item_new(key, value)));
    tree->count += old ? 0 : 1;
    version->size_bytes = size_bytes;
    return 0;
}

static int memory_append(struct kv_txn *txn, kv_table table, struct bytes key, struct bytes value)
{
    const struct item *last = tree_last(version_of(txn)->trees[table].root);
    if (last && bytes_compare(key, item_key(last)) <= 0) {
        return -EEXIST;
    }
    return memory_put(txn, table, key, value);
}

static int memory_remove(struct kv_txn *txn, kv_table table, struct bytes key)
{
    struct version *version = version_of(txn);
    struct tree *tree = &version->trees[table];
    const struct item *old = tree_find(tree->root, key);
    if (!old) {
        return -ENOENT;
    }
    version->size_bytes -= entry_bytes(old->key_size, old->value_size);
    tree->count--;
    tree_replace_root(tree, tree_remove(tree->root, key));
    return 0;
}

static int memory_count(struct kv_txn *txn, kv_table table, uint64_t *ret_count)
{
    *ret_count = version_of(txn)->trees[table].count;
    return 0;
}

/* ---- cursors ---- */

static int memory_cursor_open(struct kv_txn *txn, kv_table table, struct kv_cursor **ret_cursor)
{
    (void)txn;
    (void)table;
    struct memory_cursor *cursor = mem_alloc(sizeof(*cursor));
    *ret_cursor = &cursor->base;
    return 0;
}

static void memory_cursor_close(struct kv_cursor *base)
{
    struct memory_cursor *cursor = CONTAINER_OF(base, struct memory_cursor, base);
    free(cursor->path);
    free(cursor);
}

static void path_push(struct memory_cursor *cursor, const struct node *node)
{
    if (cursor->path_count == cursor->path_capacity) {
        cursor->path_capacity = cursor->path_capacity ? 2 * cursor->path_capacity : 32;
        cursor->path = mem_resize_array(cursor->path, cursor->path_capacity, sizeof(struct node *));
    }
    cursor->path[cursor->path_count++] = node;
}

static const struct node *cursor_root(const struct kv_cursor *cursor)
{
    return version_of(cursor->txn)->trees[cursor->table].root;
}

static int cursor_answer(const struct memory_cursor *cursor, struct bytes *ret_key,
                         struct bytes *ret_value)
{
    if (cursor->path_count == 0) {
        return -ENOENT;
    }
    const struct item *item = cursor->path[cursor->path_count - 1]->item;
    *ret_key = item_key(item);
    *ret_value = item_value(item);
    return 0;
}

static int memory_seek(struct kv_cursor *base, struct bytes key, struct bytes *ret_key,
                       struct bytes *ret_value)
{
    struct memory_cursor *cursor = CONTAINER_OF(base, struct memory_cursor, base);
    cursor->path_count = 0;
    const struct node *node = cursor_root(base);
    while (node) {
        if (bytes_compare(item_key(node->item), key) >= 0) {
            path_push(cursor, node);
            node = node->left;
        } else {
            node = node->right;
        }
    }
    return cursor_answer(cursor, ret_key, ret_value);
}

static int memory_seek_before(struct kv_cursor *base, struct bytes key, struct bytes *ret_key,
                              struct bytes *ret_value)
{
    struct memory_cursor *cursor = CONTAINER_OF(base, struct memory_cursor, base);
    cursor->path_count = 0;
    const struct node *found = NULL;
    size_t found_path_count = 0; /* after `found` come the nodes that it is to the left of */
    const struct node *node = cursor_root(base);
    while (node) {
        if (key.size == 0 || bytes_compare(item_key(node->item), key) < 0) {
            found = node;
            found_path_count = cursor->path_count;
            node = node->right;
        } else {
            path_push(cursor, node);
            node = node->left;
        }
    }
    cursor->path_count = found_path_count;
    if (found) {
        path_push(cursor, found);
    }
    return cursor_answer(cursor, ret_key, ret_value);
}

static int memory_next(struct kv_cursor *base, struct bytes *ret_key, struct bytes *ret_value)
{
    struct memory_cursor *cursor = CONTAINER_OF(base, struct memory_cursor, base);
    const struct node *node = cursor->path[--cursor->path_count]->right;
    for (; node; node = node->left) {
        path_push(cursor, node);
    }
    return cursor_answer(cursor, ret_key, ret_value);
}

static const struct kv_ops memory_ops = {
    .close = memory_close,
    .version = memory_version,
    .read = memory_read,
    .write = memory_write,
    .commit = memory_commit,
    .abort = memory_abort,
    .snapshot = memory_snapshot,
    .get = memory_get,
    .put = memory_put,
    .append = memory_append,
    .remove = memory_remove,
    .count = memory_count,
    .cursor_open = memory_cursor_open,
    .cursor_close = memory_cursor_close,
    .seek = memory_seek,
    .seek_before = memory_seek_before,
    .next = memory_next,
};

int kv_open_memory(const struct kv_options *options, struct kv **ret_kv)
{
    if (options->tables_count > KV_TABLES_MAX || options->read_only) {
        return -EINVAL;
    }
    struct memory *memory = mem_alloc(sizeof(*memory));
    memory->base.ops = &memory_ops;
    memory->base.tables_count = options->tables_count;
    memory->limit_bytes = options->map_bytes ? options->map_bytes : KV_MAP_BYTES_DEFAULT;
    pthread_mutex_init(&memory->write_mutex, NULL);
    pthread_mutex_init(&memory->current_mutex, NULL);
    memory->current = version_new(NULL);
    *ret_kv = &memory->base;
    return 0;
}
