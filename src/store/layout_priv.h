/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_LAYOUT_PRIV_H
#define STORE_LAYOUT_PRIV_H

/*
 * layout: the data directory.
 *
 *   format      "artel store 1\n"; written last, so that a directory without it holds nothing
 *   lock        locked by the process that writes; its number, for people
 *   index/      LMDB
 *   segments/   00000001.seg and so on
 */

#include <stdbool.h>

struct layout {
    int dir_fd;
    int segments_fd;
    int lock_fd; /* -1: read-only */
    char *index_path;
};

/* Checks, makes what is missing and locks; errors of store_open(). Nothing is touched before the
 * directory is known to be ours or empty. */
[[nodiscard]] int layout_open(const char *path, bool read_only, bool must_exist,
                              struct layout **ret_layout);
void layout_close(struct layout *layout);

/* Writes the format file of a new store; does nothing on an old one. */
[[nodiscard]] int layout_finish(struct layout *layout);

#endif
