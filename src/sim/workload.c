/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/workload.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

#define PATH_CHARS 96u
#define DEPTH_MAX 3u
#define PUTS_MAX 6u
/* Tries to find a node that runs. */
#define PICKS_MAX 100u

/* The names below the top; look-alikes are names of their own. */
static const char *const names[] = {"a", "b", "B", "c~file", "\xc3\xa9", "e\xcc\x81"};

enum action { ACT_PUT, ACT_MKDIR, ACT_LINK, ACT_DELETE, ACT_RENAME, ACT_REPLACE, ACT_MANY };

/* A change that was drawn before the transaction, so that it can be made again. */
struct drawn {
    enum action action;
    char path[PATH_CHARS];
    char other[PATH_CHARS];
    char below[PUTS_MAX][2 * PATH_CHARS];
    struct tree_put put;
    struct tree_put puts[PUTS_MAX];
    size_t puts_count;
    bool is_recursive;
};

static void draw_path(struct sim_workload *workload, char ret_path[PATH_CHARS])
{
    struct random *random = &workload->random;
    int size = snprintf(ret_path, PATH_CHARS, "top%llu",
                        (unsigned long long)random_below(random, workload->tops_count));
    for (uint64_t depth = random_below(random, DEPTH_MAX); depth > 0; depth--) {
        size += snprintf(ret_path + size, PATH_CHARS - (size_t)size, "/%s",
                         names[random_below(random, ARRAY_SIZE(names))]);
    }
}

static struct tree_put draw_put(struct sim_workload *workload, const char *path,
                                enum tree_kind kind)
{
    struct tree_put put = {
        .path = bytes_of_string(path),
        .kind = kind,
        .mode = kind == TREE_DIRECTORY ? 0755 : 0644,
        .mtime_ns = (int64_t)sim_world_now_us(workload->world) * 1000,
    };
    if (kind == TREE_FILE) {
        random_fill(&workload->random, put.file_id.bytes, sizeof put.file_id.bytes);
        put.size_bytes = random_below(&workload->random, 1 << 20);
    } else if (kind == TREE_SYMLINK) {
        put.target = bytes_of_string("elsewhere");
    }
    return put;
}

/* Files below `top`, or anywhere; those that do not fit each other are refused as a whole. */
static void draw_puts(struct sim_workload *workload, struct drawn *drawn, const char *top)
{
    struct random *random = &workload->random;
    drawn->puts_count = 1 + (size_t)random_below(random, PUTS_MAX);
    for (size_t i = 0; i < drawn->puts_count; i++) {
        char path[PATH_CHARS];
        draw_path(workload, path);
        snprintf(drawn->below[i], sizeof drawn->below[i], "%s%s%s", top, top[0] ? "/" : "",
                 top[0] ? names[i % ARRAY_SIZE(names)] : path);
        drawn->puts[i] = draw_put(workload, drawn->below[i],
                                  random_below(random, 4) == 0 ? TREE_DIRECTORY : TREE_FILE);
    }
}

static void draw(struct sim_workload *workload, struct drawn *drawn)
{
    static const enum action actions[] = {
        ACT_PUT,    ACT_PUT,    ACT_PUT,    ACT_PUT,    ACT_PUT,     ACT_PUT,
        ACT_MKDIR,  ACT_MKDIR,  ACT_LINK,   ACT_DELETE, ACT_DELETE,  ACT_DELETE,
        ACT_RENAME, ACT_RENAME, ACT_RENAME, ACT_MANY,   ACT_REPLACE,
    };
    struct random *random = &workload->random;
    drawn->action = actions[random_below(random, ARRAY_SIZE(actions))];
    draw_path(workload, drawn->path);
    draw_path(workload, drawn->other);
    drawn->is_recursive = random_below(random, 2) == 0;
    const bool makes_directory = drawn->action == ACT_MKDIR || drawn->action == ACT_REPLACE;
    drawn->put = draw_put(workload, drawn->path,
                          makes_directory ? TREE_DIRECTORY
                                          : (drawn->action == ACT_LINK ? TREE_SYMLINK : TREE_FILE));
    if (drawn->action == ACT_REPLACE || drawn->action == ACT_MANY) {
        draw_puts(workload, drawn, drawn->action == ACT_REPLACE ? drawn->path : "");
    }
}

static int make(void *context, const struct tree *tree, struct kv_txn *txn, struct dot *ret_dot)
{
    const struct drawn *drawn = context;
    const struct tree_delete deletion = {
        .path = drawn->put.path, .recursive = drawn->is_recursive, .condition = TREE_ANY};
    switch (drawn->action) {
    case ACT_DELETE:
        return tree_change_delete(tree, txn, &deletion, ret_dot);
    case ACT_RENAME:
        return tree_change_rename(tree, txn, drawn->put.path, bytes_of_string(drawn->other),
                                  ret_dot);
    case ACT_REPLACE:
        return tree_change_replace_directory(tree, txn, &drawn->put, drawn->puts, drawn->puts_count,
                                             ret_dot);
    case ACT_MANY:
        return tree_change_put_many(tree, txn, drawn->puts, drawn->puts_count, ret_dot);
    default:
        return tree_change_put(tree, txn, &drawn->put, ret_dot);
    }
}

bool sim_workload_change(struct sim_workload *workload, uint32_t slot)
{
    struct drawn drawn = {0};
    draw(workload, &drawn);
    struct dot dot;
    const int err = sim_artel_change(workload->world, slot, make, &drawn, &dot);
    CHECK(err != -EIO && err != -ENOSPC);
    workload->tries++;
    if (err) {
        return false;
    }
    workload->made++;
    sim_oracle_made(workload->oracle, slot, &dot);
    return true;
}

static void on_next(void *context, uint64_t argument)
{
    (void)argument;
    struct sim_workload *workload = context;
    struct sim_world *world = workload->world;
    const uint64_t now_us = sim_world_now_us(world);
    if (workload->pause_us == 0 || now_us >= workload->until_us) {
        return;
    }
    for (uint32_t i = 0; i < PICKS_MAX; i++) {
        const uint32_t slot =
            (uint32_t)random_below(&workload->random, sim_world_slots_count(world));
        if (sim_world_state(world, slot) == SIM_RUNNING) {
            sim_workload_change(workload, slot);
            break;
        }
    }
    sim_world_at(world, now_us + random_below(&workload->random, 2 * workload->pause_us), on_next,
                 workload, 0);
}

void sim_workload_run(struct sim_workload *workload, uint64_t for_us)
{
    workload->until_us = sim_world_now_us(workload->world) + for_us;
    sim_world_at(workload->world, 0, on_next, workload, 0);
}
