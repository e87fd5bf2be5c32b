/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/fetch_note.h"

static void notes(const char *answer, const char *expected)
{
    json_t *json = json_loads(answer, 0, NULL);
    char note[PROGRESS_NOTE_BYTES] = "untouched";
    fetch_note_format(json, note);
    json_decref(json);
    assert_string_equal(note, expected);
}

static void of_one_file(void **state)
{
    (void)state;
    notes("{\"state\":\"running\",\"sources_count\":3}", "from 3 nodes");
    notes("{\"state\":\"running\",\"sources_count\":1}", "from 1 node");
    notes("{\"state\":\"searching\",\"sources_count\":0}", "searching");
    notes("{\"state\":\"searching\",\"sources_count\":2}", "from 2 nodes");
    notes("{\"state\":\"no_space\",\"sources_count\":2}", "the node's disk is full");
    /* Nothing comes from anybody, or not any more. */
    notes("{\"state\":\"done\",\"sources_count\":3}", "");
    notes("{\"state\":\"here\"}", "");
    notes("{\"state\":\"absent\"}", "");
}

static void of_many_files(void **state)
{
    (void)state;
    notes("{\"fetches\":[]}", "");
    notes("{\"fetches\":[{\"state\":\"searching\",\"sources_count\":0,\"readers\":1},"
          "{\"state\":\"running\",\"sources_count\":2,\"readers\":1},"
          "{\"state\":\"committing\",\"sources_count\":7,\"readers\":1}]}",
          "from 2 nodes");
    notes("{\"fetches\":[{\"state\":\"searching\",\"sources_count\":0,\"readers\":1}]}",
          "searching");
}

static void what_nobody_reads_is_somebody_elses(void **state)
{
    (void)state;
    notes("{\"fetches\":[{\"state\":\"running\",\"sources_count\":5,\"readers\":0}]}", "");
    notes("{\"fetches\":[{\"state\":\"running\",\"sources_count\":5,\"readers\":0},"
          "{\"state\":\"running\",\"sources_count\":2,\"readers\":1}]}",
          "from 2 nodes");
}

static void what_makes_no_sense_is_nothing(void **state)
{
    (void)state;
    notes("[]", "");
    notes("{}", "");
    notes("{\"state\":7,\"sources_count\":\"x\"}", "");
    notes("{\"fetches\":[1,null]}", "");
    fetch_note_format(NULL, (char[PROGRESS_NOTE_BYTES]){0});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_one_file),
        cmocka_unit_test(of_many_files),
        cmocka_unit_test(what_nobody_reads_is_somebody_elses),
        cmocka_unit_test(what_makes_no_sense_is_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
