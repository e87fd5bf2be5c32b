/* SPDX-License-Identifier: Apache-2.0 */
#include "base/map.h"

#include "helpers.h"

/* No padding: uthash compares keys as bytes. */
struct key {
    uint8_t id[20];
    uint32_t index;
};

struct entry {
    struct key key;
    const char *name;
    uint64_t number;
    UT_hash_handle hh;
    UT_hash_handle hh_by_name;
};

static struct key key_of(uint32_t number)
{
    /* Keys differ only near their end, so that all of a key must be looked at. */
    struct key key = {.index = number % 7};
    const uint32_t rest = number / 7;
    memcpy(key.id + sizeof key.id - sizeof rest, &rest, sizeof rest);
    return key;
}

static struct entry *find(struct entry *map, uint32_t number)
{
    const struct key key = key_of(number);
    struct entry *entry = NULL;
    HASH_FIND(hh, map, &key, sizeof key, entry);
    return entry;
}

static struct entry *add(struct entry **map, uint32_t number)
{
    struct entry *entry = mem_alloc(sizeof *entry);
    entry->key = key_of(number);
    entry->number = number;
    HASH_ADD(hh, *map, key, sizeof entry->key, entry);
    return entry;
}

static void clear(struct entry **map)
{
    struct entry *entry = NULL;
    struct entry *next = NULL;
    HASH_ITER(hh, *map, entry, next)
    {
        HASH_DEL(*map, entry);
        free(entry);
    }
    assert_null(*map);
}

static void what_was_added_is_found_by_a_struct_key(void **state)
{
    (void)state;
    const uint32_t count = 10000;
    struct entry **entries = mem_alloc_array(count, sizeof(struct entry *));
    struct entry *map = NULL;
    assert_null(find(map, 1));
    for (uint32_t number = 0; number < count; number++) {
        entries[number] = add(&map, number);
    }
    assert_int_equal(HASH_COUNT(map), count);
    for (uint32_t number = 0; number < count; number++) {
        assert_ptr_equal(find(map, number), entries[number]);
    }
    assert_null(find(map, count));
    clear(&map);
    free(entries);
}

static void what_was_deleted_is_gone(void **state)
{
    (void)state;
    struct entry *map = NULL;
    for (uint32_t number = 0; number < 100; number++) {
        add(&map, number);
    }
    struct entry *entry = NULL;
    struct entry *next = NULL;
    HASH_ITER(hh, map, entry, next)
    {
        if (entry->number % 2 == 0) {
            HASH_DEL(map, entry);
            free(entry);
        }
    }
    assert_int_equal(HASH_COUNT(map), 50);
    for (uint32_t number = 0; number < 100; number++) {
        assert_int_equal(find(map, number) != NULL, number % 2);
    }
    clear(&map);
}

static void iteration_is_in_the_order_of_addition(void **state)
{
    (void)state;
    struct entry *map = NULL;
    for (uint32_t number = 0; number < 1000; number++) {
        add(&map, 999 - number);
    }
    uint64_t expected = 999;
    struct entry *entry = NULL;
    struct entry *next = NULL;
    HASH_ITER(hh, map, entry, next)
    {
        assert_int_equal(entry->number, expected--);
    }
    clear(&map);
}

static void replacing_gives_the_old_one_back(void **state)
{
    (void)state;
    struct entry *map = NULL;
    struct entry *first = add(&map, 1);
    struct entry *second = mem_alloc(sizeof *second);
    second->key = key_of(1);
    struct entry *replaced = NULL;
    HASH_REPLACE(hh, map, key, sizeof second->key, second, replaced);
    assert_ptr_equal(replaced, first);
    assert_ptr_equal(find(map, 1), second);
    free(replaced);
    clear(&map);
}

static int by_number(const struct entry *a, const struct entry *b)
{
    return (a->number > b->number) - (a->number < b->number);
}

static void an_entry_may_stand_in_two_maps(void **state)
{
    (void)state;
    struct entry *map = NULL;
    struct entry *by_name = NULL;
    static const char *const names[] = {"one", "two", "three"};
    for (uint32_t i = 0; i < 3; i++) {
        struct entry *entry = add(&map, 3 - i);
        entry->name = names[i];
        HASH_ADD_KEYPTR(hh_by_name, by_name, entry->name, strlen(entry->name), entry);
    }
    struct entry *found = NULL;
    HASH_FIND(hh_by_name, by_name, "two", strlen("two"), found);
    assert_ptr_equal(found, find(map, 2));
    HASH_FIND(hh_by_name, by_name, "four", strlen("four"), found);
    assert_null(found);

    HASH_SORT(map, by_number);
    assert_int_equal(map->number, 1);
    HASH_CLEAR(hh_by_name, by_name);
    clear(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_added_is_found_by_a_struct_key),
        cmocka_unit_test(what_was_deleted_is_gone),
        cmocka_unit_test(iteration_is_in_the_order_of_addition),
        cmocka_unit_test(replacing_gives_the_old_one_back),
        cmocka_unit_test(an_entry_may_stand_in_two_maps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
