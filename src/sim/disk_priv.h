/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_DISK_PRIV_H
#define SIM_DISK_PRIV_H

/*
 * disk: what a node keeps: its incarnation and its roster. Nodes that agree keep the same roster,
 * so equal ones are kept once: ten thousand of ten thousand members are a megabyte, not ten
 * gigabytes.
 */

#include <stdint.h>

#include "base/bytes.h"

struct roster;

/* All rosters of a world. */
struct disks {
    struct roster *rosters;
};

struct disk {
    uint64_t incarnation;  /* 0: nothing was kept */
    struct roster *roster; /* NULL: none */
};

/* In place of the one before. */
void disk_set_roster(struct disks *disks, struct disk *disk, struct bytes roster);
/* Makes `disk` what `other` is. */
void disk_copy(struct disks *disks, struct disk *disk, const struct disk *other);
void disk_wipe(struct disks *disks, struct disk *disk);
/* Borrowed; empty if there is none. */
struct bytes disk_roster(const struct disk *disk);

#endif
