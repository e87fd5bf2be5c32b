/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_TAR_PRIV_H
#define HTTP_TAR_PRIV_H

/*
 * tar: a directory as one stream, in and out, by libarchive.
 *
 *   tar_out.c      GET of a directory: libarchive is pushed, libmicrohttpd pulls
 *   tar_in.c       PUT of a directory: libmicrohttpd pushes, libarchive pulls; a thread between
 *   tar_unpack.c   what that thread does: entries out of the stream, all that is odd refused
 *   tar_publish.c  entries into store and tree, in batches or all at once
 *   tar_name.c     names
 *   tar_header.c   names in special headers, as they were sent
 */

#include <stdbool.h>

#include "base/bytes.h"
#include "node/node.h"
#include "tree/change.h"

struct fetch;

/* ---- names (tar_name.c): pure ---- */

/* The name of an entry without "./" before it and '/' behind it; empty: the directory itself. What
 * comes out is part of `raw`. -EINVAL: absolute, "..", an empty name; -EILSEQ; -ENAMETOOLONG. */
[[nodiscard]] int tar_clean_name(struct bytes raw, struct bytes *ret_name);

/* ---- headers (tar_header.c): pure ---- */

/* `headers` begins with the first header of an entry, as it was sent; more may follow the last.
 * True if one of its names has a NUL within, behind which libarchive cuts it. */
bool tar_has_cut_name(struct bytes headers);

/* ---- what comes of a stream ---- */

struct tar_result {
    int err;       /* -EPROTO: the stream is bad; others: see tree/change.h and store/put.h */
    char *message; /* for people, with -EPROTO; the owner frees it */
    uint64_t files_count;
    uint64_t length_bytes;
    bool has_version;
    struct dot version;   /* of the last change */
    struct buf published; /* ids of the files, if they were asked for; the owner frees it */
};

/* Where the stream comes from. */
struct tar_source {
    /* The next bytes, borrowed until the next call; none of them: the end. Blocks. An error is
     * handed on. */
    int (*read)(void *context, struct bytes *ret_bytes);
    void *context;
};

struct tar_options {
    struct node *node;
    struct fetch *fetch; /* makes room on a full disk; NULL: nobody does */
    struct bytes path;   /* checked */
    bool is_atomic;
    bool lists_files; /* ret_result->published is wanted */
};

/* Publishes what `source` gives below a path. Blocks until it is durable, or nothing more of it
 * will happen. Any thread but the writer's. */
void tar_unpack(const struct tar_options *options, const struct tar_source *source,
                struct tar_result *ret_result);

/* ---- publishing (tar_publish.c): one thread at a time ---- */

struct tar_entry {
    uint8_t *names; /* the whole path, then the target; owned */
    size_t path_bytes;
    size_t target_bytes;
    enum tree_kind kind;
    uint32_t mode;
    int64_t mtime_ns;
    uint64_t size_bytes;
    struct store_put *put; /* a file: its content, all of it written; owned */
    /* The publisher's: */
    size_t order;        /* in the stream */
    size_t result_index; /* of its put in the commit under way */
    bool has_result;     /* the id is in that commit's results, not in file_id */
    struct id file_id;
};

struct tar_publisher;
struct tar_publisher *tar_publisher_new(const struct tar_options *options);
/* Takes what is in `entry`, whatever it answers. -EPROTO: it doesn't go with what came before. */
[[nodiscard]] int tar_publisher_add(struct tar_publisher *publisher, struct tar_entry *entry);
/* To be called now and then: keeps what waits for the end from being collected. */
[[nodiscard]] int tar_publisher_touch(struct tar_publisher *publisher);
/* The stream was whole: publishes the rest. */
[[nodiscard]] int tar_publisher_finish(struct tar_publisher *publisher);
/* Fills the counts, the version and the files of *ret_result. Once. */
void tar_publisher_result(struct tar_publisher *publisher, struct tar_result *ret_result);
/* Waits for what is under way; drops what was not published. */
void tar_publisher_free(struct tar_publisher *publisher);
void tar_entry_done(struct tar_entry *entry);

/* ---- uploads (tar_in.c) ---- */

/* Uploads at once: each has a thread and at most some 80 MiB (the ring, two batches of content, or
 * names of TREE_OP_BYTES_MAX); normally a tenth of that. One more is told 503. */
#define TAR_UPLOADS_MAX 32u
/* Between the thread of libmicrohttpd and that of the upload. */
#define TAR_RING_BYTES ((size_t)1024 * 1024)

struct tar_uploads;
struct tar_uploads *tar_uploads_new(void);
/* Ends all uploads; from then on none begins, and none suspends its connection. */
void tar_uploads_stop(struct tar_uploads *uploads);
void tar_uploads_free(struct tar_uploads *uploads);

#endif
