/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "cli/connect.h"
#include "cli/fetch_note.h"
#include "cli/get_directory.h"
#include "client/client.h"
#include "client/entry.h"
#include "client/fetch.h"
#include "client/local_store.h"
#include "client/out_file.h"
#include "client/text.h"

struct get_run {
    const struct invocation *invocation;
    struct client *client;
    struct progress *progress;
};

static int write_fd(void *context, struct bytes data)
{
    const int *fd = context;
    return file_write_all(*fd, data);
}

static int write_file_at(void *context, uint64_t offset_bytes, struct bytes data)
{
    return out_file_write_at(context, offset_bytes, data);
}

static bool is_directory(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* Where `name` goes: into the target if that is a directory, by its own name without a target. */
static char *place_of(const char *target, const char *name)
{
    if (!target) {
        return mem_copy_string(name);
    }
    const size_t size = strlen(target);
    if (is_directory(target) || (size > 0 && target[size - 1] == '/')) {
        return mem_format("%s%s%s", target, target[size - 1] == '/' ? "" : "/", name);
    }
    return mem_copy_string(target);
}

static bool fail(const struct get_run *run, const char *path, int err)
{
    progress_pause(run->progress);
    cli_error(run->invocation, "%s: %s", path, err_text(err));
    return false;
}

/* Opens the directory that `place` is to stand in. */
static bool open_parent(const struct get_run *run, const char *place, int *ret_dir_fd)
{
    const int err = out_file_open_parent(place, ret_dir_fd);
    return err ? fail(run, place, err) : true;
}

/* The version `id`, whose `entry` is told by the tree, or NULL; to standard output or a place. */
static bool get_version(const struct get_run *run, const char *about, const struct id *id,
                        const json_t *entry, const char *place)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    CLEANUP(fetch_note_end)
    struct fetch_note *note = fetch_note_begin(run->client, id, run->progress);
    (void)note; /* as long as this lasts */
    if (!fetch_metadata(run->client, id, &metadata, &response)) {
        progress_pause(run->progress);
        connect_report(run->invocation, about, &response);
        return false;
    }
    progress_set_total(run->progress, metadata.length_bytes);
    CLEANUP_FD int dir_fd = -1;
    CLEANUP_FD int special_fd = -1;
    int out_fd = STDOUT_FILENO;
    struct out_file *file = NULL;
    int open_err = place ? out_file_open_special(place, &special_fd) : 0;
    if (place && !open_err) {
        out_fd = special_fd;
    } else if (open_err == -ENOENT) {
        if (!open_parent(run, place, &dir_fd)) {
            return false;
        }
        open_err = out_file_open(dir_fd, text_last_name(place), &file);
    }
    if (open_err) {
        return fail(run, place, open_err);
    }
    struct store *local =
        metadata.length_bytes >= LOCAL_STORE_BYTES_MIN ? local_store_open(run->client) : NULL;
    const struct fetch_target to = {.write = write_fd,
                                    .write_at = file ? write_file_at : NULL,
                                    .write_context = file ? (void *)file : (void *)&out_fd,
                                    .local = local,
                                    .arrived = progress_arrived,
                                    .arrived_context = run->progress};
    const bool good = fetch_content(run->client, id, &metadata, &to, &response);
    store_close(local);
    if (!good) {
        progress_pause(run->progress);
        connect_report(run->invocation, about, &response);
        out_file_abort(file);
        return false;
    }
    const struct out_file_options options = {
        .mode = entry_mode(entry, 0644), .mtime = entry_mtime(entry), .is_synced = true};
    const int err = file ? out_file_commit(file, &options) : 0;
    return err ? fail(run, place, err) : true;
}

static bool get_link(const struct get_run *run, const json_t *entry, const char *place)
{
    CLEANUP_FD int dir_fd = -1;
    if (!place) {
        return fail(run, entry_text(entry, "path"), -EINVAL);
    }
    if (!open_parent(run, place, &dir_fd)) {
        return false;
    }
    const struct timespec mtime = entry_mtime(entry);
    const int err =
        out_file_link(dir_fd, text_last_name(place), entry_text(entry, "target"), &mtime);
    return err ? fail(run, place, err) : true;
}

