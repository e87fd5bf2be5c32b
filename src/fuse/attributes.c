/* SPDX-License-Identifier: Apache-2.0 */

/* Mode, time, size and extended attributes. */

#include <jansson.h>
#include <stdlib.h>
#include <sys/xattr.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/hex.h"
#include "base/mem.h"
#include "client/entry.h"
#include "fuse/draft.h"
#include "fuse/file.h"
#include "fuse/mount_priv.h"
#include "fuse/publish.h"

#define SET_MODE_TIME (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)

/* Those who have it are all the same here: the owner is who mounted. */
static int check_owner(const struct mount *mount, const struct stat *stat, int which)
{
    const bool is_other = ((which & FUSE_SET_ATTR_UID) && stat->st_uid != mount->uid) ||
                          ((which & FUSE_SET_ATTR_GID) && stat->st_gid != mount->gid);
    return is_other ? -EPERM : 0;
}

static int resize(struct mount *mount, uint64_t number, uint64_t size_bytes)
{
    int err = mount->is_live ? file_resize(mount, number, size_bytes) : -ENOTCONN;
    if (err) {
        return err;
    }
    pthread_mutex_lock(&mount->lock);
    const struct inode *inode = inodes_find(&mount->inodes, number);
    const bool is_closed = inode && inode->writers == 0 && inode->parent;
    pthread_mutex_unlock(&mount->lock);
    /* truncate(2): nobody will close it. */
    if (is_closed) {
        err = publish_closed(mount, number);
    }
    return err;
}

struct set {
    int which;
    uint32_t mode;
    int64_t mtime_ns;
};

/* Under mount.lock: what the node has changed is true of what is written here meanwhile, too. `set`
 * NULL: it was an attribute. */
static void follow_change(struct inode *inode, const struct set *set)
{
    if (!set) {
        inode->shape.has_attributes = true;
        return;
    }
    if (inode->draft && (set->which & FUSE_SET_ATTR_MODE)) {
        inode->shape.mode = set->mode;
    }
}

/* Has the node change mode, time or attributes of what is published. Whatever is written meanwhile
 * is published behind that, or the older ones would come back with it. */
static int change_entry(struct mount *mount, uint64_t number, const char *json,
                        const struct set *set)
{
    CLEANUP_BUF struct buf path = BUF_INIT;
    CLEANUP_BUF struct buf name = BUF_INIT;
    struct busy_name busy = {0};
    pthread_mutex_lock(&mount->lock);
    struct inode *inode = inodes_find(&mount->inodes, number);
    int err = inode ? inode_path(inode, &path) : -ESTALE;
    if (!err && inode->parent) {
        busy.parent = inode->parent->number;
        buf_add(&name, inode_name(inode));
    }
    pthread_mutex_unlock(&mount->lock);
    if (err || path.size == 0) {
        return err ? err : -EPERM; /* the root is no entry */
    }
    busy.name = buf_bytes(&name);
    publish_hold(mount, &busy);
    publish_pause(mount);
    err = ask_change(mount, buf_bytes(&path), json);
    pthread_mutex_lock(&mount->lock);
    inode = inodes_find(&mount->inodes, number);
    if (!err && inode) {
        follow_change(inode, set);
    }
    mount->changes++;
    pthread_mutex_unlock(&mount->lock);
    publish_let_go(mount, &busy);
    return err;
}

/* Of what is only in memory. *ret_here: it was; *ret_closed: nobody will close it. */
static int set_here(struct mount *mount, uint64_t number, const struct stat *stat, int which,
                    struct set *ret_set, bool *ret_here, bool *ret_closed)
{
    pthread_mutex_lock(&mount->lock);
    struct inode *inode = inodes_find(&mount->inodes, number);
    const bool is_here = inode && (inode->draft || (!inode->parent && number != INODE_ROOT));
    if (inode) {
        struct shape shape = inode->shape;
        if (which & FUSE_SET_ATTR_MODE) {
            shape.mode = stat->st_mode & 07777;
        }
        if (which & FUSE_SET_ATTR_MTIME_NOW) {
            shape.mtime_ns = file_now_ns();
        } else if (which & FUSE_SET_ATTR_MTIME) {
            /* Until 2262; beyond that it is the last there is. */
            const int64_t last = INT64_MAX / 1000000000 - 1;
            const int64_t seconds = stat->st_mtim.tv_sec > last    ? last
                                    : stat->st_mtim.tv_sec < -last ? -last
                                                                   : stat->st_mtim.tv_sec;
            shape.mtime_ns = seconds * 1000000000 + stat->st_mtim.tv_nsec;
        }
        *ret_set = (struct set){which, shape.mode, shape.mtime_ns};
        if (is_here) {
            inode->shape = shape;
        }
        if (inode->draft) {
            inode->draft->changed++;
        }
        *ret_closed = inode->draft && inode->writers == 0 && inode->parent;
    }
    pthread_mutex_unlock(&mount->lock);
    *ret_here = is_here;
    return inode ? 0 : -ESTALE;
}

