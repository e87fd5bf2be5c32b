/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "node/seeds.h"

struct heard {
    unsigned rounds;
    struct address addresses[CLUSTER_SEEDS_MAX];
    size_t count;
};

static void on_found(void *context, const struct address *addresses, size_t count)
{
    struct heard *heard = context;
    heard->rounds++;
    heard->count = count;
    memcpy(heard->addresses, addresses, count * sizeof *addresses);
}

static bool has(const struct heard *heard, const char *text)
{
    struct address wanted;
    assert_int_equal(address_parse(text, &wanted), 0);
    for (size_t i = 0; i < heard->count; i++) {
        if (address_equal(&heard->addresses[i], &wanted)) {
            return true;
        }
    }
    return false;
}

/* Looks up `names` so many times, one round after the other. */
static struct heard look_up(const char *names, unsigned rounds)
{
    uv_loop_t loop;
    struct heard heard = {0};
    assert_int_equal(uv_loop_init(&loop), 0);
    struct seeds *seeds = seeds_new(&loop, names, on_found, &heard);
    for (unsigned i = 0; i < rounds; i++) {
        seeds_look_up(seeds);
        uv_run(&loop, UV_RUN_DEFAULT);
    }
    seeds_close(seeds);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    return heard;
}

static void lists_are_checked(void **state)
{
    (void)state;
    const struct {
        const char *names;
        bool good;
    } cases[] = {
        {"a:1", true},
        {"a:1,b:2,[::1]:3", true},
        {"10.0.0.1:7420", true},
        {"", false},
        {"a", false},
        {"a:1,", false},
        {",a:1", false},
        {"a:1,,b:1", false},
        {"a:1 b:2", false},
        {"a:0", false},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_int_equal(seeds_check(cases[i].names), cases[i].good);
    }
    CLEANUP_BUF struct buf many = BUF_INIT;
    for (unsigned i = 0; i < CLUSTER_SEEDS_MAX; i++) {
        buf_add_format(&many, "%s10.0.0.%u:1", i ? "," : "", i);
    }
    assert_true(seeds_check(buf_string(&many)));
    buf_add_string(&many, ",a:1");
    assert_false(seeds_check(buf_string(&many)));
}

static void numbers_and_names_are_told_together(void **state)
{
    (void)state;
    const struct heard heard = look_up("127.0.0.5:5,localhost:6,[::1]:7,127.0.0.5:5", 1);
    assert_int_equal(heard.rounds, 1);
    assert_true(has(&heard, "127.0.0.5:5"));
    assert_true(has(&heard, "[::1]:7"));
    assert_true(has(&heard, "127.0.0.1:6") || has(&heard, "[::1]:6"));
    for (size_t i = 0; i < heard.count; i++) {
        for (size_t j = 0; j < i; j++) {
            assert_false(address_equal(&heard.addresses[i], &heard.addresses[j]));
        }
    }
}

static void what_has_not_changed_is_told_once(void **state)
{
    (void)state;
    assert_int_equal(look_up("127.0.0.5:5,localhost:6", 3).rounds, 1);
    assert_int_equal(look_up("127.0.0.5:5", 3).rounds, 1);
}

static void a_name_that_is_nobody_hides_no_other(void **state)
{
    (void)state;
    const struct heard heard = look_up("no.such.name.invalid:1,127.0.0.5:5", 1);
    assert_int_equal(heard.count, 1);
    assert_true(has(&heard, "127.0.0.5:5"));
    assert_int_equal(look_up("no.such.name.invalid:1", 2).rounds, 0);
}

static void it_can_be_closed_while_it_looks_up(void **state)
{
    (void)state;
    uv_loop_t loop;
    struct heard heard = {0};
    assert_int_equal(uv_loop_init(&loop), 0);
    struct seeds *seeds = seeds_new(&loop, "localhost:1,localhost:2", on_found, &heard);
    seeds_look_up(seeds);
    seeds_look_up(seeds); /* under way: does nothing */
    seeds_close(seeds);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(heard.rounds, 0);
}

/* The resolver's answer to SLOW comes when the gate is open. In place of the C library's own. */
#define SLOW "slow.invalid"
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_open;
    unsigned asked;
    unsigned answered;
} gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **ret_found)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    if (strcmp(node, SLOW) != 0) {
        return real(node, service, hints, ret_found);
    }
    pthread_mutex_lock(&gate.lock);
    gate.asked++;
    pthread_cond_broadcast(&gate.changed);
    while (!gate.is_open) {
        pthread_cond_wait(&gate.changed, &gate.lock);
    }
    gate.answered++;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
    return real("127.0.0.9", service, hints, ret_found);
}

static void wait_until(const unsigned *counter, unsigned count)
{
    pthread_mutex_lock(&gate.lock);
    while (*counter < count) {
        pthread_cond_wait(&gate.changed, &gate.lock);
    }
    pthread_mutex_unlock(&gate.lock);
}

static void open_gate(void)
{
    pthread_mutex_lock(&gate.lock);
    gate.is_open = true;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
}

/* Would hang if it waited: the gate opens after it. */
static void the_end_does_not_wait_for_the_resolver(void **state)
{
    (void)state;
    uv_loop_t loop;
    struct heard heard = {0};
    assert_int_equal(uv_loop_init(&loop), 0);
    struct seeds *seeds = seeds_new(&loop, SLOW ":1,127.0.0.5:5", on_found, &heard);
    seeds_look_up(seeds);
    wait_until(&gate.asked, 1);
    seeds_close(seeds);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(heard.rounds, 0);
    open_gate();
    wait_until(&gate.answered, 1);
    assert_true(has((const struct heard[]){look_up(SLOW ":1", 1)}, "127.0.0.9:1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_are_checked),
        cmocka_unit_test(numbers_and_names_are_told_together),
        cmocka_unit_test(what_has_not_changed_is_told_once),
        cmocka_unit_test(a_name_that_is_nobody_hides_no_other),
        cmocka_unit_test(it_can_be_closed_while_it_looks_up),
        cmocka_unit_test(the_end_does_not_wait_for_the_resolver),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
