/* SPDX-License-Identifier: Apache-2.0 */

/*
 * PUT of a directory. libmicrohttpd pushes the body piece by piece, libarchive pulls; between them
 * are a ring of bytes and a thread for each upload. When the ring is full the connection is
 * suspended until the thread has made room, so that a fast client waits for a slow disk.
 *
 * An upload belongs to its request and to its thread; who lets go last frees it. A request that
 * ends early (the client has gone) only says so: the thread finds out at its next read, drops what
 * it has, and nobody waits for it but the stop of the server.
 */

#include <pthread.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/list.h"
#include "base/mem.h"
#include "http/ack_priv.h"
#include "http/endpoints_priv.h"
#include "http/server_priv.h"
#include "http/tar_priv.h"
#include "node/network.h"

/* A suspended upload goes on when so much of the ring is free: not for each piece that is read. */
#define RESUME_BYTES (TAR_RING_BYTES / 2)
/* libarchive gets pieces of this at most, so that the ring has room again soon. */
#define PIECE_BYTES ((size_t)128 * 1024)
/* Of an upload's thread: libarchive keeps all that is large on the heap. */
#define STACK_BYTES ((size_t)1024 * 1024)

struct tar_uploads {
    pthread_mutex_t lock;
    pthread_cond_t one_ended;
    struct tar_upload *uploads; /* with a thread */
    unsigned count;
    bool is_stopping;
};

struct tar_upload {
    struct tar_uploads *uploads;
    struct tar_upload *prev; /* under uploads->lock */
    struct tar_upload *next;
    uint8_t *path;
    struct tar_options options;

    pthread_mutex_t lock; /* over all below */
    pthread_cond_t changed;
    uint8_t *ring;
    uint64_t written_bytes; /* by the request, since the start */
    uint64_t read_bytes;    /* by the thread; what lies between is in the ring */
    size_t piece_bytes;     /* lent to the thread now */
    bool has_ended;         /* the body is complete */
    bool is_given_up;
    bool is_suspended; /* the request waits: for room, or for the result */
    bool is_done;      /* the result is there, the thread takes nothing any more */
    unsigned owners;
    struct request *request; /* NULL: it has gone */
    struct tar_result result;
};

struct tar_uploads *tar_uploads_new(void)
{
    struct tar_uploads *uploads = mem_alloc(sizeof *uploads);
    pthread_mutex_init(&uploads->lock, NULL);
    pthread_cond_init(&uploads->one_ended, NULL);
    return uploads;
}

static void give_up(struct tar_upload *upload)
{
    pthread_mutex_lock(&upload->lock);
    upload->is_given_up = true;
    pthread_cond_signal(&upload->changed);
    pthread_mutex_unlock(&upload->lock);
}

void tar_uploads_stop(struct tar_uploads *uploads)
{
    pthread_mutex_lock(&uploads->lock);
    uploads->is_stopping = true;
    struct tar_upload *upload;
    DL_FOREACH(uploads->uploads, upload)
    {
        give_up(upload);
    }
    while (uploads->count > 0) {
        pthread_cond_wait(&uploads->one_ended, &uploads->lock);
    }
    pthread_mutex_unlock(&uploads->lock);
}

void tar_uploads_free(struct tar_uploads *uploads)
{
    if (!uploads) {
        return;
    }
    pthread_cond_destroy(&uploads->one_ended);
    pthread_mutex_destroy(&uploads->lock);
    free(uploads);
}

static void let_go(struct tar_upload *upload)
{
    pthread_mutex_lock(&upload->lock);
    const bool is_last = --upload->owners == 0;
    pthread_mutex_unlock(&upload->lock);
    if (!is_last) {
        return;
    }
    pthread_cond_destroy(&upload->changed);
    pthread_mutex_destroy(&upload->lock);
    free(upload->result.message);
    buf_done(&upload->result.published);
    free(upload->ring);
    free(upload->path);
    free(upload);
}

/* ---- the thread ---- */

