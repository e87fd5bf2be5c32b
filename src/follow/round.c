/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A round: which paths the events are about (the scope), what the tree has there now, what the
 * places say that stands there, and the difference. Removals come first, so that a file can become
 * a directory; a removed file whose content is wanted elsewhere is moved there instead. Files that
 * have to be fetched become wishes, everything else is done here.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/backoff.h"
#include "base/err.h"
#include "client/entry.h"
#include "client/text.h"
#include "follow/engine_priv.h"
#include "tree/glob.h"

/* Removals and the like between two commits. */
#define STEPS_MAX 512u
#define ASK_FIRST_MS 100u
#define ASK_LIMIT_MS 10000u

struct scope {
    bool is_all;
    struct path_set *exact;
    struct path_set *below; /* and the path itself */
    struct path_set *roots; /* directories that are switched */
    struct path_set *told;  /* "atomic" was told of them */
};

/* A place that goes, by its content, while it may still be moved. */
struct leaving {
    UT_hash_handle hh;
    struct id id;
    char *path;
    bool is_wanted;       /* that content, somewhere; of the first of them */
    struct leaving *next; /* of the same content */
};

struct round {
    struct follow *follow;
    struct scope scope;
    struct wanted_map wanted;
    struct summary **summaries;
    size_t summaries_count;
    struct leaving *leaving;
    unsigned steps;
};

void path_set_add(struct path_set **set, const char *path)
{
    const size_t size = strlen(path);
    if (!path_set_has(*set, path)) {
        struct path_set *member = mem_alloc(sizeof *member + size + 1);
        memcpy(member->path, path, size + 1);
        HASH_ADD_KEYPTR(hh, *set, member->path, size, member);
    }
}

bool path_set_has(const struct path_set *set, const char *path)
{
    const struct path_set *found = NULL;
    HASH_FIND(hh, set, path, strlen(path), found);
    return found;
}

void path_set_free(struct path_set **set)
{
    struct path_set *member;
    struct path_set *next;
    HASH_ITER(hh, *set, member, next)
    {
        HASH_DEL(*set, member);
        free(member);
    }
}

static bool is_within(const char *path, const char *top)
{
    const size_t size = strlen(top);
    return strncmp(path, top, size) == 0 && (path[size] == 0 || path[size] == '/');
}

static bool matches(const struct follow *follow, const char *path)
{
    return glob_match(bytes_of_string(follow->pattern), bytes_of_string(path));
}

static bool may_match_below(const struct follow *follow, const char *path)
{
    return glob_may_match_below(bytes_of_string(follow->pattern), bytes_of_string(path));
}

/* ---- the scope --------------------------------------------------------------------------------
 */

/* A file and a directory of one name: the file goes by NAME~file, and which of them stands where
 * changes without a word about the other. */
static void add_namesakes(struct round *round, const char *path)
{
    struct places *places = round->follow->places;
    CLEANUP_FREE char *above = mem_copy_string(path);
    for (;;) {
        CLEANUP_FREE char *file = mem_format("%s~file", above);
        const struct place *place = places_find(places, above);
        if (places_find(places, file)) {
            path_set_add(&round->scope.exact, file);
            path_set_add(&round->scope.exact, above);
        }
        if (place && place->kind != PLACE_DIRECTORY && strcmp(above, path) != 0) {
            path_set_add(&round->scope.exact, file);
            path_set_add(&round->scope.exact, above);
        }
        char *slash = strrchr(above, '/');
        if (!slash) {
            return;
        }
        *slash = 0;
    }
}

static void add_exact(struct round *round, const char *path)
{
    const struct root *root = places_root_of(round->follow->places, path);
    if (root) {
        path_set_add(&round->scope.roots, root->path);
        return;
    }
    if (matches(round->follow, path)) {
        path_set_add(&round->scope.exact, path);
    }
    add_namesakes(round, path);
}

/* A directory goes with the last of what is in it, and nobody says so. */
static void add_parents(struct round *round, const char *path)
{
    CLEANUP_FREE char *above = mem_copy_string(path);
    for (char *slash = strrchr(above, '/'); slash; slash = strrchr(above, '/')) {
        *slash = 0;
        const struct place *place = places_find(round->follow->places, above);
        if (place && place->kind == PLACE_DIRECTORY && !place->is_implied) {
            path_set_add(&round->scope.exact, above);
        }
    }
}

