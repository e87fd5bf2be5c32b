/* SPDX-License-Identifier: Apache-2.0 */
#include "client/percent.h"

static bool is_unreserved(uint8_t byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || byte == '-' || byte == '.' || byte == '_' || byte == '~';
}

void percent_add(struct buf *url, struct bytes text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (is_unreserved(text.data[i])) {
            buf_add_byte(url, text.data[i]);
        } else {
            buf_add_format(url, "%%%02X", text.data[i]);
        }
    }
}

void percent_add_path(struct buf *url, const char *path)
{
    for (const char *at = path; *at; at++) {
        if (*at == '/') {
            buf_add_byte(url, '/');
        } else {
            percent_add(url, BYTES((const uint8_t *)at, 1));
        }
    }
}

void percent_add_literal(struct buf *pattern, const char *text)
{
    for (const char *at = text; *at; at++) {
        if (strchr("*?[]\\", *at)) {
            buf_add_byte(pattern, '\\');
        }
        buf_add_byte(pattern, (uint8_t)*at);
    }
}