static void resume(struct tar_upload *upload)
{
    if (upload->is_suspended && upload->request) {
        upload->is_suspended = false;
        request_resume(upload->request);
    }
}

/* The source of tar_unpack(). The piece stays in the ring until the next call. */
static int read_ring(void *context, struct bytes *ret_bytes)
{
    struct tar_upload *upload = context;
    pthread_mutex_lock(&upload->lock);
    upload->read_bytes += upload->piece_bytes;
    if (!upload->has_ended &&
        TAR_RING_BYTES - (upload->written_bytes - upload->read_bytes) >= RESUME_BYTES) {
        resume(upload);
    }
    while (!upload->is_given_up && !upload->has_ended &&
           upload->written_bytes == upload->read_bytes) {
        pthread_cond_wait(&upload->changed, &upload->lock);
    }
    const size_t at = (size_t)(upload->read_bytes % TAR_RING_BYTES);
    size_t size = (size_t)(upload->written_bytes - upload->read_bytes);
    size = size < PIECE_BYTES ? size : PIECE_BYTES;
    size = size < TAR_RING_BYTES - at ? size : TAR_RING_BYTES - at;
    upload->piece_bytes = size;
    *ret_bytes = BYTES(upload->ring + at, size);
    const int err = upload->is_given_up ? -ECANCELED : 0;
    pthread_mutex_unlock(&upload->lock);
    return err;
}

static void *run(void *argument)
{
    struct tar_upload *upload = argument;
    struct tar_uploads *uploads = upload->uploads;
    const struct tar_source source = {.read = read_ring, .context = upload};
    struct tar_result result;
    tar_unpack(&upload->options, &source, &result);
    pthread_mutex_lock(&upload->lock);
    upload->result = result;
    upload->is_done = true;
    resume(upload);
    pthread_mutex_unlock(&upload->lock);

    pthread_mutex_lock(&uploads->lock);
    DL_DELETE(uploads->uploads, upload);
    uploads->count--;
    let_go(upload);
    pthread_cond_signal(&uploads->one_ended);
    pthread_mutex_unlock(&uploads->lock);
    return NULL;
}

static int start_thread(struct tar_upload *upload)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    const int failed = pthread_create(&thread, &attributes, run, upload);
    pthread_attr_destroy(&attributes);
    return failed ? -EAGAIN : 0;
}

/* ---- the request ---- */

/* -EAGAIN: too many, or no longer. */
static int enter(struct tar_uploads *uploads, struct tar_upload *upload)
{
    pthread_mutex_lock(&uploads->lock);
    int err = uploads->is_stopping || uploads->count >= TAR_UPLOADS_MAX ? -EAGAIN : 0;
    if (!err) {
        upload->owners++;
        err = start_thread(upload);
    }
    if (!err) {
        DL_APPEND(uploads->uploads, upload);
        uploads->count++;
    }
    pthread_mutex_unlock(&uploads->lock);
    return err;
}

static void begin(struct request *request)
{
    const bool is_atomic = request_switch(request, "atomic");
    if (is_atomic && request->path.size == 0) {
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_path",
                     "the whole tree can't be replaced in one step");
        return;
    }
    struct tar_upload *upload = mem_alloc(sizeof *upload);
    upload->uploads = request->server->tars;
    upload->path = mem_alloc(request->path.size + 1);
    upload->options = (struct tar_options){
        .node = request->node,
        .fetch = network_fetch(request->server->options.network),
        .path = BYTES(upload->path, request->path.size),
        .is_atomic = is_atomic,
        .lists_files = request->copies_count > 1,
    };
    if (request->path.size > 0) {
        memcpy(upload->path, request->path.data, request->path.size);
    }
    upload->ring = mem_alloc_aligned(4096, TAR_RING_BYTES);
    upload->request = request;
    upload->owners = 1;
    pthread_mutex_init(&upload->lock, NULL);
    pthread_cond_init(&upload->changed, NULL);
    if (enter(upload->uploads, upload)) {
        upload->owners = 1;
        let_go(upload);
        answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE, "busy",
                     "too many directories are being put");
        return;
    }
    request->state = upload;
}