static void add_below(struct round *round, const char *path)
{
    struct follow *follow = round->follow;
    const struct root *root = places_root_of(follow->places, path);
    if (root) {
        path_set_add(&round->scope.roots, root->path);
        return;
    }
    if (matches(follow, path) || may_match_below(follow, path)) {
        path_set_add(&round->scope.below, path);
        for (root = places_roots(follow->places); root; root = root->hh.next) {
            if (is_within(root->path, path)) {
                path_set_add(&round->scope.roots, root->path);
            }
        }
    }
    add_parents(round, path);
    add_namesakes(round, path);
}

static void add_rename(struct round *round, const struct item *item)
{
    struct follow *follow = round->follow;
    add_below(round, item->from);
    add_below(round, item->path);
    if (!matches(follow, item->path) && !matches(follow, item->from)) {
        return;
    }
    struct summary *summary = mem_alloc(sizeof *summary);
    *summary = (struct summary){
        .path = mem_copy_string(item->path), .from = mem_copy_string(item->from), .left = 1};
    follow->summaries_count++;
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): of pointers */
    const size_t each_bytes = sizeof *round->summaries;
    round->summaries = mem_resize_array(round->summaries, round->summaries_count + 1, each_bytes);
    round->summaries[round->summaries_count++] = summary;
}

static void add_item(struct round *round, const struct item *item)
{
    const char *event = item->event;
    if (strcmp(event, "rename") == 0) {
        add_rename(round, item);
    } else if (strcmp(event, "atomic") == 0) {
        add_below(round, item->path);
        path_set_add(&round->scope.told, item->path);
    } else {
        add_exact(round, item->path);
        if (strcmp(event, "delete") == 0) {
            add_parents(round, item->path);
        }
    }
}

static void take_position(struct follow *follow, struct item *item)
{
    free(follow->cursor);
    follow->cursor = STEAL_PTR(item->cursor);
    if (follow->cursor) {
        adopter_look(follow->adopter, follow->cursor);
    }
    if (item->token) {
        free(follow->token);
        follow->token = STEAL_PTR(item->token);
    }
}

static bool in_scope(const struct scope *scope, const char *path)
{
    if (scope->is_all || path_set_has(scope->exact, path)) {
        return true;
    }
    for (const struct path_set *each = scope->below; each; each = each->hh.next) {
        if (is_within(path, each->path)) {
            return true;
        }
    }
    return false;
}

/* The run of the command that tells of `path`, too. What comes where something was moved from is
 * none of it. */
static struct summary *summary_of(const struct round *round, const char *path, bool goes)
{
    for (size_t i = 0; i < round->summaries_count; i++) {
        struct summary *summary = round->summaries[i];
        if (is_within(path, summary->path) || (goes && is_within(path, summary->from))) {
            return summary;
        }
    }
    return NULL;
}

/* ---- what the tree has ------------------------------------------------------------------------
 */

/* Lists or looks: until the node answers. False: it is the end. */
static bool ask(struct follow *follow, struct wanted_map *map, const char *path, bool is_below)
{
    struct backoff backoff = {.first_ms = ASK_FIRST_MS, .limit_ms = ASK_LIMIT_MS};
    while (!follow->is_stopped) {
        CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
        const bool good =
            (is_below || wanted_add_path(map, follow->client, path, &response)) &&
            (!is_below || wanted_add_below(map, follow->client, path, follow->pattern, &response));
        if (good) {
            return true;
        }
        if (backoff.failures == 0) {
            follow_tell_trouble(follow, path, buf_string(&response.failure));
        }
        (void)settled_pause(follow, &backoff);
    }
    return false;
}

