/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LINK_LINK_PRIV_H
#define LINK_LINK_PRIV_H

#include "link/peer_priv.h"
#include "link/thread_priv.h"

/* The last so many peers that were let go; they only have to be remembered for as long as the end
 * of a connection takes to arrive. */
#define LINK_ENDED_MAX 256u

struct ended_peer {
    struct node_id id;
    uint64_t nonce;
    uint64_t number;
};

struct link {
    struct link_options options;                         /* without services */
    struct link_service services[LINK_SERVICES_MAX + 1]; /* by number; 0: none */
    struct link_thread *threads;
    unsigned threads_count;

    _Atomic unsigned refs_count;     /* the owner's, and one for each peer */
    _Atomic unsigned accepted_count; /* chooses the thread for the next */
    _Atomic uint64_t connections_count;
    _Atomic uint64_t connections_opened; /* their numbers */
    _Atomic uint64_t assembly_bytes;

    pthread_mutex_t lock; /* over the peers, as said in peer_priv.h */
    struct peer *peers;
    struct ended_peer ended[LINK_ENDED_MAX]; /* a ring */
    size_t ended_count;                      /* ever */
};

void link_let_go(struct link *link);

#endif
