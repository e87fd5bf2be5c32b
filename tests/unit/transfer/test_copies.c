/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A publisher, node 0, and others that are asked for copies, in virtual time. Messages arrive a
 * millisecond later, those to a node that is gone do not. A fetch ends when the test says so.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/mem.h"
#include "transfer/copies.h"
#include "wire/keep_message.h"

#define NODES 10u
#define MS ((uint64_t)1000)
#define SECOND (1000 * MS)
#define NOT_TOLD SIZE_MAX
#define FETCHES_MAX 40000u

struct net;

struct fetch {
    uint64_t list;
    uint32_t index;
    struct id file;
    struct node_id publisher;
    bool is_wanted;
};

struct node {
    struct net *net;
    struct node_id id;
    struct copies *copies;
    bool is_gone;
    bool fetches_at_once;
    struct fetch *fetches;
    size_t fetches_count;
    size_t running_max;
    size_t told_count; /* by kept() */
    uint64_t told_us;
};

struct letter {
    uint64_t at_us;
    unsigned from;
    unsigned to;
    struct buf bytes;
    struct letter *prev;
    struct letter *next;
};

struct net {
    uint64_t now_us;
    struct node nodes[NODES];
    struct letter *letters;
};

static void host_send(void *context, const struct node_id *to, struct bytes message)
{
    struct node *node = context;
    struct letter *letter = mem_alloc(sizeof *letter);
    letter->at_us = node->net->now_us + MS;
    letter->from = node->id.bytes[0] / 16;
    letter->to = to->bytes[0] / 16;
    buf_add(&letter->bytes, message);
    DL_APPEND(node->net->letters, letter);
}

static void host_kept(void *context, uint64_t number, size_t count)
{
    struct node *node = context;
    assert_int_equal(number, 77);
    assert_true(node->told_count == NOT_TOLD);
    node->told_count = count;
    node->told_us = node->net->now_us;
}

static void host_fetch(void *context, uint64_t list, uint32_t index,
                       const struct node_id *publisher, const struct id *file)
{
    struct node *node = context;
    assert_true(node->fetches_count < FETCHES_MAX);
    node->fetches[node->fetches_count++] = (struct fetch){list, index, *file, *publisher, true};
}

static void host_fetch_end(void *context, uint64_t list, uint32_t index, const struct id *file)
{
    struct node *node = context;
    for (size_t i = 0; i < node->fetches_count; i++) {
        struct fetch *fetch = &node->fetches[i];
        if (fetch->list == list && fetch->index == index && id_equal(&fetch->file, file)) {
            assert_true(fetch->is_wanted);
            fetch->is_wanted = false;
            return;
        }
    }
    fail_msg("a fetch that never began");
}

/* Nodes 0 to 9 stand at even distances on the ring. */
static struct net *net_new(void)
{
    struct net *net = mem_alloc(sizeof *net);
    net->now_us = SECOND;
    for (unsigned i = 0; i < NODES; i++) {
        struct node *node = &net->nodes[i];
        node->net = net;
        node->id.bytes[0] = (uint8_t)(16 * i);
        node->told_count = NOT_TOLD;
        node->fetches = mem_alloc_array(FETCHES_MAX, sizeof *node->fetches);
        const struct copies_host host = {host_send, host_kept, host_fetch, host_fetch_end, node};
        node->copies = copies_new(&host, 0x1234567890abcdefu * (i + 1));
    }
    return net;
}

static void net_free(struct net *net)
{
    struct letter *letter;
    struct letter *next;
    DL_FOREACH_SAFE(net->letters, letter, next)
    {
        buf_done(&letter->bytes);
        free(letter);
    }
    for (unsigned i = 0; i < NODES; i++) {
        copies_free(net->nodes[i].copies);
        free(net->nodes[i].fetches);
    }
    free(net);
}

