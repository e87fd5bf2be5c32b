/* SPDX-License-Identifier: Apache-2.0 */
#include "store/segments_priv.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/list.h"
#include "base/map.h"

struct segment {
    uint64_t number;
    int fd;
    unsigned users;
    bool dirty; /* written since the last sync */
    void *map;  /* NULL: not mapped yet */
    size_t map_bytes;
    UT_hash_handle hh;
};

/* The segment of a class that takes appends; NULL before the first one. */
struct append_point {
    struct segment *segment;
    uint64_t end_bytes;
};

struct segments {
    int dir_fd;
    bool read_only;
    uint64_t segment_bytes;
    uint64_t reserve_bytes;

    pthread_mutex_t lock; /* over all below */
    uint64_t next_number;
    struct append_point append[SEGMENT_CLASSES];
    struct segment *open; /* by number */
    struct reservation *unsettled;
    bool names_dirty; /* a file was made since the last sync */
};

#define NAME_BYTES 32

static void segment_name(uint64_t number, char ret_name[NAME_BYTES])
{
    snprintf(ret_name, NAME_BYTES, "%08llu.seg", (unsigned long long)number);
}

struct segments *segments_new(int dir_fd, bool read_only, uint64_t segment_bytes,
                              uint64_t reserve_bytes, uint64_t next_number)
{
    struct segments *segments = mem_alloc(sizeof *segments);
    segments->dir_fd = dir_fd;
    segments->read_only = read_only;
    segments->segment_bytes = segment_bytes;
    segments->reserve_bytes = reserve_bytes;
    segments->next_number = next_number;
    pthread_mutex_init(&segments->lock, NULL);
    return segments;
}

static void close_segment(struct segments *segments, struct segment *segment)
{
    HASH_DEL(segments->open, segment);
    if (segment->map) {
        munmap(segment->map, segment->map_bytes);
    }
    close(segment->fd);
    free(segment);
}

void segments_free(struct segments *segments)
{
    if (!segments) {
        return;
    }
    CHECK(!segments->unsettled);
    struct segment *segment;
    struct segment *next;
    HASH_ITER(hh, segments->open, segment, next)
    {
        close_segment(segments, segment);
    }
    pthread_mutex_destroy(&segments->lock);
    free(segments);
}

/* Closes one that nobody uses, the longest open first; false: there is none. */
static bool close_idle(struct segments *segments)
{
    struct segment *segment;
    struct segment *next;
    HASH_ITER(hh, segments->open, segment, next)
    {
        if (segment->users == 0 && !segment->dirty) {
            close_segment(segments, segment);
            return true;
        }
    }
    return false;
}

/* With the lock held. The caller counts its use. */
static int open_segment(struct segments *segments, uint64_t number, int flags,
                        struct segment **ret_segment)
{
    struct segment *segment = NULL;
    HASH_FIND(hh, segments->open, &number, sizeof number, segment);
    if (segment) {
        segment->users++;
        *ret_segment = segment;
        return 0;
    }
    if (HASH_COUNT(segments->open) >= SEGMENTS_OPEN_MAX) {
        (void)close_idle(segments);
    }
    char name[NAME_BYTES];
    segment_name(number, name);
    int fd = -1;
    const int access = segments->read_only ? O_RDONLY : O_RDWR;
    int err = file_open_at(segments->dir_fd, name, access | flags, 0666, &fd);
    /* The process or the system is at its limit of files: those kept open for later make room. */
    while (err == -EMFILE && close_idle(segments)) {
        err = file_open_at(segments->dir_fd, name, access | flags, 0666, &fd);
    }
    if (err) {
        return err;
    }
    segment = mem_alloc(sizeof *segment);
    segment->number = number;
    segment->fd = fd;
    segment->users = 1;
    HASH_ADD(hh, segments->open, number, sizeof number, segment);
    *ret_segment = segment;
    return 0;
}

