/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Readers of files that come. What a reader is asked for from outside is under its own lock; who is
 * to be told that something has changed is told at the end of a turn.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/mem.h"
#include "node/fetch_files_priv.h"
#include "node/network_priv.h"

static void free_reader(struct fetch_reader *reader)
{
    content_release(reader->content);
    free(reader->answers);
    pthread_mutex_destroy(&reader->lock);
    free(reader);
}

static void run_notice(struct fetch *fetch, struct fetch_news *news)
{
    (void)fetch;
    struct fetch_reader *reader = CONTAINER_OF(news, struct fetch_reader, notices);
    reader->is_noticed = false;
    if (reader->is_closed) {
        free_reader(reader);
        return;
    }
    /* With the lock: who closes it waits until this has returned. */
    pthread_mutex_lock(&reader->lock);
    if (!reader->is_told && !reader->is_closing) {
        reader->is_told = true;
        reader->options.changed(reader->options.context);
    }
    pthread_mutex_unlock(&reader->lock);
}

static void notice(struct fetch *fetch, struct fetch_reader *reader)
{
    if (!reader->is_noticed) {
        reader->is_noticed = true;
        reader->notices.run = run_notice;
        fetch_later(fetch, &reader->notices);
    }
}

static void see_content(struct fetch_reader *reader, struct content *content)
{
    pthread_mutex_lock(&reader->lock);
    if (!reader->content && content->has_metadata) {
        reader->content = content_reference(content);
    }
    pthread_mutex_unlock(&reader->lock);
}

void fetch_readers_notice(struct fetch *fetch, struct fetch_file *file)
{
    struct fetch_reader *reader = NULL;
    DL_FOREACH(file->readers, reader)
    {
        see_content(reader, file->content);
        notice(fetch, reader);
    }
}

static void fail(struct fetch_reader *reader, int err, const struct fetch_file *file)
{
    pthread_mutex_lock(&reader->lock);
    reader->err = err;
    if (file && file->answers_count > 0) {
        reader->answers = mem_copy(file->answers, file->answers_count * sizeof *file->answers);
        reader->answers_count = file->answers_count;
    }
    pthread_mutex_unlock(&reader->lock);
}

void fetch_readers_end(struct fetch *fetch, struct fetch_file *file, int err)
{
    while (file->readers) {
        struct fetch_reader *reader = file->readers;
        DL_DELETE(file->readers, reader);
        reader->file = NULL;
        if (err) {
            fail(reader, err, file);
        } else {
            see_content(reader, file->content);
        }
        notice(fetch, reader);
    }
}

/* Takes back what it wanted, and that it reads. */
static void unlink_reader(struct fetch *fetch, struct fetch_reader *reader)
{
    struct fetch_file *file = reader->file;
    const int err = transfer_want(fetch->transfer, network_now_us(), &file->id,
                                  (uint64_t)(uintptr_t)reader, 0, 0);
    (void)err; /* it may not have got that far */
    DL_DELETE(file->readers, reader);
    reader->file = NULL;
    file->readers_count--;
}

void fetch_readers_refuse(struct fetch *fetch, struct fetch_file *file, int err)
{
    while (file->readers) {
        struct fetch_reader *reader = file->readers;
        unlink_reader(fetch, reader);
        fail(reader, err, NULL);
        notice(fetch, reader);
    }
    fetch_file_left(fetch, file);
}

/* ---- from outside ------------------------------------------------------------------------------
 */

static void run_open(struct fetch *fetch, struct fetch_news *news)
{
    struct fetch_reader *reader = CONTAINER_OF(news, struct fetch_reader, opens);
    struct fetch_file *file = NULL;
    fetch_see_members(fetch);
    const int err = fetch_file_begin(fetch, &reader->options.file, reader->options.publisher,
                                     STORE_CACHE, TRANSFER_PRIORITY_READER, &file);
    if (err) {
        fail(reader, err, NULL);
        notice(fetch, reader);
        return;
    }
    reader->file = file;
    DL_APPEND(file->readers, reader);
    file->readers_count++;
    file->linger_us = UINT64_MAX;
    file->content->is_read = true;
    if (file->is_opened) {
        see_content(reader, file->content);
        notice(fetch, reader);
    }
}

