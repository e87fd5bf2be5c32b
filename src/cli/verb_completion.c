/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/completion.h"

static enum cli_status run_completion(const struct invocation *invocation)
{
    if (invocation->arguments_count != 1) {
        return cli_usage(invocation, "for which shell? bash, zsh or fish");
    }
    CLEANUP_BUF struct buf script = BUF_INIT;
    if (!completion_add(&script, invocation->arguments[0])) {
        return cli_usage(invocation, "'%s' is none of bash, zsh and fish",
                         invocation->arguments[0]);
    }
    fputs(buf_string(&script), stdout);
    return CLI_OK;
}

const struct verb verb_completion = {
    .name = "completion",
    .summary = "print a completion script for bash, zsh or fish",
    .synopsis = "bash|zsh|fish",
    .about =
        "Prints what makes the shell complete verbs, flags, files, and paths of the tree, for\n"
        "which it asks the node. An installed artel has these scripts where the shells look for\n"
        "them. Otherwise, for this shell only: `eval \"$(artel completion bash)\"`, the same with\n"
        "zsh, or `artel completion fish | source`.\n",
    .first_argument = CLI_ARGUMENT_SHELL,
    .run = run_completion,
};