static int set_mode_time(struct mount *mount, uint64_t number, const struct stat *stat, int which)
{
    struct set set;
    bool is_here = false;
    bool is_closed = false;
    int err = set_here(mount, number, stat, which, &set, &is_here, &is_closed);
    if (err || is_here) {
        return !err && is_closed ? publish_closed(mount, number) : err;
    }
    CLEANUP_BUF struct buf json = BUF_INIT;
    buf_add_string(&json, "{\"op\":\"set\"");
    if (which & FUSE_SET_ATTR_MODE) {
        buf_add_format(&json, ",\"mode\":\"%04o\"", set.mode);
    }
    if (which & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)) {
        buf_add_string(&json, ",\"mtime\":\"");
        ask_add_time(&json, set.mtime_ns);
        buf_add_byte(&json, '"');
    }
    buf_add_byte(&json, '}');
    return change_entry(mount, number, buf_string(&json), &set);
}

void on_setattr(fuse_req_t request, fuse_ino_t number, struct stat *stat, int which,
                struct fuse_file_info *info)
{
    (void)info;
    struct mount *mount = mount_of(request);
    struct stat told;
    int err = check_owner(mount, stat, which);
    if (!err && (which & FUSE_SET_ATTR_SIZE)) {
        err = resize(mount, number, (uint64_t)stat->st_size);
    }
    if (!err && (which & SET_MODE_TIME)) {
        err = set_mode_time(mount, number, stat, which);
    }
    if (!err) {
        err = look_again(mount, number, &told);
    }
    if (err) {
        reply(request, err);
    } else {
        fuse_reply_attr(request, &told, CACHE_S);
    }
}

/* Room that is promised is of no use in a tree that is on many disks: only the length counts. */
void on_fallocate(fuse_req_t request, fuse_ino_t number, int mode, off_t offset, off_t length,
                  struct fuse_file_info *info)
{
    (void)info;
    struct mount *mount = mount_of(request);
    struct stat stat;
    int err = mode == 0 ? look_again(mount, number, &stat) : -EOPNOTSUPP;
    if (!err && offset + length > stat.st_size) {
        err = file_resize(mount, number, (uint64_t)(offset + length));
    }
    reply(request, err);
}

/* ---- extended attributes ----------------------------------------------------------------------
 */

#define USER_PREFIX "user."
#define ID_NAME "artel.id"
#define HOLDERS_NAME "artel.holders"

static bool is_user(const char *name)
{
    return strncmp(name, USER_PREFIX, sizeof USER_PREFIX - 1) == 0 &&
           name[sizeof USER_PREFIX - 1] != 0;
}

/* The attributes at `path`, copied into `values`: an op's own form (tree_attribute_next()). */
static int attributes_at(struct mount *mount, uint64_t number, struct buf *values)
{
    CLEANUP_BUF struct buf path = BUF_INIT;
    int err = look_path(mount, number, BYTES(NULL, 0), &path);
    if (err || path.size == 0) {
        return err == -ENOENT ? 0 : err; /* without a name, and the root, it has none */
    }
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    struct tree_entry entry;
    err = kv_read(store_kv(mount->store), &txn);
    if (!err) {
        err = tree_find(mount->tree, txn, buf_bytes(&path), &entry);
    }
    if (!err) {
        buf_add(values, entry.version.attributes);
    }
    return err == -ENOENT || err == -ENOTDIR ? 0 : err;
}

static int find_attribute(struct mount *mount, uint64_t number, const char *name,
                          struct buf *values, struct bytes *ret_value)
{
    const int err = attributes_at(mount, number, values);
    struct bytes left = buf_bytes(values);
    struct tree_attribute attribute;
    while (!err && tree_attribute_next(&left, &attribute)) {
        if (bytes_equal(attribute.name, bytes_of_string(name))) {
            *ret_value = attribute.value;
            return 0;
        }
    }
    return err ? err : -ENODATA;
}

static int id_value(struct mount *mount, uint64_t number, struct buf *value)
{
    pthread_mutex_lock(&mount->lock);
    const struct inode *inode = inodes_find(&mount->inodes, number);
    const bool has = inode && inode->shape.kind == TREE_FILE && !inode->draft;
    const struct id id = has ? inode->shape.file_id : (struct id){0};
    pthread_mutex_unlock(&mount->lock);
    char hex[ID_HEX_CHARS + 1];
    id_format(&id, hex);
    buf_add_string(value, hex);
    return has ? 0 : -ENODATA;
}

