/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/keep_message.h"

#include <errno.h>
#include <string.h>

#include "wire/message_head.h"

static void put_survey(struct buf *ret_bytes, const struct keep_survey *survey)
{
    field_put_u8(ret_bytes, (uint8_t)survey->extent);
    field_put_u8(ret_bytes, (uint8_t)survey->state);
    field_put_u32(ret_bytes, survey->files_count);
    field_put_u32(ret_bytes, survey->whole_count);
    field_put_u64(ret_bytes, survey->length_bytes);
    field_put_u64(ret_bytes, survey->here_bytes);
    field_put_u64(ret_bytes, survey->rate_bytes_per_second);
    field_put_u32(ret_bytes, survey->followed_count);
    field_put_u8(ret_bytes, survey->has_follower);
}

void keep_message_format(const struct keep_message *message, struct buf *ret_bytes)
{
    field_put_message_head(ret_bytes, (uint8_t)message->type);
    field_put_u64(ret_bytes, message->number);
    switch (message->type) {
    case KEEP_KEEP:
        buf_add(ret_bytes, message->files);
        break;
    case KEEP_KEPT:
        field_put_u8(ret_bytes, (uint8_t)message->verdict);
        field_put_u32(ret_bytes, message->kept);
        break;
    case KEEP_RELEASE:
        break;
    case KEEP_SURVEY:
        buf_add(ret_bytes, id_bytes(&message->digest));
        buf_add(ret_bytes, message->path);
        break;
    case KEEP_SURVEYED:
        put_survey(ret_bytes, &message->survey);
        break;
    case KEEP_PROMISE:
    case KEEP_NEED:
        buf_add(ret_bytes, message->blocks);
        break;
    case KEEP_PROMISED:
    case KEEP_NEEDED:
        buf_add(ret_bytes, message->promises);
        break;
    }
}

static void get_followed(struct field_reader *reader, struct keep_survey *ret_survey)
{
    ret_survey->followed_count = field_get_u32(reader);
    const uint8_t has_follower = field_get_u8(reader);
    ret_survey->has_follower = has_follower != 0;
    if (has_follower > 1 || ret_survey->followed_count > ret_survey->files_count) {
        field_fail(reader);
    }
}

static void get_survey(struct field_reader *reader, uint8_t minor, struct keep_survey *ret_survey)
{
    const uint8_t extent = field_get_u8(reader);
    const uint8_t state = field_get_u8(reader);
    if (extent < KEEP_EXTENT_WHOLE || extent > KEEP_EXTENT_BUSY || state > KEEP_STATE_COMMITTING) {
        field_fail(reader);
        return;
    }
    ret_survey->extent = (enum keep_extent)extent;
    ret_survey->state = (enum keep_state)state;
    ret_survey->files_count = field_get_u32(reader);
    ret_survey->whole_count = field_get_u32(reader);
    ret_survey->length_bytes = field_get_u64(reader);
    ret_survey->here_bytes = field_get_u64(reader);
    ret_survey->rate_bytes_per_second = field_get_u64(reader);
    if (ret_survey->whole_count > ret_survey->files_count ||
        ret_survey->here_bytes > ret_survey->length_bytes ||
        ret_survey->length_bytes > KEEP_SURVEY_NUMBER_MAX ||
        ret_survey->rate_bytes_per_second > KEEP_SURVEY_NUMBER_MAX) {
        field_fail(reader);
    }
    ret_survey->is_older = minor < KEEP_FOLLOWED_MINOR;
    if (!ret_survey->is_older) {
        get_followed(reader, ret_survey);
    }
}

/* All that is left, as ids. */
static struct bytes get_ids(struct field_reader *reader, size_t count_max)
{
    const struct bytes ids = field_get_raw(reader, reader->left.size);
    const size_t count = ids.size / ID_BYTES;
    if (count == 0 || count > count_max || ids.size % ID_BYTES != 0) {
        field_fail(reader);
    }
    return ids;
}

static struct bytes get_promises(struct field_reader *reader)
{
    const struct bytes promises = field_get_raw(reader, reader->left.size);
    if (promises.size == 0 || promises.size > KEEP_BLOCKS_MAX) {
        field_fail(reader);
    }
    for (size_t i = 0; i < promises.size; i++) {
        if (promises.data[i] > 1) {
            field_fail(reader);
        }
    }
    return promises;
}

int keep_message_parse(struct bytes bytes, struct keep_message *ret_message)
{
    struct field_reader reader = field_reader_of(bytes);
    uint8_t type = 0;
    bool is_exact = false;
    const int err = field_get_message_head(&reader, &type, &is_exact);
    if (err) {
        return err;
    }
    if (type < KEEP_KEEP || type > KEEP_NEEDED) {
        return -EPROTONOSUPPORT;
    }
    struct keep_message message = {.type = (enum keep_message_type)type};
    message.number = field_get_u64(&reader);
    if (type == KEEP_KEEP) {
        message.files = get_ids(&reader, KEEP_FILES_MAX);
    } else if (type == KEEP_KEPT) {
        const uint8_t verdict = field_get_u8(&reader);
        message.kept = field_get_u32(&reader);
        if (verdict < KEEP_WORKING || verdict > KEEP_REFUSED || message.kept > KEEP_FILES_MAX) {
            field_fail(&reader);
        }
        message.verdict = (enum keep_verdict)verdict;
    } else if (type == KEEP_SURVEY) {
        const struct bytes digest = field_get_raw(&reader, ID_BYTES);
        if (digest.size == ID_BYTES) {
            memcpy(message.digest.bytes, digest.data, ID_BYTES);
        }
        message.path = field_get_raw(&reader, reader.left.size);
        if (message.path.size > PATH_BYTES_MAX) {
            field_fail(&reader);
        }
    } else if (type == KEEP_SURVEYED) {
        get_survey(&reader, bytes.data[MESSAGE_MINOR_AT], &message.survey);
    } else if (type == KEEP_PROMISE || type == KEEP_NEED) {
        message.blocks = get_ids(&reader, KEEP_BLOCKS_MAX);
    } else if (type == KEEP_PROMISED || type == KEEP_NEEDED) {
        message.promises = get_promises(&reader);
    }
    if (reader.bad || (reader.left.size > 0 && is_exact)) {
        return -EPROTO;
    }
    *ret_message = message;
    return 0;
}
