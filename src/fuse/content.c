/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/content.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "hash/sha256.h"
#include "store/read.h"
#include "wire/file_metadata.h"

/* What is asked for at once of content that is not here: at first, and at most, when it is read in
 * order. The node gets the blocks of a request before all others. */
#define AHEAD_BYTES_MIN ((uint64_t)256 * 1024)
#define AHEAD_BYTES_MAX ((uint64_t)8 * 1024 * 1024)

struct content {
    unsigned references; /* under mount.lock */
    struct id id;
    pthread_mutex_t lock;  /* over what follows */
    atomic_bool is_loaded; /* the next two do not change any more */
    struct file_metadata metadata;
    uint64_t *ends_bytes; /* of each block in the file */
    struct buf ahead;     /* what the node sent last, from ahead_begin on */
    uint64_t ahead_begin;
    uint64_t ahead_bytes; /* to ask for next time */
};

struct content *content_of(struct inode *inode)
{
    if (inode->content && !id_equal(&inode->content->id, &inode->shape.file_id)) {
        content_drop(STEAL_PTR(inode->content));
    }
    if (!inode->content) {
        struct content *content = mem_alloc(sizeof *content);
        content->references = 1;
        content->id = inode->shape.file_id;
        content->ahead_bytes = AHEAD_BYTES_MIN;
        pthread_mutex_init(&content->lock, NULL);
        inode->content = content;
    }
    inode->content->references++;
    return inode->content;
}

void content_drop(struct content *content)
{
    if (!content || --content->references > 0) {
        return;
    }
    pthread_mutex_destroy(&content->lock);
    file_metadata_done(&content->metadata);
    free(content->ends_bytes);
    buf_done(&content->ahead);
    free(content);
}

/* A file that the node does not find, or not everywhere that it could ask, is here and can't be
 * read. */
static int read_failure(int err)
{
    return err == -ENOTCONN ? err : -EIO;
}

static int ask_metadata(struct mount *mount, const struct id *id, struct file_metadata *metadata)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    char hex[ID_HEX_CHARS + 1];
    id_format(id, hex);
    CLEANUP_FREE char *target = mem_format("/files/%s/metadata", hex);
    const struct client_request request = {
        .target = target,
        .silence_ms_max = CONTENT_SILENCE_MS_MAX,
    };
    const int err = ask(mount, &request, &response);
    if (err) {
        return read_failure(err);
    }
    struct id actual;
    sha256_id(buf_bytes(&response.body), &actual);
    if (!id_equal(&actual, id) || file_metadata_parse(buf_bytes(&response.body), metadata)) {
        return -EIO;
    }
    return 0;
}

/* Under its lock. */
static int load(struct mount *mount, struct content *content)
{
    if (content->is_loaded) {
        return 0;
    }
    struct file_metadata *metadata = &content->metadata;
    int err = store_file_metadata(mount->store, &content->id, metadata);
    if (err == -ENOENT || err == -EBADMSG) {
        err = ask_metadata(mount, &content->id, metadata);
    }
    if (err) {
        return err;
    }
    content->ends_bytes = mem_alloc_array(metadata->blocks_count + 1, sizeof(uint64_t));
    uint64_t end = 0;
    for (size_t i = 0; i < metadata->blocks_count; i++) {
        end += metadata->blocks[i].size_bytes;
        content->ends_bytes[i] = end;
    }
    content->is_loaded = true;
    return 0;
}

/* The block that `offset_bytes` lies in. */
static size_t find_block(const struct content *content, uint64_t offset_bytes)
{
    size_t low = 0;
    size_t high = content->metadata.blocks_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (content->ends_bytes[middle] <= offset_bytes) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Has the node send what stands at `offset_bytes`, and some more. */
static int look_ahead(struct mount *mount, struct content *content, uint64_t offset_bytes,
                      size_t size_bytes)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    const uint64_t left = content->metadata.length_bytes - offset_bytes;
    const bool is_in_order = offset_bytes == content->ahead_begin + content->ahead.size;
    uint64_t bytes = is_in_order ? 2 * content->ahead_bytes : AHEAD_BYTES_MIN;
    bytes = bytes < AHEAD_BYTES_MAX ? bytes : AHEAD_BYTES_MAX;
    content->ahead_bytes = bytes;
    bytes = bytes < size_bytes ? size_bytes : bytes;
    bytes = bytes < left ? bytes : left;
    char hex[ID_HEX_CHARS + 1];
    id_format(&content->id, hex);
    CLEANUP_FREE char *target = mem_format("/files/%s/data", hex);
    CLEANUP_FREE char *range =
        mem_format("Range: bytes=%" PRIu64 "-%" PRIu64, offset_bytes, offset_bytes + bytes - 1);
    const struct client_request request = {
        .target = target,
        .headers = {range},
        .silence_ms_max = CONTENT_SILENCE_MS_MAX,
    };
    const int err = ask(mount, &request, &response);
    if (err) {
        return read_failure(err);
    }
    if (response.body.size != bytes) {
        return -EIO;
    }
    buf_done(&content->ahead);
    content->ahead = response.body;
    response.body = BUF_INIT;
    content->ahead_begin = offset_bytes;
    return 0;
}

/* [offset, offset + size) through the node. */
static int read_remote(struct mount *mount, struct content *content, uint64_t offset_bytes,
                       uint8_t *data, size_t size_bytes)
{
    int err = 0;
    pthread_mutex_lock(&content->lock);
    while (!err && size_bytes > 0) {
        const uint64_t begin = content->ahead_begin;
        const uint64_t end = begin + content->ahead.size;
        if (offset_bytes < begin || offset_bytes >= end) {
            err = look_ahead(mount, content, offset_bytes, size_bytes);
            continue;
        }
        const size_t here = (size_t)(end - offset_bytes);
        const size_t bytes = here < size_bytes ? here : size_bytes;
        memcpy(data, content->ahead.data + (offset_bytes - begin), bytes);
        offset_bytes += bytes;
        data += bytes;
        size_bytes -= bytes;
    }
    pthread_mutex_unlock(&content->lock);
    return err;
}

int content_read(struct mount *mount, struct content *content, uint64_t offset_bytes, void *data,
                 size_t size_bytes, size_t *ret_bytes)
{
    int err = 0;
    if (!content->is_loaded) {
        pthread_mutex_lock(&content->lock);
        err = load(mount, content);
        pthread_mutex_unlock(&content->lock);
    }
    if (err) {
        return err;
    }
    const struct file_metadata *metadata = &content->metadata;
    size_t done = 0;
    size_t at = find_block(content, offset_bytes);
    for (; done < size_bytes && at < metadata->blocks_count; at++) {
        const struct block_ref *block = &metadata->blocks[at];
        const uint64_t position = offset_bytes + done;
        const uint64_t left = content->ends_bytes[at] - position;
        const size_t want = size_bytes - done;
        const size_t bytes = left < want ? (size_t)left : want;
        const uint32_t begin = block->size_bytes - (uint32_t)left;
        uint8_t *to = (uint8_t *)data + done;
        err = store_read_block(mount->store, &block->id, begin, to, (uint32_t)bytes);
        if (err) {
            /* Not here, or damaged here: the node gets it from others. */
            err = read_remote(mount, content, position, to, bytes);
        }
        if (err) {
            return err;
        }
        done += bytes;
    }
    *ret_bytes = done;
    return 0;
}
