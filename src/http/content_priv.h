/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_CONTENT_PRIV_H
#define HTTP_CONTENT_PRIV_H

#include "http/request_priv.h"

/*
 * content: the bytes of a file version as an answer: ranges, conditions, ETag.
 */

/* What the tree knows of a path besides its content; NULL for a file asked for by id. */
struct content_headers {
    uint32_t mode;
    int64_t mtime_ns;
    uint32_t conflicts_count; /* versions beside the one that is shown */
    uint64_t length_bytes;
    struct origin_id writer; /* who may have it */
};

/* Adds X-Artel-Mode, X-Artel-Mtime, X-Artel-Conflicts and Last-Modified. */
void content_add_headers(struct MHD_Response *response, const struct content_headers *headers);

/* Answers GET or HEAD of the file version `id`, or leaves an arrival (http/arriving.h) as
 * request->state that will: what GET needs and is not here is fetched; HEAD fetches nothing. */
void content_answer(struct request *request, const struct id *id,
                    const struct content_headers *headers);

#endif
