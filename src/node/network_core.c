/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The core thread. libuv runs timers before it looks at the socket; here it has to be the other way
 * round: a process that was paused finds both a backlog of datagrams and timers long overdue, and
 * would take its friends for dead if it did not read their answers first. So nothing is done in the
 * timer's callback. After each look at the socket comes a turn (a check handle), which takes what
 * the link brought, and then does what is due; the timer only ends the waiting.
 */

#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "link/message.h"
#include "node/fetch_priv.h"
#include "node/network_priv.h"
#include "node/replica_priv.h"

/* A tick so late is not made while datagrams keep coming in, for so many turns at most: each takes
 * some hundred of them. */
#define LATE_US 100000u
#define TURNS_BEHIND_MAX 200u
/* The wall clock was set when it has moved against ours by more. */
#define WALL_STEP_US 1000000
/* Events in the log: more in this time are only counted. */
#define LOG_WINDOW_US 1000000u
#define LOG_LINES_MAX 50u
#define EVENTS_AT_ONCE 16u

/* ---- what the cluster asks --------------------------------------------------------------------
 */

static void host_datagram(void *context, const struct address *to, struct bytes datagram)
{
    struct network *network = context;
    udp_send(network->udp, to, datagram);
}

static void host_message(void *context, const struct node_id *to, const struct address *address,
                         struct bytes bytes)
{
    struct network *network = context;
    const struct link_message message = {
        .peer = *to,
        .address = *address,
        .service = SERVICE_MEMBERS,
        .bytes = bytes,
    };
    const int err = link_send_message(network->link, &message);
    if (err) {
        log_debug("member_message_dropped", KV("error", err_name(err)));
    }
}

/* Wall time is for people; it shall not flicker with the two clocks' drift. */
static void follow_wall_clock(struct network *network)
{
    const int64_t offset_us =
        clock_wall_ms(node_clock(network->node)) * 1000 - (int64_t)network_now_us();
    const int64_t step_us = offset_us - network->wall_offset_us;
    if (step_us > WALL_STEP_US || step_us < -WALL_STEP_US) {
        network->wall_offset_us = offset_us;
    }
}

static void host_event(void *context, const struct cluster_event *event)
{
    struct network *network = context;
    switch (event->kind) {
    case CLUSTER_INCARNATION:
        network->save.is_urgent = true;
        return;
    case CLUSTER_CONFLICT:
        network->has_conflict = true;
        network->conflict_address = event->other;
        return;
    case CLUSTER_LEAVE_DONE:
        network->has_left = true;
        return;
    default:
        break;
    }
    if (network->is_restoring) {
        return;
    }
    network->members_changed = true;
    follow_wall_clock(network);
    struct member_event kept = {
        .wall_ms = clock_wall_ms(node_clock(network->node)),
        .kind = event->kind,
    };
    member_info_init(&kept.member, event->member, network->wall_offset_us);
    member_events_add(network->events, &kept);
}

static struct told *told_by(struct network *network, const struct node_id *member)
{
    struct told *oldest = &network->told[0];
    for (size_t i = 0; i < TOLD_MAX; i++) {
        struct told *told = &network->told[i];
        if (told->at_us != 0 && node_id_equal(&told->id, member)) {
            return told;
        }
        if (told->at_us < oldest->at_us) {
            oldest = told;
        }
    }
    *oldest = (struct told){.id = *member};
    return oldest;
}

/* The replica is told of what differs from ours, again and again, and of every change. */
static void host_digests(void *context, const struct node_id *member, const struct digests *digests)
{
    struct network *network = context;
    struct told *told = told_by(network, member);
    const bool has_same =
        digests->vector == network->own.vector && digests->tree == network->own.tree;
    if (!has_same || !told->had_same_tree || digests->vector != told->digests.vector ||
        digests->tree != told->digests.tree) {
        replica_put_digests(network->replica, member, digests);
    }
    *told = (struct told){*member, *digests, network_now_us(), has_same};
}

static void host_broadcast(void *context, const struct node_id *from, uint8_t kind,
                           struct bytes payload)
{
    struct network *network = context;
    if (kind == DATAGRAM_PAYLOAD_TREE) {
        replica_put_broadcast(network->replica, from, payload);
    } else if (kind == DATAGRAM_PAYLOAD_LOCATE) {
        fetch_put_broadcast(network->fetch, from, payload);
    }
}

struct cluster_host network_host(struct network *network)
{
    return (struct cluster_host){
        .send_datagram = host_datagram,
        .send_message = host_message,
        .event = host_event,
        .digests = host_digests,
        .broadcast = host_broadcast,
        .context = network,
    };
}

