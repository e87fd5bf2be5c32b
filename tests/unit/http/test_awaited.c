/* SPDX-License-Identifier: Apache-2.0 */

/* Who wakes a request, and who frees the record, without libmicrohttpd. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "http/awaited.h"
#include "http/server_priv.h"

static unsigned suspended;
static unsigned resumed;

void server_suspend(struct server *server, struct MHD_Connection *connection)
{
    (void)server;
    (void)connection;
    suspended++;
}

void request_suspend(struct request *request)
{
    (void)request;
    suspended++;
}

void server_resume(struct server *server, struct MHD_Connection *connection)
{
    (void)server;
    (void)connection;
    resumed++;
}

struct fixture {
    struct server server;
    struct connection peer;
    struct request request;
    struct awaited awaited;
};

static int set_up(void **state)
{
    static struct fixture fixture;
    fixture = (struct fixture){.server = {.waits = waits_new()}};
    fixture.request = (struct request){.server = &fixture.server, .peer = &fixture.peer};
    awaited_init(&fixture.awaited, &fixture.request);
    suspended = 0;
    resumed = 0;
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    waits_free(fixture->server.waits);
    return 0;
}

/* What one of those does that were asked. */
static bool tell(struct awaited *awaited)
{
    awaited_lock(awaited);
    return awaited_told(awaited);
}

static void the_last_one_to_tell_wakes_it(void **state)
{
    struct fixture *fixture = *state;
    struct awaited *awaited = &fixture->awaited;
    awaited_ask(awaited, 2);
    assert_false(awaited_look(awaited));
    assert_int_equal(awaited_sleep(awaited, &fixture->request), WAIT_SLEEPS);
    assert_false(tell(awaited));
    assert_int_equal(resumed, 0);
    assert_false(tell(awaited));
    assert_int_equal(resumed, 1);
    assert_true(awaited_look(awaited));
    /* It asks for more. */
    awaited_ask(awaited, 1);
    assert_false(awaited_look(awaited));
    assert_false(tell(awaited));
    assert_int_equal(awaited_sleep(awaited, &fixture->request), WAIT_AGAIN);
    assert_true(awaited_look(awaited));
    bool is_told = false;
    awaited_leave(awaited, &is_told);
    assert_true(is_told);
    assert_true(awaited_end(awaited));
}

static void who_is_left_behind_frees_it_and_wakes_nobody(void **state)
{
    struct fixture *fixture = *state;
    struct awaited *awaited = &fixture->awaited;
    awaited_ask(awaited, 1);
    awaited_ask(awaited, 1);
    bool is_told = true;
    awaited_leave(awaited, &is_told);
    assert_false(is_told);
    assert_false(awaited_end(awaited));
    struct waits *waits = STEAL_PTR(fixture->server.waits); /* the server is not there any more */
    assert_false(tell(awaited));
    assert_true(tell(awaited));
    fixture->server.waits = waits;
    assert_int_equal(suspended + resumed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_last_one_to_tell_wakes_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_is_left_behind_frees_it_and_wakes_nobody, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
