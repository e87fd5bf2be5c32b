/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One bit is flipped in each of many blocks, behind the back of the store. Whoever reads gets the
 * right bytes or an error; what nobody reads is found by scrub; what is put again is whole again.
 *
 * Damage that is found drops the place of the block, so each flip is found once. Rounds that find
 * by reads and views take turns with rounds that find by scrub; after each, all is put again.
 */
#include "helpers.h"

#include <inttypes.h>
#include <stdatomic.h>

/* All of them where syncs cost nothing and nothing is instrumented. */
#define FLIPS 100000u
#define FLIPS_FEW 4000u
#define FILES 900
#define BLOCKS_MAX 1500
#define MAPPINGS_MAX 1024

struct flipped_block {
    struct bytes content;
    size_t file;
    struct id id;
    char path[160]; /* the segment that it lies in, */
    uint64_t offset_bytes;
    bool is_flipped;
};

struct flips {
    struct scratch *scratch;
    struct random random;
    uint8_t *data[FILES];
    struct bytes files[FILES];
    struct id ids[FILES];
    bool is_hit[FILES]; /* by a flip; scrub takes it off */
    struct flipped_block blocks[BLOCKS_MAX];
    size_t blocks_count;
    size_t flipped_count; /* in this round */
    size_t found_count;
};

/* Most are small, some of several spans, a few of several blocks. */
static size_t random_size(struct random *random)
{
    const uint64_t kind = random_below(random, 20);
    if (kind == 0) {
        return 1 + random_below(random, 600000);
    }
    return 1 + random_below(random, kind < 4 ? 200000 : 12000);
}

static void make_files(struct flips *flips)
{
    for (size_t i = 0; i < FILES; i++) {
        const size_t size = random_size(&flips->random);
        flips->data[i] = make_content(random_u64(&flips->random), size);
        flips->files[i] = BYTES(flips->data[i], size);
        flips->ids[i] = expected_id(flips->files[i]);
        for (size_t at = 0; at < size; at += BLOCK) {
            assert_true(flips->blocks_count < BLOCKS_MAX);
            struct flipped_block *block = &flips->blocks[flips->blocks_count++];
            const size_t left = size - at;
            block->content = BYTES(flips->data[i] + at, left < BLOCK ? left : BLOCK);
            block->file = i;
            block->id = block_id(block->content);
        }
    }
}

static void count_answer(void *context, int err, const struct store_put_result *result)
{
    _Atomic size_t *waiting = context;
    MUST(err == 0 && result);
    (*waiting)--;
}

/* In few groups of the writer: to wait for each file would take most of the time. */
static void put_files(struct flips *flips)
{
    struct store *store = flips->scratch->store;
    _Atomic size_t waiting = FILES;
    for (size_t i = 0; i < FILES; i++) {
        struct store_put *put = NULL;
        assert_ok(store_put_begin(store, STORE_ORIGIN, &put));
        assert_ok(store_put_write(put, flips->files[i]));
        store_put_commit_async(put, count_answer, &waiting);
    }
    put_bytes(store, STORE_ORIGIN, flips->files[0]); /* answered after all others */
    assert_int_equal(waiting, 0);
    assert_int_equal(status_of(store).lost_count, 0);
}

/* ---- where the blocks lie: the mappings of this process tell by the views ---- */

struct mapping {
    uintptr_t begin;
    uintptr_t end;
    uint64_t offset_bytes;
    char path[160];
};

struct mappings {
    struct mapping segments[MAPPINGS_MAX];
    size_t count;
};

static void read_mappings(struct mappings *mappings)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    assert_non_null(maps);
    char line[512];
    mappings->count = 0;
    while (fgets(line, sizeof line, maps)) {
        assert_true(mappings->count < MAPPINGS_MAX);
        struct mapping *mapping = &mappings->segments[mappings->count];
        int path_at = 0;
        if (strstr(line, ".seg\n") &&
            sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %*s %" SCNx64 " %*s %*s %n", &mapping->begin,
                   &mapping->end, &mapping->offset_bytes, &path_at) == 3) {
            line[strcspn(line, "\n")] = '\0';
            snprintf(mapping->path, sizeof mapping->path, "%s", line + path_at);
            mappings->count++;
        }
    }
    fclose(maps);
}

