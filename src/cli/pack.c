/* SPDX-License-Identifier: Apache-2.0 */

/*
 * libarchive pushes what it makes, the sender pulls: each step adds one header or one piece of a
 * file to a buffer, and reads are served from there.
 *
 * libarchive stays in the "C" locale on purpose. In one of UTF-8 its reader normalises names to
 * Unicode's NFC, so that two different names may come out as one; here names are bytes, and it
 * marks those beyond ASCII as such (hdrcharset=BINARY).
 */

#include "cli/pack.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"

#define PIECE_BYTES ((size_t)256 * 1024)

struct pack {
    struct pack_options options;
    char *root;
    size_t root_size;
    FTS *fts;
    struct archive *archive;
    struct archive_entry *entry;
    struct buf ready;
    size_t ready_at; /* what was read of it */
    uint8_t *piece;
    bool is_over;

    int fd; /* of the file under way, or -1 */
    char *path;
    struct stat before;
    uint64_t left_bytes;
};

static la_ssize_t on_made(struct archive *archive, void *context, const void *data, size_t size)
{
    (void)archive;
    struct pack *pack = context;
    buf_add(&pack->ready, BYTES(data, size));
    return (la_ssize_t)size;
}

static FTS *open_walk(char *path)
{
    char *const roots[] = {path, NULL};
    /* A link on the command line is followed, one in a directory is not. */
    return fts_open(roots, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, NULL);
}

int pack_open(const struct pack_options *options, struct pack **ret_pack)
{
    CLEANUP_FD int fd = -1;
    const int err = file_open_at(AT_FDCWD, options->path, O_RDONLY | O_DIRECTORY, 0, &fd);
    if (err) {
        return err;
    }
    struct pack *pack = mem_alloc(sizeof *pack);
    pack->options = *options;
    pack->fd = -1;
    pack->root = mem_copy_string(options->path);
    pack->root_size = strlen(pack->root);
    while (pack->root_size > 1 && pack->root[pack->root_size - 1] == '/') {
        pack->root[--pack->root_size] = 0;
    }
    pack->piece = mem_alloc(PIECE_BYTES);
    pack->fts = open_walk(pack->root);
    pack->archive = archive_write_new();
    pack->entry = archive_entry_new();
    if (!pack->fts || !pack->archive || !pack->entry ||
        archive_write_set_format_pax(pack->archive) != ARCHIVE_OK ||
        archive_write_add_filter_none(pack->archive) != ARCHIVE_OK ||
        archive_write_set_bytes_per_block(pack->archive, 0) != ARCHIVE_OK ||
        archive_write_open(pack->archive, pack, NULL, on_made, NULL) != ARCHIVE_OK) {
        mem_out_of_memory();
    }
    *ret_pack = pack;
    return 0;
}

void pack_close(struct pack *pack)
{
    if (!pack) {
        return;
    }
    if (pack->fd >= 0) {
        close(pack->fd);
    }
    if (pack->fts) {
        fts_close(pack->fts);
    }
    archive_entry_free(pack->entry);
    archive_write_free(pack->archive);
    buf_done(&pack->ready);
    free(pack->piece);
    free(pack->path);
    free(pack->root);
    free(pack);
}

/* The name in the stream: relative, "./" for the directory itself. */
static const char *name_of(const struct pack *pack, const char *path)
{
    const char *name = path + pack->root_size;
    name += strspn(name, "/");
    return *name ? name : "./";
}

static int add_header(struct pack *pack, const char *path, const struct stat *info,
                      const char *target)
{
    struct archive_entry *entry = archive_entry_clear(pack->entry);
    archive_entry_set_pathname(entry, name_of(pack, path));
    archive_entry_set_mode(entry, info->st_mode);
    archive_entry_set_mtime(entry, info->st_mtim.tv_sec, info->st_mtim.tv_nsec);
    archive_entry_set_size(entry, S_ISREG(info->st_mode) ? info->st_size : 0);
    if (target) {
        archive_entry_set_symlink(entry, target);
    }
    /* A warning tells that the name is no ASCII. */
    return archive_write_header(pack->archive, entry) >= ARCHIVE_WARN ? 0 : -EIO;
}

static int fault(const struct pack *pack, const char *path, enum pack_fault fault, int err)
{
    return pack->options.on_fault(pack->options.context, path, fault, err);
}