/* Fetches that nobody has answered yet. */
static size_t running(const struct node *node)
{
    size_t count = 0;
    for (size_t i = 0; i < node->fetches_count; i++) {
        count += node->fetches[i].is_wanted;
    }
    return count;
}

static void answer_all(struct node *node, int err)
{
    for (size_t i = 0; i < node->fetches_count; i++) {
        const struct fetch fetch = node->fetches[i];
        if (fetch.is_wanted) {
            node->fetches[i].is_wanted = err == -EAGAIN;
            copies_fetched(node->copies, node->net->now_us, fetch.list, fetch.index, err);
        }
    }
}

static void deliver(struct net *net)
{
    struct letter *letter;
    struct letter *next;
    DL_FOREACH_SAFE(net->letters, letter, next)
    {
        if (letter->at_us > net->now_us) {
            continue;
        }
        struct node *to = &net->nodes[letter->to];
        if (!to->is_gone && !net->nodes[letter->from].is_gone) {
            copies_message(to->copies, net->now_us, &net->nodes[letter->from].id,
                           buf_bytes(&letter->bytes));
        }
        DL_DELETE(net->letters, letter);
        buf_done(&letter->bytes);
        free(letter);
    }
}

static void run(struct net *net, uint64_t for_us)
{
    const uint64_t end_us = net->now_us + for_us;
    while (net->now_us < end_us) {
        net->now_us += MS;
        deliver(net);
        for (unsigned i = 0; i < NODES; i++) {
            struct node *node = &net->nodes[i];
            if (node->is_gone) {
                continue;
            }
            if (net->now_us >= copies_next_us(node->copies)) {
                copies_tick(node->copies, net->now_us);
            }
            const size_t count = running(node);
            node->running_max = count > node->running_max ? count : node->running_max;
            if (node->fetches_at_once) {
                answer_all(node, 0);
            }
        }
    }
}

/* `zones` has a letter for each node. The first file's key lies just behind node 3. */
static void wish(struct net *net, const char *zones, size_t files_count, size_t count,
                 uint64_t wait_us)
{
    struct id *files = mem_alloc_array(files_count, sizeof *files);
    for (size_t i = 0; i < files_count; i++) {
        files[i] = (struct id){{16 * 3 + 1, (uint8_t)i, (uint8_t)(i >> 8), (uint8_t)(i >> 16)}};
    }
    struct copies_member members[NODES];
    size_t members_count = 0;
    for (unsigned i = 1; i < NODES; i++) {
        if (!net->nodes[i].is_gone) {
            members[members_count++] =
                (struct copies_member){net->nodes[i].id, BYTES((const uint8_t *)&zones[i], 1)};
        }
    }
    const struct copies_wish wanted = {
        .number = 77,
        .files = files,
        .files_count = files_count,
        .count = count,
        .until_us = net->now_us + wait_us,
        .zone = BYTES((const uint8_t *)zones, 1),
        .members = members,
        .members_count = members_count,
    };
    assert_int_equal(copies_wish(net->nodes[0].copies, net->now_us, &wanted), 0);
    assert_true(net->nodes[0].told_count == NOT_TOLD);
    free(files);
}

static void assert_asked(const struct net *net, const char *expected)
{
    for (unsigned i = 1; i < NODES; i++) {
        if ((net->nodes[i].fetches_count > 0) != (expected[i] == 'x')) {
            fail_msg("node %u was %sasked", i, expected[i] == 'x' ? "not " : "");
        }
    }
}

/* ---- whom ---------------------------------------------------------------------------------------
 */

static void the_next_on_the_ring_are_asked(void **state)
{
    (void)state;
    struct net *net = net_new();
    wish(net, "aaaaaaaaaa", 1, 3, 10 * SECOND);
    run(net, 100 * MS);
    assert_asked(net, "    xxx   ");
    assert_true(node_id_equal(&net->nodes[4].fetches[0].publisher, &net->nodes[0].id));
    net_free(net);
}

