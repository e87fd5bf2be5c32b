/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_COMPLETION_H
#define CLI_COMPLETION_H

/*
 * completion: scripts that complete a command line in a shell, made from the table of verbs. The
 * script is a table of flags and arguments, and a fixed part that knows the shell.
 */

#include "base/buf.h"
#include "cli/verbs.h"

/* The script for `shell`: bash, zsh or fish. False: no such shell. */
bool completion_add(struct buf *out, const char *shell);

/* What follows is for completion_*.c. */

void completion_add_bash(struct buf *out);
void completion_add_zsh(struct buf *out);
void completion_add_fish(struct buf *out);

/* What the value of a flag can be, told by the name that --help gives it; nothing for a switch. */
struct completion_value {
    bool is_file;
    bool is_directory;
    const char *words; /* separated by blanks; NULL: nothing is known */
};
struct completion_value completion_value(const struct config_key *key);

#endif
