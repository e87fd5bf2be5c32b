/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_WAIT_H
#define HTTP_WAIT_H

/*
 * wait: an answer that waits for news from another thread, as often as it has to, before its
 * headers or in the middle of its body. The connection is suspended meanwhile.
 *
 *     wait_look(wait);                  before it looks at what there is
 *     ... nothing there yet ...
 *     switch (wait_sleep(wait)) ...     unless news came since
 *
 * No wait goes on when the server stops, nor for a client that has left: libmicrohttpd sees neither
 * while a connection is suspended, so the acceptor looks at all waits once a second.
 *
 * Threads: wait_wake() from any; the other functions of one wait one after the other.
 */

#include <stdbool.h>
#include <stdint.h>

#include "http/request_priv.h"

/* Who has closed the sending half of its connection gets its answer if it comes so soon; after
 * that it is taken to have left. */
#define WAIT_LEFT_MS 30000u

struct waits;

struct wait {
    struct server *server;
    struct MHD_Connection *connection;
    const struct connection *peer;
    struct wait *prev; /* all below: under the lock of the waits */
    struct wait *next;
    uint64_t left_since_ms; /* it was seen then that the client sends no more; 0: it was not */
    bool is_suspended;
    bool has_news;
    bool has_left;
};

enum wait_outcome {
    WAIT_SLEEPS, /* suspended; the connection is resumed once, when there are news */
    WAIT_AGAIN,  /* news came since wait_look() */
    WAIT_OVER,   /* the server stops, or the client has left */
};

/* It has no news; nothing to give back, but it may not end while its connection is suspended. */
void wait_init(struct wait *wait, const struct request *request);
void wait_look(struct wait *wait);
/* `request`: the one that waits for its answer; NULL: within a reader of content. */
enum wait_outcome wait_sleep(struct wait *wait, struct request *request);
void wait_wake(struct wait *wait);
/* What it waited for came, and the answer goes on. If the client has left, the bytes that it is
 * sent show that; else it gets as long as before for the next ones. */
void wait_moved(struct wait *wait);

struct waits *waits_new(void);
/* Wakes all; from then on nothing waits. */
void waits_stop(struct waits *waits);
void waits_free(struct waits *waits);
/* Wakes those whose clients have left; `has_left` tells. */
void waits_look(struct waits *waits, uint64_t now_ms,
                bool (*has_left)(const struct connection *connection));

#endif