static bool find_mapping(const struct mappings *mappings, const uint8_t *data,
                         struct flipped_block *block)
{
    for (size_t i = 0; i < mappings->count; i++) {
        const struct mapping *mapping = &mappings->segments[i];
        if (mapping->begin <= (uintptr_t)data && (uintptr_t)data < mapping->end) {
            snprintf(block->path, sizeof block->path, "%s", mapping->path);
            block->offset_bytes = mapping->offset_bytes + ((uintptr_t)data - mapping->begin);
            return true;
        }
    }
    return false;
}

/* All blocks must be right at this moment. */
static void find_blocks(struct flips *flips)
{
    static struct mappings mappings;
    mappings.count = 0;
    for (size_t i = 0; i < flips->blocks_count; i++) {
        struct flipped_block *block = &flips->blocks[i];
        struct store_view view;
        assert_ok(store_view_open(flips->scratch->store, &block->id, &view));
        assert_true(bytes_equal(view.bytes, block->content));
        if (!find_mapping(&mappings, view.bytes.data, block)) {
            read_mappings(&mappings);
            assert_true(find_mapping(&mappings, view.bytes.data, block));
        }
        store_view_close(&view);
    }
}

static void flip_bit(struct flips *flips, struct flipped_block *block)
{
    CLEANUP_FD int fd = open(block->path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    const uint64_t bit = random_below(&flips->random, 8 * block->content.size);
    const uint8_t mask = (uint8_t)(1u << bit % 8);
    const uint64_t at = block->offset_bytes + bit / 8;
    uint8_t byte = 0;
    assert_ok(file_read_all_at(fd, &byte, 1, at));
    assert_int_equal(byte, block->content.data[bit / 8]);
    byte ^= mask;
    assert_ok(file_write_all_at(fd, BYTES(&byte, 1), at));
}

/* In seven of eight blocks. */
static void flip_bits(struct flips *flips)
{
    flips->flipped_count = 0;
    for (size_t i = 0; i < flips->blocks_count; i++) {
        struct flipped_block *block = &flips->blocks[i];
        block->is_flipped = random_below(&flips->random, 8) > 0;
        if (block->is_flipped) {
            flip_bit(flips, block);
            flips->flipped_count++;
            flips->is_hit[block->file] = true;
        }
    }
}

static void read_whole(const struct flips *flips, const struct flipped_block *block, uint8_t *data)
{
    const uint32_t size = (uint32_t)block->content.size;
    const int err = store_read_block(flips->scratch->store, &block->id, 0, data, size);
    if (block->is_flipped) {
        /* -ENOENT: the read of a range has found it. */
        assert_true(err == -EBADMSG || err == -ENOENT);
    } else {
        assert_ok(err);
        assert_memory_equal(data, block->content.data, size);
    }
}

static void read_range(struct flips *flips, const struct flipped_block *block, uint8_t *data)
{
    const uint32_t begin = (uint32_t)random_below(&flips->random, block->content.size);
    const uint32_t size = 1 + (uint32_t)random_below(&flips->random, block->content.size - begin);
    const int err = store_read_block(flips->scratch->store, &block->id, begin, data, size);
    assert_true(err == 0 || (err == -EBADMSG && block->is_flipped));
    if (!err) {
        assert_memory_equal(data, block->content.data + begin, size);
    }
}

static void view_block(const struct flips *flips, const struct flipped_block *block)
{
    struct store_view view;
    const int err = store_view_open(flips->scratch->store, &block->id, &view);
    assert_int_equal(err, block->is_flipped ? -EBADMSG : 0);
    if (!err) {
        assert_true(bytes_equal(view.bytes, block->content));
        store_view_close(&view);
    }
}

/* A span at a time. Those before the flipped bit are right; the reader itself says so of the
 * others, with or without another look from outside. */
static void read_pieces(const struct flips *flips, const struct flipped_block *block, uint8_t *data)
{
    struct store_reader *reader = NULL;
    assert_ok(store_reader_open(flips->scratch->store, &block->id, &reader));
    const uint32_t size = (uint32_t)block->content.size;
    int bad = 0;
    for (uint32_t at = 0; at < size; at += STORE_SPAN_BYTES) {
        const uint32_t count = size - at < STORE_SPAN_BYTES ? size - at : STORE_SPAN_BYTES;
        const int err = store_reader_copy(reader, at, data, count);
        if (!err) {
            assert_memory_equal(data, block->content.data + at, count);
        }
        assert_true(err == 0 || err == -EBADMSG || err == -ENOENT);
        bad += err == -EBADMSG;
    }
    store_reader_close(reader);
    assert_int_equal(bad, block->is_flipped);
}

static void find_by_reading(struct flips *flips)
{
    CLEANUP_FREE uint8_t *data = mem_alloc(BLOCK);
    for (size_t i = 0; i < flips->blocks_count; i++) {
        const struct flipped_block *block = &flips->blocks[i];
        if (i % 3 == 0) {
            view_block(flips, block);
        } else if (i % 3 == 1) {
            read_pieces(flips, block, data);
        } else {
            read_range(flips, block, data);
            read_whole(flips, block, data);
        }
        assert_int_equal(store_has_block(flips->scratch->store, &block->id), !block->is_flipped);
    }
    memset(flips->is_hit, 0, sizeof flips->is_hit);
}

static void note_hit(void *context, const struct id *file, uint32_t blocks_lost)
{
    struct flips *flips = context;
    MUST(blocks_lost > 0);
    for (size_t i = 0; i < FILES; i++) {
        if (id_equal(&flips->ids[i], file)) {
            MUST(flips->is_hit[i]);
            flips->is_hit[i] = false;
        }
    }
}

static void find_by_scrub(struct flips *flips)
{
    const struct store_scrub_options options = {.hit_file = note_hit, .context = flips};
    struct store_scrub_report report;
    assert_ok(store_scrub(flips->scratch->store, &options, &report));
    assert_int_equal(report.blocks_bad, flips->flipped_count);
    assert_int_equal(report.blocks_checked, flips->blocks_count);
    assert_int_equal(report.files_checked, FILES);
    for (size_t i = 0; i < FILES; i++) {
        assert_false(flips->is_hit[i]); /* all were named */
    }
}

static void no_flip_is_delivered_and_all_are_found(void **state)
{
    struct scratch *scratch = *state;
    scratch->options.segment_bytes = 4 * MIB;
    scratch_open(scratch);
    struct flips *flips = mem_alloc(sizeof *flips);
    flips->scratch = scratch;
    random_init(&flips->random, test_seed("flips"));
    make_files(flips);
    put_files(flips);

    const bool few = IS_SANITIZED || strncmp(scratch->root, "/dev/shm/", 9) != 0;
    const size_t wanted = few ? FLIPS_FEW : FLIPS;
    for (size_t round = 0; flips->found_count < wanted; round++) {
        find_blocks(flips);
        const uint64_t before = status_of(scratch->store).corrupt_count;
        flip_bits(flips);
        if (round % 2 == 0) {
            find_by_reading(flips);
        } else {
            find_by_scrub(flips);
        }
        const struct store_status status = status_of(scratch->store);
        assert_int_equal(status.corrupt_count - before, flips->flipped_count);
        assert_int_equal(status.lost_count, flips->flipped_count);
        flips->found_count += flips->flipped_count;
        put_files(flips);
        tidy_now(scratch);
    }
    find_blocks(flips);
    for (size_t i = 0; i < FILES; i++) {
        free(flips->data[i]);
    }
    free(flips);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRECTORY_TEST(no_flip_is_delivered_and_all_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
