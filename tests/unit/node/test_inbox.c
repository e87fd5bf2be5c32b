/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "node/inbox_priv.h"

static const struct node_id sender = {{1, 2, 3}};

static size_t count_and_free(struct inbox_message *message)
{
    size_t count = 0;
    while (message) {
        struct inbox_message *next = message->next;
        free(message);
        message = next;
        count++;
    }
    return count;
}

static void messages_come_out_in_order(void **state)
{
    (void)state;
    struct inbox *inbox = inbox_new();
    assert_null(inbox_take(inbox));
    assert_true(inbox_put(inbox, &sender, bytes_of_string("one")));
    assert_true(inbox_put(inbox, &sender, BYTES(NULL, 0)));
    struct inbox_message *first = inbox_take(inbox);
    assert_true(bytes_equal(BYTES(first->bytes, first->size), bytes_of_string("one")));
    assert_true(node_id_equal(&first->from, &sender));
    assert_int_equal(first->next->size, 0);
    assert_int_equal(count_and_free(first), 2);
    assert_null(inbox_take(inbox));
    assert_true(inbox_put(inbox, &sender, bytes_of_string("two")));
    assert_int_equal(count_and_free(inbox_take(inbox)), 1);
    inbox_free(inbox);
}

static void too_many_are_dropped_and_counted(void **state)
{
    (void)state;
    struct inbox *inbox = inbox_new();
    for (size_t i = 0; i < INBOX_MESSAGES_MAX; i++) {
        assert_true(inbox_put(inbox, &sender, bytes_of_string("x")));
    }
    assert_false(inbox_put(inbox, &sender, bytes_of_string("x")));
    assert_int_equal(inbox_dropped(inbox), 1);
    assert_int_equal(count_and_free(inbox_take(inbox)), INBOX_MESSAGES_MAX);
    assert_true(inbox_put(inbox, &sender, bytes_of_string("x")));
    inbox_free(inbox);
}

static void too_long_ones_are_dropped_and_counted(void **state)
{
    (void)state;
    const size_t size = INBOX_BYTES_MAX / 4;
    uint8_t *bytes = mem_alloc(size);
    struct inbox *inbox = inbox_new();
    for (size_t i = 0; i < 4; i++) {
        assert_true(inbox_put(inbox, &sender, BYTES(bytes, size)));
    }
    assert_false(inbox_put(inbox, &sender, BYTES(bytes, 1)));
    assert_int_equal(inbox_dropped(inbox), 1);
    inbox_free(inbox); /* with what is in it */
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_come_out_in_order),
        cmocka_unit_test(too_many_are_dropped_and_counted),
        cmocka_unit_test(too_long_ones_are_dropped_and_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
