/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_is_kept_once),
        cmocka_unit_test(what_differs_is_kept_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
