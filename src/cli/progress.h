/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

/*
 * progress: one line on a terminal's standard error that tells how far a transfer is:
 *
 *     [=======>        ]  38%  1.2 GiB of 3.1 GiB  812 MiB/s  0:02 left  from 3 nodes
 *
 * Threads: any; a lock is inside.
 */

#include "base/buf.h"

#define PROGRESS_TOTAL_UNKNOWN UINT64_MAX

struct progress_figures {
    uint64_t done_bytes;
    uint64_t total_bytes; /* or PROGRESS_TOTAL_UNKNOWN */
    uint64_t bytes_per_second;
    const char *note; /* "from 3 nodes"; NULL: nothing */
};

/* Appends the line, at most `columns` of them, without an end of line. */
void progress_format(const struct progress_figures *figures, size_t columns, struct buf *out);

struct progress;

/* Shows nothing, ever, unless standard error is a terminal and `is_wanted`. */
struct progress *progress_new(bool is_wanted);
/* Wipes the line. NULL is allowed. */
void progress_free(struct progress *progress);

/* True if something is shown: whether figures are worth being collected. */
bool progress_is_shown(const struct progress *progress);

void progress_set_total(struct progress *progress, uint64_t total_bytes);
/* What stands at the end of the line, copied and drawn. */
#define PROGRESS_NOTE_BYTES 40u
void progress_set_note(struct progress *progress, const char *note);
/* So many more bytes are done; draws when the last time was a while ago. */
void progress_add(struct progress *progress, uint64_t bytes);
/* The same as a callback for client/fetch.h; `progress` is a struct progress. */
void progress_arrived(void *progress, size_t bytes);
/* Shows this text, cut to the width of the terminal, instead of figures. */
void progress_show_text(struct progress *progress, const char *text);
/* Wipes the line, so that another can be printed; the next progress_add() draws it anew. */
void progress_pause(struct progress *progress);

#endif
