/* SPDX-License-Identifier: Apache-2.0 */
#include "node/members_file.h"

#include <stdio.h>

#include "base/err.h"
#include "base/file.h"
#include "hash/crc32c.h"
#include "wire/fields.h"

#define VERSION 1
#define HEAD_BYTES 9
/* As the cluster: beyond it no numbers would be left. */
#define INCARNATION_MAX ((uint64_t)1 << 62)

void members_file_format(const struct members_file *file, struct buf *ret_bytes)
{
    const size_t start = ret_bytes->size;
    field_put_u8(ret_bytes, VERSION);
    field_put_u64(ret_bytes, file->incarnation);
    field_put_u32(ret_bytes, crc32c(BYTES(ret_bytes->data + start, HEAD_BYTES)));
    buf_add(ret_bytes, file->roster);
}

int members_file_parse(struct bytes bytes, struct members_file *ret_file)
{
    struct field_reader reader = field_reader_of(bytes);
    const uint8_t version = field_get_u8(&reader);
    if (!reader.bad && version > VERSION) {
        return -EPROTONOSUPPORT;
    }
    const uint64_t incarnation = field_get_u64(&reader);
    const uint32_t sum = field_get_u32(&reader);
    if (reader.bad || version != VERSION || sum != crc32c(BYTES(bytes.data, HEAD_BYTES)) ||
        incarnation == 0 || incarnation >= INCARNATION_MAX) {
        return -EPROTO;
    }
    *ret_file = (struct members_file){.incarnation = incarnation, .roster = reader.left};
    return 0;
}

int members_file_load(int dir_fd, struct buf *buf, struct members_file *ret_file)
{
    const int err = file_read_path(dir_fd, MEMBERS_FILE_NAME, MEMBERS_FILE_BYTES_MAX, buf);
    if (err) {
        return err == -EFBIG || err == -EISDIR ? -EPROTO : err;
    }
    return members_file_parse(buf_bytes(buf), ret_file);
}

int members_file_store(int dir_fd, const struct members_file *file)
{
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    members_file_format(file, &bytes);
    return file_replace(dir_fd, MEMBERS_FILE_NAME, buf_bytes(&bytes));
}

int members_file_move_aside(int dir_fd)
{
    return renameat(dir_fd, MEMBERS_FILE_NAME, dir_fd, MEMBERS_FILE_ASIDE) < 0
               ? err_from_errno(errno)
               : 0;
}
