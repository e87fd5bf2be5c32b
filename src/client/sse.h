/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_SSE_H
#define CLIENT_SSE_H

/*
 * sse: a parser of Server-Sent Events (HTML Living Standard, section 9.2.6, "Interpreting an event
 * stream"): bytes in, in pieces cut anywhere; events out. Lines end with LF, CR LF or CR; the
 * fields are id, event and data; `retry`, other fields and comments are passed over. What is left
 * at the end of the stream without an empty line behind it is no event. Nor is an id without data;
 * but it is the last id from then on, and so it is told as well.
 */

#include "base/buf.h"

/* The most that one line, or the data of one event, may hold: a path is 4 KiB, six times that as
 * JSON with each byte escaped, twice that in a rename; the rest is reserve. */
#define SSE_EVENT_BYTES_MAX ((size_t)256 * 1024)

struct sse_event {
    const char *id;   /* the last one given, by this event or one before; "" if none */
    const char *type; /* "message" if the event names none */
    /* Its lines joined by LF; no NUL is cut off, but ends it for C. NULL: no event, the id alone.
     */
    const char *data;
    size_t data_bytes;
};

struct sse {
    struct buf line;
    struct buf id;
    struct buf type;
    struct buf data;
    bool has_data;      /* a data field was seen, though it may be empty */
    bool has_id;        /* likewise */
    bool skip_linefeed; /* the last byte was a CR */
    bool begun;         /* the byte order mark, if any, is behind us */
};

#define SSE_INIT ((struct sse){0})

/* For each event, and each id without one; what the event points to lives until it returns. Not 0
 * ends the parsing. */
typedef int sse_visit(void *context, const struct sse_event *event);

void sse_done(struct sse *sse);

/* Forgets what was read, for a new connection; the last id is kept. */
void sse_restart(struct sse *sse);

/* Parses on. 0, -EFBIG (beyond the limit; nothing can be parsed after that), or what `visit`
 * returned. */
[[nodiscard]] int sse_add(struct sse *sse, struct bytes bytes, sse_visit *visit, void *context);

#endif
