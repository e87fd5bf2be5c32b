/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Files that are fetched. A file is here already, or transfer is asked for it; it ends when it is
 * durable, when nobody has it, or when nobody wants it any more. One fetch serves all that want the
 * file, for whatever reason.
 */

#include "node/fetch_files_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "node/evict_priv.h"
#include "node/maintenance_priv.h"
#include "node/network_priv.h"
#include "node/node_priv.h"

#define LINGER_US (FETCH_LINGER_MS * UINT64_C(1000))
/* Small files that wait for their commit. */
#define SETTLING_MAX 4096u
/* One that could not go on since others were out of reach is tried again after so long, and after
 * half of the time that it has been tried. */
#define UNREACHED_US_MIN ((uint64_t)2 * 1000 * 1000)
#define UNREACHED_US_MAX ((uint64_t)60 * 1000 * 1000)
/* Thousands may find the disk full at a time; the log is told so often. */
#define FULL_LOG_US ((uint64_t)60 * 1000 * 1000)
/* Those who read it are told when it found no room for so long: by the attempt after the first one,
 * which what was set aside made room for. */
#define FULL_PATIENCE_US (TRANSFER_NOSPACE_MS * UINT64_C(1000))
/* Times that one whose block went before the commit is fetched again. */
#define RETRIES_MAX 8u
#define SETTLING_BYTES_MAX ((uint64_t)64 * 1024 * 1024)

struct fetch_file *fetch_file_find(struct fetch *fetch, const struct id *id)
{
    struct fetch_file *file = NULL;
    HASH_FIND(hh, fetch->files, id, sizeof *id, file);
    return file;
}

/* ---- beginnings --------------------------------------------------------------------------------
 */

/* Goes on with what an earlier fetch has left, or damage, if it can: its list of blocks may be the
 * only one. */
static void resume(struct fetch_file *file)
{
    file->is_resuming = true;
    content_open(file->content, BYTES(NULL, 0));
}

static int begin(struct fetch *fetch, struct fetch_file *file, int priority)
{
    enum store_held_state state = STORE_HELD_NONE;
    const int held_err = store_held_state(node_store(fetch->node), &file->id, &state);
    if (!held_err && state == STORE_HELD_COMPLETE) {
        file->is_taking = true;
        content_take(file->content);
        return 0;
    }
    const int err = transfer_start(fetch->transfer, network_now_us(), &file->id,
                                   file->has_publisher ? &file->publisher : NULL, priority);
    if (!err && !held_err && state == STORE_HELD_PARTIAL) {
        resume(file);
    }
    return err;
}

static void remove_file(struct fetch *fetch, struct fetch_file *file)
{
    HASH_DELETE(hh, fetch->files, file);
    content_release(file->content);
    free(file->answers);
    free(file);
}

int fetch_file_begin(struct fetch *fetch, const struct id *id, const struct node_id *publisher,
                     enum store_reason reason, int priority, struct fetch_file **ret_file)
{
    struct fetch_file *file = fetch_file_find(fetch, id);
    if (fetch->is_over || (!file && HASH_COUNT(fetch->files) >= FETCH_FILES_MAX)) {
        return fetch->is_over ? -ECANCELED : -EBUSY;
    }
    if (file) {
        file->reason = reason < file->reason ? reason : file->reason;
        *ret_file = file;
        if (file->is_taking || file->is_settling) {
            return 0;
        }
        const int err = transfer_start(fetch->transfer, network_now_us(), id, publisher, priority);
        if (!err && file->retry_us != UINT64_MAX) {
            file->retry_us = UINT64_MAX; /* somebody wants it now */
            resume(file);
        }
        return err;
    }
    fetch_aside_take(fetch, id);
    file = mem_alloc(sizeof *file);
    file->id = *id;
    file->reason = reason;
    file->has_publisher = publisher != NULL;
    if (publisher) {
        file->publisher = *publisher;
    }
    file->begun_us = network_now_us();
    file->linger_us = UINT64_MAX;
    file->retry_us = UINT64_MAX;
    file->content = content_new(fetch, id, reason);
    HASH_ADD(hh, fetch->files, id, sizeof file->id, file);
    const int err = begin(fetch, file, priority);
    if (err) {
        content_end(file->content, CONTENT_KEEP);
        remove_file(fetch, file);
        return err;
    }
    *ret_file = file;
    return 0;
}

