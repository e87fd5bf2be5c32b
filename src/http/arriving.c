/* SPDX-License-Identifier: Apache-2.0 */
#include "http/arriving.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "http/known.h"
#include "http/server_priv.h"
#include "store/hold.h"

/* Where a part of a file is read, so many blocks have to come in their order; the others do in that
 * which suits all who fetch the file. */
#define WANT_BLOCKS 4u
/* Where all of it is: who waits so long for the next block wants that first. */
#define PATIENCE_MS 1000u
/* A block that came and is gone again (it was evicted, or lost) is fetched so often. */
#define AGAIN_MAX 3u

struct arriving_reader {
    struct wait wait;
    struct fetch_reader *fetch;
};

/* On the fetch thread. */
static void changed(void *context)
{
    struct arriving_reader *reader = context;
    wait_wake(&reader->wait);
}

void arriving_init(struct arriving *arriving, const struct request *request, const struct id *id,
                   const struct origin_id *writer)
{
    *arriving = (struct arriving){.request = request, .id = *id, .has_writer = writer != NULL};
    if (writer) {
        arriving->writer = *writer;
    }
}

void arriving_done(struct arriving *arriving)
{
    if (arriving->reader) {
        fetch_reader_close(arriving->reader->fetch);
        free(STEAL_PTR(arriving->reader));
    }
}

int arriving_open(struct arriving *arriving)
{
    if (arriving->reader) {
        return 0;
    }
    struct network *network = arriving->request->server->options.network;
    struct arriving_reader *reader = mem_alloc(sizeof *reader);
    wait_init(&reader->wait, arriving->request);
    struct node_id publisher;
    const bool is_known =
        arriving->has_writer && network_writer(network, &arriving->writer, &publisher);
    const struct fetch_reader_options options = {
        .file = arriving->id,
        .publisher = is_known ? &publisher : NULL,
        .changed = changed,
        .context = reader,
    };
    const int err = fetch_reader_open(network_fetch(network), &options, &reader->fetch);
    if (err) {
        free(reader);
        return err;
    }
    arriving->reader = reader;
    return 0;
}

int arriving_metadata(struct arriving *arriving, const struct file_metadata **ret_metadata)
{
    const int err = arriving_open(arriving);
    if (err) {
        return err;
    }
    wait_look(&arriving->reader->wait);
    return fetch_reader_metadata(arriving->reader->fetch, ret_metadata);
}

static void want_in_order(struct arriving *arriving, size_t blocks_count, size_t index)
{
    const size_t left = blocks_count - index;
    fetch_reader_want(arriving->reader->fetch, (uint32_t)index,
                      left < WANT_BLOCKS ? (uint32_t)left : WANT_BLOCKS);
}

static void want_one(struct arriving *arriving, uint32_t index)
{
    struct fetch_reader *fetch = arriving->reader->fetch;
    const uint64_t now_ms = clock_monotonic_ms(node_clock(arriving->request->node));
    if (arriving->want == ARRIVING_AT_FIRST) {
        arriving->want = ARRIVING_FIRST;
        arriving->wanted = index;
        fetch_reader_want(fetch, index, 1);
    } else if (arriving->wanted != index) {
        if (arriving->want != ARRIVING_WAITS) {
            fetch_reader_want(fetch, index, 0);
        }
        arriving->want = ARRIVING_WAITS;
        arriving->wanted = index;
        arriving->waits_since_ms = now_ms;
    } else if (arriving->want == ARRIVING_WAITS &&
               now_ms - arriving->waits_since_ms >= PATIENCE_MS) {
        arriving->want = ARRIVING_HURRIES;
        fetch_reader_want(fetch, index, 1);
    }
}

int arriving_block(struct arriving *arriving, size_t blocks_count, size_t index)
{
    const struct file_metadata *metadata = NULL;
    const int err = arriving_metadata(arriving, &metadata);
    if (err) {
        return err;
    }
    if (arriving->is_part) {
        want_in_order(arriving, blocks_count, index);
    } else {
        want_one(arriving, (uint32_t)index);
    }
    const int state = fetch_reader_state(arriving->reader->fetch, (uint32_t)index);
    if (state == 0) {
        wait_moved(&arriving->reader->wait);
    }
    return state;
}

int arriving_all(struct arriving *arriving, uint32_t *next)
{
    const struct file_metadata *metadata = NULL;
    int err = arriving_metadata(arriving, &metadata);
    while (!err && *next < metadata->blocks_count) {
        err = fetch_reader_state(arriving->reader->fetch, *next);
        *next += !err;
    }
    return err;
}

