/* SPDX-License-Identifier: Apache-2.0 */
#include "tree/way_priv.h"

#include <stdlib.h>

#include "base/mem.h"
#include "tree/rows_priv.h"

void way_done(struct way *way)
{
    buf_done(&way->path);
    free(way->steps);
    *way = (struct way){0};
}

static void cut(struct way *way, size_t steps_count)
{
    way->steps_count = steps_count;
    way->path.size = steps_count ? way->steps[steps_count - 1].path_bytes : 0;
}

uint64_t way_back(struct way *way, struct bytes path, struct bytes *ret_rest)
{
    *ret_rest = path;
    if (!way) {
        return DIRECTORY_ROOT;
    }
    const size_t common = way->forgets ? 0 : bytes_common_size(buf_bytes(&way->path), path);
    size_t kept = way->steps_count;
    while (kept > 0) {
        const size_t path_bytes = way->steps[kept - 1].path_bytes;
        if (path_bytes <= common && path_bytes < path.size && path.data[path_bytes] == '/') {
            break;
        }
        kept--;
    }
    cut(way, kept);
    if (kept == 0) {
        return DIRECTORY_ROOT;
    }
    const size_t begin = way->path.size + 1;
    *ret_rest = BYTES(path.data + begin, path.size - begin);
    return way->steps[kept - 1].directory;
}

void way_enter(struct way *way, struct bytes path, struct bytes rest, uint64_t directory)
{
    if (!way) {
        return;
    }
    const size_t path_bytes = path.size - rest.size - 1;
    CHECK(rest.size > 0 && path_bytes > way->path.size);
    if (way->steps_count == way->steps_capacity) {
        way->steps_capacity = way->steps_capacity ? 2 * way->steps_capacity : 16;
        way->steps = mem_resize_array(way->steps, way->steps_capacity, sizeof *way->steps);
    }
    buf_add(&way->path, BYTES(path.data + way->path.size, path_bytes - way->path.size));
    way->steps[way->steps_count++] = (struct way_step){path_bytes, directory};
}

void way_leave(struct way *way, uint64_t directory)
{
    for (size_t i = way->steps_count; i > 0; i--) {
        if (way->steps[i - 1].directory == directory) {
            cut(way, i - 1);
            return;
        }
    }
}
