/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_PACK_H
#define CLI_PACK_H

/*
 * pack: a directory of this machine as a tar stream (POSIX pax format, IEEE Std 1003.1-2017,
 * "pax"), made while it is read: nothing is kept but the entry at hand.
 *
 * It holds files, directories and symbolic links with mode and mtime in nanoseconds, by names
 * relative to the directory, the directory itself as "./". Hard links become files of their own.
 * Sockets, devices and pipes are passed over.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pack;

enum pack_fault {
    PACK_SPECIAL,    /* no file, directory or link: passed over */
    PACK_UNREADABLE, /* passed over */
    PACK_CHANGED,    /* written to while it was read: what the stream has of it may be torn */
};

struct pack_options {
    const char *path; /* a link to a directory is followed */
    /* Told of each fault, `err` is for PACK_UNREADABLE; an error ends the stream. */
    int (*on_fault)(void *context, const char *path, enum pack_fault fault, int err);
    /* Told of each piece of a file that was read; may be NULL. */
    void (*on_bytes)(void *context, uint64_t bytes);
    void *context;
};

/* -ENOENT, -EACCES, -ENOTDIR... `options` is copied. */
[[nodiscard]] int pack_open(const struct pack_options *options, struct pack **ret_pack);
void pack_close(struct pack *pack);

/* The next bytes of the stream, up to `size_bytes`; 0 at its end. -ESTALE: a file became shorter
 * while it was read; -EIO, or what on_fault returned. */
[[nodiscard]] int pack_read(struct pack *pack, void *data, size_t size_bytes, size_t *ret_bytes);

/* The sum of the sizes of all files, by a walk of its own; faults are left to the other one. */
uint64_t pack_measure(const char *path);

#endif
