/* SPDX-License-Identifier: Apache-2.0 */
#include "base/libuv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <uv.h>

static void count_up(uv_work_t *work)
{
    ++*(int *)work->data;
}

/* The loop and the pool allocate, grow and free through our functions. */
static void a_loop_runs_on_memory_that_cannot_fail(void **state)
{
    (void)state;
    libuv_use_mem();
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    int count = 0;
    uv_work_t work = {.data = &count};
    assert_int_equal(uv_queue_work(&loop, &work, count_up, NULL), 0);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loop_runs_on_memory_that_cannot_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
