/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A listing is a walk in pieces: each piece opens a snapshot, goes on behind the path that was told
 * last, and takes PIECE_ENTRIES names or PIECE_LOOKS looks, so that no snapshot lives long and a
 * slow client holds nothing but its position.
 */

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "http/endpoints_priv.h"
#include "http/json_text.h"
#include "http/server_priv.h"
#include "tree/glob.h"

#define LIMIT_MAX 10000u
#define LIMIT_DEFAULT 1000u
#define PIECE_ENTRIES 512u
#define PIECE_LOOKS 4096u
/* A page has fewer entries than asked for if it takes more looks than this to find them: meanwhile
 * nobody else is served by this thread. */
#define PAGE_PIECES 64u
/* Or if they are longer than this, and a piece. An entry takes 200 bytes, the longest 49 KiB. */
#define PAGE_BYTES ((size_t)8 * 1024 * 1024)
/* A piece of more text than this is over. */
#define PIECE_BYTES ((size_t)1024 * 1024)
#define DEPTH_ALL UINT64_MAX
#define NDJSON_PIECE_BYTES ((size_t)64 * 1024)

struct listing {
    struct server *server;
    const struct listing_kind *kind;
    struct buf top;   /* the directory */
    struct buf after; /* told or passed last */
    struct buf match; /* empty: everything */
    uint64_t depth;
    uint64_t left; /* entries that may still be told */
    bool has_ended;
    struct buf lines; /* NDJSON that was not taken yet */
    size_t lines_sent;
};

static void listing_free(void *context)
{
    struct listing *listing = context;
    buf_done(&listing->top);
    buf_done(&listing->after);
    buf_done(&listing->match);
    buf_done(&listing->lines);
    free(listing);
}

static uint64_t depth_of(const struct listing *listing, struct bytes path)
{
    uint64_t depth = 1;
    for (size_t i = listing->top.size ? listing->top.size + 1 : 0; i < path.size; i++) {
        depth += path.data[i] == '/';
    }
    return depth;
}

/* The next entry that is to be told. -ENOENT: the end. -EAGAIN: the piece is over. */
static int next_entry(struct listing *listing, struct tree_walk *walk, unsigned *looks,
                      struct bytes *ret_path, struct tree_entry *ret_entry)
{
    const struct bytes match = buf_bytes(&listing->match);
    while ((*looks)++ < PIECE_LOOKS) {
        const int err = tree_walk_next(walk, ret_path, ret_entry);
        if (err) {
            return err;
        }
        buf_clear(&listing->after);
        buf_add(&listing->after, *ret_path);
        if (depth_of(listing, *ret_path) >= listing->depth ||
            (match.size > 0 && !glob_may_match_below(match, *ret_path))) {
            tree_walk_skip(walk);
        }
        if ((!listing->kind->takes || listing->kind->takes(ret_entry)) &&
            (match.size == 0 || glob_match(match, *ret_path))) {
            return 0;
        }
    }
    return -EAGAIN;
}

/* Adds one piece to `text`, each entry with `separator` behind it. */
static int list_piece(struct listing *listing, struct buf *text, char separator)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    struct tree_walk *walk = NULL;
    int err = node_snapshot(listing->server->node, &txn);
    if (!err) {
        err = tree_walk_open(node_tree(listing->server->node), txn, buf_bytes(&listing->top),
                             buf_bytes(&listing->after), &walk);
    }
    /* A resumed walk goes into the directory that it ended at, whatever its depth. */
    if (!err && listing->after.size > 0 &&
        depth_of(listing, buf_bytes(&listing->after)) >= listing->depth) {
        tree_walk_skip(walk);
    }
    unsigned looks = 0;
    const size_t begin = text->size;
    for (unsigned told = 0;
         !err && told < PIECE_ENTRIES && text->size - begin < PIECE_BYTES && listing->left > 0;
         told++) {
        struct bytes path;
        struct tree_entry entry;
        err = next_entry(listing, walk, &looks, &path, &entry);
        if (!err) {
            err = listing->kind->add(text, listing->server, txn, path, &entry);
            buf_add_byte(text, (uint8_t)separator);
            listing->left--;
        }
    }
    tree_walk_close(walk);
    if (err == -ENOENT || err == -ENOTDIR) {
        listing->has_ended = true; /* or the directory has gone meanwhile */
        err = 0;
    }
    return err == -EAGAIN ? 0 : err;
}

