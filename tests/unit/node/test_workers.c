/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <stdlib.h>

#include "base/mem.h"
#include "node/workers_priv.h"

#define COUNT 10000u

struct item {
    struct work work;
    struct workers *workers;
    _Atomic unsigned *done_count;
    unsigned more; /* that it puts */
    unsigned number;
    unsigned *order; /* of one thread */
};

static void put(struct workers *workers, unsigned more, _Atomic unsigned *done_count);

static void run(struct work *work)
{
    struct item *item = CONTAINER_OF(work, struct item, work);
    if (item->more > 0) {
        put(item->workers, item->more - 1, item->done_count);
    }
    (*item->done_count)++;
    free(item);
}

static void put(struct workers *workers, unsigned more, _Atomic unsigned *done_count)
{
    struct item *item = mem_alloc(sizeof *item);
    item->work.run = run;
    item->workers = workers;
    item->done_count = done_count;
    item->more = more;
    workers_put(workers, &item->work);
}

static void all_that_was_put_is_run(void **state)
{
    (void)state;
    struct workers *workers = NULL;
    _Atomic unsigned done_count = 0;
    assert_int_equal(workers_open(3, &workers), 0);
    for (unsigned i = 0; i < COUNT; i++) {
        put(workers, 0, &done_count);
    }
    workers_close(workers);
    assert_int_equal(done_count, COUNT);
}

static void what_a_run_puts_is_run_too(void **state)
{
    (void)state;
    struct workers *workers = NULL;
    _Atomic unsigned done_count = 0;
    assert_int_equal(workers_open(0, &workers), 0);
    put(workers, COUNT - 1, &done_count);
    put(workers, COUNT - 1, &done_count);
    workers_close(workers);
    assert_int_equal(done_count, 2 * COUNT);
}

static void note_order(struct work *work)
{
    struct item *item = CONTAINER_OF(work, struct item, work);
    item->order[(*item->done_count)++] = item->number;
}

static void one_thread_keeps_the_order(void **state)
{
    (void)state;
    static struct item items[COUNT];
    static unsigned order[COUNT];
    struct workers *workers = NULL;
    _Atomic unsigned done_count = 0;
    assert_int_equal(workers_open(1, &workers), 0);
    for (unsigned i = 0; i < COUNT; i++) {
        items[i] = (struct item){
            .work.run = note_order, .done_count = &done_count, .number = i, .order = order};
        workers_put(workers, &items[i].work);
    }
    workers_close(workers);
    assert_int_equal(done_count, COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(order[i], i);
    }
}

static void closing_nothing_is_allowed(void **state)
{
    (void)state;
    workers_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_that_was_put_is_run),
        cmocka_unit_test(what_a_run_puts_is_run_too),
        cmocka_unit_test(one_thread_keeps_the_order),
        cmocka_unit_test(closing_nothing_is_allowed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