/* ---- who waits ---------------------------------------------------------------------------------
 */

struct telling {
    struct fetch_news news;
    fetch_done_fn done;
    void *context;
    struct fetch_result result;
    struct locate_answer *answers;
};

static void run_telling(struct fetch *fetch, struct fetch_news *news)
{
    (void)fetch;
    struct telling *telling = CONTAINER_OF(news, struct telling, news);
    telling->done(telling->context, &telling->result);
    free(telling->answers);
    free(telling);
}

static void tell(struct fetch *fetch, const struct fetch_waiter *waiter, const struct id *id,
                 int err, const struct fetch_file *file)
{
    if (!waiter->done) {
        return;
    }
    struct telling *telling = mem_alloc(sizeof *telling);
    telling->news.run = run_telling;
    telling->done = waiter->done;
    telling->context = waiter->context;
    telling->result = (struct fetch_result){.file = *id, .err = err};
    if (file && file->answers_count > 0 && err) {
        telling->answers = mem_copy(file->answers, file->answers_count * sizeof *file->answers);
        telling->result.answers = telling->answers;
        telling->result.answers_count = file->answers_count;
    }
    fetch_later(fetch, &telling->news);
}

static void add_waiter(struct fetch_file *file, const struct fetch_waiter *waiter)
{
    struct fetch_waiter *added = mem_copy(waiter, sizeof *added);
    LL_PREPEND(file->waiters, added);
    file->linger_us = UINT64_MAX;
}

/* By others than those who read it. */
static bool is_wanted(const struct fetch_file *file)
{
    return file->waiters || file->is_resumed;
}

int fetch_join(struct fetch *fetch, const struct fetch_options *options,
               const struct fetch_waiter *waiter)
{
    struct fetch_file *file = NULL;
    const int err = fetch_file_begin(fetch, &options->file, options->publisher, options->reason,
                                     FETCH_PRIORITY_FILE, &file);
    if (!err) {
        add_waiter(file, waiter);
    }
    return err;
}

bool fetch_leave(struct fetch *fetch, const struct id *id, void *context)
{
    struct fetch_file *file = fetch_file_find(fetch, id);
    struct fetch_waiter *waiter = NULL;
    if (file) {
        LL_SEARCH_SCALAR(file->waiters, waiter, context, context);
    }
    if (!waiter) {
        return false;
    }
    LL_DELETE(file->waiters, waiter);
    free(waiter);
    if (!is_wanted(file) && !file->readers) {
        fetch_file_stop(fetch, file, CONTENT_DROP);
    }
    return true;
}

void fetch_file_left(struct fetch *fetch, struct fetch_file *file)
{
    if (!is_wanted(file) && !file->readers) {
        file->linger_us = network_now_us() + LINGER_US;
        if (file->linger_us < fetch->linger_due_us) {
            fetch->linger_due_us = file->linger_us;
        }
    }
}

/* Who waits may have left meanwhile. */
static void run_full(struct fetch *fetch, struct fetch_news *news)
{
    struct telling *telling = CONTAINER_OF(news, struct telling, news);
    const struct fetch_file *file = fetch_file_find(fetch, &telling->result.file);
    struct fetch_waiter *waiter = NULL;
    if (file) {
        LL_SEARCH_SCALAR(file->waiters, waiter, context, telling->context);
    }
    if (waiter && waiter->full) {
        waiter->full(waiter->context, &telling->result);
    }
    free(telling);
}

static void tell_full(struct fetch *fetch, const struct fetch_file *file)
{
    const uint64_t now_us = network_now_us();
    if (fetch->no_space++ == 0 || fetch->full_us + FULL_LOG_US <= now_us) {
        log_warn("fetches_wait_for_room", KV("times", fetch->no_space));
        fetch->full_us = now_us;
    }
    fetch_asides_forget(fetch);
    (void)evict_want_room(fetch->evict);
    maintenance_hurry(fetch->node->maintenance);
    const struct fetch_waiter *waiter = NULL;
    LL_FOREACH(file->waiters, waiter)
    {
        if (waiter->full) {
            struct telling *telling = mem_alloc(sizeof *telling);
            telling->news.run = run_full;
            telling->context = waiter->context;
            telling->result = (struct fetch_result){.file = file->id, .err = -ENOSPC};
            fetch_later(fetch, &telling->news);
        }
    }
}

