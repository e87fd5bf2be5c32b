/* SPDX-License-Identifier: Apache-2.0 */

/* Waits without libmicrohttpd: what suspends and resumes a connection is this file's. That an
 * answer waits and comes: tests/integration/test_fetch.py. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/server_priv.h"
#include "http/wait.h"

static struct seen {
    unsigned suspended;
    unsigned requests; /* of them */
    unsigned resumed;
} seen;

void server_suspend(struct server *server, struct MHD_Connection *connection)
{
    (void)server;
    (void)connection;
    seen.suspended++;
}

void request_suspend(struct request *request)
{
    (void)request;
    seen.suspended++;
    seen.requests++;
}

void server_resume(struct server *server, struct MHD_Connection *connection)
{
    (void)server;
    (void)connection;
    seen.resumed++;
}

struct fixture {
    struct server server;
    struct connection peer;
    struct request request;
    struct wait wait;
};

static int set_up(void **state)
{
    static struct fixture fixture;
    fixture = (struct fixture){.server = {.waits = waits_new()}};
    fixture.request = (struct request){.server = &fixture.server, .peer = &fixture.peer};
    wait_init(&fixture.wait, &fixture.request);
    seen = (struct seen){0};
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    waits_free(fixture->server.waits);
    return 0;
}

static void it_sleeps_until_there_are_news(void **state)
{
    struct fixture *fixture = *state;
    wait_look(&fixture->wait);
    assert_int_equal(wait_sleep(&fixture->wait, NULL), WAIT_SLEEPS);
    assert_int_equal(seen.suspended, 1);
    assert_int_equal(seen.requests, 0);
    assert_int_equal(seen.resumed, 0);
    wait_wake(&fixture->wait);
    assert_int_equal(seen.resumed, 1);
    /* It is awake: resumed once, however much comes. */
    wait_wake(&fixture->wait);
    assert_int_equal(seen.resumed, 1);
    /* And again, this time before the answer. */
    wait_look(&fixture->wait);
    assert_int_equal(wait_sleep(&fixture->wait, &fixture->request), WAIT_SLEEPS);
    assert_int_equal(seen.requests, 1);
    wait_wake(&fixture->wait);
    assert_int_equal(seen.resumed, 2);
}

static void news_between_look_and_sleep_are_not_slept_over(void **state)
{
    struct fixture *fixture = *state;
    wait_look(&fixture->wait);
    wait_wake(&fixture->wait);
    assert_int_equal(wait_sleep(&fixture->wait, NULL), WAIT_AGAIN);
    assert_int_equal(seen.suspended + seen.resumed, 0);
    wait_look(&fixture->wait);
    assert_int_equal(wait_sleep(&fixture->wait, NULL), WAIT_SLEEPS);
    wait_wake(&fixture->wait);
}

static void the_end_of_the_server_ends_all_waiting(void **state)
{
    struct fixture *fixture = *state;
    struct wait others[3];
    for (size_t i = 0; i < 3; i++) {
        wait_init(&others[i], &fixture->request);
        assert_int_equal(wait_sleep(&others[i], NULL), WAIT_SLEEPS);
    }
    waits_stop(fixture->server.waits);
    assert_int_equal(seen.resumed, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(wait_sleep(&others[i], NULL), WAIT_OVER);
    }
    assert_int_equal(wait_sleep(&fixture->wait, &fixture->request), WAIT_OVER);
    assert_int_equal(seen.suspended, 3);
}

static bool left(const struct connection *connection)
{
    return connection->was_left;
}

static void who_has_left_is_not_waited_for(void **state)
{
    struct fixture *fixture = *state;
    struct waits *waits = fixture->server.waits;
    assert_int_equal(wait_sleep(&fixture->wait, NULL), WAIT_SLEEPS);
    waits_look(waits, 1000, left);
    fixture->peer.was_left = true;
    waits_look(waits, 2000, left);
    waits_look(waits, 2000 + WAIT_LEFT_MS - 1, left);
    assert_int_equal(seen.resumed, 0);
    waits_look(waits, 2000 + WAIT_LEFT_MS, left);
    assert_int_equal(seen.resumed, 1);
    assert_int_equal(wait_sleep(&fixture->wait, NULL), WAIT_OVER);
}

/* Seconds of one time are not added to those of another. */
static void who_was_only_thought_to_have_left_is(void **state)
{
    struct fixture *fixture = *state;
    struct waits *waits = fixture->server.waits;
    assert_int_equal(wait_sleep(&fixture->wait, NULL), WAIT_SLEEPS);
    fixture->peer.was_left = true;
    waits_look(waits, 1000, left);
    fixture->peer.was_left = false;
    waits_look(waits, 1000 + WAIT_LEFT_MS / 2, left);
    fixture->peer.was_left = true;
    waits_look(waits, 1000 + WAIT_LEFT_MS, left);
    assert_int_equal(seen.resumed, 0);
    wait_wake(&fixture->wait);
    assert_int_equal(seen.resumed, 1);
}

/* Who sends no more and takes what comes is there; news alone say nothing of it. */
static void an_answer_that_moves_gives_time_anew(void **state)
{
    struct fixture *fixture = *state;
    struct waits *waits = fixture->server.waits;
    fixture->peer.was_left = true;
    uint64_t now_ms = 1000;
    for (unsigned i = 1; i < 4; i++) {
        assert_int_equal(wait_sleep(&fixture->wait, NULL), WAIT_SLEEPS);
        waits_look(waits, now_ms, left);
        waits_look(waits, now_ms + WAIT_LEFT_MS - 1, left);
        wait_wake(&fixture->wait);
        assert_int_equal(seen.resumed, i);
        wait_look(&fixture->wait);
        wait_moved(&fixture->wait);
        now_ms += WAIT_LEFT_MS + 1000;
    }
    assert_int_equal(wait_sleep(&fixture->wait, NULL), WAIT_SLEEPS);
    waits_look(waits, now_ms, left);
    wait_wake(&fixture->wait);
    wait_look(&fixture->wait);
    assert_int_equal(wait_sleep(&fixture->wait, NULL), WAIT_SLEEPS);
    waits_look(waits, now_ms + WAIT_LEFT_MS, left);
    assert_int_equal(wait_sleep(&fixture->wait, NULL), WAIT_OVER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_sleeps_until_there_are_news, set_up, tear_down),
        cmocka_unit_test_setup_teardown(news_between_look_and_sleep_are_not_slept_over, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_end_of_the_server_ends_all_waiting, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_has_left_is_not_waited_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_was_only_thought_to_have_left_is, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_answer_that_moves_gives_time_anew, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