static int begin_file(struct pack *pack, const char *path)
{
    CLEANUP_FD int fd = -1;
    /* Not blocking, should it have become a pipe since it was seen. */
    const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
    int err = file_open_at(AT_FDCWD, path, flags, 0, &fd);
    if (!err && fstat(fd, &pack->before) < 0) {
        err = err_from_errno(errno);
    }
    if (err) {
        return fault(pack, path, PACK_UNREADABLE, err);
    }
    if (!S_ISREG(pack->before.st_mode)) {
        return fault(pack, path, PACK_SPECIAL, 0);
    }
    err = add_header(pack, path, &pack->before, NULL);
    if (err) {
        return err;
    }
    pack->fd = STEAL_FD(fd);
    pack->path = mem_copy_string(path);
    pack->left_bytes = (uint64_t)pack->before.st_size;
    return 0;
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static int end_file(struct pack *pack)
{
    struct stat after;
    int err = 0;
    if (fstat(pack->fd, &after) < 0 || after.st_size != pack->before.st_size ||
        !same_time(after.st_mtim, pack->before.st_mtim)) {
        err = fault(pack, pack->path, PACK_CHANGED, 0);
    }
    close(STEAL_FD(pack->fd));
    free(STEAL_PTR(pack->path));
    return err;
}

static int add_piece(struct pack *pack)
{
    if (pack->left_bytes == 0) {
        return end_file(pack);
    }
    const size_t want = pack->left_bytes < PIECE_BYTES ? (size_t)pack->left_bytes : PIECE_BYTES;
    size_t bytes = 0;
    const int err = file_read_full(pack->fd, pack->piece, want, &bytes);
    if (err) {
        return err;
    }
    if (bytes < want) {
        /* The header promised more; there is no way to take it back. */
        (void)fault(pack, pack->path, PACK_CHANGED, 0);
        return -ESTALE;
    }
    pack->left_bytes -= bytes;
    if (pack->options.on_bytes) {
        pack->options.on_bytes(pack->options.context, bytes);
    }
    return archive_write_data(pack->archive, pack->piece, bytes) == (la_ssize_t)bytes ? 0 : -EIO;
}

static int add_link(struct pack *pack, const char *path, const struct stat *info)
{
    char target[PATH_MAX];
    const ssize_t size = readlink(path, target, sizeof target - 1);
    if (size < 0) {
        return fault(pack, path, PACK_UNREADABLE, err_from_errno(errno));
    }
    target[size] = 0;
    return add_header(pack, path, info, target);
}

static int add_next(struct pack *pack)
{
    errno = 0;
    const FTSENT *found = fts_read(pack->fts);
    if (!found) {
        if (errno) {
            return err_from_errno(errno);
        }
        pack->is_over = true;
        return archive_write_close(pack->archive) == ARCHIVE_OK ? 0 : -EIO;
    }
    switch (found->fts_info) {
    case FTS_D:
        return add_header(pack, found->fts_path, found->fts_statp, NULL);
    case FTS_F:
        return begin_file(pack, found->fts_path);
    case FTS_SL:
    case FTS_SLNONE:
        return add_link(pack, found->fts_path, found->fts_statp);
    case FTS_DEFAULT:
        return fault(pack, found->fts_path, PACK_SPECIAL, 0);
    case FTS_DNR:
    case FTS_ERR:
    case FTS_NS:
        return fault(pack, found->fts_path, PACK_UNREADABLE, err_from_errno(found->fts_errno));
    default: /* directories, after what is in them */
        return 0;
    }
}

int pack_read(struct pack *pack, void *data, size_t size_bytes, size_t *ret_bytes)
{
    if (pack->ready_at == pack->ready.size) {
        buf_clear(&pack->ready);
        pack->ready_at = 0;
    }
    while (!pack->ready.size && !pack->is_over) {
        const int err = pack->fd >= 0 ? add_piece(pack) : add_next(pack);
        if (err) {
            return err;
        }
    }
    const size_t left = pack->ready.size - pack->ready_at;
    const size_t count = left < size_bytes ? left : size_bytes;
    if (count) {
        memcpy(data, pack->ready.data + pack->ready_at, count);
    }
    pack->ready_at += count;
    *ret_bytes = count;
    return 0;
}

uint64_t pack_measure(const char *path)
{
    CLEANUP_FREE char *root = mem_copy_string(path);
    FTS *fts = open_walk(root);
    uint64_t bytes = 0;
    const FTSENT *found = fts ? fts_read(fts) : NULL;
    while (found) {
        bytes += found->fts_info == FTS_F ? (uint64_t)found->fts_statp->st_size : 0;
        found = fts_read(fts);
    }
    if (fts) {
        fts_close(fts);
    }
    return bytes;
}