static void one_of_each_other_zone_goes_first(void **state)
{
    (void)state;
    struct net *net = net_new();
    wish(net, "aabaabacac", 1, 3, 10 * SECOND);
    run(net, 100 * MS);
    /* From node 4 on: 5 is the first in b, 7 the first in c; then 4, which is in ours. */
    assert_asked(net, "    xx x  ");
    net_free(net);
}

/* ---- how it ends --------------------------------------------------------------------------------
 */

static void it_is_told_when_all_have_all(void **state)
{
    (void)state;
    struct net *net = net_new();
    wish(net, "aaaaaaaaaa", 5, 2, 60 * SECOND);
    run(net, 20 * SECOND);
    answer_all(&net->nodes[4], 0);
    run(net, SECOND);
    assert_true(net->nodes[0].told_count == NOT_TOLD);
    copies_fetched(net->nodes[5].copies, net->now_us, net->nodes[5].fetches[0].list, 0, 0);
    run(net, SECOND);
    assert_true(net->nodes[0].told_count == NOT_TOLD);
    net->nodes[5].fetches[0].is_wanted = false;
    answer_all(&net->nodes[5], 0);
    run(net, SECOND);
    assert_int_equal(net->nodes[0].told_count, 2);
    assert_asked(net, "    xx    ");
    assert_int_equal(copies_counters(net->nodes[5].copies)->lists_kept, 1);
    assert_int_equal(copies_counters(net->nodes[5].copies)->lists_running, 0);
    assert_int_equal(copies_counters(net->nodes[0].copies)->wishes_running, 0);
    net_free(net);
}

static void who_is_silent_is_replaced_and_counts_if_it_has_it_after_all(void **state)
{
    (void)state;
    struct net *net = net_new();
    net->nodes[5].fetches_at_once = true;
    net->nodes[4].is_gone = true;
    wish(net, "aaaaaaaaaa", 1, 2, 60 * SECOND);
    net->nodes[4].is_gone = true;
    run(net, SECOND);
    assert_asked(net, "     xx   ");
    net_free(net);

    net = net_new();
    net->nodes[5].fetches_at_once = true;
    wish(net, "aaaaaaaaaa", 1, 2, 60 * SECOND);
    net->nodes[4].is_gone = true;
    run(net, 5 * SECOND);
    assert_asked(net, "     x    ");
    run(net, 2 * SECOND);
    assert_asked(net, "     xx   ");
    net->nodes[4].is_gone = false; /* it was the network: what it was asked has to come again */
    run(net, 10 * SECOND);
    assert_true(net->nodes[0].told_count == NOT_TOLD);
    answer_all(&net->nodes[6], 0);
    run(net, SECOND);
    assert_int_equal(net->nodes[0].told_count, 2);
    net_free(net);
}

static void who_stops_working_is_replaced(void **state)
{
    (void)state;
    struct net *net = net_new();
    wish(net, "aaaaaaaaaa", 1, 1, 120 * SECOND);
    run(net, 10 * SECOND);
    assert_asked(net, "    x     ");
    net->nodes[4].is_gone = true;
    run(net, 17 * SECOND);
    assert_asked(net, "    xx    ");
    /* The one given up is back and has it. */
    net->nodes[4].is_gone = false;
    answer_all(&net->nodes[4], 0);
    run(net, SECOND);
    assert_int_equal(net->nodes[0].told_count, 1);
    assert_int_equal(running(&net->nodes[5]), 0); /* released */
    net_free(net);
}

static void who_is_lost_is_replaced_at_once(void **state)
{
    (void)state;
    struct net *net = net_new();
    wish(net, "aaaaaaaaaa", 1, 1, 120 * SECOND);
    run(net, 100 * MS);
    copies_lost(net->nodes[0].copies, net->now_us, &net->nodes[4].id);
    run(net, 100 * MS);
    assert_asked(net, "    xx    ");
    net_free(net);
}