struct refusing {
    struct fetch_news news;
    struct id file;
};

static void run_refusing(struct fetch *fetch, struct fetch_news *news)
{
    struct refusing *refusing = CONTAINER_OF(news, struct refusing, news);
    struct fetch_file *file = fetch_file_find(fetch, &refusing->file);
    if (file && file->is_refusing) {
        file->is_refusing = false;
        fetch_readers_refuse(fetch, file, -ENOSPC);
    }
    free(refusing);
}

/* An attempt found no room. It is tried again for as long as somebody waits for the file; an answer
 * that stands still helps nobody. */
static void found_full(struct fetch *fetch, struct fetch_file *file)
{
    const uint64_t now_us = network_now_us();
    if (file->full_us == 0) {
        file->full_us = now_us;
    }
    if (file->readers && !file->is_refusing && now_us - file->full_us >= FULL_PATIENCE_US) {
        struct refusing *refusing = mem_alloc(sizeof *refusing);
        *refusing = (struct refusing){.news.run = run_refusing, .file = file->id};
        file->is_refusing = true;
        fetch_later(fetch, &refusing->news);
    }
}

void fetch_file_changed(struct fetch *fetch, struct fetch_file *file)
{
    struct transfer_status status;
    if (!transfer_status(fetch->transfer, network_now_us(), &file->id, &status)) {
        return;
    }
    const bool was_full = file->is_full;
    file->is_full = status.err == -ENOSPC;
    if (file->is_full && !was_full) {
        tell_full(fetch, file);
    }
    if (file->is_full) {
        found_full(fetch, file);
    } else {
        file->full_us = 0;
    }
}

struct starting {
    struct fetch_news news;
    struct id file;
    struct node_id publisher;
    bool has_publisher;
    enum store_reason reason;
    struct fetch_waiter waiter;
};

static void run_start(struct fetch *fetch, struct fetch_news *news)
{
    struct starting *starting = CONTAINER_OF(news, struct starting, news);
    struct fetch_file *file = NULL;
    fetch_see_members(fetch);
    const int err = fetch_file_begin(fetch, &starting->file,
                                     starting->has_publisher ? &starting->publisher : NULL,
                                     starting->reason, FETCH_PRIORITY_FILE, &file);
    if (err) {
        tell(fetch, &starting->waiter, &starting->file, err, NULL);
    } else {
        add_waiter(file, &starting->waiter);
    }
    free(starting);
}

void fetch_start(struct fetch *fetch, const struct fetch_options *options, fetch_done_fn done,
                 void *context)
{
    struct starting *starting = mem_alloc(sizeof *starting);
    starting->news.run = run_start;
    starting->file = options->file;
    starting->reason = options->reason;
    starting->has_publisher = options->publisher != NULL;
    if (options->publisher) {
        starting->publisher = *options->publisher;
    }
    starting->waiter = (struct fetch_waiter){.done = done, .context = context};
    fetch_post(fetch, &starting->news);
}

struct beginning {
    struct fetch_options options;
    const struct id *files;
    size_t files_count;
    size_t count;
    int err;
};

static void ask_begin(struct fetch *fetch, void *context)
{
    struct beginning *beginning = context;
    const struct fetch_waiter waiter = {0};
    fetch_see_members(fetch);
    while (!beginning->err && beginning->count < beginning->files_count) {
        beginning->options.file = beginning->files[beginning->count];
        beginning->err = fetch_join(fetch, &beginning->options, &waiter);
        beginning->count += beginning->err == 0;
    }
}

int fetch_begin_all(struct fetch *fetch, const struct fetch_options *options,
                    const struct id *files, size_t files_count, size_t *ret_count)
{
    struct beginning beginning = {.options = *options, .files = files, .files_count = files_count};
    fetch_ask(fetch, ask_begin, &beginning);
    *ret_count = beginning.count;
    return beginning.err;
}

int fetch_begin(struct fetch *fetch, const struct fetch_options *options)
{
    size_t count = 0;
    return fetch_begin_all(fetch, options, &options->file, 1, &count);
}

