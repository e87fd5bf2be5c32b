/* SPDX-License-Identifier: Apache-2.0 */
#include "follow/follow.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "client/entry.h"
#include "follow/engine_priv.h"
#include "tree/glob.h"

/* Runs of the command that are due; beyond that nothing more is taken on until it keeps up. */
#define HOOKS_MAX 100000u
/* The numbers are told so often at most. */
#define STATE_MS 250u
#define BEGIN_PAUSE_MS 100u

/* ---- what is told -----------------------------------------------------------------------------
 */

void follow_tell(struct follow *follow, const struct follow_report *report)
{
    if (follow->options.report) {
        pthread_mutex_lock(&follow->report_lock);
        follow->options.report(follow->options.context, report);
        pthread_mutex_unlock(&follow->report_lock);
    }
}

void follow_tell_trouble(struct follow *follow, const char *path, const char *why)
{
    pthread_mutex_lock(&follow->report_lock);
    free(follow->trouble);
    follow->trouble = path ? mem_format("%s: %s", path, why) : mem_copy_string(why);
    pthread_mutex_unlock(&follow->report_lock);
    follow_tell(follow, &(struct follow_report){.news = FOLLOW_TROUBLE, .path = path, .why = why});
}

void follow_arrived(struct follow *follow, const char *event, const char *path, const char *from,
                    const struct id *id)
{
    char hex[ID_HEX_CHARS + 1] = "";
    if (id) {
        id_format(id, hex);
    }
    from = from ? from : "";
    if (follow->command) {
        json_t *arrival = json_pack("{s:s, s:s, s:s, s:s}", "event", event, "path", path, "from",
                                    from, "id", hex);
        char *text = arrival ? json_dumps(arrival, JSON_COMPACT) : NULL;
        if (!text) {
            mem_out_of_memory();
        }
        places_add_hook(follow->places, text);
        free(text);
        json_decref(arrival);
    }
    follow_tell(follow,
                &(struct follow_report){
                    .news = FOLLOW_ARRIVED, .event = event, .path = path, .from = from, .id = hex});
}

static void on_hook_ended(void *context, const char *path, const char *why)
{
    struct follow *follow = context;
    if (why) {
        CLEANUP_FREE char *text = mem_format("the command %s; trying again", why);
        follow_tell_trouble(follow, path, text);
    }
    pthread_mutex_lock(&follow->lock);
    follow->has_arrivals = true; /* the numbers have changed */
    pthread_cond_broadcast(&follow->changed);
    pthread_mutex_unlock(&follow->lock);
}

static void on_adopter_told(void *context, const char *path, const char *why)
{
    follow_tell(context, &(struct follow_report){.news = FOLLOW_NOTICE, .path = path, .why = why});
}

/* ---- the reader of the stream -----------------------------------------------------------------
 */

static void free_item(struct item *item)
{
    free(item->event);
    free(item->path);
    free(item->from);
    free(item->cursor);
    free(item->token);
    free(item);
}

static void free_items(struct item *items)
{
    while (items) {
        struct item *item = items;
        items = item->next;
        free_item(item);
    }
}

/* Waits while there are too many. */
static int push(struct follow *follow, struct item *item)
{
    pthread_mutex_lock(&follow->lock);
    while (follow->items_count >= ITEMS_MAX && !follow->is_stopped) {
        pthread_cond_wait(&follow->changed, &follow->lock);
    }
    const bool is_stopped = follow->is_stopped;
    if (is_stopped) {
        free_item(item);
    } else {
        if (follow->items_last) {
            follow->items_last->next = item;
        } else {
            follow->items = item;
        }
        follow->items_last = item;
        follow->items_count++;
        pthread_cond_broadcast(&follow->changed);
    }
    pthread_mutex_unlock(&follow->lock);
    return is_stopped ? -ECANCELED : 0;
}

static struct item *new_item(enum item_kind kind)
{
    struct item *item = mem_alloc(sizeof *item);
    item->kind = kind;
    return item;
}

/* Whether anything of it can concern what is followed. Of a directory that moves or is replaced,
 * what is below it does, too. */
static bool concerns(const struct follow *follow, const char *event, const char *path)
{
    const struct bytes pattern = bytes_of_string(follow->pattern);
    const bool is_deep = strcmp(event, "rename") == 0 || strcmp(event, "atomic") == 0;
    return *path && (glob_match(pattern, bytes_of_string(path)) ||
                     (is_deep && glob_may_match_below(pattern, bytes_of_string(path))));
}

