/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/random.h"
#include "cluster/view_priv.h"

#define MEMBERS 2000u

static struct record *record_of(struct member_pool *pool, const struct node_id *id,
                                uint64_t incarnation)
{
    const struct member_record member = {
        .id = *id,
        .version = {incarnation, 7, MEMBER_ALIVE},
        .address = {.port = 7420},
        .name = bytes_of_string("name"),
        .zone = bytes_of_string("zone"),
    };
    return pool_take(pool, &member);
}

static int compare_ids(const void *a, const void *b)
{
    return node_id_compare(a, b);
}

static struct node_id *random_ids(struct random *random, size_t count)
{
    struct node_id *ids = mem_alloc_array(count, sizeof *ids);
    for (size_t i = 0; i < count; i++) {
        random_fill(random, ids[i].bytes, sizeof ids[i].bytes);
    }
    return ids;
}

/* Against a sorted array of who is alive. */
static void ranks_follow_the_ring(void **state)
{
    (void)state;
    struct random random;
    random_init(&random, 1);
    struct member_pool *pool = member_pool_new();
    struct view view;
    view_init(&view, pool);
    struct node_id *ids = random_ids(&random, MEMBERS);
    struct node_id *alive = mem_alloc_array(MEMBERS, sizeof *alive);
    size_t alive_count = 0;
    for (size_t i = 0; i < MEMBERS; i++) {
        const bool is_alive = random_below(&random, 4) != 0;
        view_add(&view, record_of(pool, &ids[i], 1), is_alive ? MEMBER_ALIVE : MEMBER_UNREACHABLE);
        if (is_alive) {
            alive[alive_count++] = ids[i];
        }
    }
    qsort(alive, alive_count, sizeof *alive, compare_ids);
    assert_int_equal(view.count, MEMBERS);
    assert_int_equal(view.alive_count, alive_count);
    for (size_t i = 0; i < alive_count; i++) {
        assert_true(node_id_equal(&view_at_rank(&view, i)->record->id, &alive[i]));
        assert_int_equal(view_rank(&view, &alive[i]), i);
    }
    for (size_t i = 0; i < MEMBERS; i++) {
        const struct entry *entry = view_find(&view, &ids[i]);
        assert_non_null(entry);
        assert_true(node_id_equal(&entry->record->id, &ids[i]));
    }
    struct node_id stranger;
    random_fill(&random, stranger.bytes, sizeof stranger.bytes);
    assert_null(view_find(&view, &stranger));
    view_done(&view);
    member_pool_free(pool);
    free(ids);
    free(alive);
}

static void digest_is_of_the_content_not_of_the_way_there(void **state)
{
    (void)state;
    struct random random;
    random_init(&random, 2);
    struct member_pool *pool = member_pool_new();
    struct node_id *ids = random_ids(&random, 300);
    struct view one;
    struct view other;
    view_init(&one, pool);
    view_init(&other, pool);
    for (size_t i = 0; i < 300; i++) {
        view_add(&one, record_of(pool, &ids[i], 2), MEMBER_ALIVE);
        view_add(&other, record_of(pool, &ids[299 - i], 1), MEMBER_UNREACHABLE);
    }
    assert_true(one.digest != other.digest);
    for (size_t i = 0; i < 300; i++) {
        struct entry *entry = view_find(&other, &ids[i]);
        view_replace(&other, entry, record_of(pool, &ids[i], 2), MEMBER_ALIVE);
    }
    assert_true(one.digest == other.digest);
    for (size_t i = 0; i < MEMBER_BUCKETS; i++) {
        assert_true(one.buckets[i].digest == other.buckets[i].digest);
    }
    /* Each part of a version counts. */
    struct entry *entry = view_find(&other, &ids[5]);
    view_replace(&other, entry, record_share(entry->record), MEMBER_LEFT);
    assert_true(one.digest != other.digest);
    assert_int_equal(other.alive_count, 299);
    view_replace(&other, entry, record_share(entry->record), MEMBER_ALIVE);
    view_remove(&other, view_find(&other, &ids[9]));
    assert_true(one.digest != other.digest);
    view_add(&other, record_of(pool, &ids[9], 2), MEMBER_ALIVE);
    assert_true(one.digest == other.digest);
    view_done(&one);
    view_done(&other);
    member_pool_free(pool);
    free(ids);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_follow_the_ring),
        cmocka_unit_test(digest_is_of_the_content_not_of_the_way_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
