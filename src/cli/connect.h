/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_CONNECT_H
#define CLI_CONNECT_H

/*
 * connect: the node that a verb talks to, and what people are told when it does not go well.
 */

#include "cli/cli.h"
#include "client/client.h"

/* A client of the node that --node names. NULL: it said why not. */
struct client *connect_node(const struct invocation *invocation);

/* "artel VERB: ABOUT: failure" on standard error; `about` may be NULL. */
void connect_report(const struct invocation *invocation, const char *about,
                    const struct client_response *response);

#endif
