/* SPDX-License-Identifier: Apache-2.0 */
#include "client/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

void text_add_size(struct buf *out, uint64_t size_bytes)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (size_bytes < 1000) {
        buf_add_format(out, "%" PRIu64 " B", size_bytes);
        return;
    }
    double value = (double)size_bytes / 1024;
    size_t unit = 0;
    /* 1000 KiB would take five characters. */
    while (value >= 999.5 && unit + 1 < ARRAY_SIZE(units)) {
        value /= 1024;
        unit++;
    }
    buf_add_format(out, value < 9.95 ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

void text_add_duration(struct buf *out, uint64_t seconds)
{
    const uint64_t longest = 99 * 3600 + 59 * 60 + 59;
    seconds = seconds > longest ? longest : seconds;
    const unsigned hours = (unsigned)(seconds / 3600);
    const unsigned minutes = (unsigned)(seconds / 60 % 60);
    const unsigned rest = (unsigned)(seconds % 60);
    if (hours) {
        buf_add_format(out, "%u:%02u:%02u", hours, minutes, rest);
    } else {
        buf_add_format(out, "%u:%02u", minutes, rest);
    }
}

/* How many bytes of `at` are one control character: C0, DEL, or C1 in UTF-8. */
static size_t control_bytes(const char *at)
{
    const uint8_t first = (uint8_t)at[0];
    if (first < 0x20 || first == 0x7f) {
        return 1;
    }
    const uint8_t second = first == 0xc2 ? (uint8_t)at[1] : 0;
    return second >= 0x80 && second <= 0x9f ? 2 : 0;
}

/* One character, or the first byte of one; gives how many bytes it took. */
static size_t add_char(struct buf *out, const char *at, bool to_terminal)
{
    const size_t control = to_terminal ? control_bytes(at) : 0;
    buf_add_byte(out, control ? '?' : (uint8_t)*at);
    return control ? control : 1;
}

void text_add_name(struct buf *out, const char *name, bool to_terminal)
{
    while (*name) {
        name += add_char(out, name, to_terminal);
    }
}

size_t text_width(const char *text)
{
    size_t width = 0;
    for (; *text; text++) {
        width += ((uint8_t)*text & 0xc0) != 0x80; /* the bytes behind the first of a character */
    }
    return width;
}

void text_add_id_line(struct buf *out, const char *id, const char *name, bool to_terminal)
{
    if (strpbrk(name, "\\\n")) {
        buf_add_byte(out, '\\');
    }
    buf_add_format(out, "%s  ", id);
    for (const char *at = name; *at;) {
        if (*at == '\\' || *at == '\n') {
            buf_add_byte(out, '\\');
            buf_add_byte(out, *at == '\n' ? 'n' : '\\');
            at++;
        } else {
            at += add_char(out, at, to_terminal);
        }
    }
    buf_add_byte(out, '\n');
}

void text_add_json(struct buf *out, const json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT);
    CHECK(text != NULL);
    buf_add_string(out, text);
    buf_add_byte(out, '\n');
    free(text);
}

int text_parse_mode(const char *text, mode_t *ret_mode)
{
    mode_t mode = 0;
    if (!*text || strlen(text) > 5) {
        return -EINVAL;
    }
    for (const char *at = text; *at; at++) {
        if (*at < '0' || *at > '7') {
            return -EINVAL;
        }
        mode = mode * 8 + (mode_t)(*at - '0');
    }
    if (mode > 07777) {
        return -EINVAL;
    }
    *ret_mode = mode;
    return 0;
}

int text_parse_time(const char *text, struct timespec *ret_time)
{
    struct tm tm = {0};
    int used = 0;
    /* Each number has a width, so none can overflow. */
    if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
               &tm.tm_min, &tm.tm_sec, &used) != 6) {
        return -EINVAL;
    }
    const char *at = text + used;
    long nanoseconds = 0;
    if (*at == '.') {
        int digits = 0;
        for (at++; *at >= '0' && *at <= '9' && digits < 9; at++, digits++) {
            nanoseconds = nanoseconds * 10 + (*at - '0');
        }
        for (; digits < 9; digits++) {
            nanoseconds *= 10;
        }
    }
    if (strcmp(at, "Z") != 0) {
        return -EINVAL;
    }
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    *ret_time = (struct timespec){.tv_sec = timegm(&tm), .tv_nsec = nanoseconds};
    return 0;
}

char *text_tree_path(const char *path)
{
    while (*path == '/') {
        path++;
    }
    size_t size = strlen(path);
    while (size > 0 && path[size - 1] == '/') {
        size--;
    }
    char *copy = mem_copy(path, size + 1);
    copy[size] = 0;
    return copy;
}

const char *text_last_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

char *text_join(const char *parent, const char *name)
{
    return *parent ? mem_format("%s/%s", parent, name) : mem_copy_string(name);
}
