/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/inodes.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/list.h"
#include "base/mem.h"
#include "wire/path.h"

/* There are many, and each step in a bucket waits for memory. */
#undef HASH_BKT_CAPACITY_THRESH
#define HASH_BKT_CAPACITY_THRESH 3U

#define KEY_BYTES_MAX (sizeof(uint64_t) + PATH_NAME_BYTES_MAX)

/* FNV-1a of 64 bits, which is enough to spread names over numbers. */
#define FNV_BASIS UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME UINT64_C(0x100000001b3)

static uint64_t hash_key(const uint8_t *key, size_t size)
{
    uint64_t hash = FNV_BASIS;
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ key[i]) * FNV_PRIME;
    }
    return hash;
}

static size_t fill_key(uint8_t *key, const struct inode *parent, struct bytes name)
{
    memcpy(key, &parent->number, sizeof parent->number);
    if (name.size > 0) {
        memcpy(key + sizeof parent->number, name.data, name.size);
    }
    return sizeof parent->number + name.size;
}

void inodes_init(struct inodes *inodes)
{
    *inodes = (struct inodes){0};
    struct inode *root = mem_alloc(sizeof *root);
    root->number = INODE_ROOT;
    root->pins = 1;
    root->shape = (struct shape){.kind = TREE_DIRECTORY, .mode = 0755, .is_explicit = true};
    HASH_ADD(by_number, inodes->numbers, number, sizeof root->number, root);
    inodes->root = root;
}

static void free_inode(struct inodes *inodes, struct inode *inode)
{
    if (inodes->drop) {
        inodes->drop(inodes->context, inode);
    }
    free(inode->key);
    free(inode->target);
    free(inode);
}

void inodes_done(struct inodes *inodes)
{
    HASH_CLEAR(by_key, inodes->keys);
    struct inode *inode = NULL;
    struct inode *next = NULL;
    HASH_ITER(by_number, inodes->numbers, inode, next)
    {
        HASH_DELETE(by_number, inodes->numbers, inode);
        free_inode(inodes, inode);
    }
    *inodes = (struct inodes){0};
}

struct inode *inodes_find(const struct inodes *inodes, uint64_t number)
{
    struct inode *inode = NULL;
    HASH_FIND(by_number, inodes->numbers, &number, sizeof number, inode);
    return inode;
}

struct inode *inodes_child(const struct inodes *inodes, const struct inode *parent,
                           struct bytes name)
{
    uint8_t key[KEY_BYTES_MAX];
    if (name.size > PATH_NAME_BYTES_MAX) {
        return NULL;
    }
    const size_t size = fill_key(key, parent, name);
    struct inode *inode = NULL;
    HASH_FIND(by_key, inodes->keys, key, size, inode);
    return inode;
}

static void attach(struct inodes *inodes, struct inode *inode, struct inode *parent,
                   struct bytes name)
{
    CHECK(name.size <= PATH_NAME_BYTES_MAX && !inode->parent);
    inode->key = mem_alloc(sizeof parent->number + name.size + 1);
    inode->key_bytes = fill_key(inode->key, parent, name);
    inode->parent = parent;
    inodes_pin(parent);
    DL_APPEND(parent->children, inode);
    HASH_ADD_KEYPTR(by_key, inodes->keys, inode->key, inode->key_bytes, inode);
}

struct inode *inodes_add(struct inodes *inodes, struct inode *parent, struct bytes name,
                         const struct shape *shape, const char *target)
{
    struct inode *inode = mem_alloc(sizeof *inode);
    inode->shape = *shape;
    inode->target = target ? mem_copy_string(target) : NULL;
    attach(inodes, inode, parent, name);
    inode->number = hash_key(inode->key, inode->key_bytes);
    while (inode->number <= INODE_ROOT || inodes_find(inodes, inode->number)) {
        inode->number++;
    }
    HASH_ADD(by_number, inodes->numbers, number, sizeof inode->number, inode);
    return inode;
}

uint64_t inodes_number(const struct inodes *inodes, const struct inode *parent, struct bytes name)
{
    const struct inode *inode = inodes_child(inodes, parent, name);
    uint8_t key[KEY_BYTES_MAX];
    if (inode) {
        return inode->number;
    }
    return name.size > PATH_NAME_BYTES_MAX ? 0 : hash_key(key, fill_key(key, parent, name));
}

