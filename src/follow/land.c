/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What is done to the directory. The order that makes it safe: the file is durable, without a name;
 * then places say that this file (its inode, size and time) is about to stand at the path; then it
 * gets its name; then places say that it stands there, and that the command is due. Whoever was
 * killed in between finds at the start either the old file, or one that it knows for its own.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/backoff.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/list.h"
#include "base/random.h"
#include "client/text.h"
#include "follow/engine_priv.h"

/* Files that came wait so long for others to become durable with. */
#define STAGED_MS 20u
/* So many are synced one by one; for more, all that the file system has. */
#define SYNC_EACH_MAX 8u
#define RETRY_FIRST_MS 500u
#define RETRY_LIMIT_MS 60000u
/* Before the path of what is about to stand there: no path begins so. */
#define INTENDED "//"
/* Nobody is locked out of a directory that we have to work in. */
#define OWNER_MODE 0700u

static uint64_t now_ms(void)
{
    return clock_monotonic_ms(clock_real());
}

/* ---- wishes -----------------------------------------------------------------------------------
 */

struct wish *wish_find(struct follow *follow, const char *path)
{
    struct wish *wish = NULL;
    HASH_FIND(hh, follow->wishes, path, strlen(path), wish);
    return wish;
}

void summary_release(struct follow *follow, struct summary *summary)
{
    if (!summary || --summary->left > 0) {
        return;
    }
    follow_arrived(follow, "rename", summary->path, summary->from, NULL);
    follow->summaries_count--;
    free(summary->path);
    free(summary->from);
    free(summary);
}

static void wait_no_more(struct follow *follow, struct wish *wish)
{
    if (wish->is_waiting) {
        wish->is_waiting = false;
        follow->waiting_count--;
    }
}

void wish_drop(struct follow *follow, struct wish *wish)
{
    if (!wish->is_begun && !wish->is_waiting) {
        DL_DELETE(follow->todo, wish);
    }
    wait_no_more(follow, wish);
    HASH_DEL(follow->wishes, wish);
    summary_release(follow, wish->summary);
    free(wish);
}

void wish_add(struct follow *follow, const struct wanted *wanted, const char *path,
              uint64_t version, struct summary *summary)
{
    struct wish *old = wish_find(follow, path);
    if (old && id_equal(&old->id, &wanted->id) && old->mode == wanted->mode &&
        old->mtime.tv_sec == wanted->mtime.tv_sec && old->mtime.tv_nsec == wanted->mtime.tv_nsec) {
        if (old->is_waiting) {
            old->due_ms = 0; /* somebody speaks of it: that may have changed something */
        }
        return;
    }
    if (old) {
        wish_drop(follow, old);
    }
    const size_t size = strlen(path);
    struct wish *wish = mem_alloc(sizeof *wish + size + 1);
    memcpy(wish->path, path, size + 1);
    wish->id = wanted->id;
    wish->length_bytes = wanted->length_bytes;
    wish->mode = wanted->mode;
    wish->mtime = wanted->mtime;
    wish->version = version;
    wish->generation = ++follow->generation;
    wish->summary = summary;
    if (summary) {
        summary->left++;
    }
    HASH_ADD_KEYPTR(hh, follow->wishes, wish->path, size, wish);
    DL_APPEND(follow->todo, wish);
}

/* Who an arrival is for, if that still wants it. */
struct errand {
    uint64_t generation;
    char path[];
};

static void begin(struct follow *follow, struct wish *wish)
{
    const size_t size = strlen(wish->path);
    struct errand *errand = mem_alloc(sizeof *errand + size + 1);
    errand->generation = wish->generation;
    memcpy(errand->path, wish->path, size + 1);
    struct arrival *arrival = mem_alloc(sizeof *arrival);
    *arrival = (struct arrival){
        .id = wish->id,
        .length_bytes = wish->length_bytes,
        .options = {.mode = wish->mode, .mtime = wish->mtime},
        .owner = errand,
    };
    DL_DELETE(follow->todo, wish);
    wish->is_begun = true;
    follow->begun_count++;
    arrive_begin(follow->arrive, arrival);
}

void wishes_begin(struct follow *follow)
{
    if (follow->waiting_count > 0) {
        const uint64_t now = now_ms();
        struct wish *wish;
        struct wish *next;
        HASH_ITER(hh, follow->wishes, wish, next)
        {
            if (wish->is_waiting && wish->due_ms <= now) {
                wait_no_more(follow, wish);
                wish->is_begun = false;
                DL_APPEND(follow->todo, wish);
            }
        }
    }
    while (follow->todo && follow->begun_count + follow->staged_count < ARRIVE_JOBS_MAX) {
        begin(follow, follow->todo);
    }
}

