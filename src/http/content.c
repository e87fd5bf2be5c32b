/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Content leaves in one of three ways, whichever copies least:
 *
 * - Up to CONTENT_COPY_BYTES_MAX: read into memory of its own. It goes out with the headers in one
 *   call, and nothing stays pinned for a slow client.
 * - Up to CONTENT_MAPPED_BYTES_MAX, if its blocks are no larger: all of them are opened as views,
 *   which checks their CRCs and keeps them where they are, and the kernel copies from there. Small
 *   enough that what was checked is still in the processor's cache when it is sent, and that the
 *   first byte does not wait for long.
 * - All else: piece by piece into libmicrohttpd's buffer, checked on the way, when the socket has
 *   room for more.
 *
 * In the first two, damage is an answer with its proper status. In the third, the status has been
 * sent when the turn of the block comes, so the connection is cut: the client sees a body that is
 * shorter than its length.
 *
 * What is not here, or not any more, is fetched while the answer goes out, in the third way. It
 * begins when the first block of it has come: until then a clear answer can be given.
 */

#include "http/content_priv.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "http/arriving.h"
#include "http/field.h"
#include "http/server_priv.h"
#include "store/read.h"

#define CONTENT_COPY_BYTES_MAX ((uint64_t)STORE_SPAN_BYTES)
/* Half of the second-level cache of today's processors. */
#define CONTENT_MAPPED_BYTES_MAX ((uint64_t)1024 * 1024)
/* A list of blocks may name many tiny ones. libmicrohttpd keeps 16 bytes for each in the memory of
 * the connection. */
#define CONTENT_VIEWS_MAX 16
/* What libmicrohttpd asks for at once; a buffer of this size is held while the answer lasts. Four
 * spans are summed up side by side. */
#define CONTENT_PIECE_BYTES ((size_t)4 * STORE_SPAN_BYTES)

/* The range [begin, end) of a file and the block that is next. */
struct content {
    struct store *store;
    struct file_metadata metadata;
    uint64_t begin_bytes;
    uint64_t end_bytes;
    size_t block;
    uint64_t block_begin_bytes;
    struct store_reader *reader; /* of that block; NULL: not opened yet */

    struct arriving arriving;
};

static void content_done(struct content *content)
{
    store_reader_close(content->reader);
    arriving_done(&content->arriving);
    file_metadata_done(&content->metadata);
}

static void content_free(void *context)
{
    struct content *content = context;
    content_done(content);
    free(content);
}

/* Makes the block that has the byte at `offset_bytes` of the file the next one. */
static void seek_block(struct content *content, uint64_t offset_bytes)
{
    const struct file_metadata *metadata = &content->metadata;
    while (content->block < metadata->blocks_count &&
           offset_bytes >=
               content->block_begin_bytes + metadata->blocks[content->block].size_bytes) {
        store_reader_close(content->reader);
        content->reader = NULL;
        content->block_begin_bytes += metadata->blocks[content->block].size_bytes;
        content->block++;
    }
    CHECK(content->block < metadata->blocks_count);
}

static void seek_begin(struct content *content)
{
    store_reader_close(content->reader);
    content->reader = NULL;
    content->block_begin_bytes = 0;
    content->block = 0;
}

/* How much of `size` to read from `at` of a block of `block_bytes`, so that whole spans are. */
static uint32_t piece_bytes(uint32_t at, uint32_t block_bytes, size_t size)
{
    const uint32_t left = block_bytes - at;
    if (size >= left) {
        return left;
    }
    const uint32_t count = (uint32_t)size;
    const uint32_t beyond = (at + count) % STORE_SPAN_BYTES;
    return beyond < count ? count - beyond : count;
}

