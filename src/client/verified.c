/* SPDX-License-Identifier: Apache-2.0 */
#include "client/verified.h"

#include <errno.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/mem.h"
#include "hash/sha256.h"

struct verified {
    const struct file_metadata *metadata;
    verified_write *write;
    void *context;
    size_t block;
    struct buf partial; /* what came of that block */
};

struct verified *verified_new(const struct file_metadata *metadata, verified_write *write,
                              void *context)
{
    struct verified *verified = mem_alloc(sizeof *verified);
    verified->metadata = metadata;
    verified->write = write;
    verified->context = context;
    return verified;
}

void verified_free(struct verified *verified)
{
    if (verified) {
        buf_done(&verified->partial);
        free(verified);
    }
}

static int pass_on(struct verified *verified, struct bytes data)
{
    struct id id;
    sha256_id(data, &id);
    if (!id_equal(&id, &verified->metadata->blocks[verified->block].id)) {
        return -EBADMSG;
    }
    const int err = verified->write(verified->context, data);
    if (!err) {
        verified->block++;
    }
    return err;
}

int verified_add(struct verified *verified, struct bytes data)
{
    while (data.size) {
        if (verified->block == verified->metadata->blocks_count) {
            return -EBADMSG;
        }
        const size_t size = verified->metadata->blocks[verified->block].size_bytes;
        struct buf *partial = &verified->partial;
        size_t take = size - partial->size;
        int err = 0;
        if (partial->size == 0 && data.size >= size) {
            err = pass_on(verified, BYTES(data.data, size));
        } else {
            take = data.size < take ? data.size : take;
            buf_add(partial, BYTES(data.data, take));
            if (partial->size == size) {
                err = pass_on(verified, buf_bytes(partial));
                buf_clear(partial);
            }
        }
        if (err) {
            return err;
        }
        data = BYTES(data.data + take, data.size - take);
    }
    return 0;
}

int verified_end(const struct verified *verified)
{
    return verified->block == verified->metadata->blocks_count ? 0 : -EBADMSG;
}

uint64_t verified_restart(struct verified *verified)
{
    buf_clear(&verified->partial);
    uint64_t offset_bytes = 0;
    for (size_t i = 0; i < verified->block; i++) {
        offset_bytes += verified->metadata->blocks[i].size_bytes;
    }
    return offset_bytes;
}

size_t verified_block(const struct verified *verified)
{
    return verified->block;
}
