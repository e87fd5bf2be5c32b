/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Directories that are published in one step, and so are switched. PATH is a symbolic link to
 * .artel/NAME.NUMBER beside it; the next version is put together under the next number, with the
 * files that are the same linked from the last one, and when all of it is there and durable, the
 * link is replaced. Places name the version before the link shows it, so that a follower that is
 * killed in between only has to switch again.
 *
 * A listing is made in pieces, and may show one half before and the other after the directory was
 * published anew. So the directory's own version is asked for before and after; only a listing
 * between two equal answers counts.
 */

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/backoff.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/list.h"
#include "base/random.h"
#include "client/entry.h"
#include "client/percent.h"
#include "client/text.h"
#include "follow/engine_priv.h"

#define ASK_FIRST_MS 50u
#define ASK_LIMIT_MS 10000u
#define PAUSE_MS 50u

/* ".artel/NAME.7": what the link holds. A name may be too long for that. */
static char *target_of(const char *root, uint64_t number)
{
    const char *name = text_last_name(root);
    size_t size = strlen(name) < 200 ? strlen(name) : 200;
    while (size > 0 && ((unsigned char)name[size] & 0xc0) == 0x80) {
        size--; /* of a character all or nothing */
    }
    return mem_format("%s/%.*s.%" PRIu64, FOLLOW_VERSIONS, (int)size, name, number);
}

/* The same as a path below the followed directory. */
char *version_path(const char *root, uint64_t number)
{
    CLEANUP_FREE char *target = target_of(root, number);
    return mem_format("%.*s%s", (int)(text_last_name(root) - root), root, target);
}

static struct build *find_build(struct follow *follow, uint64_t number)
{
    struct build *build = follow->builds;
    while (build && build->number != number) {
        build = build->next;
    }
    return build;
}

static void free_build(struct build *build)
{
    free(build->root);
    free(build);
}

void version_free_builds(struct follow *follow)
{
    while (follow->builds) {
        struct build *build = follow->builds;
        follow->builds = build->next;
        free_build(build);
    }
}

static void delete_places(struct follow *follow, uint64_t number)
{
    struct place *place;
    struct place *next;
    HASH_ITER(hh, places_all(follow->places), place, next)
    {
        if (place->version == number) {
            places_delete(follow->places, place);
        }
    }
}

/* ---- versions that go -------------------------------------------------------------------------
 */

/* True if all that is in it is as it was put there. */
static bool is_untouched(struct follow *follow, const char *path)
{
    CLEANUP_FREE char *full = mem_format("%s/%s", follow->dir, path);
    char *const roots[] = {full, NULL};
    bool is_ours = true;
    FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    const FTSENT *found = fts ? fts_read(fts) : NULL;
    while (found && is_ours) {
        const char *below = found->fts_path + strlen(follow->dir) + 1;
        const struct place *place = places_find(follow->places, below);
        if (found->fts_info != FTS_DP) {
            is_ours = place && local_is_ours(follow->local, place, found->fts_statp);
        }
        found = fts_read(fts);
    }
    if (fts) {
        fts_close(fts);
    }
    return is_ours;
}

static void remove_version(struct follow *follow, const char *root, uint64_t number)
{
    CLEANUP_FREE char *path = version_path(root, number);
    struct stat info;
    if (local_stat(follow->local, path, &info) == 0) {
        if (!S_ISDIR(info.st_mode) || is_untouched(follow, path) || land_keep(follow, path)) {
            local_remove_tree(follow->local, path);
        }
    }
    land_touched(follow, path);
    delete_places(follow, number);
}

static void remove_old(struct follow *follow, struct root *root)
{
    bool has_changed = false;
    while (root->old_count > follow->options.keep_count) {
        remove_version(follow, root->path, root->old[--root->old_count]);
        has_changed = true;
    }
    if (has_changed) {
        struct root values = *root;
        CLEANUP_FREE char *path = mem_copy_string(root->path);
        places_put_root(follow->places, &values, path);
    }
}

static void give_up_build(struct follow *follow, struct build *build)
{
    struct wish *wish;
    struct wish *next;
    HASH_ITER(hh, follow->wishes, wish, next)
    {
        if (wish->version == build->number) {
            wish_drop(follow, wish);
        }
    }
    CLEANUP_FREE char *path = version_path(build->root, build->number);
    local_remove_tree(follow->local, path);
    delete_places(follow, build->number);
    LL_DELETE(follow->builds, build);
    free_build(build);
}

