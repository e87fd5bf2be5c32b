/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What happens on a host: the node starts and ends, gets what arrives and its ticks, sends and
 * tells.
 */

#include <stdlib.h>

#include "base/codec.h"
#include "base/mem.h"
#include "sim/world_priv.h"

/* A protocol that is due again at once would stop the time; loops of events have timers of a
 * millisecond. */
#define TICK_US_MIN SIM_US_PER_MS

/* A sum that depends on the order; a multiplication for eight bytes. */
static void trace_number(struct sim_world *world, uint64_t number)
{
    const uint64_t mixed = (world->trace ^ number) * 0x9e3779b97f4a7c15;
    world->trace = mixed ^ (mixed >> 29);
}

static void trace_bytes(struct sim_world *world, struct bytes bytes)
{
    size_t at = 0;
    for (; at + 8 <= bytes.size; at += 8) {
        trace_number(world, codec_get_le64(bytes.data + at));
    }
    uint64_t rest = bytes.size;
    for (; at < bytes.size; at++) {
        rest = rest << 8 | bytes.data[at];
    }
    trace_number(world, rest);
}

static void trace_arrival(struct sim_world *world, uint32_t from, uint32_t to, struct bytes bytes)
{
    trace_number(world, sim_engine_now_us(world->engine));
    trace_number(world, (uint64_t)from << 32 | to);
    trace_bytes(world, bytes);
}

/* What the clock of a host shows. */
static uint64_t local_us(const struct sim_world *world, const struct host *host)
{
    const int64_t now_us = (int64_t)sim_engine_now_us(world->engine);
    const int64_t drift_us = now_us / 1000000 * host->clock_drift_ppm +
                             now_us % 1000000 * host->clock_drift_ppm / 1000000;
    return (uint64_t)(now_us + drift_us + host->clock_offset_ms * 1000) + CLOCK_BEGIN_MS * 1000;
}

/* How long it takes the world until the clock of a host has gone on by so much. */
static uint64_t world_us(const struct host *host, uint64_t by_us)
{
    const uint64_t speed_ppm = (uint64_t)(INT64_C(1000000) + host->clock_drift_ppm);
    return by_us / speed_ppm * 1000000 + (by_us % speed_ppm * 1000000 + speed_ppm - 1) / speed_ppm;
}

static void on_tick(void *context, uint64_t argument);

/* Plans the tick that the node wants, unless an earlier one is planned. */
static void arm(struct sim_world *world, struct host *host, bool has_ticked)
{
    const uint64_t now_us = sim_engine_now_us(world->engine);
    const uint64_t local_now_us = local_us(world, host);
    const uint64_t next_us = world->protocol->next_us(host->node);
    if (next_us == UINT64_MAX) {
        return;
    }
    uint64_t in_us = next_us > local_now_us ? next_us - local_now_us : 0;
    if (host->clock_drift_ppm != 0) {
        in_us = world_us(host, in_us);
    }
    if (has_ticked && in_us < TICK_US_MIN) {
        in_us = TICK_US_MIN;
    }
    if (now_us + in_us < host->tick_at_us) {
        host->tick_at_us = now_us + in_us;
        sim_engine_at(world->engine, host->tick_at_us, on_tick, world,
                      (uint64_t)(host - world->hosts));
    }
}

static void on_tick(void *context, uint64_t argument)
{
    struct sim_world *world = context;
    struct host *host = world_host(world, (uint32_t)argument);
    if (host->tick_at_us != sim_engine_now_us(world->engine)) {
        return; /* another one was planned instead */
    }
    host->tick_at_us = SIM_TIME_MAX;
    if (!sim_world_is_up(world, (uint32_t)argument)) {
        return;
    }
    const uint64_t now_us = local_us(world, host);
    const bool is_due = world->protocol->next_us(host->node) <= now_us;
    if (is_due) {
        world->protocol->tick(host->node, now_us);
    }
    arm(world, host, is_due);
}

