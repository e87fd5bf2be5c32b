/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/get_directory.h"

#include <archive.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/file.h"
#include "base/map.h"
#include "base/mem.h"
#include "cli/connect.h"
#include "cli/unpack.h"
#include "client/entry.h"
#include "client/fetch.h"
#include "client/local_store.h"
#include "client/missing.h"
#include "client/out_file.h"
#include "client/text.h"

/* Beyond this, a directory is got in parts: each takes some 200 bytes here. */
#define FILES_MAX 20000000u
/* From here on a file is copied out of the store of a node of this machine. Where files are fetched
 * first, the stream is ahead of its reader by so much, and each by itself waits for all of it. */
#define LOCAL_BYTES_MIN ((uint64_t)32 * 1024 * 1024)

struct wanted {
    UT_hash_handle hh; /* in the order of the listing, and of the stream */
    struct id id;
    bool has_come;
    json_t *entry; /* of the listing, if it is large; else NULL */
    char path[];
};

/* A path to be got by itself, after the stream. */
struct other {
    char *path;
    json_t *entry; /* what the listing said; NULL: it is asked for */
    struct other *next;
};

struct get {
    const struct invocation *invocation;
    struct client *client;
    struct progress *progress;
    const char *path;
    struct wanted *wanted;
    uint64_t total_bytes;
    bool has_large;
    struct store *local; /* that large files are copied out of; NULL: they come in the stream */
    struct other *others;
    bool has_changed; /* since the listing: the stream has something else */
    struct client_stream *stream;
    mode_t root_mode; /* of a new directory that has none in the tree; 0: it stays as it is */
    bool has_broken;  /* the stream: what is wrong with the file that it brought is known */
};

static int write_file_at(void *context, uint64_t offset_bytes, struct bytes data)
{
    return out_file_write_at(context, offset_bytes, data);
}

/* One file of the tree into the directory `dir_fd` under `name`. False: it said why. */
static bool get_file(const struct get *get, const struct other *other, const char *path, int dir_fd,
                     const char *name)
{
    const struct invocation *invocation = get->invocation;
    struct client *client = get->client;
    struct progress *progress = get->progress;
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    /* Of the same time as what came in the stream, if that is what was listed. */
    json_t *entry = other->entry && !get->has_changed ? json_incref(other->entry)
                                                      : entry_stat(client, path, &response);
    if (!entry && response.status == 404) {
        return true; /* deleted since the listing: then the directory is as it is without */
    }
    struct id id;
    bool good = entry && id_parse(bytes_of_string(entry_text(entry, "id")), &id) == 0 &&
                fetch_metadata(client, &id, &metadata, &response);
    if (!good) {
        progress_pause(progress);
        if (response.failure.size) {
            connect_report(invocation, path, &response);
        } else {
            cli_error(invocation, "%s: no file any more", path);
        }
        json_decref(entry);
        return false;
    }
    const struct out_file_options options = {.mode = entry_mode(entry, 0644),
                                             .mtime = entry_mtime(entry)};
    json_decref(entry);
    struct out_file *file = NULL;
    int err = out_file_open(dir_fd, name, &file);
    if (!err) {
        const struct fetch_target to = {.write_at = write_file_at,
                                        .write_context = file,
                                        .local = get->local,
                                        .arrived = progress_arrived,
                                        .arrived_context = progress};
        good = fetch_content(client, &id, &metadata, &to, &response);
        if (good) {
            err = out_file_commit(file, &options);
        } else {
            out_file_abort(file);
        }
    }
    if (err || !good) {
        progress_pause(progress);
    }
    if (err) {
        cli_error(invocation, "%s: %s", name, err_text(err));
    } else if (!good) {
        connect_report(invocation, path, &response);
    }
    return good && !err;
}

/* ---- the listing ------------------------------------------------------------------------------
 */

static void free_wanted(struct wanted *wanted)
{
    if (wanted) {
        json_decref(wanted->entry);
        free(wanted);
    }
}

static int want(void *context, json_t *entry)
{
    struct get *get = context;
    const char *path = entry_text(entry, "path");
    const size_t top = *get->path ? strlen(get->path) + 1 : 0;
    if (!entry_is(entry, "file")) {
        return 0;
    }
    if (strlen(path) <= top || HASH_COUNT(get->wanted) == FILES_MAX) {
        return -EPROTO;
    }
    const size_t size = strlen(path + top) + 1;
    struct wanted *wanted = mem_alloc(sizeof *wanted + size);
    memcpy(wanted->path, path + top, size);
    if (id_parse(bytes_of_string(entry_text(entry, "id")), &wanted->id)) {
        free(wanted);
        return -EPROTO;
    }
    get->total_bytes += entry_length(entry);
    if (entry_length(entry) >= LOCAL_BYTES_MIN) {
        wanted->entry = json_incref(entry);
        get->has_large = true;
    }
    struct wanted *replaced = NULL;
    HASH_REPLACE(hh, get->wanted, path[0], (unsigned)(size - 1), wanted, replaced);
    free_wanted(replaced);
    return 0;
}

