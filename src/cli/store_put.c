/* SPDX-License-Identifier: Apache-2.0 */

/*
 * put: many files at once. One thread walks the arguments, a thread per core reads and hashes, and
 * the store's writer commits in groups; so a small file costs neither a sync nor a wait of its
 * own. A line is printed for each file when it is durable.
 */

#include <fcntl.h>
#include <fts.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/file.h"
#include "base/list.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "client/text.h"
#include "store/put.h"

/* Paths found and not taken yet: enough that no reader waits for the walk. */
#define QUEUE_MAX 1024
#define THREADS_MAX 64
/* Nothing in the data directory may be opened here: the index of LMDB is locked by fcntl(2), and
 * these locks go when any descriptor of the file is closed in this process. */
#define OWN_DATA "it is in the data directory of this store"

struct path {
    char *text;
    struct path *next;
};

struct put_run {
    const struct invocation *invocation;
    struct store *store;
    struct stat data; /* the data directory */
    bool in_place;
    bool json;

    pthread_mutex_t lock; /* over all below */
    pthread_cond_t changed;
    struct path *first;
    struct path *last;
    size_t queued;
    bool walked;       /* no path will be added */
    size_t unanswered; /* commits under way */
    bool failed;
};

/* One file on its way. */
struct put_file {
    struct put_run *run;
    char *path;
};

static void set_failed(struct put_run *run)
{
    pthread_mutex_lock(&run->lock);
    run->failed = true;
    pthread_mutex_unlock(&run->lock);
}

static void report_failure(struct put_run *run, const char *path, int err)
{
    cli_error(run->invocation, "%s: %s", path, err_text(err));
    set_failed(run);
}

static void report_skipped(struct put_run *run, const char *path, const char *why)
{
    cli_error(run->invocation, "%s: skipped, %s", path, why);
    set_failed(run);
}

static void format_line(const struct put_run *run, const char *path,
                        const struct store_put_result *result, struct buf *line)
{
    char hex[ID_HEX_CHARS + 1];
    id_format(&result->id, hex);
    if (!run->json) {
        text_add_id_line(line, hex, path, isatty(STDOUT_FILENO));
        return;
    }
    json_t *object =
        json_pack("{s:s, s:s+, s:I, s:I}", "id", hex, "path", path, "", "length",
                  (json_int_t)result->length_bytes, "new", (json_int_t)result->new_bytes);
    /* A name that is not UTF-8 can't stand in JSON; the id says enough. */
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    if (text) {
        buf_add_format(line, "%s\n", text);
    } else {
        buf_add_format(line, "{\"id\":\"%s\"}\n", hex);
    }
    free(text);
    json_decref(object);
}

static void put_answered(void *context, int err, const struct store_put_result *result)
{
    struct put_file *file = context;
    struct put_run *run = file->run;
    if (!err) {
        CLEANUP_BUF struct buf line = BUF_INIT;
        format_line(run, file->path, result, &line);
        err = file_write_all(STDOUT_FILENO, buf_bytes(&line));
    }
    if (err) {
        report_failure(run, file->path, err);
    }
    free(file->path);
    free(file);
    pthread_mutex_lock(&run->lock);
    run->unanswered--;
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
}

static int fill_in_place(struct store_put *put, const char *path)
{
    CLEANUP_FREE char *absolute = realpath(path, NULL);
    if (!absolute) {
        return err_from_errno(errno);
    }
    return store_put_in_place(put, absolute);
}

static int fill(const struct put_run *run, struct store_put *put, const char *path)
{
    if (strcmp(path, "-") == 0) {
        return store_put_fd(put, STDIN_FILENO);
    }
    if (run->in_place) {
        return fill_in_place(put, path);
    }
    /* What was a file when the walk passed may be a pipe by now, and that is not waited for. */
    CLEANUP_FD int fd = -1;
    const int err = file_open_at(AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, &fd);
    if (err) {
        return err;
    }
    struct stat info;
    if (fstat(fd, &info) < 0) {
        return err_from_errno(errno);
    }
    return S_ISREG(info.st_mode) ? store_put_fd(put, fd) : -ESTALE;
}

static void put_path(struct put_run *run, const char *path)
{
    struct store_put *put = NULL;
    int err = store_put_begin(run->store, STORE_ORIGIN, &put);
    if (!err) {
        err = fill(run, put, path);
    }
    if (err) {
        store_put_abort(put);
        report_failure(run, path, err);
        return;
    }
    struct put_file *file = mem_alloc(sizeof *file);
    *file = (struct put_file){.run = run, .path = mem_copy_string(path)};
    pthread_mutex_lock(&run->lock);
    run->unanswered++;
    pthread_mutex_unlock(&run->lock);
    store_put_commit_async(put, put_answered, file);
}

static void *put_paths(void *argument)
{
    struct put_run *run = argument;
    for (;;) {
        pthread_mutex_lock(&run->lock);
        while (!run->first && !run->walked) {
            pthread_cond_wait(&run->changed, &run->lock);
        }
        struct path *path = run->first;
        if (path) {
            run->first = path->next;
            run->last = run->first ? run->last : NULL;
            /* The walk waits only for a full queue. */
            if (run->queued-- == QUEUE_MAX) {
                pthread_cond_broadcast(&run->changed);
            }
        }
        pthread_mutex_unlock(&run->lock);
        if (!path) {
            return NULL;
        }
        put_path(run, path->text);
        free(path->text);
        free(path);
    }
}

static void add_path(struct put_run *run, const char *text)
{
    struct path *path = mem_alloc(sizeof *path);
    path->text = mem_copy_string(text);
    pthread_mutex_lock(&run->lock);
    while (run->queued == QUEUE_MAX) {
        pthread_cond_wait(&run->changed, &run->lock);
    }
    if (run->last) {
        run->last->next = path;
    } else {
        run->first = path;
    }
    run->last = path;
    run->queued++;
    pthread_cond_signal(&run->changed);
    pthread_mutex_unlock(&run->lock);
}