static void hand_over(struct sim_world *world, struct host *host, const struct packet *packet)
{
    const struct bytes bytes = BYTES(packet->data, packet->size_bytes);
    const uint64_t now_us = local_us(world, host);
    if (packet->is_message) {
        host->traffic.messages_received++;
        host->traffic.message_bytes_received += packet->wire_bytes;
        world->protocol->receive_message(host->node, now_us, packet->from, packet->from_identity,
                                         bytes);
    } else {
        host->traffic.datagrams_received++;
        host->traffic.datagram_bytes_received += packet->wire_bytes + SIM_HEADER_BYTES;
        world->protocol->receive_datagram(host->node, now_us, packet->from, bytes);
    }
}

static void add_waiting(struct host *host, struct packet *packet)
{
    if (host->waiting_last) {
        host->waiting_last->next = packet;
    } else {
        host->waiting = packet;
    }
    host->waiting_last = packet;
    if (packet->is_message) {
        host->messages_waiting_bytes += packet->size_bytes;
    } else {
        host->datagrams_waiting_bytes += packet->size_bytes + SIM_SOCKET_DATAGRAM_BYTES;
    }
}

static struct packet *take_waiting(struct host *host)
{
    struct packet *packet = host->waiting;
    if (packet) {
        host->waiting = packet->next;
        host->waiting_last = packet->next ? host->waiting_last : NULL;
    }
    return packet;
}

static void on_datagram(void *context, uint64_t argument)
{
    struct sim_world *world = context;
    struct packet *packet = (struct packet *)(uintptr_t)argument;
    struct host *host = world_host(world, packet->to);
    trace_arrival(world, packet->from, packet->to, BYTES(packet->data, packet->size_bytes));
    if (host->state == SIM_PAUSED) {
        if (host->datagrams_waiting_bytes + packet->size_bytes + SIM_SOCKET_DATAGRAM_BYTES <=
            SIM_SOCKET_BYTES) {
            add_waiting(host, packet);
            return;
        }
        host->traffic.datagrams_dropped++;
    } else if (sim_world_is_up(world, packet->to)) {
        hand_over(world, host, packet);
        arm(world, host, false);
    }
    packet_free(&world->packets, packet);
}

enum sim_stream_answer world_deliver_message(void *context, uint32_t from, uint32_t to,
                                             struct bytes message, uint64_t wire_bytes)
{
    struct sim_world *world = context;
    struct host *host = world_host(world, to);
    const bool is_paused = host->state == SIM_PAUSED;
    if (!is_paused && !sim_world_is_up(world, to)) {
        return SIM_STREAM_DEAD;
    }
    if (is_paused && host->messages_waiting_bytes + message.size > STREAM_BUFFER_BYTES) {
        return SIM_STREAM_FULL;
    }
    trace_arrival(world, from, to, message);
    struct packet *packet = packet_new(&world->packets, message);
    packet->from = from;
    packet->to = to;
    packet->from_identity = world_host(world, from)->identity;
    packet->wire_bytes = wire_bytes;
    packet->is_message = true;
    if (is_paused) {
        add_waiting(host, packet);
        return SIM_STREAM_TAKEN;
    }
    hand_over(world, host, packet);
    packet_free(&world->packets, packet);
    arm(world, host, false);
    return SIM_STREAM_TAKEN;
}

uint32_t world_life(void *context, uint32_t slot)
{
    return world_host(context, slot)->lives;
}

void world_end_node(struct sim_world *world, struct host *host, enum sim_state state)
{
    struct packet *packet;
    while ((packet = take_waiting(host)) != NULL) {
        packet_free(&world->packets, packet);
    }
    host->datagrams_waiting_bytes = 0;
    host->messages_waiting_bytes = 0;
    if (host->node) {
        world->protocol->node_free(host->node);
        host->node = NULL;
    }
    host->tick_at_us = SIM_TIME_MAX;
    host->state = state;
}

