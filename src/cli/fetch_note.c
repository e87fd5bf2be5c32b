/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/fetch_note.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/mem.h"
#include "client/entry.h"

/* As often as a person reads it. */
#define ASK_EVERY_MS 500
/* A note is not worth more: who ends it waits for the answer under way. */
#define SILENCE_MS_MAX 2000
/* A note goes when so many answers in a row have said nothing. */
#define SILENT_MAX 3u
/* Of the list of those that somebody reads, which is in the order of ids: of a node with more
 * readers, the note tells what it sees of them. */
#define FETCHES_MAX 1000

struct fetch_note {
    struct client *client;
    struct progress *progress;
    char *target;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool is_ending;
    unsigned silent_count; /* answers in a row that said nothing */
};

/* That of the fetch which has most sources; of a search only if nothing comes. */
static void look_at(const json_t *fetch, json_int_t *sources_count, const char **ret_state)
{
    const char *state = entry_text(fetch, "state");
    const bool is_under_way = strcmp(state, "searching") == 0 || strcmp(state, "running") == 0 ||
                              strcmp(state, "no_space") == 0;
    const json_int_t count = json_integer_value(json_object_get(fetch, "sources_count"));
    if (is_under_way && (!*ret_state || count > *sources_count)) {
        *ret_state = state;
        *sources_count = count;
    }
}

void fetch_note_format(const json_t *answer, char ret_note[PROGRESS_NOTE_BYTES])
{
    const json_t *fetches = json_object_get(answer, "fetches");
    json_int_t sources_count = 0;
    const char *state = NULL;
    if (!json_is_array(fetches)) {
        look_at(answer, &sources_count, &state);
    }
    for (size_t i = 0; i < json_array_size(fetches); i++) {
        /* What nobody reads is not for a directory that is got. */
        const json_t *fetch = json_array_get(fetches, i);
        if (json_integer_value(json_object_get(fetch, "readers")) > 0) {
            look_at(fetch, &sources_count, &state);
        }
    }
    ret_note[0] = 0;
    if (!state) {
        return;
    }
    if (strcmp(state, "no_space") == 0) {
        snprintf(ret_note, PROGRESS_NOTE_BYTES, "the node's disk is full");
    } else if (sources_count == 0) {
        snprintf(ret_note, PROGRESS_NOTE_BYTES, "searching");
    } else {
        snprintf(ret_note, PROGRESS_NOTE_BYTES, "from %" JSON_INTEGER_FORMAT " node%s",
                 sources_count, sources_count == 1 ? "" : "s");
    }
}

static void ask(struct fetch_note *note)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    const struct client_request request = {
        .target = note->target,
        .silence_ms_max = SILENCE_MS_MAX,
    };
    char text[PROGRESS_NOTE_BYTES] = "";
    if (client_perform(note->client, &request, &response)) {
        json_t *answer = json_loadb(buf_string(&response.body), response.body.size, 0, NULL);
        fetch_note_format(answer, text);
        json_decref(answer);
    }
    /* Between two files of a directory nothing is fetched for a moment. */
    note->silent_count = *text ? 0 : note->silent_count + 1;
    if (*text || note->silent_count > SILENT_MAX) {
        progress_set_note(note->progress, text);
    }
}

static void *run(void *argument)
{
    struct fetch_note *note = argument;
    pthread_mutex_lock(&note->lock);
    while (!note->is_ending) {
        pthread_mutex_unlock(&note->lock);
        ask(note);
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += ASK_EVERY_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_mutex_lock(&note->lock);
        if (!note->is_ending) {
            pthread_cond_timedwait(&note->ended, &note->lock, &until);
        }
    }
    pthread_mutex_unlock(&note->lock);
    return NULL;
}

static void note_free(struct fetch_note *note)
{
    pthread_cond_destroy(&note->ended);
    pthread_mutex_destroy(&note->lock);
    client_free(note->client);
    free(note->target);
    free(note);
}

struct fetch_note *fetch_note_begin(const struct client *client, const struct id *id,
                                    struct progress *progress)
{
    if (!progress_is_shown(progress)) {
        return NULL;
    }
    char hex[ID_HEX_CHARS + 1] = "";
    if (id) {
        id_format(id, hex);
    }
    struct fetch_note *note = mem_alloc(sizeof *note);
    note->client = client_clone(client);
    note->progress = progress;
    note->target =
        id ? mem_format("/why/%s", hex) : mem_format("/fetches?read=1&limit=%d", FETCHES_MAX);
    pthread_mutex_init(&note->lock, NULL);
    pthread_cond_init(&note->ended, NULL);
    if (pthread_create(&note->thread, NULL, run, note) != 0) {
        note_free(note);
        return NULL;
    }
    return note;
}

void fetch_note_end(struct fetch_note *note)
{
    if (!note) {
        return;
    }
    pthread_mutex_lock(&note->lock);
    note->is_ending = true;
    pthread_cond_signal(&note->ended);
    pthread_mutex_unlock(&note->lock);
    pthread_join(note->thread, NULL);
    note_free(note);
}