/* ---- what arrives -----------------------------------------------------------------------------
 */

void network_received(void *context, const struct address *from, struct bytes bytes)
{
    struct network *network = context;
    network->datagrams_in_turn++;
    pthread_mutex_lock(&network->lock);
    cluster_receive_datagram(network->cluster, network_now_us(), from, bytes);
    pthread_mutex_unlock(&network->lock);
}

/* On a thread of the link. */
void network_message(void *context, const struct link_peer *peer, struct bytes bytes)
{
    struct network *network = context;
    if (inbox_put(network->inbox, 0, &peer->id, bytes)) {
        uv_async_send(&network->wake);
    }
}

/* Likewise. */
void network_tree_message(void *context, const struct link_peer *peer, struct bytes bytes)
{
    struct network *network = context;
    replica_put_message(network->replica, &peer->id, bytes);
}

/* Likewise. */
void network_locate_message(void *context, const struct link_peer *peer, struct bytes bytes)
{
    struct network *network = context;
    fetch_put_message(network->fetch, &peer->id, bytes);
}

/* Likewise. */
void network_keep_message(void *context, const struct link_peer *peer, struct bytes bytes)
{
    struct network *network = context;
    fetch_put_keep_message(network->fetch, &peer->id, bytes);
}

void network_seeds_found(void *context, const struct address *addresses, size_t count)
{
    struct network *network = context;
    log_info("seeds_found", KV("addresses", (uint64_t)count));
    pthread_mutex_lock(&network->lock);
    cluster_set_seeds(network->cluster, addresses, count);
    pthread_mutex_unlock(&network->lock);
}

static void take_messages(struct network *network)
{
    struct inbox_message *message = inbox_take(network->inbox);
    while (message) {
        pthread_mutex_lock(&network->lock);
        cluster_receive_message(network->cluster, network_now_us(), &message->from,
                                BYTES(message->bytes, message->size));
        pthread_mutex_unlock(&network->lock);
        message = inbox_next(message);
    }
}

static void take_broadcasts(struct network *network)
{
    struct inbox_message *message = inbox_take(network->outbox);
    while (message) {
        pthread_mutex_lock(&network->lock);
        cluster_broadcast(network->cluster, network_now_us(), message->kind,
                          BYTES(message->bytes, message->size));
        pthread_mutex_unlock(&network->lock);
        message = inbox_next(message);
    }
}

/* ---- what is due ------------------------------------------------------------------------------
 */

static void look_up_due(struct network *network, uint64_t now_us)
{
    if (!network->seeds || now_us < network->look_up_us) {
        return;
    }
    const uint64_t pause_ms =
        cluster_is_alone(network->cluster) ? NETWORK_LOOK_UP_ALONE_MS : NETWORK_LOOK_UP_MS;
    network->look_up_us = now_us + pause_ms * 1000;
    seeds_look_up(network->seeds);
}

static void leave_due(struct network *network)
{
    pthread_mutex_lock(&network->ask_lock);
    const enum member_status status = network->leave_as;
    const bool begins = status != 0 && !network->leave_is_begun;
    network->leave_is_begun |= begins;
    pthread_mutex_unlock(&network->ask_lock);
    /* A copy of another node has no right to say that it is gone. */
    if (begins && !network->has_conflict) {
        pthread_mutex_lock(&network->lock);
        cluster_leave(network->cluster, network_now_us(), status);
        pthread_mutex_unlock(&network->lock);
    }
}

/* Nobody is left waiting. */
static void answer_leavers(struct network *network)
{
    pthread_mutex_lock(&network->ask_lock);
    struct leaver *leaver = network->leavers;
    network->leavers = NULL;
    pthread_mutex_unlock(&network->ask_lock);
    while (leaver) {
        struct leaver *next = leaver->next;
        leaver->done(leaver->context);
        free(leaver);
        leaver = next;
    }
}

static void end_once(struct network *network, enum network_end why)
{
    if (network->has_ended) {
        return;
    }
    network->has_ended = true;
    if (network->ended) {
        network->ended(network->ended_context, why,
                       why == NETWORK_CONFLICT ? &network->conflict_address : NULL);
    }
}

static void ends_due(struct network *network)
{
    if (network->has_conflict && !network->has_ended) {
        char other[ADDRESS_TEXT_CHARS + 1];
        address_format(&network->conflict_address, other);
        log_error("identity_conflict", KV("other", (const char *)other));
        end_once(network, NETWORK_CONFLICT);
    }
    if (!network->has_left && !network->has_conflict) {
        return;
    }
    answer_leavers(network);
    pthread_mutex_lock(&network->ask_lock);
    const bool for_good = network->leave_is_begun && network->leave_as == MEMBER_LEFT;
    pthread_mutex_unlock(&network->ask_lock);
    if (for_good && !network->has_ended) {
        log_info("network_left", KV("data", node_data(network->node)));
        end_once(network, NETWORK_LEFT);
    }
}