static void who_fails_or_has_no_room_is_replaced(void **state)
{
    (void)state;
    struct net *net = net_new();
    wish(net, "aaaaaaaaaa", 3, 1, 120 * SECOND);
    run(net, 100 * MS);
    copies_fetched(net->nodes[4].copies, net->now_us, net->nodes[4].fetches[1].list, 1, -ENOENT);
    assert_false(net->nodes[4].fetches[0].is_wanted); /* the others are not needed either */
    assert_false(net->nodes[4].fetches[2].is_wanted);
    run(net, 100 * MS);
    assert_asked(net, "    xx    ");
    answer_all(&net->nodes[5], -EAGAIN);
    run(net, 100 * MS);
    assert_asked(net, "    xxx   ");
    /* There is room again. */
    answer_all(&net->nodes[5], 0);
    run(net, 100 * MS);
    assert_int_equal(net->nodes[0].told_count, 1);
    net_free(net);
}

static void when_time_is_over_it_says_how_many_and_goes_on(void **state)
{
    (void)state;
    struct net *net = net_new();
    net->nodes[4].fetches_at_once = true;
    wish(net, "aaaaaaaaaa", 1, 3, 5 * SECOND);
    const uint64_t begin_us = net->now_us;
    run(net, 20 * SECOND);
    assert_int_equal(net->nodes[0].told_count, 1);
    assert_true(net->nodes[0].told_us - begin_us <= 5 * SECOND + MS);
    assert_int_equal(running(&net->nodes[5]), 1);
    answer_all(&net->nodes[5], 0);
    run(net, SECOND);
    assert_int_equal(copies_counters(net->nodes[5].copies)->lists_kept, 1);
    assert_int_equal(copies_counters(net->nodes[0].copies)->wishes_short, 1);
    net_free(net);
}

static void who_wants_it_no_more_is_told_at_once_and_it_goes_on(void **state)
{
    (void)state;
    struct net *net = net_new();
    net->nodes[4].fetches_at_once = true;
    wish(net, "aaaaaaaaaa", 1, 3, 3600 * SECOND);
    run(net, SECOND);
    copies_cancel(net->nodes[0].copies, net->now_us, 78); /* another one's */
    run(net, SECOND);
    assert_true(net->nodes[0].told_count == NOT_TOLD);
    copies_cancel(net->nodes[0].copies, net->now_us, 77);
    run(net, MS);
    assert_true(net->nodes[0].told_count == 1);
    assert_int_equal(copies_counters(net->nodes[0].copies)->wishes_running, 0);
    copies_cancel(net->nodes[0].copies, net->now_us, 77);
    assert_int_equal(running(&net->nodes[5]), 1);
    answer_all(&net->nodes[5], 0);
    run(net, SECOND);
    assert_int_equal(copies_counters(net->nodes[5].copies)->lists_kept, 1);
    net_free(net);
}

static void when_nobody_is_left_it_says_so_at_once(void **state)
{
    (void)state;
    struct net *net = net_new();
    for (unsigned i = 3; i < NODES; i++) {
        net->nodes[i].is_gone = true;
    }
    net->nodes[1].fetches_at_once = true;
    net->nodes[2].fetches_at_once = true;
    wish(net, "aaaaaaaaaa", 1, 3, 3600 * SECOND);
    run(net, 100 * MS);
    assert_true(net->nodes[0].told_count == 2);
    net_free(net);
}

/* ---- bounds -------------------------------------------------------------------------------------
 */

static void many_files_are_fetched_some_at_a_time(void **state)
{
    (void)state;
    struct net *net = net_new();
    net->nodes[4].fetches_at_once = true;
    wish(net, "aaaaaaaaaa", 2 * KEEP_FILES_MAX + 5, 1, 3600 * SECOND);
    run(net, SECOND);
    assert_int_equal(net->nodes[4].fetches_count, 2 * KEEP_FILES_MAX + 5);
    assert_true(net->nodes[4].running_max <= COPIES_FETCHES_MAX);
    assert_int_equal(net->nodes[0].told_count, 1);
    net_free(net);
}

