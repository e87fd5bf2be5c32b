/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What this node has of a path: a walk over its tree in pieces, so that no snapshot lives long, and
 * a look into the store for each file. If the tree changes meanwhile the digest is one that nobody
 * else has, so nobody takes it for theirs; the next question is answered better.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "base/mem.h"
#include "hash/sha256.h"
#include "node/fetch_files_priv.h"
#include "node/fetch_priv.h"
#include "node/followers.h"
#include "node/network_priv.h"
#include "node/survey_priv.h"
#include "node/workers_priv.h"
#include "store/held.h"

/* Files, and names looked at, of one snapshot. */
#define PIECE_FILES 512u
#define PIECE_LOOKS 4096u
/* Workers that walk at a time: the others are for content that comes. */
#define RUNNING_MAX 2u

struct piece_file {
    struct id id;
    uint64_t length_bytes;
};

struct walking {
    struct node *node;
    const struct followers *followers;
    struct bytes top;
    struct buf after;
    struct sha256 *digest;
    struct piece_file files[PIECE_FILES];
    size_t files_count;
    bool has_ended;
    struct survey_measure measure;
    struct survey_lacking *lacking;
};

static void add_file(struct walking *walking, struct bytes path, const struct tree_version *version)
{
    static const uint8_t end_of_path[1] = {0};
    /* The name of the top is no part of it. */
    const size_t skipped = walking->top.size < path.size && walking->top.size > 0
                               ? walking->top.size + 1
                               : walking->top.size;
    sha256_add(walking->digest, BYTES(path.data + skipped, path.size - skipped));
    sha256_add(walking->digest, BYTES(end_of_path, sizeof end_of_path));
    sha256_add(walking->digest, id_bytes(&version->file_id));
    walking->files[walking->files_count++] =
        (struct piece_file){version->file_id, version->size_bytes};
    walking->measure.files_count++;
    walking->measure.has_follower =
        walking->measure.has_follower || followers_match(walking->followers, path);
    walking->measure.length_bytes += version->size_bytes;
}

static int walk_piece(struct walking *walking)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    struct tree_walk *walk = NULL;
    int err = node_snapshot(walking->node, &txn);
    if (!err) {
        err = tree_walk_open(node_tree(walking->node), txn, walking->top,
                             buf_bytes(&walking->after), &walk);
    }
    for (unsigned looks = 0; !err && looks < PIECE_LOOKS && walking->files_count < PIECE_FILES;
         looks++) {
        struct bytes path;
        struct tree_entry entry;
        err = tree_walk_next(walk, &path, &entry);
        if (!err) {
            buf_clear(&walking->after);
            buf_add(&walking->after, path);
            if (entry.version.kind == TREE_FILE) {
                add_file(walking, path, &entry.version);
            }
        }
    }
    tree_walk_close(walk);
    if (err == -ENOENT || err == -ENOTDIR) {
        walking->has_ended = true; /* or the directory has gone meanwhile */
        err = 0;
    }
    return err;
}

static int look_at_files(struct walking *walking)
{
    struct survey_measure *measure = &walking->measure;
    for (size_t i = 0; i < walking->files_count; i++) {
        const struct piece_file *file = &walking->files[i];
        enum store_held_state state = STORE_HELD_NONE;
        bool is_followed = false;
        const int err = store_held_for(node_store(walking->node), &file->id, STORE_FOLLOW, &state,
                                       &is_followed);
        if (err) {
            return err;
        }
        measure->followed_count += is_followed && state == STORE_HELD_COMPLETE;
        if (state == STORE_HELD_COMPLETE) {
            measure->whole_count++;
            measure->whole_bytes += file->length_bytes;
        } else if (walking->lacking->count < SURVEY_LACKING_MAX) {
            walking->lacking->files[walking->lacking->count++] = file->id;
        }
    }
    walking->files_count = 0;
    return 0;
}

