/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/publish.h"

#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "cli/ack.h"
#include "cli/connect.h"
#include "cli/pack.h"
#include "client/entry.h"
#include "client/percent.h"
#include "client/text.h"

void publish_fail(struct publish *publish, const char *path, const char *text)
{
    progress_pause(publish->progress);
    cli_error(publish->invocation, "%s: %s", path, text);
    atomic_store(&publish->has_failed, true);
}

static void fail_response(struct publish *publish, const char *path,
                          const struct client_response *response)
{
    progress_pause(publish->progress);
    connect_report(publish->invocation, path, response);
    atomic_store(&publish->has_failed, true);
}

/* ---- what is printed --------------------------------------------------------------------------
 */

static void print(struct publish *publish, struct bytes line)
{
    progress_pause(publish->progress);
    const int err = file_write_all(STDOUT_FILENO, line);
    if (err) {
        publish_fail(publish, "standard output", err_text(err));
    }
}

/* It is published; but do enough others have it? */
static void check_ack(struct publish *publish, const char *path,
                      const struct client_response *response)
{
    CLEANUP_BUF struct buf why = BUF_INIT;
    if (!ack_is_reached(response, &why)) {
        publish_fail(publish, path, buf_string(&why));
    }
}

/* With --json the node's answer is the line; else `describe` makes one of it. */
static void print_answer(struct publish *publish, const struct client_response *response,
                         void (*describe)(const json_t *answer, const char *path, struct buf *line),
                         const char *path)
{
    json_t *answer = json_loadb((const char *)response->body.data, response->body.size, 0, NULL);
    CLEANUP_BUF struct buf line = BUF_INIT;
    if (!json_is_object(answer)) {
        publish_fail(publish, path, "published, but the node's answer makes no sense");
    } else if (publish->is_json) {
        text_add_json(&line, answer);
    } else {
        describe(answer, path, &line);
    }
    json_decref(answer);
    if (line.size) {
        print(publish, buf_bytes(&line));
    }
    check_ack(publish, path, response);
}

static void describe_file(const json_t *answer, const char *path, struct buf *line)
{
    text_add_id_line(line, entry_text(answer, "id"), path, isatty(STDOUT_FILENO));
}

static void describe_link(const json_t *answer, const char *path, struct buf *line)
{
    (void)answer;
    text_add_id_line(line, "symlink", path, isatty(STDOUT_FILENO));
}

static void describe_directory(const json_t *answer, const char *path, struct buf *line)
{
    CLEANUP_BUF struct buf what = BUF_INIT;
    const json_int_t files = json_integer_value(json_object_get(answer, "files"));
    buf_add_format(&what, "%" JSON_INTEGER_FORMAT " file%s, ", files, files == 1 ? "" : "s");
    text_add_size(&what, entry_length(answer));
    CLEANUP_FREE char *name = mem_format("%s/", path);
    text_add_id_line(line, buf_string(&what), name, isatty(STDOUT_FILENO));
}

/* ---- files ------------------------------------------------------------------------------------
 */

static void add_query(struct buf *target, const char *key, const char *value)
{
    const bool has_query = target->size && memchr(target->data, '?', target->size) != NULL;
    buf_add_format(target, "%c%s=", has_query ? '&' : '?', key);
    percent_add(target, bytes_of_string(value));
}

static void add_target(struct buf *target, const char *path)
{
    buf_add_string(target, "/fs/");
    percent_add_path(target, path);
}

#define MTIME_CHARS 64

static void format_mtime(struct timespec mtime, char ret_text[MTIME_CHARS])
{
    /* Before 1970 the seconds are negative and the fraction still counts upwards. */
    const bool is_before = mtime.tv_sec < 0 && mtime.tv_nsec > 0;
    const long long seconds = (long long)mtime.tv_sec + is_before;
    const long fraction = is_before ? 1000000000 - mtime.tv_nsec : mtime.tv_nsec;
    snprintf(ret_text, MTIME_CHARS, "%s%lld.%09ld", is_before && seconds == 0 ? "-" : "", seconds,
             fraction);
}

static void add_mtime(struct buf *target, struct timespec mtime)
{
    char text[MTIME_CHARS];
    format_mtime(mtime, text);
    add_query(target, "mtime", text);
}

static void add_attributes(const struct publish *publish, struct buf *target,
                           const struct stat *info)
{
    char mode[16];
    snprintf(mode, sizeof mode, "%04o", (unsigned)info->st_mode & 07777);
    add_query(target, "mode", publish->mode ? publish->mode : mode);
    add_mtime(target, info->st_mtim);
}

struct upload {
    struct publish *publish;
    int fd;
};

static int read_upload(void *context, void *data, size_t size_bytes, size_t *ret_bytes)
{
    const struct upload *upload = context;
    const int err = file_read_full(upload->fd, data, size_bytes, ret_bytes);
    progress_add(upload->publish->progress, err ? 0 : *ret_bytes);
    return err;
}

static void send_file(struct publish *publish, struct client *client, const char *target, int fd,
                      int64_t length_bytes, const char *source, const char *path)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    struct upload upload = {.publish = publish, .fd = fd};
    const struct client_source body = {
        .read = read_upload, .context = &upload, .length_bytes = length_bytes};
    const struct client_request request = {
        .method = "PUT",
        .target = target,
        .headers = {publish->if_match},
        .source = publish->is_in_place ? NULL : &body,
    };
    if (client_perform(client, &request, &response)) {
        print_answer(publish, &response, describe_file, path);
    } else {
        fail_response(publish, response.err ? source : path, &response);
    }
}

