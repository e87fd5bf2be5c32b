/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random changes of the tree and of a plain table of paths: both answer alike, hold the same, and
 * count the same holds. ARTEL_TEST_SEED=<number> repeats a run.
 */
#include "helpers.h"

#include "base/random.h"

#define PATH_CHARS 64
#define ENTRIES_MAX 512
#define PASTS_MAX 8192

struct plain_entry {
    char path[PATH_CHARS];
    char content; /* '/': a directory that was made; '>': a symlink */
};

struct plain_past {
    char content;
    uint64_t ended_ms;
};

struct model {
    struct fixture *fixture;
    struct random random;
    struct plain_entry entries[ENTRIES_MAX];
    size_t count;
    struct plain_past pasts[PASTS_MAX];
    size_t pasts_count;
    size_t changed; /* how many changes were not refused */
};

/* ---- the plain table ---- */

static bool is_below(const char *path, const char *top)
{
    const size_t size = strlen(top);
    return strncmp(path, top, size) == 0 && path[size] == '/';
}

static struct plain_entry *plain_find(struct model *model, const char *path)
{
    for (size_t i = 0; i < model->count; i++) {
        if (strcmp(model->entries[i].path, path) == 0) {
            return &model->entries[i];
        }
    }
    return NULL;
}

static bool has_below(struct model *model, const char *path)
{
    for (size_t i = 0; i < model->count; i++) {
        if (is_below(model->entries[i].path, path)) {
            return true;
        }
    }
    return false;
}

static bool is_directory(struct model *model, const char *path)
{
    const struct plain_entry *entry = plain_find(model, path);
    return (entry && entry->content == '/') || has_below(model, path);
}

static bool is_there(struct model *model, const char *path)
{
    return plain_find(model, path) || has_below(model, path);
}

/* A file on the way to `path`. */
static bool is_blocked(struct model *model, const char *path)
{
    for (size_t i = 0; i < model->count; i++) {
        if (model->entries[i].content != '/' && is_below(path, model->entries[i].path)) {
            return true;
        }
    }
    return false;
}

static void plain_end(struct model *model, char content)
{
    assert_true(model->pasts_count < PASTS_MAX);
    model->pasts[model->pasts_count++] = (struct plain_past){content, model->fixture->host.now_ms};
}

static void plain_remove(struct model *model, struct plain_entry *entry)
{
    plain_end(model, entry->content);
    *entry = model->entries[--model->count];
}

static void plain_set(struct model *model, const char *path, char content)
{
    struct plain_entry *entry = plain_find(model, path);
    if (entry) {
        plain_end(model, entry->content);
    } else {
        assert_true(model->count < ENTRIES_MAX);
        entry = &model->entries[model->count++];
    }
    char copy[PATH_CHARS];
    assert_true(strlen(path) < sizeof copy);
    snprintf(copy, sizeof copy, "%s", path);
    memcpy(entry->path, copy, sizeof copy);
    entry->content = content;
}

static void plain_remove_below(struct model *model, const char *top)
{
    for (size_t i = 0; i < model->count;) {
        if (is_below(model->entries[i].path, top)) {
            plain_remove(model, &model->entries[i]);
        } else {
            i++;
        }
    }
}

static int plain_put(struct model *model, const char *path, char content)
{
    if (is_blocked(model, path)) {
        return -ENOTDIR;
    }
    if (content != '/' && is_directory(model, path)) {
        return -EISDIR;
    }
    if (content == '/' && is_there(model, path) && !is_directory(model, path)) {
        return -EEXIST;
    }
    plain_set(model, path, content);
    return 0;
}

static int plain_delete(struct model *model, const char *path, bool recursive)
{
    if (is_blocked(model, path)) {
        return -ENOTDIR;
    }
    if (!is_there(model, path)) {
        return -ENOENT;
    }
    if (has_below(model, path) && !recursive) {
        return -ENOTEMPTY;
    }
    plain_remove_below(model, path);
    struct plain_entry *entry = plain_find(model, path);
    if (entry) {
        plain_remove(model, entry);
    }
    return 0;
}

static int plain_rename(struct model *model, const char *from, const char *to)
{
    if (is_blocked(model, from)) {
        return -ENOTDIR;
    }
    if (!is_there(model, from)) {
        return -ENOENT;
    }
    const bool moves_directory = is_directory(model, from);
    if (strcmp(from, to) == 0 || (moves_directory && is_below(to, from))) {
        return -EINVAL;
    }
    if (is_blocked(model, to)) {
        return -ENOTDIR;
    }
    if (is_there(model, to)) {
        if (moves_directory != is_directory(model, to)) {
            return moves_directory ? -ENOTDIR : -EISDIR;
        }
        if (has_below(model, to)) {
            return -ENOTEMPTY;
        }
    }
    struct plain_entry moved[ENTRIES_MAX];
    size_t moved_count = 0;
    for (size_t i = 0; i < model->count;) {
        struct plain_entry *entry = &model->entries[i];
        if (strcmp(entry->path, from) == 0 || is_below(entry->path, from)) {
            moved[moved_count++] = *entry;
            plain_remove(model, entry);
        } else {
            i++;
        }
    }
    for (size_t i = 0; i < moved_count; i++) {
        char path[2 * PATH_CHARS];
        snprintf(path, sizeof path, "%s%s", to, moved[i].path + strlen(from));
        plain_set(model, path, moved[i].content);
    }
    return 0;
}