static void answer_result(struct request *request, const struct tar_result *result);

static size_t body(struct request *request, struct bytes piece)
{
    struct tar_upload *upload = request->state;
    pthread_mutex_lock(&upload->lock);
    if (upload->is_done) {
        pthread_mutex_unlock(&upload->lock);
        /* Before the end of the stream it can only have failed. */
        answer_result(request, &upload->result);
        return piece.size;
    }
    const size_t room = TAR_RING_BYTES - (size_t)(upload->written_bytes - upload->read_bytes);
    const size_t size = piece.size < room ? piece.size : room;
    const size_t at = (size_t)(upload->written_bytes % TAR_RING_BYTES);
    const size_t first = size < TAR_RING_BYTES - at ? size : TAR_RING_BYTES - at;
    memcpy(upload->ring + at, piece.data, first);
    memcpy(upload->ring, piece.data + first, size - first);
    upload->written_bytes += size;
    if (size < piece.size) {
        /* The client is not to blame for the time that passes now. */
        connection_enter(request->server, request->peer, CONNECTION_ANSWER);
        upload->is_suspended = true;
        request_suspend(request);
    } else if (request->peer->phase != CONNECTION_BODY) {
        connection_enter(request->server, request->peer, CONNECTION_BODY);
    }
    pthread_cond_signal(&upload->changed);
    pthread_mutex_unlock(&upload->lock);
    return size;
}

static void answer_result(struct request *request, const struct tar_result *result)
{
    if (result->err == -EPROTO) {
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_tar", "%s", result->message);
        return;
    }
    if (result->err) {
        answer_failure(request, result->err == -ECANCELED ? -EAGAIN : result->err);
        return;
    }
    json_t *text = json_object();
    json_object_set_new(text, "path", json_of_bytes(request->path));
    json_object_set_new(text, "files", json_integer((json_int_t)result->files_count));
    json_object_set_new(text, "length", json_integer((json_int_t)result->length_bytes));
    if (!result->has_version) {
        answer_json(request, MHD_HTTP_OK, text); /* nothing was changed */
        return;
    }
    json_object_set_new(text, "version", json_of_dot(&result->version));
    const struct bytes published = buf_bytes(&result->published);
    for (size_t at = 0; at < published.size; at += sizeof(struct id)) {
        ack_add_file(request, (const struct id *)(published.data + at));
    }
    /* Who has the last change has those before it. */
    ack_answer(request, MHD_HTTP_OK, text, &result->version);
}

static void resumed(struct request *request)
{
    struct tar_upload *upload = request->state;
    pthread_mutex_lock(&upload->lock);
    CHECK(upload->is_done);
    pthread_mutex_unlock(&upload->lock);
    answer_result(request, &upload->result);
}

static void end(struct request *request)
{
    struct tar_upload *upload = request->state;
    pthread_mutex_lock(&upload->lock);
    upload->has_ended = true;
    const bool is_done = upload->is_done;
    if (!is_done) {
        upload->is_suspended = true;
        request_suspend(request);
        pthread_cond_signal(&upload->changed);
    }
    pthread_mutex_unlock(&upload->lock);
    if (is_done) {
        answer_result(request, &upload->result);
    }
}

static void done(struct request *request)
{
    struct tar_upload *upload = request->state;
    pthread_mutex_lock(&upload->lock);
    upload->request = NULL;
    /* After the end everything goes on as if the client were there. */
    upload->is_given_up = upload->is_given_up || !upload->has_ended;
    pthread_cond_signal(&upload->changed);
    pthread_mutex_unlock(&upload->lock);
    let_go(upload);
}

static const char *const parameters[] = {"atomic", NULL};

const struct endpoint endpoint_put_tar = {
    .method = "PUT",
    .prefix = "/fs",
    .argument = PATH_TREE,
    .parameters = parameters,
    .begin = begin,
    .body = body,
    .end = end,
    .resumed = resumed,
    .done = done,
};
