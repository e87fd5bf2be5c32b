/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_ACK_H
#define CLI_ACK_H

/*
 * ack: --ack N of verbs that change something: the node answers when N other nodes have the change
 * on disk; and --copies N of those that publish content: when N nodes hold that. Or it says after a
 * while how many have.
 */

#include "cli/cli.h"
#include "client/client.h"

/* Checks CLI_KEYS_ACK and, where they are taken, CLI_KEYS_COPIES. False: it told what makes no
 * sense. */
bool ack_check(const struct invocation *invocation);

/* Adds them to the query of a request. */
void ack_add(const struct invocation *invocation, struct buf *target);

/* True if the answer, of success, says that enough nodes have it, or was not to wait for any; else
 * *ret_why says for people how many have. */
bool ack_is_reached(const struct client_response *response, struct buf *ret_why);

/* The same; "artel VERB: ABOUT: ..." on standard error if not. */
bool ack_report(const struct invocation *invocation, const char *about,
                const struct client_response *response);

#endif