static void publish_stdin(struct publish *publish, struct client *client, const char *path)
{
    CLEANUP_BUF struct buf target = BUF_INIT;
    add_target(&target, path);
    if (publish->mode) {
        add_query(&target, "mode", publish->mode);
    }
    ack_add(publish->invocation, &target);
    send_file(publish, client, buf_string(&target), STDIN_FILENO, -1, "-", path);
}

void publish_file(struct publish *publish, struct client *client, const char *source,
                  const char *path)
{
    if (strcmp(source, "-") == 0) {
        publish_stdin(publish, client, path);
        return;
    }
    CLEANUP_FD int fd = -1;
    struct stat info = {0};
    int err = file_open_at(AT_FDCWD, source, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, &fd);
    if (!err && fstat(fd, &info) < 0) {
        err = err_from_errno(errno);
    }
    if (err) {
        publish_fail(publish, source, err_text(err));
        return;
    }
    if (!S_ISREG(info.st_mode)) {
        publish_fail(publish, source, "skipped, it is no regular file");
        return;
    }
    CLEANUP_BUF struct buf target = BUF_INIT;
    add_target(&target, path);
    add_attributes(publish, &target, &info);
    if (publish->is_in_place) {
        CLEANUP_FREE char *absolute = realpath(source, NULL);
        if (!absolute) {
            publish_fail(publish, source, err_text(err_from_errno(errno)));
            return;
        }
        add_query(&target, "in_place", absolute);
    }
    ack_add(publish->invocation, &target);
    send_file(publish, client, buf_string(&target), fd, info.st_size, source, path);
}

void publish_link(struct publish *publish, struct client *client, const char *source,
                  const char *path)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    CLEANUP_BUF struct buf target = BUF_INIT;
    struct stat info;
    char text[PATH_MAX];
    const ssize_t size = readlink(source, text, sizeof text - 1);
    if (size < 0 || lstat(source, &info) < 0) {
        publish_fail(publish, source, err_text(err_from_errno(errno)));
        return;
    }
    text[size] = 0;
    add_target(&target, path);
    add_query(&target, "symlink", text);
    add_mtime(&target, info.st_mtim);
    ack_add(publish->invocation, &target);
    const struct client_request request = {.method = "PUT", .target = buf_string(&target)};
    if (client_perform(client, &request, &response)) {
        print_answer(publish, &response, describe_link, path);
    } else {
        fail_response(publish, path, &response);
    }
}

void publish_empty_directory(struct publish *publish, struct client *client, const char *source,
                             const char *path)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    CLEANUP_BUF struct buf target = BUF_INIT;
    struct stat info;
    if (stat(source, &info) < 0) {
        publish_fail(publish, source, err_text(err_from_errno(errno)));
        return;
    }
    add_target(&target, path);
    ack_add(publish->invocation, &target);
    char mtime[MTIME_CHARS];
    format_mtime(info.st_mtim, mtime);
    CLEANUP_FREE char *body = mem_format("{\"op\":\"mkdir\",\"mode\":\"%04o\",\"mtime\":\"%s\"}",
                                         (unsigned)info.st_mode & 07777, mtime);
    const struct client_request request = {
        .method = "POST",
        .target = buf_string(&target),
        .headers = {"Content-Type: application/json"},
        .body = bytes_of_string(body),
    };
    if (client_perform(client, &request, &response)) {
        check_ack(publish, path, &response);
    } else if (!client_is_code(&response, "exists")) {
        fail_response(publish, path, &response);
    }
}

/* ---- directories ------------------------------------------------------------------------------
 */

static int on_fault(void *context, const char *path, enum pack_fault fault, int err)
{
    struct publish *publish = context;
    switch (fault) {
    case PACK_SPECIAL:
        publish_fail(publish, path, "skipped, it is no regular file");
        return 0;
    case PACK_CHANGED:
        publish_fail(publish, path, "changed while it was read");
        break;
    case PACK_UNREADABLE:
        publish_fail(publish, path, err_text(err));
        break;
    }
    /* What appears in one step is to be whole. */
    return publish->is_atomic ? -ECANCELED : 0;
}

static void on_bytes(void *context, uint64_t bytes)
{
    const struct publish *publish = context;
    progress_add(publish->progress, bytes);
}

static int read_tar(void *context, void *data, size_t size_bytes, size_t *ret_bytes)
{
    return pack_read(context, data, size_bytes, ret_bytes);
}

void publish_directory(struct publish *publish, struct client *client, const char *source,
                       const char *path)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    const struct pack_options options = {
        .path = source, .on_fault = on_fault, .on_bytes = on_bytes, .context = publish};
    struct pack *pack = NULL;
    const int err = pack_open(&options, &pack);
    if (err) {
        publish_fail(publish, source, err_text(err));
        return;
    }
    CLEANUP_BUF struct buf target = BUF_INIT;
    add_target(&target, path);
    if (*path) {
        buf_add_byte(&target, '/');
    }
    if (publish->is_atomic) {
        add_query(&target, "atomic", "1");
    }
    ack_add(publish->invocation, &target);
    const struct client_source body = {.read = read_tar, .context = pack, .length_bytes = -1};
    const struct client_request request = {
        .method = "PUT",
        .target = buf_string(&target),
        .headers = {"Content-Type: application/x-tar"},
        .source = &body,
    };
    if (client_perform(client, &request, &response)) {
        print_answer(publish, &response, describe_directory, path);
    } else if (response.err == -ECANCELED) {
        publish_fail(publish, source, "not published");
    } else {
        fail_response(publish, response.err ? source : path, &response);
    }
    pack_close(pack);
}
