/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* malloc(0) may answer NULL, which would look like failure: nothing is asked for as one byte. */
static size_t size_or_one(size_t size)
{
    return size ? size : 1;
}

static void *or_abort(void *memory)
{
    if (!memory) {
        mem_out_of_memory();
    }
    return memory;
}

void *mem_alloc(size_t size)
{
    return or_abort(calloc(1, size_or_one(size)));
}

void *mem_alloc_array(size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) {
        mem_out_of_memory();
    }
    return mem_alloc(total);
}

void *mem_resize_array(void *old, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) {
        mem_out_of_memory();
    }
    return or_abort(realloc(old, size_or_one(total)));
}

void *mem_alloc_aligned(size_t alignment, size_t size)
{
    CHECK(alignment > 0 && (alignment & (alignment - 1)) == 0);

    /* posix_memalign() refuses less than a pointer's alignment; more than asked for is fine. */
    const size_t at_least = alignment < sizeof(void *) ? sizeof(void *) : alignment;
    void *memory = NULL;
    if (posix_memalign(&memory, at_least, size_or_one(size)) != 0) {
        mem_out_of_memory();
    }
    return memory;
}

char *mem_copy_string(const char *text)
{
    return mem_copy(text, strlen(text) + 1);
}

void *mem_copy(const void *data, size_t size)
{
    void *copy = or_abort(malloc(size_or_one(size)));
    if (size) {
        memcpy(copy, data, size);
    }
    return copy;
}

char *mem_format(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *text = NULL;
    const int size = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (size < 0) {
        mem_out_of_memory();
    }
    return text;
}

/* The last words go out by write() from the stack: the heap or stdio may be what is broken. */
__attribute__((noreturn)) static void die(const char *words, size_t size)
{
    const ssize_t ignored = write(STDERR_FILENO, words, size);
    (void)ignored;
    abort();
}

void mem_out_of_memory(void)
{
    static const char words[] = "level=error event=out_of_memory\n";
    die(words, sizeof words - 1);
}

void check_failed(const char *condition, const char *file, int line)
{
    char words[512];
    const int size = snprintf(words, sizeof words,
                              "level=error event=check_failed file=%s line=%d condition=\"%s\"\n",
                              file, line, condition);
    if (size < 0) {
        abort();
    }
    die(words, (size_t)size < sizeof words ? (size_t)size : sizeof words - 1);
}
