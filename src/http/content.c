/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Content leaves from mapped segments: each block is opened as a view, which checks its CRCs and
 * keeps it where it is, and is copied to the socket buffer from there. What fits into one block
 * and is small is copied to memory instead, so that nothing stays pinned for a slow client.
 *
 * Whether a block can be read shows when its turn comes. By then the status has been sent, so the
 * connection is cut: the client sees a body that is shorter than its length.
 */

#include "http/content_priv.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "http/field.h"
#include "http/server_priv.h"
#include "store/read.h"

/* Up to this size a file is read before the answer begins, and a failure has its proper status. */
#define CONTENT_COPY_BYTES_MAX ((uint64_t)256 * 1024)
/* What libmicrohttpd asks for at once. */
#define CONTENT_PIECE_BYTES ((size_t)256 * 1024)

struct content {
    struct node *node;
    struct file_metadata metadata;
    uint64_t begin_bytes; /* of the range in the file */
    size_t block;         /* of the view, or of the one that comes next */
    uint64_t block_begin_bytes;
    bool is_open;
    struct store_view view;
};

static void content_free(void *context)
{
    struct content *content = context;
    if (content->is_open) {
        store_view_close(&content->view);
    }
    file_metadata_done(&content->metadata);
    free(content);
}

/* Opens the view of the block that has the byte at `offset_bytes` of the file. */
static int seek_block(struct content *content, uint64_t offset_bytes)
{
    const struct file_metadata *metadata = &content->metadata;
    while (content->block < metadata->blocks_count &&
           offset_bytes >=
               content->block_begin_bytes + metadata->blocks[content->block].size_bytes) {
        if (content->is_open) {
            store_view_close(&content->view);
            content->is_open = false;
        }
        content->block_begin_bytes += metadata->blocks[content->block].size_bytes;
        content->block++;
    }
    CHECK(content->block < metadata->blocks_count);
    if (content->is_open) {
        return 0;
    }
    const int err = store_view_open(node_store(content->node), &metadata->blocks[content->block].id,
                                    &content->view);
    content->is_open = !err;
    return err;
}

static ssize_t content_read(void *context, uint64_t position, char *buffer, size_t size)
{
    struct content *content = context;
    const uint64_t offset = content->begin_bytes + position;
    if (seek_block(content, offset)) {
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    const size_t at = (size_t)(offset - content->block_begin_bytes);
    const size_t left = content->view.bytes.size - at;
    const size_t count = left < size ? left : size;
    memcpy(buffer, content->view.bytes.data + at, count);
    return (ssize_t)count;
}

/* Reads all of a small file or range. */
static int read_small(struct content *content, uint64_t length_bytes, uint8_t **ret_data)
{
    uint8_t *data = mem_alloc((size_t)length_bytes + 1);
    for (uint64_t done = 0; done < length_bytes;) {
        const int err = seek_block(content, content->begin_bytes + done);
        if (err) {
            free(data);
            return err;
        }
        const ssize_t count =
            content_read(content, done, (char *)data + done, (size_t)(length_bytes - done));
        done += (uint64_t)count;
    }
    *ret_data = data;
    return 0;
}

void content_add_headers(struct MHD_Response *response, const struct content_headers *headers)
{
    char value[FIELD_TIME_BYTES];
    field_date_format(headers->mtime_ns, value);
    MHD_add_response_header(response, MHD_HTTP_HEADER_LAST_MODIFIED, value);
    snprintf(value, sizeof value, "%04o", headers->mode);
    MHD_add_response_header(response, "X-Artel-Mode", value);
    field_time_format(headers->mtime_ns, value);
    MHD_add_response_header(response, "X-Artel-Mtime", value);
    if (headers->conflicts_count > 0) {
        snprintf(value, sizeof value, "%u", headers->conflicts_count);
        MHD_add_response_header(response, "X-Artel-Conflicts", value);
    }
}

static void add_headers(struct MHD_Response *response, const struct id *id,
                        const struct content_headers *headers)
{
    char text[ID_HEX_CHARS + 3];
    text[0] = '"';
    id_format(id, text + 1);
    MHD_add_response_header(response, "X-Artel-Id", text + 1);
    strcpy(text + 1 + ID_HEX_CHARS, "\"");
    MHD_add_response_header(response, MHD_HTTP_HEADER_ETAG, text);
    MHD_add_response_header(response, MHD_HTTP_HEADER_ACCEPT_RANGES, "bytes");
    if (headers) {
        content_add_headers(response, headers);
    }
}

/* 304 and 412. True if it has answered. */
static bool answer_condition(struct request *request, const struct id *id,
                             const struct content_headers *headers)
{
    const char *match = request_header(request, MHD_HTTP_HEADER_IF_MATCH);
    if (match && !field_etag_matches(match, id)) {
        answer_error(request, MHD_HTTP_PRECONDITION_FAILED, "condition_failed",
                     "the content is another one");
        return true;
    }
    const char *none = request_header(request, MHD_HTTP_HEADER_IF_NONE_MATCH);
    if (none && field_etag_matches(none, id)) {
        struct MHD_Response *response =
            MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
        add_headers(response, id, headers);
        answer(request, MHD_HTTP_NOT_MODIFIED, response);
        return true;
    }
    return false;
}

static void answer_bad_range(struct request *request, uint64_t length)
{
    char value[64];
    snprintf(value, sizeof value, "bytes */%llu", (unsigned long long)length);
    static const char text[] = "{\"error\":\"bad_range\",\"message\":\"outside the file\"}\n";
    struct MHD_Response *response = MHD_create_response_from_buffer(
        sizeof text - 1, mem_copy_string(text), MHD_RESPMEM_MUST_FREE);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_RANGE, value);
    answer(request, MHD_HTTP_RANGE_NOT_SATISFIABLE, response);
}

