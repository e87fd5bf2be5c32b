/* SPDX-License-Identifier: Apache-2.0 */
#include "http/fs_delete_priv.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "wire/path.h"

void fs_delete_done(struct fs_delete *deletion)
{
    free(deletion->deletions);
    buf_done(&deletion->paths);
}

/* The id of what is to go, or null: whatever file or link it is. */
static int read_condition(const json_t *value, struct tree_delete *deletion)
{
    const char *id = json_string_value(value);
    if (json_is_null(value)) {
        return 0;
    }
    deletion->condition = TREE_MATCHING;
    return id && !id_parse(bytes_of_string(id), &deletion->match) ? 0 : -EPROTO;
}

static int add_path(struct buf *paths, struct bytes top, const char *name)
{
    const size_t begin = paths->size;
    if (top.size > 0) {
        buf_add(paths, top);
        buf_add_byte(paths, '/');
    }
    buf_add_string(paths, name);
    const struct bytes path = BYTES(paths->data + begin, paths->size - begin);
    return path.size == 0 ? -EINVAL : path_check(path);
}

int fs_delete_read(const json_t *body, struct bytes top, struct fs_delete *deletion)
{
    json_t *paths = json_object_get(body, "paths");
    const char *name = NULL;
    json_t *value = NULL;
    size_t begin = 0;
    if (!json_is_object(paths)) {
        return -EPROTO;
    }
    deletion->deletions = mem_alloc_array(json_object_size(paths) + 1, sizeof *deletion->deletions);
    json_object_foreach(paths, name, value)
    {
        struct tree_delete *one = &deletion->deletions[deletion->deletions_count++];
        const int bad = add_path(&deletion->paths, top, name);
        const int err = bad ? bad : read_condition(value, one);
        if (err) {
            return err;
        }
        one->path.size = deletion->paths.size - begin;
        begin = deletion->paths.size;
    }
    /* Only now: they do not move any more. */
    for (size_t i = 0, at = 0; i < deletion->deletions_count; i++) {
        deletion->deletions[i].path.data = deletion->paths.data + at;
        at += deletion->deletions[i].path.size;
    }
    return 0;
}
