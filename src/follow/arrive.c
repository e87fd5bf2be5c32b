/* SPDX-License-Identifier: Apache-2.0 */
#include "follow/arrive_priv.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "chunk/chunk.h"
#include "client/content_id.h"
#include "client/crew.h"
#include "client/fetch.h"

/* Of one block by fixed chunking: its id is known without the list of blocks. */
#define SMALL_BYTES ((uint64_t)256 * 1024)
/* Larger ones are made durable here, by many threads; smaller ones together by the engine. */
#define SYNC_BYTES ((uint64_t)1024 * 1024)

_Static_assert(ARRIVE_JOBS_MAX < CREW_QUEUE_MAX, "crew_add() must not wait");

struct arrive {
    const struct client *client;
    int staging_fd;
    const _Atomic bool *is_stopped;
    void (*done)(void *context);
    void *context;
    struct crew *crew;
    pthread_mutex_t lock; /* over what follows */
    struct arrival *first;
    struct arrival *last;
};

struct worker {
    struct arrive *arrive;
    struct client *client;
};

static void *begin_worker(void *context)
{
    struct arrive *arrive = context;
    struct worker *worker = mem_alloc(sizeof *worker);
    *worker = (struct worker){.arrive = arrive, .client = client_clone(arrive->client)};
    return worker;
}

static void end_worker(void *state)
{
    struct worker *worker = state;
    client_free(worker->client);
    free(worker);
}

static int write_file(void *context, struct bytes data)
{
    return out_file_write(context, data);
}

/* One request instead of two. -EBADMSG: it may have been cut otherwise. False: `response` tells. */
static bool get_small(const struct worker *worker, const struct arrival *arrival,
                      struct out_file *file, int *ret_err, struct client_response *response)
{
    char hex[ID_HEX_CHARS + 1];
    id_format(&arrival->id, hex);
    CLEANUP_FREE char *target = mem_format("/files/%s/data", hex);
    const struct client_request request = {.target = target,
                                           .is_stopped = worker->arrive->is_stopped};
    if (!client_perform(worker->client, &request, response)) {
        return false;
    }
    struct content_id *content = content_id_new();
    int err = content_id_add(content, buf_bytes(&response->body));
    struct id actual;
    content_id_take(content, &actual);
    content_id_free(content);
    if (!err && !id_equal(&actual, &arrival->id)) {
        err = -EBADMSG;
    }
    *ret_err = err ? err : out_file_write(file, buf_bytes(&response->body));
    return true;
}

static bool get_large(const struct worker *worker, const struct arrival *arrival,
                      struct out_file *file, struct client_response *response)
{
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    const struct fetch_target target = {
        .write = write_file,
        .write_context = file,
        .is_stopped = worker->arrive->is_stopped,
    };
    return fetch_metadata(worker->client, &arrival->id, &metadata, response) &&
           fetch_content(worker->client, &arrival->id, &metadata, &target, response);
}

static void get(const struct worker *worker, struct arrival *arrival)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    struct out_file *file = NULL;
    int err = out_file_open(worker->arrive->staging_fd, "file", &file);
    if (err) {
        arrival->err = err;
        return;
    }
    bool good = true;
    bool is_large = arrival->length_bytes > SMALL_BYTES;
    if (!is_large) {
        good = get_small(worker, arrival, file, &err, &response);
        is_large = good && err == -EBADMSG;
    }
    if (is_large) {
        good = get_large(worker, arrival, file, &response);
        err = good ? 0 : response.err;
    }
    if (err || !good) {
        out_file_abort(file);
        arrival->err = err;
        arrival->failure = mem_copy_string(buf_string(&response.failure));
        return;
    }
    arrival->options.is_synced = arrival->length_bytes > SYNC_BYTES;
    arrival->err = out_file_prepare(file, &arrival->options, &arrival->info);
    arrival->is_synced = arrival->options.is_synced;
    arrival->file = arrival->err ? NULL : file;
}

static void run(void *state, void *job)
{
    const struct worker *worker = state;
    struct arrive *arrive = worker->arrive;
    struct arrival *arrival = job;
    if (*arrive->is_stopped) {
        arrival->err = -ECANCELED;
    } else {
        get(worker, arrival);
    }
    arrival->next = NULL;
    pthread_mutex_lock(&arrive->lock);
    if (arrive->last) {
        arrive->last->next = arrival;
    } else {
        arrive->first = arrival;
    }
    arrive->last = arrival;
    pthread_mutex_unlock(&arrive->lock);
    arrive->done(arrive->context);
}

struct arrive *arrive_new(const struct client *client, int staging_fd,
                          const _Atomic bool *is_stopped, void (*done)(void *context),
                          void *context)
{
    struct arrive *arrive = mem_alloc(sizeof *arrive);
    arrive->client = client;
    arrive->staging_fd = staging_fd;
    arrive->is_stopped = is_stopped;
    arrive->done = done;
    arrive->context = context;
    pthread_mutex_init(&arrive->lock, NULL);
    const struct crew_options options = {
        .begin = begin_worker, .end = end_worker, .run = run, .context = arrive};
    arrive->crew = crew_new(&options);
    return arrive;
}

void arrive_free(struct arrive *arrive)
{
    if (!arrive) {
        return;
    }
    crew_free(arrive->crew);
    struct arrival *arrival = arrive_take(arrive);
    while (arrival) {
        struct arrival *next = arrival->next;
        arrival_free(arrival);
        arrival = next;
    }
    pthread_mutex_destroy(&arrive->lock);
    free(arrive);
}

void arrive_begin(struct arrive *arrive, struct arrival *arrival)
{
    crew_add(arrive->crew, arrival);
}

struct arrival *arrive_take(struct arrive *arrive)
{
    pthread_mutex_lock(&arrive->lock);
    struct arrival *first = arrive->first;
    arrive->first = NULL;
    arrive->last = NULL;
    pthread_mutex_unlock(&arrive->lock);
    return first;
}

void arrival_free(struct arrival *arrival)
{
    if (arrival) {
        out_file_abort(arrival->file);
        free(arrival->failure);
        free(arrival);
    }
}
