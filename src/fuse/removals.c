/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A queue in the order of unlink(2), and a table by name. What is under way is the head of the
 * queue, and in the table until the node has answered.
 */

#include "fuse/removals.h"

#include <jansson.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "fuse/publish.h"

/* What may wait; who removes more waits for each. A node deletes as many in a second or less. */
#define QUEUE_MAX 8192u
/* What goes at once: a body of 64 KiB is the most that the node takes. */
#define BATCH_BYTES ((size_t)60 * 1024)
/* Of a path in it, besides its name: the id, quotes, a colon, a comma. */
#define ITEM_BYTES ((size_t)ID_HEX_CHARS + 6)
/* A batch is not begun sooner after the one before, unless so many wait or somebody waits for them:
 * each costs the node a transaction. */
#define PACE_MS 10u
#define PACE_COUNT 512u
/* Between attempts while the node does not take anything. */
#define RETRY_MS 500u

struct removal {
    struct removal *prev;
    struct removal *next;
    struct inode *parent; /* pinned */
    struct id file_id;
    UT_hash_handle by_key;
    size_t key_bytes;
    uint8_t key[]; /* the number of the parent, the name */
};

struct removals {
    pthread_t thread;
    pthread_cond_t wake; /* something was queued, or it ends */
    struct removal *queue;
    struct removal *keys;
    uint64_t added;
    uint64_t ended;
    int err;         /* why nothing went the last time */
    bool is_awaited; /* somebody waits for what is queued */
    bool is_ending;
    bool has_lost;
};

/* ---- under mount.lock -------------------------------------------------------------------------
 */

static struct bytes removal_name(const struct removal *removal)
{
    return BYTES(removal->key + sizeof(uint64_t), removal->key_bytes - sizeof(uint64_t));
}

static struct removal *find(const struct mount *mount, uint64_t parent, struct bytes name)
{
    uint8_t key[sizeof parent + PATH_NAME_BYTES_MAX];
    struct removal *removal = NULL;
    const struct removals *removals = mount->removals;
    if (!removals || !removals->keys || name.size == 0 || name.size > PATH_NAME_BYTES_MAX) {
        return NULL;
    }
    memcpy(key, &parent, sizeof parent);
    memcpy(key + sizeof parent, name.data, name.size);
    HASH_FIND(by_key, removals->keys, key, sizeof parent + name.size, removal);
    return removal;
}

bool removals_have(const struct mount *mount, uint64_t parent, struct bytes name)
{
    return find(mount, parent, name) != NULL;
}

/* What is written under the name now stands before what is going. */
static bool is_made_again(const struct mount *mount, uint64_t parent_number, struct bytes name)
{
    const struct inode *parent = inodes_find(&mount->inodes, parent_number);
    const struct inode *inode = parent ? inodes_child(&mount->inodes, parent, name) : NULL;
    return inode && inode->draft;
}

bool removals_hide(const struct mount *mount, uint64_t parent, struct bytes name,
                   const struct shape *shape)
{
    const struct removal *removal = find(mount, parent, name);
    if (!removal || is_made_again(mount, parent, name)) {
        return false;
    }
    return shape->kind == TREE_FILE && id_equal(&removal->file_id, &shape->file_id);
}

uint64_t removals_ended(const struct mount *mount)
{
    return mount->removals->ended;
}

int removals_err(const struct mount *mount)
{
    return mount->is_live ? mount->removals->err : -ENOTCONN;
}

bool removals_add(struct mount *mount, struct inode *inode)
{
    struct removals *removals = mount->removals;
    struct inode *parent = inode->parent;
    const struct bytes name = inode_name(inode);
    /* A directory that nobody made would go with the last thing in it. */
    if (removals->is_ending || removals_err(mount) ||
        removals->added - removals->ended >= QUEUE_MAX || !parent->shape.is_explicit ||
        publish_is_held(mount, inode) || find(mount, parent->number, name)) {
        return false;
    }
    struct removal *removal = mem_alloc(sizeof *removal + sizeof parent->number + name.size);
    removal->parent = parent;
    removal->file_id = inode->shape.file_id;
    removal->key_bytes = sizeof parent->number + name.size;
    memcpy(removal->key, inode->key, removal->key_bytes);
    inodes_pin(parent);
    DL_APPEND(removals->queue, removal);
    HASH_ADD_KEYPTR(by_key, removals->keys, removal->key, removal->key_bytes, removal);
    removals->added++;
    inode->went_here = true;
    inodes_detach(&mount->inodes, inode);
    mount->changes++;
    const uint64_t waiting = removals->added - removals->ended;
    if (waiting == 1 || waiting == PACE_COUNT) {
        pthread_cond_signal(&removals->wake);
    }
    return true;
}

static void end_removal(struct mount *mount, struct removal *removal)
{
    struct removals *removals = mount->removals;
    HASH_DELETE(by_key, removals->keys, removal);
    DL_DELETE(removals->queue, removal);
    removals->ended++;
    inodes_unpin(&mount->inodes, removal->parent);
    free(removal);
}

static void give_up(struct mount *mount, const struct removal *removal, int err)
{
    const struct bytes name = removal_name(removal);
    CLEANUP_FREE char *text = mem_format("%.*s", (int)name.size, (const char *)name.data);
    log_error("mount_remove_failed", KV("name", text), KV("error", err_text(err)));
    mount->removals->has_lost = true;
}

void removals_hurry(struct mount *mount)
{
    mount->removals->is_awaited = true;
    pthread_cond_signal(&mount->removals->wake);
}