/* The names of nodes that have all of it, with blanks between them. */
static int holders_value(struct mount *mount, uint64_t number, struct buf *value)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    CLEANUP_BUF struct buf id = BUF_INIT;
    int err = id_value(mount, number, &id);
    if (err) {
        return err;
    }
    CLEANUP_FREE char *target = mem_format("/locate/%s", buf_string(&id));
    const struct client_request request = {
        .target = target,
        .silence_ms_max = CHANGE_SILENCE_MS_MAX,
    };
    err = ask(mount, &request, &response);
    if (err) {
        return err;
    }
    json_t *body = json_loadb(buf_string(&response.body), response.body.size, 0, NULL);
    size_t at = 0;
    const json_t *holder = NULL;
    json_array_foreach(json_object_get(body, "holders"), at, holder)
    {
        if (strcmp(entry_text(holder, "state"), "complete") == 0) {
            buf_add_format(value, "%s%s", value->size ? " " : "", entry_text(holder, "name"));
        }
    }
    json_decref(body);
    return 0;
}

static void answer_value(fuse_req_t request, struct bytes value, size_t size)
{
    if (size == 0) {
        fuse_reply_xattr(request, value.size);
    } else if (value.size > size) {
        reply(request, -ERANGE);
    } else {
        fuse_reply_buf(request, (const char *)value.data, value.size);
    }
}

void on_getxattr(fuse_req_t request, fuse_ino_t number, const char *name, size_t size)
{
    struct mount *mount = mount_of(request);
    CLEANUP_BUF struct buf values = BUF_INIT;
    struct bytes value = BYTES(NULL, 0);
    int err = -ENODATA;
    if (is_user(name)) {
        err = find_attribute(mount, number, name, &values, &value);
    } else if (strcmp(name, ID_NAME) == 0) {
        err = id_value(mount, number, &values);
        value = buf_bytes(&values);
    } else if (strcmp(name, HOLDERS_NAME) == 0) {
        err = holders_value(mount, number, &values);
        value = buf_bytes(&values);
    }
    if (err) {
        reply(request, err);
    } else {
        answer_value(request, value, size);
    }
}

void on_listxattr(fuse_req_t request, fuse_ino_t number, size_t size)
{
    CLEANUP_BUF struct buf values = BUF_INIT;
    CLEANUP_BUF struct buf names = BUF_INIT;
    const int err = attributes_at(mount_of(request), number, &values);
    struct bytes left = buf_bytes(&values);
    struct tree_attribute attribute;
    while (!err && tree_attribute_next(&left, &attribute)) {
        buf_add(&names, attribute.name);
        buf_add_byte(&names, 0);
    }
    if (err) {
        reply(request, err);
    } else {
        answer_value(request, buf_bytes(&names), size);
    }
}

/* `value` NULL: takes it away. */
static int change_attribute(struct mount *mount, uint64_t number, const char *name,
                            const struct bytes *value)
{
    /* It is one of the entry, which has to be there. */
    int err = publish_now(mount, number);
    if (err) {
        return err;
    }
    CLEANUP_FREE char *hex = value ? mem_alloc(2 * value->size + 1) : NULL;
    if (value) {
        hex_format(value->data, value->size, hex);
    }
    json_t *body = json_pack("{s:s,s:{s:s?}}", "op", "set", "attributes", name, hex);
    char *text = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    err = text ? change_entry(mount, number, text, NULL) : -EILSEQ;
    free(text);
    /* More, or longer, than an entry may have. */
    return err == -EFBIG ? -ENOSPC : err;
}

static int check_change(const char *name)
{
    if (is_user(name)) {
        return strlen(name) > TREE_ATTRIBUTE_NAME_BYTES_MAX ? -ERANGE : 0;
    }
    return strncmp(name, "artel.", 6) == 0 ? -EPERM : -EOPNOTSUPP;
}

void on_setxattr(fuse_req_t request, fuse_ino_t number, const char *name, const char *value,
                 size_t size, int flags)
{
    struct mount *mount = mount_of(request);
    const struct bytes bytes = BYTES((const uint8_t *)value, size);
    int err = check_change(name);
    if (!err && size > TREE_ATTRIBUTE_BYTES_MAX) {
        err = -ENOSPC;
    }
    if (!err && flags) {
        CLEANUP_BUF struct buf values = BUF_INIT;
        struct bytes there;
        err = find_attribute(mount, number, name, &values, &there);
        if (!err && (flags & XATTR_CREATE)) {
            err = -EEXIST;
        } else if (err == -ENODATA && !(flags & XATTR_REPLACE)) {
            err = 0;
        }
    }
    reply(request, err ? err : change_attribute(mount, number, name, &bytes));
}

void on_removexattr(fuse_req_t request, fuse_ino_t number, const char *name)
{
    struct mount *mount = mount_of(request);
    CLEANUP_BUF struct buf values = BUF_INIT;
    struct bytes there;
    int err = check_change(name);
    if (!err) {
        err = find_attribute(mount, number, name, &values, &there);
    }
    reply(request, err ? err : change_attribute(mount, number, name, NULL));
}
