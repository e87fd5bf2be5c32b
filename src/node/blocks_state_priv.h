/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_BLOCKS_STATE_PRIV_H
#define NODE_BLOCKS_STATE_PRIV_H

/*
 * The state of `blocks` and what its parts call of each other:
 *
 *   blocks.c          opening and closing, the timer, counters
 *   blocks_ask.c      sources: what we say to them, and how they come and go
 *   blocks_gather.c   sources: what comes from them; blocks put together and delivered
 *   blocks_serve.c    receivers: their questions and our answers
 *   blocks_send.c     receivers: the bytes that leave
 *   blocks_growth.c   receivers: news of files that come here
 *
 * Locks, in the order in which they are taken: gate (shared), serve_lock, a receiver's write_lock;
 * and apart from these gate, ask_lock (blocks_stop() alone takes it inside of serve_lock). Events
 * are called with no lock but the gate.
 */

#include <pthread.h>
#include <stdatomic.h>

#include "base/buf.h"
#include "base/map.h"
#include "link/stream.h"
#include "node/blocks_priv.h"
#include "node/workers_priv.h"
#include "store/read.h"
#include "transfer/upload.h"

/* ---- asking ------------------------------------------------------------------------------------
 */

/* A block of a request. */
struct wanted {
    struct id block;
    uint32_t index;
    uint32_t size_bytes;
    bool is_over; /* it is being received, or was refused */
};

struct request {
    uint32_t number;
    struct id file;
    size_t wanted_count;
    size_t left_count; /* that are not over */
    UT_hash_handle hh;
    struct wanted wanted[];
};

struct ask {
    uint32_t number;
    struct id file;
    bool wants_metadata;
    UT_hash_handle hh;
};

/* A file whose growth was asked for. */
struct grower {
    struct id file;
    UT_hash_handle hh;
};

/* The block that is being received. */
struct gathering {
    bool is_skipped;  /* nobody wants it: its bytes are dropped */
    bool is_canceled; /* the same, but they may be in `buffer` already; under ask_lock */
    uint32_t number;
    uint16_t position;
    struct id file;
    struct id block;
    uint32_t index;
    uint32_t size_bytes;
    uint32_t filled_bytes;
    uint8_t *buffer; /* NULL: not yet */
};

/* Somebody whom we ask, and the stream to him. */
struct source {
    struct blocks *blocks;
    struct node_id peer;
    struct link_stream *stream; /* NULL: it could not be opened */

    /* Under ask_lock down to the next empty line. */
    unsigned refs_count;   /* the table, the stream's callbacks, work; the last one cleans up */
    bool is_listed;        /* in the table */
    bool is_ending;        /* what is said is dropped: `lost` comes, or nobody is interested */
    bool is_silent;        /* without `lost` */
    enum blocks_end why;   /* as far as it is our doing */
    struct buf out;        /* said and not written */
    struct source *unsaid; /* the next in the list of those with something in `out` */
    bool is_unsaid;        /* in that list */
    struct ask *asks;
    struct request *requests;
    struct grower *growers;
    size_t awaited_count;    /* blocks */
    uint64_t canceled_bytes; /* that may come all the same */
    uint64_t used_us;        /* when something was said or came last */
    uint64_t heard_us;       /* when bytes came last */
    bool is_held;            /* what comes is put into `held` */
    struct buf held;
    size_t room_bytes; /* that it waits for, or has for what it receives */
    bool is_waiting;   /* in the list of those that wait for room */
    struct source *wait_prev;
    struct source *wait_next;
    UT_hash_handle hh;

    /* Whose turn it is to read alone: the link's thread, or a worker while `is_held`. */
    struct transfer_reader reader;
    struct gathering gathering;
    size_t untold_bytes; /* received and not told by `received` */
    uint64_t told_us;
    struct work resume;
    struct work fail;
};

/* ---- answering ---------------------------------------------------------------------------------
 */

struct growth;

/* A receiver wants to know of a file's growth. */
struct subscription {
    struct id file; /* of the receiver's table */
    struct growth *growth;
    struct receiver *receiver;
    size_t told_count;         /* of the log of the growth */
    bool is_active;            /* the offer has gone out before */
    struct subscription *prev; /* of those of the growth */
    struct subscription *next;
    UT_hash_handle hh;
};

