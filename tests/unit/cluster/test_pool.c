/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random.h"
#include "cluster/pool_priv.h"

static struct member_record sample(void)
{
    return (struct member_record){
        .id = {{1, 2, 3}},
        .version = {5, 6, MEMBER_ALIVE},
        .address = {.ip = {4}, .port = 7},
        .capacity_bytes = 8,
        .minor = 9,
        .name = bytes_of_string("one"),
        .zone = bytes_of_string("north"),
    };
}

static void the_same_is_kept_once(void **state)
{
    (void)state;
    struct member_pool *pool = member_pool_new();
    const struct member_record member = sample();
    struct record *first = pool_take(pool, &member);
    struct record *second = pool_take(pool, &member);
    assert_ptr_equal(first, second);
    const struct member_record back = record_value(first, MEMBER_LEFT);
    assert_true(node_id_equal(&back.id, &member.id));
    assert_int_equal(back.version.incarnation, 5);
    assert_int_equal(back.version.boot_nonce, 6);
    assert_int_equal(back.version.status, MEMBER_LEFT);
    assert_true(address_equal(&back.address, &member.address));
    assert_int_equal(back.capacity_bytes, 8);
    assert_int_equal(back.minor, 9);
    assert_true(bytes_equal(back.name, member.name));
    assert_true(bytes_equal(back.zone, member.zone));
    pool_give(pool, first);
    pool_give(pool, second);
    member_pool_free(pool); /* checks that nothing is left */
}

static void what_differs_is_kept_apart(void **state)
{
    (void)state;
    struct member_pool *pool = member_pool_new();
    const struct member_record member = sample();
    struct member_record others[6];
    for (size_t i = 0; i < 6; i++) {
        others[i] = member;
    }
    others[0].version.incarnation++;
    others[1].version.boot_nonce++;
    others[2].id.bytes[19]++;
    others[3].name = bytes_of_string("two"); /* of one version, so somebody lies */
    others[4].zone = bytes_of_string("south");
    others[5].address.port++;
    struct record *kept = pool_take(pool, &member);
    for (size_t i = 0; i < 6; i++) {
        struct record *record = pool_take(pool, &others[i]);
        assert_ptr_not_equal(kept, record);
        assert_true(bytes_equal(record_value(record, MEMBER_ALIVE).name, others[i].name));
        assert_true(bytes_equal(record_value(record, MEMBER_ALIVE).zone, others[i].zone));
        pool_give(pool, record);
    }
    struct record *again = pool_take(pool, &member);
    assert_ptr_equal(kept, again);
    pool_give(pool, again);
    pool_give(pool, kept);
    member_pool_free(pool);
}

#define MANY 2000u

static struct member_record numbered(unsigned number)
{
    struct member_record member = sample();
    member.version.incarnation = 1 + number;
    return member;
}

/* Whatever comes and goes, each record that is held is found, and shared. */
static void many_come_and_go(void **state)
{
    (void)state;
    struct member_pool *pool = member_pool_new();
    struct record *held[MANY] = {0};
    struct random random;
    random_init(&random, 1);
    for (unsigned step = 0; step < 20 * MANY; step++) {
        const unsigned number = (unsigned)random_below(&random, MANY);
        const struct member_record member = numbered(number);
        if (!held[number]) {
            held[number] = pool_take(pool, &member);
            continue;
        }
        struct record *again = pool_take(pool, &member);
        assert_ptr_equal(again, held[number]);
        pool_give(pool, again);
        if (random_below(&random, 2) == 0) {
            pool_give(pool, held[number]);
            held[number] = NULL;
        }
    }
    for (unsigned i = 0; i < MANY; i++) {
        pool_give(pool, held[i]);
    }
    member_pool_free(pool); /* checks that nothing is left */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_is_kept_once),
        cmocka_unit_test(what_differs_is_kept_apart),
        cmocka_unit_test(many_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
