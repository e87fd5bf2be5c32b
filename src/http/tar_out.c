/* SPDX-License-Identifier: Apache-2.0 */

/*
 * GET of a directory as a tar stream. libmicrohttpd asks for some bytes, libarchive is pushed until
 * there are some; what is too much for the moment (headers) waits in a small buffer.
 *
 * A snapshot of the tree is not kept while a client reads: the walk goes on in small steps, each
 * in a snapshot of its own behind the path told last. Each file is the version that the walk saw;
 * should its bytes be nowhere, or damaged, the stream breaks off without the end mark and without
 * the last chunk, so that nobody takes it for whole.
 *
 * What is not here is fetched. The walk is ahead of the stream, and files behind the one under way
 * are fetched already: many small ones would take a round trip each otherwise. The answer begins
 * when the first file that lacks has begun to come: until then a clear answer can be given.
 */

#include <archive.h>
#include <archive_entry.h>
#include <locale.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "http/arriving.h"
#include "http/endpoints_priv.h"
#include "http/tar_priv.h"
#include "store/hold.h"
#include "store/read.h"

/* Entries of one step of the walk: under a millisecond. */
#define STEP_ENTRIES ((size_t)64)
/* The walk is so far ahead at most: what comes of small files while some are made durable. */
#define ENTRIES_MAX ((size_t)1024)
/* Files behind the one under way are fetched if what is before them in the stream is less. */
#define AHEAD_BYTES ((uint64_t)32 * 1024 * 1024)
/* Looked at before the stream begins: some milliseconds. */
#define CHECKED_ENTRIES ((size_t)1000)
/* Read from a block at once: the span of its check sums, so that none is computed twice. */
#define SPAN_BYTES ((uint32_t)(64 * 1024))
/* What libmicrohttpd asks for at once, at most. */
#define PIECE_BYTES ((size_t)64 * 1024)

/* A copy of what the walk told. */
struct out_entry {
    uint8_t *names; /* the whole path, a NUL, the target, a NUL */
    size_t path_bytes;
    enum tree_kind kind;
    uint32_t mode;
    int64_t mtime_ns;
    uint64_t size_bytes;
    struct arriving arriving; /* the file */
};

struct tar_out {
    const struct request *request; /* while the answer goes out */
    struct node *node;
    struct buf top;
    uint64_t below_bytes; /* files that are not shorter are left out */
    struct archive *archive;
    struct archive_entry *header;
    locale_t locale;
    bool has_begun;

    struct buf after; /* the path that the walk told last */
    struct out_entry entries[ENTRIES_MAX];
    size_t entries_count;
    size_t entries_at;    /* the one under way, or the next */
    size_t ahead_at;      /* the next that may have to be fetched */
    uint64_t ahead_bytes; /* of the files from the one under way to that one */
    uint64_t read_bytes;  /* of the one under way */
    bool is_walked;
    bool is_closed; /* the end mark is written */
    bool is_over;   /* nobody reads any more */

    bool is_in_entry;              /* its header is written */
    struct file_metadata metadata; /* of the file under way */
    size_t block_at;
    uint32_t offset_bytes; /* in that block */
    uint8_t *span;
    uint32_t span_bytes;
    uint32_t span_at;

    uint8_t *room; /* libmicrohttpd's */
    size_t room_bytes;
    struct buf spilled; /* what did not fit */
};

static void forget_entry(struct out_entry *entry)
{
    arriving_done(&entry->arriving);
    free(STEAL_PTR(entry->names));
}

static void out_free(void *context)
{
    struct tar_out *out = context;
    for (size_t i = 0; i < out->entries_count; i++) {
        forget_entry(&out->entries[i]);
    }
    archive_entry_free(out->header);
    /* It would fill up the file under way, up to a terabyte of zeros, and end the stream. */
    out->is_over = true;
    archive_write_free(out->archive);
    if (out->locale) {
        freelocale(out->locale);
    }
    file_metadata_done(&out->metadata);
    buf_done(&out->spilled);
    buf_done(&out->after);
    buf_done(&out->top);
    free(out->span);
    free(out);
}