int segments_remove_unnamed(struct segments *segments)
{
    /* They have no gaps but those that a power cut made: names are not synced one by one. */
    for (uint64_t i = 0, misses = 0; misses < 2 * SEGMENT_CLASSES; i++) {
        char name[NAME_BYTES];
        segment_name(segments->next_number + i, name);
        if (unlinkat(segments->dir_fd, name, 0) == 0) {
            misses = 0;
        } else if (errno == ENOENT) {
            misses++;
        } else {
            return err_from_errno(errno);
        }
    }
    return 0;
}

int segments_recover(struct segments *segments, uint64_t number, enum segment_class segment_class,
                     uint64_t end_bytes, bool resume)
{
    pthread_mutex_lock(&segments->lock);
    struct segment *segment = NULL;
    int err = open_segment(segments, number, 0, &segment);
    struct stat stat;
    if (!err && fstat(segment->fd, &stat) < 0) {
        err = err_from_errno(errno);
    }
    /* A file shorter than it should be is left so: its blocks are found damaged one by one. */
    if (!err && (uint64_t)stat.st_size > end_bytes &&
        ftruncate(segment->fd, (off_t)end_bytes) < 0) {
        err = err_from_errno(errno);
    }
    if (!err && resume && !segments->append[segment_class].segment) {
        segments->append[segment_class] = (struct append_point){segment, end_bytes};
    } else if (segment && --segment->users == 0) {
        /* There may be many, and others need files to open, too. */
        close_segment(segments, segment);
    }
    pthread_mutex_unlock(&segments->lock);
    return err;
}

static int check_space(const struct segments *segments, uint32_t size_bytes)
{
    struct statvfs space;
    if (fstatvfs(segments->dir_fd, &space) < 0) {
        return err_from_errno(errno);
    }
    const uint64_t free_bytes = (uint64_t)space.f_bavail * space.f_frsize;
    return free_bytes < segments->reserve_bytes + size_bytes ? -ENOSPC : 0;
}

/* Begins a new segment for `point`. A file of that number can only be the trace of a crash before
 * its first commit, so it is emptied. */
static int begin_segment(struct segments *segments, struct append_point *point)
{
    struct segment *segment = NULL;
    const int err = open_segment(segments, segments->next_number, O_CREAT | O_TRUNC, &segment);
    if (err) {
        return err;
    }
    segments->next_number++;
    segments->names_dirty = true;
    if (point->segment) {
        point->segment->users--;
    }
    *point = (struct append_point){segment, 0};
    return 0;
}

int segments_reserve(struct segments *segments, uint32_t size_bytes,
                     struct reservation *ret_reservation)
{
    CHECK(size_bytes > 0 && size_bytes <= CHUNK_BLOCK_BYTES_MAX);
    int err = check_space(segments, size_bytes);
    if (err) {
        return err;
    }
    const enum segment_class segment_class =
        size_bytes >= BLOCK_ALIGNED_BYTES ? SEGMENT_LARGE : SEGMENT_SMALL;
    const uint64_t align = segment_class == SEGMENT_LARGE ? SEGMENT_PAGE_BYTES : 1;

    pthread_mutex_lock(&segments->lock);
    struct append_point *point = &segments->append[segment_class];
    uint64_t begin = (point->end_bytes + align - 1) / align * align;
    if (!point->segment || begin + size_bytes > segments->segment_bytes) {
        err = begin_segment(segments, point);
        begin = 0;
    }
    if (!err) {
        *ret_reservation = (struct reservation){
            .location = {point->segment->number, begin},
            .size_bytes = size_bytes,
            .segment_class = segment_class,
        };
        point->end_bytes = begin + size_bytes;
        /* Until it is settled, a reservation keeps its segment open. */
        point->segment->users++;
        DL_APPEND(segments->unsettled, ret_reservation);
    }
    pthread_mutex_unlock(&segments->lock);
    return err;
}

static struct segment *find_segment(struct segments *segments, uint64_t number)
{
    struct segment *segment = NULL;
    HASH_FIND(hh, segments->open, &number, sizeof number, segment);
    CHECK(segment);
    return segment;
}