/* -ENOENT, -EBADMSG: the block is not here, or no good one. */
static int read_piece(struct content *content, uint64_t offset_bytes, char *buffer, size_t size,
                      uint32_t *ret_count)
{
    seek_block(content, offset_bytes);
    const struct block_ref *block = &content->metadata.blocks[content->block];
    if (!content->reader) {
        const int err = store_reader_open(content->store, &block->id, &content->reader);
        if (err) {
            return err;
        }
    }
    const uint32_t at = (uint32_t)(offset_bytes - content->block_begin_bytes);
    const uint32_t count = piece_bytes(at, block->size_bytes, size);
    const int err = store_reader_copy(content->reader, at, buffer, count);
    if (err) {
        store_reader_close(content->reader);
        content->reader = NULL;
        return err;
    }
    *ret_count = count;
    return 0;
}

/* In a reader, for the next block, which the store does not give. 0: it is to be asked again;
 * -EAGAIN: the connection is suspended. */
static int await_block(struct content *content)
{
    for (;;) {
        const int err =
            arriving_again(&content->arriving, content->metadata.blocks_count, content->block);
        if (err != -EAGAIN) {
            return err;
        }
        const enum wait_outcome outcome = arriving_sleep(&content->arriving, NULL);
        if (outcome != WAIT_AGAIN) {
            return outcome == WAIT_SLEEPS ? -EAGAIN : -ECANCELED;
        }
    }
}

static ssize_t content_read(void *context, uint64_t position, char *buffer, size_t size)
{
    struct content *content = context;
    uint32_t count = 0;
    int err;
    while ((err = read_piece(content, content->begin_bytes + position, buffer, size, &count))) {
        if (err == -ENOENT || err == -EBADMSG) {
            err = await_block(content);
        }
        if (err == -EAGAIN) {
            return 0;
        }
        if (err) {
            char id[ID_HEX_CHARS + 1];
            id_format(&content->arriving.id, id);
            log_warn("answer_broken_off", KV("id", id), KV("error", err_name(err)));
            return MHD_CONTENT_READER_END_WITH_ERROR;
        }
    }
    return (ssize_t)count;
}

/* A body in memory of its own. */
static int make_copied(struct content *content, struct MHD_Response **ret_response)
{
    CLEANUP_BUF struct buf body = BUF_INIT;
    for (uint64_t offset = content->begin_bytes; offset < content->end_bytes;) {
        seek_block(content, offset);
        const struct block_ref *block = &content->metadata.blocks[content->block];
        const uint32_t at = (uint32_t)(offset - content->block_begin_bytes);
        const uint64_t wanted = content->end_bytes - offset;
        const uint32_t left = block->size_bytes - at;
        const uint32_t count = wanted < left ? (uint32_t)wanted : left;
        const int err =
            store_read_block(content->store, &block->id, at, buf_extend(&body, count), count);
        if (err) {
            return err;
        }
        offset += count;
    }
    const size_t size = body.size;
    *ret_response =
        MHD_create_response_from_buffer(size, STEAL_PTR(body.data), MHD_RESPMEM_MUST_FREE);
    return 0;
}

/* Views of all blocks of a range. */
struct views {
    size_t count;
    struct store_view views[CONTENT_VIEWS_MAX];
};

static void views_free(void *context)
{
    struct views *views = context;
    for (size_t i = 0; i < views->count; i++) {
        store_view_close(&views->views[i]);
    }
    free(views);
}

/* How many blocks the range takes; 0: too many, or too large to be checked as a whole. */
static size_t count_views(struct content *content)
{
    seek_block(content, content->begin_bytes);
    uint64_t end = content->block_begin_bytes;
    const uint64_t begin = end;
    size_t count = 0;
    while (end < content->end_bytes) {
        end += content->metadata.blocks[content->block + count].size_bytes;
        count++;
        if (count > CONTENT_VIEWS_MAX || end - begin > CONTENT_MAPPED_BYTES_MAX) {
            return 0;
        }
    }
    return count;
}

