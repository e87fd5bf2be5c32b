/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"

#include "helpers.h"

struct thing {
    int *freed_count;
};

static void thing_free(struct thing *thing)
{
    if (thing) {
        (*thing->freed_count)++;
    }
}
CLEANUP_DEFINE(thing_free, struct thing)

static int leave(struct thing *given, bool early)
{
    CLEANUP(thing_free) struct thing *thing = given;
    if (early) {
        return 1;
    }
    return thing ? 2 : 3;
}

static struct thing *leave_with(struct thing *given)
{
    CLEANUP(thing_free) struct thing *thing = given;
    return STEAL_PTR(thing);
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void destructor_runs_on_every_way_out(void **state)
{
    (void)state;
    int freed_count = 0;
    struct thing thing = {&freed_count};
    assert_int_equal(leave(&thing, true), 1);
    assert_int_equal(freed_count, 1);
    assert_int_equal(leave(&thing, false), 2);
    assert_int_equal(freed_count, 2);
    assert_int_equal(leave(NULL, false), 3);
    assert_int_equal(freed_count, 2);
}

static void stolen_is_not_released(void **state)
{
    (void)state;
    int freed_count = 0;
    struct thing thing = {&freed_count};
    assert_ptr_equal(leave_with(&thing), &thing);
    assert_int_equal(freed_count, 0);
}

/* The leak checker is the judge of CLEANUP_FREE. */
static void memory_is_freed(void **state)
{
    (void)state;
    CLEANUP_FREE char *text = malloc(10);
    CLEANUP_FREE char *nothing = NULL;
    assert_non_null(text);
    assert_null(nothing);

    char *kept = NULL;
    {
        CLEANUP_FREE char *inner = strdup("kept");
        kept = STEAL_PTR(inner);
        assert_null(inner);
    }
    assert_string_equal(kept, "kept");
    free(kept);
}

static void descriptor_is_closed_unless_stolen(void **state)
{
    (void)state;
    int seen = -1;
    {
        CLEANUP_FD int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        CLEANUP_FD int none = -1;
        assert_int_equal(none, -1);
        seen = fd;
        assert_true(is_open(seen));
    }
    assert_false(is_open(seen));

    {
        CLEANUP_FD int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        seen = STEAL_FD(fd);
        assert_int_equal(fd, -1);
    }
    assert_true(is_open(seen));
    close(seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(destructor_runs_on_every_way_out),
        cmocka_unit_test(stolen_is_not_released),
        cmocka_unit_test(memory_is_freed),
        cmocka_unit_test(descriptor_is_closed_unless_stolen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
