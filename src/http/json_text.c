/* SPDX-License-Identifier: Apache-2.0 */
#include "http/json_text.h"

#include <inttypes.h>

#include "base/utf8.h"
#include "http/field.h"

#define ADD_LITERAL(text, literal)                                                                 \
    buf_add((text), BYTES((const uint8_t *)(literal), sizeof(literal) - 1))

/* Stands for itself in a string. */
static bool is_plain(uint8_t byte)
{
    return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
}

/* How many bytes at the beginning can be taken as they are. */
static size_t plain_size(struct bytes string)
{
    size_t size = 0;
    while (size < string.size) {
        if (is_plain(string.data[size])) {
            size++;
            continue;
        }
        const size_t char_size =
            string.data[size] < 0x80
                ? 0
                : utf8_char_size(BYTES(string.data + size, string.size - size));
        if (char_size == 0) {
            break;
        }
        size += char_size;
    }
    return size;
}

/* A character of ASCII that has to be escaped. */
static void add_escaped(struct buf *text, uint8_t character)
{
    static const char shorts[] = "\"\"\\\\\bb\ff\nn\rr\tt"; /* character, letter */
    for (size_t i = 0; i + 1 < sizeof shorts; i += 2) {
        if ((uint8_t)shorts[i] == character) {
            buf_add_byte(text, '\\');
            buf_add_byte(text, (uint8_t)shorts[i + 1]);
            return;
        }
    }
    buf_add_format(text, "\\u%04X", character);
}

void json_text_add_string(struct buf *text, struct bytes string)
{
    const size_t begin = text->size;
    buf_add_byte(text, '"');
    while (string.size > 0) {
        const size_t plain = plain_size(string);
        buf_add(text, BYTES(string.data, plain));
        if (plain == string.size) {
            break;
        }
        if (string.data[plain] >= 0x80) {
            text->size = begin + 1;
            break;
        }
        add_escaped(text, string.data[plain]);
        string = BYTES(string.data + plain + 1, string.size - plain - 1);
    }
    buf_add_byte(text, '"');
}

static bool is_atomic(const struct tree_version *version)
{
    struct bytes rest = version->attributes;
    struct tree_attribute attribute;
    while (tree_attribute_next(&rest, &attribute)) {
        if (bytes_equal(attribute.name, bytes_of_string(TREE_ATTRIBUTE_ATOMIC))) {
            return true;
        }
    }
    return false;
}

void json_text_add_entry_members(struct buf *text, const struct tree_entry *entry)
{
    const struct tree_version *version = &entry->version;
    switch (version->kind) {
    case TREE_FILE: {
        char hex[ID_HEX_CHARS + 1];
        id_format(&version->file_id, hex);
        ADD_LITERAL(text, "\"type\":\"file\",\"id\":\"");
        buf_add(text, BYTES((const uint8_t *)hex, ID_HEX_CHARS));
        buf_add_format(text, "\",\"length\":%" PRIu64, version->size_bytes);
        break;
    }
    case TREE_SYMLINK:
        ADD_LITERAL(text, "\"type\":\"symlink\",\"target\":");
        json_text_add_string(text, version->target);
        break;
    case TREE_DIRECTORY:
    case TREE_DELETE:
        ADD_LITERAL(text, "\"type\":\"directory\"");
        if (is_atomic(version)) {
            ADD_LITERAL(text, ",\"atomic\":true");
        }
        break;
    }
    ADD_LITERAL(text, ",\"mode\":\"");
    for (int shift = 9; shift >= 0; shift -= 3) {
        buf_add_byte(text, (uint8_t)('0' + ((version->mode >> shift) & 7)));
    }
    buf_add_byte(text, '"');
    if (entry->is_explicit) {
        char time[FIELD_TIME_BYTES];
        field_time_format(version->mtime_ns, time);
        ADD_LITERAL(text, ",\"mtime\":\"");
        buf_add_string(text, time);
        buf_add_byte(text, '"');
    }
    if (entry->heads_count > 1) {
        buf_add_format(text, ",\"conflicts\":%" PRIu32, entry->heads_count - 1);
    }
}

void json_text_add_entry(struct buf *text, struct bytes path, const struct tree_entry *entry)
{
    ADD_LITERAL(text, "{\"path\":");
    json_text_add_string(text, path);
    buf_add_byte(text, ',');
    json_text_add_entry_members(text, entry);
    buf_add_byte(text, '}');
}
