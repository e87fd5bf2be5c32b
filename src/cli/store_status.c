/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "client/text.h"

static void print_status(const struct store_status *status, bool is_json)
{
    struct store_figure figures[STORE_FIGURES];
    store_figures(status, figures);
    if (!is_json) {
        printf("%-16s %u\n", "format", STORE_FORMAT);
        for (size_t i = 0; i < STORE_FIGURES_KEPT; i++) {
            printf("%-16s %" PRIu64 "\n", figures[i].name, figures[i].value);
        }
        return;
    }
    json_t *object = json_object();
    json_object_set_new(object, "format", json_integer(STORE_FORMAT));
    for (size_t i = 0; i < STORE_FIGURES_KEPT; i++) {
        json_object_set_new(object, figures[i].name, json_integer((json_int_t)figures[i].value));
    }
    CLEANUP_BUF struct buf line = BUF_INIT;
    text_add_json(&line, object);
    fputs(buf_string(&line), stdout);
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
