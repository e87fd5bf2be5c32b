/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"

#include "helpers.h"

/* Out of memory must come back as NULL from malloc(), as it does without a sanitizer. */
const char *__asan_default_options(void);
const char *__tsan_default_options(void);

const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static void alloc_gives_zeros(void **state)
{
    (void)state;
    /* Dirty the heap first, so that zeros are no accident. */
    void *dirt = malloc(300);
    assert_non_null(dirt);
    memset(dirt, 0xff, 300);
    free(dirt);

    uint8_t *single = mem_alloc(300);
    uint8_t *many = mem_alloc_array(100, 3);
    for (size_t i = 0; i < 300; i++) {
        assert_int_equal(single[i], 0);
        assert_int_equal(many[i], 0);
    }
    free(single);
    free(many);
}

static void nothing_is_still_a_pointer(void **state)
{
    (void)state;
    void *nothing[] = {mem_alloc(0),
                       mem_alloc_array(0, 8),
                       mem_alloc_array(8, 0),
                       mem_copy(NULL, 0),
                       mem_alloc_aligned(64, 0),
                       mem_copy_string(""),
                       mem_resize_array(NULL, 0, 8)};
    for (size_t i = 0; i < ARRAY_SIZE(nothing); i++) {
        assert_non_null(nothing[i]);
        free(nothing[i]);
    }
}

static void resize_keeps_the_content(void **state)
{
    (void)state;
    uint32_t *numbers = mem_resize_array(NULL, 2, sizeof *numbers);
    numbers[0] = 7;
    numbers[1] = 8;
    numbers = mem_resize_array(numbers, 10000, sizeof *numbers);
    numbers[9999] = 9;
    assert_int_equal(numbers[0], 7);
    assert_int_equal(numbers[1], 8);
    numbers = mem_resize_array(numbers, 1, sizeof *numbers);
    assert_int_equal(numbers[0], 7);
    free(numbers);
}

static void aligned_is_aligned(void **state)
{
    (void)state;
    for (size_t alignment = 1; alignment <= 65536; alignment *= 2) {
        uint8_t *memory = mem_alloc_aligned(alignment, 5);
        assert_int_equal((uintptr_t)memory % alignment, 0);
        memory[4] = 1;
        free(memory);
    }
}

static void copies_are_equal_and_apart(void **state)
{
    (void)state;
    const char text[] = "some text";
    char *copy = mem_copy_string(text);
    assert_string_equal(copy, text);
    assert_ptr_not_equal(copy, text);
    free(copy);

    uint8_t *bytes = mem_copy("a\0b", 3);
    assert_memory_equal(bytes, "a\0b", 3);
    free(bytes);
}

static void format_is_printf(void **state)
{
    (void)state;
    char *text = mem_format("%s-%d", "a", 5);
    assert_string_equal(text, "a-5");
    free(text);
    text = mem_format("%0500d", 1);
    assert_int_equal(strlen(text), 500);
    free(text);
}

/* Kept from the compiler, which would warn of such sizes. */
static volatile size_t huge = SIZE_MAX / 2;

static void ask_for_too_much(void)
{
    free(mem_alloc(huge - 4096));
}

static void resize_to_too_much(void)
{
    free(mem_resize_array(NULL, huge - 4096, 1));
}

/* Times two that is 2^64 + 2: two bytes, if nobody looks. */
static volatile size_t half_and_one = SIZE_MAX / 2 + 2;

static void overflow_in_alloc(void)
{
    free(mem_alloc_array(half_and_one, 2));
}

static void overflow_in_resize(void)
{
    free(mem_resize_array(NULL, half_and_one, 2));
}

static void out_of_memory_ends_the_process(void **state)
{
    (void)state;
    assert_aborts(ask_for_too_much, "event=out_of_memory\n");
    assert_aborts(resize_to_too_much, "event=out_of_memory\n");
    assert_aborts(overflow_in_alloc, "event=out_of_memory\n");
    assert_aborts(overflow_in_resize, "event=out_of_memory\n");
}

static void check_what_is_false(void)
{
    CHECK(huge == 1);
}

static void check_what_is_true(void)
{
    CHECK(huge > 1);
}

static void align_to_no_power_of_two(void)
{
    free(mem_alloc_aligned(24, 1));
}

static void check_long_condition(void)
{
    static char condition[2000];
    memset(condition, 'c', sizeof condition - 1);
    check_failed(condition, "file.c", 1);
}

static void check_ends_the_process_and_says_where(void **state)
{
    (void)state;
    assert_aborts(check_what_is_false, "condition=\"huge == 1\"\n");
    assert_aborts(check_what_is_false, "test_mem.c");
    assert_aborts(align_to_no_power_of_two, "event=check_failed");
    assert_aborts(check_long_condition, "cccc");

    char text[256];
    assert_int_equal(run_child(check_what_is_true, text, sizeof text), 0);
}

static void container_of_finds_the_struct(void **state)
{
    (void)state;
    struct outer {
        int before;
        int member;
    } outer = {.before = 1};
    int *member = &outer.member;
    assert_ptr_equal(CONTAINER_OF(member, struct outer, member), &outer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alloc_gives_zeros),
        cmocka_unit_test(nothing_is_still_a_pointer),
        cmocka_unit_test(resize_keeps_the_content),
        cmocka_unit_test(aligned_is_aligned),
        cmocka_unit_test(copies_are_equal_and_apart),
        cmocka_unit_test(format_is_printf),
        cmocka_unit_test(out_of_memory_ends_the_process),
        cmocka_unit_test(check_ends_the_process_and_says_where),
        cmocka_unit_test(container_of_finds_the_struct),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
