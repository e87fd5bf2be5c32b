/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/path.h"

#include <errno.h>

#include "base/mem.h"

/*
 * UTF-8 as RFC 3629, section 4, writes it down: a row tells what the first byte may be, what the
 * second, and how many bytes the character has; all after the second are UTF8_TAIL. That the
 * second byte's range depends on the first is what leaves out overlong forms (E0, F0), surrogates
 * (ED) and what is above U+10FFFF (F4).
 */
static const struct utf8_form {
    uint8_t first_low, first_high;
    uint8_t second_low, second_high;
    uint8_t size;
} utf8_forms[] = {
    {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
    {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
    {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
};

#define UTF8_ONE_BYTE_MAX 0x7f
#define UTF8_TAIL_LOW 0x80
#define UTF8_TAIL_HIGH 0xbf

static inline bool is_in(uint8_t byte, uint8_t low, uint8_t high)
{
    return byte >= low && byte <= high;
}

/* How many bytes of `text`, which is not empty, its first character takes; 0 if it is none. */
static size_t utf8_char_size(struct bytes text)
{
    const uint8_t *at = text.data;
    if (at[0] <= UTF8_ONE_BYTE_MAX) {
        return 1;
    }
    for (size_t i = 0; i < ARRAY_SIZE(utf8_forms); i++) {
        const struct utf8_form *form = &utf8_forms[i];
        if (!is_in(at[0], form->first_low, form->first_high)) {
            continue;
        }
        if (text.size < form->size || !is_in(at[1], form->second_low, form->second_high)) {
            return 0;
        }
        for (size_t tail = 2; tail < form->size; tail++) {
            if (!is_in(at[tail], UTF8_TAIL_LOW, UTF8_TAIL_HIGH)) {
                return 0;
            }
        }
        return form->size;
    }
    return 0;
}

/* `text` without its first `count` bytes. */
static inline struct bytes without(struct bytes text, size_t count)
{
    return count ? BYTES(text.data + count, text.size - count) : text;
}

/* What stands before the first '/': the whole path if there is none. */
static struct bytes first_name(struct bytes path)
{
    const uint8_t *slash = path.size ? memchr(path.data, '/', path.size) : NULL;
    return slash ? BYTES(path.data, (size_t)(slash - path.data)) : path;
}

static bool is_dots(struct bytes name)
{
    return bytes_equal(name, bytes_of_string(".")) || bytes_equal(name, bytes_of_string(".."));
}

int path_check_name(struct bytes name)
{
    if (name.size == 0 || is_dots(name)) {
        return -EINVAL;
    }
    if (name.size > PATH_NAME_BYTES_MAX) {
        return -ENAMETOOLONG;
    }
    while (name.size) {
        const size_t char_size = utf8_char_size(name);
        if (char_size == 0) {
            return -EILSEQ;
        }
        if (name.data[0] == 0 || name.data[0] == '/') {
            return -EINVAL;
        }
        name = without(name, char_size);
    }
    return 0;
}

int path_check(struct bytes path)
{
    if (path.size > PATH_BYTES_MAX) {
        return -ENAMETOOLONG;
    }
    if (path.size == 0) {
        return 0;
    }
    for (;;) {
        const struct bytes name = first_name(path);
        const int err = path_check_name(name);
        if (err || name.size == path.size) {
            return err;
        }
        path = without(path, name.size + 1); /* empty behind a '/' at the end: no name */
    }
}

struct bytes path_next(struct bytes *rest)
{
    const struct bytes name = first_name(*rest);
    const size_t slash = name.size < rest->size;
    *rest = without(*rest, name.size + slash);
    return name;
}

void path_split(struct bytes path, struct bytes *ret_parent, struct bytes *ret_name)
{
    size_t begin = path.size;
    while (begin > 0 && path.data[begin - 1] != '/') {
        begin--;
    }
    *ret_parent = BYTES(path.data, begin ? begin - 1 : 0);
    *ret_name = without(path, begin);
}

bool path_is_within(struct bytes path, struct bytes top)
{
    if (top.size == 0) {
        return true;
    }
    return path.size >= top.size && memcmp(path.data, top.data, top.size) == 0 &&
           (path.size == top.size || path.data[top.size] == '/');
}