static void more_lists_than_one_may_have_are_refused(void **state)
{
    (void)state;
    struct net *net = net_new();
    struct id file = {{9}};
    for (unsigned i = 0; i < COPIES_LISTS_OF_ONE_MAX + 10; i++) {
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        const struct keep_message message = {
            .type = KEEP_KEEP, .number = i, .files = id_bytes(&file)};
        keep_message_format(&message, &bytes);
        copies_message(net->nodes[4].copies, net->now_us, &net->nodes[1].id, buf_bytes(&bytes));
    }
    assert_int_equal(copies_counters(net->nodes[4].copies)->lists_refused, 10);
    assert_int_equal(net->nodes[4].fetches_count, COPIES_LISTS_OF_ONE_MAX);
    run(net, 10 * MS);
    net_free(net);
}

static void a_number_that_comes_again_with_other_files_is_another_list(void **state)
{
    (void)state;
    struct net *net = net_new();
    for (unsigned i = 1; i <= 2; i++) {
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        const struct id file = {{(uint8_t)i}};
        const struct keep_message message = {
            .type = KEEP_KEEP, .number = 5, .files = id_bytes(&file)};
        keep_message_format(&message, &bytes);
        copies_message(net->nodes[4].copies, net->now_us, &net->nodes[1].id, buf_bytes(&bytes));
        copies_message(net->nodes[4].copies, net->now_us, &net->nodes[1].id, buf_bytes(&bytes));
    }
    assert_int_equal(net->nodes[4].fetches_count, 2);
    assert_false(net->nodes[4].fetches[0].is_wanted);
    assert_true(net->nodes[4].fetches[1].is_wanted);
    assert_int_equal(copies_counters(net->nodes[4].copies)->lists_running, 1);
    net_free(net);
}

static void what_nobody_asked_for_changes_nothing(void **state)
{
    (void)state;
    struct net *net = net_new();
    wish(net, "aaaaaaaaaa", 1, 1, 60 * SECOND);
    run(net, 10 * MS);
    for (uint64_t number = 0; number < 5000; number++) {
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        const struct keep_message message = {
            .type = KEEP_KEPT, .number = number, .verdict = KEEP_DONE, .kept = 1};
        keep_message_format(&message, &bytes);
        copies_message(net->nodes[0].copies, net->now_us, &net->nodes[7].id, buf_bytes(&bytes));
    }
    copies_message(net->nodes[0].copies, net->now_us, &net->nodes[7].id,
                   BYTES((const uint8_t *)"nothing", 7));
    copies_fetched(net->nodes[4].copies, net->now_us, 12345, 0, 0);
    run(net, SECOND);
    assert_true(net->nodes[0].told_count == NOT_TOLD);
    assert_int_equal(copies_counters(net->nodes[0].copies)->messages_bad, 1);
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_next_on_the_ring_are_asked),
        cmocka_unit_test(one_of_each_other_zone_goes_first),
        cmocka_unit_test(it_is_told_when_all_have_all),
        cmocka_unit_test(who_is_silent_is_replaced_and_counts_if_it_has_it_after_all),
        cmocka_unit_test(who_stops_working_is_replaced),
        cmocka_unit_test(who_is_lost_is_replaced_at_once),
        cmocka_unit_test(who_fails_or_has_no_room_is_replaced),
        cmocka_unit_test(when_time_is_over_it_says_how_many_and_goes_on),
        cmocka_unit_test(who_wants_it_no_more_is_told_at_once_and_it_goes_on),
        cmocka_unit_test(when_nobody_is_left_it_says_so_at_once),
        cmocka_unit_test(many_files_are_fetched_some_at_a_time),
        cmocka_unit_test(more_lists_than_one_may_have_are_refused),
        cmocka_unit_test(a_number_that_comes_again_with_other_files_is_another_list),
        cmocka_unit_test(what_nobody_asked_for_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
