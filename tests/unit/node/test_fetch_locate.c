/* SPDX-License-Identifier: Apache-2.0 */

/* Finding content among real nodes. How locate finds it in every case is tested with many nodes in
 * virtual time (tests/unit/locate). */

#include "real_nodes.h"

#include "hash/sha256.h"
#include "node/fetch.h"
#include "store/put.h"

static struct fetch *fetch_of(const struct one *one)
{
    return network_fetch(one->network);
}

/* A file of this content, known to nobody but its node. */
static struct id put_file(const struct one *one, const char *content)
{
    struct store_put *put = NULL;
    struct store_put_result result;
    assert_int_equal(store_put_begin(node_store(one->node), STORE_ORIGIN, &put), 0);
    assert_int_equal(store_put_write(put, bytes_of_string(content)), 0);
    assert_int_equal(store_put_commit(put, &result), 0);
    return result.id;
}

static struct id any_id(const char *text)
{
    struct id id;
    sha256_id(bytes_of_string(text), &id);
    return id;
}

struct located {
    struct waiting waiting;
    int err;
    bool is_final;
    bool asked_everyone;
    struct locate_held_by holders[8];
    size_t holders_count;
    struct locate_answer answers[8];
    size_t answers_count;
};

static void located(void *context, int err, const struct locate_found *found)
{
    struct located *result = context;
    result->err = err;
    if (!err) {
        result->is_final = found->is_final;
        result->asked_everyone = found->asked_everyone;
        result->holders_count = found->holders_count;
        result->answers_count = found->answers_count;
        for (size_t i = 0; i < found->holders_count && i < 8; i++) {
            result->holders[i] = found->holders[i];
        }
        for (size_t i = 0; i < found->answers_count && i < 8; i++) {
            result->answers[i] = found->answers[i];
        }
    }
    answer(&result->waiting);
}

static struct located locate_at(const struct one *one, const struct id *id, enum locate_depth depth,
                                uint64_t wait_ms)
{
    struct located result = {.waiting = WAITING_INIT};
    const struct fetch_locate_options options = {
        .key = ring_key_of(id), .depth = depth, .wait_ms = wait_ms};
    fetch_locate(fetch_of(one), &options, located, &result);
    wait_for_answers(&result.waiting, 1);
    return result;
}

static bool holds(const struct located *result, const struct one *one)
{
    for (size_t i = 0; i < result->holders_count; i++) {
        if (node_id_equal(&result->holders[i].node, node_identity(one->node))) {
            return true;
        }
    }
    return false;
}

static size_t stored_count(const struct one *one, const struct id *id)
{
    struct locate_held_by holders[8];
    size_t count = 0;
    const struct ring_key key = ring_key_of(id);
    assert_int_equal(fetch_stored(fetch_of(one), &key, holders, 8, &count), 0);
    return count;
}

static void what_one_has_another_finds(void **state)
{
    (void)state;
    struct one pair[2];
    open_pair(pair);
    const struct id before = put_file(&pair[0], "before");
    const struct located everyone = locate_at(&pair[1], &before, LOCATE_EVERYONE, 20000);
    assert_int_equal(everyone.err, 0);
    assert_true(everyone.is_final);
    assert_true(everyone.asked_everyone);
    assert_int_equal(everyone.holders_count, 1);
    assert_true(holds(&everyone, &pair[0]));
    /* It is told to the other one, an owner, by itself. */
    WAIT_FOR(stored_count(&pair[1], &before) == 1);
    const struct located index = locate_at(&pair[1], &before, LOCATE_INDEX, 20000);
    assert_true(holds(&index, &pair[0]));
    assert_false(index.asked_everyone);
    close_one(&pair[1]);
    close_one(&pair[0]);
}

static void what_nobody_has_is_denied_by_all(void **state)
{
    (void)state;
    struct one pair[2];
    open_pair(pair);
    const struct id nowhere = any_id("nowhere");
    const struct located result = locate_at(&pair[1], &nowhere, LOCATE_UNTIL_COMPLETE, 20000);
    assert_int_equal(result.err, 0);
    assert_true(result.is_final);
    assert_int_equal(result.holders_count, 0);
    assert_int_equal(result.answers_count, 1);
    assert_int_equal(result.answers[0].outcome, LOCATE_DENIED);
    close_one(&pair[1]);
    close_one(&pair[0]);
}

