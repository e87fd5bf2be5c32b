/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "fuse/mount.h"

static void ready(const char *directory)
{
    printf("ready %s\n", directory);
    fflush(stdout);
}

static void explain(const struct invocation *invocation, const struct mount_options *options,
                    int err)
{
    switch (err) {
    case -ENOENT:
        cli_error(invocation, "%s: no node has kept data there", options->data);
        break;
    case -EPROTONOSUPPORT:
        cli_error(invocation, "%s has format %u; this artel reads format %u", options->data,
                  store_format_found(options->data), STORE_FORMAT);
        break;
    case -EINVAL:
        cli_error(invocation, "an option of -o is unknown");
        break;
    case -ELOOP:
        cli_error(invocation, "%s would hide the data of the node: mount beside it",
                  options->directory);
        break;
    default:
        cli_error(invocation, "%s: %s", options->directory, err_text(err));
        break;
    }
}

/* --data, or where the socket of --node is; the caller frees it. NULL: neither was given. */
static char *find_data(const struct invocation *invocation)
{
    const char *data = config_string(invocation->config, "data");
    const char *node = config_string(invocation->config, "node");
    const char *path = node ? strstr(node, "unix:/") : NULL;
    const char *slash = path ? strrchr(path, '/') : NULL;
    if (data) {
        return mem_copy_string(data);
    }
    path = path ? path + strlen("unix:") : NULL;
    return path && slash > path ? mem_format("%.*s", (int)(slash - path), path) : NULL;
}

static enum cli_status run_mount(const struct invocation *invocation)
{
    if (invocation->arguments_count != 1) {
        return cli_usage(invocation, "mount takes one directory");
    }
    /* Whoever watches may be in another directory later, and this one must not be. */
    CLEANUP_FREE char *directory = realpath(invocation->arguments[0], NULL);
    if (!directory && errno != ENOTCONN) {
        cli_error(invocation, "%s: %s", invocation->arguments[0], err_text(err_from_errno(errno)));
        return CLI_FAILED;
    }
    const char *where = directory ? directory : invocation->arguments[0];
    CLEANUP_FREE char *data = find_data(invocation);
    const struct mount_options options = {
        .data = data,
        .directory = where,
        .options = config_string(invocation->config, "options"),
        .ready = ready,
    };
    if (!options.data) {
        return cli_usage(invocation, "no data directory of a node: give --data DIR, or --node "
                                     "unix:DIR/socket of one on this machine");
    }
    signal(SIGPIPE, SIG_IGN);
    struct mount *mount = NULL;
    int err = mount_open(&options, &mount);
    if (!err) {
        err = mount_run(mount);
        mount_close(mount);
    }
    if (err) {
        explain(invocation, &options, err);
    }
    return err ? CLI_FAILED : CLI_OK;
}

static const struct config_key keys[] = {
    {"data", NULL, "DIR: the data directory of the node", false},
    {"node", NULL, "URL: of the node, unix:DIR/socket, instead of --data DIR", false},
    {"options", NULL, "OPTION[,OPTION...]: of mount(8), as ro, allow_other", false},
    {"config", NULL, "FILE: read settings from it", false},
    {"log-level", "warn", "LEVEL: debug, info, warn, error or off", false},
};

static const struct short_flag shorts[] = {{'o', "options"}};

const struct verb verb_mount = {
    .name = "mount",
    .summary = "show the tree as a directory",
    .synopsis = "--data DIR [-o ro,allow_other] DIRECTORY",
    .about =
        "Shows the tree of the node that runs with --data DIR on this machine as DIRECTORY, to\n"
        "read and to write. Runs in the foreground; when the directory can be used it prints\n"
        "`ready DIRECTORY`. `fusermount3 -u DIRECTORY`, SIGTERM or SIGINT end it, and what was\n"
        "closed before is published then.\n\n"
        "A file that is closed is seen by others within a second, and is safe on the disk of\n"
        "the node when fsync(2) returns. There are no hard links; locks are of this machine.\n",
    .first_argument = CLI_ARGUMENT_FILE,
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .shorts = shorts,
    .shorts_count = ARRAY_SIZE(shorts),
    .run = run_mount,
};
