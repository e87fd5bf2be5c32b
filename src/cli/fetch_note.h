/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_FETCH_NOTE_H
#define CLI_FETCH_NOTE_H

/*
 * fetch_note: while something is got, asks the node how it fetches that from others, and tells it
 * at the end of the line of progress: from how many nodes it comes, or what it waits for.
 */

#include <jansson.h>

#include "cli/progress.h"
#include "client/client.h"
#include "hash/id.h"

struct fetch_note;

/* `id`: of the file; NULL: whatever the node fetches. NULL if no progress is shown, or there is no
 * thread for it. `client` is cloned; `progress` outlives the note. */
struct fetch_note *fetch_note_begin(const struct client *client, const struct id *id,
                                    struct progress *progress);
/* NULL is allowed. */
void fetch_note_end(struct fetch_note *note);
CLEANUP_DEFINE(fetch_note_end, struct fetch_note)

/* What an answer of /why or /fetches says, for people; empty: nothing is fetched. */
void fetch_note_format(const json_t *answer, char ret_note[PROGRESS_NOTE_BYTES]);

#endif
