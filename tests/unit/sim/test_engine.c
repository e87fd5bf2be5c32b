/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "base/random.h"
#include "sim/engine.h"

#define MANY 20000u

struct seen {
    struct sim_engine *engine;
    size_t count;
    uint64_t arguments[MANY];
    uint64_t times_us[MANY];
};

static void note(void *context, uint64_t argument)
{
    struct seen *seen = context;
    assert_true(seen->count < MANY);
    seen->arguments[seen->count] = argument;
    seen->times_us[seen->count++] = sim_engine_now_us(seen->engine);
}

static int set_up(void **state)
{
    struct seen *seen = mem_alloc(sizeof *seen);
    seen->engine = sim_engine_new();
    *state = seen;
    return 0;
}

static int tear_down(void **state)
{
    struct seen *seen = *state;
    sim_engine_free(seen->engine);
    free(seen);
    return 0;
}

static void everything_happens_at_its_time_and_in_order(void **state)
{
    struct seen *seen = *state;
    struct random random;
    random_init(&random, 7);
    for (uint64_t i = 0; i < MANY; i++) {
        const uint64_t at_us = random_below(&random, 1000); /* many at the same time */
        sim_engine_at(seen->engine, at_us, note, seen, at_us << 32 | i);
    }
    sim_engine_run_until(seen->engine, 1000);
    assert_int_equal(seen->count, MANY);
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(seen->times_us[i], seen->arguments[i] >> 32);
        /* The number of insertion is in the low half: equal times keep their order. */
        assert_true(i == 0 || seen->arguments[i - 1] < seen->arguments[i]);
    }
    assert_int_equal(sim_engine_waiting_count(seen->engine), 0);
    assert_int_equal(sim_engine_done_count(seen->engine), MANY);
}

static void the_end_of_a_run_is_included_and_the_clock_stands_there(void **state)
{
    struct seen *seen = *state;
    sim_engine_at(seen->engine, 10, note, seen, 1);
    sim_engine_at(seen->engine, 11, note, seen, 2);
    sim_engine_run_until(seen->engine, 10);
    assert_int_equal(seen->count, 1);
    assert_int_equal(sim_engine_now_us(seen->engine), 10);
    sim_engine_run_until(seen->engine, 500);
    assert_int_equal(seen->count, 2);
    assert_int_equal(seen->times_us[1], 11);
    assert_int_equal(sim_engine_now_us(seen->engine), 500);
}

static void what_is_asked_for_the_past_happens_now(void **state)
{
    struct seen *seen = *state;
    sim_engine_run_until(seen->engine, 100);
    sim_engine_at(seen->engine, 5, note, seen, 1);
    sim_engine_run_until(seen->engine, 100);
    assert_int_equal(seen->count, 1);
    assert_int_equal(seen->times_us[0], 100);
}

/* Asks for itself again, ten microseconds later, and twice more at once. */
static void go_on(void *context, uint64_t argument)
{
    struct seen *seen = context;
    note(seen, argument);
    sim_engine_at(seen->engine, sim_engine_now_us(seen->engine) + 10, go_on, seen, argument + 1);
    sim_engine_at(seen->engine, 0, note, seen, 1000);
}

static void what_happens_may_ask_for_more(void **state)
{
    struct seen *seen = *state;
    sim_engine_at(seen->engine, 10, go_on, seen, 0);
    sim_engine_run_until(seen->engine, 1000);
    assert_int_equal(seen->count, 200);
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(seen->arguments[2 * i], i);
        assert_int_equal(seen->arguments[2 * i + 1], 1000);
        assert_int_equal(seen->times_us[2 * i + 1], 10 * (i + 1));
    }
    assert_int_equal(sim_engine_waiting_count(seen->engine), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(everything_happens_at_its_time_and_in_order, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_end_of_a_run_is_included_and_the_clock_stands_there,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_asked_for_the_past_happens_now, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_happens_may_ask_for_more, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
