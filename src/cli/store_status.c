/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "cli/cli.h"

static void print_status(const struct store_status *status, bool json)
{
    const struct {
        const char *name;
        uint64_t value;
    } lines[] = {
        {"format", STORE_FORMAT},
        {"files", status->files_count},
        {"blocks", status->blocks_count},
        {"lost_blocks", status->lost_count},
        {"segments", status->segments_count},
        {"live_bytes", status->live_bytes},
        {"allocated_bytes", status->allocated_bytes},
        {"cache_bytes", status->cache_bytes},
        {"external_files", status->externals_count},
        {"unreferenced", status->unreferenced_count},
        {"dead_ranges", status->dead_ranges_count},
    };
    json_t *object = json_object();
    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        if (json) {
            json_object_set_new(object, lines[i].name, json_integer((json_int_t)lines[i].value));
        } else {
            printf("%-16s %" PRIu64 "\n", lines[i].name, lines[i].value);
        }
    }
    if (json) {
        char *text = json_dumps(object, JSON_COMPACT);
        puts(text);
        free(text);
    }
    json_decref(object);
}

static enum cli_status run_status(const struct invocation *invocation)
{
    if (invocation->arguments_count > 0) {
        return cli_usage(invocation, "store status takes no arguments");
    }
    struct store *store = NULL;
    if (!cli_open_store(invocation, CLI_READ, &store)) {
        return CLI_FAILED;
    }
    struct store_status status;
    const int err = store_status(store, &status);
    if (err) {
        cli_error(invocation, "%s", err_text(err));
    } else {
        print_status(&status, config_switch(invocation->config, "json"));
    }
    store_close(store);
    return err ? CLI_FAILED : CLI_OK;
}

static const struct config_key keys[] = {CLI_KEYS_COMMON, CLI_KEY_JSON};

const struct verb store_verb_status = {
    .group = "store",
    .name = "status",
    .summary = "tell how a store is",
    .synopsis = "--data DIR [--json]",
    .about = "Prints counts and bytes: what is known, what is lost, what the disk holds.\n",
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .run = run_status,
};
