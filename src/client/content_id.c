/* SPDX-License-Identifier: Apache-2.0 */
#include "client/content_id.h"

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "chunk/chunk.h"
#include "hash/sha256.h"
#include "wire/file_metadata.h"

struct content_id {
    struct file_metadata metadata; /* of the blocks that are complete */
    struct sha256 *hash;           /* of the one under way */
    uint32_t size_bytes;           /* what came of it */
    uint32_t room_bytes;           /* what may still come; 0: it has not begun */
};

struct content_id *content_id_new(void)
{
    struct content_id *content = mem_alloc(sizeof *content);
    content->hash = sha256_new();
    return content;
}

void content_id_free(struct content_id *content)
{
    if (content) {
        sha256_free(content->hash);
        file_metadata_done(&content->metadata);
        free(content);
    }
}

static int end_block(struct content_id *content)
{
    struct id id;
    sha256_take(content->hash, &id);
    const int err = file_metadata_add(&content->metadata, &id, content->size_bytes);
    content->size_bytes = 0;
    content->room_bytes = 0;
    return err;
}

int content_id_add(struct content_id *content, struct bytes data)
{
    const struct chunker *chunker = chunker_fixed();
    CHECK(chunker->by_offset_alone);
    while (data.size) {
        if (content->metadata.length_bytes >= CHUNK_FILE_BYTES_MAX) {
            return -EFBIG;
        }
        if (content->room_bytes == 0) {
            content->room_bytes = chunker->window_bytes(chunker, content->metadata.length_bytes);
        }
        const size_t take = data.size < content->room_bytes ? data.size : content->room_bytes;
        sha256_add(content->hash, BYTES(data.data, take));
        content->size_bytes += (uint32_t)take;
        content->room_bytes -= (uint32_t)take;
        data = BYTES(data.data + take, data.size - take);
        const int err = content->room_bytes == 0 ? end_block(content) : 0;
        if (err) {
            return err;
        }
    }
    return 0;
}

void content_id_take(struct content_id *content, struct id *ret_id)
{
    if (content->size_bytes > 0) {
        /* Within the limits, content_id_add() saw to it. */
        CHECK(end_block(content) == 0);
    }
    file_metadata_id(&content->metadata, ret_id);
    file_metadata_done(&content->metadata);
    content->metadata = FILE_METADATA_INIT;
}
