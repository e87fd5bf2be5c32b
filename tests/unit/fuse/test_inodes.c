/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"
#include "fuse/inodes.h"
#include "wire/path.h"

static const struct shape file = {.kind = TREE_FILE, .mode = 0644};
static const struct shape directory = {.kind = TREE_DIRECTORY, .mode = 0755};

/* Inodes that went, counted. */
static void count_drop(void *context, struct inode *inode)
{
    (void)inode;
    (*(unsigned *)context)++;
}

struct fixture {
    struct inodes inodes;
    unsigned dropped;
};

static int set_up(void **state)
{
    struct fixture *fixture = mem_alloc(sizeof *fixture);
    inodes_init(&fixture->inodes);
    fixture->inodes.drop = count_drop;
    fixture->inodes.context = &fixture->dropped;
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    inodes_done(&fixture->inodes);
    free(fixture);
    return 0;
}

/* Looked up once. */
static struct inode *add(struct fixture *fixture, struct inode *parent, const char *name,
                         const struct shape *shape)
{
    struct inode *inode = inodes_add(&fixture->inodes, parent, bytes_of_string(name), shape, NULL);
    inode->lookups = 1;
    return inode;
}

static struct inode *child(struct fixture *fixture, struct inode *parent, const char *name)
{
    return inodes_child(&fixture->inodes, parent, bytes_of_string(name));
}

static void assert_path(const struct inode *inode, const char *expected)
{
    CLEANUP_BUF struct buf path = BUF_INIT;
    assert_int_equal(inode_path(inode, &path), 0);
    assert_string_equal(buf_string(&path), expected);
}

static void test_names_and_numbers(void **state)
{
    struct fixture *fixture = *state;
    struct inode *root = fixture->inodes.root;
    struct inode *d = add(fixture, root, "d", &directory);
    struct inode *f = add(fixture, d, "f", &file);
    assert_ptr_equal(inodes_find(&fixture->inodes, INODE_ROOT), root);
    assert_ptr_equal(inodes_find(&fixture->inodes, f->number), f);
    assert_ptr_equal(child(fixture, d, "f"), f);
    assert_null(child(fixture, root, "f"));
    assert_null(child(fixture, d, "F"));
    assert_path(root, "");
    assert_path(d, "d");
    assert_path(f, "d/f");
    CLEANUP_BUF struct buf path = BUF_INIT;
    assert_int_equal(inode_child_path(root, bytes_of_string("x"), &path), 0);
    assert_string_equal(buf_string(&path), "x");
    assert_int_equal(inode_child_path(d, bytes_of_string("x"), &path), 0);
    assert_string_equal(buf_string(&path), "d/x");
    assert_true(inodes_number(&fixture->inodes, d, bytes_of_string("f")) == f->number);
}

/* What was forgotten gets the number back that it had. */
static void test_numbers_are_the_same_again(void **state)
{
    struct fixture *fixture = *state;
    struct inode *f = add(fixture, fixture->inodes.root, "f", &file);
    const uint64_t number = f->number;
    inodes_forget(&fixture->inodes, f, 1);
    assert_int_equal(fixture->dropped, 1);
    assert_null(inodes_find(&fixture->inodes, number));
    assert_true(inodes_number(&fixture->inodes, fixture->inodes.root, bytes_of_string("f")) ==
                number);
    assert_true(add(fixture, fixture->inodes.root, "f", &file)->number == number);
}

/* A file that was replaced and is still open, and the one that has its name. */
static void test_who_has_lost_the_name_keeps_the_number(void **state)
{
    struct fixture *fixture = *state;
    struct inode *old = add(fixture, fixture->inodes.root, "f", &file);
    const uint64_t number = old->number;
    inodes_pin(old);
    inodes_detach(&fixture->inodes, old);
    struct inode *new = add(fixture, fixture->inodes.root, "f", &file);
    assert_true(new->number != number);
    assert_ptr_equal(child(fixture, fixture->inodes.root, "f"), new);
    assert_ptr_equal(inodes_find(&fixture->inodes, number), old);
    CLEANUP_BUF struct buf path = BUF_INIT;
    assert_int_equal(inode_path(old, &path), -ENOENT);
    inodes_forget(&fixture->inodes, old, 1);
    assert_int_equal(fixture->dropped, 0);
    inodes_unpin(&fixture->inodes, old);
    assert_int_equal(fixture->dropped, 1);
    assert_null(inodes_find(&fixture->inodes, number));
}