/* A file is all there is; a directory is walked. */
static int look_at_top(struct walking *walking)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    struct tree_entry entry;
    int err = node_snapshot(walking->node, &txn);
    if (!err) {
        err = tree_find(node_tree(walking->node), txn, walking->top, &entry);
    }
    if (err) {
        return err == -ENOTDIR ? -ENOENT : err;
    }
    if (entry.version.kind == TREE_SYMLINK) {
        return -ENOENT;
    }
    if (entry.version.kind == TREE_FILE) {
        walking->measure.is_file = true;
        walking->measure.file = entry.version.file_id;
        walking->has_ended = true;
        add_file(walking, walking->top, &entry.version);
    }
    return 0;
}

int survey_measure(const struct fetch *fetch, struct bytes path, struct survey_measure *ret_measure,
                   struct survey_lacking *ret_lacking)
{
    CLEANUP(sha256_free) struct sha256 *digest = sha256_new();
    CLEANUP_FREE struct walking *walking = mem_alloc(sizeof *walking);
    walking->node = fetch->node;
    walking->followers = fetch->followers;
    walking->top = path;
    walking->digest = digest;
    walking->lacking = ret_lacking;
    ret_lacking->count = 0;
    int err = look_at_top(walking);
    while (!err) {
        if (!walking->has_ended) {
            err = walk_piece(walking);
        }
        if (!err) {
            err = look_at_files(walking);
        }
        if (!err && walking->measure.files_count > SURVEY_FILES_MAX) {
            err = -EFBIG;
        }
        if (walking->has_ended) {
            break;
        }
    }
    buf_done(&walking->after);
    if (!err) {
        sha256_take(digest, &walking->measure.digest);
        *ret_measure = walking->measure;
    }
    return err;
}

/* ---- by a worker -------------------------------------------------------------------------------
 */

struct measuring {
    struct work work;
    struct fetch_news news; /* it is done */
    struct fetch *fetch;
    uint64_t number; /* the asker's */
    struct buf path;
    survey_measured_fn done; /* NULL: `from` is answered */
    struct node_id from;
    struct id digest; /* that `from` has */
    int err;
    struct survey_measure measure;
    struct survey_lacking lacking;
    struct measuring *next;
};

static void begin_next(struct fetch *fetch);

/* How the fetches of the files that lack go: what they have brought already, and the state that
 * people want to hear of first. */
static void add_fetches(struct fetch *fetch, const struct survey_lacking *lacking,
                        struct keep_survey *survey)
{
    static const struct {
        enum fetch_state state;
        enum keep_state told;
    } states[] = {
        {FETCH_NO_SPACE, KEEP_STATE_NO_SPACE},
        {FETCH_RUNNING, KEEP_STATE_RUNNING},
        {FETCH_COMMITTING, KEEP_STATE_COMMITTING},
        {FETCH_SEARCHING, KEEP_STATE_SEARCHING},
    };
    size_t found = ARRAY_SIZE(states);
    for (size_t i = 0; i < lacking->count; i++) {
        struct fetch_info info;
        if (!fetch_report_running(fetch, &lacking->files[i], &info)) {
            continue;
        }
        survey->here_bytes += info.here_bytes;
        survey->rate_bytes_per_second += info.rate_bytes_per_second;
        for (size_t j = 0; j < found; j++) {
            if (states[j].state == info.state) {
                found = j;
                survey->state = states[j].told;
            }
        }
    }
    /* The tree says how long a file is, its list of blocks what there is of it. */
    survey->here_bytes =
        survey->here_bytes < survey->length_bytes ? survey->here_bytes : survey->length_bytes;
}