/* A file of which somebody wants to know the growth. */
struct growth {
    struct id file;
    bool has_base;   /* `have` is what was here at the first look, and what came since */
    struct buf have; /* a bitmap */
    struct buf log;  /* u32 in the machine's order: what came, in order */
    struct subscription *subscriptions;
    struct growth *due_next; /* of those with news */
    bool is_due;
    UT_hash_handle hh;
};

/* A block on its way out, or some small ones in one piece. */
#define SENDING_JOBS_MAX 32u
struct sending {
    struct work work;
    struct receiver *receiver;
    struct upload_job jobs[SENDING_JOBS_MAX];
    size_t jobs_count;
    struct store_view view; /* of a block that leaves alone */
    bool has_view;
    struct buf packed; /* of small ones: heads and bytes; no view then */
    struct bytes bytes;
    bool is_head_written;
    size_t written_bytes;  /* that are with the link */
    struct sending *next;  /* of those that wait for room in the stream's queue */
    size_t released_bytes; /* that the link has given back; under serve_lock down to the end */
    bool is_queued;        /* among those of the receiver */
    bool is_given_up;      /* as far as upload is concerned */
    bool is_dropped;       /* some of it never left */
    struct sending *queued_prev;
    struct sending *queued_next;
};

/* Somebody who asks us, and his stream. */
struct receiver {
    struct blocks *blocks;
    struct node_id peer;
    struct link_stream *stream;

    /* Under serve_lock down to the next empty line. */
    unsigned refs_count; /* the stream's callbacks, a turn, each block that is sent */
    bool is_listed;
    bool is_closed;
    bool is_queued;         /* a turn is put before the workers, or runs */
    struct sending *queued; /* with the link, or waiting for room there */
    uint64_t moved_us;      /* when the first of them came there, or some of one left last */
    bool is_stuck;          /* they have not moved for long */
    bool is_behind;         /* was not told all news, since too much waits */
    struct buf in;          /* came and was not looked at */
    struct subscription *subscriptions;
    size_t subscriptions_count;
    UT_hash_handle hh;

    /* The turn's alone. */
    struct work turn;
    struct transfer_reader reader;
    struct buf reading; /* what it took of `in` */
    size_t read_bytes;

    pthread_mutex_t write_lock; /* over the rest */
    bool is_corked;             /* more will be said at once */
    struct buf out;             /* frames that wait for that, or for room in the queue */
    struct sending *parked;     /* blocks, likewise */
};

/* ---- both --------------------------------------------------------------------------------------
 */

struct blocks_sums {
    _Atomic uint64_t received_blocks;
    _Atomic uint64_t received_bytes;
    _Atomic uint64_t wasted_bytes;
    _Atomic uint64_t bad_blocks;
    _Atomic uint64_t sent_blocks;
    _Atomic uint64_t sent_bytes;
    _Atomic uint64_t refused_blocks;
    _Atomic uint64_t malformed;
    _Atomic uint64_t stalled;
};

/* Memory for blocks, used again while it is warm. */
#define BLOCKS_SPARE_CLASSES 5u

struct spare {
    struct spare *next;
};

struct blocks {
    struct store *store;
    struct link *link;
    struct blocks_events events;
    void *context;
    bool (*find_member)(void *context, const struct node_id *id, struct address *ret_address);
    void *member_context;
    uint64_t idle_us;
    uint64_t stall_us;
    size_t gather_bytes_max;
    struct blocks_sums sums;
    struct workers *deliverers;
    struct workers *senders;

    /* Held shared by whatever calls back, alone by blocks_stop(). */
    pthread_rwlock_t gate;
    _Atomic bool is_open;    /* between start and stop */
    _Atomic bool is_stopped; /* there are no workers any more; set with both locks held */

    pthread_mutex_t ask_lock; /* over all down to the next empty line */
    struct source *sources;
    struct source *unsaid;
    struct source *waiting; /* for room, the first first */
    size_t gather_bytes;
    struct spare *spares[BLOCKS_SPARE_CLASSES];
    size_t spare_bytes;

