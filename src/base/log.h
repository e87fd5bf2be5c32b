/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

/*
 * log: one line an event on standard error, in logfmt:
 *
 *     log_warn("block_corrupt", KV("id", hex), KV("segment", number));
 *     time=2026-01-02T03:04:05.678Z level=warn event=block_corrupt id=... segment=7
 *
 * Event names are stable, lower case with underscores. Libraries log at debug only; a failure is
 * logged once, by whoever decides what to do about it. A line is written by one write(2) and is
 * at most LOG_LINE_BYTES_MAX long (cut beyond that). Callable from any thread.
 *
 * The level is the one mutable thing in the process that nobody owns: set once at start.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_LINE_BYTES_MAX 4096

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF };

enum log_type { LOG_TYPE_END, LOG_TYPE_STRING, LOG_TYPE_SIGNED, LOG_TYPE_UNSIGNED, LOG_TYPE_REAL };

struct log_field {
    const char *key;
    enum log_type type;
    union {
        const char *string;
        int64_t number;
        uint64_t count;
        double real;
    } value;
};

static inline struct log_field log_field_string(const char *key, const char *value)
{
    return (struct log_field){key, LOG_TYPE_STRING, {.string = value}};
}

static inline struct log_field log_field_signed(const char *key, int64_t value)
{
    return (struct log_field){key, LOG_TYPE_SIGNED, {.number = value}};
}

static inline struct log_field log_field_unsigned(const char *key, uint64_t value)
{
    return (struct log_field){key, LOG_TYPE_UNSIGNED, {.count = value}};
}

static inline struct log_field log_field_real(const char *key, double value)
{
    return (struct log_field){key, LOG_TYPE_REAL, {.real = value}};
}

/* One field: a C string (a NULL leaves the field out), an integer or a double. */
/* clang-format off: one kind of field a line */
#define KV(key, value)                                                                             \
    _Generic((value),                                                                              \
             char *: log_field_string, const char *: log_field_string,                             \
             float: log_field_real, double: log_field_real,                                        \
             char: log_field_signed, signed char: log_field_signed, short: log_field_signed,       \
             int: log_field_signed, long: log_field_signed, long long: log_field_signed,           \
             default: log_field_unsigned)(key, value)
/* clang-format on */

/* Levels below `level` are not written. LOG_INFO at the start. */
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

/* "debug", "info", "warn", "error" or "off" -> true and the level. */
bool log_level_parse(const char *name, enum log_level *ret_level);

/* `fields` ends with LOG_FIELDS_END. Use the macros. */
void log_emit(enum log_level level, const char *event, const struct log_field *fields);

#define LOG_FIELDS_END ((struct log_field){NULL, LOG_TYPE_END, {0}})

/* The macros: log_warn(event, fields...). The end stands among the variable arguments so that
 * they are never none, which ISO C does not allow. Fields are computed only if they are written. */
#define LOG_EMIT(level, event, ...)                                                                \
    do {                                                                                           \
        if (log_enabled(level)) {                                                                  \
            log_emit(level, event, (const struct log_field[]){__VA_ARGS__});                       \
        }                                                                                          \
    } while (0)

#define log_debug(...) LOG_EMIT(LOG_DEBUG, __VA_ARGS__, LOG_FIELDS_END)
#define log_info(...) LOG_EMIT(LOG_INFO, __VA_ARGS__, LOG_FIELDS_END)
#define log_warn(...) LOG_EMIT(LOG_WARN, __VA_ARGS__, LOG_FIELDS_END)
#define log_error(...) LOG_EMIT(LOG_ERROR, __VA_ARGS__, LOG_FIELDS_END)

#endif