static int on_change(void *context, const struct change_told *told)
{
    struct follow *follow = context;
    if (told->is_gap) {
        return push(follow, new_item(ITEM_GAP));
    }
    const char *event = entry_text(told->json, "event");
    const char *path = entry_text(told->json, "path");
    const char *from = entry_text(told->json, "from");
    if (!concerns(follow, event, path) && !concerns(follow, event, from)) {
        return 0;
    }
    struct item *item = new_item(ITEM_EVENT);
    item->event = mem_copy_string(event);
    item->path = mem_copy_string(path);
    item->from = mem_copy_string(from);
    return push(follow, item);
}

static int on_moved(void *context, const char *cursor, const char *token)
{
    struct item *item = new_item(ITEM_POSITION);
    item->cursor = cursor ? mem_copy_string(cursor) : NULL;
    item->token = token ? mem_copy_string(token) : NULL;
    return push(context, item);
}

static void on_broke(void *context, const char *why, bool is_over)
{
    (void)is_over;
    struct item *item = new_item(ITEM_BROKEN);
    item->event = mem_copy_string(why);
    (void)!push(context, item);
}

static void *read_changes(void *argument)
{
    struct follow *follow = argument;
    bool has_begun = false;
    bool has_told = false;
    while (!has_begun && !follow->is_stopped) {
        CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
        has_begun = changes_begin(follow->changes, &response);
        if (!has_begun) {
            if (!has_told) {
                on_broke(follow, buf_string(&response.failure), false);
                has_told = true;
            }
            const struct timespec pause = {0, BEGIN_PAUSE_MS * 1000000};
            nanosleep(&pause, NULL);
        }
    }
    /* What was there before is compared, whatever the stream tells. */
    int err = push(follow, new_item(ITEM_GAP));
    if (!err) {
        err = changes_run(follow->changes);
    }
    struct item *end = new_item(ITEM_END);
    end->err = err;
    (void)!push(follow, end);
    return NULL;
}

/* ---- the engine -------------------------------------------------------------------------------
 */

static void on_arrival(void *context)
{
    struct follow *follow = context;
    pthread_mutex_lock(&follow->lock);
    follow->has_arrivals = true;
    pthread_cond_broadcast(&follow->changed);
    pthread_mutex_unlock(&follow->lock);
}