static void who_is_gone_is_named(void **state)
{
    (void)state;
    struct one pair[2];
    open_pair(pair);
    const struct node_id other = *node_identity(pair[0].node);
    network_leave_wait(pair[0].network, MEMBER_UNREACHABLE);
    close_one(&pair[0]);
    WAIT_FOR(alive_count(&pair[1]) == 1);
    const struct id id = any_id("x");
    struct located result = locate_at(&pair[1], &id, LOCATE_UNTIL_COMPLETE, 20000);
    assert_true(result.is_final);
    assert_int_equal(result.answers_count, 1);
    assert_true(node_id_equal(&result.answers[0].node, &other));
    assert_int_equal(result.answers[0].outcome, LOCATE_UNREACHABLE);
    close_one(&pair[1]);
}

/* The index survives a clean stop, and nothing else. */
static void an_index_is_kept_or_thrown_away_and_told_again(void **state)
{
    (void)state;
    struct one pair[2];
    open_pair(pair);
    const struct id file = put_file(&pair[0], "told");
    WAIT_FOR(stored_count(&pair[1], &file) == 1);
    stop_one(&pair[1]);
    char mark[64];
    snprintf(mark, sizeof mark, "%s/holders/clean", pair[1].dir);
    assert_int_equal(access(mark, F_OK), 0);
    start_one(&pair[1], NULL); /* it knows whom to talk to, but has not heard of it yet */
    assert_int_not_equal(access(mark, F_OK), 0);
    assert_int_equal(stored_count(&pair[1], &file), 1);
    stop_one(&pair[1]);
    assert_int_equal(unlink(mark), 0);
    start_one(&pair[1], NULL);
    WAIT_FOR(stored_count(&pair[1], &file) == 1);
    close_one(&pair[1]);
    close_one(&pair[0]);
}

static void hints_are_kept_here_and_asked(void **state)
{
    (void)state;
    struct one pair[2];
    open_pair(pair);
    const struct id file = any_id("hinted");
    const struct ring_key key = ring_key_of(&file);
    fetch_hint(fetch_of(&pair[0]), &key, node_identity(pair[1].node));
    assert_int_equal(stored_count(&pair[0], &file), 1);
    assert_int_equal(stored_count(&pair[1], &file), 0);
    close_one(&pair[1]);
    close_one(&pair[0]);
}

static void who_waits_is_answered_at_the_close(void **state)
{
    (void)state;
    struct one pair[2];
    open_pair(pair);
    /* Its member list names one that never answers. */
    shutdown(pair[0].listen_fd, SHUT_RDWR);
    pthread_join(pair[0].acceptor, NULL);
    struct located results[16];
    for (size_t i = 0; i < 16; i++) {
        const struct id id = any_id("y");
        results[i] = (struct located){.waiting = WAITING_INIT};
        const struct fetch_locate_options options = {
            .key = ring_key_of(&id), .depth = LOCATE_EVERYONE, .wait_ms = FETCH_LOCATE_MS_MAX};
        fetch_locate(fetch_of(&pair[1]), &options, located, &results[i]);
    }
    close_one(&pair[1]);
    for (size_t i = 0; i < 16; i++) {
        wait_for_answers(&results[i].waiting, 1);
        assert_true(results[i].err == -ECANCELED || results[i].is_final);
    }
    close(pair[0].listen_fd);
    network_close(pair[0].network);
    node_close(pair[0].node);
    nftw(pair[0].dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* What is found while the time runs out is told. */
static void a_wait_ends(void **state)
{
    (void)state;
    struct one pair[2];
    open_pair(pair);
    const struct id file = put_file(&pair[1], "own");
    const struct located result = locate_at(&pair[1], &file, LOCATE_EVERYONE, 0);
    assert_int_equal(result.err, 0);
    assert_true(result.is_final || result.answers_count == 0);
    close_one(&pair[1]);
    close_one(&pair[0]);
}

int main(void)
{
    log_set_level(LOG_OFF);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_one_has_another_finds),
        cmocka_unit_test(what_nobody_has_is_denied_by_all),
        cmocka_unit_test(who_is_gone_is_named),
        cmocka_unit_test(an_index_is_kept_or_thrown_away_and_told_again),
        cmocka_unit_test(hints_are_kept_here_and_asked),
        cmocka_unit_test(who_waits_is_answered_at_the_close),
        cmocka_unit_test(a_wait_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