static bool ask_scope(struct round *round)
{
    struct follow *follow = round->follow;
    const struct scope *scope = &round->scope;
    for (const struct path_set *each = scope->below; each; each = each->hh.next) {
        /* A listing of a file is none; and it does not have its own top. */
        if (!ask(follow, &round->wanted, each->path, false)) {
            return false;
        }
        struct wanted *top = wanted_find(&round->wanted, each->path);
        const bool is_directory = top && top->kind == PLACE_DIRECTORY;
        if (top && !matches(follow, each->path)) {
            HASH_DEL(round->wanted.all, top);
            free(top->target);
            free(top);
        }
        if (is_directory && !ask(follow, &round->wanted, each->path, true)) {
            return false;
        }
    }
    for (const struct path_set *each = scope->exact; each; each = each->hh.next) {
        if (!wanted_find(&round->wanted, each->path) &&
            !ask(follow, &round->wanted, each->path, false)) {
            return false;
        }
    }
    return true;
}

/* True if something that stands here may be about to go. */
static bool may_remove(const struct round *round)
{
    const struct scope *scope = &round->scope;
    bool may = scope->below || scope->roots;
    for (const struct path_set *each = scope->exact; each && !may; each = each->hh.next) {
        may = places_find(round->follow->places, each->path) &&
              !wanted_find(&round->wanted, each->path);
    }
    return may;
}

static bool ask_all(struct round *round)
{
    struct follow *follow = round->follow;
    if (round->scope.is_all) {
        return settled_wait(follow) && ask(follow, &round->wanted, "", true);
    }
    for (;;) {
        if (!ask_scope(round)) {
            return false;
        }
        if (!may_remove(round) || settled_is(follow)) {
            return true;
        }
        if (!settled_wait(follow)) {
            return false;
        }
        wanted_done(&round->wanted); /* it was another node that told this */
    }
}

/* Directories that were published in one step, and are not inside of another one, are switched. */
static void find_roots(struct round *round)
{
    struct path_set *roots = NULL;
    const struct wanted *wanted;
    for (wanted = round->wanted.all; wanted; wanted = wanted->hh.next) {
        if (wanted->kind == PLACE_DIRECTORY && wanted->is_atomic &&
            !places_root_of(round->follow->places, wanted->path)) {
            path_set_add(&roots, wanted->path);
        }
    }
    for (const struct path_set *each = roots; each; each = each->hh.next) {
        bool is_inner = false;
        for (const char *slash = strchr(each->path, '/'); slash && !is_inner;
             slash = strchr(slash + 1, '/')) {
            CLEANUP_FREE char *above = mem_format("%.*s", (int)(slash - each->path), each->path);
            is_inner = path_set_has(roots, above);
        }
        if (!is_inner) {
            path_set_add(&round->scope.roots, each->path);
        }
    }
    path_set_free(&roots);
}

/* True if it is, or lies in, a directory that is switched. */
static bool is_in_root(const struct round *round, const char *path)
{
    if (places_root_of(round->follow->places, path)) {
        return true;
    }
    for (const struct path_set *each = round->scope.roots; each; each = each->hh.next) {
        if (is_within(path, each->path)) {
            return true;
        }
    }
    return false;
}

/* ---- what goes --------------------------------------------------------------------------------
 */

/* So that the changes of one commit, and what is done again after a crash, have a limit. */
static int step(struct round *round)
{
    if (++round->steps < STEPS_MAX) {
        return 0;
    }
    round->steps = 0;
    return land_commit(round->follow);
}

static void add_leaving(struct round *round, const struct place *place)
{
    struct leaving *leaving = mem_alloc(sizeof *leaving);
    *leaving = (struct leaving){.id = place->id, .path = mem_copy_string(place->path)};
    struct leaving *first = NULL;
    HASH_FIND(hh, round->leaving, &leaving->id, sizeof leaving->id, first);
    if (first) {
        leaving->next = first->next;
        first->next = leaving;
    } else {
        HASH_ADD(hh, round->leaving, id, sizeof leaving->id, leaving);
    }
}

static void free_leaving(struct round *round)
{
    struct leaving *first;
    struct leaving *next;
    HASH_ITER(hh, round->leaving, first, next)
    {
        HASH_DEL(round->leaving, first);
        while (first) {
            struct leaving *leaving = first;
            first = leaving->next;
            free(leaving->path);
            free(leaving);
        }
    }
}