static void add_other(struct get *get, const char *path, json_t *entry)
{
    struct other *other = mem_alloc(sizeof *other);
    *other = (struct other){
        .path = mem_copy_string(path), .entry = json_incref(entry), .next = get->others};
    get->others = other;
}

/* If they can be copied, large files come after the stream, by themselves. */
static void set_large_aside(struct get *get)
{
    get->local = get->has_large ? local_store_open(get->client) : NULL;
    struct wanted *wanted;
    struct wanted *next;
    HASH_ITER(hh, get->wanted, wanted, next)
    {
        if (get->local && wanted->entry) {
            add_other(get, wanted->path, wanted->entry);
        }
    }
}

static const struct id *wanted_of(void *context, const char *path)
{
    struct get *get = context;
    struct wanted *wanted = NULL;
    HASH_FIND(hh, get->wanted, path, (unsigned)strlen(path), wanted);
    if (!wanted) {
        return NULL;
    }
    wanted->has_come = true;
    return &wanted->id;
}

static void free_get(struct get *get)
{
    struct wanted *wanted;
    struct wanted *next;
    HASH_ITER(hh, get->wanted, wanted, next)
    {
        HASH_DELETE(hh, get->wanted, wanted);
        free_wanted(wanted);
    }
    while (get->others) {
        struct other *other = get->others;
        get->others = other->next;
        free(other->path);
        json_decref(other->entry);
        free(other);
    }
    store_close(get->local);
}

/* ---- the stream -------------------------------------------------------------------------------
 */

static int on_other(void *context, const char *path)
{
    struct get *get = context;
    get->has_changed = true;
    add_other(get, path, NULL);
    return 0;
}

static void on_fault(void *context, const char *path, const char *what)
{
    const struct get *get = context;
    if (get->has_broken) {
        return;
    }
    progress_pause(get->progress);
    cli_error(get->invocation, "%s%s%s: %s", get->path, *get->path && *path ? "/" : "", path, what);
}

/* The stream broke: at which file, and who could not be asked for it. */
static void report_broken(struct get *get, struct client_response *response)
{
    const struct wanted *wanted = get->wanted;
    while (wanted && (wanted->has_come || (get->local && wanted->entry))) {
        wanted = wanted->hh.next;
    }
    if (wanted && !response->no_node) {
        missing_add(get->client, &wanted->id, &response->failure);
    }
    CLEANUP_FREE char *path = text_join(get->path, wanted ? wanted->path : "");
    connect_report(get->invocation, wanted ? path : get->path, response);
}

static void on_bytes(void *context, uint64_t bytes)
{
    const struct get *get = context;
    progress_add(get->progress, bytes);
}

static la_ssize_t on_pull(struct archive *archive, void *context, const void **ret_data)
{
    struct get *get = context;
    struct bytes data = {0};
    if (client_stream_read(get->stream, &data)) {
        get->has_broken = true;
        archive_set_error(archive, EIO, "the stream broke");
        return -1;
    }
    *ret_data = data.data;
    return (la_ssize_t)data.size;
}

static int unpack_stream(struct get *get, struct unpack *unpack)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    CLEANUP_FREE char *target = entry_target(get->path);
    CLEANUP_FREE char *target_of_small = mem_format("%s?below=%" PRIu64, target, LOCAL_BYTES_MIN);
    struct client_request request = {
        .target = get->local ? target_of_small : target,
        .headers = {"Accept: application/x-tar"},
    };
    bool good = client_stream_open(get->client, &request, &response, &get->stream);
    if (!good && get->local && client_is_code(&response, "bad_query")) {
        /* A node of before: large files come twice. */
        request.target = target;
        good = client_stream_open(get->client, &request, &response, &get->stream);
    }
    if (!good) {
        connect_report(get->invocation, get->path, &response);
        return -EIO;
    }
    struct archive *archive = archive_read_new();
    if (!archive || archive_read_support_format_tar(archive) != ARCHIVE_OK) {
        mem_out_of_memory();
    }
    int err = archive_read_open(archive, get, NULL, on_pull, NULL) == ARCHIVE_OK ? 0 : -EPROTO;
    if (!err) {
        err = unpack_run(unpack, archive);
    }
    /* Past the end of the archive: only the end of the answer tells that it was all of it. */
    struct bytes rest = {0};
    int stream_err = response.failure.size ? -EIO : 0;
    while (!err && !stream_err) {
        stream_err = client_stream_read(get->stream, &rest);
        if (!rest.size) {
            break;
        }
    }
    archive_read_free(archive);
    client_stream_close(get->stream);
    progress_pause(get->progress);
    if (response.failure.size) {
        report_broken(get, &response);
        err = -EIO;
    } else if (err == -EPROTO) {
        cli_error(get->invocation, "%s: the node's tar stream is broken", get->path);
    }
    return err;
}

