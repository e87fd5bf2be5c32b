/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/utf8.h"

/*
 * A line is built on the stack and leaves by one write(), so that lines of threads never mix and
 * that logging works when memory is out. Values come from peers and users: whatever could end the
 * line, forge a field or speak to a terminal is escaped.
 */

static const char *const level_names[] = {
    [LOG_DEBUG] = "debug", [LOG_INFO] = "info", [LOG_WARN] = "warn",
    [LOG_ERROR] = "error", [LOG_OFF] = "off",
};

static _Atomic int level_now = LOG_INFO;

/* What always fits: the quote that closes a value which was cut, and the end of the line. */
#define LINE_END_BYTES 2

struct line {
    char text[LOG_LINE_BYTES_MAX];
    size_t size;
    bool is_cut; /* nothing is added any more */
};

/* Adds all of `size` bytes or, when they don't fit, nothing from here on. */
static void line_add(struct line *line, const char *text, size_t size)
{
    if (line->is_cut || line->size + size > sizeof line->text - LINE_END_BYTES) {
        line->is_cut = true;
        return;
    }
    memcpy(line->text + line->size, text, size);
    line->size += size;
}

static void line_add_string(struct line *line, const char *text)
{
    line_add(line, text, strlen(text));
}

/* For what is known to be short: numbers and times. */
__attribute__((format(printf, 2, 3))) static void line_add_format(struct line *line,
                                                                  const char *format, ...)
{
    char text[64];
    va_list arguments;
    va_start(arguments, format);
    const int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    CHECK(size >= 0 && (size_t)size < sizeof text);
    line_add(line, text, (size_t)size);
}

/* How many bytes at `at`, which a NUL ends, can be written as they are; 0 if the first must be
 * escaped. */
static size_t plain_size(const uint8_t *at)
{
    const struct bytes text = BYTES(at, strnlen((const char *)at, UTF8_CHAR_BYTES_MAX));
    return utf8_is_control(text) || at[0] == '"' || at[0] == '\\' ? 0 : utf8_char_size(text);
}

static bool needs_quotes(const uint8_t *value)
{
    if (!*value) {
        return true;
    }
    while (*value) {
        const size_t size = plain_size(value);
        if (size == 0 || *value == ' ' || *value == '=') {
            return true;
        }
        value += size;
    }
    return false;
}

static void line_add_escaped(struct line *line, uint8_t byte)
{
    switch (byte) {
    case '"':
        line_add_string(line, "\\\"");
        break;
    case '\\':
        line_add_string(line, "\\\\");
        break;
    case '\n':
        line_add_string(line, "\\n");
        break;
    case '\r':
        line_add_string(line, "\\r");
        break;
    case '\t':
        line_add_string(line, "\\t");
        break;
    default:
        line_add_format(line, "\\x%02x", byte);
        break;
    }
}

static void line_add_value(struct line *line, const char *value)
{
    const uint8_t *at = (const uint8_t *)value;
    if (!needs_quotes(at)) {
        /* Bit by bit, so that a cut never falls into a character. */
        for (; *at && !line->is_cut; at += plain_size(at)) {
            line_add(line, (const char *)at, plain_size(at));
        }
        return;
    }
    line_add(line, "\"", 1);
    if (line->is_cut) {
        return;
    }
    while (*at && !line->is_cut) {
        const size_t size = plain_size(at);
        if (size > 0) {
            line_add(line, (const char *)at, size);
        } else {
            line_add_escaped(line, *at);
        }
        at += size > 0 ? size : 1;
    }
    line->text[line->size++] = '"'; /* LINE_END_BYTES kept the room */
}

static void line_add_time(struct line *line)
{
    struct timespec now;
    struct tm utc;
    CHECK(clock_gettime(CLOCK_REALTIME, &now) == 0 && gmtime_r(&now.tv_sec, &utc));
    line_add_format(line, "time=%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", utc.tm_year + 1900,
                    utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
                    (int)(now.tv_nsec / 1000000));
}

static void line_add_field(struct line *line, const struct log_field *field)
{
    if (field->type == LOG_TYPE_STRING && !field->value.string) {
        return;
    }
    line_add(line, " ", 1);
    line_add_string(line, field->key);
    line_add(line, "=", 1);
    switch (field->type) {
    case LOG_TYPE_STRING:
        line_add_value(line, field->value.string);
        break;
    case LOG_TYPE_SIGNED:
        line_add_format(line, "%" PRId64, field->value.number);
        break;
    case LOG_TYPE_UNSIGNED:
        line_add_format(line, "%" PRIu64, field->value.count);
        break;
    case LOG_TYPE_REAL:
        line_add_format(line, "%.6g", field->value.real);
        break;
    case LOG_TYPE_END:
        break;
    }
}

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&level_now, (int)level, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
    return level != LOG_OFF && (int)level >= atomic_load_explicit(&level_now, memory_order_relaxed);
}

bool log_level_parse(const char *name, enum log_level *ret_level)
{
    for (size_t i = 0; i < ARRAY_SIZE(level_names); i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *ret_level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

void log_emit(enum log_level level, const char *event, const struct log_field *fields)
{
    const int errno_before = errno;
    struct line line;
    line.size = 0;
    line.is_cut = false;

    line_add_time(&line);
    line_add_string(&line, " level=");
    line_add_string(&line, level_names[level]);
    line_add_string(&line, " event=");
    line_add_value(&line, event);
    for (const struct log_field *field = fields; field->type != LOG_TYPE_END; field++) {
        line_add_field(&line, field);
    }
    line.text[line.size++] = '\n';

    /* Who cannot log has nowhere to say so. */
    ssize_t written;
    do {
        written = write(STDERR_FILENO, line.text, line.size);
    } while (written < 0 && errno == EINTR);
    errno = errno_before;
}