static void test_a_directory_moves_with_all_below(void **state)
{
    struct fixture *fixture = *state;
    struct inode *root = fixture->inodes.root;
    struct inode *a = add(fixture, root, "a", &directory);
    struct inode *b = add(fixture, root, "b", &directory);
    struct inode *f = add(fixture, a, "f", &file);
    struct inode *there = add(fixture, b, "c", &directory);
    const uint64_t gone = there->number;
    inodes_move(&fixture->inodes, a, b, bytes_of_string("c"));
    assert_path(f, "b/c/f");
    assert_null(child(fixture, root, "a"));
    assert_ptr_equal(child(fixture, b, "c"), a);
    /* It lost its name, and the kernel still knows it. */
    assert_ptr_equal(inodes_find(&fixture->inodes, gone), there);
    inodes_move(&fixture->inodes, a, b, bytes_of_string("c"));
    assert_path(f, "b/c/f");
}

/* The kernel forgets a directory before what is in it. */
static void test_directories_stay_as_long_as_their_children(void **state)
{
    struct fixture *fixture = *state;
    struct inode *d = add(fixture, fixture->inodes.root, "d", &directory);
    struct inode *f = add(fixture, d, "f", &file);
    inodes_forget(&fixture->inodes, d, 1);
    assert_int_equal(fixture->dropped, 0);
    assert_path(f, "d/f");
    inodes_forget(&fixture->inodes, f, 1);
    assert_int_equal(fixture->dropped, 2);
    assert_null(child(fixture, fixture->inodes.root, "d"));
}

static void test_forgets_are_counted(void **state)
{
    struct fixture *fixture = *state;
    struct inode *f = add(fixture, fixture->inodes.root, "f", &file);
    f->lookups = 3;
    inodes_forget(&fixture->inodes, f, 2);
    assert_int_equal(fixture->dropped, 0);
    /* More than there are is no reason to fail. */
    inodes_forget(&fixture->inodes, f, 5);
    assert_int_equal(fixture->dropped, 1);
    inodes_forget(&fixture->inodes, fixture->inodes.root, 1);
    assert_int_equal(fixture->dropped, 1);
}

static void test_what_is_the_same_inode(void **state)
{
    struct fixture *fixture = *state;
    struct inode *root = fixture->inodes.root;
    struct inode *f = add(fixture, root, "f", &file);
    struct shape shape = file;
    assert_true(inode_is(f, &shape, NULL));
    shape.mode = 0600; /* a mode is no other file */
    assert_true(inode_is(f, &shape, NULL));
    shape.file_id.bytes[31] = 1;
    assert_false(inode_is(f, &shape, NULL));
    assert_false(inode_is(f, &directory, NULL));
    const struct shape link = {.kind = TREE_SYMLINK};
    struct inode *l = inodes_add(&fixture->inodes, root, bytes_of_string("l"), &link, "there");
    assert_true(inode_is(l, &link, "there"));
    assert_false(inode_is(l, &link, "elsewhere"));
    assert_true(inode_is(root, &directory, NULL));
}

static void test_limits_of_paths(void **state)
{
    struct fixture *fixture = *state;
    char name[PATH_NAME_BYTES_MAX + 2] = {0};
    memset(name, 'n', PATH_NAME_BYTES_MAX);
    struct inode *at = fixture->inodes.root;
    CLEANUP_BUF struct buf path = BUF_INIT;
    /* 16 * 255 and 15 between them: 4,095 bytes. */
    for (int i = 0; i < 16; i++) {
        at = add(fixture, at, name, &directory);
    }
    assert_int_equal(inode_path(at, &path), 0);
    assert_int_equal(path.size, PATH_BYTES_MAX - 1);
    assert_int_equal(inode_child_path(at, bytes_of_string("x"), &path), -ENAMETOOLONG);
    at = add(fixture, at, "x", &directory);
    assert_int_equal(inode_path(at, &path), -ENAMETOOLONG);
    name[PATH_NAME_BYTES_MAX] = 'n';
    assert_null(child(fixture, fixture->inodes.root, name));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_names_and_numbers),
        TEST(test_numbers_are_the_same_again),
        TEST(test_who_has_lost_the_name_keeps_the_number),
        TEST(test_a_directory_moves_with_all_below),
        TEST(test_directories_stay_as_long_as_their_children),
        TEST(test_forgets_are_counted),
        TEST(test_what_is_the_same_inode),
        TEST(test_limits_of_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
