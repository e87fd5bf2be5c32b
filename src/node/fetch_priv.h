/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_FETCH_PRIV_H
#define NODE_FETCH_PRIV_H

/*
 * The state of the fetch, what the network calls of it, and what its parts call of each other:
 *
 *   fetch.c         opening, the thread and its loop, what other threads bring
 *   fetch_locate.c  what locate asks: the network, the store, the index; who asked for holders
 *   fetch_index.c   the index of holders (fetch_index_priv.h)
 *   fetch_content.c  files on their way into the store (fetch_content_priv.h)
 *   fetch_files.c   files that are fetched, and more (fetch_files_priv.h)
 *   fetch_room.c    room on a full disk
 *   fetch_copies.c  copies that others keep for this node, and it for others
 *   evict.c         what is here as cache alone is kept below a limit (evict_priv.h)
 *   guests.c        what is here for promises alone (guests_priv.h)
 *   survey.c        how many have a path whole (survey_priv.h)
 */

#include <pthread.h>
#include <stdatomic.h>

#include "base/map.h"
#include "base/random.h"
#include "node/fetch.h"
#include "node/fetch_index_priv.h"
#include "node/inbox_priv.h"
#include "store/held.h"

struct blocks;
struct content;
struct copies;
struct copying;
struct evict;
struct fetch_aside;
struct fetch_file;
struct fetch_past;
struct fetch_seek;
struct guests;
struct keeping;
struct link;
struct measuring;
struct network;
struct network_options;
struct network_peer;
struct survey;
struct transfer;
struct workers;

/* Messages of locate that wait for the thread: as the replica's. */
#define FETCH_INBOX_MESSAGES_MAX 16384u
#define FETCH_INBOX_BYTES_MAX ((size_t)32 * 1024 * 1024)
#define FETCH_INBOX_SHARES 4u
/* Changes of what is held that wait; beyond, everything is compared instead. 21 MB. */
#define FETCH_CHANGES_MAX ((size_t)1024 * 1024)

/* Something that another thread brings, or that is left for the end of a turn. `run` is called once
 * on the fetch thread (or when that has ended: fetch->is_over), and owns it. */
struct fetch_news {
    void (*run)(struct fetch *fetch, struct fetch_news *news);
    struct fetch_news *next;
};

struct fetch_queue {
    struct fetch_news *first;
    struct fetch_news *last;
};

/* Somebody who waits for holders. */
struct fetch_find {
    uint64_t number;
    struct ring_key key;
    enum locate_depth depth;
    struct node_id publisher;
    bool has_publisher;
    uint64_t deadline_us;
    void (*found)(struct fetch *fetch, struct fetch_find *find, const struct locate_found *found);
    fetch_located_fn done; /* of fetch_locate() */
    void *context;
    struct locate_held_by *holders; /* likewise: known up to now */
    size_t holders_count;
    UT_hash_handle hh;
};

struct fetch_shunned {
    struct node_id node;
    uint64_t until_us;
};

struct fetch {
    struct node *node;
    struct network *network;
    const struct followers *followers; /* or NULL */
    struct inbox *inbox;
    pthread_t thread;
    bool has_thread;
    bool has_watch; /* of what is held */
    _Atomic bool stopping;
    struct blocks *blocks;
    struct workers *workers;
    atomic_size_t events_count; /* of blocks, that wait for the thread */
    atomic_size_t events_bytes; /* of lists in them */
    atomic_size_t readers_count;

    pthread_mutex_t room_lock; /* over the two below: who makes room */
    _Atomic uint64_t rooms_made;
    uint64_t no_room_us; /* when there was none to be made; 0: there was */

    pthread_mutex_t contents_lock; /* over these, which workers look for */
    struct content *contents;

    pthread_mutex_t lock; /* over all down to the next empty line */
    pthread_cond_t news_came;
    pthread_cond_t answered;
    bool is_started;
    bool has_news;
    bool members_changed;
    struct fetch_queue news;
    struct locate_held *changes;
    size_t changes_count;
    size_t changes_capacity;
    bool changes_lost;
    size_t commits_count; /* that the writer thread has not answered */
    struct fetch_counters counters;
    struct fetch_shunned shunned[FETCH_SHUNNED_MAX]; /* a ring */
    uint64_t shunned_count;                          /* ever */
    uint64_t evict_rounds;                           /* that have ended */

