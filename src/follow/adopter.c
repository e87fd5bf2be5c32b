/* SPDX-License-Identifier: Apache-2.0 */
#include "follow/adopter_priv.h"

#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/backoff.h"
#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/utf8.h"
#include "client/entry.h"
#include "client/local_node.h"
#include "client/percent.h"

/* A request of it is at most 64 KiB, with a part for what is around the files. */
#define FILES_BYTES_MAX ((size_t)60 * 1024)
/* What of a batch is to be read by the node: what was done stands only when all of it was. */
#define CONTENT_BYTES_MAX ((uint64_t)1024 * 1024 * 1024)
/* Of one block by fixed chunking: the node gets it as a whole, if it has lost it. */
#define SMALL_BYTES ((uint64_t)256 * 1024)
#define RETRY_FIRST_MS 500u
#define RETRY_LIMIT_MS 60000u
/* What a node does not know it is asked to get after so many attempts. It gets all of it, too, or
 * what comes in the few seconds after nobody waits for it, which is over at the next attempt. */
#define LEARN_ATTEMPTS 3u
/* A node that starts without its tree has it by then. What would come before the change that names
 * it would be kept as if it had been published there. */
#define SETTLE_MS 10000
/* A node that starts or ends may answer over TCP and not by its socket. */
#define STRANGE_MAX 5u

struct adopter {
    struct adopter_options options;
    struct client *client;
    struct client *local; /* by the Unix socket; NULL: to be looked for */
    bool is_off;          /* it is not to be had, until somebody says adopter_look() */
    bool has_told;
    unsigned strange_count;
    struct backoff backoff;
    pthread_t thread;
    pthread_mutex_t lock; /* over what follows */
    pthread_cond_t changed;
    char *epoch; /* of the cursor that was told last; NULL: none */
    bool is_look_due;
    bool has_news;
    bool is_over;
};

static uint64_t now_ms(void)
{
    return clock_monotonic_ms(clock_real());
}

static void tell(struct adopter *adopter, const char *path, const char *why)
{
    if (!adopter->has_told) {
        adopter->has_told = true;
        adopter->options.told(adopter->options.context, path, why);
    }
}

/* ---- the node ---------------------------------------------------------------------------------
 */

static size_t epoch_size(const char *cursor)
{
    return strcspn(cursor, ":");
}

/* As it is remembered: with another directory, all paths are others. */
static char *adopter_name(const struct adopter *adopter, const json_t *status)
{
    return mem_format("%s %s %s", entry_text(status, "node"), entry_text(status, "cursor"),
                      adopter->options.dir);
}

/* Whether `known`, as adopter_name() made it, is this node with the data that it had then: it knows
 * the feed. -EIO: it does not answer. */
static int compare_node(struct adopter *adopter, const char *known, const json_t *status,
                        bool *ret_is_same)
{
    const char *node = entry_text(status, "node");
    const size_t node_size = strcspn(known, " ");
    const char *cursor = known + node_size + (known[node_size] == ' ');
    const size_t cursor_size = strcspn(cursor, " ");
    const char *dir = cursor + cursor_size + (cursor[cursor_size] == ' ');
    const char *now = entry_text(status, "cursor");
    *ret_is_same = false;
    if (strlen(node) != node_size || strncmp(node, known, node_size) != 0 ||
        strcmp(dir, adopter->options.dir) != 0) {
        return 0;
    }
    if (epoch_size(cursor) == epoch_size(now) && strncmp(cursor, now, epoch_size(now)) == 0) {
        *ret_is_same = true;
        return 0;
    }
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    CLEANUP_BUF struct buf target = BUF_INIT;
    buf_add_string(&target, "/watch/token?at=");
    percent_add(&target, BYTES((const uint8_t *)cursor, cursor_size));
    const struct client_request request = {.target = buf_string(&target),
                                           .is_stopped = adopter->options.is_stopped};
    *ret_is_same = client_perform(adopter->local, &request, &response);
    return *ret_is_same || (response.status >= 400 && response.status < 500) ? 0 : -EIO;
}

static int meet(struct adopter *adopter, const json_t *status)
{
    CLEANUP_FREE char *known = adoptions_adopter(adopter->options.adoptions);
    CLEANUP_FREE char *name = adopter_name(adopter, status);
    bool is_same = false;
    int err = known ? compare_node(adopter, known, status, &is_same) : 0;
    if (!err && !is_same) {
        err = adoptions_begin(adopter->options.adoptions, name);
    } else if (!err && strcmp(name, known) != 0) {
        err = adoptions_rename(adopter->options.adoptions, name);
    }
    if (!err) {
        const char *cursor = entry_text(status, "cursor");
        pthread_mutex_lock(&adopter->lock);
        free(adopter->epoch);
        adopter->epoch = mem_format("%.*s", (int)epoch_size(cursor), cursor);
        pthread_mutex_unlock(&adopter->lock);
    }
    return err;
}

