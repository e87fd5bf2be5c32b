/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_HOOK_H
#define CLIENT_HOOK_H

/*
 * hook: a command of the user's, run by sh once for a change, with what changed in its
 * environment.
 */

#include <stddef.h>

#define HOOK_VARIABLES_MAX 8

struct hook_variable {
    const char *name;
    const char *value;
};

/* Runs `sh -c command` with these variables added to the environment, without standard input and
 * with its standard output to `output_fd`, and waits for its end. *ret_status: 0 to 255, or 128 and
 * the signal that ended it. -EAGAIN and the like: it could not be started. */
[[nodiscard]] int hook_run(const char *command, const struct hook_variable *variables, size_t count,
                           int output_fd, int *ret_status);

#endif