int removals_wait(struct mount *mount)
{
    int err = 0;
    pthread_mutex_lock(&mount->lock);
    /* What is queued while this waits is not meant. */
    const uint64_t last = mount->removals->added;
    while (!err && mount->removals->ended < last) {
        err = removals_err(mount);
        if (!err) {
            removals_hurry(mount);
            pthread_cond_wait(&mount->settled, &mount->lock);
        }
    }
    pthread_mutex_unlock(&mount->lock);
    return err;
}

/* ---- sending ----------------------------------------------------------------------------------
 */

/* What JSON makes of it, at most. */
static size_t json_bytes(struct bytes text)
{
    size_t bytes = 0;
    for (size_t i = 0; i < text.size; i++) {
        const uint8_t byte = text.data[i];
        bytes += byte < ' ' ? 6 : byte == '"' || byte == '\\' ? 2 : 1;
    }
    return bytes;
}

/* The body for the first ones of the queue, *ret_count of them. Under mount.lock. */
static char *take_batch(const struct mount *mount, size_t *ret_count)
{
    CLEANUP_BUF struct buf path = BUF_INIT;
    json_t *paths = json_object();
    size_t bytes = 0;
    size_t count = 0;
    for (const struct removal *at = mount->removals->queue; at; at = at->next) {
        char hex[ID_HEX_CHARS + 1];
        const int err = inode_child_path(at->parent, removal_name(at), &path);
        const size_t more = err ? 0 : json_bytes(buf_bytes(&path)) + ITEM_BYTES;
        if (bytes + more > BATCH_BYTES) {
            break;
        }
        count++;
        bytes += more;
        if (err) {
            continue; /* the directory went, and all in it */
        }
        id_format(&at->file_id, hex);
        json_object_setn_new(paths, (const char *)path.data, path.size, json_string(hex));
    }
    json_t *body = json_pack("{s:s,s:o}", "op", "delete", "paths", paths);
    char *text = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    *ret_count = count;
    return text;
}

static bool is_passing(int err)
{
    return err == -ENOTCONN || err == -EIO || err == -ENOSPC;
}

/* Under mount.lock, which is given back meanwhile. */
static void send_batch(struct mount *mount, bool is_last)
{
    struct removals *removals = mount->removals;
    size_t count = 0;
    char *body = take_batch(mount, &count);
    pthread_mutex_unlock(&mount->lock);
    const int err = body ? ask_change(mount, BYTES(NULL, 0), body) : -EILSEQ;
    free(body);
    pthread_mutex_lock(&mount->lock);
    removals->err = is_passing(err) ? err : 0;
    if (!removals->err || is_last) {
        for (; count > 0; count--) {
            if (err) {
                give_up(mount, removals->queue, err);
            }
            end_removal(mount, removals->queue);
        }
        mount->changes++;
    }
    pthread_cond_broadcast(&mount->settled);
}

static void wait_ms(struct mount *mount, uint64_t ms)
{
    struct removals *removals = mount->removals;
    const uint64_t until_us = (clock_monotonic_ms(clock_real()) + ms) * 1000;
    while (!removals->is_ending && clock_wait_until(&removals->wake, &mount->lock, until_us) == 0) {
    }
}

/* Until it is time for the next batch. */
static void wait_for_more(struct mount *mount, uint64_t until_us)
{
    struct removals *removals = mount->removals;
    while (!removals->is_ending && !removals->is_awaited &&
           removals->added - removals->ended < PACE_COUNT &&
           clock_wait_until(&removals->wake, &mount->lock, until_us) == 0) {
    }
}

static void *removals_main(void *context)
{
    struct mount *mount = context;
    struct removals *removals = mount->removals;
    uint64_t next_us = 0;
    pthread_mutex_lock(&mount->lock);
    while (removals->queue || !removals->is_ending) {
        if (!removals->queue) {
            pthread_cond_wait(&removals->wake, &mount->lock);
            continue;
        }
        wait_for_more(mount, next_us);
        removals->is_awaited = false;
        next_us = (clock_monotonic_ms(clock_real()) + PACE_MS) * 1000;
        /* Once more is enough for a node that is gone while the mount ends. */
        const bool is_last = removals->is_ending;
        send_batch(mount, is_last);
        if (removals->err) {
            wait_ms(mount, RETRY_MS);
        }
        while (is_last && removals->err && removals->queue) {
            give_up(mount, removals->queue, removals->err);
            end_removal(mount, removals->queue);
        }
    }
    pthread_cond_broadcast(&mount->settled);
    pthread_mutex_unlock(&mount->lock);
    return NULL;
}

int removals_start(struct mount *mount)
{
    struct removals *removals = mem_alloc(sizeof *removals);
    clock_init_condition(&removals->wake);
    mount->removals = removals;
    if (pthread_create(&removals->thread, NULL, removals_main, mount) != 0) {
        mount->removals = NULL;
        pthread_cond_destroy(&removals->wake);
        free(removals);
        return -EAGAIN;
    }
    return 0;
}

int removals_stop(struct mount *mount)
{
    struct removals *removals = mount->removals;
    if (!removals) {
        return 0;
    }
    pthread_mutex_lock(&mount->lock);
    removals->is_ending = true;
    pthread_cond_signal(&removals->wake);
    pthread_mutex_unlock(&mount->lock);
    pthread_join(removals->thread, NULL);
    const int err = removals->has_lost ? -EIO : 0;
    pthread_cond_destroy(&removals->wake);
    mount->removals = NULL;
    free(removals);
    return err;
}
