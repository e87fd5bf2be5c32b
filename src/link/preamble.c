/* SPDX-License-Identifier: Apache-2.0 */
#include "link/preamble.h"

#include <errno.h>

#include "wire/fields.h"

static const uint8_t magic[] = {0xA7, 'a', 'r', 't', 'e', 'l'};

void preamble_format(const struct preamble *preamble, struct buf *ret_bytes)
{
    buf_add(ret_bytes, BYTES(magic, sizeof magic));
    field_put_u8(ret_bytes, PREAMBLE_MAJOR);
    field_put_u8(ret_bytes, PREAMBLE_MINOR);
    field_put_u16(ret_bytes, PREAMBLE_BYTES - PREAMBLE_PREFIX_BYTES);
    field_put_u8(ret_bytes, preamble->verdict);
    field_put_node_id(ret_bytes, &preamble->id);
    field_put_u64(ret_bytes, preamble->boot_nonce);
    field_put_node_id(ret_bytes, &preamble->expected);
    field_put_u64(ret_bytes, preamble->number);
    field_put_u64(ret_bytes, preamble->known_nonce);
    field_put_u64(ret_bytes, preamble->known_number);
}

/* 0: the prefix is there; its size field is looked at by the caller. */
static int check_prefix(struct bytes bytes)
{
    const size_t compared = bytes.size < sizeof magic ? bytes.size : sizeof magic;
    if (compared > 0 && memcmp(bytes.data, magic, compared) != 0) {
        return -EPROTO;
    }
    if (bytes.size > sizeof magic && bytes.data[sizeof magic] != PREAMBLE_MAJOR) {
        return -EPROTONOSUPPORT;
    }
    return bytes.size < PREAMBLE_PREFIX_BYTES ? -EAGAIN : 0;
}

int preamble_parse(struct bytes bytes, struct preamble *ret_preamble, size_t *ret_size)
{
    const int err = check_prefix(bytes);
    if (err) {
        return err;
    }
    const uint8_t minor = bytes.data[sizeof magic + 1];
    const size_t size = codec_get_le16(bytes.data + 8) + (size_t)PREAMBLE_PREFIX_BYTES;
    if (size < PREAMBLE_BYTES || size > PREAMBLE_BYTES_MAX ||
        (size > PREAMBLE_BYTES && minor <= PREAMBLE_MINOR)) {
        return -EPROTO;
    }
    if (bytes.size < size) {
        return -EAGAIN;
    }
    struct field_reader reader =
        field_reader_of(BYTES(bytes.data + PREAMBLE_PREFIX_BYTES, size - PREAMBLE_PREFIX_BYTES));
    ret_preamble->minor = minor;
    ret_preamble->verdict = field_get_u8(&reader);
    ret_preamble->id = field_get_node_id(&reader);
    ret_preamble->boot_nonce = field_get_u64(&reader);
    ret_preamble->expected = field_get_node_id(&reader);
    ret_preamble->number = field_get_u64(&reader);
    ret_preamble->known_nonce = field_get_u64(&reader);
    ret_preamble->known_number = field_get_u64(&reader);
    *ret_size = size;
    return 0;
}
