/* SPDX-License-Identifier: Apache-2.0 */
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "client/text.h"
#include "follow/follow.h"

#define KEEP_DEFAULT "1"

struct following {
    const struct invocation *invocation;
    struct follow *follow;
    bool is_json;
    bool is_quiet;
};

static void print_json(json_t *object)
{
    CLEANUP_BUF struct buf line = BUF_INIT;
    text_add_json(&line, object);
    fputs(buf_string(&line), stdout);
    fflush(stdout);
    json_decref(object);
}

static void report_json(const struct follow_report *report)
{
    switch (report->news) {
    case FOLLOW_ARRIVED:
        print_json(json_pack("{s:s, s:s, s:s, s:s}", "event", report->event, "path", report->path,
                             "from", report->from, "id", report->id));
        break;
    case FOLLOW_KEPT:
        print_json(json_pack("{s:s, s:s, s:s}", "event", "kept", "path", report->path, "beside",
                             report->beside));
        break;
    case FOLLOW_TROUBLE:
    case FOLLOW_NOTICE:
        print_json(json_pack("{s:s, s:s, s:s}", "event",
                             report->news == FOLLOW_NOTICE ? "notice" : "trouble", "path",
                             report->path ? report->path : "", "why", report->why));
        break;
    case FOLLOW_STATE:
        print_json(json_pack("{s:s, s:b, s:I, s:I, s:I, s:I}", "event", "state", "current",
                             report->is_current, "entries", (json_int_t)report->entries_count,
                             "arriving", (json_int_t)report->arriving_count, "waiting",
                             (json_int_t)report->waiting_count, "hooks",
                             (json_int_t)report->hooks_count));
        break;
    }
}

static void report_plain(const struct following *following, const struct follow_report *report)
{
    if (report->news == FOLLOW_ARRIVED && !following->is_quiet) {
        CLEANUP_BUF struct buf line = BUF_INIT;
        CLEANUP_FREE char *what =
            mem_format("%-7s %-64s", report->event, *report->id ? report->id : "-");
        CLEANUP_FREE char *names = *report->from
                                       ? mem_format("%s -> %s", report->from, report->path)
                                       : mem_copy_string(report->path);
        text_add_id_line(&line, what, names, isatty(STDOUT_FILENO));
        fputs(buf_string(&line), stdout);
        fflush(stdout);
    } else if (report->news == FOLLOW_KEPT) {
        cli_error(following->invocation, "%s was changed here; it is now %s", report->path,
                  report->beside);
    } else if ((report->news == FOLLOW_TROUBLE || report->news == FOLLOW_NOTICE) && report->path) {
        cli_error(following->invocation, "%s: %s", report->path, report->why);
    } else if (report->news == FOLLOW_NOTICE) {
        cli_error(following->invocation, "%s", report->why);
    } else if (report->news == FOLLOW_TROUBLE) {
        cli_error(following->invocation, "%s; trying again", report->why);
    }
}

static void on_report(void *context, const struct follow_report *report)
{
    const struct following *following = context;
    if (following->is_json) {
        report_json(report);
    } else {
        report_plain(following, report);
    }
}

static void *wait_for_signal(void *argument)
{
    struct following *following = argument;
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    int signal_number = 0;
    sigwait(&signals, &signal_number);
    follow_stop(following->follow);
    return NULL;
}

static enum cli_status explain(const struct invocation *invocation, int err)
{
    const char *dir = config_string(invocation->config, "to");
    if (err == -EINVAL) {
        return cli_usage(invocation, "no such pattern can be, or --node is no address");
    }
    if (err == -EBUSY) {
        cli_error(invocation, "%s: somebody follows into this directory already", dir);
    } else if (err == -EPROTO) {
        cli_error(invocation, "the node refuses to tell changes");
    } else {
        cli_error(invocation, "%s: %s", dir, err_text(err));
    }
    return CLI_FAILED;
}

static enum cli_status run_signals(struct following *following)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, wait_for_signal, following) != 0) {
        return explain(following->invocation, -EAGAIN);
    }
    const int err = follow_run(following->follow);
    pthread_cancel(thread); /* sigwait() is a point where that is heard */
    pthread_join(thread, NULL);
    return err ? explain(following->invocation, err) : CLI_OK;
}

