/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/notify.h"

#include <jansson.h>
#include <stdlib.h>

#include "base/backoff.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "client/entry.h"
#include "client/sse.h"
#include "fuse/draft.h"
#include "wire/path.h"

/* A node sends a sign of life every 15 s. */
#define SILENCE_MS_MAX UINT64_C(40000)
#define RECONNECT_FIRST_MS 50
#define RECONNECT_LIMIT_MS 1000

struct notifier {
    pthread_t thread;
    struct client *client;
    struct sse sse;
    struct backoff reconnect;
    atomic_bool is_ending;
    bool is_known;          /* whether the node listens; under mount.lock */
    pthread_cond_t changed; /* of that, or of is_ending */
};

/* ---- one change -------------------------------------------------------------------------------
 */

/* What the kernel is to forget. */
struct stale {
    uint64_t parent;
    struct bytes name; /* of the path */
    uint64_t inode;    /* 0: the name; else only what it knows of its mode, time and size */
};

/* Under mount.lock: how the kernel sees `path`, as far as it knows of it. False: it knows nothing
 * wrong. */
static bool find_stale(const struct mount *mount, struct bytes path, const struct shape *shape,
                       const char *target, struct stale *ret_stale)
{
    const struct inode *at = mount->inodes.root;
    struct bytes rest = path;
    while (rest.size > 0) {
        const struct bytes name = path_next(&rest);
        const struct inode *child = inodes_child(&mount->inodes, at, name);
        const bool is_last = rest.size == 0;
        if (!child || (is_last && !child->draft && (!shape || !inode_is(child, shape, target)))) {
            *ret_stale = (struct stale){.parent = at->number, .name = name};
            return true;
        }
        at = child;
    }
    if (!shape || at->draft || at->number == INODE_ROOT ||
        (at->shape.mode == shape->mode && at->shape.mtime_ns == shape->mtime_ns)) {
        return false;
    }
    *ret_stale = (struct stale){.inode = at->number};
    return true;
}

static void forget_path(struct mount *mount, const char *text)
{
    const struct bytes path = bytes_of_string(text);
    struct shape shape;
    CLEANUP_FREE char *target = NULL;
    struct stale stale;
    if (path.size == 0 || path_check(path)) {
        return;
    }
    const int err = look_at(mount, path, &shape, &target);
    if (err && err != -ENOENT) {
        return;
    }
    pthread_mutex_lock(&mount->lock);
    const bool is_stale = find_stale(mount, path, err ? NULL : &shape, target, &stale);
    pthread_mutex_unlock(&mount->lock);
    if (is_stale && stale.inode) {
        fuse_lowlevel_notify_inval_inode(mount->session, stale.inode, -1, 0);
    } else if (is_stale) {
        fuse_lowlevel_notify_inval_entry(mount->session, stale.parent,
                                         (const char *)stale.name.data, stale.name.size);
    }
}

static int on_event(void *context, const struct sse_event *event)
{
    struct mount *mount = context;
    if (!event->data) {
        return 0;
    }
    json_t *change = json_loadb(event->data, event->data_bytes, 0, NULL);
    const char *from = entry_text(change, "from");
    forget_path(mount, entry_text(change, "path"));
    if (*from) {
        forget_path(mount, from);
    }
    json_decref(change);
    return 0;
}

/* ---- the stream -------------------------------------------------------------------------------
 */

static void set_live(struct mount *mount, bool is_live)
{
    struct notifier *notifier = mount->notifier;
    if (mount->is_live && !is_live) {
        log_warn("mount_node_lost", KV("socket", mount->socket_path));
    } else if (!mount->is_live && is_live && notifier->is_known) {
        log_warn("mount_node_back", KV("socket", mount->socket_path));
    }
    pthread_mutex_lock(&mount->lock);
    mount->is_live = is_live;
    notifier->is_known = true;
    pthread_cond_broadcast(&notifier->changed);
    pthread_cond_broadcast(&mount->settled);
    pthread_mutex_unlock(&mount->lock);
}

/* Reads what came. -ECANCELED: the mount ends. */
static int listen_on(struct mount *mount, struct client_stream *stream)
{
    struct notifier *notifier = mount->notifier;
    for (;;) {
        struct bytes data;
        int err = notifier->is_ending ? -ECANCELED : client_stream_read(stream, &data);
        if (!err && data.size == 0) {
            err = -EPIPE;
        }
        if (!err) {
            err = sse_add(&notifier->sse, data, on_event, mount);
        }
        if (err) {
            return err;
        }
    }
}

static void wait_ms(struct mount *mount, uint64_t ms)
{
    struct notifier *notifier = mount->notifier;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    until.tv_sec += (time_t)(ms / 1000) + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&mount->lock);
    while (!notifier->is_ending &&
           pthread_cond_timedwait(&notifier->changed, &mount->lock, &until) == 0) {
    }
    pthread_mutex_unlock(&mount->lock);
}

static void *notifier_main(void *context)
{
    struct mount *mount = context;
    struct notifier *notifier = mount->notifier;
    const struct client_request request = {
        .target = "/watch",
        .headers = {"Accept: text/event-stream"},
        .silence_ms_max = SILENCE_MS_MAX,
        .is_stopped = &notifier->is_ending,
    };
    while (!notifier->is_ending) {
        CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
        struct client_stream *stream = NULL;
        sse_restart(&notifier->sse);
        if (client_stream_open(notifier->client, &request, &response, &stream)) {
            notifier->reconnect.failures = 0;
            set_live(mount, true);
            (void)listen_on(mount, stream);
            client_stream_close(stream);
        }
        if (!notifier->is_ending) {
            set_live(mount, false);
            wait_ms(mount, backoff_next_ms(&notifier->reconnect, 0));
        }
    }
    return NULL;
}

int notifier_start(struct mount *mount)
{
    struct notifier *notifier = mem_alloc(sizeof *notifier);
    notifier->client = client_new_unix(mount->socket_path);
    notifier->sse = SSE_INIT;
    notifier->reconnect =
        (struct backoff){.first_ms = RECONNECT_FIRST_MS, .limit_ms = RECONNECT_LIMIT_MS};
    clock_init_condition(&notifier->changed);
    mount->notifier = notifier;
    if (pthread_create(&notifier->thread, NULL, notifier_main, mount) != 0) {
        client_free(notifier->client);
        free(notifier);
        mount->notifier = NULL;
        return -EAGAIN;
    }
    pthread_mutex_lock(&mount->lock);
    while (!notifier->is_known) {
        pthread_cond_wait(&notifier->changed, &mount->lock);
    }
    pthread_mutex_unlock(&mount->lock);
    return 0;
}

void notifier_stop(struct mount *mount)
{
    struct notifier *notifier = mount->notifier;
    if (!notifier) {
        return;
    }
    pthread_mutex_lock(&mount->lock);
    notifier->is_ending = true;
    pthread_cond_broadcast(&notifier->changed);
    pthread_mutex_unlock(&mount->lock);
    pthread_join(notifier->thread, NULL);
    sse_done(&notifier->sse);
    client_free(notifier->client);
    pthread_cond_destroy(&notifier->changed);
    free(notifier);
    mount->notifier = NULL;
}
