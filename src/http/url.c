/* SPDX-License-Identifier: Apache-2.0 */
#include "http/url.h"

#include <string.h>

#include "base/err.h"
#include "wire/path.h"

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int url_decode(const char *text, size_t size, struct buf *ret_bytes)
{
    for (size_t i = 0; i < size; i++) {
        if (text[i] != '%') {
            buf_add_byte(ret_bytes, (uint8_t)text[i]);
            continue;
        }
        const int high = i + 1 < size ? hex_digit(text[i + 1]) : -1;
        const int low = i + 2 < size ? hex_digit(text[i + 2]) : -1;
        if (high < 0 || low < 0) {
            return -EINVAL;
        }
        buf_add_byte(ret_bytes, (uint8_t)(high << 4 | low));
        i += 2;
    }
    return 0;
}

int url_decode_path(const char *text, struct buf *ret_path, bool *ret_has_slash)
{
    bool has_slash = false;
    text += *text == '/';
    while (*text) {
        const size_t size = strcspn(text, "/");
        const size_t begin = ret_path->size;
        const int err = url_decode(text, size, ret_path);
        if (err) {
            return err;
        }
        if (size == 0 || memchr(ret_path->data + begin, '/', ret_path->size - begin)) {
            return -EINVAL;
        }
        text += size;
        has_slash = *text == '/';
        text += has_slash;
        if (*text) {
            buf_add_byte(ret_path, '/');
        }
    }
    *ret_has_slash = has_slash;
    return path_check(buf_bytes(ret_path));
}
