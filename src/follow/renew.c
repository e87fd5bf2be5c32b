/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Versions of a directory share files as links of one another. A node that has adopted such a file
 * by one of its names compares all of it again whenever a link more or less has changed its ctime.
 * So a file that is shared is adopted by the name that it has in the newest version, when that is
 * the one that is switched to and old versions have gone; what older ones have alone, by their
 * names.
 */

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "follow/engine_priv.h"

/* A version of a directory. */
struct owner {
    uint64_t number;         /* 0: none */
    const struct root *root; /* NULL: it is being put together */
    char *top;
    char *newest_top;
};

static void owner_done(struct owner *owner)
{
    free(owner->top);
    free(owner->newest_top);
}

static bool has_version(const struct root *root, uint64_t number)
{
    bool has = root->version == number;
    for (size_t i = 0; i < root->old_count; i++) {
        has |= root->old[i] == number;
    }
    return has;
}

/* That of the last place is that of the next, mostly. */
static void find_owner(struct follow *follow, uint64_t number, struct owner *owner)
{
    if (owner->number == number) {
        return;
    }
    owner_done(owner);
    *owner = (struct owner){.number = number};
    for (const struct root *root = places_roots(follow->places); root; root = root->hh.next) {
        if (has_version(root, number) && !root->is_switching) {
            owner->root = root;
            owner->top = version_path(root->path, number);
            owner->newest_top = version_path(root->path, root->version);
        }
    }
}

/* The same file stands in the newest version, too. */
static bool is_shared(struct follow *follow, const struct owner *owner, const struct place *place)
{
    if (owner->root->version == place->version) {
        return false;
    }
    CLEANUP_FREE char *path =
        mem_format("%s%s", owner->newest_top, place->path + strlen(owner->top));
    const struct place *newest = places_find(follow->places, path);
    return newest && newest->kind == PLACE_FILE && newest->mark.inode == place->mark.inode &&
           id_equal(&newest->id, &place->id);
}

/* True if it stands there as it was put, but for its ctime. */
static bool find_mark(struct follow *follow, const struct place *place, struct mark *ret_mark)
{
    struct stat info;
    if (local_stat(follow->local, place->path, &info) || !S_ISREG(info.st_mode)) {
        return false;
    }
    *ret_mark = mark_of(&info);
    return mark_is_same_content(ret_mark, &place->mark);
}

static void renew(struct follow *follow, const struct place *place, bool is_release)
{
    struct place values = *place;
    CLEANUP_FREE char *path = mem_copy_string(place->path);
    if (find_mark(follow, place, &values.mark)) {
        values.is_late = false;
        places_put(follow->places, &values, path);
        if (is_release) {
            places_release(follow->places, places_find(follow->places, path));
        }
    }
}

void version_renew(struct follow *follow)
{
    struct owner owner = {0};
    struct path_set *touched = NULL;
    struct mark mark;
    const struct place *place;
    if (!adoptions_are_made(places_adoptions(follow->places))) {
        return; /* when they are, all places are looked at */
    }
    for (place = places_all(follow->places); place; place = place->hh.next) {
        if (place->kind != PLACE_FILE || !place->version || place->is_intended) {
            continue;
        }
        find_owner(follow, place->version, &owner);
        if (owner.root && find_mark(follow, place, &mark) &&
            (place->is_late || !mark_equal(&mark, &place->mark))) {
            path_set_add(&touched, place->path);
        }
    }
    /* What is adopted goes before what is released. */
    for (int is_release = 0; is_release < 2; is_release++) {
        for (const struct path_set *each = touched; each; each = each->hh.next) {
            place = places_find(follow->places, each->path);
            find_owner(follow, place->version, &owner);
            if (is_shared(follow, &owner, place) == is_release) {
                renew(follow, place, is_release);
            }
        }
    }
    path_set_free(&touched);
    owner_done(&owner);
}
