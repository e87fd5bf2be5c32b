/* SPDX-License-Identifier: Apache-2.0 */
#include "store/touched_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/codec.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

/* 4 Mi bits in 512 KiB: with 400,000 blocks of 256 KiB (100 GB of cache) read in a round, one in
 * ten is kept a round too long. */
#define TOUCHED_BITS ((uint32_t)1 << 22)

#define TOUCHED_BYTES (TOUCHED_BITS / 8)

struct touched {
    void *table; /* TOUCHED_BYTES */
    bool is_mapped;
};

static _Atomic uint64_t *word_of(const struct touched *touched, uint32_t bit)
{
    return (_Atomic uint64_t *)touched->table + bit / 64;
}

struct touched *touched_new(void)
{
    struct touched *touched = mem_alloc(sizeof *touched);
    touched->table = mem_alloc(TOUCHED_BYTES);
    return touched;
}

static void drop_table(struct touched *touched)
{
    if (touched->is_mapped) {
        munmap(touched->table, TOUCHED_BYTES);
    } else {
        free(touched->table);
    }
}

void touched_free(struct touched *touched)
{
    if (touched) {
        drop_table(touched);
        free(touched);
    }
}

/* All its pages are there, so that a full disk is no SIGBUS. */
static int have_room(int fd, bool makes)
{
    struct stat stat;
    if (makes) {
        return fallocate(fd, 0, 0, TOUCHED_BYTES) < 0 ? err_from_errno(errno) : 0;
    }
    if (fstat(fd, &stat) < 0) {
        return err_from_errno(errno);
    }
    return stat.st_size >= (off_t)TOUCHED_BYTES ? 0 : -ENOENT;
}

static int share(struct touched *touched, int dir_fd, bool makes)
{
    CLEANUP_FD int fd = -1;
    int err = file_open_at(dir_fd, TOUCHED_FILE, O_RDWR | (makes ? O_CREAT : 0), 0600, &fd);
    if (!err) {
        err = have_room(fd, makes);
    }
    if (err) {
        return err;
    }
    void *table = mmap(NULL, TOUCHED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (table == MAP_FAILED) {
        return err_from_errno(errno);
    }
    drop_table(touched);
    touched->table = table;
    touched->is_mapped = true;
    return 0;
}

void touched_share(struct touched *touched, int dir_fd, bool makes)
{
    const int err = share(touched, dir_fd, makes);
    if (err && makes) {
        log_warn("touched_not_shared", KV("error", err_name(err)));
    }
}

static uint32_t bit_of(const struct id *id)
{
    return codec_get_le32(id->bytes) % TOUCHED_BITS;
}

void touched_add(struct touched *touched, const struct id *id)
{
    const uint32_t bit = bit_of(id);
    const uint64_t mask = UINT64_C(1) << bit % 64;
    _Atomic uint64_t *word = word_of(touched, bit);
    /* Mostly it is set already; a load does not take the cache line from the others. */
    if ((atomic_load_explicit(word, memory_order_relaxed) & mask) == 0) {
        atomic_fetch_or_explicit(word, mask, memory_order_relaxed);
    }
}

bool touched_take(struct touched *touched, const struct id *id)
{
    const uint32_t bit = bit_of(id);
    const uint64_t mask = UINT64_C(1) << bit % 64;
    return (atomic_fetch_and_explicit(word_of(touched, bit), ~mask, memory_order_relaxed) & mask) !=
           0;
}
