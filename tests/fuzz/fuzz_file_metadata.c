/* SPDX-License-Identifier: Apache-2.0 */

/* A metadata text that parses is canonical: what was parsed, and the same blocks added one by one,
 * are written as the very same bytes, whose hash is the file id. One that does not parse leaves
 * the output alone. */

#include "base/mem.h"
#include "fuzz.h"
#include "hash/sha256.h"
#include "wire/file_metadata.h"

static void check_text(const struct file_metadata *metadata, struct bytes text)
{
    CLEANUP_BUF struct buf formatted = BUF_INIT;
    file_metadata_format(metadata, &formatted);
    CHECK(bytes_equal(buf_bytes(&formatted), text));

    struct id id;
    struct id expected;
    file_metadata_id(metadata, &id);
    sha256_id(text, &expected);
    CHECK(id_equal(&id, &expected));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct bytes text = BYTES(data, size);
    CLEANUP_FILE_METADATA struct file_metadata parsed = FILE_METADATA_INIT;
    if (file_metadata_parse(text, &parsed) != 0) {
        CHECK(parsed.blocks == NULL && parsed.blocks_count == 0 && parsed.length_bytes == 0);
        return 0;
    }
    check_text(&parsed, text);

    CLEANUP_FILE_METADATA struct file_metadata added = FILE_METADATA_INIT;
    for (size_t i = 0; i < parsed.blocks_count; i++) {
        const struct block_ref *block = &parsed.blocks[i];
        CHECK(file_metadata_add(&added, &block->id, block->size_bytes) == 0);
    }
    CHECK(added.length_bytes == parsed.length_bytes);
    check_text(&added, text);
    return 0;
}