void sim_world_start(struct sim_world *world, uint32_t slot, enum sim_disk disk)
{
    struct host *host = world_host(world, slot);
    CHECK(!host->node);
    if (disk == SIM_DISK_LOST) {
        disk_wipe(&world->disks, &host->disk);
    } else if (disk == SIM_DISK_ROLLED_BACK) {
        disk_copy(&world->disks, &host->disk, &host->snapshot);
    }
    static const char *const disks[] = {[SIM_DISK_KEPT] = "starts",
                                        [SIM_DISK_LOST] = "starts-without-disk",
                                        [SIM_DISK_ROLLED_BACK] = "starts-with-old-disk",
                                        [SIM_DISK_TORN] = "starts-with-torn-disk"};
    world_log(world, slot, disks[disk], UINT32_MAX);
    host->disk.incarnation++;
    host->lives++;
    host->state = SIM_RUNNING;
    const struct sim_birth birth = {
        .world = world,
        .shared = world->shared,
        .slot = slot,
        .identity = host->identity,
        .boot_nonce = random_u64(&world->births) | 1,
        .incarnation = host->disk.incarnation,
        .random_seed = random_u64(&world->births),
        .seeds = host->seeds,
        .seeds_count = host->seeds_count,
        .roster = disk_roster(&host->disk),
        .disk = disk,
    };
    trace_number(world, sim_engine_now_us(world->engine) ^ slot);
    host->node = world->protocol->node_new(&birth, local_us(world, host));
    arm(world, host, false);
}

static void save(struct sim_world *world, struct host *host)
{
    CLEANUP_BUF struct buf roster = BUF_INIT;
    world->protocol->save(host->node, &roster);
    disk_set_roster(&world->disks, &host->disk, buf_bytes(&roster));
}

void sim_world_crash(struct sim_world *world, uint32_t slot)
{
    struct host *host = world_host(world, slot);
    CHECK(host->node);
    world_log(world, slot, "crashes", UINT32_MAX);
    /* As a node does that saves whenever its list changed. */
    save(world, host);
    world_end_node(world, host, SIM_CRASHED);
}

void sim_world_pause(struct sim_world *world, uint32_t slot)
{
    struct host *host = world_host(world, slot);
    CHECK(host->state == SIM_RUNNING);
    world_log(world, slot, "pauses", UINT32_MAX);
    host->state = SIM_PAUSED;
}

void sim_world_resume(struct sim_world *world, uint32_t slot)
{
    struct host *host = world_host(world, slot);
    CHECK(host->state == SIM_PAUSED);
    world_log(world, slot, "resumes", UINT32_MAX);
    host->state = SIM_RUNNING;
    host->datagrams_waiting_bytes = 0;
    host->messages_waiting_bytes = 0;
    struct packet *packet;
    while ((packet = take_waiting(host)) != NULL) {
        hand_over(world, host, packet);
        packet_free(&world->packets, packet);
    }
    host->tick_at_us = SIM_TIME_MAX;
    const uint64_t now_us = local_us(world, host);
    if (world->protocol->next_us(host->node) <= now_us) {
        world->protocol->tick(host->node, now_us);
    }
    arm(world, host, true);
}

void sim_world_leave(struct sim_world *world, uint32_t slot)
{
    struct host *host = world_host(world, slot);
    CHECK(host->state == SIM_RUNNING);
    world_log(world, slot, "leaves", UINT32_MAX);
    host->state = SIM_LEAVING;
    save(world, host);
    world->protocol->leave(host->node, local_us(world, host));
    arm(world, host, false);
}

void sim_world_broadcast(struct sim_world *world, uint32_t slot)
{
    struct host *host = world_host(world, slot);
    CHECK(host->state == SIM_RUNNING);
    world->protocol->broadcast(host->node, local_us(world, host));
    arm(world, host, false);
}

void sim_world_call(struct sim_world *world, uint32_t slot,
                    void (*call)(void *context, void *node, uint64_t now_us), void *context)
{
    struct host *host = world_host(world, slot);
    CHECK(sim_world_is_up(world, slot));
    call(context, host->node, local_us(world, host));
    arm(world, host, false);
}

static void carry_datagram(struct sim_world *world, uint32_t from, uint32_t to,
                           struct bytes datagram, uint64_t wire_bytes)
{
    if (to >= world->hosts_count) {
        return;
    }
    uint64_t delays_us[SIM_COPIES_MAX];
    const size_t copies = sim_network_route(world->network, from, to, delays_us);
    for (size_t i = 0; i < copies; i++) {
        struct packet *packet = packet_new(&world->packets, datagram);
        packet->from = from;
        packet->to = to;
        packet->wire_bytes = wire_bytes;
        packet->is_message = false;
        sim_engine_at(world->engine, sim_engine_now_us(world->engine) + delays_us[i], on_datagram,
                      world, (uint64_t)(uintptr_t)packet);
    }
}