static int remove_one(struct round *round, const char *path)
{
    struct follow *follow = round->follow;
    struct place *place = places_find(follow->places, path);
    if (!place) {
        return 0;
    }
    const bool is_directory = place->kind == PLACE_DIRECTORY;
    const struct wanted *wanted = wanted_find(&round->wanted, path);
    if (wanted && wanted->kind == PLACE_SYMLINK && land_is_link(follow, wanted, path)) {
        places_delete(follow->places, place); /* a crash has interrupted its change */
        return 0;
    }
    const int err = land_remove(follow, place);
    if (err) {
        follow_tell_trouble(follow, path, err_text(err));
        return 0; /* it stays, and is tried again when something is compared */
    }
    if (!is_directory && !summary_of(round, path, true)) {
        follow_arrived(follow, "delete", path, NULL, NULL);
    }
    return step(round);
}

static int compare_down(const struct path_set *a, const struct path_set *b)
{
    return -strcmp(a->path, b->path); /* what is in a directory comes before it */
}

/* Places in the scope that nothing is wanted at, or something else. */
static void find_gone(struct round *round, struct path_set **gone)
{
    struct follow *follow = round->follow;
    const struct scope *scope = &round->scope;
    const struct place *place;
    if (!scope->is_all && !scope->below) {
        for (const struct path_set *each = scope->exact; each; each = each->hh.next) {
            if (places_find(follow->places, each->path)) {
                path_set_add(gone, each->path);
            }
        }
    } else {
        for (place = places_all(follow->places); place; place = place->hh.next) {
            if (!place->version && !place->is_intended && in_scope(scope, place->path)) {
                path_set_add(gone, place->path);
            }
        }
    }
    struct path_set *each;
    struct path_set *next;
    HASH_ITER(hh, *gone, each, next)
    {
        place = places_find(follow->places, each->path);
        const struct wanted *wanted = wanted_find(&round->wanted, each->path);
        const bool stays = place->is_implied || is_in_root(round, each->path) ||
                           (wanted && wanted->kind == place->kind);
        if (stays) {
            HASH_DEL(*gone, each);
            free(each);
        } else if (place->kind == PLACE_FILE && !wanted) {
            add_leaving(round, place);
        }
    }
}

/* Wishes that nobody has any more. */
static void drop_wishes(struct round *round)
{
    struct follow *follow = round->follow;
    struct wish *wish;
    struct wish *next;
    HASH_ITER(hh, follow->wishes, wish, next)
    {
        if (!wish->version && in_scope(&round->scope, wish->path)) {
            const struct wanted *wanted = wanted_find(&round->wanted, wish->path);
            if (!wanted || wanted->kind != PLACE_FILE || is_in_root(round, wish->path)) {
                wish_drop(follow, wish);
            }
        }
    }
}

/* ---- what comes -------------------------------------------------------------------------------
 */

/* Where a file that goes stood, with the content that is wanted; NULL: nowhere. */
static struct place *take_leaving(struct round *round, const struct wanted *wanted)
{
    struct leaving *first = NULL;
    HASH_FIND(hh, round->leaving, &wanted->id, sizeof wanted->id, first);
    if (!first) {
        return NULL;
    }
    struct leaving *taken = first->next ? first->next : first;
    if (taken == first) {
        HASH_DEL(round->leaving, first);
    } else {
        first->next = taken->next;
    }
    struct place *place = places_find(round->follow->places, taken->path);
    free(taken->path);
    free(taken);
    return place;
}

/* Moves a file that goes to where its content is wanted. *ret_done: it was. */
static int move_file(struct round *round, const struct wanted *wanted, bool *ret_done)
{
    struct follow *follow = round->follow;
    struct stat info;
    struct place *place = take_leaving(round, wanted);
    *ret_done = false;
    if (!place || is_within(wanted->path, place->path) ||
        local_stat(follow->local, place->path, &info) ||
        !local_is_ours(follow->local, place, &info) ||
        local_stat(follow->local, wanted->path, &info) == 0 || land_clear(follow, wanted->path)) {
        return 0;
    }
    CLEANUP_FREE char *from = mem_copy_string(place->path);
    int from_fd = -1;
    int to_fd = -1;
    const char *from_name = NULL;
    const char *to_name = NULL;
    int err = local_parent(follow->local, from, false, &from_fd, &from_name);
    CLEANUP_FD int kept_fd = err ? -1 : fcntl(from_fd, F_DUPFD_CLOEXEC, 0);
    if (!err) {
        err = local_parent(follow->local, wanted->path, true, &to_fd, &to_name);
    }
    if (err || kept_fd < 0 || renameat(kept_fd, from_name, to_fd, to_name) < 0) {
        return 0; /* then it is fetched */
    }
    places_move(follow->places, place, wanted->path);
    land_note_parents(follow, wanted->path);
    land_touched(follow, from);
    land_touched(follow, wanted->path);
    land_remove_parents(follow, from);
    struct summary *summary = summary_of(round, wanted->path, false);
    err = land_touch(follow, wanted, places_find(follow->places, wanted->path));
    if (!summary) {
        follow_arrived(follow, "rename", wanted->path, from, &wanted->id);
    }
    *ret_done = !err;
    return err ? err : step(round);
}