    /* The fetch thread's alone, after opening. */
    bool is_over;             /* nothing goes on any more: all that is asked is answered so */
    struct fetch_queue after; /* what is to be called when the machines are at rest */
    struct random random;
    struct locate *locate;
    struct fetch_index *index;
    uint64_t index_us;   /* when it was opened */
    uint64_t members_us; /* not looked at before */
    uint64_t members_change;
    uint64_t next_number;
    struct fetch_find *finds;
    size_t requests_count; /* of them, those of fetch_locate() */
    uint64_t requests_due_us;
    struct transfer *transfer;
    struct fetch_seek *seeks; /* finds on behalf of transfer */
    struct fetch_file *files;
    uint64_t linger_due_us;
    struct fetch_aside *asides; /* the oldest first */
    struct content *batch;      /* small files that wait to be committed */
    struct content **batch_end;
    size_t batch_count;
    uint64_t batch_us;     /* they wait for others until then */
    size_t batches_count;  /* commits of such under way */
    size_t settling_count; /* files of which transfer thinks that they are done */
    uint64_t settling_bytes;
    struct copies *copies;
    struct copying *copyings; /* that wait for others to keep something */
    struct keeping *keepings; /* files that are fetched for others */
    struct evict *evict;
    struct guests *guests;
    struct survey *surveys;
    size_t surveys_count;
    struct measuring *measures; /* that wait for a worker */
    size_t measures_running;
    size_t measures_asked; /* by others: that wait, and that run */
    struct fetch_past *past;
    uint64_t past_count;
    uint64_t files_fetched;
    uint64_t files_failed;
    uint64_t files_stopped;
    uint64_t blocks_received;
    uint64_t bytes_received;
    uint64_t blocks_bad;
    uint64_t no_space;
    uint64_t full_us; /* when the log was told so last */
};

/* Opens and closes: the network, in this order, before and around the link; as the replica. After
 * fetch_halt() nothing is called any more, and what comes until fetch_free() is left lying. NULL is
 * allowed for the last two. */
[[nodiscard]] int fetch_open(struct network *network, const struct network_options *options,
                             struct fetch **ret_fetch);
/* For the options of the link. */
struct link_service fetch_blocks_service(struct fetch *fetch);
void fetch_run(struct fetch *fetch, struct link *link);
void fetch_halt(struct fetch *fetch);
void fetch_free(struct fetch *fetch);

/* What arrives; copied, from any thread, without blocking. */
void fetch_put_message(struct fetch *fetch, const struct node_id *from, struct bytes bytes);
void fetch_put_keep_message(struct fetch *fetch, const struct node_id *from, struct bytes bytes);
void fetch_put_broadcast(struct fetch *fetch, const struct node_id *from, struct bytes payload);
void fetch_members_changed(struct fetch *fetch);

/* fetch.c */

/* From any thread: `news` is run by the fetch thread, in order. */
void fetch_post(struct fetch *fetch, struct fetch_news *news);
/* On the fetch thread: run when no machine is in the middle of something. */
void fetch_later(struct fetch *fetch, struct fetch_news *news);
/* From any thread: calls `ask` on the fetch thread and waits for it. Not within what that calls but
 * from fetch_later(). */
void fetch_ask(struct fetch *fetch, void (*ask)(struct fetch *fetch, void *context), void *context);

/* On the fetch thread: makes sure that the machines know the members. */
void fetch_see_members(struct fetch *fetch);

/* fetch_copies.c: on the fetch thread. */

void fetch_copies_open(struct fetch *fetch);
void fetch_copies_close(struct fetch *fetch);
void fetch_copies_members(struct fetch *fetch, const struct network_peer *peers,
                          size_t peers_count);
void fetch_copies_due(struct fetch *fetch);
/* Ends all that wait. */
void fetch_copies_end(struct fetch *fetch);

/* fetch_locate.c: on the fetch thread. */

[[nodiscard]] int fetch_locate_open(struct fetch *fetch);
void fetch_locate_close(struct fetch *fetch);
void fetch_locate_members(struct fetch *fetch, uint64_t now_us, const struct network_peer *peers,
                          size_t peers_count);
void fetch_locate_due(struct fetch *fetch);
uint64_t fetch_locate_next_us(const struct fetch *fetch);
/* Ends all that wait. */
void fetch_locate_end(struct fetch *fetch);
/* On the writer thread. */
void fetch_held_changed(void *context, const struct store_held *held, size_t count);

/* Begins a find whose `key`, `depth`, publisher and `found` are set. It is over after the last word
 * or fetch_find_end(), which is not called within `found`. -EBUSY, -ECANCELED: not begun. */
[[nodiscard]] int fetch_find_begin(struct fetch *fetch, struct fetch_find *find);
void fetch_find_end(struct fetch *fetch, struct fetch_find *find);

#endif