/* A body that is sent from the mapped segments; `count` of count_views(). */
static int make_mapped(struct content *content, size_t count, struct MHD_Response **ret_response)
{
    struct views *views = mem_alloc(sizeof *views);
    struct MHD_IoVec pieces[CONTENT_VIEWS_MAX];
    uint64_t begin = content->block_begin_bytes;
    for (size_t i = 0; i < count; i++) {
        const struct block_ref *block = &content->metadata.blocks[content->block + i];
        struct store_view *view = &views->views[i];
        const int err = store_view_open(content->store, &block->id, view);
        if (err) {
            views_free(views);
            return err;
        }
        views->count++;
        const uint64_t end = begin + block->size_bytes;
        const uint64_t from = content->begin_bytes > begin ? content->begin_bytes : begin;
        const uint64_t to = content->end_bytes < end ? content->end_bytes : end;
        pieces[i].iov_base = view->bytes.data + (from - begin);
        pieces[i].iov_len = (size_t)(to - from);
        begin = end;
    }
    if (count == 1) {
        /* With the headers in one call. Nothing is written to it. */
        *ret_response = MHD_create_response_from_buffer_with_free_callback_cls(
            pieces[0].iov_len, (void *)(uintptr_t)pieces[0].iov_base, views_free, views);
    } else {
        *ret_response = MHD_create_response_from_iovec(pieces, (unsigned)count, views_free, views);
    }
    return 0;
}

/* A body that is read when there is room for it; leaves `content` empty. libmicrohttpd takes a
 * buffer of `piece_size` bytes for it, and zeroes that. */
static int make_streamed(struct content *content, size_t piece_size,
                         struct MHD_Response **ret_response)
{
    const uint64_t size = content->end_bytes - content->begin_bytes;
    if (size < piece_size) {
        piece_size = size > 0 ? (size_t)size : 1;
    }
    *ret_response = MHD_create_response_from_callback(
        size, piece_size, content_read, mem_copy(content, sizeof *content), content_free);
    *content = (struct content){.metadata = FILE_METADATA_INIT};
    return 0;
}

/* The body of the range; leaves `content` as it is, or empty. -ENOENT: the beginning of it is not
 * here; -EBADMSG. */
static int make_body(struct content *content, bool is_head, struct MHD_Response **ret_response)
{
    const uint64_t size = content->end_bytes - content->begin_bytes;
    if (!is_head && content->arriving.reader && size > 0) {
        return make_streamed(content, CONTENT_PIECE_BYTES, ret_response);
    }
    if (!is_head && size <= CONTENT_COPY_BYTES_MAX) {
        return make_copied(content, ret_response);
    }
    const size_t views = !is_head && size <= CONTENT_MAPPED_BYTES_MAX ? count_views(content) : 0;
    if (views > 0) {
        return make_mapped(content, views, ret_response);
    }
    if (!is_head) {
        seek_block(content, content->begin_bytes);
        if (!store_has_block(content->store, &content->metadata.blocks[content->block].id)) {
            return -ENOENT;
        }
    }
    /* libmicrohttpd sends no body for HEAD; nothing is read then. */
    return make_streamed(content, is_head ? 1 : CONTENT_PIECE_BYTES, ret_response);
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

/* What of a file of the length `metadata` says is asked for: [*ret_begin_bytes, *ret_end_bytes). */
static enum field_range find_range(struct request *request, const struct id *id,
                                   uint64_t length_bytes, uint64_t *ret_begin_bytes,
                                   uint64_t *ret_end_bytes)
{
    *ret_begin_bytes = 0;
    *ret_end_bytes = length_bytes;
    const char *range = request_header(request, MHD_HTTP_HEADER_RANGE);
    if (!range) {
        return FIELD_RANGE_NONE;
    }
    const char *if_range = request_header(request, MHD_HTTP_HEADER_IF_RANGE);
    if (if_range && !field_etag_matches(if_range, id)) {
        return FIELD_RANGE_NONE;
    }
    return field_range_parse(range, length_bytes, ret_begin_bytes, ret_end_bytes);
}

/* 0: it has answered; errors of make_body(). `content` has a length at least. */
static int answer_range(struct request *request, const struct content_headers *headers,
                        struct content *content)
{
    const struct id id = content->arriving.id; /* the content goes with the answer */
    const uint64_t length = content->metadata.length_bytes;
    const enum field_range kind =
        find_range(request, &id, length, &content->begin_bytes, &content->end_bytes);
    if (kind == FIELD_RANGE_BAD) {
        answer_bad_range(request, length);
        return 0;
    }
    const uint64_t begin = content->begin_bytes;
    const uint64_t end = content->end_bytes;
    struct MHD_Response *response = NULL;
    const int err = make_body(content, request->is_head, &response);
    if (err) {
        return err;
    }
    add_headers(response, &id, headers);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/octet-stream");
    if (kind == FIELD_RANGE_ONE) {
        char value[80];
        snprintf(value, sizeof value, "bytes %llu-%llu/%llu", (unsigned long long)begin,
                 (unsigned long long)end - 1, (unsigned long long)length);
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_RANGE, value);
    }
    answer(request, kind == FIELD_RANGE_ONE ? MHD_HTTP_PARTIAL_CONTENT : MHD_HTTP_OK, response);
    return 0;
}

