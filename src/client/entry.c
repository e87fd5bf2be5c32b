/* SPDX-License-Identifier: Apache-2.0 */
#include "client/entry.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "client/percent.h"
#include "client/text.h"

char *entry_target(const char *path)
{
    struct buf target = BUF_INIT;
    buf_add_string(&target, *path ? "/fs/" : "/fs");
    percent_add_path(&target, path);
    return (char *)target.data;
}

static void set_header(json_t *entry, const char *key, const struct client_response *response,
                       const char *name)
{
    CLEANUP_FREE char *value = client_header(response, name);
    if (value) {
        json_object_set_new(entry, key, json_string(value));
    }
}

/* A file, or a link, as the headers of its content tell. */
static json_t *entry_of_headers(const char *path, const char *type,
                                const struct client_response *response)
{
    json_t *entry = json_pack("{s:s, s:s}", "path", path, "type", type);
    if (!entry) {
        return NULL;
    }
    set_header(entry, "id", response, "X-Artel-Id");
    CLEANUP_FREE char *length = client_header(response, "Content-Length");
    if (length && strcmp(type, "file") == 0) {
        json_object_set_new(entry, "length", json_integer(strtoll(length, NULL, 10)));
    }
    set_header(entry, "mode", response, "X-Artel-Mode");
    set_header(entry, "mtime", response, "X-Artel-Mtime");
    return entry;
}

static json_t *no_entry(struct client_response *response)
{
    buf_clear(&response->failure);
    buf_add_string(&response->failure, "the node's answer makes no sense");
    return NULL;
}

static json_t *stat_directory(struct client *client, const char *target,
                              struct client_response *response)
{
    CLEANUP_FREE char *query = mem_format("%s?depth=0", target);
    const struct client_request request = {.target = query};
    if (!client_perform(client, &request, response)) {
        return NULL;
    }
    json_t *entry = json_loadb(buf_string(&response->body), response->body.size, 0, NULL);
    if (!json_is_object(entry) || !*entry_text(entry, "type")) {
        json_decref(entry);
        return no_entry(response);
    }
    return entry;
}

static json_t *stat_link(struct client *client, const char *path, const char *target,
                         struct client_response *response)
{
    const struct client_request request = {.target = target};
    if (!client_perform(client, &request, response)) {
        return NULL;
    }
    json_t *entry = entry_of_headers(path, "symlink", response);
    json_object_set_new(entry, "target",
                        json_stringn(buf_string(&response->body), response->body.size));
    return entry;
}

json_t *entry_stat(struct client *client, const char *path, struct client_response *response)
{
    CLEANUP_FREE char *target = entry_target(path);
    const struct client_request request = {.method = "HEAD", .target = target};
    if (!client_perform(client, &request, response)) {
        /* Without a body it does not tell what is wrong; the same as a GET that is refused does. */
        const bool is_refused = response->status >= 400;
        return is_refused ? stat_directory(client, target, response) : NULL;
    }
    CLEANUP_FREE char *id = client_header(response, "X-Artel-Id");
    CLEANUP_FREE char *type = client_header(response, "X-Artel-Type");
    if (id) {
        json_t *entry = entry_of_headers(path, "file", response);
        return entry ? entry : no_entry(response);
    }
    if (type && strcmp(type, "symlink") == 0) {
        return stat_link(client, path, target, response);
    }
    return stat_directory(client, target, response);
}

struct lines {
    struct buf line;
    int (*visit)(void *context, json_t *object);
    void *context;
};

static int take_line(struct lines *lines)
{
    if (lines->line.size == 0) {
        return 0;
    }
    json_t *object = json_loadb(buf_string(&lines->line), lines->line.size, 0, NULL);
    buf_clear(&lines->line);
    if (!json_is_object(object)) {
        json_decref(object);
        return -EPROTO;
    }
    const int err = lines->visit(lines->context, object);
    json_decref(object);
    return err;
}

static int on_data(void *context, struct bytes data)
{
    struct lines *lines = context;
    while (data.size) {
        const uint8_t *end = memchr(data.data, '\n', data.size);
        const size_t count = end ? (size_t)(end - data.data) : data.size;
        if (lines->line.size + count > ENTRY_LINE_BYTES_MAX) {
            return -EPROTO;
        }
        buf_add(&lines->line, BYTES(data.data, count));
        const size_t used = count + (end != NULL);
        data = BYTES(data.data + used, data.size - used);
        const int err = end ? take_line(lines) : 0;
        if (err) {
            return err;
        }
    }
    return 0;
}

bool entry_stream(struct client *client, const struct client_request *request,
                  int (*visit)(void *context, json_t *object), void *context,
                  struct client_response *response)
{
    struct lines lines = {.visit = visit, .context = context};
    struct client_request streamed = *request;
    streamed.on_data = on_data;
    streamed.context = &lines;
    const bool good = client_perform(client, &streamed, response);
    buf_done(&lines.line);
    return good;
}

bool entry_list(struct client *client, const char *path, const char *depth, const char *match,
                int (*visit)(void *context, json_t *entry), void *context,
                struct client_response *response)
{
    CLEANUP_FREE char *bare = entry_target(path);
    CLEANUP_BUF struct buf target = BUF_INIT;
    buf_add_string(&target, bare);
    if (depth) {
        buf_add_format(&target, "?depth=%s", depth);
    }
    if (match) {
        buf_add_string(&target, depth ? "&match=" : "?match=");
        percent_add(&target, bytes_of_string(match));
    }
    const struct client_request request = {
        .target = buf_string(&target),
        .headers = {"Accept: application/x-ndjson"},
    };
    return entry_stream(client, &request, visit, context, response);
}

const char *entry_text(const json_t *entry, const char *key)
{
    const char *text = json_string_value(json_object_get(entry, key));
    return text ? text : "";
}

uint64_t entry_number(const json_t *entry, const char *key)
{
    const json_int_t value = json_integer_value(json_object_get(entry, key));
    return value > 0 ? (uint64_t)value : 0;
}

uint64_t entry_length(const json_t *entry)
{
    return entry_number(entry, "length");
}

bool entry_is(const json_t *entry, const char *type)
{
    return strcmp(entry_text(entry, "type"), type) == 0;
}

mode_t entry_mode(const json_t *entry, mode_t otherwise)
{
    mode_t mode = otherwise;
    (void)text_parse_mode(entry_text(entry, "mode"), &mode);
    return mode;
}

struct timespec entry_mtime(const json_t *entry)
{
    struct timespec time = {.tv_nsec = UTIME_NOW};
    (void)text_parse_time(entry_text(entry, "mtime"), &time);
    return time;
}