uint64_t wishes_due_ms(const struct follow *follow)
{
    uint64_t due_ms = UINT64_MAX;
    if (follow->waiting_count > 0) {
        for (const struct wish *wish = follow->wishes; wish; wish = wish->hh.next) {
            if (wish->is_waiting && wish->due_ms < due_ms) {
                due_ms = wish->due_ms;
            }
        }
    }
    if (follow->staged_count > 0 && follow->staged_ms + STAGED_MS < due_ms) {
        due_ms = follow->staged_ms + STAGED_MS;
    }
    return due_ms;
}

/* The wish that an arrival is for, or NULL. */
static struct wish *wish_of(struct follow *follow, const struct arrival *arrival)
{
    const struct errand *errand = arrival->owner;
    struct wish *wish = wish_find(follow, errand->path);
    return wish && wish->generation == errand->generation ? wish : NULL;
}

static void free_arrival(struct arrival *arrival)
{
    free(arrival->owner);
    arrival_free(arrival);
}

static void fail_wish(struct follow *follow, struct wish *wish, const char *why)
{
    struct backoff backoff = {
        .first_ms = RETRY_FIRST_MS, .limit_ms = RETRY_LIMIT_MS, .failures = wish->failures};
    uint64_t number = 0;
    random_system(&number, sizeof number);
    if (wish->failures == 0) {
        CLEANUP_FREE char *text = mem_format("%s; trying again", why);
        follow_tell_trouble(follow, wish->path, text);
    }
    wish->due_ms = now_ms() + backoff_next_ms(&backoff, number);
    wish->failures++;
    wish->is_waiting = true;
    follow->waiting_count++;
    version_failed(follow, wish->version);
}

/* ---- names ------------------------------------------------------------------------------------
 */

void land_touched(struct follow *follow, const char *path)
{
    const size_t size = (size_t)(text_last_name(path) - path);
    CLEANUP_FREE char *some = mem_format("%.*s.", (int)size, path);
    path_set_add(&follow->touched, some);
}

int land_commit(struct follow *follow)
{
    struct path_set *each;
    struct path_set *next;
    int err = 0;
    HASH_ITER(hh, follow->touched, each, next)
    {
        const int failed = err ? 0 : local_sync_parent(follow->local, each->path);
        err = failed == -ENOENT || failed == -ENOTDIR ? err : failed;
    }
    path_set_free(&follow->touched);
    if (!err && follow->summaries_count == 0) {
        if (follow->cursor) {
            places_set(follow->places, "cursor", follow->cursor);
            free(STEAL_PTR(follow->cursor));
        }
        if (follow->token) {
            places_set(follow->places, "token", follow->token);
            free(STEAL_PTR(follow->token));
        }
    }
    const int failed = places_commit(follow->places);
    hooks_wake(follow->hooks);
    adopter_wake(follow->adopter);
    return err ? err : failed;
}

int land_keep(struct follow *follow, const char *path)
{
    CLEANUP_FREE char *beside = NULL;
    const int err = local_keep(follow->local, path, &beside);
    if (!err) {
        land_touched(follow, path);
        follow_tell(follow,
                    &(struct follow_report){.news = FOLLOW_KEPT, .path = path, .beside = beside});
    }
    return err;
}

/* What stands at `path` goes, if it is ours, or is kept. */
static int clear_one(struct follow *follow, const char *path, const struct stat *info)
{
    struct place *place = places_find(follow->places, path);
    if (!place || !local_is_ours(follow->local, place, info)) {
        return land_keep(follow, path);
    }
    int fd = -1;
    const char *name = NULL;
    int err = local_parent(follow->local, path, false, &fd, &name);
    const bool is_directory = S_ISDIR(info->st_mode);
    if (!err && unlinkat(fd, name, is_directory ? AT_REMOVEDIR : 0) < 0) {
        err = is_directory ? land_keep(follow, path) : err_from_errno(errno);
    }
    local_forget(follow->local);
    return err;
}

/* Directories above are no files or links. */
static int clear_above(struct follow *follow, const char *path)
{
    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        CLEANUP_FREE char *above = mem_format("%.*s", (int)(slash - path), path);
        struct stat info;
        int err = local_stat(follow->local, above, &info);
        if (err == -ENOENT) {
            return 0;
        }
        if (!err && !S_ISDIR(info.st_mode)) {
            err = clear_one(follow, above, &info);
        }
        if (err) {
            return err;
        }
    }
    return 0;
}

