/* SPDX-License-Identifier: Apache-2.0 */

/* What goes on, and what went on lately, for people. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "node/fetch_files_priv.h"
#include "node/network_priv.h"

const char *fetch_state_name(enum fetch_state state)
{
    switch (state) {
    case FETCH_SEARCHING:
        return "searching";
    case FETCH_RUNNING:
        return "running";
    case FETCH_NO_SPACE:
        return "no_space";
    case FETCH_COMMITTING:
        return "committing";
    }
    return "unknown";
}

static enum fetch_state state_of(const struct transfer_status *status)
{
    if (status->err == -ENOSPC) {
        return FETCH_NO_SPACE;
    }
    if (status->phase == TRANSFER_COMMITTING) {
        return FETCH_COMMITTING;
    }
    return status->phase <= TRANSFER_SEEKING || status->waits_for == TRANSFER_WAITS_FOR_HOLDERS
               ? FETCH_SEARCHING
               : FETCH_RUNNING;
}

static const char *waits_for(const struct transfer_status *status)
{
    switch (status->waits_for) {
    case TRANSFER_WAITS_FOR_NOTHING:
        break;
    case TRANSFER_WAITS_FOR_TURN:
        return "other fetches, which go first";
    case TRANSFER_WAITS_FOR_HOLDERS:
        return "somebody who has what lacks";
    case TRANSFER_WAITS_FOR_ANSWERS:
        return "answers of members";
    case TRANSFER_WAITS_FOR_BLOCKS:
        return "blocks on their way";
    case TRANSFER_WAITS_FOR_SOURCES:
        return "sources, which are busy";
    case TRANSFER_WAITS_FOR_DISK:
        return "this node's disk";
    case TRANSFER_WAITS_FOR_SPACE:
        return "room on this node's disk";
    case TRANSFER_WAITS_FOR_RATE:
        return "the limit of this node's rate";
    }
    return "";
}

static void fill(struct fetch *fetch, const struct fetch_file *file, struct fetch_info *ret_info,
                 const char **ret_waits_for)
{
    struct transfer_status status = {0};
    const uint64_t now_us = network_now_us();
    *ret_info = (struct fetch_info){
        .file = file->id,
        .state = FETCH_COMMITTING,
        .reason = file->reason,
        .running_ms = (now_us - file->begun_us) / 1000,
        .readers_count = file->readers_count,
    };
    *ret_waits_for = "this node's disk";
    if (file->retry_us != UINT64_MAX && !file->is_taking && !file->is_settling) {
        ret_info->state = FETCH_SEARCHING;
        *ret_waits_for = "members that can't be reached";
        return;
    }
    if (!transfer_status(fetch->transfer, now_us, &file->id, &status)) {
        return; /* it is here already */
    }
    ret_info->state = state_of(&status);
    ret_info->has_metadata = status.has_metadata;
    ret_info->length_bytes = status.length_bytes;
    ret_info->here_bytes = status.here_bytes;
    ret_info->blocks_count = status.blocks_count;
    ret_info->here_count = status.blocks_here;
    ret_info->received_bytes = status.received_bytes;
    ret_info->rate_bytes_per_second = status.rate_bytes_per_s;
    ret_info->sources_count = status.sources_count;
    *ret_waits_for = waits_for(&status);
}

bool fetch_report_running(struct fetch *fetch, const struct id *id, struct fetch_info *ret_info)
{
    const struct fetch_file *file = fetch_file_find(fetch, id);
    const char *ignored = NULL;
    if (file) {
        fill(fetch, file, ret_info, &ignored);
    }
    return file != NULL;
}

/* ---- the list ----------------------------------------------------------------------------------
 */

struct listing {
    const struct fetch_list_options *options;
    struct fetch_info *infos;
    struct fetch_file **files; /* twice the limit */
    size_t count;
};

static int compare_files(const void *a, const void *b)
{
    return memcmp(&(*(struct fetch_file *const *)a)->id, &(*(struct fetch_file *const *)b)->id,
                  sizeof(struct id));
}

/* The first ones in order, and no others. */
static void sort_files(struct listing *listing)
{
    const size_t limit = listing->options->limit;
    qsort((void *)listing->files, listing->count, sizeof(struct fetch_file *), compare_files);
    listing->count = listing->count < limit ? listing->count : limit;
}

static bool is_listed(const struct listing *listing, const struct fetch_file *file)
{
    const struct fetch_list_options *options = listing->options;
    return (!options->only_read || file->readers_count > 0) &&
           (!options->after || memcmp(&file->id, options->after, sizeof file->id) > 0);
}

/* Of many thousands all are looked at, but few are sorted. */
static void ask_list(struct fetch *fetch, void *context)
{
    struct listing *listing = context;
    const size_t limit = listing->options->limit;
    const struct fetch_file *last = NULL; /* of `limit` that come before it */
    for (struct fetch_file *file = fetch->files; file; file = file->hh.next) {
        if (!is_listed(listing, file) ||
            (last && memcmp(&file->id, &last->id, sizeof file->id) > 0)) {
            continue;
        }
        listing->files[listing->count++] = file;
        if (listing->count == 2 * limit) {
            sort_files(listing);
            last = listing->files[limit - 1];
        }
    }
    sort_files(listing);
    for (size_t i = 0; i < listing->count; i++) {
        const char *ignored = NULL;
        fill(fetch, listing->files[i], &listing->infos[i], &ignored);
    }
}

