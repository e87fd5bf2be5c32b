/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Matching by remembering the last star of each sort and trying one character more behind it: each
 * star restarts at most once a byte of the path, so the time is at most the product of the
 * lengths. A `**` that fails restarts at the next name, and forgets the star within the name.
 */

#include "tree/glob.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"

static struct bytes from(struct bytes text, size_t at)
{
    if (at == 0) {
        return text; /* which may be NULL */
    }
    return BYTES(text.data + at, text.size - at);
}

static struct bytes without_slash(struct bytes pattern)
{
    return pattern.size > 0 && pattern.data[0] == '/' ? from(pattern, 1) : pattern;
}

int glob_check(struct bytes pattern)
{
    if (pattern.size > GLOB_BYTES_MAX) {
        return -ENAMETOOLONG;
    }
    for (size_t at = 0; at < pattern.size; at++) {
        if (pattern.data[at] == 0) {
            return -EINVAL;
        }
        if (pattern.data[at] == '\\') {
            at++;
            if (at == pattern.size || pattern.data[at] == '/' || pattern.data[at] == 0) {
                return -EINVAL;
            }
            continue;
        }
        if (pattern.data[at] != '[') {
            continue;
        }
        size_t end = at + 1;
        if (end < pattern.size && (pattern.data[end] == '!' || pattern.data[end] == '^')) {
            end++;
        }
        end++; /* a ']' in the first place stands for itself */
        while (end < pattern.size && pattern.data[end] != ']') {
            end++;
        }
        if (end >= pattern.size || memchr(&pattern.data[at], '/', end - at) ||
            memchr(&pattern.data[at], 0, end - at)) {
            return -EINVAL;
        }
        at = end;
    }
    return 0;
}

/* The length of the UTF-8 sequence that begins here; 1 for what is none. */
static size_t character_bytes(struct bytes text)
{
    size_t size = 1;
    while (size < text.size && (text.data[size] & 0xc0) == 0x80) {
        size++;
    }
    return size;
}

/* `pattern` begins with '['. Tells how long the set is. */
static bool set_matches(struct bytes pattern, uint8_t byte, size_t *ret_size)
{
    size_t at = 1;
    const bool negated = pattern.data[at] == '!' || pattern.data[at] == '^';
    at += negated;
    bool found = false;
    for (bool first = true; first || pattern.data[at] != ']'; first = false) {
        const uint8_t low = pattern.data[at++];
        uint8_t high = low;
        if (pattern.data[at] == '-' && pattern.data[at + 1] != ']') {
            high = pattern.data[at + 1];
            at += 2;
        }
        found = found || (low <= byte && byte <= high);
    }
    *ret_size = at + 1;
    return found != negated;
}

/* Matches one element of the pattern that is no star with the beginning of the path. */
static bool step(struct bytes pattern, struct bytes path, size_t *ret_pattern, size_t *ret_path)
{
    const uint8_t want = pattern.data[0];
    *ret_pattern = 1;
    *ret_path = 1;
    if (want == '?') {
        *ret_path = character_bytes(path);
        return path.data[0] != '/';
    }
    if (want == '[') {
        return set_matches(pattern, path.data[0], ret_pattern) && path.data[0] != '/';
    }
    if (want == '\\') {
        *ret_pattern = 2;
        return pattern.data[1] == path.data[0];
    }
    return want == path.data[0];
}

/* `**` as a whole name, at `at`; tells how much of the pattern it takes, with the '/' behind it. */
static bool is_any_names(struct bytes pattern, size_t at, size_t *ret_size)
{
    if (pattern.size - at < 2 || pattern.data[at] != '*' || pattern.data[at + 1] != '*' ||
        (at > 0 && pattern.data[at - 1] != '/')) {
        return false;
    }
    if (pattern.size - at == 2) {
        *ret_size = 2;
        return true;
    }
    *ret_size = 3;
    return pattern.data[at + 2] == '/';
}