/* ---- both ---- */

static void random_path(struct model *model, char ret_path[PATH_CHARS])
{
    static const char *const names[] = {"a", "b", "a-", "a~file", "cc", "d"};
    size_t size = 0;
    const uint64_t depth = 1 + random_below(&model->random, 4);
    for (uint64_t i = 0; i < depth; i++) {
        size += (size_t)snprintf(ret_path + size, PATH_CHARS - size, "%s%s", i ? "/" : "",
                                 names[random_below(&model->random, ARRAY_SIZE(names))]);
    }
}

static struct tree_put put_of(const char *path, char content)
{
    return content == '/'   ? directory_put_of(path)
           : content == '>' ? symlink_put(path, "target")
                            : file_put(path, content);
}

static char random_content(struct model *model)
{
    static const char contents[] = "uvwxyz/>";
    return contents[random_below(&model->random, sizeof contents - 1)];
}

static int step_replace(struct model *model, const char *top, int *ret_expected)
{
    char paths[6][2 * PATH_CHARS];
    struct tree_put puts[6];
    char contents[6];
    size_t count = 0;
    const uint64_t wanted = random_below(&model->random, ARRAY_SIZE(puts) + 1);
    for (uint64_t i = 0; i < wanted; i++) {
        char below[PATH_CHARS];
        random_path(model, below);
        snprintf(paths[count], sizeof paths[count], "%s/%s", top, below);
        bool fits = strlen(paths[count]) < PATH_CHARS;
        contents[count] = random_content(model);
        for (size_t j = 0; j < count; j++) {
            fits = fits && strcmp(paths[j], paths[count]) != 0 &&
                   !(is_below(paths[j], paths[count]) && contents[count] != '/') &&
                   !(is_below(paths[count], paths[j]) && contents[j] != '/');
        }
        if (fits) {
            puts[count] = put_of(paths[count], contents[count]);
            count++;
        }
    }
    *ret_expected = plain_put(model, top, '/');
    if (*ret_expected == 0) {
        for (size_t i = 0; i < model->count;) {
            bool stays = !is_below(model->entries[i].path, top);
            for (size_t j = 0; j < count; j++) {
                stays = stays || strcmp(model->entries[i].path, paths[j]) == 0;
            }
            if (stays) {
                i++;
            } else {
                plain_remove(model, &model->entries[i]);
            }
        }
        for (size_t i = 0; i < count; i++) {
            plain_set(model, paths[i], contents[i]);
        }
    }
    const struct tree_put put = directory_put_of(top);
    return tree_change_replace_directory(model->fixture->tree, model->fixture->txn, &put, puts,
                                         count, &model->fixture->dot);
}

/* True if what moves would come too deep for the plain table. */
static bool is_too_deep(struct model *model, const char *from, const char *to)
{
    for (size_t i = 0; i < model->count; i++) {
        const char *path = model->entries[i].path;
        if (is_below(path, from) && strlen(path) - strlen(from) + strlen(to) >= PATH_CHARS) {
            return true;
        }
    }
    return false;
}

static void step_expire(struct model *model)
{
    const uint64_t before_ms = model->fixture->host.now_ms - random_below(&model->random, 100);
    bool more = true;
    while (more) {
        assert_int_equal(tree_expire(model->fixture->tree, model->fixture->txn, before_ms,
                                     1 + random_below(&model->random, 20), &more),
                         0);
    }
    size_t kept = 0;
    for (size_t i = 0; i < model->pasts_count; i++) {
        if (model->pasts[i].ended_ms >= before_ms) {
            model->pasts[kept++] = model->pasts[i];
        }
    }
    model->pasts_count = kept;
}

static void step(struct model *model)
{
    struct fixture *fixture = model->fixture;
    fixture->host.now_ms += random_below(&model->random, 3);
    char path[PATH_CHARS];
    char other[PATH_CHARS];
    random_path(model, path);
    random_path(model, other);
    int expected = 0;
    int err = 0;
    const uint64_t kind = random_below(&model->random, 16);
    if (kind < 7) {
        const char content = random_content(model);
        expected = plain_put(model, path, content);
        err = change_put(fixture, put_of(path, content));
    } else if (kind < 11) {
        const bool recursive = random_below(&model->random, 3) == 0;
        expected = plain_delete(model, path, recursive);
        err = delete_path(fixture, path, recursive);
    } else if (kind < 14 && is_too_deep(model, path, other)) {
        return;
    } else if (kind < 14) {
        expected = plain_rename(model, path, other);
        err = rename_path(fixture, path, other);
    } else if (kind < 15) {
        err = step_replace(model, path, &expected);
    } else {
        step_expire(model);
    }
    assert_int_equal(err, expected);
    model->changed += !err;
}