size_t fetch_list(struct fetch *fetch, const struct fetch_list_options *options,
                  struct fetch_info *ret_infos)
{
    CHECK(options->limit > 0);
    CLEANUP_FREE struct fetch_file **files =
        mem_alloc_array(2 * options->limit, sizeof(struct fetch_file *));
    struct listing listing = {.options = options, .infos = ret_infos, .files = files};
    fetch_ask(fetch, ask_list, &listing);
    return listing.count;
}

/* ---- one of them -------------------------------------------------------------------------------
 */

struct fetch_past {
    struct fetch_explanation *explanation; /* with as many sources as there are */
};

static int compare_sources(const void *a, const void *b)
{
    const uint64_t one = ((const struct fetch_source *)a)->received_bytes;
    const uint64_t other = ((const struct fetch_source *)b)->received_bytes;
    return (one < other) - (one > other);
}

static void add_source(void *context, const struct transfer_source *source)
{
    struct fetch_explanation *explanation = context;
    if (explanation->sources_count == FETCH_SOURCES_MAX) {
        return;
    }
    explanation->sources[explanation->sources_count++] = (struct fetch_source){
        .node = source->node,
        .is_complete = source->state == TRANSFER_COMPLETE,
        .is_shunned = source->is_shunned,
        .received_bytes = source->bytes,
        .blocks_count = source->blocks,
        .in_flight_count = source->on_way,
        .refused_count = source->refused_busy,
        .not_here_count = source->refused_not_here,
        .late_count = source->late,
        .bad_count = source->bad,
        .waited_ms = source->waited_us / 1000,
        .rate_bytes_per_second = source->rate_bytes_per_s,
    };
}

/* Of those that denied it there is nothing to tell. */
static void add_answers(const struct fetch_file *file, bool were_asked,
                        struct fetch_explanation *ret_explanation)
{
    for (size_t i = 0; i < file->answers_count; i++) {
        const struct locate_answer *answer = &file->answers[i];
        const bool was_asked = answer->outcome < LOCATE_SILENT;
        if (answer->outcome != LOCATE_DENIED && was_asked == were_asked &&
            ret_explanation->answers_count < FETCH_ANSWERS_MAX) {
            ret_explanation->answers[ret_explanation->answers_count++] = *answer;
        }
    }
}

static void explain(struct fetch *fetch, const struct fetch_file *file,
                    struct fetch_explanation *ret_explanation)
{
    *ret_explanation = (struct fetch_explanation){0};
    fill(fetch, file, &ret_explanation->info, &ret_explanation->waits_for);
    add_answers(file, false, ret_explanation);
    add_answers(file, true, ret_explanation);
    transfer_visit_sources(fetch->transfer, &file->id, add_source, ret_explanation);
    qsort(ret_explanation->sources, ret_explanation->sources_count,
          sizeof ret_explanation->sources[0], compare_sources);
}

static size_t explanation_size(size_t sources_count)
{
    return offsetof(struct fetch_explanation, sources) +
           sources_count * sizeof(struct fetch_source);
}

void fetch_report_keep(struct fetch *fetch, const struct fetch_file *file, int err)
{
    if (!fetch->past) {
        fetch->past = mem_alloc_array(FETCH_PAST_MAX, sizeof *fetch->past);
    }
    struct fetch_explanation explanation;
    explain(fetch, file, &explanation);
    explanation.is_over = true;
    explanation.err = err;
    explanation.answers_count = err ? explanation.answers_count : 0;
    explanation.waits_for = "";
    struct fetch_past *past = &fetch->past[fetch->past_count++ % FETCH_PAST_MAX];
    free(past->explanation);
    past->explanation = mem_copy(&explanation, explanation_size(explanation.sources_count));
}

struct explaining {
    const struct id *id;
    struct fetch_explanation *explanation;
    int err;
};

static void ask_explain(struct fetch *fetch, void *context)
{
    struct explaining *explaining = context;
    const struct fetch_file *file = fetch_file_find(fetch, explaining->id);
    if (file) {
        explain(fetch, file, explaining->explanation);
        return;
    }
    for (uint64_t i = 0; i < FETCH_PAST_MAX && i < fetch->past_count; i++) {
        const struct fetch_past *past = &fetch->past[(fetch->past_count - 1 - i) % FETCH_PAST_MAX];
        if (id_equal(&past->explanation->info.file, explaining->id)) {
            memcpy(explaining->explanation, past->explanation,
                   explanation_size(past->explanation->sources_count));
            return;
        }
    }
    explaining->err = -ENOENT;
}

int fetch_explain(struct fetch *fetch, const struct id *file,
                  struct fetch_explanation *ret_explanation)
{
    struct explaining explaining = {.id = file, .explanation = ret_explanation};
    fetch_ask(fetch, ask_explain, &explaining);
    return explaining.err;
}

void fetch_report_free(struct fetch *fetch)
{
    for (size_t i = 0; fetch->past && i < FETCH_PAST_MAX; i++) {
        free(fetch->past[i].explanation);
    }
    free(fetch->past);
}

/* ---- those that gave what was wrong ------------------------------------------------------------
 */

size_t fetch_shunned(struct fetch *fetch, struct node_id ret_nodes[FETCH_SHUNNED_MAX])
{
    const uint64_t now_us = network_now_us();
    size_t count = 0;
    pthread_mutex_lock(&fetch->lock);
    const uint64_t last = fetch->shunned_count;
    const uint64_t first = last > FETCH_SHUNNED_MAX ? last - FETCH_SHUNNED_MAX : 0;
    for (uint64_t i = first; i < last; i++) {
        const struct fetch_shunned *shunned = &fetch->shunned[i % FETCH_SHUNNED_MAX];
        if (now_us < shunned->until_us) {
            ret_nodes[count++] = shunned->node;
        }
    }
    pthread_mutex_unlock(&fetch->lock);
    return count;
}