static la_ssize_t on_write(struct archive *archive, void *context, const void *data, size_t size)
{
    struct tar_out *out = context;
    if (out->is_over) {
        archive_set_error(archive, ECANCELED, "given up");
        return ARCHIVE_FATAL;
    }
    const size_t fits = size < out->room_bytes ? size : out->room_bytes;
    if (fits > 0) {
        memcpy(out->room, data, fits);
        out->room += fits;
        out->room_bytes -= fits;
    }
    buf_add(&out->spilled, BYTES((const uint8_t *)data + fits, size - fits));
    return (la_ssize_t)size;
}

/* ---- the walk ---- */

static void add_entry(struct tar_out *out, struct bytes path, const struct tree_entry *entry)
{
    const struct tree_version *version = &entry->version;
    if (!entry->is_explicit) {
        return; /* it comes into being with what is in it */
    }
    if (version->kind == TREE_FILE && version->size_bytes >= out->below_bytes) {
        return;
    }
    struct out_entry *added = &out->entries[out->entries_count++];
    const size_t target_bytes = version->kind == TREE_SYMLINK ? version->target.size : 0;
    *added = (struct out_entry){
        .names = mem_alloc(path.size + target_bytes + 2),
        .path_bytes = path.size,
        .kind = version->kind,
        .mode = version->mode,
        .mtime_ns = version->mtime_ns,
        .size_bytes = version->size_bytes,
    };
    arriving_init(&added->arriving, out->request, &version->file_id, &version->dot.origin);
    memcpy(added->names, path.data, path.size);
    if (target_bytes > 0) {
        memcpy(added->names + path.size + 1, version->target.data, target_bytes);
    }
}

/* The directory itself, if somebody made it. */
static int add_top(struct tar_out *out, struct kv_txn *txn)
{
    struct tree_entry entry;
    const int err = tree_find(node_tree(out->node), txn, buf_bytes(&out->top), &entry);
    if (!err && entry.version.kind == TREE_DIRECTORY) {
        add_entry(out, buf_bytes(&out->top), &entry);
    }
    return err;
}

static int walk_in(struct tar_out *out, struct kv_txn *txn)
{
    if (!out->has_begun) {
        const int err = add_top(out, txn);
        if (err) {
            return err;
        }
        out->has_begun = true;
    }
    struct tree_walk *walk = NULL;
    int err = tree_walk_open(node_tree(out->node), txn, buf_bytes(&out->top),
                             buf_bytes(&out->after), &walk);
    if (err) {
        /* The directory has gone: the end can't be told any more. */
        return err == -ENOENT ? -ESTALE : err;
    }
    /* Steps are counted, not entries: directories that nobody made are left out. */
    for (size_t i = 0; !err && i + 1 < STEP_ENTRIES && out->entries_count < ENTRIES_MAX; i++) {
        struct bytes path;
        struct tree_entry entry;
        err = tree_walk_next(walk, &path, &entry);
        if (!err) {
            buf_clear(&out->after);
            buf_add(&out->after, path);
            add_entry(out, path, &entry);
        }
    }
    tree_walk_close(walk);
    out->is_walked = err == -ENOENT;
    return out->is_walked ? 0 : err;
}

/* Makes room, and fills it up a little. */
static int walk(struct tar_out *out)
{
    memmove(out->entries, out->entries + out->entries_at,
            (out->entries_count - out->entries_at) * sizeof *out->entries);
    out->entries_count -= out->entries_at;
    out->ahead_at -= out->ahead_at < out->entries_at ? out->ahead_at : out->entries_at;
    out->entries_at = 0;
    struct kv_txn *txn = NULL;
    int err = node_snapshot(out->node, &txn);
    if (err) {
        return err;
    }
    err = walk_in(out, txn);
    kv_abort(txn);
    return err;
}

/* ---- the stream ---- */