/* A link to a version, whoever has set it: going back is done so. */
static bool is_switch(struct follow *follow, const char *path, const struct stat *info)
{
    int fd = -1;
    const char *name = NULL;
    char target[sizeof FOLLOW_VERSIONS "/" - 1];
    return S_ISLNK(info->st_mode) && local_parent(follow->local, path, false, &fd, &name) == 0 &&
           readlinkat(fd, name, target, sizeof target) == (ssize_t)sizeof target &&
           memcmp(target, FOLLOW_VERSIONS "/", sizeof target) == 0;
}

/* The path is no such directory any more: the link goes, and all versions. */
static int drop_root(struct follow *follow, const char *path)
{
    struct root *root = places_find_root(follow->places, path);
    if (!root) {
        return 0;
    }
    struct stat info;
    int fd = -1;
    const char *name = NULL;
    int err = local_stat(follow->local, path, &info);
    if (!err && is_switch(follow, path, &info)) {
        err = local_parent(follow->local, path, false, &fd, &name);
        if (!err && unlinkat(fd, name, 0) < 0) {
            err = err_from_errno(errno);
        }
    }
    if (err && err != -ENOENT) {
        return err;
    }
    land_touched(follow, path);
    if (root->version) {
        remove_version(follow, path, root->version);
    }
    for (size_t i = 0; i < root->old_count; i++) {
        remove_version(follow, path, root->old[i]);
    }
    CLEANUP_FREE char *version = version_path(path, 1);
    if (local_parent(follow->local, version, false, &fd, &name) == 0) {
        CLEANUP_FREE char *versions =
            mem_format("%.*s" FOLLOW_VERSIONS, (int)(text_last_name(path) - path), path);
        if (local_parent(follow->local, versions, false, &fd, &name) == 0) {
            (void)unlinkat(fd, name, AT_REMOVEDIR); /* other directories may have some there */
        }
        local_forget(follow->local);
    }
    places_delete_root(follow->places, root);
    land_remove_parents(follow, path);
    follow_arrived(follow, "delete", path, NULL, NULL);
    return 0;
}

/* ---- the switch -------------------------------------------------------------------------------
 */

/* The link, in place of whatever else is there but a directory. */
static int replace_by_link(struct follow *follow, const char *path, const char *target)
{
    const struct timespec now = {.tv_nsec = UTIME_NOW};
    const int staging_fd = local_staging_fd(follow->local);
    int fd = -1;
    const char *name = NULL;
    unlinkat(staging_fd, "link", 0);
    int err = out_file_link(staging_fd, "link", target, &now);
    if (!err) {
        err = local_parent(follow->local, path, true, &fd, &name);
    }
    if (!err && renameat(staging_fd, "link", fd, name) < 0) {
        err = err_from_errno(errno);
    }
    return err;
}

/* A directory that was none of these before becomes its own old version, in the same step. */
static int exchange_for_link(struct follow *follow, const char *path, const char *target,
                             const char *old)
{
    const struct timespec now = {.tv_nsec = UTIME_NOW};
    int fd = -1;
    int old_fd = -1;
    const char *name = NULL;
    const char *old_name = NULL;
    int err = local_parent(follow->local, old, true, &old_fd, &old_name);
    CLEANUP_FD int kept_fd = err ? -1 : fcntl(old_fd, F_DUPFD_CLOEXEC, 0);
    if (!err) {
        err = kept_fd < 0 ? err_from_errno(errno) : out_file_link(kept_fd, old_name, target, &now);
    }
    if (!err) {
        err = local_parent(follow->local, path, true, &fd, &name);
    }
    if (!err && renameat2(kept_fd, old_name, fd, name, RENAME_EXCHANGE) < 0) {
        err = err_from_errno(errno);
    }
    local_forget(follow->local);
    return err;
}