int segments_write(struct segments *segments, const struct reservation *reservation,
                   struct bytes data)
{
    CHECK(data.size == reservation->size_bytes);
    pthread_mutex_lock(&segments->lock);
    struct segment *segment = find_segment(segments, reservation->location.container);
    pthread_mutex_unlock(&segments->lock);

    const int err = file_write_all_at(segment->fd, data, reservation->location.offset_bytes);

    /* Only after the write: a sync that takes the mark off must cover it. */
    pthread_mutex_lock(&segments->lock);
    segment->dirty = true;
    pthread_mutex_unlock(&segments->lock);
    return err;
}

void segments_settle(struct segments *segments, struct reservation *reservation)
{
    pthread_mutex_lock(&segments->lock);
    find_segment(segments, reservation->location.container)->users--;
    DL_DELETE(segments->unsettled, reservation);
    pthread_mutex_unlock(&segments->lock);
}

void segments_hold(struct segments *segments, const struct reservation *reservation,
                   struct reservation *ret_hold)
{
    *ret_hold = (struct reservation){
        .location = reservation->location,
        .size_bytes = reservation->size_bytes,
        .segment_class = reservation->segment_class,
    };
    pthread_mutex_lock(&segments->lock);
    find_segment(segments, reservation->location.container)->users++;
    DL_APPEND(segments->unsettled, ret_hold);
    pthread_mutex_unlock(&segments->lock);
}

int segments_sync(struct segments *segments)
{
    pthread_mutex_lock(&segments->lock);
    const bool names_dirty = segments->names_dirty;
    segments->names_dirty = false;
    size_t count = 0;
    struct segment **dirty =
        mem_alloc_array(HASH_COUNT(segments->open) + (size_t)1, sizeof(struct segment *));
    struct segment *segment;
    struct segment *next;
    HASH_ITER(hh, segments->open, segment, next)
    {
        if (segment->dirty) {
            segment->dirty = false;
            segment->users++;
            dirty[count++] = segment;
        }
    }
    pthread_mutex_unlock(&segments->lock);

    int err = names_dirty ? file_sync(segments->dir_fd) : 0;
    for (size_t i = 0; i < count; i++) {
        const int failed = file_sync_data(dirty[i]->fd);
        err = err ? err : failed;
        segments_release(segments, dirty[i]);
    }
    free(dirty);
    return err;
}

void segments_seal(struct segments *segments, uint64_t number)
{
    pthread_mutex_lock(&segments->lock);
    for (int i = 0; i < SEGMENT_CLASSES; i++) {
        struct append_point *point = &segments->append[i];
        if (point->segment && point->segment->number == number) {
            point->segment->users--;
            *point = (struct append_point){0};
        }
    }
    pthread_mutex_unlock(&segments->lock);
}

void segments_bounds(struct segments *segments, uint64_t number, uint64_t *ret_reserved_end_bytes,
                     uint64_t *ret_unsettled_bytes)
{
    uint64_t end_bytes = UINT64_MAX;
    uint64_t unsettled_bytes = UINT64_MAX;
    pthread_mutex_lock(&segments->lock);
    for (int i = 0; i < SEGMENT_CLASSES; i++) {
        const struct append_point *point = &segments->append[i];
        if (point->segment && point->segment->number == number) {
            end_bytes = point->end_bytes;
        }
    }
    const struct reservation *reservation;
    DL_FOREACH(segments->unsettled, reservation)
    {
        const struct location *location = &reservation->location;
        if (location->container == number && location->offset_bytes < unsettled_bytes) {
            unsettled_bytes = location->offset_bytes;
        }
    }
    pthread_mutex_unlock(&segments->lock);
    *ret_reserved_end_bytes = end_bytes;
    *ret_unsettled_bytes = unsettled_bytes;
}