static int write_header(struct tar_out *out, const struct out_entry *entry)
{
    struct archive_entry *header = archive_entry_clear(out->header);
    const char *path = (const char *)entry->names;
    const size_t skip = out->top.size > 0 ? out->top.size + 1 : 0;
    const bool is_top = entry->path_bytes == out->top.size;
    archive_entry_copy_pathname(header, is_top ? "./" : path + skip);
    archive_entry_set_mode(header,
                           (mode_t)entry->mode | (entry->kind == TREE_FILE        ? AE_IFREG
                                                  : entry->kind == TREE_DIRECTORY ? AE_IFDIR
                                                                                  : AE_IFLNK));
    int64_t seconds = entry->mtime_ns / 1000000000;
    int64_t rest = entry->mtime_ns % 1000000000;
    if (rest < 0) {
        rest += 1000000000;
        seconds--;
    }
    archive_entry_set_mtime(header, seconds, (long)rest);
    if (entry->kind == TREE_FILE) {
        archive_entry_set_size(header, (la_int64_t)entry->size_bytes);
    } else {
        archive_entry_set_size(header, 0);
    }
    if (entry->kind == TREE_SYMLINK) {
        archive_entry_copy_symlink(header, path + entry->path_bytes + 1);
    }
    return archive_write_header(out->archive, header) == ARCHIVE_OK ? 0 : -EIO;
}

/* The list of blocks of the file under way. -EAGAIN: it has not come. */
static int read_metadata(struct tar_out *out, struct out_entry *entry)
{
    struct store *store = node_store(out->node);
    int err = store_file_metadata(store, &entry->arriving.id, &out->metadata);
    const struct file_metadata *metadata = NULL;
    if (err == -ENOENT || err == -EBADMSG) {
        err = arriving_metadata(&entry->arriving, &metadata);
        if (!err) {
            file_metadata_copy(metadata, &out->metadata);
        }
    }
    return err;
}

static int begin_entry(struct tar_out *out, struct out_entry *entry)
{
    file_metadata_done(&out->metadata);
    out->metadata = FILE_METADATA_INIT;
    if (entry->kind == TREE_FILE) {
        const int err = read_metadata(out, entry);
        if (err) {
            return err;
        }
        if (out->metadata.length_bytes != entry->size_bytes) {
            return -EBADMSG;
        }
    }
    out->block_at = 0;
    out->offset_bytes = 0;
    out->read_bytes = 0;
    out->is_in_entry = true;
    return write_header(out, entry);
}

static void end_entry(struct tar_out *out)
{
    struct out_entry *entry = &out->entries[out->entries_at];
    if (out->ahead_at > out->entries_at) {
        out->ahead_bytes -= entry->size_bytes;
    }
    forget_entry(entry);
    out->entries_at++;
    out->read_bytes = 0;
    out->is_in_entry = false;
}

static bool is_missing(struct node *node, const struct id *file)
{
    struct store_file_info info;
    const int err = store_file_info(node_store(node), file, &info);
    return err == -ENOENT || (!err && !info.is_held);
}

/* Begins to fetch what comes soon and is not here. */
static void look_ahead(struct tar_out *out)
{
    if (out->ahead_at < out->entries_at) {
        out->ahead_at = out->entries_at;
    }
    for (; out->ahead_at < out->entries_count && out->ahead_bytes < out->read_bytes + AHEAD_BYTES;
         out->ahead_at++) {
        struct out_entry *entry = &out->entries[out->ahead_at];
        if (entry->kind == TREE_FILE && is_missing(out->node, &entry->arriving.id) &&
            arriving_open(&entry->arriving)) {
            return; /* too many: later */
        }
        out->ahead_bytes += entry->size_bytes;
    }
}