static int turn_off(struct adopter *adopter)
{
    adopter->is_off = true;
    client_free(STEAL_PTR(adopter->local));
    return adoptions_end(adopter->options.adoptions);
}

static bool is_text(const char *path)
{
    struct bytes left = bytes_of_string(path);
    for (size_t size = 1; left.size > 0 && size > 0;) {
        size = utf8_char_size(left);
        left = BYTES(left.data + size, left.size - size);
    }
    return left.size == 0;
}

/* 0 also if there is none on this machine. */
static int find_node(struct adopter *adopter)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    json_t *status = NULL;
    if (!is_text(adopter->options.dir)) {
        return turn_off(adopter); /* no JSON can name it */
    }
    int err = local_node_find(adopter->client, adopter->options.is_stopped, &adopter->local,
                              &status, &response);
    if (err == -ENOENT) {
        const bool had_one = adoptions_are_made(adopter->options.adoptions);
        return had_one && ++adopter->strange_count < STRANGE_MAX ? -EIO : turn_off(adopter);
    }
    if (!err) {
        adopter->strange_count = 0;
        client_set_stopped(adopter->local, adopter->options.is_stopped);
        err = meet(adopter, status);
        json_decref(status);
    }
    if (err) {
        client_free(STEAL_PTR(adopter->local));
    }
    return err;
}

/* ---- requests ---------------------------------------------------------------------------------
 */

/* Files of one request. */
struct list {
    struct adoption *all[ADOPTION_BATCH_MAX];
    size_t count;
    struct buf text; /* JSON objects, with commas between */
};

/* False: it would be too many; the list is as it was. */
static bool list_add(struct list *list, const struct adopter *adopter, struct adoption *adoption)
{
    char hex[ID_HEX_CHARS + 1];
    id_format(&adoption->id, hex);
    CLEANUP_FREE char *path = mem_format("%s/%s", adopter->options.dir, adoption->path);
    json_t *file = json_pack("{s:s, s:s}", "id", hex, "path", path);
    char *text = file ? json_dumps(file, JSON_COMPACT) : NULL;
    json_decref(file);
    if (!text) {
        mem_out_of_memory();
    }
    const bool fits = list->count == 0 || list->text.size + 1 + strlen(text) <= FILES_BYTES_MAX;
    if (fits) {
        buf_add_format(&list->text, "%s%s", list->count > 0 ? "," : "", text);
        list->all[list->count++] = adoption;
    }
    free(text);
    return fits;
}

/* POST with an operation. -EIO: as good as no answer; -EPROTO: it refuses. */
static int post(struct adopter *adopter, const char *target, const struct buf *body,
                struct client_response *response)
{
    const struct client_request request = {
        .method = "POST",
        .target = target,
        .headers = {"Content-Type: application/json"},
        .body = buf_bytes(body),
    };
    if (client_perform(adopter->local, &request, response)) {
        return 0;
    }
    return response->status >= 400 && response->status < 500 ? -EPROTO : -EIO;
}

/* What the node says of a file. */
static void take_answer(struct adopter *adopter, struct adoption *adoption, const json_t *told,
                        struct list *lacking)
{
    const char *state = entry_text(told, "state");
    const bool is_kept = json_integer_value(json_object_get(told, "kept")) > 0;
    adoption->is_again = is_kept || json_integer_value(json_object_get(told, "busy")) > 0;
    if (is_kept && adoption->is_learnt) {
        lacking->all[lacking->count++] = adoption; /* what came with the list was put aside */
    }
    if (strcmp(state, "not_held") == 0) {
        adoption->is_again = true;
        lacking->all[lacking->count++] = adoption;
    } else if (strcmp(state, "failed") == 0) {
        adoption->is_again = true;
        CLEANUP_FREE char *why = mem_format("the node can't take it for its own copy (%s), so that "
                                            "its bytes may be here twice",
                                            entry_text(told, "error"));
        tell(adopter, adoption->path, why);
    }
}

/* `lacking` gets those whose blocks the node does not know, or has put aside. */
static int post_files(struct adopter *adopter, const char *operation, const struct list *list,
                      struct list *lacking)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    CLEANUP_BUF struct buf body = BUF_INIT;
    buf_add_format(&body, "{\"op\":\"%s\",\"files\":[%s]}", operation, buf_string(&list->text));
    int err = post(adopter, "/files", &body, &response);
    if (err) {
        return err;
    }
    json_t *answer = json_loadb(buf_string(&response.body), response.body.size, 0, NULL);
    const json_t *files = json_object_get(answer, "files");
    err = json_array_size(files) == list->count ? 0 : -EIO;
    for (size_t i = 0; !err && i < list->count; i++) {
        take_answer(adopter, list->all[i], json_array_get(files, i), lacking);
    }
    json_decref(answer);
    return err;
}

