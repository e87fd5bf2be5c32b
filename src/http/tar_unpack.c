/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A tar stream, entry by entry. libarchive reads every tar there is (ustar, pax, GNU, v7); it also
 * forgives what we do not want to: a stream that ends anywhere between two entries, holes that
 * stand for a terabyte of zeros. What it leaves open is decided here:
 *
 *   - The stream has its end mark, two blocks of zeros, and nothing but zeros behind it. Where the
 *     mark has to stand libarchive tells by its positions, and zeros are counted as they pass.
 *   - Only files, directories and symbolic links. No hard links, no devices, no sparse files.
 *   - A warning of libarchive's is an error, but for one. It turns the UTF-8 of pax headers into
 *     the charset of the locale, and if that is UTF-8 too it composes accents on the way (NFC):
 *     other names than were sent. So it works in the C locale, where it can't convert what is not
 *     ASCII, says so, and hands out the bytes as they are.
 *   - Headers: libarchive takes special ones of 1 MiB at most, 32 before an entry. It cuts names at
 * a NUL, so they are looked at as they were sent (tar_header.c).
 */

#include <archive.h>
#include <archive_entry.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "http/tar_priv.h"
#include "node/fetch.h"

/* Two blocks of 512 bytes. */
#define END_MARK_BYTES ((uint64_t)1024)
/* Zeros behind the mark: a tape's record is 10 KiB with most writers, at most 1 MiB in ours. */
#define PADDING_BYTES_MAX ((uint64_t)1024 * 1024)
/* Seconds that fit into 64 bits as nanoseconds. */
#define SECONDS_MAX (INT64_MAX / 1000000000 - 1)

/* No headers begin there. */
#define HEADERS_NONE (-1)

#define CONVERSION_WARNING "can't be converted"

struct unpack {
    struct node *node;
    struct fetch *fetch;
    struct bytes path;
    const struct tar_source *source;
    struct tar_publisher *publisher;
    struct tar_result *result;
    struct archive *archive;
    struct bytes piece; /* the last of the stream that libarchive got */
    struct buf headers; /* before it: what belongs to the headers that are being read */
    bool is_in_headers;
    int64_t headers_before; /* where those of the entry before began */
    uint64_t read_bytes;    /* of the stream */
    uint64_t zeros_bytes;   /* at the end of them */
    bool has_ended;
    int source_err;
    uint64_t entries_count;
};