/* ---- what is not here --------------------------------------------------------------------------
 */

/* An answer that waits for the first block that it needs. */
struct awaited {
    struct arrival arrival;
    struct content content;
    bool has_headers;
    struct content_headers headers;
};

static int look(struct request *request, struct arrival *arrival)
{
    struct awaited *awaited = (struct awaited *)arrival;
    struct content *content = &awaited->content;
    const struct file_metadata *metadata = NULL;
    int err = arriving_metadata(&content->arriving, &metadata);
    if (err) {
        return err;
    }
    if (!content->metadata.blocks) {
        file_metadata_copy(metadata, &content->metadata);
    }
    if (find_range(request, &content->arriving.id, content->metadata.length_bytes,
                   &content->begin_bytes, &content->end_bytes) != FIELD_RANGE_BAD &&
        content->begin_bytes < content->end_bytes) {
        content->arriving.is_part =
            content->end_bytes - content->begin_bytes < content->metadata.length_bytes;
        seek_block(content, content->begin_bytes);
        err = arriving_block(&content->arriving, content->metadata.blocks_count, content->block);
    }
    return err ? err
               : answer_range(request, awaited->has_headers ? &awaited->headers : NULL, content);
}

static void awaited_free(struct arrival *arrival)
{
    struct awaited *awaited = (struct awaited *)arrival;
    content_done(&awaited->content);
    free(awaited);
}

/* Takes `content`. */
static void await(struct request *request, struct content *content,
                  const struct content_headers *headers)
{
    struct awaited *awaited = mem_alloc(sizeof *awaited);
    awaited->content = *content;
    *content = (struct content){.metadata = FILE_METADATA_INIT};
    seek_begin(&awaited->content);
    awaited->arrival = (struct arrival){
        .arriving = &awaited->content.arriving, .look = look, .free = awaited_free};
    if (headers) {
        awaited->has_headers = true;
        awaited->headers = *headers;
    }
    request->state = awaited;
}

void content_answer(struct request *request, const struct id *id,
                    const struct content_headers *headers)
{
    if (answer_condition(request, id, headers)) {
        return;
    }
    struct content content = {.store = node_store(request->node), .metadata = FILE_METADATA_INIT};
    arriving_init(&content.arriving, request, id, headers ? &headers->writer : NULL);
    int err = store_file_metadata(content.store, id, &content.metadata);
    if (err == -ENOENT && request->is_head && headers) {
        content.metadata.length_bytes = headers->length_bytes;
        err = 0;
    }
    if (!err) {
        err = answer_range(request, headers, &content);
    }
    if ((err == -ENOENT || err == -EBADMSG) && !request->is_head) {
        await(request, &content, headers);
    } else if (err) {
        answer_failure(request, err);
    }
    content_done(&content);
}