int land_clear(struct follow *follow, const char *path)
{
    struct stat info;
    int err = clear_above(follow, path);
    if (!err) {
        err = local_stat(follow->local, path, &info);
        if (err == -ENOENT) {
            return 0;
        }
    }
    if (err) {
        return err;
    }
    const struct place *place = places_find(follow->places, path);
    if (place && !S_ISDIR(info.st_mode) && local_is_ours(follow->local, place, &info)) {
        return 0; /* a rename over it does the rest */
    }
    return clear_one(follow, path, &info);
}

void land_note_parents(struct follow *follow, const char *path)
{
    const char *slash = strrchr(path, '/');
    while (slash) {
        CLEANUP_FREE char *above = mem_format("%.*s", (int)(slash - path), path);
        if (places_find(follow->places, above)) {
            return;
        }
        const struct place values = {
            .kind = PLACE_DIRECTORY, .is_implied = true, .mode = OWNER_MODE};
        places_put(follow->places, &values, above);
        const char *before = slash;
        slash = NULL;
        for (const char *at = path; at < before; at++) {
            slash = *at == '/' ? at : slash;
        }
    }
}

void land_remove_parents(struct follow *follow, const char *path)
{
    CLEANUP_FREE char *above = mem_copy_string(path);
    for (char *slash = strrchr(above, '/'); slash; slash = strrchr(above, '/')) {
        *slash = 0;
        struct place *place = places_find(follow->places, above);
        int fd = -1;
        const char *name = NULL;
        if (!place || !place->is_implied || local_parent(follow->local, above, false, &fd, &name) ||
            unlinkat(fd, name, AT_REMOVEDIR) < 0) {
            return;
        }
        land_touched(follow, above);
        local_forget(follow->local);
        places_delete(follow->places, place);
    }
}

int land_remove(struct follow *follow, struct place *place)
{
    struct stat info;
    int fd = -1;
    const char *name = NULL;
    CLEANUP_FREE char *path = mem_copy_string(place->path);
    int err = local_stat(follow->local, path, &info);
    if (!err) {
        err = local_parent(follow->local, path, false, &fd, &name);
    }
    if (!err && S_ISDIR(info.st_mode) && place->kind != PLACE_DIRECTORY) {
        /* Of a change that a crash has interrupted, or somebody's: nothing of it is ours. */
        (void)unlinkat(fd, name, AT_REMOVEDIR);
        local_forget(follow->local);
    } else if (!err && !local_is_ours(follow->local, place, &info)) {
        err = land_keep(follow, path);
    } else if (!err && S_ISDIR(info.st_mode)) {
        err = unlinkat(fd, name, AT_REMOVEDIR) < 0 ? err_from_errno(errno) : 0;
        local_forget(follow->local);
        if (err == -ENOTEMPTY || err == -EEXIST) {
            /* It goes with the last of what is in it. */
            place->is_implied = true;
            places_put(follow->places, place, path);
            return 0;
        }
    } else if (!err) {
        /* local_is_ours() may have used another directory. */
        err = local_parent(follow->local, path, false, &fd, &name);
        if (!err && unlinkat(fd, name, 0) < 0) {
            err = err_from_errno(errno);
        }
    }
    if (err && err != -ENOENT) {
        return err;
    }
    land_touched(follow, path);
    places_delete(follow->places, place);
    land_remove_parents(follow, path);
    return 0;
}

/* ---- what is no file --------------------------------------------------------------------------
 */

static struct place place_of(const struct wanted *wanted, uint64_t version)
{
    return (struct place){
        .kind = wanted->kind,
        .version = version,
        .id = wanted->id,
        .mode = wanted->mode,
        .mtime = wanted->mtime,
    };
}

int land_directory(struct follow *follow, const struct wanted *wanted, const char *path,
                   uint64_t version)
{
    struct stat info;
    int fd = -1;
    const char *name = NULL;
    int err = clear_above(follow, path);
    if (!err) {
        err = local_parent(follow->local, path, true, &fd, &name);
    }
    if (!err && local_stat(follow->local, path, &info) == 0 && !S_ISDIR(info.st_mode)) {
        err = clear_one(follow, path, &info);
        if (!err) {
            err = local_parent(follow->local, path, true, &fd, &name);
        }
    }
    if (!err && mkdirat(fd, name, 0755) < 0 && errno != EEXIST) {
        err = err_from_errno(errno);
    }
    if (!err && fchmodat(fd, name, wanted->mode | OWNER_MODE, 0) < 0) {
        err = err_from_errno(errno);
    }
    if (err) {
        return err;
    }
    const struct place values = place_of(wanted, version);
    places_put(follow->places, &values, path);
    land_note_parents(follow, path);
    land_touched(follow, path);
    return 0;
}

