/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_GET_DIRECTORY_H
#define CLI_GET_DIRECTORY_H

/*
 * get_directory: a directory of the tree into one of this machine. It comes as one tar stream;
 * the ids that its files must have come from a listing before it. A file that turns out to be
 * another one (published meanwhile, or cut into other blocks than the usual) is got by itself; so
 * is a large one, if it can be copied out of the node's store.
 */

#include "cli/cli.h"
#include "cli/progress.h"
#include "client/client.h"

/* Into `target`, which appears in one step if it was not there; else what is in it is replaced
 * file by file. False: it said why. */
[[nodiscard]] bool get_directory(const struct invocation *invocation, struct client *client,
                                 const char *path, const char *target, struct progress *progress);

#endif