static bool get_entry(const struct get_run *run, const char *path, const json_t *entry,
                      const char *target)
{
    const bool to_stdout = target && strcmp(target, "-") == 0;
    CLEANUP_FREE char *place = to_stdout ? NULL : place_of(target, text_last_name(path));
    struct id id;
    if (entry_is(entry, "directory")) {
        if (to_stdout) {
            return fail(run, path, -EISDIR);
        }
        /* The root has no name of its own. */
        const char *where = *path ? place : target;
        if (!where) {
            cli_error(run->invocation, "the whole tree: give the directory that it goes into");
            return false;
        }
        CLEANUP(fetch_note_end)
        struct fetch_note *note = fetch_note_begin(run->client, NULL, run->progress);
        (void)note; /* as long as this lasts */
        return get_directory(run->invocation, run->client, path, where, run->progress);
    }
    if (entry_is(entry, "symlink")) {
        return get_link(run, entry, place);
    }
    if (id_parse(bytes_of_string(entry_text(entry, "id")), &id)) {
        return fail(run, path, -EPROTO);
    }
    return get_version(run, path, &id, entry, place);
}

static bool get_path(const struct get_run *run, const char *argument, const char *target)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    CLEANUP_FREE char *path = text_tree_path(argument);
    json_t *entry = entry_stat(run->client, path, &response);
    if (!entry) {
        connect_report(run->invocation, argument, &response);
        return false;
    }
    const bool good = get_entry(run, path, entry, target);
    json_decref(entry);
    return good;
}

static bool get_id(const struct get_run *run, const char *text, const char *target)
{
    struct id id;
    if (!cli_parse_id(run->invocation, text, &id)) {
        return false;
    }
    CLEANUP_FREE char *place = target && strcmp(target, "-") == 0 ? NULL : place_of(target, text);
    return get_version(run, text, &id, NULL, place);
}

static enum cli_status run_get(const struct invocation *invocation)
{
    const char *id = config_string(invocation->config, "id");
    char **arguments = invocation->arguments;
    const size_t count = invocation->arguments_count;
    const size_t count_max = id ? 1 : 2;
    if (count < count_max - 1) {
        return cli_usage(invocation, "which file or directory?");
    }
    if (count > count_max) {
        return cli_usage(invocation, "one file or directory at a time, and one target");
    }
    const char *target = count == count_max ? arguments[count - 1] : NULL;
    CLEANUP(client_free) struct client *client = connect_node(invocation);
    if (!client) {
        return CLI_USAGE;
    }
    const struct get_run run = {
        .invocation = invocation,
        .client = client,
        .progress = progress_new(!config_switch(invocation->config, "quiet")),
    };
    const bool good = id ? get_id(&run, id, target) : get_path(&run, arguments[0], target);
    progress_free(run.progress);
    return good ? CLI_OK : CLI_FAILED;
}

static const struct config_key keys[] = {
    {"id", NULL, "ID: a file version instead of a path", false},
    CLI_KEY_QUIET,
    CLI_KEYS_CLIENT,
};

const struct verb verb_get = {
    .name = "get",
    .summary = "get a file or directory, every block verified",
    .synopsis = "[--node URL] PATH|--id ID [TARGET|-]",
    .about =
        "Gets a file into TARGET, into the directory TARGET, or under its own name into the\n"
        "current directory; `-` is standard output. Every block is compared with its id here;\n"
        "what a node of this machine has compared already is copied out of its store, if that can\n"
        "be read, and compared with checksums (from 4 MiB on, in a directory from 32 MiB on). The\n"
        "file appears when all of it is good. A directory comes with all that is in it,\n"
        "and appears in one step unless it was there already. Permissions and times come along,\n"
        "setuid bits do not. What is not on the node is fetched from the other nodes that have "
        "it;\n"
        "on a terminal, the line of progress tells from how many (`artel why` tells the rest).\n",
    .first_argument = CLI_ARGUMENT_PATH,
    .other_arguments = CLI_ARGUMENT_FILE,
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .run = run_get,
};
