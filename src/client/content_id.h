/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_CONTENT_ID_H
#define CLIENT_CONTENT_ID_H

/*
 * content_id: the file id of bytes as they come, if they were cut by fixed chunking. A file that
 * was cut otherwise has another id: that one says nothing then.
 */

#include "base/bytes.h"
#include "hash/id.h"

struct content_id;

struct content_id *content_id_new(void);
void content_id_free(struct content_id *content);

/* -EFBIG: longer than a file can be. */
[[nodiscard]] int content_id_add(struct content_id *content, struct bytes data);

/* Tells the id of all that was added and begins anew. */
void content_id_take(struct content_id *content, struct id *ret_id);

#endif