int fetch_reader_open(struct fetch *fetch, const struct fetch_reader_options *options,
                      struct fetch_reader **ret_reader)
{
    if (fetch->readers_count++ >= FETCH_READERS_MAX) {
        fetch->readers_count--;
        return -EBUSY;
    }
    struct fetch_reader *reader = mem_alloc(sizeof *reader);
    reader->fetch = fetch;
    reader->options = *options;
    if (options->publisher) {
        reader->publisher = *options->publisher;
        reader->options.publisher = &reader->publisher;
    }
    pthread_mutex_init(&reader->lock, NULL);
    reader->opens.run = run_open;
    fetch_post(fetch, &reader->opens);
    *ret_reader = reader;
    return 0;
}

int fetch_reader_metadata(struct fetch_reader *reader, const struct file_metadata **ret_metadata)
{
    pthread_mutex_lock(&reader->lock);
    reader->is_told = false;
    const int err = reader->content ? 0 : reader->err ? reader->err : -EAGAIN;
    if (!err) {
        *ret_metadata = &reader->content->metadata;
    }
    pthread_mutex_unlock(&reader->lock);
    return err;
}

int fetch_reader_state(struct fetch_reader *reader, uint32_t index)
{
    pthread_mutex_lock(&reader->lock);
    reader->is_told = false;
    const bool is_here = reader->content && content_has(reader->content, index);
    const int err = is_here ? 0 : reader->err ? reader->err : -EAGAIN;
    pthread_mutex_unlock(&reader->lock);
    return err;
}

size_t fetch_reader_answers(struct fetch_reader *reader, const struct locate_answer **ret_answers)
{
    pthread_mutex_lock(&reader->lock);
    *ret_answers = reader->answers;
    const size_t count = reader->answers_count;
    pthread_mutex_unlock(&reader->lock);
    return count;
}

struct want {
    struct fetch_news news;
    struct fetch_reader *reader;
    uint32_t first;
    uint32_t count;
};

static void run_want(struct fetch *fetch, struct fetch_news *news)
{
    struct want *want = CONTAINER_OF(news, struct want, news);
    struct fetch_reader *reader = want->reader;
    if (reader->file && !reader->file->is_taking) {
        /* More readers than transfer has room for get theirs in any order. */
        const int err = transfer_want(fetch->transfer, network_now_us(), &reader->file->id,
                                      (uint64_t)(uintptr_t)reader, want->first, want->count);
        (void)err;
    }
    free(want);
}

void fetch_reader_want(struct fetch_reader *reader, uint32_t first, uint32_t count)
{
    struct want *want = mem_alloc(sizeof *want);
    *want =
        (struct want){.news = {.run = run_want}, .reader = reader, .first = first, .count = count};
    fetch_post(reader->fetch, &want->news);
}

static void leave(struct fetch *fetch, struct fetch_reader *reader)
{
    struct fetch_file *file = reader->file;
    unlink_reader(fetch, reader);
    fetch_file_left(fetch, file);
}

static void run_close(struct fetch *fetch, struct fetch_news *news)
{
    struct fetch_reader *reader = CONTAINER_OF(news, struct fetch_reader, closes);
    if (reader->file) {
        leave(fetch, reader);
    }
    if (reader->is_noticed) {
        reader->is_closed = true;
    } else {
        free_reader(reader);
    }
}

void fetch_reader_close(struct fetch_reader *reader)
{
    if (reader) {
        struct fetch *fetch = reader->fetch;
        pthread_mutex_lock(&reader->lock);
        reader->is_closing = true;
        pthread_mutex_unlock(&reader->lock);
        reader->closes.run = run_close;
        fetch->readers_count--;
        fetch_post(fetch, &reader->closes);
    }
}