/* ---- what the node does not know --------------------------------------------------------------
 */

/* The list of blocks of a large file comes from others. */
static bool get_metadata(struct adopter *adopter, const struct adoption *adoption)
{
    char hex[ID_HEX_CHARS + 1];
    id_format(&adoption->id, hex);
    CLEANUP_FREE char *target = mem_format("/files/%s/metadata", hex);
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    const struct client_request request = {.target = target};
    return client_perform(adopter->local, &request, &response);
}

/* Small files come as a whole, and are held another time. Of what was put aside nothing lacks by
 * now: that ends it. */
static void fetch_some(struct adopter *adopter, const struct list *lacking)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    CLEANUP_BUF struct buf body = BUF_INIT;
    size_t count = 0;
    buf_add_string(&body, "{\"op\":\"start\",\"ids\":[");
    for (size_t i = 0; i < lacking->count; i++) {
        char hex[ID_HEX_CHARS + 1];
        if (lacking->all[i]->size_bytes <= SMALL_BYTES || lacking->all[i]->is_learnt) {
            id_format(&lacking->all[i]->id, hex);
            buf_add_format(&body, "%s\"%s\"", count++ > 0 ? "," : "", hex);
        }
    }
    buf_add_string(&body, "]}");
    if (count > 0) {
        (void)!post(adopter, "/fetches", &body, &response);
    }
}

static bool has_tree(struct adopter *adopter)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    const struct client_request request = {.target = "/status"};
    if (!client_perform(adopter->local, &request, &response)) {
        return false;
    }
    json_t *status = json_loadb(buf_string(&response.body), response.body.size, 0, NULL);
    const bool has = json_is_true(json_object_get(status, "agree")) &&
                     json_integer_value(json_object_get(status, "entries")) > 0 &&
                     json_integer_value(json_object_get(status, "up_ms")) >= SETTLE_MS;
    json_decref(status);
    return has;
}

static void learn(struct adopter *adopter, const struct list *lacking)
{
    struct list due = {.text = BUF_INIT};
    for (size_t i = 0; i < lacking->count; i++) {
        if (lacking->all[i]->attempts >= LEARN_ATTEMPTS) {
            due.all[due.count++] = lacking->all[i];
        }
    }
    if (due.count == 0 || !has_tree(adopter)) {
        return;
    }
    fetch_some(adopter, &due);
    /* If one can't be had, others can't, mostly: they have their turn again. */
    bool good = true;
    for (size_t i = 0; good && i < due.count; i++) {
        if (due.all[i]->size_bytes > SMALL_BYTES && !due.all[i]->is_learnt) {
            good = get_metadata(adopter, due.all[i]);
            due.all[i]->is_learnt = good;
        }
    }
}

/* ---- the queue --------------------------------------------------------------------------------
 */

/* As many of the first as one request of each kind takes. */
static size_t make_lists(const struct adopter *adopter, struct adoption_batch *batch,
                         struct list *adopted, struct list *released)
{
    uint64_t content_bytes = 0;
    size_t count = 0;
    for (; count < batch->count; count++) {
        struct adoption *adoption = &batch->all[count];
        content_bytes += adoption->is_release ? 0 : adoption->size_bytes;
        if ((count > 0 && content_bytes > CONTENT_BYTES_MAX) ||
            !list_add(adoption->is_release ? released : adopted, adopter, adoption)) {
            break;
        }
    }
    return count;
}

static int do_batch(struct adopter *adopter, struct adoption_batch *batch)
{
    struct list adopted = {.text = BUF_INIT};
    struct list released = {.text = BUF_INIT};
    struct list lacking = {.text = BUF_INIT};
    const size_t count = make_lists(adopter, batch, &adopted, &released);
    int err = adopted.count > 0 ? post_files(adopter, "adopt", &adopted, &lacking) : 0;
    if (!err) {
        learn(adopter, &lacking);
    }
    if (!err && released.count > 0) {
        err = post_files(adopter, "release", &released, &lacking);
    }
    buf_done(&adopted.text);
    buf_done(&released.text);
    return err ? err : adoptions_settle(adopter->options.adoptions, batch, count);
}

/* -ENOENT: there is nothing to do now. */
static int work(struct adopter *adopter)
{
    CLEANUP_ADOPTION_BATCH struct adoption_batch batch = ADOPTION_BATCH_INIT;
    int err = adoptions_take(adopter->options.adoptions, now_ms(), &batch);
    if (!err && batch.count == 0 && !batch.is_way) {
        return -ENOENT;
    }
    if (!err) {
        err = do_batch(adopter, &batch);
    }
    if (err == -EPROTO) {
        tell(adopter, NULL,
             "the node takes no files for its own copies: their bytes are here "
             "twice");
        err = turn_off(adopter);
    }
    return err;
}

