/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "store/hold.h"
#include "store/maintain.h"

static bool release_all(const struct invocation *invocation, struct store *store)
{
    bool good = true;
    for (size_t i = 0; i < invocation->arguments_count; i++) {
        struct id id;
        if (!cli_parse_id(invocation, invocation->arguments[i], &id)) {
            good = false;
            continue;
        }
        const int err = store_release(store, &id, STORE_ORIGIN);
        if (err) {
            cli_error(invocation, "%s: %s", invocation->arguments[i],
                      err == -ENOENT ? "not kept here" : err_text(err));
            good = false;
        }
    }
    return good;
}

static enum cli_status run_rm(const struct invocation *invocation)
{
    if (invocation->arguments_count == 0) {
        return cli_usage(invocation, "which file version? Give its id");
    }
    struct store *store = NULL;
    if (!cli_open_store(invocation, CLI_CHANGE, &store)) {
        return CLI_FAILED;
    }
    bool good = release_all(invocation, store);
    /* Nobody else writes, and a reader that comes too late looks again: no grace is needed. */
    const struct store_grace grace = {0};
    const int err = store_tidy(store, &grace);
    if (err) {
        cli_error(invocation, "giving space back: %s", err_text(err));
        good = false;
    }
    store_close(store);
    return good ? CLI_OK : CLI_FAILED;
}

static const struct config_key keys[] = {CLI_KEYS_COMMON, CLI_KEY_SEGMENT_BYTES};

const struct verb store_verb_rm = {
    .group = "store",
    .name = "rm",
    .summary = "keep a file version no longer, give its space back",
    .synopsis = "--data DIR ID...",
    .about = "Lets go of the file versions. Blocks that no other kept version names are removed\n"
             "and their space is given back to the file system.\n",
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .run = run_rm,
};
