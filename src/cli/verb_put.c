/* SPDX-License-Identifier: Apache-2.0 */

/*
 * put: a directory goes as one tar stream, in which a small file costs neither a request nor a
 * sync. Several files, or what is put in place, go as requests of their own, many at a time.
 */

#include <fcntl.h>
#include <fts.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "cli/ack.h"
#include "cli/connect.h"
#include "cli/pack.h"
#include "cli/publish.h"
#include "client/crew.h"
#include "client/local_node.h"
#include "client/text.h"

struct put_run {
    struct publish publish;
    struct client *client;
    struct crew *crew; /* from its first use on */
};

/* ---- many at a time ---------------------------------------------------------------------------
 */

struct job {
    struct put_run *run;
    void (*send)(struct publish *publish, struct client *client, const char *source,
                 const char *path);
    char *source;
    char *path;
};

static void *begin_thread(void *context)
{
    const struct put_run *run = context;
    return client_clone(run->client);
}

static void end_thread(void *state)
{
    client_free(state);
}

static void run_job(void *state, void *argument)
{
    struct job *job = argument;
    job->send(&job->run->publish, state, job->source, job->path);
    free(job->source);
    free(job->path);
    free(job);
}

static void add_job(struct put_run *run,
                    void (*send)(struct publish *publish, struct client *client, const char *source,
                                 const char *path),
                    const char *source, const char *path)
{
    if (!run->crew) {
        const struct crew_options options = {
            .begin = begin_thread, .end = end_thread, .run = run_job, .context = run};
        run->crew = crew_new(&options);
    }
    struct job *job = mem_alloc(sizeof *job);
    *job = (struct job){
        .run = run,
        .send = send,
        .source = mem_copy_string(source),
        .path = mem_copy_string(path),
    };
    crew_add(run->crew, job);
}

/* ---- a directory in place ---------------------------------------------------------------------
 */

static void put_found(struct put_run *run, const FTSENT *found, const char *path)
{
    switch (found->fts_info) {
    case FTS_D:
        publish_empty_directory(&run->publish, run->client, found->fts_path, path);
        break;
    case FTS_F:
        add_job(run, publish_file, found->fts_path, path);
        break;
    case FTS_SL:
    case FTS_SLNONE:
        add_job(run, publish_link, found->fts_path, path);
        break;
    case FTS_DEFAULT:
        publish_fail(&run->publish, found->fts_path, "skipped, it is no regular file");
        break;
    case FTS_DNR:
    case FTS_ERR:
    case FTS_NS:
        publish_fail(&run->publish, found->fts_path, err_text(err_from_errno(found->fts_errno)));
        break;
    default: /* directories, after what is in them */
        break;
    }
}

static void put_directory_in_place(struct put_run *run, const char *source, const char *path)
{
    CLEANUP_FREE char *root = mem_copy_string(source);
    size_t root_size = strlen(root);
    while (root_size > 1 && root[root_size - 1] == '/') {
        root[--root_size] = 0;
    }
    char *const roots[] = {root, NULL};
    FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, NULL);
    const FTSENT *found = fts ? fts_read(fts) : NULL;
    while (found) {
        const char *below = found->fts_path + root_size;
        below += strspn(below, "/");
        CLEANUP_FREE char *place = *below ? text_join(path, below) : mem_copy_string(path);
        if (*place) {
            put_found(run, found, place);
        }
        found = fts_read(fts);
    }
    if (fts) {
        fts_close(fts);
    }
}

/* ---- sources and targets ----------------------------------------------------------------------
 */

/* What the source is called; the directories "." and ".." by their own names. */
static char *name_of(const char *source)
{
    CLEANUP_FREE char *path = text_tree_path(source);
    const char *name = text_last_name(path);
    if (*name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
        return mem_copy_string(name);
    }
    CLEANUP_FREE char *absolute = realpath(source, NULL);
    return mem_copy_string(absolute ? text_last_name(absolute) : "");
}

