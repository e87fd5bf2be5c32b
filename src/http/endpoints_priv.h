/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_ENDPOINTS_PRIV_H
#define HTTP_ENDPOINTS_PRIV_H

#include "http/request_priv.h"

/* One file each, or a few that belong together. The table is in endpoints.c. */
extern const struct endpoint endpoint_block_data;     /* blocks.c */
extern const struct endpoint endpoint_conflicts;      /* log.c */
extern const struct endpoint endpoint_dht_get;        /* dht.c */
extern const struct endpoint endpoint_dht_put;        /* dht.c */
extern const struct endpoint endpoint_fetches_await;  /* fetches.c */
extern const struct endpoint endpoint_fetches_delete; /* fetches.c */
extern const struct endpoint endpoint_fetches_get;    /* fetches.c */
extern const struct endpoint endpoint_fetches_post;   /* fetches.c */
extern const struct endpoint endpoint_file_data;      /* blocks.c */
extern const struct endpoint endpoint_file_metadata;  /* blocks.c */
extern const struct endpoint endpoint_files_post;     /* adopt.c */
extern const struct endpoint endpoint_fs_delete;      /* fs_change.c */
extern const struct endpoint endpoint_fs_get;         /* fs_get.c */
extern const struct endpoint endpoint_fs_post;        /* fs_change.c */
extern const struct endpoint endpoint_fs_put;         /* fs_put.c */
extern const struct endpoint endpoint_health;         /* status.c */
extern const struct endpoint endpoint_locate;         /* where.c */
extern const struct endpoint endpoint_log;            /* log.c */
extern const struct endpoint endpoint_members_get;    /* members.c */
extern const struct endpoint endpoint_members_post;   /* members.c */
extern const struct endpoint endpoint_metrics;        /* metrics.c */
extern const struct endpoint endpoint_put_tar;        /* tar_in.c; fs_put.c goes on to it */
extern const struct endpoint endpoint_ready;          /* status.c */
extern const struct endpoint endpoint_scrub;          /* scrub.c */
extern const struct endpoint endpoint_status;         /* status.c */
extern const struct endpoint endpoint_wait;           /* survey.c */
extern const struct endpoint endpoint_watch;          /* watch.c */
extern const struct endpoint endpoint_watch_post;     /* watch.c */
extern const struct endpoint endpoint_watch_token;    /* watch_cursor.c */
extern const struct endpoint endpoint_where;          /* where.c */
extern const struct endpoint endpoint_why;            /* fetches.c */

/* What /status and /metrics tell of tree and store (status.c). */
[[nodiscard]] int status_gather(struct request *request, struct tree_summary *ret_tree,
                                struct store_status *ret_store);

/* What a listing tells of a directory. */
struct listing_kind {
    const char *key;                               /* of the array of a page */
    bool is_deep;                                  /* all that is below, unless told otherwise */
    bool (*takes)(const struct tree_entry *entry); /* NULL: all */
    /* Adds an entry as an object. */
    int (*add)(struct buf *text, struct server *server, struct kv_txn *txn, struct bytes path,
               const struct tree_entry *entry);
};
extern const struct listing_kind listing_of_entries;

/* Listing of the directory at request->path (listing.c), and the same as a tar stream. */
void listing_begin(struct request *request, const struct listing_kind *kind);
void tar_out_begin(struct request *request);

#endif
