/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The file `members`: written by a worker when the roster has changed, at most once in
 * NETWORK_SAVE_MS, since a change more or less costs nothing: it only tells whom to ask after a
 * restart. A new incarnation is kept at once. If that fails or comes too late, a restart takes one
 * that others know already; they say so, and the node goes beyond it.
 */

#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "node/network_priv.h"

static void move_aside(struct network *network, int err)
{
    const int aside_err = members_file_move_aside(network->dir_fd);
    log_warn("members_file_damaged", KV("data", node_data(network->node)),
             KV("error", err_name(err)), KV("moved_to", MEMBERS_FILE_ASIDE),
             KV("move_error", aside_err ? err_name(aside_err) : NULL));
}

void network_load(struct network *network, struct buf *buf, uint64_t *ret_incarnation,
                  struct bytes *ret_roster)
{
    struct members_file file = {0};
    int err = members_file_load(network->dir_fd, buf, &file);
    if (err && err != -ENOENT) {
        move_aside(network, err);
    }
    file.incarnation++;
    err = members_file_store(network->dir_fd, &file);
    if (err) {
        /* A full disk: it can be read from all the same. */
        log_warn("members_file_not_written", KV("error", err_name(err)));
    }
    *ret_incarnation = file.incarnation;
    *ret_roster = file.roster;
}

static uint64_t own_incarnation(const struct network *network)
{
    struct cluster_member self;
    CHECK(cluster_find(network->cluster, node_identity(network->node), &self));
    return self.record.version.incarnation;
}

void network_restore(struct network *network, uint64_t now_us, struct bytes roster)
{
    network->is_restoring = true;
    int err = roster.size > 0 ? cluster_restore(network->cluster, now_us, roster) : 0;
    network->is_restoring = false;
    if (err) {
        move_aside(network, err);
        const struct members_file file = {.incarnation = own_incarnation(network)};
        err = members_file_store(network->dir_fd, &file);
        if (err) {
            log_warn("members_file_not_written", KV("error", err_name(err)));
        }
    }
    network->save.change_count = cluster_change_count(network->cluster);
}

/* On a worker. */
static void write_file(uv_work_t *work)
{
    struct network *network = work->data;
    const struct members_file file = {
        .incarnation = network->save.incarnation,
        .roster = buf_bytes(&network->save.roster),
    };
    network->save.err = members_file_store(network->dir_fd, &file);
}

static void account(struct network *network)
{
    struct save *save = &network->save;
    network->saves += save->err == 0;
    network->saves_failed += save->err != 0;
    if (save->err && !save->is_failing) {
        log_warn("members_file_not_written", KV("error", err_name(save->err)));
    }
    save->is_failing = save->err != 0;
}

static void written(uv_work_t *work, int status)
{
    struct network *network = work->data;
    network->save.is_under_way = false;
    if (status == 0) {
        account(network);
    }
}

static void take(struct network *network)
{
    struct save *save = &network->save;
    buf_clear(&save->roster);
    cluster_save(network->cluster, &save->roster);
    save->incarnation = own_incarnation(network);
    save->change_count = cluster_change_count(network->cluster);
    save->is_urgent = false;
}

uint64_t network_save_next_us(const struct network *network)
{
    const struct save *save = &network->save;
    if (save->is_under_way) {
        return UINT64_MAX;
    }
    if (save->is_urgent) {
        return 0;
    }
    return cluster_change_count(network->cluster) != save->change_count ? save->due_us : UINT64_MAX;
}

void network_save_due(struct network *network, uint64_t now_us)
{
    struct save *save = &network->save;
    if (now_us < network_save_next_us(network)) {
        return;
    }
    take(network);
    save->due_us = now_us + (uint64_t)NETWORK_SAVE_MS * 1000;
    save->work.data = network;
    save->is_under_way = uv_queue_work(&network->loop, &save->work, write_file, written) == 0;
}

void network_save_last(struct network *network)
{
    take(network);
    network->save.work.data = network;
    write_file(&network->save.work);
    account(network);
}