struct stopping {
    struct fetch_news news;
    struct id file;
};

static void run_stop(struct fetch *fetch, struct fetch_news *news)
{
    struct stopping *stopping = CONTAINER_OF(news, struct stopping, news);
    struct fetch_file *file = fetch_file_find(fetch, &stopping->file);
    if (file && !file->is_over) {
        fetch_file_stop(fetch, file, CONTENT_DROP);
    }
    free(stopping);
}

void fetch_stop(struct fetch *fetch, const struct id *file)
{
    struct stopping *stopping = mem_alloc(sizeof *stopping);
    *stopping = (struct stopping){.news = {.run = run_stop}, .file = *file};
    fetch_post(fetch, &stopping->news);
}

/* ---- ends --------------------------------------------------------------------------------------
 */

static void run_removal(struct fetch *fetch, struct fetch_news *news)
{
    (void)fetch;
    struct fetch_file *file = CONTAINER_OF(news, struct fetch_file, ends);
    content_release(file->content);
    free(file->answers);
    free(file);
}

static void stop_settling(struct fetch *fetch, struct fetch_file *file)
{
    if (file->is_settling) {
        file->is_settling = false;
        fetch->settling_count--;
        fetch->settling_bytes -= file->content->metadata.length_bytes;
    }
}

/* What was found of a file that can't be had now may be all that there is of it, and who has read
 * most of it may come back: it is kept. Only an intake with nothing in it is of no use to anybody.
 */
static enum content_end end_of(const struct fetch *fetch, const struct fetch_file *file)
{
    struct transfer_status status;
    const bool is_known = transfer_status(fetch->transfer, network_now_us(), &file->id, &status);
    return is_known && status.blocks_here > 0 ? CONTENT_ASIDE : CONTENT_DROP;
}

static void end_file(struct fetch *fetch, struct fetch_file *file, int err, enum content_end how)
{
    CHECK(!file->is_over);
    file->is_over = true;
    stop_settling(fetch, file);
    HASH_DELETE(hh, fetch->files, file);
    content_end(file->content, how);
    if (how == CONTENT_ASIDE) {
        fetch_aside_add(fetch, &file->id);
    }
    while (file->waiters) {
        struct fetch_waiter *waiter = file->waiters;
        file->waiters = waiter->next;
        tell(fetch, waiter, &file->id, err, file);
        free(waiter);
    }
    fetch_readers_end(fetch, file, err);
    fetch->files_fetched += err == 0;
    fetch->files_stopped += err == -ECANCELED;
    fetch->files_failed += err != 0 && err != -ECANCELED;
    /* Transfer has borrowed the list of blocks for a little longer. */
    file->ends.run = run_removal;
    fetch_later(fetch, &file->ends);
}

void fetch_file_end(struct fetch *fetch, struct fetch_file *file, int err)
{
    if (err || !file->is_reported) {
        fetch_report_keep(fetch, file, err);
    }
    end_file(fetch, file, err, err ? end_of(fetch, file) : CONTENT_KEEP);
}

void fetch_file_stop(struct fetch *fetch, struct fetch_file *file, enum content_end how)
{
    /* While transfer knows it. */
    fetch_report_keep(fetch, file, file->full_us > 0 ? -ENOSPC : -ECANCELED);
    transfer_stop(fetch->transfer, network_now_us(), &file->id);
    end_file(fetch, file, -ECANCELED, how);
}

void fetch_files_end(struct fetch *fetch)
{
    struct fetch_file *file = NULL;
    struct fetch_file *next = NULL;
    HASH_ITER(hh, fetch->files, file, next)
    {
        fetch_file_stop(fetch, file, is_wanted(file) ? CONTENT_KEEP : end_of(fetch, file));
    }
}

/* ---- small files -------------------------------------------------------------------------------
 *
 * Commits take as long as a sync, and transfer has room for some hundred files at a time. So it is
 * told that a small file is done when its bytes are here: those who wait for it hear of it when it
 * is durable. If that fails it is fetched again.
 */

struct settling {
    struct fetch_news news;
    struct id file;
};