/* ---- the thread -------------------------------------------------------------------------------
 */

/* Waits for news, or until then. True: the end. */
static bool wait_for_news(struct adopter *adopter, uint64_t until_ms)
{
    const uint64_t until_us = until_ms == UINT64_MAX ? UINT64_MAX : until_ms * 1000;
    pthread_mutex_lock(&adopter->lock);
    while (!adopter->is_over && !adopter->has_news &&
           clock_wait_until(&adopter->changed, &adopter->lock, until_us) == 0) {
    }
    adopter->has_news = false;
    const bool is_over = adopter->is_over;
    pthread_mutex_unlock(&adopter->lock);
    return is_over;
}

/* The same for the whole time, whatever is new. */
static bool wait_after_failure(struct adopter *adopter)
{
    uint64_t number = 0;
    random_system(&number, sizeof number);
    const uint64_t until_us = (now_ms() + backoff_next_ms(&adopter->backoff, number)) * 1000;
    pthread_mutex_lock(&adopter->lock);
    while (!adopter->is_over && !adopter->is_look_due &&
           clock_wait_until(&adopter->changed, &adopter->lock, until_us) == 0) {
    }
    const bool is_over = adopter->is_over;
    pthread_mutex_unlock(&adopter->lock);
    return is_over;
}

/* True: the end. */
static bool look(struct adopter *adopter)
{
    pthread_mutex_lock(&adopter->lock);
    const bool is_due = adopter->is_look_due;
    const bool is_over = adopter->is_over;
    adopter->is_look_due = false;
    pthread_mutex_unlock(&adopter->lock);
    if (is_due) {
        client_free(STEAL_PTR(adopter->local));
        adopter->is_off = false;
    }
    return is_over;
}

static void *run(void *argument)
{
    struct adopter *adopter = argument;
    bool is_over = false;
    while (!is_over && !look(adopter)) {
        if (adopter->is_off) {
            is_over = wait_for_news(adopter, UINT64_MAX);
            continue;
        }
        const bool has_node = adopter->local;
        const int err = has_node ? work(adopter) : find_node(adopter);
        if (has_node && (!err || err == -ENOENT)) {
            adopter->backoff.failures = 0;
        }
        if (err == -ENOENT) {
            is_over = wait_for_news(adopter, adoptions_due_ms(adopter->options.adoptions));
        } else if (err) {
            client_free(STEAL_PTR(adopter->local));
            is_over = wait_after_failure(adopter);
        }
    }
    return NULL;
}

struct adopter *adopter_new(const struct adopter_options *options)
{
    struct adopter *adopter = mem_alloc(sizeof *adopter);
    *adopter = (struct adopter){
        .options = *options,
        .client = client_clone(options->client),
        .backoff = {.first_ms = RETRY_FIRST_MS, .limit_ms = RETRY_LIMIT_MS},
    };
    client_set_stopped(adopter->client, options->is_stopped);
    pthread_mutex_init(&adopter->lock, NULL);
    clock_init_condition(&adopter->changed);
    if (pthread_create(&adopter->thread, NULL, run, adopter) != 0) {
        mem_out_of_memory();
    }
    return adopter;
}

void adopter_wake(struct adopter *adopter)
{
    if (adopter) {
        pthread_mutex_lock(&adopter->lock);
        adopter->has_news = true;
        pthread_cond_broadcast(&adopter->changed);
        pthread_mutex_unlock(&adopter->lock);
    }
}

void adopter_look(struct adopter *adopter, const char *cursor)
{
    char *epoch = mem_format("%.*s", (int)epoch_size(cursor), cursor);
    pthread_mutex_lock(&adopter->lock);
    if (adopter->epoch && strcmp(adopter->epoch, epoch) != 0) {
        adopter->is_look_due = true;
        adopter->has_news = true;
        pthread_cond_broadcast(&adopter->changed);
    }
    free(adopter->epoch);
    adopter->epoch = epoch;
    pthread_mutex_unlock(&adopter->lock);
}

void adopter_free(struct adopter *adopter)
{
    if (!adopter) {
        return;
    }
    pthread_mutex_lock(&adopter->lock);
    adopter->is_over = true;
    pthread_cond_broadcast(&adopter->changed);
    pthread_mutex_unlock(&adopter->lock);
    pthread_join(adopter->thread, NULL);
    client_free(adopter->client);
    client_free(adopter->local);
    free(adopter->epoch);
    pthread_cond_destroy(&adopter->changed);
    pthread_mutex_destroy(&adopter->lock);
    free(adopter);
}