int segments_acquire(struct segments *segments, uint64_t number, struct segment **ret_segment)
{
    pthread_mutex_lock(&segments->lock);
    const int err = open_segment(segments, number, 0, ret_segment);
    pthread_mutex_unlock(&segments->lock);
    return err;
}

void segments_release(struct segments *segments, struct segment *segment)
{
    pthread_mutex_lock(&segments->lock);
    segment->users--;
    pthread_mutex_unlock(&segments->lock);
}

int segment_read(const struct segment *segment, uint64_t offset_bytes, void *data,
                 uint32_t size_bytes)
{
    return file_read_all_at(segment->fd, data, size_bytes, offset_bytes);
}

const uint8_t *segments_map(struct segments *segments, struct segment *segment,
                            uint64_t offset_bytes, uint32_t size_bytes)
{
    const uint8_t *mapped = NULL;
    struct stat stat;
    pthread_mutex_lock(&segments->lock);
    if (!segment->map && fstat(segment->fd, &stat) == 0) {
        /* As long as it can get, so that appends need no new mapping. */
        const uint64_t size = (uint64_t)stat.st_size > segments->segment_bytes
                                  ? (uint64_t)stat.st_size
                                  : segments->segment_bytes;
        void *map = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, segment->fd, 0);
        if (map != MAP_FAILED) {
            segment->map = map;
            segment->map_bytes = (size_t)size;
        }
    }
    /* Pages beyond the end of the file would be SIGBUS: somebody cut the file. */
    if (segment->map && offset_bytes + size_bytes <= segment->map_bytes &&
        fstat(segment->fd, &stat) == 0 && offset_bytes + size_bytes <= (uint64_t)stat.st_size) {
        mapped = (const uint8_t *)segment->map + offset_bytes;
    }
    pthread_mutex_unlock(&segments->lock);
    return mapped;
}

int segments_punch(struct segments *segments, uint64_t number, uint64_t from_bytes,
                   uint64_t to_bytes)
{
    const uint64_t from = (from_bytes + SEGMENT_PAGE_BYTES - 1) & ~(SEGMENT_PAGE_BYTES - 1);
    const uint64_t to = to_bytes & ~(SEGMENT_PAGE_BYTES - 1);
    if (from >= to) {
        return 0;
    }
    struct segment *segment = NULL;
    int err = segments_acquire(segments, number, &segment);
    if (err) {
        return err;
    }
    err = file_punch(segment->fd, from, to - from);
    segments_release(segments, segment);
    return err;
}

int segments_unlink(struct segments *segments, uint64_t number)
{
    pthread_mutex_lock(&segments->lock);
    struct segment *segment = NULL;
    HASH_FIND(hh, segments->open, &number, sizeof number, segment);
    const bool busy = segment && segment->users > 0;
    if (segment && !busy) {
        close_segment(segments, segment);
    }
    pthread_mutex_unlock(&segments->lock);
    if (busy) {
        return -EBUSY;
    }
    char name[NAME_BYTES];
    segment_name(number, name);
    if (unlinkat(segments->dir_fd, name, 0) < 0 && errno != ENOENT) {
        return err_from_errno(errno);
    }
    return file_sync(segments->dir_fd);
}

void segments_close_unlinked(struct segments *segments)
{
    struct segment *segment;
    struct segment *next;
    struct stat stat;
    pthread_mutex_lock(&segments->lock);
    HASH_ITER(hh, segments->open, segment, next)
    {
        if (segment->users == 0 && fstat(segment->fd, &stat) == 0 && stat.st_nlink == 0) {
            close_segment(segments, segment);
        }
    }
    pthread_mutex_unlock(&segments->lock);
}

int segments_allocated(struct segments *segments, uint64_t number, uint64_t *ret_allocated_bytes)
{
    char name[NAME_BYTES];
    segment_name(number, name);
    struct stat stat;
    if (fstatat(segments->dir_fd, name, &stat, 0) < 0) {
        return err_from_errno(errno);
    }
    *ret_allocated_bytes = (uint64_t)stat.st_blocks * 512;
    return 0;
}