/* The link shows root->version afterwards; its arrival is told, and old versions go. */
static int switch_link(struct follow *follow, const char *path)
{
    struct root *root = places_find_root(follow->places, path);
    CLEANUP_FREE char *target = target_of(path, root->version);
    struct stat info;
    int err = local_stat(follow->local, path, &info);
    const bool stands = !err;
    if (stands && S_ISDIR(info.st_mode)) {
        CLEANUP_FREE char *old = root->old_count > 0 ? version_path(path, root->old[0]) : NULL;
        struct stat old_info;
        const bool is_free =
            old && (local_stat(follow->local, old, &old_info) || S_ISLNK(old_info.st_mode));
        err = is_free ? exchange_for_link(follow, path, target, old) : land_keep(follow, path);
        err = err || is_free ? err : replace_by_link(follow, path, target);
    } else {
        const struct place *place = places_find(follow->places, path);
        if (stands && !is_switch(follow, path, &info) &&
            !(place && local_is_ours(follow->local, place, &info))) {
            err = land_keep(follow, path);
        }
        if (!err || err == -ENOENT) {
            err = replace_by_link(follow, path, target);
        }
    }
    if (err) {
        return err;
    }
    land_touched(follow, path);
    land_note_parents(follow, path);
    struct place *place = places_find(follow->places, path);
    if (place) {
        places_delete(follow->places, place); /* of the directory or file that it was */
    }
    struct root values = *root;
    values.is_switching = false;
    places_put_root(follow->places, &values, path);
    follow_arrived(follow, "atomic", path, NULL, NULL);
    err = land_commit(follow);
    if (!err) {
        remove_old(follow, places_find_root(follow->places, path));
        version_renew(follow);
        err = land_commit(follow);
    }
    return err;
}

/* Places of a plain directory go to where it will stand as an old version. */
static void move_places(struct follow *follow, const char *path, uint64_t number)
{
    CLEANUP_FREE char *old = version_path(path, number);
    const size_t size = strlen(path);
    struct path_set *moved = NULL;
    const struct place *at;
    for (at = places_all(follow->places); at; at = at->hh.next) {
        if (!at->version && strncmp(at->path, path, size) == 0 &&
            (at->path[size] == '/' || at->path[size] == 0)) {
            path_set_add(&moved, at->path);
        }
    }
    for (const struct path_set *each = moved; each; each = each->hh.next) {
        struct place *place = places_find(follow->places, each->path);
        CLEANUP_FREE char *to = mem_format("%s%s", old, each->path + size);
        place->version = number;
        place->is_late = true; /* it does not stand there yet */
        places_move(follow->places, place, to);
    }
    path_set_free(&moved);
}

/* All of it is there: it becomes the version. */
static int finish(struct follow *follow, struct build *build)
{
    CLEANUP_FREE char *path = mem_copy_string(build->root);
    struct root *root = places_find_root(follow->places, path);
    const size_t old_count = root ? root->old_count + (root->version != 0) : 0;
    CLEANUP_FREE uint64_t *old = mem_alloc_array(old_count + 2, sizeof *old);
    struct root values = {.version = build->number, .is_switching = true, .old = old};
    struct stat info;
    if (syncfs(local_dir_fd(follow->local)) < 0) {
        return err_from_errno(errno);
    }
    if (local_stat(follow->local, path, &info) == 0 && S_ISDIR(info.st_mode)) {
        const uint64_t number = places_next_number(follow->places);
        old[values.old_count++] = number;
        move_places(follow, path, number);
    }
    if (root && root->version) {
        old[values.old_count++] = root->version;
    }
    for (size_t i = 0; root && i < root->old_count; i++) {
        old[values.old_count++] = root->old[i];
    }
    places_put_root(follow->places, &values, path);
    int err = land_commit(follow);
    if (!err) {
        err = switch_link(follow, path);
    }
    if (build->is_again) {
        path_set_add(&follow->later, path);
    }
    LL_DELETE(follow->builds, build);
    free_build(build);
    return err;
}

int version_landed(struct follow *follow, uint64_t number)
{
    struct build *build = find_build(follow, number);
    return build && --build->left == 0 ? finish(follow, build) : 0;
}

/* ---- a new version ----------------------------------------------------------------------------
 */

void version_failed(struct follow *follow, uint64_t number)
{
    const struct build *build = find_build(follow, number);
    if (build && build->is_again) {
        path_set_add(&follow->later, build->root);
    }
}

/* Files of versions, to link from, by their content. */
struct source {
    UT_hash_handle hh;
    struct id id;
    const struct place *place;
};