static struct timespec time_of_ms(uint64_t ms)
{
    return (struct timespec){(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
}

static bool takes_items(const struct follow *follow)
{
    return places_hooks_count(follow->places) < HOOKS_MAX;
}

/* Waits until something is to be done. The items, if they are taken now; the caller frees them. */
static struct item *wait_for_work(struct follow *follow)
{
    const uint64_t due_ms = follow->later ? 0 : wishes_due_ms(follow);
    const struct timespec until = time_of_ms(due_ms);
    pthread_mutex_lock(&follow->lock);
    while (!follow->is_stopped && !follow->has_arrivals && due_ms > 0 &&
           !(follow->items && takes_items(follow)) &&
           (due_ms == UINT64_MAX
                ? pthread_cond_wait(&follow->changed, &follow->lock)
                : pthread_cond_timedwait(&follow->changed, &follow->lock, &until)) == 0) {
    }
    follow->has_arrivals = false;
    struct item *items = NULL;
    if (takes_items(follow)) {
        items = STEAL_PTR(follow->items);
        follow->items_last = NULL;
        follow->items_count = 0;
        pthread_cond_broadcast(&follow->changed);
    }
    pthread_mutex_unlock(&follow->lock);
    return items;
}

static bool has_items(struct follow *follow)
{
    pthread_mutex_lock(&follow->lock);
    const bool has_some = follow->items != NULL;
    pthread_mutex_unlock(&follow->lock);
    return has_some;
}

/* For the node that started this, and whoever looks. Replaced in one step, not durable: it says how
 * things are now. */
static void write_state(struct follow *follow, const struct follow_report *report)
{
    pthread_mutex_lock(&follow->report_lock);
    if (report->is_current && report->hooks_count == 0) {
        free(STEAL_PTR(follow->trouble));
    }
    json_t *state = json_pack(
        "{s:i, s:b, s:I, s:I, s:I, s:I, s:s}", "pid", (int)getpid(), "current", report->is_current,
        "entries", (json_int_t)report->entries_count, "arriving",
        (json_int_t)report->arriving_count, "waiting", (json_int_t)report->waiting_count, "hooks",
        (json_int_t)report->hooks_count, "error", follow->trouble ? follow->trouble : "");
    pthread_mutex_unlock(&follow->report_lock);
    char *text = state ? json_dumps(state, JSON_COMPACT) : NULL;
    const int follow_fd = local_follow_fd(follow->local);
    CLEANUP_FD int fd = -1;
    if (text &&
        file_open_at(follow_fd, "tmp/state", O_WRONLY | O_CREAT | O_TRUNC, 0644, &fd) == 0 &&
        file_write_all(fd, bytes_of_string(text)) == 0) {
        (void)renameat(follow_fd, "tmp/state", follow_fd, "state");
    }
    free(text);
    json_decref(state);
}

static void tell_state(struct follow *follow, struct follow_report *last, uint64_t *last_ms)
{
    const uint64_t now_ms = clock_monotonic_ms(clock_real());
    const struct follow_report report = {
        .news = FOLLOW_STATE,
        .entries_count = places_count(follow->places),
        .arriving_count = HASH_COUNT(follow->wishes),
        .waiting_count = follow->waiting_count,
        .hooks_count = places_hooks_count(follow->places),
        .is_current = follow->has_compared && !follow->wishes && !follow->builds &&
                      !follow->later && !has_items(follow),
    };
    pthread_mutex_lock(&follow->report_lock);
    const bool has_trouble = follow->trouble != NULL;
    pthread_mutex_unlock(&follow->report_lock);
    const bool is_same = !has_trouble && report.entries_count == last->entries_count &&
                         report.arriving_count == last->arriving_count &&
                         report.waiting_count == last->waiting_count &&
                         report.hooks_count == last->hooks_count &&
                         report.is_current == last->is_current && last->news == FOLLOW_STATE;
    /* That it is current is told at once: somebody may wait for it. */
    if (is_same || (report.is_current == last->is_current && !report.is_current &&
                    now_ms - *last_ms < STATE_MS)) {
        return;
    }
    follow_tell(follow, &report);
    write_state(follow, &report);
    *last = report;
    *last_ms = now_ms;
}

static int work(struct follow *follow, struct item *items, bool *ret_end)
{
    bool is_full = false;
    bool is_due = follow->later != NULL;
    int end_err = 0;
    for (const struct item *item = items; item; item = item->next) {
        is_full |= item->kind == ITEM_GAP;
        is_due |= item->kind != ITEM_BROKEN && item->kind != ITEM_END;
        if (item->kind == ITEM_BROKEN) {
            follow_tell_trouble(follow, NULL, item->event);
        } else if (item->kind == ITEM_END) {
            *ret_end = true;
            end_err = item->err;
        }
    }
    int err = wishes_land(follow);
    if (!err && is_due) {
        err = round_run(follow, items, is_full);
        follow->has_compared |= is_full && !err && !follow->is_stopped;
    }
    if (!err) {
        wishes_begin(follow);
    }
    return err ? err : end_err;
}

static int recover(struct follow *follow)
{
    local_empty_staging(follow->local);
    land_recover(follow);
    int err = land_commit(follow);
    if (!err) {
        err = version_recover(follow);
    }
    return err;
}

static int run_engine(struct follow *follow)
{
    struct follow_report told = {.news = FOLLOW_ARRIVED};
    uint64_t told_ms = 0;
    bool is_over = false;
    int err = recover(follow);
    while (!err && !is_over && !follow->is_stopped) {
        struct item *items = wait_for_work(follow);
        err = work(follow, items, &is_over);
        free_items(items);
        if (!err && !follow->is_stopped) {
            tell_state(follow, &told, &told_ms);
        }
    }
    return err;
}

int follow_run(struct follow *follow)
{
    if (pthread_create(&follow->reader, NULL, read_changes, follow) != 0) {
        return -EAGAIN;
    }
    follow->has_reader = true;
    const int err = run_engine(follow);
    const bool was_stopped = follow->is_stopped;
    follow_stop(follow);
    pthread_join(follow->reader, NULL);
    follow->has_reader = false;
    return was_stopped && (!err || err == -ECANCELED) ? 0 : err;
}

void follow_stop(struct follow *follow)
{
    pthread_mutex_lock(&follow->lock);
    follow->is_stopped = true;
    pthread_cond_broadcast(&follow->changed);
    pthread_mutex_unlock(&follow->lock);
}

/* ---- open and close ---------------------------------------------------------------------------
 */

static int open_places(struct follow *follow)
{
    char absolute[PATH_MAX];
    int err = local_open(follow->options.dir, &follow->local);
    if (!err && !realpath(follow->options.dir, absolute)) {
        err = err_from_errno(errno);
    }
    if (!err) {
        follow->dir = mem_copy_string(absolute);
        CLEANUP_FREE char *own = mem_format("%s/" FOLLOW_DIR, follow->dir);
        err = places_open(local_follow_fd(follow->local), own, &follow->places);
    }
    return err;
}

static void open_threads(struct follow *follow)
{
    CLEANUP_FREE char *cursor = places_get(follow->places, "cursor");
    CLEANUP_FREE char *token = places_get(follow->places, "token");
    const struct changes_options changes = {
        .client = follow->watching,
        .cursor = cursor,
        .token = token,
        .is_patient = true,
        .is_stopped = &follow->is_stopped,
        .change = on_change,
        .moved = on_moved,
        .broke = on_broke,
        .context = follow,
    };
    follow->changes = changes_new(&changes);
    follow->arrive = arrive_new(follow->client, local_staging_fd(follow->local),
                                &follow->is_stopped, on_arrival, follow);
    const struct adopter_options adopter = {
        .adoptions = places_adoptions(follow->places),
        .client = follow->client,
        .dir = follow->dir,
        .is_stopped = &follow->is_stopped,
        .told = on_adopter_told,
        .context = follow,
    };
    follow->adopter = adopter_new(&adopter);
    if (follow->command) {
        const struct hooks_options hooks = {
            .places = follow->places,
            .command = follow->command,
            .output_fd = follow->options.output_fd,
            .dir = follow->dir,
            .address = follow->address,
            .ended = on_hook_ended,
            .context = follow,
        };
        follow->hooks = hooks_new(&hooks);
    }
}

/* A pattern with such a name in it matches nothing, ever. */
static bool has_impossible_name(const char *pattern)
{
    for (const char *name = pattern; name;
         name = strchr(name, '/') ? strchr(name, '/') + 1 : NULL) {
        const size_t size = strcspn(name, "/");
        if (size == 0 || strncmp(name, "..", size) == 0) {
            return true;
        }
    }
    return false;
}

static int check_pattern(const char *pattern)
{
    const int err = glob_check(bytes_of_string(pattern));
    return err || has_impossible_name(pattern) ? -EINVAL : 0;
}

int follow_open(const struct follow_options *options, struct follow **ret_follow)
{
    CHECK(options->keep_count <= FOLLOW_KEEP_MAX);
    struct follow *follow = mem_alloc(sizeof *follow);
    follow->options = *options;
    follow->pattern = glob_of_words(options->pattern);
    follow->address = mem_copy_string(options->address);
    follow->command = options->command ? mem_copy_string(options->command) : NULL;
    pthread_mutex_init(&follow->lock, NULL);
    pthread_mutex_init(&follow->report_lock, NULL);
    clock_init_condition(&follow->changed);
    follow->client = client_new(options->address);
    int err = follow->client ? check_pattern(follow->pattern) : -EINVAL;
    if (!err) {
        client_set_stopped(follow->client, &follow->is_stopped);
        follow->watching = client_clone(follow->client);
        err = open_places(follow);
    }
    if (err) {
        follow_close(follow);
        return err;
    }
    open_threads(follow);
    *ret_follow = follow;
    return 0;
}

void follow_close(struct follow *follow)
{
    if (!follow) {
        return;
    }
    follow_stop(follow);
    arrive_free(follow->arrive);
    follow->arrive = NULL;
    places_abandon(follow->places); /* the adopter may wait for its turn to write */
    adopter_free(STEAL_PTR(follow->adopter));
    while (follow->wishes) {
        wish_drop(follow, follow->wishes);
    }
    for (size_t i = 0; i < follow->staged_count; i++) {
        free(follow->staged[i]->owner);
        arrival_free(follow->staged[i]);
    }
    version_free_builds(follow);
    free_items(follow->items);
    path_set_free(&follow->touched);
    path_set_free(&follow->later);
    changes_free(follow->changes);
    client_free(follow->client);
    client_free(follow->watching);
    local_close(follow->local);
    free(follow->cursor);
    free(follow->token);
    free(follow->pattern);
    free(STEAL_PTR(follow->trouble));
    if (!hooks_free(follow->hooks)) {
        return; /* its thread goes on to use the rest, until the process ends */
    }
    places_close(follow->places);
    free(follow->address);
    free(follow->command);
    free(follow->dir);
    pthread_cond_destroy(&follow->changed);
    pthread_mutex_destroy(&follow->lock);
    pthread_mutex_destroy(&follow->report_lock);
    free(follow);
}
