/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "client/out_file.h"
#include "client/text.h"
#include "hash/sha256.h"
#include "store/read.h"

/* Where the bytes go. */
struct output {
    struct out_file *file; /* or NULL: to `fd` */
    int fd;
};

/* One block, compared with its id once more: the last check before a person relies on it. */
static int write_block(struct store *store, const struct id *id, const struct output *output)
{
    struct store_view view;
    int err = store_view_open(store, id, &view);
    if (err) {
        return err;
    }
    struct id actual;
    sha256_id(view.bytes, &actual);
    if (!id_equal(&actual, id)) {
        err = -EBADMSG;
    } else {
        err = output->file ? out_file_write(output->file, view.bytes)
                           : file_write_all(output->fd, view.bytes);
    }
    store_view_close(&view);
    return err;
}

static bool write_file(const struct invocation *invocation, struct store *store,
                       const struct id *id, const struct output *output)
{
    char hex[ID_HEX_CHARS + 1];
    id_format(id, hex);
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    int err = store_file_metadata(store, id, &metadata);
    if (err) {
        cli_error(invocation, "%s: %s", hex,
                  err == -ENOENT ? "no such file version here" : err_text(err));
        return false;
    }
    for (size_t i = 0; i < metadata.blocks_count; i++) {
        err = write_block(store, &metadata.blocks[i].id, output);
        if (err) {
            char block[ID_HEX_CHARS + 1];
            id_format(&metadata.blocks[i].id, block);
            cli_error(invocation, "%s: block %zu (%s): %s", hex, i, block,
                      err == -ENOENT ? "lost, no good copy is here" : err_text(err));
            return false;
        }
    }
    return true;
}

static bool write_files(const struct invocation *invocation, struct store *store,
                        const struct output *output)
{
    for (size_t i = 0; i < invocation->arguments_count; i++) {
        struct id id;
        if (!cli_parse_id(invocation, invocation->arguments[i], &id) ||
            !write_file(invocation, store, &id, output)) {
            return false;
        }
    }
    return true;
}

/* In one step, with the permissions of a file that a shell makes. */
static int commit(struct out_file *file)
{
    const mode_t mask = umask(0);
    umask(mask);
    const struct out_file_options options = {
        .mode = 0666 & ~mask, .mtime = {.tv_nsec = UTIME_NOW}, .is_synced = true};
    return out_file_commit(file, &options);
}

static bool write_output(const struct invocation *invocation, struct store *store, const char *path)
{
    CLEANUP_FD int special_fd = -1;
    int err = out_file_open_special(path, &special_fd);
    if (!err) {
        return write_files(invocation, store, &(struct output){.fd = special_fd});
    }
    CLEANUP_FD int dir_fd = -1;
    struct out_file *file = NULL;
    if (err == -ENOENT) {
        err = out_file_open_parent(path, &dir_fd);
    }
    if (!err) {
        err = out_file_open(dir_fd, text_last_name(path), &file);
    }
    if (!err && !write_files(invocation, store, &(struct output){.file = file})) {
        out_file_abort(file);
        return false;
    }
    if (!err) {
        err = commit(file);
    }
    if (err) {
        cli_error(invocation, "%s: %s", path, err_text(err));
    }
    return !err;
}

static enum cli_status run_get(const struct invocation *invocation)
{
    if (invocation->arguments_count == 0) {
        return cli_usage(invocation, "which file version? Give its id");
    }
    struct store *store = NULL;
    if (!cli_open_store(invocation, CLI_READ, &store)) {
        return CLI_FAILED;
    }
    const char *output = config_string(invocation->config, "output");
    const struct output standard = {.fd = STDOUT_FILENO};
    const bool good = output && strcmp(output, "-") != 0
                          ? write_output(invocation, store, output)
                          : write_files(invocation, store, &standard);
    store_close(store);
    return good ? CLI_OK : CLI_FAILED;
}

static const struct config_key keys[] = {
    CLI_KEYS_COMMON,
    {"output", NULL, "FILE: write there, in one step, instead of to standard output", false},
};

const struct verb store_verb_get = {
    .group = "store",
    .name = "get",
    .summary = "write a file version out, every block verified",
    .synopsis = "--data DIR [--output FILE] ID...",
    .about = "Writes the content of the file versions, one after the other. Every block is\n"
             "compared with its id first; at a damaged or lost one it stops with status 1.\n"
             "Works beside a process that writes the store.\n",
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .run = run_get,
};