static struct source *find_sources(struct follow *follow, uint64_t current)
{
    struct source *sources = NULL;
    const struct place *place;
    for (place = places_all(follow->places); place; place = place->hh.next) {
        if (place->kind != PLACE_FILE || !place->version || place->is_intended) {
            continue;
        }
        struct source *source = NULL;
        HASH_FIND(hh, sources, &place->id, sizeof place->id, source);
        if (source) {
            source->place = place->version == current ? place : source->place;
            continue;
        }
        source = mem_alloc(sizeof *source);
        *source = (struct source){.id = place->id, .place = place};
        HASH_ADD(hh, sources, id, sizeof source->id, source);
    }
    return sources;
}

static void free_sources(struct source **sources)
{
    struct source *source;
    struct source *next;
    HASH_ITER(hh, *sources, source, next)
    {
        HASH_DEL(*sources, source);
        free(source);
    }
}

/* The same file under another name, if that is as it was. */
static bool link_file(struct follow *follow, const struct source *sources,
                      const struct wanted *wanted, const char *path, uint64_t number)
{
    struct source *source = NULL;
    HASH_FIND(hh, sources, &wanted->id, sizeof wanted->id, source);
    struct stat info;
    if (!source || !wanted_is_at(wanted, source->place) ||
        local_stat(follow->local, source->place->path, &info) ||
        !local_is_ours(follow->local, source->place, &info)) {
        return false;
    }
    int fd = -1;
    int from_fd = -1;
    const char *name = NULL;
    const char *from_name = NULL;
    if (local_parent(follow->local, source->place->path, false, &from_fd, &from_name)) {
        return false;
    }
    CLEANUP_FD int kept_fd = fcntl(from_fd, F_DUPFD_CLOEXEC, 0);
    const bool good = kept_fd >= 0 && local_parent(follow->local, path, true, &fd, &name) == 0 &&
                      linkat(kept_fd, from_name, fd, name, 0) == 0 &&
                      fstatat(fd, name, &info, AT_SYMLINK_NOFOLLOW) == 0;
    if (good) {
        struct place values = {
            .kind = PLACE_FILE,
            .is_late = true, /* other links of it are about to go, which would be another change */
            .version = number,
            .id = wanted->id,
            .mode = wanted->mode,
            .mtime = wanted->mtime,
            .mark = mark_of(&info),
        };
        places_put(follow->places, &values, path);
    }
    return good;
}

static int put_together(struct follow *follow, struct build *build, const struct wanted_map *map)
{
    const struct root *root = places_find_root(follow->places, build->root);
    struct source *sources = find_sources(follow, root ? root->version : 0);
    CLEANUP_FREE char *top = version_path(build->root, build->number);
    const struct wanted *itself = wanted_find(map, build->root);
    const struct wanted directory = {.kind = PLACE_DIRECTORY,
                                     .mode = itself ? itself->mode : 0755,
                                     .mtime = {.tv_nsec = UTIME_NOW}};
    int err = land_directory(follow, &directory, top, build->number);
    const struct wanted *wanted;
    for (wanted = map->all; !err && wanted; wanted = wanted->hh.next) {
        if (wanted == itself) {
            continue;
        }
        CLEANUP_FREE char *path = mem_format("%s%s", top, wanted->path + strlen(build->root));
        if (wanted->kind == PLACE_DIRECTORY) {
            err = land_directory(follow, wanted, path, build->number);
        } else if (wanted->kind == PLACE_SYMLINK) {
            err = land_link(follow, wanted, path, build->number);
        } else if (!link_file(follow, sources, wanted, path, build->number)) {
            wish_add(follow, wanted, path, build->number, NULL);
            build->left++;
        }
    }
    free_sources(&sources);
    return err ? err : land_commit(follow);
}

/* False: somebody has removed it. A link to another version is their choice. */
static bool stands(struct follow *follow, const struct root *root)
{
    CLEANUP_FREE char *top = version_path(root->path, root->version);
    struct stat info;
    return local_stat(follow->local, root->path, &info) == 0 &&
           local_stat(follow->local, top, &info) == 0;
}

