/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "sim/world.h"

/*
 * A protocol that does nothing but write down what it is told: each datagram, message and tick,
 * with the time of its own clock.
 */

#define SLOTS 8u
#define NOTES_MAX 1024u
#define PERIOD_US (10 * SIM_US_PER_MS)

enum kind { TICK = 't', DATAGRAM = 'd', MESSAGE = 'm' };

struct note {
    enum kind kind;
    uint64_t now_us;
    uint32_t from;
    size_t size_bytes;
    uint8_t first;
};

struct recorder {
    struct sim_world *world;
    uint32_t slot;
    uint64_t incarnation;
    size_t roster_bytes;
    uint64_t next_us;
    uint64_t period_us;
    size_t notes_count;
    struct note notes[NOTES_MAX];
};

static void *node_new(const struct sim_birth *birth, uint64_t now_us)
{
    struct recorder *recorder = mem_alloc(sizeof *recorder);
    recorder->world = birth->world;
    recorder->slot = birth->slot;
    recorder->incarnation = birth->incarnation;
    recorder->roster_bytes = birth->roster.size;
    recorder->period_us = PERIOD_US;
    recorder->next_us = now_us + PERIOD_US;
    return recorder;
}

static struct note *add_note(struct recorder *recorder, enum kind kind, uint64_t now_us)
{
    assert_true(recorder->notes_count < NOTES_MAX);
    struct note *note = &recorder->notes[recorder->notes_count++];
    *note = (struct note){.kind = kind, .now_us = now_us};
    return note;
}

static void receive_datagram(void *node, uint64_t now_us, uint32_t from_slot, struct bytes datagram)
{
    struct note *note = add_note(node, DATAGRAM, now_us);
    note->from = from_slot;
    note->size_bytes = datagram.size;
    note->first = datagram.size ? datagram.data[0] : 0;
}

static void receive_message(void *node, uint64_t now_us, uint32_t from_slot, uint32_t from_identity,
                            struct bytes message)
{
    struct note *note = add_note(node, MESSAGE, now_us);
    (void)from_identity;
    note->from = from_slot;
    note->size_bytes = message.size;
}

static void tick(void *node, uint64_t now_us)
{
    struct recorder *recorder = node;
    add_note(recorder, TICK, now_us);
    recorder->next_us = now_us + recorder->period_us;
}

static uint64_t next_us(const void *node)
{
    const struct recorder *recorder = node;
    return recorder->next_us;
}

static void leave(void *node, uint64_t now_us)
{
    struct recorder *recorder = node;
    (void)now_us;
    sim_tell(recorder->world, recorder->slot, SIM_LEAVE_DONE, recorder->slot, 0);
}

static void save(const void *node, struct buf *ret_bytes)
{
    (void)node;
    buf_add_string(ret_bytes, "roster");
}

static uint64_t digest(const void *node)
{
    (void)node;
    return 0;
}

static size_t alive_count(const void *node)
{
    (void)node;
    return 1;
}

static bool sees_alive(const void *node, uint32_t identity)
{
    (void)node;
    (void)identity;
    return false;
}

static const struct sim_protocol recording = {
    .name = "recorder",
    .node_new = node_new,
    .node_free = free,
    .receive_datagram = receive_datagram,
    .receive_message = receive_message,
    .tick = tick,
    .next_us = next_us,
    .leave = leave,
    .save = save,
    .digest = digest,
    .alive_count = alive_count,
    .sees_alive = sees_alive,
};

static struct sim_world *world_of(uint64_t seed)
{
    const struct sim_world_options options = {
        .protocol = &recording, .slots_max = SLOTS, .seed = seed};
    struct sim_world *world = sim_world_new(&options);
    for (size_t i = 0; i < 3; i++) {
        sim_world_add(world);
    }
    return world;
}

CLEANUP_DEFINE(sim_world_free, struct sim_world)
#define CLEANUP_WORLD CLEANUP(sim_world_free)

static struct recorder *recorder_of(const struct sim_world *world, uint32_t slot)
{
    struct recorder *recorder = sim_world_node(world, slot);
    assert_non_null(recorder);
    return recorder;
}

static size_t count_of(const struct recorder *recorder, enum kind kind)
{
    size_t count = 0;
    for (size_t i = 0; i < recorder->notes_count; i++) {
        count += recorder->notes[i].kind == kind ? 1 : 0;
    }
    return count;
}

static void send(struct sim_world *world, uint32_t from, uint32_t to, uint8_t first,
                 size_t size_bytes)
{
    CLEANUP_FREE uint8_t *data = mem_alloc(size_bytes + 1);
    data[0] = first;
    sim_send_datagram(world, from, to, BYTES(data, size_bytes), size_bytes);
}