/* The body [begin, end) of the file. Takes `content`. NULL: *ret_err tells why. */
static struct MHD_Response *make_body(struct request *request, struct content *content,
                                      uint64_t begin, uint64_t end, int *ret_err)
{
    content->begin_bytes = begin;
    *ret_err = 0;
    /* libmicrohttpd sends no body for HEAD; nothing is read then. */
    if (request->is_head || end - begin > CONTENT_COPY_BYTES_MAX) {
        return MHD_create_response_from_callback(end - begin, CONTENT_PIECE_BYTES, content_read,
                                                 content, content_free);
    }
    uint8_t *data = NULL;
    *ret_err = read_small(content, end - begin, &data);
    content_free(content);
    return *ret_err ? NULL
                    : MHD_create_response_from_buffer((size_t)(end - begin), data,
                                                      MHD_RESPMEM_MUST_FREE);
}

void content_answer(struct request *request, const struct id *id,
                    const struct content_headers *headers)
{
    if (answer_condition(request, id, headers)) {
        return;
    }
    struct content *content = mem_alloc(sizeof *content);
    content->node = request->node;
    int err = store_file_metadata(node_store(request->node), id, &content->metadata);
    if (err) {
        content_free(content);
        answer_failure(request, err);
        return;
    }
    const uint64_t length = content->metadata.length_bytes;
    uint64_t begin = 0;
    uint64_t end = length;
    const char *range = request_header(request, MHD_HTTP_HEADER_RANGE);
    const char *if_range = request_header(request, MHD_HTTP_HEADER_IF_RANGE);
    enum field_range kind = FIELD_RANGE_NONE;
    if (range && (!if_range || field_etag_matches(if_range, id))) {
        kind = field_range_parse(range, length, &begin, &end);
    }
    if (kind == FIELD_RANGE_BAD) {
        content_free(content);
        answer_bad_range(request, length);
        return;
    }
    struct MHD_Response *response = make_body(request, content, begin, end, &err);
    if (!response) {
        /* A list of blocks without one of them: the file is damaged here. */
        answer_failure(request, err == -ENOENT ? -EBADMSG : err);
        return;
    }
    add_headers(response, id, headers);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/octet-stream");
    if (kind == FIELD_RANGE_ONE) {
        char value[80];
        snprintf(value, sizeof value, "bytes %llu-%llu/%llu", (unsigned long long)begin,
                 (unsigned long long)end - 1, (unsigned long long)length);
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_RANGE, value);
    }
    answer(request, kind == FIELD_RANGE_ONE ? MHD_HTTP_PARTIAL_CONTENT : MHD_HTTP_OK, response);
}