bool inode_is(const struct inode *inode, const struct shape *shape, const char *target)
{
    if (inode->shape.kind != shape->kind) {
        return false;
    }
    switch (shape->kind) {
    case TREE_FILE:
        return id_equal(&inode->shape.file_id, &shape->file_id);
    case TREE_SYMLINK:
        return strcmp(inode->target, target) == 0;
    case TREE_DIRECTORY:
    case TREE_DELETE:
    default:
        return true;
    }
}

struct bytes inode_name(const struct inode *inode)
{
    if (!inode->key) {
        return BYTES(NULL, 0);
    }
    return BYTES(inode->key + sizeof inode->number, inode->key_bytes - sizeof inode->number);
}

int inode_path(const struct inode *inode, struct buf *path)
{
    size_t size = 0;
    const struct inode *at = inode;
    for (; at->parent; at = at->parent) {
        size += inode_name(at).size + (size > 0);
    }
    buf_clear(path);
    if (at->number != INODE_ROOT) {
        return -ENOENT;
    }
    if (size > PATH_BYTES_MAX) {
        return -ENAMETOOLONG;
    }
    uint8_t *end = buf_extend(path, size) + size;
    for (at = inode; at->parent; at = at->parent) {
        const struct bytes name = inode_name(at);
        end -= name.size;
        memcpy(end, name.data, name.size);
        if (at->parent->parent) {
            *--end = '/';
        }
    }
    return 0;
}

int inode_child_path(const struct inode *parent, struct bytes name, struct buf *path)
{
    const int err = inode_path(parent, path);
    if (err) {
        return err;
    }
    if (path->size + 1 + name.size > PATH_BYTES_MAX) {
        return -ENAMETOOLONG;
    }
    if (path->size > 0) {
        buf_add_byte(path, '/');
    }
    buf_add(path, name);
    return 0;
}

static void release(struct inodes *inodes, struct inode *inode)
{
    while (inode && inode->pins == 0 && inode->lookups == 0) {
        struct inode *parent = inode->parent;
        if (parent) {
            HASH_DELETE(by_key, inodes->keys, inode);
            DL_DELETE(parent->children, inode);
            parent->pins--;
        }
        HASH_DELETE(by_number, inodes->numbers, inode);
        free_inode(inodes, inode);
        inode = parent;
    }
}

/* Its parent, which may have nobody left but the caller's pin; NULL: it had no name. */
static struct inode *cut_off(struct inodes *inodes, struct inode *inode)
{
    struct inode *parent = inode->parent;
    if (parent) {
        HASH_DELETE(by_key, inodes->keys, inode);
        DL_DELETE(parent->children, inode);
        inode->parent = NULL;
        free(inode->key);
        inode->key = NULL;
        inode->key_bytes = 0;
    }
    return parent;
}

void inodes_detach(struct inodes *inodes, struct inode *inode)
{
    struct inode *parent = cut_off(inodes, inode);
    if (parent) {
        inodes_unpin(inodes, parent);
    }
    release(inodes, inode);
}

void inodes_move(struct inodes *inodes, struct inode *inode, struct inode *parent,
                 struct bytes name)
{
    struct inode *there = inodes_child(inodes, parent, name);
    if (there == inode) {
        return;
    }
    if (there) {
        inodes_detach(inodes, there);
    }
    struct inode *old = cut_off(inodes, inode);
    attach(inodes, inode, parent, name);
    if (old) {
        inodes_unpin(inodes, old);
    }
}

void inodes_pin(struct inode *inode)
{
    inode->pins++;
}

void inodes_unpin(struct inodes *inodes, struct inode *inode)
{
    CHECK(inode->pins > 0);
    inode->pins--;
    release(inodes, inode);
}

void inodes_forget(struct inodes *inodes, struct inode *inode, uint64_t count)
{
    /* The kernel gives back what it was given; more would be its fault, not a reason to end. */
    inode->lookups -= count < inode->lookups ? count : inode->lookups;
    release(inodes, inode);
}