static void run_settling(struct fetch *fetch, struct fetch_news *news)
{
    struct settling *settling = CONTAINER_OF(news, struct settling, news);
    struct fetch_file *file = fetch_file_find(fetch, &settling->file);
    if (file && file->is_settling) {
        fetch_report_keep(fetch, file, 0); /* while transfer knows where it came from */
        file->is_reported = true;
    }
    transfer_committed(fetch->transfer, network_now_us(), &settling->file, 0);
    free(settling);
}

void fetch_file_commit(struct fetch *fetch, struct fetch_file *file)
{
    const uint64_t size = file->content->metadata.length_bytes;
    if (file->content->is_small && fetch->settling_count < SETTLING_MAX &&
        fetch->settling_bytes + size <= SETTLING_BYTES_MAX) {
        struct settling *settling = mem_alloc(sizeof *settling);
        *settling = (struct settling){.news = {.run = run_settling}, .file = file->id};
        file->is_settling = true;
        fetch->settling_count++;
        fetch->settling_bytes += size;
        fetch_later(fetch, &settling->news);
    }
    content_commit(file->content);
}

static void retry_at(struct fetch *fetch, struct fetch_file *file, uint64_t at_us)
{
    file->retry_us = at_us;
    if (file->retry_us < fetch->linger_due_us) {
        fetch->linger_due_us = file->retry_us;
    }
}

/* What an earlier life began is gone on with when those come back that could not be asked: after a
 * power cut all start at once, and the others may be late. */
static void wait_for_members(struct fetch *fetch, struct fetch_file *file)
{
    const uint64_t now_us = network_now_us();
    const uint64_t half_us = (now_us - file->begun_us) / 2;
    retry_at(fetch, file,
             now_us + (half_us < UNREACHED_US_MIN   ? UNREACHED_US_MIN
                       : half_us > UNREACHED_US_MAX ? UNREACHED_US_MAX
                                                    : half_us));
}

void fetch_file_ended(struct fetch *fetch, struct fetch_file *file, int err)
{
    if (err == -EHOSTUNREACH && file->is_resumed && !file->waiters && !file->readers) {
        wait_for_members(fetch, file);
    } else if (!file->is_settling) {
        fetch_file_end(fetch, file, err);
    }
}

static void begin_again(struct fetch *fetch, struct fetch_file *file)
{
    file->retry_us = UINT64_MAX;
    stop_settling(fetch, file);
    const int err =
        transfer_start(fetch->transfer, network_now_us(), &file->id,
                       file->has_publisher ? &file->publisher : NULL, FETCH_PRIORITY_FILE);
    if (err) {
        fetch_file_end(fetch, file, err);
    } else {
        content_open(file->content, BYTES(NULL, 0));
    }
}

static void wait_for_room(struct fetch *fetch, struct fetch_file *file)
{
    tell_full(fetch, file);
    found_full(fetch, file);
    retry_at(fetch, file, network_now_us() + TRANSFER_NOSPACE_MS * UINT64_C(1000));
}

static void try_again(struct fetch *fetch, struct fetch_file *file)
{
    if (file->is_taking) {
        file->retry_us = UINT64_MAX;
        content_take(file->content);
    } else {
        begin_again(fetch, file);
    }
}

static void settled(struct fetch *fetch, struct fetch_file *file, int err)
{
    if (err == -EAGAIN && file->retries_count++ < RETRIES_MAX) {
        begin_again(fetch, file);
    } else if (err == -ENOSPC) {
        wait_for_room(fetch, file);
    } else {
        fetch_file_end(fetch, file, err == -EAGAIN ? -EIO : err);
    }
}

/* ---- answers of contents -----------------------------------------------------------------------
 */

static struct fetch_file *file_of(struct fetch *fetch, const struct content *content)
{
    struct fetch_file *file = fetch_file_find(fetch, &content->id);
    return file && file->content == content ? file : NULL;
}

void fetch_content_opened(struct fetch *fetch, struct content *content, int err,
                          const uint8_t *have)
{
    struct fetch_file *file = file_of(fetch, content);
    /* An intake of an earlier life that can't be read is begun anew with what peers tell. */
    if (!file || (err && file->is_resuming)) {
        return;
    }
    file->is_resuming = false;
    transfer_opened(fetch->transfer, network_now_us(), &content->id, err,
                    err ? NULL : &content->metadata, have);
    if (!err) {
        file->is_opened = true;
        fetch_readers_notice(fetch, file);
    }
}