/* The next span of the file under way. -EAGAIN: it has not come. */
static int read_span(struct tar_out *out)
{
    const struct file_metadata *metadata = &out->metadata;
    const struct block_ref *block = &metadata->blocks[out->block_at];
    const uint32_t left = block->size_bytes - out->offset_bytes;
    const uint32_t size = left < SPAN_BYTES ? left : SPAN_BYTES;
    if (!out->span) {
        out->span = mem_alloc_aligned(64, SPAN_BYTES);
    }
    struct arriving *arriving = &out->entries[out->entries_at].arriving;
    int err =
        store_read_block(node_store(out->node), &block->id, out->offset_bytes, out->span, size);
    if (err == -ENOENT || err == -EBADMSG) {
        return arriving_again(arriving, metadata->blocks_count, out->block_at);
    }
    if (err) {
        return err;
    }
    out->span_bytes = size;
    out->span_at = 0;
    out->offset_bytes += size;
    out->read_bytes += size;
    if (out->offset_bytes == block->size_bytes) {
        out->offset_bytes = 0;
        out->block_at++;
        look_ahead(out);
    }
    return 0;
}

/* One step of the stream, whatever is next. */
static int step(struct tar_out *out)
{
    if (out->span_at < out->span_bytes) {
        const uint32_t left = out->span_bytes - out->span_at;
        const uint32_t size = left < out->room_bytes ? left : (uint32_t)out->room_bytes;
        const la_ssize_t written = archive_write_data(out->archive, out->span + out->span_at, size);
        out->span_at += size;
        return written == (la_ssize_t)size ? 0 : -EIO;
    }
    if (out->is_in_entry && out->block_at < out->metadata.blocks_count) {
        return read_span(out);
    }
    if (out->is_in_entry) {
        end_entry(out);
        return 0;
    }
    if (!out->is_walked && out->entries_count - out->entries_at <= ENTRIES_MAX / 2) {
        return walk(out);
    }
    if (out->entries_at < out->entries_count) {
        look_ahead(out);
        return begin_entry(out, &out->entries[out->entries_at]);
    }
    out->is_closed = true;
    return archive_write_close(out->archive) == ARCHIVE_OK ? 0 : -EIO;
}

static int fill(struct tar_out *out)
{
    const size_t spilled =
        out->spilled.size < out->room_bytes ? out->spilled.size : out->room_bytes;
    if (spilled > 0) {
        memcpy(out->room, out->spilled.data, spilled);
        out->room += spilled;
        out->room_bytes -= spilled;
        buf_consume(&out->spilled, spilled);
    }
    int err = 0;
    while (!err && out->room_bytes > 0 && !out->is_closed) {
        err = step(out);
    }
    return err;
}

static void log_broken_off(const struct tar_out *out, int err)
{
    const char *path = out->entries_at < out->entries_count
                           ? (const char *)out->entries[out->entries_at].names
                           : "";
    log_warn("tar_broken_off", KV("path", path), KV("error", err_name(err)));
}

static ssize_t read_stream(void *context, uint64_t position, char *room, size_t room_bytes)
{
    (void)position;
    struct tar_out *out = context;
    for (;;) {
        out->room = (uint8_t *)room;
        out->room_bytes = room_bytes;
        /* Names are written as the UTF-8 that they are. */
        locale_t before = uselocale(out->locale);
        const int err = fill(out);
        uselocale(before);
        out->room = NULL;
        const size_t filled = room_bytes - out->room_bytes;
        out->room_bytes = 0;
        if (!err || (err == -EAGAIN && filled > 0)) {
            return filled > 0 ? (ssize_t)filled : MHD_CONTENT_READER_END_OF_STREAM;
        }
        const enum wait_outcome outcome =
            err == -EAGAIN ? arriving_sleep(&out->entries[out->entries_at].arriving, NULL)
                           : WAIT_OVER;
        if (outcome == WAIT_SLEEPS) {
            return 0;
        }
        if (outcome == WAIT_OVER) {
            log_broken_off(out, err == -EAGAIN ? -ECANCELED : err);
            return MHD_CONTENT_READER_END_WITH_ERROR;
        }
    }
}