/* What the stream had otherwise than the listing. True if all of it came. */
static bool get_others(struct get *get, struct unpack *unpack)
{
    bool good = true;
    for (const struct other *other = get->others; other; other = other->next) {
        int dir_fd = -1;
        const char *name = NULL;
        const int err = unpack_parent(unpack, other->path, &dir_fd, &name);
        if (err) {
            on_fault(get, other->path, err_text(err));
            good = false;
            continue;
        }
        CLEANUP_FREE char *path = text_join(get->path, other->path);
        good &= get_file(get, other, path, dir_fd, name);
    }
    return good;
}

/* All into the open directory. */
static bool get_into(struct get *get, int root_fd)
{
    const struct unpack_options options = {
        .root_fd = root_fd,
        .wanted = wanted_of,
        .on_other = on_other,
        .on_fault = on_fault,
        .on_bytes = on_bytes,
        .context = get,
    };
    struct unpack *unpack = unpack_new(&options);
    bool good = !unpack_stream(get, unpack) && get_others(get, unpack);
    if (good && get->root_mode && fchmod(root_fd, get->root_mode) < 0) {
        on_fault(get, "", err_text(err_from_errno(errno)));
        good = false;
    }
    good = good && !unpack_finish(unpack);
    unpack_free(unpack);
    if (good && syncfs(root_fd) < 0) {
        cli_error(get->invocation, "%s", err_text(err_from_errno(errno)));
        good = false;
    }
    return good;
}

/* ---- the directory on this machine ------------------------------------------------------------
 */

static bool fail_at(const struct get *get, const char *path, int err)
{
    cli_error(get->invocation, "%s: %s", path, err_text(err));
    return false;
}

/* Under another name first, beside the target. */
static bool get_anew(struct get *get, const char *target)
{
    const size_t parent_size = (size_t)(text_last_name(target) - target);
    CLEANUP_FREE char *staging =
        mem_format("%.*s.artel-%ld", (int)parent_size, target, (long)getpid());
    if (mkdir(staging, 0777) < 0) {
        return fail_at(get, target, err_from_errno(errno));
    }
    /* Nobody else looks into it before it has its name, and the mode that it has now, or the
     * tree's. */
    CLEANUP_FD int fd = -1;
    struct stat info;
    int err = file_open_at(AT_FDCWD, staging, O_RDONLY | O_DIRECTORY, 0, &fd);
    if (!err && (fstat(fd, &info) < 0 || fchmod(fd, 0700) < 0)) {
        err = err_from_errno(errno);
    }
    get->root_mode = err ? 0 : info.st_mode & 07777;
    bool good = !err && get_into(get, fd);
    if (good && renameat2(AT_FDCWD, staging, AT_FDCWD, target, RENAME_NOREPLACE) < 0) {
        err = err_from_errno(errno);
        good = false;
    }
    if (err) {
        fail_at(get, target, err);
    }
    if (!good) {
        file_remove_tree(staging);
    }
    return good;
}

bool get_directory(const struct invocation *invocation, struct client *client, const char *path,
                   const char *target, struct progress *progress)
{
    struct get get = {
        .invocation = invocation, .client = client, .progress = progress, .path = path};
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    CLEANUP_FREE char *place = mem_copy_string(target);
    for (size_t size = strlen(place); size > 1 && place[size - 1] == '/'; size--) {
        place[size - 1] = 0;
    }
    bool good = entry_list(client, path, "all", NULL, want, &get, &response);
    if (!good) {
        connect_report(invocation, path, &response);
    } else {
        progress_set_total(progress, get.total_bytes);
        set_large_aside(&get);
        struct stat info;
        if (lstat(place, &info) < 0 && errno == ENOENT) {
            good = get_anew(&get, place);
        } else {
            CLEANUP_FD int fd = -1;
            const int err = file_open_at(AT_FDCWD, place, O_RDONLY | O_DIRECTORY, 0, &fd);
            good = err ? fail_at(&get, place, err) : get_into(&get, fd);
        }
    }
    free_get(&get);
    return good;
}