static int refuse(struct unpack *unpack, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The stream is bad, and why. */
static int refuse(struct unpack *unpack, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *message = NULL;
    if (vasprintf(&message, format, arguments) < 0) {
        mem_out_of_memory();
    }
    va_end(arguments);
    free(unpack->result->message);
    unpack->result->message = message;
    return -EPROTO;
}

/* True if the name can be shown: a message is UTF-8, and short. */
static bool is_text(const char *name)
{
    size_t size = 0;
    bool is_ascii = true;
    for (; size <= PATH_NAME_BYTES_MAX && name[size]; size++) {
        is_ascii = is_ascii && (name[size] & 0x80) == 0;
    }
    return size <= PATH_NAME_BYTES_MAX && (is_ascii || path_check(bytes_of_string(name)) == 0);
}

/* The same of one entry. */
static int refuse_entry(struct unpack *unpack, struct archive_entry *entry, const char *why)
{
    const char *name = archive_entry_pathname(entry);
    if (name && is_text(name)) {
        return refuse(unpack, "'%s': %s", name, why);
    }
    return refuse(unpack, "entry %llu: %s", (unsigned long long)unpack->entries_count, why);
}

/* What libarchive complains of, or what our own callback did. */
static int broken(struct unpack *unpack)
{
    if (unpack->source_err) {
        return unpack->source_err;
    }
    const char *text = archive_error_string(unpack->archive);
    return refuse(unpack, "%s", text ? text : "this is no tar stream");
}

static void count_zeros(struct unpack *unpack, struct bytes bytes)
{
    size_t zeros = 0;
    while (zeros < bytes.size && bytes.data[bytes.size - 1 - zeros] == 0) {
        zeros++;
    }
    unpack->zeros_bytes = zeros == bytes.size ? unpack->zeros_bytes + zeros : zeros;
    unpack->read_bytes += bytes.size;
}

static int read_bytes(struct unpack *unpack, struct bytes *ret_bytes)
{
    *ret_bytes = BYTES(NULL, 0);
    if (unpack->has_ended) {
        return 0;
    }
    int err = tar_publisher_touch(unpack->publisher);
    if (!err) {
        err = unpack->source->read(unpack->source->context, ret_bytes);
    }
    if (err) {
        return err;
    }
    unpack->has_ended = ret_bytes->size == 0;
    count_zeros(unpack, *ret_bytes);
    return 0;
}

/* Where the headers that are being read begin, or begin at the earliest. */
static uint64_t headers_begin(const struct unpack *unpack)
{
    const int64_t begin = archive_read_header_position(unpack->archive);
    return (uint64_t)(begin != unpack->headers_before ? begin
                                                      : archive_filter_bytes(unpack->archive, 0));
}

/* The piece goes; what belongs to headers under way is kept: libarchive takes 32 MiB of them. */
static void keep_headers(struct unpack *unpack)
{
    if (!unpack->is_in_headers) {
        return;
    }
    buf_add(&unpack->headers, unpack->piece);
    const uint64_t kept_from = unpack->read_bytes - unpack->headers.size;
    const uint64_t begin = headers_begin(unpack);
    const uint64_t surplus = begin > kept_from ? begin - kept_from : 0;
    buf_consume(&unpack->headers,
                surplus < unpack->headers.size ? (size_t)surplus : unpack->headers.size);
}

/* After libarchive has read the headers of an entry. */
static bool has_cut_name(struct unpack *unpack)
{
    struct bytes bytes = unpack->piece;
    if (unpack->headers.size > 0) {
        buf_add(&unpack->headers, unpack->piece);
        bytes = buf_bytes(&unpack->headers);
    }
    const uint64_t from = unpack->read_bytes - bytes.size;
    const uint64_t begin = (uint64_t)archive_read_header_position(unpack->archive);
    const bool is_kept = begin >= from && begin - from <= bytes.size;
    const size_t skip = is_kept ? (size_t)(begin - from) : 0;
    /* What was not kept can't be judged. */
    const bool found = !is_kept || tar_has_cut_name(BYTES(bytes.data + skip, bytes.size - skip));
    buf_clear(&unpack->headers);
    return found;
}

static la_ssize_t on_read(struct archive *archive, void *context, const void **ret_data)
{
    struct unpack *unpack = context;
    struct bytes bytes;
    keep_headers(unpack);
    unpack->source_err = read_bytes(unpack, &bytes);
    unpack->piece = bytes;
    if (unpack->source_err) {
        archive_set_error(archive, ECANCELED, "given up");
        return ARCHIVE_FATAL;
    }
    *ret_data = bytes.data;
    return (la_ssize_t)bytes.size;
}

static bool make_room(void *context)
{
    return fetch_make_room(context);
}

/* The content of a file, in the order of its bytes and without holes. */
static int read_content(struct unpack *unpack, struct archive_entry *from, struct tar_entry *entry)
{
    int err = store_put_begin(node_store(unpack->node), STORE_ORIGIN, &entry->put);
    if (!err && unpack->fetch) {
        store_put_set_room(entry->put, make_room, unpack->fetch);
    }
    while (!err) {
        const void *data = NULL;
        size_t size = 0;
        la_int64_t offset = 0;
        const int status = archive_read_data_block(unpack->archive, &data, &size, &offset);
        if (status == ARCHIVE_EOF) {
            break;
        }
        if (status != ARCHIVE_OK) {
            return broken(unpack);
        }
        if ((uint64_t)offset != entry->size_bytes) {
            return refuse_entry(unpack, from, "sparse files are not taken");
        }
        err = store_put_write(entry->put, BYTES(data, size));
        entry->size_bytes += size;
    }
    if (!err && (int64_t)entry->size_bytes != archive_entry_size(from)) {
        return refuse_entry(unpack, from, "its length is not what its header says");
    }
    return err;
}

/* DIRECTORY/name and the target, in one piece of memory. */
static void set_names(struct unpack *unpack, struct tar_entry *entry, struct bytes name,
                      struct bytes target)
{
    const struct bytes top = unpack->path;
    const bool has_slash = top.size > 0 && name.size > 0;
    entry->path_bytes = top.size + has_slash + name.size;
    entry->target_bytes = target.size;
    entry->names = mem_alloc(entry->path_bytes + target.size + 1);
    uint8_t *at = entry->names;
    if (top.size > 0) {
        memcpy(at, top.data, top.size);
        at += top.size;
    }
    if (has_slash) {
        *at++ = '/';
    }
    memcpy(at, name.data, name.size);
    if (target.size > 0) {
        memcpy(at + name.size, target.data, target.size);
    }
}

static const char *why_bad_name(int err)
{
    return err == -EILSEQ         ? "the name is not UTF-8"
           : err == -ENAMETOOLONG ? "the name is too long"
                                  : "no such name can be below the directory";
}

static int set_kind(struct unpack *unpack, struct archive_entry *from, struct tar_entry *entry)
{
    if (archive_entry_hardlink(from)) {
        return refuse_entry(unpack, from, "hard links are not taken");
    }
    if (archive_entry_sparse_count(from) > 0) {
        return refuse_entry(unpack, from, "sparse files are not taken");
    }
    const unsigned type = archive_entry_filetype(from);
    if (type != AE_IFREG && type != AE_IFDIR && type != AE_IFLNK) {
        return refuse_entry(unpack, from, "it is no file, directory or symbolic link");
    }
    entry->kind = type == AE_IFREG ? TREE_FILE : type == AE_IFDIR ? TREE_DIRECTORY : TREE_SYMLINK;
    return 0;
}

/* All but the content. An entry without a path is to be left out. */
static int read_header(struct unpack *unpack, struct archive_entry *from, struct tar_entry *entry)
{
    const int err = set_kind(unpack, from, entry);
    if (err) {
        return err;
    }
    const char *raw = archive_entry_pathname(from);
    struct bytes name;
    const int name_err = raw ? tar_clean_name(bytes_of_string(raw), &name) : -EINVAL;
    if (name_err) {
        return refuse_entry(unpack, from, why_bad_name(name_err));
    }
    if (name.size == 0 && entry->kind != TREE_DIRECTORY) {
        return refuse_entry(unpack, from, "the directory itself is a directory");
    }
    struct bytes target = BYTES(NULL, 0);
    if (entry->kind == TREE_SYMLINK) {
        const char *text = archive_entry_symlink(from);
        target = text ? bytes_of_string(text) : target;
        if (target.size == 0 || target.size > TREE_TARGET_BYTES_MAX) {
            return refuse_entry(unpack, from, "no such target can be");
        }
    }
    const int64_t seconds = archive_entry_mtime(from);
    if (seconds > SECONDS_MAX || seconds < -SECONDS_MAX) {
        return refuse_entry(unpack, from, "its time can't be");
    }
    entry->mode = (uint32_t)archive_entry_perm(from) & 07777;
    entry->mtime_ns = seconds * 1000000000 + archive_entry_mtime_nsec(from);
    set_names(unpack, entry, name, target);
    const int path_err =
        entry->path_bytes > 0 ? path_check(BYTES(entry->names, entry->path_bytes)) : 0;
    return path_err ? refuse_entry(unpack, from, why_bad_name(path_err)) : 0;
}

static int read_entry(struct unpack *unpack, struct archive_entry *from)
{
    unpack->entries_count++;
    struct tar_entry entry = {0};
    int err = read_header(unpack, from, &entry);
    if (!err && entry.kind == TREE_FILE) {
        err = read_content(unpack, from, &entry);
    }
    if (err || entry.path_bytes == 0) {
        /* The root has neither mode nor time of its own. */
        tar_entry_done(&entry);
        return err;
    }
    err = tar_publisher_add(unpack->publisher, &entry);
    return err == -EPROTO ? refuse(unpack, "an entry lies below one that is no directory") : err;
}

/* Everything behind the last entry. */
static int read_end(struct unpack *unpack)
{
    const int64_t begin = archive_read_header_position(unpack->archive);
    const uint64_t end = (uint64_t)archive_filter_bytes(unpack->archive, 0);
    if (begin < 0 || end - (uint64_t)begin < END_MARK_BYTES) {
        return refuse(unpack, "the stream ends without its end mark");
    }
    while (!unpack->has_ended && unpack->read_bytes - end <= PADDING_BYTES_MAX) {
        struct bytes bytes;
        const int err = read_bytes(unpack, &bytes);
        if (err) {
            return err;
        }
        if (unpack->zeros_bytes < bytes.size) {
            break;
        }
    }
    if (!unpack->has_ended || unpack->read_bytes - unpack->zeros_bytes > end - END_MARK_BYTES) {
        return refuse(unpack, "something follows the end mark");
    }
    return 0;
}

/* A warning about the charset alone is none, see above. */
static bool is_fine(struct unpack *unpack, int status)
{
    if (status == ARCHIVE_WARN) {
        const char *text = archive_error_string(unpack->archive);
        return text && strstr(text, CONVERSION_WARNING);
    }
    return status == ARCHIVE_OK;
}

static int read_all(struct unpack *unpack)
{
    if (archive_read_support_format_tar(unpack->archive) != ARCHIVE_OK ||
        archive_read_open(unpack->archive, unpack, NULL, on_read, NULL) != ARCHIVE_OK) {
        return broken(unpack);
    }
    for (;;) {
        struct archive_entry *entry = NULL;
        /* Before the first entry libarchive tells the same position as at it. */
        unpack->headers_before = unpack->entries_count == 0
                                     ? HEADERS_NONE
                                     : archive_read_header_position(unpack->archive);
        unpack->is_in_headers = true;
        const int status = archive_read_next_header(unpack->archive, &entry);
        unpack->is_in_headers = false;
        if (status == ARCHIVE_EOF) {
            return read_end(unpack);
        }
        if (!is_fine(unpack, status)) {
            return broken(unpack);
        }
        const int err = has_cut_name(unpack) ? refuse(unpack, "a name has a NUL in it")
                                             : read_entry(unpack, entry);
        if (err) {
            return err;
        }
    }
}

void tar_unpack(const struct tar_options *options, const struct tar_source *source,
                struct tar_result *ret_result)
{
    *ret_result = (struct tar_result){0};
    struct unpack unpack = {
        .node = options->node,
        .fetch = options->fetch,
        .path = options->path,
        .source = source,
        .publisher = tar_publisher_new(options),
        .result = ret_result,
        .archive = archive_read_new(),
    };
    if (!unpack.archive) {
        mem_out_of_memory();
    }
    locale_t locale = newlocale(LC_CTYPE_MASK, "C", NULL);
    locale_t before = locale ? uselocale(locale) : NULL;
    int err = read_all(&unpack);
    archive_read_free(unpack.archive);
    buf_done(&unpack.headers);
    if (locale) {
        uselocale(before);
        freelocale(locale);
    }
    if (!err) {
        err = tar_publisher_finish(unpack.publisher);
        if (err == -EPROTO) {
            err = refuse(&unpack, "an entry lies below one that is no directory");
        }
    }
    tar_publisher_result(unpack.publisher, ret_result);
    tar_publisher_free(unpack.publisher);
    ret_result->err = err;
}