static void nodes_tick_at_the_times_that_they_ask_for(void **state)
{
    (void)state;
    CLEANUP_WORLD struct sim_world *world = world_of(1);
    sim_world_start(world, 0, SIM_DISK_KEPT);
    sim_world_run(world, SIM_US_PER_S);
    const struct recorder *recorder = recorder_of(world, 0);
    assert_int_equal(recorder->notes_count, 100);
    for (size_t i = 1; i < 100; i++) {
        assert_int_equal(recorder->notes[i].now_us - recorder->notes[i - 1].now_us, PERIOD_US);
    }
}

static void clocks_have_their_own_beginning_and_speed(void **state)
{
    (void)state;
    CLEANUP_WORLD struct sim_world *world = world_of(1);
    const int64_t half_day_ms = INT64_C(12) * 3600 * 1000;
    sim_world_set_clock(world, 1, half_day_ms, 0);
    sim_world_set_clock(world, 2, -half_day_ms, 100000); /* a tenth too fast */
    for (uint32_t slot = 0; slot < 3; slot++) {
        sim_world_start(world, slot, SIM_DISK_KEPT);
    }
    sim_world_run(world, SIM_US_PER_S);
    const struct recorder *right = recorder_of(world, 0);
    const struct recorder *ahead = recorder_of(world, 1);
    const struct recorder *fast = recorder_of(world, 2);
    assert_int_equal(right->notes_count, 100);
    assert_int_equal(ahead->notes_count, 100);
    assert_int_equal(ahead->notes[0].now_us - right->notes[0].now_us,
                     (uint64_t)half_day_ms * SIM_US_PER_MS);
    assert_true(fast->notes[0].now_us < right->notes[0].now_us);
    assert_in_range(fast->notes_count, 109, 110);
}

static void a_slow_clock_ticks_late_and_not_early(void **state)
{
    (void)state;
    CLEANUP_WORLD struct sim_world *world = world_of(1);
    sim_world_set_clock(world, 0, 0, -200000);
    sim_world_start(world, 0, SIM_DISK_KEPT);
    sim_world_run(world, SIM_US_PER_S);
    const struct recorder *slow = recorder_of(world, 0);
    assert_in_range(slow->notes_count, 70, 80);
    for (size_t i = 1; i < slow->notes_count; i++) {
        assert_true(slow->notes[i].now_us - slow->notes[i - 1].now_us >= PERIOD_US);
    }
}

static void a_protocol_that_is_always_due_does_not_stop_the_time(void **state)
{
    (void)state;
    CLEANUP_WORLD struct sim_world *world = world_of(1);
    sim_world_start(world, 0, SIM_DISK_KEPT);
    recorder_of(world, 0)->period_us = 0;
    sim_world_run(world, SIM_US_PER_S / 2);
    assert_in_range(recorder_of(world, 0)->notes_count, 400, 500);
}

static void datagrams_are_carried_and_counted_with_their_headers(void **state)
{
    (void)state;
    CLEANUP_WORLD struct sim_world *world = world_of(1);
    sim_world_start(world, 0, SIM_DISK_KEPT);
    sim_world_start(world, 1, SIM_DISK_KEPT);
    send(world, 0, 1, 'x', 100);
    send(world, 0, 7, 'x', 100); /* nobody there */
    sim_world_run(world, SIM_US_PER_S);
    const struct recorder *recorder = recorder_of(world, 1);
    assert_int_equal(count_of(recorder, DATAGRAM), 1);
    assert_int_equal(recorder->notes[0].from, 0);
    assert_int_equal(recorder->notes[0].size_bytes, 100);
    assert_int_equal(recorder->notes[0].first, 'x');
    assert_int_equal(sim_world_traffic(world, 0)->datagrams_sent, 2);
    assert_int_equal(sim_world_traffic(world, 0)->datagram_bytes_sent, 256);
    assert_int_equal(sim_world_traffic(world, 1)->datagram_bytes_received, 128);
    assert_int_equal(sim_world_traffic_total(world).datagrams_received, 1);
}