static void put_source(struct put_run *run, const char *source, const char *path, bool is_alone)
{
    struct stat info = {0};
    const bool is_stdin = strcmp(source, "-") == 0;
    if (!is_stdin && stat(source, &info) < 0) {
        publish_fail(&run->publish, source, err_text(err_from_errno(errno)));
    } else if (is_stdin || !S_ISDIR(info.st_mode)) {
        if (run->publish.is_atomic) {
            publish_fail(&run->publish, source, "--atomic is for directories");
        } else if (!*path) {
            publish_fail(&run->publish, source, "the root of the tree is a directory");
        } else if (is_alone) {
            publish_file(&run->publish, run->client, source, path);
        } else {
            add_job(run, publish_file, source, path);
        }
    } else if (run->publish.is_in_place) {
        put_directory_in_place(run, source, path);
    } else {
        publish_directory(&run->publish, run->client, source, path);
    }
}

static void measure(const struct put_run *run, size_t sources_count)
{
    uint64_t total_bytes = 0;
    char **arguments = run->publish.invocation->arguments;
    if (!progress_is_shown(run->publish.progress)) {
        return;
    }
    for (size_t i = 0; i < sources_count; i++) {
        struct stat info;
        if (strcmp(arguments[i], "-") == 0) {
            return; /* nobody knows */
        }
        if (stat(arguments[i], &info) == 0) {
            total_bytes +=
                S_ISDIR(info.st_mode) ? pack_measure(arguments[i]) : (uint64_t)info.st_size;
        }
    }
    progress_set_total(run->publish.progress, total_bytes);
}

static void put_all(struct put_run *run, size_t sources_count)
{
    char **arguments = run->publish.invocation->arguments;
    const char *target = arguments[sources_count];
    const size_t target_size = strlen(target);
    const bool is_below = sources_count > 1 || target[target_size - 1] == '/';
    CLEANUP_FREE char *top = text_tree_path(target);
    measure(run, sources_count);
    for (size_t i = 0; i < sources_count; i++) {
        CLEANUP_FREE char *name = is_below ? name_of(arguments[i]) : NULL;
        CLEANUP_FREE char *path = name ? text_join(top, name) : mem_copy_string(top);
        put_source(run, arguments[i], path, sources_count == 1);
    }
    crew_free(run->crew);
}

/* ---- in place: by the Unix socket -------------------------------------------------------------
 */

/* In place of a client over TCP, one of the same node's socket. False: it said why. */
static bool use_socket(const struct invocation *invocation, struct client **client)
{
    if (client_is_unix(*client)) {
        return true;
    }
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    struct client *local = NULL;
    const int err = local_node_find(*client, NULL, &local, NULL, &response);
    if (err == -EIO) {
        connect_report(invocation, NULL, &response);
    } else if (err) {
        cli_error(invocation, "--in-place works with a node of this machine, over its Unix socket: "
                              "give --node unix:DATA/socket");
    } else {
        client_free(*client);
        *client = local;
    }
    return !err;
}

/* ---- the verb ---------------------------------------------------------------------------------
 */

static enum cli_status check(const struct invocation *invocation)
{
    const struct config *config = invocation->config;
    const size_t count = invocation->arguments_count;
    const char *mode = config_string(config, "mode");
    mode_t parsed = 0;
    if (count == 0) {
        return cli_usage(invocation, "nothing to put");
    }
    if (count == 1) {
        return cli_usage(invocation, "where to? The last argument is the path in the tree");
    }
    const char *target = invocation->arguments[count - 1];
    if (!*target) {
        return cli_usage(invocation, "an empty path; the root is /");
    }
    if (mode && text_parse_mode(mode, &parsed)) {
        return cli_usage(invocation, "'%s' is no mode: give octal digits, as 0644", mode);
    }
    if (!ack_check(invocation)) {
        return CLI_USAGE;
    }
    if (config_switch(config, "in-place") && config_switch(config, "atomic")) {
        return cli_usage(invocation, "--atomic and --in-place do not go together");
    }
    if (config_string(config, "if-match") && config_switch(config, "no-clobber")) {
        return cli_usage(invocation, "--if-match and --no-clobber do not go together");
    }
    for (size_t i = 0; i + 1 < count; i++) {
        if (strcmp(invocation->arguments[i], "-") != 0) {
            continue;
        }
        if (config_switch(config, "in-place")) {
            return cli_usage(invocation, "standard input has no place that could be kept");
        }
        if (count > 2 || target[strlen(target) - 1] == '/') {
            return cli_usage(invocation, "standard input has no name: give the path of the file");
        }
    }
    return CLI_OK;
}