static bool is_foreign_copy(struct round *round, const struct wanted *wanted,
                            const struct stat *info)
{
    return S_ISREG(info->st_mode) && (uint64_t)info->st_size == wanted->length_bytes &&
           local_has_content(round->follow->local, wanted->path, &wanted->id);
}

static int want_file(struct round *round, const struct wanted *wanted)
{
    struct follow *follow = round->follow;
    struct place *place = places_find(follow->places, wanted->path);
    struct stat info;
    const bool stands = local_stat(follow->local, wanted->path, &info) == 0;
    struct wish *wish = wish_find(follow, wanted->path);
    bool is_done = false;
    int err = 0;
    if (place && stands && place->kind == PLACE_FILE && id_equal(&place->id, &wanted->id)) {
        if (wish) {
            wish_drop(follow, wish); /* of a version in between */
        }
        if (!local_is_ours(follow->local, place, &info)) {
            if (round->scope.is_all) {
                follow_tell_trouble(follow, wanted->path, "was changed here; it stays so");
                places_adopt(follow->places, place); /* the node finds that it is not, either */
            }
            return 0;
        }
        is_done = wanted_is_at(wanted, place);
    } else if (!place && stands && is_foreign_copy(round, wanted, &info)) {
        land_adopt(follow, wanted, wanted->path, &info, 0);
        place = places_find(follow->places, wanted->path);
    } else {
        err = move_file(round, wanted, &is_done);
        if (!err && !is_done) {
            wish_add(follow, wanted, wanted->path, 0, summary_of(round, wanted->path, false));
        }
        return err;
    }
    if (!is_done) {
        err = land_touch(follow, wanted, place);
        if (!summary_of(round, wanted->path, false)) {
            follow_arrived(follow, "put", wanted->path, NULL, &wanted->id);
        }
        return err ? err : step(round);
    }
    return 0;
}

static int want(struct round *round, const struct wanted *wanted)
{
    struct follow *follow = round->follow;
    const struct place *place = places_find(follow->places, wanted->path);
    if (wanted->kind == PLACE_FILE) {
        return want_file(round, wanted);
    }
    struct stat info;
    const bool stands = local_stat(follow->local, wanted->path, &info) == 0;
    if (place && stands && wanted_is_at(wanted, place) &&
        (wanted->kind == PLACE_SYMLINK || S_ISDIR(info.st_mode))) {
        return 0;
    }
    int err = wanted->kind == PLACE_DIRECTORY ? land_directory(follow, wanted, wanted->path, 0)
                                              : land_link(follow, wanted, wanted->path, 0);
    if (!err && wanted->kind == PLACE_SYMLINK && !summary_of(round, wanted->path, false)) {
        follow_arrived(follow, "put", wanted->path, NULL, NULL);
    }
    return err ? err : step(round);
}

static int want_all(struct round *round)
{
    struct follow *follow = round->follow;
    const struct wanted *wanted;
    for (wanted = round->wanted.all; wanted; wanted = wanted->hh.next) {
        if (is_in_root(round, wanted->path) || !matches(follow, wanted->path)) {
            continue;
        }
        const int err = want(round, wanted);
        if (err == -ENOTRECOVERABLE || err == -EIO || err == -ENOSPC) {
            return err;
        }
        if (err) {
            follow_tell_trouble(follow, wanted->path, err_text(err));
        }
    }
    return 0;
}