/* False: it has ended already. */
static bool end_with_parent(const struct config *config)
{
    uint64_t parent = 0;
    if (config_number(config, "parent", INT32_MAX, &parent)) {
        return true; /* none was named */
    }
    return prctl(PR_SET_PDEATHSIG, SIGTERM) == 0 && (uint64_t)getppid() == parent;
}

static enum cli_status run_follow(const struct invocation *invocation)
{
    const struct config *config = invocation->config;
    const char *dir = config_string(config, "to");
    uint64_t keep = 0;
    if (invocation->arguments_count != 1) {
        return cli_usage(invocation, "which pattern? (one; quote it)");
    }
    if (!dir || !*dir) {
        return cli_usage(invocation, "which directory? give --to DIR");
    }
    if (config_number(config, "keep", FOLLOW_KEEP_MAX, &keep)) {
        return cli_usage(invocation, "--keep is a number up to %u", FOLLOW_KEEP_MAX);
    }
    struct following following = {.invocation = invocation,
                                  .is_json = config_switch(config, "json"),
                                  .is_quiet = config_switch(config, "quiet")};
    const struct follow_options options = {
        .address = config_string(config, "node"),
        .pattern = invocation->arguments[0],
        .dir = dir,
        .command = config_string(config, "exec"),
        .output_fd = following.is_json ? STDERR_FILENO : STDOUT_FILENO,
        .keep_count = (unsigned)keep,
        .report = on_report,
        .context = &following,
    };
    /* Before any thread: all of them leave these signals to sigwait(). */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    if (!end_with_parent(config)) {
        return CLI_OK;
    }
    const int err = follow_open(&options, &following.follow);
    if (err) {
        return explain(invocation, err);
    }
    const enum cli_status status = run_signals(&following);
    follow_close(following.follow);
    return status;
}

static const struct config_key keys[] = {
    {"parent", NULL, "PID: of the process that started this; ends with it", false},
    {"quiet", NULL, "print no arrivals", true},
    {"to", NULL, "DIR: the directory of this machine that is kept equal", false},
    {"exec", NULL, "COMMAND: run it for each arrival, one after the other", false},
    {"keep", KEEP_DEFAULT, "NUMBER: of old versions of a directory published with --atomic", false},
    CLI_KEY_JSON,
    CLI_KEYS_CLIENT,
};

const struct verb verb_follow = {
    .name = "follow",
    .summary = "keep a directory equal to what matches a pattern",
    .synopsis = "[--node URL] PATTERN --to DIR [--exec COMMAND] [--keep NUMBER]",
    .about =
        "Gets all that matches PATTERN (as 'index/**'; a path alone is the file, or the directory\n"
        "with all that is in it) into DIR, under its whole path, then what changes, as it "
        "happens.\n"
        "A file appears whole, every block verified; deletions and renames follow. A directory\n"
        "that was published with --atomic appears in one step: its path is a symbolic link to\n"
        ".artel/NAME.NUMBER beside it, and the last --keep versions before stay there, so that\n"
        "going back is to set the link.\n\n"
        "With --exec, `sh -c COMMAND` runs at least once for each arrival with ARTEL_EVENT (put,\n"
        "delete, rename or atomic), ARTEL_PATH, ARTEL_FROM, ARTEL_ID, ARTEL_FILE, ARTEL_DIR and\n"
        "ARTEL_NODE set. If it fails it is run again until it succeeds; after a crash, too. "
        "Versions\n"
        "that were replaced before they were here have not arrived. With --json, what it prints\n"
        "goes to standard error.\n\n"
        "What somebody changed in DIR is not lost: when another version comes, or the file is\n"
        "deleted, it becomes NAME.local-TIME. What else is in DIR is left alone. "
        "DIR/.artel-follow\n"
        "holds what a follower has to remember; one at a time follows into a directory.\n\n"
        "A node of this machine takes the files of 64 KiB and more for its own copy, so that they\n"
        "cost their bytes once; who changes one takes the copy from it. It has to be able to read\n"
        "DIR, and its Unix socket to be open to this user.\n",
    .first_argument = CLI_ARGUMENT_PATH,
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .run = run_follow,
};