static void a_storm_is_bounded_and_counted(void **state)
{
    (void)state;
    CLEANUP_WORLD struct sim_world *world = world_of(1);
    for (size_t i = 0; i < SIM_STORM_DATAGRAMS + 100; i++) {
        send(world, 0, 7, 'x', 10);
    }
    assert_int_equal(sim_world_traffic(world, 0)->datagrams_sent, SIM_STORM_DATAGRAMS);
    assert_int_equal(sim_world_traffic(world, 0)->datagrams_stormed, 100);
    sim_world_run(world, SIM_US_PER_S / 2);
    for (size_t i = 0; i < SIM_STORM_DATAGRAMS; i++) {
        send(world, 0, 7, 'x', 10);
    }
    assert_int_equal(sim_world_traffic_total(world).datagrams_sent, SIM_STORM_DATAGRAMS * 3 / 2);
}

static void a_crashed_node_gets_nothing_and_comes_back_with_its_disk(void **state)
{
    (void)state;
    CLEANUP_WORLD struct sim_world *world = world_of(1);
    sim_world_start(world, 0, SIM_DISK_KEPT);
    sim_world_start(world, 1, SIM_DISK_KEPT);
    assert_int_equal(recorder_of(world, 1)->incarnation, 1);
    assert_int_equal(recorder_of(world, 1)->roster_bytes, 0);
    sim_tell(world, 1, SIM_INCARNATION, 1, 7);
    sim_world_crash(world, 1);
    assert_int_equal(sim_world_state(world, 1), SIM_CRASHED);
    send(world, 0, 1, 'x', 100);
    sim_world_run(world, SIM_US_PER_S);
    sim_world_start(world, 1, SIM_DISK_KEPT);
    sim_world_run(world, SIM_US_PER_S);
    assert_int_equal(count_of(recorder_of(world, 1), DATAGRAM), 0);
    assert_int_equal(recorder_of(world, 1)->incarnation, 8);
    assert_int_equal(recorder_of(world, 1)->roster_bytes, 6);
}

static void disks_are_lost_rolled_back_and_cloned(void **state)
{
    (void)state;
    CLEANUP_WORLD struct sim_world *world = world_of(1);
    sim_world_start(world, 1, SIM_DISK_KEPT);
    sim_tell(world, 1, SIM_INCARNATION, 1, 5);
    sim_world_snapshot_disk(world, 1);
    sim_tell(world, 1, SIM_INCARNATION, 1, 9);
    const uint32_t clone = sim_world_add_clone(world, 1);
    assert_int_equal(sim_world_identity(world, clone), 1);
    sim_world_start(world, clone, SIM_DISK_KEPT);
    assert_int_equal(recorder_of(world, clone)->incarnation, 10);
    sim_world_crash(world, 1);
    sim_world_start(world, 1, SIM_DISK_ROLLED_BACK);
    assert_int_equal(recorder_of(world, 1)->incarnation, 6);
    assert_int_equal(recorder_of(world, 1)->roster_bytes, 0);
    sim_world_crash(world, 1);
    sim_world_start(world, 1, SIM_DISK_LOST);
    assert_int_equal(recorder_of(world, 1)->incarnation, 1);
    assert_int_equal(recorder_of(world, 1)->roster_bytes, 0);
}

static void a_paused_node_first_reads_what_came_and_then_ticks_late(void **state)
{
    (void)state;
    CLEANUP_WORLD struct sim_world *world = world_of(1);
    sim_world_start(world, 0, SIM_DISK_KEPT);
    sim_world_start(world, 1, SIM_DISK_KEPT);
    sim_world_run(world, 15 * SIM_US_PER_MS);
    sim_world_pause(world, 1);
    for (uint8_t i = 0; i < 5; i++) {
        send(world, 0, 1, i, 100);
        sim_world_run(world, SIM_US_PER_S);
    }
    struct recorder *recorder = recorder_of(world, 1);
    assert_int_equal(recorder->notes_count, 1); /* the tick before */
    sim_world_resume(world, 1);
    assert_int_equal(recorder->notes_count, 7);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(recorder->notes[1 + i].kind, DATAGRAM);
        assert_int_equal(recorder->notes[1 + i].first, i);
    }
    assert_int_equal(recorder->notes[6].kind, TICK);
    assert_true(recorder->notes[6].now_us - recorder->notes[0].now_us > 5 * SIM_US_PER_S);
    sim_world_run(world, 100 * SIM_US_PER_MS);
    assert_int_equal(count_of(recorder, TICK), 12);
}