static int compare_plain(const void *left, const void *right)
{
    const char *a = left;
    const char *b = right;
    while (*a && *a == *b) {
        a++;
        b++;
    }
    /* '/' before all other bytes: what is below a directory comes right behind it. */
    const int at_a = *a == '/' ? 1 : *a ? 2 + (unsigned char)*a : 0;
    const int at_b = *b == '/' ? 1 : *b ? 2 + (unsigned char)*b : 0;
    return at_a - at_b;
}

static void check_model(struct model *model)
{
    /* All paths, and those that lead to them. */
    char(*paths)[PATH_CHARS] = mem_alloc_array(ENTRIES_MAX * 8, PATH_CHARS);
    size_t count = 0;
    for (size_t i = 0; i < model->count; i++) {
        const char *path = model->entries[i].path;
        for (size_t at = 1; at <= strlen(path); at++) {
            if (path[at] == '/' || path[at] == 0) {
                assert_true(count < (size_t)ENTRIES_MAX * 8);
                snprintf(paths[count++], PATH_CHARS, "%.*s", (int)at, path);
            }
        }
    }
    qsort(paths, count, PATH_CHARS, compare_plain);
    CLEANUP_BUF struct buf expected = BUF_INIT;
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && strcmp(paths[i - 1], paths[i]) == 0) {
            continue;
        }
        const struct plain_entry *entry = plain_find(model, paths[i]);
        const char content = entry ? entry->content : '(';
        buf_add_string(&expected, paths[i]);
        if (content == '/' || content == '(') {
            buf_add_string(&expected, content == '/' ? "/ " : "(/) ");
        } else if (content == '>') {
            buf_add_string(&expected, "->target ");
        } else {
            buf_add_format(&expected, "=%c ", content);
        }
    }
    free(paths);
    assert_tree(model->fixture, buf_string(&expected));
    check_sums(model->fixture);

    int64_t holds[256] = {0};
    for (size_t i = 0; i < model->count; i++) {
        holds[(uint8_t)model->entries[i].content]++;
    }
    for (size_t i = 0; i < model->pasts_count; i++) {
        holds[(uint8_t)model->pasts[i].content]++;
    }
    holds['/'] = 0;
    holds['>'] = 0;
    assert_memory_equal(holds, model->fixture->host.holds, sizeof holds);
}

static void check_find(struct model *model)
{
    char path[PATH_CHARS];
    random_path(model, path);
    struct tree_entry entry;
    const int err = find(model->fixture, path, &entry);
    int expected = is_there(model, path) ? 0 : -ENOENT;
    if (is_blocked(model, path)) {
        expected = -ENOTDIR;
    }
    assert_int_equal(err, expected);
    if (!err) {
        assert_int_equal(entry.version.kind == TREE_DIRECTORY, is_directory(model, path));
        assert_int_equal(entry.is_explicit, plain_find(model, path) != NULL);
    }
}

static void run(bool on_disk, uint64_t seed, int steps)
{
    print_message("seed %llu\n", (unsigned long long)seed);
    struct model *model = mem_alloc(sizeof *model);
    model->fixture = fixture_new(on_disk, 'A');
    random_init(&model->random, seed);
    for (int i = 0; i < steps; i++) {
        step(model);
        check_find(model);
        if (i % 7 == 0) {
            check_model(model);
        }
        if (random_below(&model->random, 50) == 0) {
            next_txn(model->fixture);
        }
        if (on_disk && i % 400 == 399) {
            commit(model->fixture);
            fixture_close(model->fixture);
            fixture_open(model->fixture, 'B');
            check_model(model);
        }
    }
    assert_true(model->changed > (size_t)steps / 4);
    fixture_free(model->fixture);
    free(model);
}

static void run_seeds(bool on_disk, int seeds, int steps)
{
    const char *given = getenv("ARTEL_TEST_SEED");
    uint64_t first = 0;
    random_system(&first, sizeof first);
    first %= 1000000000;
    if (given) {
        first = strtoull(given, NULL, 10);
        seeds = 1;
    }
    for (int i = 0; i < seeds; i++) {
        run(on_disk, first + (uint64_t)i, steps);
    }
}

static void test_memory_does_as_the_plain_one(void **state)
{
    (void)state;
    run_seeds(false, 4, 3000);
}

static void test_lmdb_does_as_the_plain_one(void **state)
{
    (void)state;
    run_seeds(true, 2, 3000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_does_as_the_plain_one),
        cmocka_unit_test(test_lmdb_does_as_the_plain_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