/* True if the version that there is holds just that. */
static bool is_same(struct follow *follow, const struct root *root, const struct wanted_map *map)
{
    CLEANUP_FREE char *top = version_path(root->path, root->version);
    const struct wanted *wanted;
    size_t count = 0;
    for (wanted = map->all; wanted; wanted = wanted->hh.next) {
        CLEANUP_FREE char *path = mem_format("%s%s", top, wanted->path + strlen(root->path));
        const struct place *place = places_find(follow->places, path);
        if (!place || !wanted_is_at(wanted, place)) {
            return false;
        }
        count++;
    }
    const struct place *place;
    for (place = places_all(follow->places); place; place = place->hh.next) {
        count -= place->version == root->version && !place->is_intended;
    }
    return count == 0;
}

/* ---- what the tree has ------------------------------------------------------------------------
 */

/* The name of the change that made the directory what it is, and false if that is not known. */
static bool ask_version(struct follow *follow, const char *path, char **ret_version,
                        struct client_response *response)
{
    CLEANUP_BUF struct buf target = BUF_INIT;
    buf_add_string(&target, "/log/");
    percent_add_path(&target, path);
    buf_add_string(&target, "?limit=1");
    const struct client_request request = {.target = buf_string(&target)};
    if (!client_perform(follow->client, &request, response)) {
        *ret_version = mem_copy_string("");
        return client_is_code(response, "not_found");
    }
    json_t *answer = json_loadb(buf_string(&response->body), response->body.size, 0, NULL);
    const json_t *first = json_array_get(json_object_get(answer, "versions"), 0);
    *ret_version = mem_copy_string(entry_text(first, "version"));
    json_decref(answer);
    return true;
}

/* One attempt. -EAGAIN: it changed meanwhile, or the node did not answer. */
static int list_once(struct follow *follow, const char *path, struct wanted_map *map,
                     struct client_response *response)
{
    CLEANUP_FREE char *before = NULL;
    CLEANUP_FREE char *after = NULL;
    buf_clear(&response->failure);
    if (!ask_version(follow, path, &before, response) ||
        !wanted_add_path(map, follow->client, path, response)) {
        return -EAGAIN;
    }
    const struct wanted *top = wanted_find(map, path);
    if (!top || top->kind != PLACE_DIRECTORY) {
        return 0;
    }
    if (!wanted_add_below(map, follow->client, path, follow->pattern, response) ||
        !ask_version(follow, path, &after, response)) {
        return -EAGAIN;
    }
    buf_clear(&response->failure);
    return strcmp(before, after) == 0 ? 0 : -EAGAIN;
}

/* What is at the directory, itself included. -ECANCELED: the end. */
static int list(struct follow *follow, const char *path, struct wanted_map *map)
{
    struct backoff backoff = {.first_ms = ASK_FIRST_MS, .limit_ms = ASK_LIMIT_MS};
    while (!follow->is_stopped) {
        CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
        const int err = list_once(follow, path, map, &response);
        if (err != -EAGAIN) {
            return err;
        }
        wanted_done(map);
        if (backoff.failures == 0 && response.failure.size > 0) {
            follow_tell_trouble(follow, path, buf_string(&response.failure));
        }
        uint64_t number = 0;
        random_system(&number, sizeof number);
        uint64_t left_ms = backoff_next_ms(&backoff, number);
        while (left_ms > 0 && !follow->is_stopped) {
            const uint64_t pause_ms = left_ms < PAUSE_MS ? left_ms : PAUSE_MS;
            const struct timespec pause = {0, (long)pause_ms * 1000000};
            nanosleep(&pause, NULL);
            left_ms -= pause_ms;
        }
    }
    return -ECANCELED;
}

/* A build of this directory that is under way. One that can't go on, since what it lacks can't be
 * had, is given up. */
static struct build *find_build_of(struct follow *follow, const char *path)
{
    struct build *build = follow->builds;
    while (build && strcmp(build->root, path) != 0) {
        build = build->next;
    }
    if (!build) {
        return NULL;
    }
    for (const struct wish *wish = follow->wishes; wish; wish = wish->hh.next) {
        if (wish->version == build->number && wish->failures > 0) {
            give_up_build(follow, build);
            return NULL;
        }
    }
    return build;
}