static void what_does_not_fit_the_socket_buffer_is_dropped(void **state)
{
    (void)state;
    CLEANUP_WORLD struct sim_world *world = world_of(1);
    sim_world_start(world, 0, SIM_DISK_KEPT);
    sim_world_start(world, 1, SIM_DISK_KEPT);
    sim_world_pause(world, 1);
    const size_t fit = SIM_SOCKET_BYTES / (1000 + SIM_SOCKET_DATAGRAM_BYTES);
    for (size_t i = 0; i < fit + 50; i++) {
        send(world, 0, 1, 'x', 1000);
    }
    sim_world_run(world, SIM_US_PER_S);
    sim_world_resume(world, 1);
    assert_int_equal(count_of(recorder_of(world, 1), DATAGRAM), fit);
    assert_int_equal(sim_world_traffic(world, 1)->datagrams_dropped, 50);
    sim_world_pause(world, 1);
    send(world, 0, 1, 'x', 1000);
    sim_world_run(world, SIM_US_PER_S);
    sim_world_resume(world, 1);
    assert_int_equal(count_of(recorder_of(world, 1), DATAGRAM), fit + 1);
}

static void messages_come_over_connections_and_wait_for_the_paused(void **state)
{
    (void)state;
    CLEANUP_WORLD struct sim_world *world = world_of(1);
    sim_world_start(world, 0, SIM_DISK_KEPT);
    sim_world_start(world, 1, SIM_DISK_KEPT);
    static const uint8_t data[3000] = {1};
    sim_send_message(world, 0, 1, BYTES(data, sizeof data), sizeof data);
    sim_world_run(world, SIM_US_PER_S);
    assert_int_equal(count_of(recorder_of(world, 1), MESSAGE), 1);
    sim_world_pause(world, 1);
    sim_send_message(world, 0, 1, BYTES(data, sizeof data), sizeof data);
    sim_world_run(world, 5 * SIM_US_PER_S);
    assert_int_equal(count_of(recorder_of(world, 1), MESSAGE), 1);
    sim_world_resume(world, 1);
    assert_int_equal(count_of(recorder_of(world, 1), MESSAGE), 2);
    assert_int_equal(sim_world_traffic(world, 0)->message_bytes_sent, 6000);
    assert_int_equal(sim_world_traffic(world, 1)->message_bytes_received, 6000);
}

static void who_says_good_bye_or_must_stop_is_gone(void **state)
{
    (void)state;
    CLEANUP_WORLD struct sim_world *world = world_of(1);
    sim_world_start(world, 0, SIM_DISK_KEPT);
    sim_world_start(world, 1, SIM_DISK_KEPT);
    sim_world_leave(world, 0);
    assert_true(sim_world_is_up(world, 0));
    sim_tell(world, 1, SIM_CONFLICT, 1, 0);
    sim_world_run(world, 1);
    assert_int_equal(sim_world_state(world, 0), SIM_LEFT);
    assert_int_equal(sim_world_state(world, 1), SIM_STOPPED);
    assert_null(sim_world_node(world, 1));
}

/* Some traffic with loss; what the trace of it is. */
static uint64_t trace_of(uint64_t seed, uint8_t first)
{
    CLEANUP_WORLD struct sim_world *world = world_of(seed);
    sim_network_set_loss(sim_world_network(world), 200000);
    sim_world_start(world, 0, SIM_DISK_KEPT);
    sim_world_start(world, 1, SIM_DISK_KEPT);
    for (size_t i = 0; i < 100; i++) {
        send(world, 0, 1, first, 1 + i);
        sim_world_run(world, SIM_US_PER_MS);
    }
    return sim_world_trace(world);
}

static void the_trace_is_of_everything_and_of_nothing_else(void **state)
{
    (void)state;
    assert_true(trace_of(1, 'a') == trace_of(1, 'a'));
    assert_true(trace_of(1, 'a') != trace_of(2, 'a'));
    assert_true(trace_of(1, 'a') != trace_of(1, 'b'));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_tick_at_the_times_that_they_ask_for),
        cmocka_unit_test(clocks_have_their_own_beginning_and_speed),
        cmocka_unit_test(a_slow_clock_ticks_late_and_not_early),
        cmocka_unit_test(a_protocol_that_is_always_due_does_not_stop_the_time),
        cmocka_unit_test(datagrams_are_carried_and_counted_with_their_headers),
        cmocka_unit_test(a_storm_is_bounded_and_counted),
        cmocka_unit_test(a_crashed_node_gets_nothing_and_comes_back_with_its_disk),
        cmocka_unit_test(disks_are_lost_rolled_back_and_cloned),
        cmocka_unit_test(a_paused_node_first_reads_what_came_and_then_ticks_late),
        cmocka_unit_test(what_does_not_fit_the_socket_buffer_is_dropped),
        cmocka_unit_test(messages_come_over_connections_and_wait_for_the_paused),
        cmocka_unit_test(who_says_good_bye_or_must_stop_is_gone),
        cmocka_unit_test(the_trace_is_of_everything_and_of_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