static int look_at_roots(struct round *round)
{
    struct path_set *looked = NULL;
    struct follow *follow = round->follow;
    const struct path_set *each;
    /* The node is asked, which may take long: no batch is open meanwhile, for which the thread of
     * the command would wait. */
    int err = round->scope.roots ? land_commit(follow) : 0;
    /* New ones first: they may be old ones under another name, whose files they share. */
    for (int is_old = 0; is_old < 2; is_old++) {
        for (each = round->scope.roots; !err && each; each = each->hh.next) {
            bool has_begun = path_set_has(looked, each->path);
            if (has_begun || (!is_old && places_find_root(follow->places, each->path))) {
                continue;
            }
            path_set_add(&looked, each->path);
            err = version_look(follow, each->path, &has_begun);
            /* It stands already: after a crash, as it was told before. */
            if (!err && !has_begun && path_set_has(round->scope.told, each->path) &&
                places_find_root(follow->places, each->path)) {
                follow_arrived(follow, "atomic", each->path, NULL, NULL);
            }
        }
    }
    path_set_free(&looked);
    return err;
}

/* ---- a round ----------------------------------------------------------------------------------
 */

/* What is wanted elsewhere waits for that. */
static bool is_to_be_moved(struct round *round, const char *path)
{
    const struct place *place = places_find(round->follow->places, path);
    struct leaving *leaving = NULL;
    if (place && place->kind == PLACE_FILE && !wanted_find(&round->wanted, path)) {
        HASH_FIND(hh, round->leaving, &place->id, sizeof place->id, leaving);
    }
    return leaving && leaving->is_wanted;
}

static void mark_leaving(struct round *round)
{
    const struct wanted *wanted;
    for (wanted = round->wanted.all; round->leaving && wanted; wanted = wanted->hh.next) {
        struct leaving *leaving = NULL;
        HASH_FIND(hh, round->leaving, &wanted->id, sizeof wanted->id, leaving);
        if (leaving && wanted->kind == PLACE_FILE) {
            leaving->is_wanted = true;
        }
    }
}

static int apply(struct round *round)
{
    struct path_set *gone = NULL;
    int err = 0;
    find_roots(round);
    drop_wishes(round);
    find_gone(round, &gone);
    mark_leaving(round);
    HASH_SORT(gone, compare_down);
    const struct path_set *each;
    for (each = gone; !err && each; each = each->hh.next) {
        err = is_to_be_moved(round, each->path) ? 0 : remove_one(round, each->path);
    }
    if (!err) {
        err = want_all(round);
    }
    for (each = gone; !err && each; each = each->hh.next) {
        const struct wanted *wanted = wanted_find(&round->wanted, each->path);
        const struct place *place = places_find(round->follow->places, each->path);
        if (!wanted || (place && wanted->kind != place->kind)) {
            err = remove_one(round, each->path);
        }
    }
    path_set_free(&gone);
    return err ? err : look_at_roots(round);
}

int round_run(struct follow *follow, struct item *items, bool is_full)
{
    struct round round = {.follow = follow, .scope = {.is_all = is_full}};
    for (struct item *item = items; item; item = item->next) {
        if (item->kind == ITEM_EVENT) {
            add_item(&round, item);
        } else if (item->kind == ITEM_POSITION) {
            take_position(follow, item);
        }
    }
    for (const struct path_set *each = follow->later; each; each = each->hh.next) {
        add_below(&round, each->path);
    }
    path_set_free(&follow->later);
    if (is_full) {
        for (const struct root *root = places_roots(follow->places); root; root = root->hh.next) {
            path_set_add(&round.scope.roots, root->path);
        }
    }
    int err = 0;
    if (ask_all(&round)) {
        err = apply(&round);
    } else {
        follow->summaries_count -= round.summaries_count; /* stopped: they come again */
        round.summaries_count = 0;
    }
    for (size_t i = 0; i < round.summaries_count; i++) {
        summary_release(follow, round.summaries[i]);
    }
    if (!err && !follow->is_stopped) {
        err = land_commit(follow);
    }
    free(round.summaries);
    wanted_done(&round.wanted);
    free_leaving(&round);
    path_set_free(&round.scope.exact);
    path_set_free(&round.scope.below);
    path_set_free(&round.scope.roots);
    path_set_free(&round.scope.told);
    return err;
}
