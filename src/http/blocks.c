/* SPDX-License-Identifier: Apache-2.0 */

/* File versions and blocks by their ids. */

#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "http/arriving.h"
#include "http/content_priv.h"
#include "http/endpoints_priv.h"
#include "store/read.h"

static void answer_metadata(struct request *request, const struct file_metadata *metadata)
{
    struct buf text = BUF_INIT;
    file_metadata_format(metadata, &text);
    answer_buf(request, MHD_HTTP_OK, "application/json", &text);
}

static int look_for_metadata(struct request *request, struct arrival *arrival)
{
    const struct file_metadata *metadata = NULL;
    const int err = arriving_metadata(arrival->arriving, &metadata);
    if (!err) {
        answer_metadata(request, metadata);
    }
    return err;
}

struct awaited {
    struct arrival arrival;
    struct arriving arriving;
};

static void awaited_free(struct arrival *arrival)
{
    arriving_done(arrival->arriving);
    free(arrival);
}

static void await_metadata(struct request *request)
{
    struct awaited *awaited = mem_alloc(sizeof *awaited);
    arriving_init(&awaited->arriving, request, &request->id, NULL);
    awaited->arrival = (struct arrival){
        .arriving = &awaited->arriving, .look = look_for_metadata, .free = awaited_free};
    request->state = awaited;
}

static void begin_metadata(struct request *request)
{
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    const int err = store_file_metadata(node_store(request->node), &request->id, &metadata);
    if (!err) {
        answer_metadata(request, &metadata);
    } else if (request->is_head || (err != -ENOENT && err != -EBADMSG)) {
        answer_failure(request, err);
    } else {
        await_metadata(request);
    }
}

const struct endpoint endpoint_file_metadata = {
    .method = "GET",
    .prefix = "/files",
    .suffix = "/metadata",
    .argument = PATH_ID,
    .begin = begin_metadata,
    .end = arrival_go_on,
    .resumed = arrival_go_on,
    .done = arrival_done,
};

static void begin_file(struct request *request)
{
    content_answer(request, &request->id, NULL);
}

const struct endpoint endpoint_file_data = {
    .method = "GET",
    .prefix = "/files",
    .suffix = "/data",
    .argument = PATH_ID,
    .begin = begin_file,
    .end = arrival_go_on,
    .resumed = arrival_go_on,
    .done = arrival_done,
};

static void close_view(void *context)
{
    struct store_view *view = context;
    store_view_close(view);
    free(view);
}

static void begin_block(struct request *request)
{
    struct store_view *view = mem_alloc(sizeof *view);
    const int err = store_view_open(node_store(request->node), &request->id, view);
    if (err) {
        free(view);
        answer_failure(request, err);
        return;
    }
    /* Nothing is written to it. */
    struct MHD_Response *response = MHD_create_response_from_buffer_with_free_callback_cls(
        view->bytes.size, (void *)(uintptr_t)view->bytes.data, close_view, view);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/octet-stream");
    answer(request, MHD_HTTP_OK, response);
}

const struct endpoint endpoint_block_data = {
    .method = "GET",
    .prefix = "/blocks",
    .suffix = "/data",
    .argument = PATH_ID,
    .begin = begin_block,
};
