/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "store/maintain.h"

struct scrub_run {
    bool json;
    json_t *blocks; /* ids found bad */
    json_t *files;  /* ids hit */
};

static void on_bad_block(void *context, const struct id *block)
{
    struct scrub_run *run = context;
    char hex[ID_HEX_CHARS + 1];
    id_format(block, hex);
    if (run->json) {
        json_array_append_new(run->blocks, json_string(hex));
    } else {
        printf("bad block %s\n", hex);
    }
}

static void on_hit_file(void *context, const struct id *file, uint32_t blocks_lost)
{
    struct scrub_run *run = context;
    char hex[ID_HEX_CHARS + 1];
    id_format(file, hex);
    if (run->json) {
        json_array_append_new(run->files, json_string(hex));
    } else if (blocks_lost > 0) {
        printf("file %s lacks %" PRIu32 " of its blocks\n", hex, blocks_lost);
    } else {
        printf("file %s has a damaged list of blocks\n", hex);
    }
}

static void print_report(const struct scrub_run *run, const struct store_scrub_report *report)
{
    if (!run->json) {
        printf("checked %" PRIu64 " blocks, %" PRIu64 " bytes, %" PRIu64 " files: %" PRIu64
               " blocks bad, %" PRIu64 " files hit\n",
               report->blocks_checked, report->bytes_checked, report->files_checked,
               report->blocks_bad, report->files_hit);
        return;
    }
    json_t *object = json_pack(
        "{s:I, s:I, s:I, s:O, s:O}", "blocks_checked", (json_int_t)report->blocks_checked,
        "bytes_checked", (json_int_t)report->bytes_checked, "files_checked",
        (json_int_t)report->files_checked, "bad_blocks", run->blocks, "files_hit", run->files);
    char *text = json_dumps(object, JSON_COMPACT);
    puts(text);
    free(text);
    json_decref(object);
}

static int scrub(const struct invocation *invocation, struct store *store,
                 struct store_scrub_report *ret_report)
{
    struct scrub_run run = {
        .json = config_switch(invocation->config, "json"),
        .blocks = json_array(),
        .files = json_array(),
    };
    struct store_scrub_options options = {
        .bad_block = on_bad_block,
        .hit_file = on_hit_file,
        .context = &run,
    };
    (void)config_bytes(invocation->config, "rate", &options.bytes_per_second); /* was checked */
    int err = store_scrub(store, &options, ret_report);
    if (!err) {
        print_report(&run, ret_report);
        /* Nobody else writes, and a reader that comes too late looks again: no grace is needed. */
        const struct store_grace grace = {0};
        err = store_tidy(store, &grace);
    }
    json_decref(run.blocks);
    json_decref(run.files);
    return err;
}

static enum cli_status run_scrub(const struct invocation *invocation)
{
    if (invocation->arguments_count > 0) {
        return cli_usage(invocation, "store scrub takes no arguments");
    }
    uint64_t rate = 0;
    const int rate_err = config_bytes(invocation->config, "rate", &rate);
    if (rate_err && rate_err != -ENOENT) {
        return cli_usage(invocation, "the rate is a number of bytes, as 10M");
    }
    struct store *store = NULL;
    if (!cli_open_store(invocation, CLI_CHANGE, &store)) {
        return CLI_FAILED;
    }
    struct store_scrub_report report = {0};
    const int err = scrub(invocation, store, &report);
    if (err) {
        cli_error(invocation, "%s", err_text(err));
    }
    store_close(store);
    return err || report.blocks_bad > 0 || report.files_hit > 0 ? CLI_FAILED : CLI_OK;
}

static const struct config_key keys[] = {
    CLI_KEYS_COMMON,
    CLI_KEY_SEGMENT_BYTES,
    {"rate", NULL, "BYTES: read so many a second at most (10M, 1G)", false},
    CLI_KEY_JSON,
};

const struct verb store_verb_scrub = {
    .group = "store",
    .name = "scrub",
    .summary = "compare everything with its id, tidy up",
    .synopsis = "--data DIR [--rate BYTES] [--json]",
    .about = "Reads every block and compares it with its id. A wrong one is dropped and the file\n"
             "versions that lack it now are named; putting such a file again mends it. Then gives\n"
             "back the space of what nobody keeps. Exit status 1 if anything is damaged.\n",
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .run = run_scrub,
};
