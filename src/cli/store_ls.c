/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "store/hold.h"

static const char *state_of(const struct store_file_info *info)
{
    for (int reason = 0; reason < STORE_REASONS; reason++) {
        if (info->holders[reason] > 0) {
            return store_reason_name((enum store_reason)reason);
        }
    }
    return "unreferenced";
}

static enum cli_status run_ls(const struct invocation *invocation)
{
    if (invocation->arguments_count > 0) {
        return cli_usage(invocation, "store ls takes no arguments");
    }
    struct store *store = NULL;
    if (!cli_open_store(invocation, CLI_READ, &store)) {
        return CLI_FAILED;
    }
    const char *format = config_switch(invocation->config, "json")
                             ? "{\"id\":\"%s\",\"length\":%" PRIu64 ",\"blocks\":%" PRIu32
                               ",\"state\":\"%s\"}\n"
                             : "%s  %" PRIu64 "  %" PRIu32 "  %s\n";
    struct store_file_info info;
    int err = store_next_file(store, NULL, &info);
    while (!err) {
        char hex[ID_HEX_CHARS + 1];
        id_format(&info.id, hex);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        printf(format, hex, info.length_bytes, info.blocks_count, state_of(&info));
#pragma GCC diagnostic pop
        const struct id after = info.id;
        err = store_next_file(store, &after, &info);
    }
    store_close(store);
    if (err != -ENOENT) {
        cli_error(invocation, "%s", err_text(err));
        return CLI_FAILED;
    }
    return CLI_OK;
}

static const struct config_key keys[] = {CLI_KEYS_COMMON, CLI_KEY_JSON};

const struct verb store_verb_ls = {
    .group = "store",
    .name = "ls",
    .summary = "list the file versions of a store",
    .synopsis = "--data DIR [--json]",
    .about = "Prints `ID  LENGTH  BLOCKS  STATE` for each file version, in the order of ids. The\n"
             "state tells why it is kept: origin, follow, copy, cache; or that it is\n"
             "unreferenced and will be collected.\n",
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .run = run_ls,
};
