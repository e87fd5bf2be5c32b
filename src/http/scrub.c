/* SPDX-License-Identifier: Apache-2.0 */

/*
 * POST /scrub: a thread of its own reads everything; the answer streams what it finds. One at a
 * time, since two would only take turns at the disk.
 */

#include <stdlib.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "http/endpoints_priv.h"
#include "http/server_priv.h"
#include "store/maintain.h"

#define PIECE_BYTES ((size_t)4 * 1024)
/* Of lines that nobody has read; the thread waits then. */
#define LINES_BYTES_MAX ((size_t)1024 * 1024)

struct scrub {
    struct server *server;
    struct MHD_Connection *connection;
    pthread_mutex_t lock; /* over all below; taken before the server's */
    pthread_cond_t changed;
    struct buf lines;
    size_t lines_sent;
    unsigned owners; /* the thread and the answer */
    bool is_suspended;
    bool has_ended;
    bool is_abandoned; /* nobody reads any more */
};

/* One of the owners goes; the lock is held. */
static void let_go(struct scrub *scrub)
{
    const bool is_last = --scrub->owners == 0;
    pthread_mutex_unlock(&scrub->lock);
    if (!is_last) {
        return;
    }
    pthread_cond_destroy(&scrub->changed);
    pthread_mutex_destroy(&scrub->lock);
    buf_done(&scrub->lines);
    free(scrub);
}

static void add_line(struct scrub *scrub, json_t *object, bool is_last)
{
    char *line = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    pthread_mutex_lock(&scrub->lock);
    /* The end of the server is not told here, so it is looked for. */
    while (scrub->lines.size > LINES_BYTES_MAX && !scrub->is_abandoned &&
           !scrub->server->stopping) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec++;
        pthread_cond_timedwait(&scrub->changed, &scrub->lock, &until);
    }
    buf_add_string(&scrub->lines, line);
    buf_add_byte(&scrub->lines, '\n');
    scrub->has_ended = is_last;
    if (scrub->is_suspended) {
        scrub->is_suspended = false;
        server_resume(scrub->server, scrub->connection);
    }
    pthread_mutex_unlock(&scrub->lock);
    free(line);
}

static void on_bad_block(void *context, const struct id *block)
{
    json_t *object = json_object();
    json_object_set_new(object, "bad_block", json_of_id(block));
    add_line(context, object, false);
}

static void on_hit_file(void *context, const struct id *file, uint32_t blocks_lost)
{
    json_t *object = json_object();
    json_object_set_new(object, "file_hit", json_of_id(file));
    json_object_set_new(object, "blocks_lost", json_integer(blocks_lost));
    add_line(context, object, false);
}

static bool is_stopped(void *context)
{
    struct scrub *scrub = context;
    pthread_mutex_lock(&scrub->lock);
    const bool stopped = scrub->is_abandoned || scrub->server->stopping;
    pthread_mutex_unlock(&scrub->lock);
    return stopped;
}

static void run(void *context)
{
    struct scrub *scrub = context;
    struct server *server = scrub->server;
    const struct store_scrub_options options = {
        .bad_block = on_bad_block,
        .hit_file = on_hit_file,
        .stop = is_stopped,
        .context = scrub,
    };
    struct store_scrub_report report = {0};
    bool matches = false;
    int err = store_scrub(node_store(server->node), &options, &report);
    if (!err && !is_stopped(scrub)) {
        err = node_check_tree(server->node, &matches);
    }
    json_t *object = json_object();
    json_object_set_new(object, "complete", json_boolean(!err));
    json_object_set_new(object, "blocks_checked", json_integer((json_int_t)report.blocks_checked));
    json_object_set_new(object, "bytes_checked", json_integer((json_int_t)report.bytes_checked));
    json_object_set_new(object, "files_checked", json_integer((json_int_t)report.files_checked));
    json_object_set_new(object, "blocks_bad", json_integer((json_int_t)report.blocks_bad));
    json_object_set_new(object, "files_hit", json_integer((json_int_t)report.files_hit));
    if (!err) {
        json_object_set_new(object, "fingerprint_matches", json_boolean(matches));
    }
    server->is_scrubbing = false; /* before somebody can read that it is over */
    add_line(scrub, object, true);
    pthread_mutex_lock(&scrub->lock);
    let_go(scrub);
}

static ssize_t read_lines(void *context, uint64_t position, char *buffer, size_t size)
{
    (void)position;
    struct scrub *scrub = context;
    ssize_t count = 0;
    pthread_mutex_lock(&scrub->lock);
    const size_t left = scrub->lines.size - scrub->lines_sent;
    if (left > 0) {
        count = (ssize_t)(left < size ? left : size);
        memcpy(buffer, scrub->lines.data + scrub->lines_sent, (size_t)count);
        scrub->lines_sent += (size_t)count;
        if (scrub->lines_sent == scrub->lines.size) {
            buf_clear(&scrub->lines);
            scrub->lines_sent = 0;
            pthread_cond_signal(&scrub->changed);
        }
    } else if (scrub->has_ended) {
        count = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        scrub->is_suspended = server_try_suspend(scrub->server, scrub->connection);
        count = scrub->is_suspended ? 0 : MHD_CONTENT_READER_END_WITH_ERROR;
    }
    pthread_mutex_unlock(&scrub->lock);
    return count;
}

static void abandon(void *context)
{
    struct scrub *scrub = context;
    pthread_mutex_lock(&scrub->lock);
    scrub->is_abandoned = true;
    pthread_cond_signal(&scrub->changed);
    let_go(scrub);
}

static void begin(struct request *request)
{
    if (atomic_exchange(&request->server->is_scrubbing, true)) {
        answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE, "busy", "a scrub is under way");
        return;
    }
    struct scrub *scrub = mem_alloc(sizeof *scrub);
    scrub->server = request->server;
    scrub->connection = request->connection;
    scrub->owners = 2;
    pthread_mutex_init(&scrub->lock, NULL);
    pthread_cond_init(&scrub->changed, NULL);
    const int err = server_run(request->server, run, scrub);
    if (err) {
        request->server->is_scrubbing = false;
        pthread_cond_destroy(&scrub->changed);
        pthread_mutex_destroy(&scrub->lock);
        free(scrub);
        answer_failure(request, err);
        return;
    }
    struct MHD_Response *response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, PIECE_BYTES,
                                                                      read_lines, scrub, abandon);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/x-ndjson");
    answer(request, MHD_HTTP_OK, response);
}

const struct endpoint endpoint_scrub = {
    .method = "POST",
    .prefix = "/scrub",
    .begin = begin,
};