static bool out_open(struct tar_out *out)
{
    out->archive = archive_write_new();
    out->header = archive_entry_new();
    out->locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", NULL);
    return out->archive && out->header && out->locale &&
           archive_write_set_format_pax(out->archive) == ARCHIVE_OK &&
           archive_write_set_bytes_per_block(out->archive, 0) == ARCHIVE_OK &&
           archive_write_set_bytes_in_last_block(out->archive, 1) == ARCHIVE_OK &&
           archive_write_open(out->archive, out, NULL, on_write, NULL) == ARCHIVE_OK;
}

static int read_below(struct request *request, uint64_t *ret_below_bytes)
{
    return request_number(request, "below", 1, UINT64_MAX, UINT64_MAX, ret_below_bytes);
}

static void begin_stream(struct request *request)
{
    struct tar_out *out = mem_alloc(sizeof *out);
    out->request = request;
    out->node = request->node;
    buf_add(&out->top, request->path);
    if (read_below(request, &out->below_bytes) || !out_open(out)) {
        out_free(out);
        answer_failure(request, -EIO);
        return;
    }
    struct MHD_Response *response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, PIECE_BYTES,
                                                                      read_stream, out, out_free);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/x-tar");
    answer(request, MHD_HTTP_OK, response);
}

/* ---- the beginning -----------------------------------------------------------------------------
 */

/* The answer waits for the first file that is not here. */
struct awaited {
    struct arrival arrival;
    struct arriving arriving;
    struct buf path;
};

static int look(struct request *request, struct arrival *arrival)
{
    const struct file_metadata *metadata = NULL;
    int err = arriving_metadata(arrival->arriving, &metadata);
    if (!err && metadata->blocks_count > 0) {
        err = arriving_block(arrival->arriving, metadata->blocks_count, 0);
    }
    if (!err) {
        begin_stream(request);
        arriving_done(arrival->arriving); /* the stream has its own */
    }
    return err;
}

static void awaited_free(struct arrival *arrival)
{
    struct awaited *awaited = (struct awaited *)arrival;
    arriving_done(&awaited->arriving);
    buf_done(&awaited->path);
    free(awaited);
}

static void await(struct request *request, struct bytes path, const struct tree_version *version)
{
    struct awaited *awaited = mem_alloc(sizeof *awaited);
    arriving_init(&awaited->arriving, request, &version->file_id, &version->dot.origin);
    buf_add(&awaited->path, path);
    awaited->arrival = (struct arrival){
        .arriving = &awaited->arriving,
        .look = look,
        .free = awaited_free,
        .path = buf_bytes(&awaited->path),
    };
    request->state = awaited;
}

/* Of the first files, whether their content is here; leaves an arrival for the first that is not.
 * A clear answer is better than a stream that breaks off, which is all that can be said of a later
 * one. */
static int look_for_missing(struct request *request, uint64_t below_bytes)
{
    struct tree_walk *walk = NULL;
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    int err = node_snapshot(request->node, &txn);
    if (!err) {
        err = tree_walk_open(node_tree(request->node), txn, request->path, BYTES(NULL, 0), &walk);
    }
    if (err) {
        return err;
    }
    for (size_t i = 0; !err && !request->state && i < CHECKED_ENTRIES; i++) {
        struct bytes path;
        struct tree_entry entry;
        err = tree_walk_next(walk, &path, &entry);
        if (!err && entry.version.kind == TREE_FILE && entry.version.size_bytes < below_bytes &&
            is_missing(request->node, &entry.version.file_id)) {
            await(request, path, &entry.version);
        }
    }
    tree_walk_close(walk);
    return err == -ENOENT ? 0 : err;
}

void tar_out_begin(struct request *request)
{
    uint64_t below_bytes = 0;
    if (read_below(request, &below_bytes)) {
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_query", "below is a number from 1 on");
        return;
    }
    const int err = look_for_missing(request, below_bytes);
    if (err) {
        answer_failure(request, err);
    } else if (!request->state || request->is_head) {
        begin_stream(request);
    }
}
