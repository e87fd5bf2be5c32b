/* SPDX-License-Identifier: Apache-2.0 */
#include "store/block_record_priv.h"

#include "base/codec.h"
#include "base/err.h"
#include "hash/crc32c.h"

#define HEADER_BYTES 37
#define LOCATION_BYTES 16
/* Beside the number of locations. */
#define PROMISED 0x80

void block_crcs(struct bytes data, uint32_t *ret_crcs)
{
    for (size_t at = 0, span = 0; at < data.size; at += BLOCK_SPAN_BYTES, span++) {
        const size_t left = data.size - at;
        ret_crcs[span] =
            crc32c(BYTES(data.data + at, left < BLOCK_SPAN_BYTES ? left : BLOCK_SPAN_BYTES));
    }
}

const struct location *block_owned_location(const struct block_record *record)
{
    for (uint8_t i = 0; i < record->locations_count; i++) {
        if (!location_is_external(&record->locations[i])) {
            return &record->locations[i];
        }
    }
    return NULL;
}

static bool has_holder(const struct block_record *record)
{
    uint32_t holders = 0;
    for (int reason = 0; reason < STORE_REASONS; reason++) {
        holders |= record->holders[reason];
    }
    return holders != 0;
}

bool block_is_held(const struct block_record *record)
{
    return has_holder(record) || record->is_promised;
}

bool block_is_guest(const struct block_record *record)
{
    return !has_holder(record) && record->is_promised;
}

bool block_is_offered(const struct block_record *record)
{
    return block_is_held(record) && record->locations_count > 0;
}

bool block_is_absent(const struct block_record *record)
{
    return block_is_held(record) && record->locations_count == 0;
}

bool block_is_cache(const struct block_record *record)
{
    return (record->holders[STORE_CACHE] != 0 || record->is_promised) &&
           record->holders[STORE_ORIGIN] == 0 && record->holders[STORE_FOLLOW] == 0 &&
           record->holders[STORE_COPY] == 0;
}

size_t block_record_encode(const struct block_record *record,
                           uint8_t ret_data[BLOCK_RECORD_BYTES_MAX])
{
    uint8_t *at = ret_data;
    codec_put_le32(at, record->size_bytes);
    at += 4;
    for (int reason = 0; reason < STORE_REASONS; reason++, at += 4) {
        codec_put_le32(at, record->holders[reason]);
    }
    codec_put_le64(at, record->unreferenced_since_ms);
    codec_put_le64(at + 8, record->cached_since_ms);
    at[16] = (uint8_t)(record->locations_count | (record->is_promised ? PROMISED : 0));
    at += 17;
    for (uint8_t i = 0; i < record->locations_count; i++, at += LOCATION_BYTES) {
        codec_put_le64(at, record->locations[i].container);
        codec_put_le64(at + 8, record->locations[i].offset_bytes);
    }
    for (uint32_t span = 0; span < block_spans(record->size_bytes); span++, at += 4) {
        codec_put_le32(at, record->crcs[span]);
    }
    return (size_t)(at - ret_data);
}

int block_record_decode(struct bytes data, struct block_record *ret_record)
{
    if (data.size < HEADER_BYTES) {
        return -EIO;
    }
    const uint8_t *at = data.data;
    const uint32_t size_bytes = codec_get_le32(at);
    const bool is_promised = at[HEADER_BYTES - 1] & PROMISED;
    const uint8_t locations_count = at[HEADER_BYTES - 1] & (uint8_t)~PROMISED;
    if (size_bytes > CHUNK_BLOCK_BYTES_MAX || locations_count > BLOCK_LOCATIONS_MAX ||
        data.size != HEADER_BYTES + (size_t)LOCATION_BYTES * locations_count +
                         (size_t)4 * block_spans(size_bytes)) {
        return -EIO;
    }
    ret_record->size_bytes = size_bytes;
    at += 4;
    for (int reason = 0; reason < STORE_REASONS; reason++, at += 4) {
        ret_record->holders[reason] = codec_get_le32(at);
    }
    ret_record->unreferenced_since_ms = codec_get_le64(at);
    ret_record->cached_since_ms = codec_get_le64(at + 8);
    ret_record->is_promised = is_promised;
    ret_record->locations_count = locations_count;
    at += 17;
    for (uint8_t i = 0; i < locations_count; i++, at += LOCATION_BYTES) {
        ret_record->locations[i] = (struct location){codec_get_le64(at), codec_get_le64(at + 8)};
    }
    for (uint32_t span = 0; span < block_spans(size_bytes); span++, at += 4) {
        ret_record->crcs[span] = codec_get_le32(at);
    }
    return 0;
}