int arriving_again(struct arriving *arriving, size_t blocks_count, size_t index)
{
    if (arriving->block != index) {
        arriving->block = (uint32_t)index;
        arriving->again_count = 0;
    }
    if (arriving->again_count > AGAIN_MAX) {
        return -EBADMSG;
    }
    const int err = arriving_block(arriving, blocks_count, index);
    if (err) {
        return err;
    }
    arriving->again_count++;
    if (arriving->again_count > 1) {
        /* It came, and is gone: the fetch that brought it knows nothing of that. */
        arriving_done(arriving);
    }
    return 0;
}

enum wait_outcome arriving_sleep(struct arriving *arriving, struct request *request)
{
    return wait_sleep(&arriving->reader->wait, request);
}

/* ---- before an answer --------------------------------------------------------------------------
 */

/* Nobody has it: who was not asked is told to programs and to people. `is_damaged`: it is known
 * here as a whole, and nobody can replace what was lost of it. */
static void answer_nowhere(struct request *request, const struct arrival *arrival, bool is_damaged)
{
    const struct locate_answer *answers = NULL;
    const struct arriving *arriving = arrival->arriving;
    const size_t count =
        arriving->reader ? fetch_reader_answers(arriving->reader->fetch, &answers) : 0;
    CLEANUP_KNOWN struct known known;
    known_init(&known, request->server->options.network);
    CLEANUP_BUF struct buf missing = BUF_INIT;
    known_add_not_asked(&known, answers, count, &missing);
    CLEANUP_BUF struct buf message = BUF_INIT;
    if (arrival->path.size > 0) {
        buf_add(&message, arrival->path);
        buf_add_string(&message, ": ");
    }
    if (is_damaged) {
        buf_add_string(&message, "the bytes are damaged or lost here; ");
    }
    buf_add_string(&message, "no node that could be asked has the content");
    if (missing.size > 0) {
        buf_add_format(&message, "; %s", buf_string(&missing));
    }
    json_t *detail = json_object();
    json_object_set_new(detail, "id", json_of_id(&arriving->id));
    if (arrival->path.size > 0) {
        json_object_set_new(detail, "path", json_of_bytes(arrival->path));
    }
    json_object_set_new(detail, "not_asked", known_not_asked(&known, answers, count));
    json_t *body = json_object();
    const char *missing_code = arriving->has_writer ? "content_not_here" : "not_found";
    json_object_set_new(body, "error", json_string(is_damaged ? "damaged" : missing_code));
    json_object_set_new(body, "message", json_of_bytes(buf_bytes(&message)));
    json_object_set_new(body, "detail", detail);
    answer_json(request, is_damaged ? MHD_HTTP_INTERNAL_SERVER_ERROR : MHD_HTTP_NOT_FOUND, body);
}

void arrival_answer_failure(struct request *request, const struct arrival *arrival, int err)
{
    if (err == -EBUSY) {
        answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE, "busy",
                     "too many files are being fetched");
    } else if (err == -ENOSPC) {
        answer_error(request, MHD_HTTP_INSUFFICIENT_STORAGE, "no_space",
                     "the disk of this node is full, so what is not here can't be fetched");
    } else if (err == -ECANCELED) {
        answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE, "stopped", "the fetch was given up");
    } else if (err != -ENOENT && err != -EHOSTUNREACH) {
        answer_failure(request, err);
    } else {
        struct store_file_info info;
        const struct id *id = &arrival->arriving->id;
        const bool is_known = store_file_info(node_store(request->node), id, &info) == 0;
        answer_nowhere(request, arrival, is_known && info.is_held);
    }
}

void arrival_go_on(struct request *request)
{
    struct arrival *arrival = request->state;
    for (;;) {
        const int err = arrival->look(request, arrival);
        if (!err) {
            return;
        }
        if (err != -EAGAIN) {
            arrival_answer_failure(request, arrival, err);
            return;
        }
        const enum wait_outcome outcome = arriving_sleep(arrival->arriving, request);
        if (outcome == WAIT_OVER) {
            answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE, "stopped", "the node ends");
        }
        if (outcome != WAIT_AGAIN) {
            return;
        }
    }
}

void arrival_done(struct request *request)
{
    struct arrival *arrival = request->state;
    arrival->free(arrival);
}
