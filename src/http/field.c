/* SPDX-License-Identifier: Apache-2.0 */
#include "http/field.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/hex.h"

#define NS_PER_S 1000000000

/* A number at *at; false if there is none. What does not fit is beyond any file. */
static bool read_number(const char **at, uint64_t *ret_number)
{
    const char *begin = *at;
    uint64_t number = 0;
    bool fits = true;
    for (; **at >= '0' && **at <= '9'; (*at)++) {
        fits = fits && !__builtin_mul_overflow(number, 10u, &number) &&
               !__builtin_add_overflow(number, (uint64_t)(**at - '0'), &number);
    }
    *ret_number = fits ? number : UINT64_MAX;
    return *at != begin;
}

enum field_range field_range_parse(const char *text, uint64_t length_bytes,
                                   uint64_t *ret_begin_bytes, uint64_t *ret_end_bytes)
{
    if (strncmp(text, "bytes=", 6) != 0 || strchr(text, ',')) {
        return FIELD_RANGE_NONE;
    }
    const char *at = text + 6;
    uint64_t first = 0;
    uint64_t last = 0;
    const bool has_first = read_number(&at, &first);
    if (*at++ != '-') {
        return FIELD_RANGE_BAD;
    }
    const bool has_last = read_number(&at, &last);
    if (*at || (!has_first && !has_last) || (has_first && has_last && last < first)) {
        return FIELD_RANGE_BAD;
    }
    if (!has_first) {
        if (last == 0 || length_bytes == 0) {
            return FIELD_RANGE_BAD;
        }
        *ret_begin_bytes = last < length_bytes ? length_bytes - last : 0;
        *ret_end_bytes = length_bytes;
        return FIELD_RANGE_ONE;
    }
    if (first >= length_bytes) {
        return FIELD_RANGE_BAD;
    }
    *ret_begin_bytes = first;
    *ret_end_bytes = has_last && last < length_bytes ? last + 1 : length_bytes;
    return FIELD_RANGE_ONE;
}

bool field_etag_matches(const char *text, const struct id *id)
{
    char hex[ID_HEX_CHARS + 1];
    id_format(id, hex);
    for (;;) {
        text += strspn(text, " \t,");
        if (*text == 0) {
            return false;
        }
        if (*text == '*') {
            return true;
        }
        text += strncmp(text, "W/", 2) == 0 ? 2 : 0;
        const bool quoted = *text == '"';
        text += quoted;
        const size_t size = strcspn(text, quoted ? "\"" : " \t,");
        if (size == ID_HEX_CHARS && memcmp(text, hex, size) == 0) {
            return true;
        }
        text += size;
        text += quoted && *text == '"';
    }
}

int field_etag_parse(const char *text, struct id *ret_id)
{
    const size_t size = strlen(text);
    const size_t quotes = text[0] == '"';
    if (size != ID_HEX_CHARS + 2 * quotes || (quotes && text[size - 1] != '"')) {
        return -EINVAL;
    }
    return id_parse(BYTES((const uint8_t *)text + quotes, ID_HEX_CHARS), ret_id) ? -EINVAL : 0;
}

/* The whole second that `ns` is in, and *ret_rest_ns within it. */
static struct tm split_time(int64_t ns, int *ret_rest_ns)
{
    int64_t seconds = ns / NS_PER_S;
    int64_t rest = ns % NS_PER_S;
    if (rest < 0) {
        rest += NS_PER_S;
        seconds--;
    }
    const time_t when = (time_t)seconds;
    struct tm tm;
    gmtime_r(&when, &tm);
    *ret_rest_ns = (int)rest;
    return tm;
}

/* `count` digits of `number`. */
static void put_digits(char *at, int number, int count)
{
    while (count-- > 0) {
        at[count] = (char)('0' + number % 10);
        number /= 10;
    }
}

void field_time_format(int64_t ns, char ret_text[FIELD_TIME_BYTES])
{
    int rest_ns = 0;
    const struct tm tm = split_time(ns, &rest_ns);
    /* Listings are full of these: without strftime() and snprintf(). 64 bits of nanoseconds reach
     * from 1677 to 2262. */
    memcpy(ret_text, "0000-00-00T00:00:00.000000000Z", sizeof "0000-00-00T00:00:00.000000000Z");
    put_digits(ret_text, tm.tm_year + 1900, 4);
    put_digits(ret_text + 5, tm.tm_mon + 1, 2);
    put_digits(ret_text + 8, tm.tm_mday, 2);
    put_digits(ret_text + 11, tm.tm_hour, 2);
    put_digits(ret_text + 14, tm.tm_min, 2);
    put_digits(ret_text + 17, tm.tm_sec, 2);
    put_digits(ret_text + 20, rest_ns, 9);
}

void field_date_format(int64_t ns, char ret_text[FIELD_TIME_BYTES])
{
    int rest_ns = 0;
    const struct tm tm = split_time(ns, &rest_ns);
    strftime(ret_text, FIELD_TIME_BYTES, "%a, %d %b %Y %H:%M:%S GMT", &tm);
}

int field_time_parse(const char *text, int64_t *ret_ns)
{
    const bool negative = *text == '-';
    const char *at = text + negative;
    uint64_t seconds = 0;
    if (!read_number(&at, &seconds) || seconds > INT64_MAX / NS_PER_S - 1) {
        return -EINVAL;
    }
    int64_t rest_ns = 0;
    if (*at == '.') {
        int64_t unit_ns = NS_PER_S / 10;
        for (at++; *at >= '0' && *at <= '9' && unit_ns > 0; at++, unit_ns /= 10) {
            rest_ns += unit_ns * (*at - '0');
        }
    }
    if (*at) {
        return -EINVAL;
    }
    const int64_t ns = (int64_t)seconds * NS_PER_S + rest_ns;
    *ret_ns = negative ? -ns : ns;
    return 0;
}

int field_mode_parse(const char *text, uint32_t *ret_mode)
{
    uint32_t mode = 0;
    size_t digits = 0;
    for (; text[digits] >= '0' && text[digits] <= '7' && digits < 5; digits++) {
        mode = mode * 8 + (uint32_t)(text[digits] - '0');
    }
    if (digits == 0 || text[digits] || mode > 07777) {
        return -EINVAL;
    }
    *ret_mode = mode;
    return 0;
}

int field_number_parse(const char *text, uint64_t least, uint64_t most, uint64_t *ret_number)
{
    uint64_t number = 0;
    if (!read_number(&text, &number) || *text || number < least || number > most) {
        return -EINVAL;
    }
    *ret_number = number;
    return 0;
}

void field_dot_format(const struct dot *dot, char ret_text[FIELD_DOT_BYTES])
{
    hex_format(dot->origin.bytes, sizeof dot->origin.bytes, ret_text);
    snprintf(ret_text + 32, FIELD_DOT_BYTES - 32, ":%llu", (unsigned long long)dot->seq);
}

int field_dot_parse(const char *text, struct dot *ret_dot)
{
    struct dot dot;
    const size_t digits = 2 * sizeof dot.origin.bytes;
    if (strnlen(text, digits + 1) <= digits || text[digits] != ':' ||
        hex_parse(BYTES((const uint8_t *)text, digits), sizeof dot.origin.bytes,
                  dot.origin.bytes) ||
        field_number_parse(text + digits + 1, 1, FIELD_SEQ_MAX, &dot.seq)) {
        return -EINVAL;
    }
    *ret_dot = dot;
    return 0;
}
