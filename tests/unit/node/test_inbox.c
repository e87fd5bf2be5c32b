/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "base/mem.h"
#include "node/inbox_priv.h"

static const struct node_id alice = {.bytes = {1}};
static const struct node_id bob = {.bytes = {2}};

static bool put_text(struct inbox *inbox, const struct node_id *from, const char *text)
{
    return inbox_put(inbox, (uint8_t)text[0], from, bytes_of_string(text));
}

/* Takes all that is there, and tells how much that was. */
static size_t drain(struct inbox *inbox)
{
    size_t count = 0;
    for (struct inbox_message *message = inbox_take(inbox); message; count++) {
        message = inbox_next(message);
    }
    return count;
}

static void messages_come_in_order(void **state)
{
    (void)state;
    const struct inbox_limits limits = {1000, 10, 1};
    struct inbox *inbox = inbox_new(&limits);
    assert_null(inbox_take(inbox));
    assert_true(put_text(inbox, &alice, "first"));
    assert_true(put_text(inbox, &bob, "second"));
    assert_true(inbox_put(inbox, 7, &alice, BYTES(NULL, 0)));
    struct inbox_message *message = inbox_take(inbox);
    assert_null(inbox_take(inbox));
    assert_int_equal(message->kind, 'f');
    assert_true(node_id_equal(&message->from, &alice));
    assert_true(bytes_equal(BYTES(message->bytes, message->size), bytes_of_string("first")));
    message = inbox_next(message);
    assert_true(node_id_equal(&message->from, &bob));
    message = inbox_next(message);
    assert_int_equal(message->kind, 7);
    assert_int_equal(message->size, 0);
    assert_null(inbox_next(message));
    assert_int_equal(inbox_dropped(inbox), 0);
    inbox_free(inbox);
}

static void what_finds_no_room_is_counted(void **state)
{
    (void)state;
    const struct inbox_limits limits = {10, 3, 1};
    struct inbox *inbox = inbox_new(&limits);
    assert_true(put_text(inbox, &alice, "12345"));
    assert_true(put_text(inbox, &alice, "12345"));
    assert_false(put_text(inbox, &alice, "1"));
    assert_true(inbox_put(inbox, 1, &alice, BYTES(NULL, 0)));
    assert_false(inbox_put(inbox, 1, &alice, BYTES(NULL, 0)));
    assert_int_equal(inbox_dropped(inbox), 2);
    assert_int_equal(drain(inbox), 3);
    /* What was taken has made room. */
    assert_true(put_text(inbox, &alice, "1234567890"));
    assert_int_equal(inbox_dropped(inbox), 2);
    inbox_free(inbox);
}

static void a_flood_by_one_leaves_room_for_others(void **state)
{
    (void)state;
    const struct inbox_limits bytes = {400, 1000, 4};
    struct inbox *inbox = inbox_new(&bytes);
    uint8_t some[50] = {0};
    for (int i = 0; i < 100; i++) {
        assert_int_equal(inbox_put(inbox, 1, &alice, BYTES(some, sizeof some)), i < 2);
    }
    assert_true(inbox_put(inbox, 1, &bob, BYTES(some, sizeof some)));
    assert_true(inbox_put(inbox, 1, &bob, BYTES(some, sizeof some)));
    assert_false(inbox_put(inbox, 1, &bob, BYTES(some, sizeof some)));
    assert_int_equal(drain(inbox), 4);
    assert_true(inbox_put(inbox, 1, &alice, BYTES(some, sizeof some)));
    inbox_free(inbox);

    const struct inbox_limits messages = {1000, 8, 4};
    inbox = inbox_new(&messages);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(inbox_put(inbox, 1, &alice, BYTES(NULL, 0)), i < 2);
    }
    assert_true(inbox_put(inbox, 1, &bob, BYTES(NULL, 0)));
    inbox_free(inbox);
}

/* Who has filled its share, again and again, does not make others wait for a look at all that
 * waits: a walk through a long list for each would take minutes. */
static void a_full_share_is_seen_at_once(void **state)
{
    (void)state;
    enum { WAITING = 200000, MORE = 200000 };
    const struct inbox_limits limits = {(size_t)1 << 40, 4 * (size_t)WAITING, 4};
    struct inbox *inbox = inbox_new(&limits);
    for (int i = 0; i < WAITING; i++) {
        assert_true(inbox_put(inbox, 1, &alice, BYTES(NULL, 0)));
    }
    for (int i = 0; i < MORE; i++) {
        assert_false(inbox_put(inbox, 1, &alice, BYTES(NULL, 0)));
    }
    assert_true(inbox_put(inbox, 1, &bob, BYTES(NULL, 0)));
    assert_int_equal(drain(inbox), WAITING + 1);
    assert_int_equal(inbox_dropped(inbox), MORE);
    inbox_free(inbox);
}

#define THREADS 4
#define EACH 1000

static void *put_many(void *argument)
{
    struct inbox *inbox = argument;
    for (int i = 0; i < EACH; i++) {
        (void)put_text(inbox, &alice, "text");
    }
    return NULL;
}

static void threads_put_at_once(void **state)
{
    (void)state;
    const struct inbox_limits limits = {(size_t)16 * EACH, 4 * EACH, 1};
    struct inbox *inbox = inbox_new(&limits);
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, put_many, inbox), 0);
    }
    size_t taken = 0;
    for (int i = 0; i < 100; i++) {
        taken += drain(inbox);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    taken += drain(inbox);
    assert_int_equal(taken + inbox_dropped(inbox), THREADS * EACH);
    inbox_free(inbox);
    inbox_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_come_in_order),
        cmocka_unit_test(what_finds_no_room_is_counted),
        cmocka_unit_test(a_flood_by_one_leaves_room_for_others),
        cmocka_unit_test(a_full_share_is_seen_at_once),
        cmocka_unit_test(threads_put_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