void fetch_content_came(struct fetch *fetch, struct content *content)
{
    struct fetch_file *file = file_of(fetch, content);
    if (file) {
        fetch_readers_notice(fetch, file);
    }
}

void fetch_content_copied(struct fetch *fetch, struct content *content, uint32_t index, int err)
{
    struct fetch_file *file = file_of(fetch, content);
    if (!file) {
        return;
    }
    transfer_copied(fetch->transfer, network_now_us(), &content->id, index, err);
}

/* It looked as if it were here, and is not. */
static void fetch_after_all(struct fetch *fetch, struct fetch_file *file)
{
    file->is_taking = false;
    const int err =
        transfer_start(fetch->transfer, network_now_us(), &file->id,
                       file->has_publisher ? &file->publisher : NULL, TRANSFER_PRIORITY_READER);
    if (err) {
        fetch_file_end(fetch, file, err);
    } else {
        resume(file);
    }
}

void fetch_content_committed(struct fetch *fetch, struct content *content, int err)
{
    struct fetch_file *file = file_of(fetch, content);
    if (!file) {
        return;
    }
    if (!err && file->reason != content->reason) {
        content->reason = file->reason; /* somebody came with a better one */
        content_take(content);
    } else if (file->is_settling) {
        settled(fetch, file, err);
    } else if (!file->is_taking) {
        transfer_committed(fetch->transfer, network_now_us(), &content->id, err);
    } else if (err == -ENOENT) {
        fetch_after_all(fetch, file);
    } else if (err == -ENOSPC) {
        wait_for_room(fetch, file);
    } else {
        fetch_file_end(fetch, file, err);
    }
}

/* ---- a new life --------------------------------------------------------------------------------
 */

void fetch_files_resume(struct fetch *fetch)
{
    struct store *store = node_store(fetch->node);
    struct store_intake_info info;
    size_t count = 0;
    int err = store_intake_next(store, NULL, &info);
    while (!err && count < FETCH_FILES_MAX) {
        const struct id last = info.id;
        if (info.is_aside) {
            fetch_aside_add(fetch, &info.id);
            err = store_intake_next(store, &last, &info);
            continue;
        }
        struct fetch_file *file = NULL;
        err = fetch_file_begin(fetch, &info.id, NULL, info.reason, 0, &file);
        if (!err) {
            file->is_resumed = true;
            if (!file->is_taking && !file->is_resuming) {
                resume(file);
            }
            count++;
            err = store_intake_next(store, &last, &info);
        }
    }
    if (count > 0) {
        log_info("fetches_resumed", KV("files", (uint64_t)count));
    }
}

/* ---- what is due -------------------------------------------------------------------------------
 */

static void linger_due(struct fetch *fetch, uint64_t now_us)
{
    if (now_us < fetch->linger_due_us) {
        return;
    }
    fetch->linger_due_us = UINT64_MAX;
    struct fetch_file *file = NULL;
    struct fetch_file *next = NULL;
    HASH_ITER(hh, fetch->files, file, next)
    {
        if (file->linger_us <= now_us) {
            fetch_file_stop(fetch, file, end_of(fetch, file));
            continue;
        }
        if (file->retry_us <= now_us) {
            try_again(fetch, file);
            continue;
        }
        const uint64_t due_us = file->linger_us < file->retry_us ? file->linger_us : file->retry_us;
        if (due_us < fetch->linger_due_us) {
            fetch->linger_due_us = due_us;
        }
    }
}

void fetch_files_due(struct fetch *fetch)
{
    const uint64_t now_us = network_now_us();
    linger_due(fetch, now_us);
    fetch_asides_due(fetch, now_us);
    if (transfer_next_us(fetch->transfer) <= now_us) {
        transfer_tick(fetch->transfer, now_us);
    }
}

uint64_t fetch_files_next_us(const struct fetch *fetch)
{
    uint64_t due_us = transfer_next_us(fetch->transfer);
    const uint64_t asides_us = fetch_asides_next_us(fetch);
    due_us = asides_us < due_us ? asides_us : due_us;
    const uint64_t batch_us = contents_next_us(fetch);
    due_us = batch_us < due_us ? batch_us : due_us;
    return due_us < fetch->linger_due_us ? due_us : fetch->linger_due_us;
}
