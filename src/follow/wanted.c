/* SPDX-License-Identifier: Apache-2.0 */
#include "follow/wanted_priv.h"

#include <errno.h>
#include <stdlib.h>

#include "client/entry.h"
#include "follow/local_priv.h"
#include "wire/path.h"

#define MODE_FILE 0644
#define MODE_DIRECTORY 0755

void wanted_done(struct wanted_map *map)
{
    struct wanted *wanted;
    struct wanted *next;
    HASH_ITER(hh, map->all, wanted, next)
    {
        HASH_DEL(map->all, wanted);
        free(wanted->target);
        free(wanted);
    }
}

struct wanted *wanted_find(const struct wanted_map *map, const char *path)
{
    struct wanted *wanted = NULL;
    HASH_FIND(hh, map->all, path, strlen(path), wanted);
    return wanted;
}

static bool is_own_name(const char *name, size_t size)
{
    const size_t own = strlen(FOLLOW_VERSIONS);
    return size >= own && memcmp(name, FOLLOW_VERSIONS, own) == 0 &&
           (size == own || name[own] == '-');
}

bool wanted_is_path(const char *path)
{
    if (!*path || path_check(bytes_of_string(path))) {
        return false;
    }
    for (const char *name = path; *name;) {
        const size_t size = strcspn(name, "/");
        if (is_own_name(name, size)) {
            return false;
        }
        name += size;
        name += *name == '/';
    }
    return true;
}

int wanted_add(struct wanted_map *map, const json_t *entry)
{
    const char *path = entry_text(entry, "path");
    if (!wanted_is_path(path)) {
        map->refused += *path != 0; /* the root is none */
        return 0;
    }
    const size_t size = strlen(path);
    struct wanted *wanted = mem_alloc(sizeof *wanted + size + 1);
    memcpy(wanted->path, path, size + 1);
    wanted->mtime = entry_mtime(entry);
    wanted->mode = entry_mode(entry, MODE_FILE) & 0777;
    int err = 0;
    if (entry_is(entry, "file")) {
        wanted->kind = PLACE_FILE;
        wanted->length_bytes = entry_length(entry);
        err = id_parse(bytes_of_string(entry_text(entry, "id")), &wanted->id);
    } else if (entry_is(entry, "symlink")) {
        wanted->kind = PLACE_SYMLINK;
        wanted->target = mem_copy_string(entry_text(entry, "target"));
        local_link_id(wanted->target, &wanted->id);
        err = *wanted->target ? 0 : -EPROTO;
    } else {
        wanted->kind = PLACE_DIRECTORY;
        wanted->mode = entry_mode(entry, MODE_DIRECTORY) & 0777;
        wanted->is_atomic = json_is_true(json_object_get(entry, "atomic"));
        err = entry_is(entry, "directory") ? 0 : -EPROTO;
    }
    if (err) {
        free(wanted->target);
        free(wanted);
        return -EPROTO;
    }
    struct wanted *replaced = wanted_find(map, path);
    if (replaced) {
        HASH_DEL(map->all, replaced);
        free(replaced->target);
        free(replaced);
    }
    HASH_ADD_KEYPTR(hh, map->all, wanted->path, size, wanted);
    return 0;
}

static int visit(void *context, json_t *entry)
{
    return wanted_add(context, entry);
}

static bool is_absent(const struct client_response *response)
{
    return client_is_code(response, "not_found") || client_is_code(response, "not_directory");
}

bool wanted_add_path(struct wanted_map *map, struct client *client, const char *path,
                     struct client_response *response)
{
    json_t *entry = entry_stat(client, path, response);
    if (!entry) {
        return is_absent(response);
    }
    const int err = wanted_add(map, entry);
    json_decref(entry);
    if (err) {
        buf_clear(&response->failure);
        buf_add_string(&response->failure, "the node's answer makes no sense");
    }
    return !err;
}

bool wanted_add_below(struct wanted_map *map, struct client *client, const char *path,
                      const char *pattern, struct client_response *response)
{
    return entry_list(client, path, "all", pattern, visit, map, response) || is_absent(response);
}

bool wanted_is_at(const struct wanted *wanted, const struct place *place)
{
    if (wanted->kind != place->kind || place->is_implied) {
        return false;
    }
    if (wanted->kind == PLACE_SYMLINK) {
        return id_equal(&wanted->id, &place->id);
    }
    if (wanted->kind == PLACE_DIRECTORY) {
        return wanted->mode == place->mode;
    }
    return id_equal(&wanted->id, &place->id) && wanted->mode == place->mode &&
           (wanted->mtime.tv_nsec == UTIME_NOW || (wanted->mtime.tv_sec == place->mtime.tv_sec &&
                                                   wanted->mtime.tv_nsec == place->mtime.tv_nsec));
}
