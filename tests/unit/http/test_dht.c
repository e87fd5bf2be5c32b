/* SPDX-License-Identifier: Apache-2.0 */
#include "helpers.h"

#define KEY "00112233445566778899aabbccddeeff00112233"
#define ID KEY "445566778899aabbccddeeff"

static char *own_address(struct fixture *fixture)
{
    const struct address address = network_address(fixture->network);
    char text[ADDRESS_TEXT_CHARS + 1];
    address_format(&address, text);
    return mem_copy_string(text);
}

/* What is stored under the key: one hint of this node, or nothing. */
static void has(struct fixture *fixture, const char *target, bool is_stored)
{
    CLEANUP_FREE char *address = own_address(fixture);
    json_t *answer = ask(fixture, "GET", target, NULL, 200);
    assert_string_equal(text_of(answer, "key"), KEY);
    const json_t *values = json_object_get(answer, "values");
    const json_t *holders = json_object_get(answer, "holders");
    assert_int_equal(json_array_size(values), is_stored);
    assert_int_equal(json_array_size(holders), is_stored);
    if (is_stored) {
        assert_string_equal(json_string_value(json_array_get(values, 0)), address);
        assert_string_equal(text_of(json_array_get(holders, 0), "state"), "hint");
        assert_string_equal(text_of(json_array_get(holders, 0), "address"), address);
    }
    json_decref(answer);
}

/* Puts it, and takes it for granted only when it is told. */
static void put(struct fixture *fixture, const char *target, const char *value)
{
    json_t *answer = ask(fixture, "PUT", target, value, 200);
    assert_string_equal(text_of(answer, "key"), KEY);
    json_decref(answer);
}

static void a_hint_is_told(void **state)
{
    struct fixture *fixture = *state;
    CLEANUP_FREE char *address = own_address(fixture);
    CLEANUP_FREE char *value = mem_format("{\"value\":\"%s\"}", address);
    has(fixture, "/dht/" KEY, false);
    put(fixture, "/dht/" KEY, value);
    has(fixture, "/dht/" KEY, true);
    has(fixture, "/dht/" ID, true);
    /* The same again is the same. */
    put(fixture, "/dht/" ID, value);
    has(fixture, "/dht/" KEY, true);
}

static void a_hint_as_bare_text(void **state)
{
    struct fixture *fixture = *state;
    CLEANUP_FREE char *address = own_address(fixture);
    CLEANUP_FREE char *value = mem_format(" %s\r\n", address);
    put(fixture, "/dht/" ID, value);
    has(fixture, "/dht/" KEY, true);
}

static void a_hint_by_the_id_of_a_node(void **state)
{
    struct fixture *fixture = *state;
    char node[NODE_ID_HEX_CHARS + 1];
    node_id_format(node_identity(fixture->node), node);
    put(fixture, "/dht/" KEY, node);
    has(fixture, "/dht/" KEY, true);
}

static void what_makes_no_sense_is_refused(void **state)
{
    struct fixture *fixture = *state;
    CLEANUP_FREE char *long_text = mem_alloc(2000);
    memset(long_text, 'x', 1999);
    is_refused(fixture, "PUT", "/dht/" KEY, "", 400, "bad_body");
    is_refused(fixture, "PUT", "/dht/" KEY, " ", 400, "bad_body");
    is_refused(fixture, "PUT", "/dht/" KEY, "{\"value\":7}", 400, "bad_body");
    is_refused(fixture, "PUT", "/dht/" KEY, "{\"value\":\"\"}", 400, "bad_body");
    is_refused(fixture, "PUT", "/dht/" KEY, "127.0.0.1:1", 409, "not_member");
    is_refused(fixture, "PUT", "/dht/" KEY, KEY, 409, "not_member");
    is_refused(fixture, "PUT", "/dht/" KEY, "nonsense", 409, "not_member");
    is_refused(fixture, "PUT", "/dht/" KEY, long_text, 413, "too_large");
    is_refused(fixture, "PUT", "/dht/" KEY "0", "127.0.0.1:1", 400, "bad_id");
    is_refused(fixture, "GET", "/dht/" KEY "0", NULL, 400, "bad_id");
    is_refused(fixture, "GET", "/dht/0123456789ABCDEF0123456789ABCDEF01234567", NULL, 400,
               "bad_id");
    is_refused(fixture, "GET", "/dht", NULL, 404, "not_found");
    is_refused(fixture, "DELETE", "/dht/" KEY, NULL, 405, "method_not_allowed");
    has(fixture, "/dht/" KEY, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_hint_is_told, set_up_running, tear_down),
        cmocka_unit_test_setup_teardown(a_hint_as_bare_text, set_up_running, tear_down),
        cmocka_unit_test_setup_teardown(a_hint_by_the_id_of_a_node, set_up_running, tear_down),
        cmocka_unit_test_setup_teardown(what_makes_no_sense_is_refused, set_up_running, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