bool land_is_link(struct follow *follow, const struct wanted *wanted, const char *path)
{
    struct stat info;
    CLEANUP_FREE struct place *standing = mem_alloc(sizeof *standing + strlen(path) + 1);
    *standing = place_of(wanted, 0);
    memcpy(standing->path, path, strlen(path) + 1);
    return local_stat(follow->local, path, &info) == 0 &&
           local_is_ours(follow->local, standing, &info);
}

int land_link(struct follow *follow, const struct wanted *wanted, const char *path,
              uint64_t version)
{
    const struct place values = place_of(wanted, version);
    if (!land_is_link(follow, wanted, path)) {
        int fd = -1;
        const char *name = NULL;
        const int staging_fd = local_staging_fd(follow->local);
        int err = land_clear(follow, path);
        if (!err) {
            err = local_parent(follow->local, path, true, &fd, &name);
        }
        if (!err) {
            unlinkat(staging_fd, "link", 0);
            err = out_file_link(staging_fd, "link", wanted->target, &wanted->mtime);
        }
        if (!err && renameat(staging_fd, "link", fd, name) < 0) {
            err = err_from_errno(errno);
        }
        if (err) {
            return err;
        }
    }
    places_put(follow->places, &values, path);
    land_note_parents(follow, path);
    land_touched(follow, path);
    return 0;
}

void land_adopt(struct follow *follow, const struct wanted *wanted, const char *path,
                const struct stat *info, uint64_t version)
{
    struct place values = place_of(wanted, version);
    values.mark = mark_of(info);
    places_put(follow->places, &values, path);
    land_note_parents(follow, path);
}

int land_touch(struct follow *follow, const struct wanted *wanted, struct place *place)
{
    struct stat info;
    int fd = -1;
    const char *name = NULL;
    CLEANUP_FREE char *path = mem_copy_string(place->path);
    const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, wanted->mtime};
    int err = local_parent(follow->local, path, false, &fd, &name);
    if (!err && (fchmodat(fd, name, wanted->mode, 0) < 0 ||
                 utimensat(fd, name, times, AT_SYMLINK_NOFOLLOW) < 0 ||
                 fstatat(fd, name, &info, AT_SYMLINK_NOFOLLOW) < 0)) {
        err = err_from_errno(errno);
    }
    if (!err) {
        land_adopt(follow, wanted, path, &info, place->version);
    }
    return err;
}

/* ---- files ------------------------------------------------------------------------------------
 */

static char *intended_path(const char *path)
{
    return mem_format("%s%s", INTENDED, path);
}

static void forget_intended(struct follow *follow, const char *path)
{
    CLEANUP_FREE char *key = intended_path(path);
    struct place *place = places_find(follow->places, key);
    if (place) {
        places_delete(follow->places, place);
    }
}

static void intend(struct follow *follow, const struct wish *wish, const struct arrival *arrival)
{
    CLEANUP_FREE char *key = intended_path(wish->path);
    const struct place values = {
        .kind = PLACE_FILE,
        .is_intended = true,
        .version = wish->version,
        .id = wish->id,
        .mode = wish->mode,
        .mtime = wish->mtime,
        .mark = mark_of(&arrival->info),
    };
    places_put(follow->places, &values, key);
}

static void recover_one(struct follow *follow, struct place *place)
{
    struct stat info;
    CLEANUP_FREE char *path = mem_copy_string(place->path + strlen(INTENDED));
    const bool stands = local_stat(follow->local, path, &info) == 0;
    const struct mark mark = stands ? mark_of(&info) : (struct mark){0};
    if (stands && mark_is_same_content(&mark, &place->mark)) {
        struct place values = *place;
        values.is_intended = false;
        values.mark = mark;
        places_put(follow->places, &values, path);
        land_note_parents(follow, path);
        follow_arrived(follow, "put", path, NULL, &values.id);
    }
    places_delete(follow->places, place);
}