static void answer_array(struct request *request, struct listing *listing)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    buf_add_string(&text, "{\"path\":");
    json_text_add_string(&text, request->path);
    buf_add_format(&text, ",\"%s\":[", listing->kind->key);
    const size_t begin = text.size;
    int err = 0;
    for (unsigned i = 0; !err && i < PAGE_PIECES && text.size < PAGE_BYTES && !listing->has_ended &&
                         listing->left > 0;
         i++) {
        err = list_piece(listing, &text, ',');
    }
    if (err) {
        answer_failure(request, err);
    } else {
        text.size -= text.size > begin; /* the last comma */
        buf_add_byte(&text, ']');
        if (!listing->has_ended) {
            buf_add_string(&text, ",\"next\":");
            json_text_add_string(&text, buf_bytes(&listing->after));
        }
        buf_add_string(&text, "}\n");
        answer_buf(request, MHD_HTTP_OK, "application/json", &text);
    }
    listing_free(listing);
}

static ssize_t read_lines(void *context, uint64_t position, char *buffer, size_t size)
{
    (void)position;
    struct listing *listing = context;
    while (listing->lines_sent == listing->lines.size) {
        buf_clear(&listing->lines);
        listing->lines_sent = 0;
        if (listing->has_ended || listing->left == 0) {
            return MHD_CONTENT_READER_END_OF_STREAM;
        }
        if (list_piece(listing, &listing->lines, '\n')) {
            return MHD_CONTENT_READER_END_WITH_ERROR;
        }
        if (listing->lines.size == 0 && !listing->has_ended) {
            return 0; /* nothing that matches so far: other connections have their turn first */
        }
    }
    const size_t left = listing->lines.size - listing->lines_sent;
    const size_t count = left < size ? left : size;
    memcpy(buffer, listing->lines.data + listing->lines_sent, count);
    listing->lines_sent += count;
    return (ssize_t)count;
}

static void answer_lines(struct request *request, struct listing *listing)
{
    struct MHD_Response *response = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, NDJSON_PIECE_BYTES, read_lines, listing, listing_free);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/x-ndjson");
    answer(request, MHD_HTTP_OK, response);
}

static void answer_itself(struct request *request)
{
    struct kv_txn *txn = NULL;
    struct tree_entry entry;
    int err = node_snapshot(request->node, &txn);
    if (!err) {
        err = tree_find(node_tree(request->node), txn, request->path, &entry);
    }
    if (err) {
        kv_abort(txn);
        answer_failure(request, err);
        return;
    }
    CLEANUP_BUF struct buf text = BUF_INIT;
    json_text_add_entry(&text, request->path, &entry);
    buf_add_byte(&text, '\n');
    kv_abort(txn);
    answer_buf(request, MHD_HTTP_OK, "application/json", &text);
}

/* Reads the parameters. False: it has answered. */
static bool read_parameters(struct request *request, struct listing *listing, bool is_stream)
{
    const char *depth = request_parameter(request, "depth");
    const char *match = request_parameter(request, "match");
    const char *after = request_parameter(request, "after");
    int err = 0;
    listing->depth = match || listing->kind->is_deep ? DEPTH_ALL : 1;
    if (depth && strcmp(depth, "all") == 0) {
        listing->depth = DEPTH_ALL;
    } else if (depth) {
        err = request_number(request, "depth", 0, PATH_BYTES_MAX, 1, &listing->depth);
    }
    if (!err) {
        err = request_number(request, "limit", 1, is_stream ? UINT64_MAX : LIMIT_MAX,
                             is_stream ? UINT64_MAX : LIMIT_DEFAULT, &listing->left);
    }
    if (!err && match) {
        buf_add_string(&listing->match, match);
        err = glob_check(buf_bytes(&listing->match));
    }
    if (!err && after) {
        buf_add_string(&listing->after, after);
        err = path_check(buf_bytes(&listing->after));
        if (!err && (after[0] == 0 || !path_is_within(buf_bytes(&listing->after), request->path) ||
                     listing->after.size == request->path.size)) {
            err = -EINVAL;
        }
    }
    if (err) {
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_query",
                     "depth, limit, match or after makes no sense here");
    }
    return !err;
}

void listing_begin(struct request *request, const struct listing_kind *kind)
{
    struct listing *listing = mem_alloc(sizeof *listing);
    listing->server = request->server;
    listing->kind = kind;
    buf_add(&listing->top, request->path);
    const bool is_stream = request_accepts(request, "application/x-ndjson");
    if (!read_parameters(request, listing, is_stream)) {
        listing_free(listing);
    } else if (listing->depth == 0) {
        listing_free(listing);
        answer_itself(request);
    } else if (is_stream) {
        answer_lines(request, listing);
    } else {
        answer_array(request, listing);
    }
}

static int add_entry(struct buf *text, struct server *server, struct kv_txn *txn, struct bytes path,
                     const struct tree_entry *entry)
{
    (void)server;
    (void)txn;
    json_text_add_entry(text, path, entry);
    return 0;
}

const struct listing_kind listing_of_entries = {.key = "entries", .add = add_entry};