int version_look(struct follow *follow, const char *root_path, bool *ret_begun)
{
    CLEANUP_WANTED struct wanted_map map = {0};
    CLEANUP_FREE char *path = mem_copy_string(root_path);
    struct build *build = find_build_of(follow, path);
    *ret_begun = build;
    if (build) {
        build->is_again = true;
        return 0;
    }
    int err = list(follow, path, &map);
    if (err) {
        return err == -ECANCELED ? 0 : err;
    }
    const struct wanted *top = wanted_find(&map, path);
    if (!top || top->kind != PLACE_DIRECTORY) {
        if (!top && !settled_is(follow)) {
            path_set_add(&follow->later, path);
            return 0;
        }
        err = drop_root(follow, path);
        version_renew(follow);
        if (!err && top) {
            path_set_add(&follow->later, path);
        }
        return err ? err : land_commit(follow);
    }
    const struct root *root = places_find_root(follow->places, path);
    if (root && root->version && !root->is_switching && stands(follow, root) &&
        is_same(follow, root, &map)) {
        return 0;
    }
    build = mem_alloc(sizeof *build);
    *build = (struct build){
        .number = places_next_number(follow->places),
        .root = mem_copy_string(path),
        .left = 1,
    };
    LL_PREPEND(follow->builds, build);
    *ret_begun = true;
    /* So that what is made from here on is known for a half after a crash, and what is below the
     * path is known to belong to it. */
    CLEANUP_FREE char *half = version_path(path, build->number);
    const struct place values = {.kind = PLACE_DIRECTORY, .version = build->number};
    places_put(follow->places, &values, half);
    if (!root) {
        places_put_root(follow->places, &(struct root){0}, path);
    }
    err = places_commit(follow->places);
    if (!err) {
        err = put_together(follow, build, &map);
    }
    return err ? err : version_landed(follow, build->number);
}

/* ---- after a crash ----------------------------------------------------------------------------
 */

static bool is_known(struct follow *follow, uint64_t number)
{
    for (const struct root *root = places_roots(follow->places); root; root = root->hh.next) {
        bool is_one = root->version == number;
        for (size_t i = 0; i < root->old_count; i++) {
            is_one |= root->old[i] == number;
        }
        if (is_one) {
            return true;
        }
    }
    return false;
}

/* Where in `path` the name of the version begins that it is in, or NULL. */
static const char *version_name(const char *path)
{
    const char *found = strstr(path, FOLLOW_VERSIONS "/");
    while (found && found != path && found[-1] != '/') {
        found = strstr(found + 1, FOLLOW_VERSIONS "/"); /* of a directory called NAME.artel */
    }
    return found ? found + strlen(FOLLOW_VERSIONS "/") : NULL;
}

static bool has_late(struct follow *follow)
{
    const struct place *place = places_all(follow->places);
    while (place && !place->is_late) {
        place = place->hh.next;
    }
    return place;
}

int version_recover(struct follow *follow)
{
    struct path_set *gone = NULL;
    struct path_set *switching = NULL;
    struct path_set *crowded = NULL;
    const struct place *place;
    const struct root *root;
    for (place = places_all(follow->places); place; place = place->hh.next) {
        if (place->version && !is_known(follow, place->version)) {
            path_set_add(&gone, place->path);
        }
    }
    for (const struct path_set *each = gone; each; each = each->hh.next) {
        struct place *half = places_find(follow->places, each->path);
        const char *name = version_name(each->path);
        const size_t size = name ? (size_t)(name - each->path) : 0;
        CLEANUP_FREE char *top =
            mem_format("%.*s", (int)(size + strcspn(each->path + size, "/")), each->path);
        if (name) {
            local_remove_tree(follow->local, top);
        }
        places_delete(follow->places, half);
    }
    for (root = places_roots(follow->places); root; root = root->hh.next) {
        if (root->is_switching) {
            path_set_add(&switching, root->path);
        } else if (root->old_count > follow->options.keep_count) {
            path_set_add(&crowded, root->path);
        }
    }
    int err = 0;
    for (const struct path_set *each = switching; !err && each; each = each->hh.next) {
        err = switch_link(follow, each->path);
    }
    for (const struct path_set *each = crowded; each; each = each->hh.next) {
        remove_old(follow, places_find_root(follow->places, each->path));
    }
    if (gone || crowded || has_late(follow)) {
        version_renew(follow);
    }
    path_set_free(&gone);
    path_set_free(&switching);
    path_set_free(&crowded);
    return err ? err : land_commit(follow);
}
