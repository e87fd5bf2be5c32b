/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>

#include "base/mem.h"
#include "node/member_events.h"

#define KEPT 8u

static void add(struct member_events *events, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        /* What it is tells its number. */
        const struct member_event event = {
            .kind = CLUSTER_ALIVE,
            .wall_ms = (int64_t)member_events_newest(events) + 1,
        };
        member_events_add(events, &event);
    }
}

static void expect(const struct member_event *events, size_t count, uint64_t first)
{
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(events[i].number, first + i);
        assert_int_equal(events[i].wall_ms, first + i);
    }
}

static void events_come_in_order_and_once(void **state)
{
    (void)state;
    struct member_events *events = member_events_new(KEPT);
    struct member_event found[KEPT];
    uint64_t position = 0;
    uint64_t missed = 1;
    assert_int_equal(member_events_newest(events), 0);
    assert_int_equal(member_events_read(events, &position, found, KEPT, &missed), 0);
    assert_int_equal(missed, 0);
    add(events, 5);
    assert_int_equal(member_events_read(events, &position, found, 3, &missed), 3);
    expect(found, 3, 1);
    assert_int_equal(member_events_read(events, &position, found, 3, &missed), 2);
    expect(found, 2, 4);
    assert_int_equal(member_events_read(events, &position, found, 3, &missed), 0);
    assert_int_equal(missed, 0);
    assert_int_equal(position, 5);
    member_events_free(events);
}

static void a_slow_reader_is_told_how_many_it_missed(void **state)
{
    (void)state;
    struct member_events *events = member_events_new(KEPT);
    struct member_event found[KEPT];
    uint64_t position = 0;
    uint64_t missed = 0;
    add(events, 2);
    assert_int_equal(member_events_read(events, &position, found, KEPT, &missed), 2);
    add(events, KEPT);
    assert_int_equal(member_events_read(events, &position, found, 1, &missed), 1);
    assert_int_equal(missed, 0); /* just not too slow */
    expect(found, 1, 3);
    add(events, 3);
    assert_int_equal(member_events_read(events, &position, found, KEPT, &missed), KEPT);
    assert_int_equal(missed, 2);
    expect(found, KEPT, 6);
    assert_int_equal(position, KEPT + 5);
    member_events_free(events);
}

static void a_reader_that_begins_now_sees_nothing_old(void **state)
{
    (void)state;
    struct member_events *events = member_events_new(KEPT);
    struct member_event found[KEPT];
    uint64_t missed = 0;
    add(events, 3 * KEPT);
    uint64_t position = member_events_newest(events);
    assert_int_equal(member_events_read(events, &position, found, KEPT, &missed), 0);
    assert_int_equal(missed, 0);
    add(events, 1);
    assert_int_equal(member_events_read(events, &position, found, KEPT, &missed), 1);
    expect(found, 1, 3 * KEPT + 1);
    member_events_free(events);
}

#define WRITTEN 20000u

static void *write_many(void *context)
{
    add(context, WRITTEN);
    return NULL;
}

static void what_is_read_while_it_is_written_is_whole(void **state)
{
    (void)state;
    struct member_events *events = member_events_new(KEPT);
    pthread_t writer;
    assert_int_equal(pthread_create(&writer, NULL, write_many, events), 0);
    uint64_t position = 0;
    uint64_t seen = 0;
    uint64_t missed_all = 0;
    while (position < WRITTEN) {
        struct member_event found[3];
        uint64_t missed = 0;
        const uint64_t before = position;
        const size_t count = member_events_read(events, &position, found, 3, &missed);
        assert_int_equal(before + missed + count, position);
        expect(found, count, before + missed + 1);
        seen += count;
        missed_all += missed;
    }
    assert_int_equal(seen + missed_all, WRITTEN);
    pthread_join(writer, NULL);
    member_events_free(events);
}

static void what_is_told_has_a_name(void **state)
{
    (void)state;
    assert_string_equal(member_event_name(CLUSTER_JOINED), "member_joined");
    assert_string_equal(member_event_name(CLUSTER_RING_LEFT), "ring_left");
    assert_null(member_event_name(CLUSTER_INCARNATION));
    assert_null(member_event_name(CLUSTER_LEAVE_DONE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_come_in_order_and_once),
        cmocka_unit_test(a_slow_reader_is_told_how_many_it_missed),
        cmocka_unit_test(a_reader_that_begins_now_sees_nothing_old),
        cmocka_unit_test(what_is_read_while_it_is_written_is_whole),
        cmocka_unit_test(what_is_told_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
