/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LINK_MESSAGE_H
#define LINK_MESSAGE_H

/*
 * message: whole messages to a service of a peer, in order for each (peer, service), best effort:
 * when a connection is lost, so are the messages that were on their way. They travel in a stream
 * of their own for each service, so they wait for no other traffic.
 */

#include "base/bytes.h"
#include "link/link.h"

/* The longest of all messages (of the member list, one mebibyte) with room for a header. */
#define LINK_MESSAGE_BYTES_MAX ((size_t)1024 * 1024 + 4096)
/* Waiting to be sent to one peer; beyond: -EAGAIN. A message counts LINK_WRITE_COST_BYTES more
 * than its bytes. */
#define LINK_PEER_MESSAGE_BYTES_MAX ((size_t)8 * 1024 * 1024)
/* Messages of all peers that have come in part; one that needs more is dropped and counted. */
#define LINK_ASSEMBLY_BYTES_MAX ((size_t)256 * 1024 * 1024)

struct link_message {
    struct node_id peer;
    struct address address; /* to connect to, if no connection stands */
    uint8_t service;
    struct bytes bytes; /* copied; 0 to LINK_MESSAGE_BYTES_MAX */
    /* Optional: called once, on the link thread. 0: the message is with the kernel, which does not
     * mean that it arrived; else it was not sent, an error as of link_stream's `closed`. */
    void (*done)(void *context, int err);
    void *context;
};

/* Sends, connecting if need be. From any thread; does not block. -EAGAIN: too much waits for this
 * peer; -EFBIG: too long; -EINVAL: our own id, or no service. `done` of a refused one never
 * comes. */
[[nodiscard]] int link_send_message(struct link *link, const struct link_message *message);

#endif