static void tell_extent(struct measuring *measuring, struct keep_survey *ret_survey)
{
    const struct survey_measure *measure = &measuring->measure;
    *ret_survey = (struct keep_survey){.extent = KEEP_EXTENT_BUSY};
    if (measuring->err) {
        ret_survey->extent = measuring->err == -ENOENT ? KEEP_EXTENT_OTHER : KEEP_EXTENT_BUSY;
        return;
    }
    if (!id_equal(&measure->digest, &measuring->digest)) {
        ret_survey->extent = KEEP_EXTENT_OTHER;
        return;
    }
    ret_survey->files_count = measure->files_count;
    ret_survey->whole_count = measure->whole_count;
    ret_survey->length_bytes = measure->length_bytes;
    ret_survey->here_bytes = measure->whole_bytes;
    ret_survey->followed_count = measure->followed_count;
    ret_survey->has_follower = measure->has_follower;
    ret_survey->extent = KEEP_EXTENT_WHOLE;
    if (measure->whole_count < measure->files_count) {
        ret_survey->extent = KEEP_EXTENT_PART;
        add_fetches(measuring->fetch, &measuring->lacking, ret_survey);
    }
}

static void send_survey(struct fetch *fetch, const struct node_id *to, uint64_t number,
                        const struct keep_survey *survey)
{
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    const struct keep_message message = {
        .type = KEEP_SURVEYED, .number = number, .survey = *survey};
    keep_message_format(&message, &bytes);
    network_send(fetch->network, SERVICE_KEEP, to, buf_bytes(&bytes));
}

static void run_measured(struct fetch *fetch, struct fetch_news *news)
{
    struct measuring *measuring = CONTAINER_OF(news, struct measuring, news);
    struct keep_survey survey;
    fetch->measures_running--;
    if (measuring->done) {
        measuring->digest = measuring->measure.digest; /* it is what is asked for */
    }
    tell_extent(measuring, &survey);
    if (measuring->done) {
        measuring->done(fetch, measuring->number, measuring->err, &measuring->measure, &survey);
    } else {
        fetch->measures_asked--;
        if (!fetch->is_over) {
            send_survey(fetch, &measuring->from, measuring->number, &survey);
        }
    }
    buf_done(&measuring->path);
    free(measuring);
    begin_next(fetch);
}

/* On a worker. */
static void run_measuring(struct work *work)
{
    struct measuring *measuring = CONTAINER_OF(work, struct measuring, work);
    struct fetch *fetch = measuring->fetch;
    measuring->err = fetch->stopping ? -ECANCELED
                                     : survey_measure(fetch, buf_bytes(&measuring->path),
                                                      &measuring->measure, &measuring->lacking);
    measuring->news.run = run_measured;
    fetch_post(fetch, &measuring->news);
}

static void begin_next(struct fetch *fetch)
{
    while (fetch->measures && fetch->measures_running < RUNNING_MAX) {
        struct measuring *measuring = fetch->measures;
        LL_DELETE(fetch->measures, measuring);
        fetch->measures_running++;
        measuring->work.run = run_measuring;
        workers_put(fetch->workers, &measuring->work);
    }
}

static struct measuring *put(struct fetch *fetch, uint64_t number, struct bytes path)
{
    struct measuring *measuring = mem_alloc(sizeof *measuring);
    measuring->fetch = fetch;
    measuring->number = number;
    buf_add(&measuring->path, path);
    LL_APPEND(fetch->measures, measuring);
    return measuring;
}

void survey_measure_own(struct fetch *fetch, uint64_t number, struct bytes path,
                        survey_measured_fn done)
{
    put(fetch, number, path)->done = done;
    begin_next(fetch);
}

void survey_measure_for(struct fetch *fetch, const struct node_id *from,
                        const struct keep_message *question)
{
    if (fetch->measures_asked >= SURVEY_MEASURES_MAX) {
        const struct keep_survey survey = {.extent = KEEP_EXTENT_BUSY};
        send_survey(fetch, from, question->number, &survey);
        return;
    }
    fetch->measures_asked++;
    struct measuring *measuring = put(fetch, question->number, question->path);
    measuring->from = *from;
    measuring->digest = question->digest;
    begin_next(fetch);
}

void survey_measures_drop(struct fetch *fetch)
{
    while (fetch->measures) {
        struct measuring *measuring = fetch->measures;
        LL_DELETE(fetch->measures, measuring);
        buf_done(&measuring->path);
        free(measuring);
    }
}
