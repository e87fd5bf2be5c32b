/* SPDX-License-Identifier: Apache-2.0 */
#include "base/list.h"

#include "helpers.h"

struct item {
    int number;
    struct item *next;
    struct item *prev;
};

static int by_number(const struct item *a, const struct item *b)
{
    return (a->number > b->number) - (a->number < b->number);
}

static void doubly_linked_adds_sorts_and_deletes(void **state)
{
    (void)state;
    struct item items[] = {{.number = 3}, {.number = 1}, {.number = 2}};
    struct item *list = NULL;
    DL_APPEND(list, &items[0]);
    DL_PREPEND(list, &items[1]);
    DL_APPEND(list, &items[2]);
    assert_ptr_equal(list, &items[1]);

    DL_SORT(list, by_number);
    int expected = 1;
    struct item *item = NULL;
    DL_FOREACH(list, item)
    {
        assert_int_equal(item->number, expected++);
    }
    assert_int_equal(expected, 4);

    struct item *next = NULL;
    DL_FOREACH_SAFE(list, item, next)
    {
        if (item->number == 2) {
            DL_DELETE(list, item);
        }
    }
    int count = 0;
    DL_COUNT(list, item, count);
    assert_int_equal(count, 2);
    assert_ptr_equal(list->next, &items[0]);
    assert_ptr_equal(items[0].prev, list);
}

static void singly_linked_adds_and_deletes(void **state)
{
    (void)state;
    struct item items[] = {{.number = 1}, {.number = 2}};
    struct item *list = NULL;
    LL_PREPEND(list, &items[0]);
    LL_PREPEND(list, &items[1]);
    struct item *found = NULL;
    LL_SEARCH_SCALAR(list, found, number, 1);
    assert_ptr_equal(found, &items[0]);
    LL_DELETE(list, &items[1]);
    assert_ptr_equal(list, &items[0]);
    assert_null(list->next);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(doubly_linked_adds_sorts_and_deletes),
        cmocka_unit_test(singly_linked_adds_and_deletes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