void sim_world_inject(struct sim_world *world, uint32_t from, uint32_t to, struct bytes datagram)
{
    CHECK(datagram.size <= PACKET_BYTES_MAX && from < world->hosts_count);
    carry_datagram(world, from, to, datagram, datagram.size);
}

/* A bucket of tokens. */
static bool is_storm(const struct sim_world *world, struct host *host)
{
    const uint64_t now_us = sim_engine_now_us(world->engine);
    const uint64_t more = (now_us - host->storm_us) * SIM_STORM_DATAGRAMS / SIM_US_PER_S;
    if (more > 0) {
        host->storm_left += more;
        host->storm_us = now_us;
    }
    if (host->storm_left > SIM_STORM_DATAGRAMS) {
        host->storm_left = SIM_STORM_DATAGRAMS;
    }
    if (host->storm_left == 0) {
        return true;
    }
    host->storm_left--;
    return false;
}

void sim_send_datagram(struct sim_world *world, uint32_t from, uint32_t to, struct bytes datagram,
                       uint64_t wire_bytes)
{
    CHECK(datagram.size <= PACKET_BYTES_MAX);
    struct host *host = world_host(world, from);
    struct sim_traffic *traffic = &host->traffic;
    if (is_storm(world, host)) {
        traffic->datagrams_stormed++;
        return;
    }
    traffic->datagrams_sent++;
    traffic->datagram_bytes_sent += wire_bytes + SIM_HEADER_BYTES;
    if (world->tap) {
        world->tap(world->tap_context, from, to, datagram);
    }
    carry_datagram(world, from, to, datagram, wire_bytes);
}

void sim_send_message(struct sim_world *world, uint32_t from, uint32_t to, struct bytes message,
                      uint64_t wire_bytes)
{
    struct sim_traffic *traffic = &world_host(world, from)->traffic;
    traffic->messages_sent++;
    traffic->message_bytes_sent += wire_bytes;
    if (to < world->hosts_count) {
        sim_stream_send(world->streams, from, to, message, wire_bytes);
    }
}

static void end_later(void *context, uint64_t argument)
{
    struct sim_world *world = context;
    struct host *host = world_host(world, (uint32_t)argument);
    if (host->node) {
        world_end_node(world, host, host->state == SIM_LEAVING ? SIM_LEFT : SIM_STOPPED);
    }
}

void sim_tell(struct sim_world *world, uint32_t slot, enum sim_news news, uint32_t identity,
              uint64_t value)
{
    struct host *host = world_host(world, slot);
    static const char *const names[] = {
        [SIM_SEES_ALIVE] = "sees-alive",   [SIM_SEES_UNREACHABLE] = "sees-unreachable",
        [SIM_SEES_LEFT] = "sees-left",     [SIM_SEES_FORGOTTEN] = "forgets",
        [SIM_RING_ENTERED] = "ring-with",  [SIM_RING_LEFT] = "ring-without",
        [SIM_ISOLATED] = "is-isolated",    [SIM_CONNECTED] = "is-connected",
        [SIM_INCARNATION] = "incarnation", [SIM_CONFLICT] = "conflict",
        [SIM_LEAVE_DONE] = "leave-done",   [SIM_HEARD] = "hears",
    };
    world_log(world, slot, names[news], news == SIM_INCARNATION ? (uint32_t)value : identity);
    trace_number(world, (uint64_t)slot << 32 | (uint64_t)identity << 8 | news);
    if (news == SIM_INCARNATION && value > host->disk.incarnation) {
        host->disk.incarnation = value;
    }
    if (news == SIM_CONFLICT || (news == SIM_LEAVE_DONE && host->state == SIM_LEAVING)) {
        sim_engine_at(world->engine, 0, end_later, world, slot);
    }
    for (size_t i = 0; i < world->observers_count; i++) {
        world->observers[i].news(world->observers[i].context, slot, news, identity);
    }
}
