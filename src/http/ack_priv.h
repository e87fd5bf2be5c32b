/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_ACK_PRIV_H
#define HTTP_ACK_PRIV_H

/*
 * ack: an answer to a change that waits until other nodes have it on disk (?ack=N), and until
 * others hold the content that it published, too (?copies=N; docs/API.md).
 *
 * The request is suspended meanwhile (http/wait.h). What is waited for belongs to the request and
 * to those that will tell of it (the replica, the fetch); who lets go last frees it. When the
 * server stops, or the client has left, nothing is waited for any longer.
 */

#include "http/request_priv.h"
#include "node/fetch.h"
#include "tree/sync.h"

#define ACK_COUNT_MAX TREE_SYNC_AWAIT_MAX
#define ACK_WAIT_S_MAX 3600u /* REPLICA_AWAIT_MS_MAX */
#define ACK_WAIT_S_DEFAULT 30u
/* Nodes that hold the content, this one among them. */
#define ACK_COPIES_MAX (FETCH_COPIES_MAX + 1)
#define ACK_COPIES_WAIT_S_MAX 86400u /* FETCH_COPIES_MS_MAX */
#define ACK_COPIES_WAIT_S_DEFAULT 3600u

/* The parameters of endpoints that make changes; of the node if the request does not say. False:
 * they make no sense, which was answered. */
#define ACK_PARAMETERS "ack", "ack_wait"
/* Those that publish content take these too. */
#define ACK_COPIES_PARAMETERS "copies", "copies_wait"
bool ack_read(struct request *request);

/* A file version that was published by the request, to be called before ack_answer(). */
void ack_add_file(struct request *request, const struct id *file);

/* Answers with `body`, which it takes, and `status` when so many others have `version` and the
 * content as the request asks for. If that takes too long, with 202. At the end of a request, or in
 * resumed(). */
void ack_answer(struct request *request, unsigned status, json_t *body, const struct dot *version);

/* The request is resumed, or ends: for request.c. */
void ack_resumed(struct request *request);
void ack_done(struct request *request);

#endif