void land_recover(struct follow *follow)
{
    struct path_set *intended = NULL;
    for (const struct place *place = places_all(follow->places); place; place = place->hh.next) {
        if (place->is_intended) {
            path_set_add(&intended, place->path);
        }
    }
    for (const struct path_set *each = intended; each; each = each->hh.next) {
        recover_one(follow, places_find(follow->places, each->path));
    }
    path_set_free(&intended);
}

/* Gives the file its name. */
static int land_file(struct follow *follow, struct wish *wish, struct arrival *arrival)
{
    struct stat info;
    int fd = -1;
    const char *name = NULL;
    int err = land_clear(follow, wish->path);
    if (!err) {
        err = local_parent(follow->local, wish->path, true, &fd, &name);
    }
    if (!err) {
        err = out_file_appear(STEAL_PTR(arrival->file), fd, name);
    }
    if (!err && fstatat(fd, name, &info, AT_SYMLINK_NOFOLLOW) < 0) {
        err = err_from_errno(errno);
    }
    if (err) {
        return err;
    }
    const struct wanted wanted = {
        .kind = PLACE_FILE, .id = wish->id, .mode = wish->mode, .mtime = wish->mtime};
    land_adopt(follow, &wanted, wish->path, &info, wish->version);
    land_touched(follow, wish->path);
    if (!wish->version && !wish->summary) {
        follow_arrived(follow, "put", wish->path, NULL, &wish->id);
    }
    return 0;
}

static int sync_staged(struct follow *follow)
{
    size_t count = 0;
    int err = 0;
    for (size_t i = 0; i < follow->staged_count; i++) {
        count += !follow->staged[i]->is_synced;
    }
    if (count > SYNC_EACH_MAX) {
        return syncfs(local_dir_fd(follow->local)) < 0 ? err_from_errno(errno) : 0;
    }
    for (size_t i = 0; !err && i < follow->staged_count; i++) {
        err = follow->staged[i]->is_synced ? 0 : out_file_sync(follow->staged[i]->file);
    }
    return err;
}

/* All that is staged, in one go. */
static int land_staged(struct follow *follow)
{
    uint64_t versions[STAGED_MAX];
    size_t versions_count = 0;
    int err = sync_staged(follow);
    for (size_t i = 0; i < follow->staged_count; i++) {
        const struct wish *wish = wish_of(follow, follow->staged[i]);
        if (wish && !wish->version) {
            intend(follow, wish, follow->staged[i]);
        }
    }
    if (!err) {
        err = places_commit(follow->places);
    }
    for (size_t i = 0; i < follow->staged_count; i++) {
        struct arrival *arrival = follow->staged[i];
        struct wish *wish = err ? NULL : wish_of(follow, arrival);
        const int failed = wish ? land_file(follow, wish, arrival) : 0;
        if (wish) {
            forget_intended(follow, wish->path);
        }
        if (failed) {
            fail_wish(follow, wish, err_text(failed));
        } else if (wish) {
            if (wish->version) {
                versions[versions_count++] = wish->version;
            }
            wish_drop(follow, wish);
        }
        free_arrival(arrival);
    }
    follow->staged_count = 0;
    if (!err) {
        err = land_commit(follow);
    }
    for (size_t i = 0; !err && i < versions_count; i++) {
        err = version_landed(follow, versions[i]);
    }
    return err;
}

static void stage(struct follow *follow, struct arrival *arrival)
{
    follow->begun_count--;
    struct wish *wish = wish_of(follow, arrival);
    if (!wish) {
        free_arrival(arrival);
    } else if (!arrival->file) {
        const bool has_words = arrival->failure && *arrival->failure;
        fail_wish(follow, wish, has_words ? arrival->failure : err_text(arrival->err));
        free_arrival(arrival);
    } else {
        if (follow->staged_count == 0) {
            follow->staged_ms = now_ms();
        }
        follow->staged[follow->staged_count++] = arrival;
    }
}

int wishes_land(struct follow *follow)
{
    int err = 0;
    struct arrival *arrival = arrive_take(follow->arrive);
    while (arrival) {
        struct arrival *next = arrival->next;
        stage(follow, arrival);
        arrival = next;
    }
    const bool is_all = follow->begun_count == 0 && !follow->todo;
    if (follow->staged_count > 0 && (is_all || follow->staged_count >= ARRIVE_JOBS_MAX / 2 ||
                                     now_ms() - follow->staged_ms >= STAGED_MS)) {
        err = land_staged(follow);
    }
    return err;
}