    pthread_mutex_t serve_lock; /* over all down to the next empty line */
    struct receiver *receivers;
    struct upload *upload;
    struct growth *growths;
    struct growth *due; /* those with news */
    uint64_t news_us;   /* when they are told; UINT64_MAX: there are none */

    pthread_mutex_t timer_lock; /* over all down to the next empty line */
    pthread_cond_t timer_set;
    uint64_t timer_us;
    bool is_timer_ending;

    pthread_t timer;
    bool has_timer;
};

/* blocks.c */

uint64_t blocks_now_us(void);
/* True: callbacks may be called until blocks_leave(). */
bool blocks_enter(struct blocks *blocks);
void blocks_leave(struct blocks *blocks);
/* The timer looks at everything at `due_us`, or before. */
void blocks_set_timer(struct blocks *blocks, uint64_t due_us);

/* blocks_ask.c */

struct source *source_hold(struct source *source); /* under ask_lock, likewise below */
void source_unhold(struct source *source);
/* It is over; `lost` comes by its stream's end. */
void source_end(struct source *source, enum blocks_end why);
struct wanted *source_find_wanted(struct source *source, uint32_t number, uint16_t position,
                                  struct request **ret_request);
/* A block of the request needs no answer any more. */
void source_answered(struct source *source, struct request *request, struct wanted *wanted);
/* The growth of this file is not awaited any more; false: it was not. */
bool source_forget_grower(struct source *source, const struct id *file);
/* Ends who is idle or stalled; when it is to be called again. Without locks. */
uint64_t blocks_tend_sources(struct blocks *blocks, uint64_t now_us);

/* blocks_gather.c */

void source_on_data(void *context, struct link_stream *stream, struct bytes bytes);
void source_resume(struct work *work);
/* Under ask_lock: gives back what it has of the room, and lets others have it. */
void source_free_room(struct source *source, size_t bytes_count);
void blocks_free_spares(struct blocks *blocks);

/* blocks_serve.c */

int receiver_on_accept(void *context, const struct link_peer *peer, struct link_stream *stream,
                       struct link_stream_handlers *ret_handlers, void **ret_context);
/* Under serve_lock. */
void receiver_unhold(struct receiver *receiver);
/* Under serve_lock: has what came looked at, if there is some and nobody is at it. */
void receiver_want_turn(struct receiver *receiver);
void receiver_refuse(struct receiver *receiver, const struct upload_job *job,
                     enum transfer_refusal why);

/* blocks_send.c */

/* Under serve_lock: hands to the workers what is to be sent now. */
void blocks_pump(struct blocks *blocks);
/* Says a frame, or some. */
void receiver_say(struct receiver *receiver, struct bytes frames);
/* Between the two what is said is gathered. */
void receiver_cork(struct receiver *receiver);
void receiver_uncork(struct receiver *receiver);
/* Bytes that were said and are not with the link. */
size_t receiver_unwritten_bytes(struct receiver *receiver);
void receiver_on_writable(void *context, struct link_stream *stream);
/* The stream is closed: what is parked will not be sent. */
void receiver_drop_parked(struct receiver *receiver);
/* Looks after those who do not read; when it is to be called again. Without locks. */
uint64_t blocks_tend_receivers(struct blocks *blocks, uint64_t now_us);

/* blocks_growth.c; the first three under serve_lock. */

/* Does nothing if he has too many. */
void growth_subscribe(struct receiver *receiver, const struct id *file);
void growth_unsubscribe(struct subscription *subscription);
/* The same, if there is one; it takes the lock. */
void growth_forget(struct receiver *receiver, const struct id *file);
void growth_unsubscribe_all(struct receiver *receiver);
/* Which blocks of the file are here, as a bitmap. */
void growth_have(struct receiver *receiver, const struct id *file,
                 const struct file_metadata *metadata, struct buf *ret_have);
/* The offer is said: what has come since is told from now on. */
void growth_activate(struct receiver *receiver, const struct id *file);
/* What is said to him has gone out: he is told of what he was not for that. Takes the lock. */
void growth_catch_up(struct receiver *receiver);
/* Tells what is due; when it is to be called again. */
uint64_t blocks_tell_news(struct blocks *blocks, uint64_t now_us);

#endif