/* True if `pattern` is nothing but `**` names, of which the first comes behind `lead`. */
static bool is_only_any_names(struct bytes pattern, bool lead)
{
    while (lead || pattern.size > 0) {
        if (lead) {
            if (pattern.size == 0) {
                return true;
            }
            if (pattern.data[0] != '/') {
                return false;
            }
            pattern = from(pattern, 1);
        }
        if (pattern.size < 2 || pattern.data[0] != '*' || pattern.data[1] != '*') {
            return false;
        }
        pattern = from(pattern, 2);
        lead = true;
    }
    return true;
}

/* Where a match can be tried again. */
struct retry {
    bool is_set;
    size_t pattern;
    size_t path;
};

/* Begins anew behind the last star, one character or one name further; false if there is none. */
static bool try_again(struct bytes path, struct retry *star, struct retry *names,
                      size_t *ret_pattern, size_t *ret_path)
{
    if (star->is_set && star->path < path.size && path.data[star->path] != '/') {
        /* By bytes, not characters: a set may have matched a part of one. */
        star->path++;
        *ret_pattern = star->pattern;
        *ret_path = star->path;
        return true;
    }
    star->is_set = false;
    if (!names->is_set) {
        return false;
    }
    while (names->path < path.size && path.data[names->path] != '/') {
        names->path++;
    }
    if (names->path == path.size) {
        return false;
    }
    names->path++;
    *ret_pattern = names->pattern;
    *ret_path = names->path;
    return true;
}

bool glob_match(struct bytes pattern, struct bytes path)
{
    pattern = without_slash(pattern);
    if (path.size == 0) {
        return is_only_any_names(pattern, false); /* the root has no name */
    }
    struct retry star = {0};
    struct retry names = {0};
    size_t p = 0;
    size_t at = 0;
    for (;;) {
        size_t size = 0;
        if (p < pattern.size && is_any_names(pattern, p, &size)) {
            if (p + size == pattern.size && size == 2) {
                return true;
            }
            p += size;
            names = (struct retry){true, p, at};
            star.is_set = false;
            continue;
        }
        if (p < pattern.size && pattern.data[p] == '*') {
            p++;
            star = (struct retry){true, p, at};
            continue;
        }
        if (at == path.size && is_only_any_names(from(pattern, p), true)) {
            return true;
        }
        size_t path_size = 0;
        if (p < pattern.size && at < path.size &&
            step(from(pattern, p), from(path, at), &size, &path_size)) {
            p += size;
            at += path_size;
            continue;
        }
        if (!try_again(path, &star, &names, &p, &at)) {
            return false;
        }
    }
}

char *glob_of_words(const char *text)
{
    text += *text == '/';
    const size_t size = strlen(text);
    if (strpbrk(text, "*?[\\") || size == 0) {
        return mem_copy_string(size ? text : "**");
    }
    return mem_format("%.*s/**", (int)(text[size - 1] == '/' ? size - 1 : size), text);
}

bool glob_may_match_below(struct bytes pattern, struct bytes path)
{
    pattern = without_slash(pattern);
    /* Name by name: as many of the pattern's as the path has must match, and one must be left. */
    size_t begin = 0;
    while (path.size > 0) {
        size_t size = 0;
        if (begin < pattern.size && is_any_names(pattern, begin, &size)) {
            return true;
        }
        size_t end = begin;
        while (end < pattern.size && pattern.data[end] != '/') {
            end++;
        }
        size_t name_end = 0;
        while (name_end < path.size && path.data[name_end] != '/') {
            name_end++;
        }
        if (end == pattern.size ||
            !glob_match(BYTES(pattern.data + begin, end - begin), BYTES(path.data, name_end))) {
            return false;
        }
        begin = end + 1;
        path = name_end < path.size ? from(path, name_end + 1) : BYTES(NULL, 0);
    }
    return begin < pattern.size;
}