static bool is_data(const struct put_run *run, const struct stat *info)
{
    return info->st_dev == run->data.st_dev && info->st_ino == run->data.st_ino;
}

/* Is `path` in the data directory, or the directory itself? */
static bool is_in_data(const struct put_run *run, const char *path)
{
    CLEANUP_FREE char *above = realpath(path, NULL);
    bool is_in = false;
    while (above && !is_in && *above) {
        struct stat info;
        is_in = stat(above, &info) == 0 && is_data(run, &info);
        *strrchr(above, '/') = 0;
    }
    return is_in;
}

static void walk_entry(struct put_run *run, FTS *fts, FTSENT *entry)
{
    switch (entry->fts_info) {
    case FTS_D:
        if (is_data(run, entry->fts_statp)) {
            report_skipped(run, entry->fts_path, OWN_DATA);
            fts_set(fts, entry, FTS_SKIP);
        }
        break;
    case FTS_F:
        add_path(run, entry->fts_path);
        break;
    case FTS_DNR:
    case FTS_ERR:
    case FTS_NS:
        report_failure(run, entry->fts_path, err_from_errno(entry->fts_errno));
        break;
    case FTS_DC: /* mounted into itself */
        report_skipped(run, entry->fts_path, "it is a directory above itself");
        break;
    case FTS_SL:
    case FTS_SLNONE:
    case FTS_DEFAULT:
        report_skipped(run, entry->fts_path, "it is no regular file");
        break;
    default: /* directories, before and after what is in them */
        break;
    }
}

static void walk(struct put_run *run, char *argument)
{
    if (strcmp(argument, "-") == 0) {
        add_path(run, argument);
        return;
    }
    if (is_in_data(run, argument)) {
        report_skipped(run, argument, OWN_DATA);
        return;
    }
    char *const roots[] = {argument, NULL};
    /* A link on the command line is followed, one in a directory is not. */
    FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, NULL);
    if (!fts) {
        report_failure(run, argument, err_from_errno(errno));
        return;
    }
    /* At the end fts_read() sets errno to 0, and at a failure that ends the walk to its cause. */
    for (FTSENT *entry = fts_read(fts); entry; entry = fts_read(fts)) {
        walk_entry(run, fts, entry);
    }
    if (errno) {
        report_failure(run, argument, err_from_errno(errno));
    }
    fts_close(fts);
}

static void put_all(struct put_run *run)
{
    long threads = sysconf(_SC_NPROCESSORS_ONLN);
    threads = threads < 1 ? 1 : threads > THREADS_MAX ? THREADS_MAX : threads;
    pthread_t started[THREADS_MAX];
    long count = 0;
    while (count < threads && pthread_create(&started[count], NULL, put_paths, run) == 0) {
        count++;
    }
    if (count == 0) {
        report_failure(run, "threads", -EAGAIN);
        return;
    }
    for (size_t i = 0; i < run->invocation->arguments_count; i++) {
        walk(run, run->invocation->arguments[i]);
    }
    pthread_mutex_lock(&run->lock);
    run->walked = true;
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
    for (long i = 0; i < count; i++) {
        pthread_join(started[i], NULL);
    }
    pthread_mutex_lock(&run->lock);
    while (run->unanswered > 0) {
        pthread_cond_wait(&run->changed, &run->lock);
    }
    pthread_mutex_unlock(&run->lock);
}

static enum cli_status run_put(const struct invocation *invocation)
{
    if (invocation->arguments_count == 0) {
        return cli_usage(invocation, "nothing to put");
    }
    struct put_run run = {
        .invocation = invocation,
        .in_place = config_switch(invocation->config, "in-place"),
        .json = config_switch(invocation->config, "json"),
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .changed = PTHREAD_COND_INITIALIZER,
    };
    for (size_t i = 0; run.in_place && i < invocation->arguments_count; i++) {
        if (strcmp(invocation->arguments[i], "-") == 0) {
            return cli_usage(invocation, "standard input has no place that could be kept");
        }
    }
    if (!cli_open_store(invocation, CLI_MAKE, &run.store)) {
        return CLI_FAILED;
    }
    if (stat(config_string(invocation->config, "data"), &run.data) < 0) {
        cli_error(invocation, "%s: %s", config_string(invocation->config, "data"),
                  err_text(err_from_errno(errno)));
        store_close(run.store);
        return CLI_FAILED;
    }
    put_all(&run);
    store_close(run.store);
    pthread_cond_destroy(&run.changed);
    pthread_mutex_destroy(&run.lock);
    return run.failed ? CLI_FAILED : CLI_OK;
}

static const struct config_key keys[] = {
    CLI_KEYS_COMMON,
    CLI_KEY_SEGMENT_BYTES,
    {"in-place", NULL, "copy nothing: the files serve as their own blocks while unchanged", true},
    CLI_KEY_JSON,
};

const struct verb store_verb_put = {
    .group = "store",
    .name = "put",
    .summary = "store files, print their ids",
    .synopsis = "--data DIR [--in-place] [--json] FILE|DIRECTORY|-...",
    .about =
        "Stores each file, and each regular file below a directory; `-` is standard input. Prints\n"
        "`ID  NAME` for a file when it is safe on the disk. What is no regular file, and the data\n"
        "directory itself, is named, skipped, and makes the exit status 1.\n",
    .first_argument = CLI_ARGUMENT_FILE,
    .other_arguments = CLI_ARGUMENT_FILE,
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .run = run_put,
};