/* Thousands of events come at once when a node joins a large network. */
static bool may_log(struct network *network)
{
    const uint64_t now_us = network_now_us();
    if (now_us - network->log_window_us >= LOG_WINDOW_US) {
        if (network->log_lines > LOG_LINES_MAX) {
            log_info("more_member_events", KV("not_logged", network->log_lines - LOG_LINES_MAX));
        }
        network->log_window_us = now_us;
        network->log_lines = 0;
    }
    return ++network->log_lines <= LOG_LINES_MAX;
}

static void log_event(struct network *network, const struct member_event *event)
{
    if (!may_log(network)) {
        return;
    }
    const struct member_info *member = &event->member;
    char id[NODE_ID_HEX_CHARS + 1];
    char address[ADDRESS_TEXT_CHARS + 1];
    node_id_format(&member->id, id);
    address_format(&member->address, address);
    log_info(member_event_name(event->kind), KV("member", (const char *)id),
             KV("name", (const char *)member->name), KV("zone", (const char *)member->zone),
             KV("address", (const char *)address), KV("incarnation", member->version.incarnation));
}

/* What happened since the last turn goes to the log and to the listener, without the lock. */
static void tell_events(struct network *network)
{
    struct member_event events[EVENTS_AT_ONCE];
    uint64_t missed = 0;
    size_t count = 0;
    bool is_new = false;
    do {
        count = member_events_read(network->events, &network->told_events, events,
                                   ARRAY_SIZE(events), &missed);
        for (size_t i = 0; i < count; i++) {
            log_event(network, &events[i]);
        }
        is_new |= count > 0;
    } while (count == ARRAY_SIZE(events));
    if (is_new) {
        pthread_mutex_lock(&network->listen_lock);
        if (network->changed) {
            network->changed(network->changed_context);
        }
        pthread_mutex_unlock(&network->listen_lock);
    }
}

static void wait_again(uv_idle_t *idle)
{
    (void)idle;
}

/* True if a tick is late and there may be datagrams left that should come before it. */
static bool is_behind(struct network *network, uint64_t now_us)
{
    const uint64_t due_us = cluster_next_us(network->cluster);
    const bool behind = now_us > due_us && now_us - due_us > LATE_US &&
                        network->datagrams_in_turn > 0 && network->turns_behind < TURNS_BEHIND_MAX;
    network->turns_behind = behind ? network->turns_behind + 1 : 0;
    network->datagrams_in_turn = 0;
    return behind;
}

static void on_timer(uv_timer_t *timer)
{
    /* The loop shall not wait now, but come to its turn. */
    struct network *network = timer->data;
    uv_idle_start(&network->again, wait_again);
}

static void set_timer(struct network *network)
{
    uint64_t next_us = cluster_next_us(network->cluster);
    const uint64_t save_us = network_save_next_us(network);
    next_us = save_us < next_us ? save_us : next_us;
    if (network->seeds && network->look_up_us < next_us) {
        next_us = network->look_up_us;
    }
    const uint64_t now_us = network_now_us();
    /* Rounded up: a tick before its time does nothing. */
    const uint64_t wait_ms = next_us <= now_us ? 0 : (next_us - now_us + 999) / 1000;
    if (next_us == UINT64_MAX) {
        uv_timer_stop(&network->timer);
        return;
    }
    uv_update_time(&network->loop);
    uv_timer_start(&network->timer, on_timer, wait_ms, 0);
}

void network_turn(struct network *network)
{
    uv_idle_stop(&network->again);
    if (network->stopping) {
        uv_stop(&network->loop);
        return;
    }
    take_messages(network);
    take_broadcasts(network);
    leave_due(network);
    const uint64_t now_us = network_now_us();
    if (is_behind(network, now_us)) {
        uv_idle_start(&network->again, wait_again);
        return;
    }
    pthread_mutex_lock(&network->lock);
    follow_wall_clock(network);
    cluster_tick(network->cluster, now_us);
    pthread_mutex_unlock(&network->lock);
    look_up_due(network, now_us);
    network_save_due(network, now_us);
    tell_events(network);
    if (network->members_changed) {
        network->members_changed = false;
        fetch_members_changed(network->fetch);
    }
    ends_due(network);
    set_timer(network);
}