static char *condition_of(const struct config *config)
{
    const char *id = config_string(config, "if-match");
    if (config_switch(config, "no-clobber")) {
        return mem_copy_string("If-None-Match: *");
    }
    return id ? mem_format("If-Match: \"%s\"", id) : NULL;
}

static enum cli_status run_put(const struct invocation *invocation)
{
    const struct config *config = invocation->config;
    const enum cli_status status = check(invocation);
    if (status) {
        return status;
    }
    struct client *client = connect_node(invocation);
    if (!client) {
        return CLI_USAGE;
    }
    CLEANUP_FREE char *condition = condition_of(config);
    struct put_run run = {
        .publish =
            {
                .invocation = invocation,
                .progress = progress_new(!config_switch(config, "quiet")),
                .is_atomic = config_switch(config, "atomic"),
                .is_in_place = config_switch(config, "in-place"),
                .is_json = config_switch(config, "json"),
                .mode = config_string(config, "mode"),
                .if_match = condition,
            },
        .client = client,
    };
    bool good = !run.publish.is_in_place || use_socket(invocation, &run.client);
    if (good) {
        put_all(&run, invocation->arguments_count - 1);
        good = !atomic_load(&run.publish.has_failed);
    }
    progress_free(run.publish.progress);
    client_free(run.client);
    return good ? CLI_OK : CLI_FAILED;
}

static const struct config_key keys[] = {
    {"atomic", NULL, "a directory: the target holds exactly that afterwards, in one step", true},
    {"in-place", NULL, "copy nothing: the files serve as their own blocks while unchanged", true},
    {"mode", NULL, "MODE: for all files, instead of their own (octal)", false},
    {"no-clobber", NULL, "a file: only if nothing is there", true},
    {"if-match", NULL, "ID: a file: only if this content is there", false},
    CLI_KEYS_ACK,
    CLI_KEYS_COPIES,
    CLI_KEY_JSON,
    CLI_KEY_QUIET,
    CLI_KEYS_CLIENT,
};

static const struct short_flag shorts[] = {{'m', "mode"}, {'n', "no-clobber"}};

const struct verb verb_put = {
    .name = "put",
    .summary = "publish files and directories",
    .synopsis = "[--node URL] FILE|DIRECTORY|-... PATH",
    .about =
        "Publishes a file, a directory with all that is in it, or standard input as PATH. With a\n"
        "'/' behind PATH, or several sources, they go below it under their own names. Prints\n"
        "`ID  PATH` for a file, `N files, SIZE  PATH/` for a directory when it is safe on the\n"
        "node's disk. Permissions, times and symbolic links come along.\n\n"
        "With --ack N it waits until N other nodes have the change (names, not yet contents) on\n"
        "their disks. If that takes too long, a line on standard error says how many have, and\n"
        "the exit status is 1; the change is made nevertheless, and goes on to the others.\n"
        "With --copies N it waits until N nodes, this one among them, hold all of the content: "
        "the\n"
        "others are asked to fetch it, one in each other zone first, and keep it as copies as\n"
        "long as a path names it. The same holds if that takes too long.\n\n"
        "What is neither file, directory nor link is named, skipped, and makes the exit status 1.\n"
        "So does what can't be read; with --atomic nothing is published then.\n",
    .first_argument = CLI_ARGUMENT_FILE,
    .other_arguments = CLI_ARGUMENT_FILE | CLI_ARGUMENT_PATH,
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .shorts = shorts,
    .shorts_count = ARRAY_SIZE(shorts),
    .run = run_put,
};
