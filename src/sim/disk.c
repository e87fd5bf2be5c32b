/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "sim/disk_priv.h"

struct roster {
    uint64_t uses;
    size_t size_bytes;
    UT_hash_handle hh;
    uint8_t data[]; /* the key: rosters are equal if all their bytes are */
};

static void release(struct disks *disks, struct roster *roster)
{
    if (roster && --roster->uses == 0) {
        HASH_DEL(disks->rosters, roster);
        free(roster);
    }
}

void disk_set_roster(struct disks *disks, struct disk *disk, struct bytes bytes)
{
    struct roster *roster = NULL;
    if (bytes.size > 0) {
        HASH_FIND(hh, disks->rosters, bytes.data, bytes.size, roster);
    }
    if (!roster && bytes.size > 0) {
        roster = mem_alloc(sizeof *roster + bytes.size);
        roster->size_bytes = bytes.size;
        memcpy(roster->data, bytes.data, bytes.size);
        HASH_ADD_KEYPTR(hh, disks->rosters, roster->data, roster->size_bytes, roster);
    }
    if (roster) {
        roster->uses++;
    }
    release(disks, disk->roster);
    disk->roster = roster;
}

void disk_copy(struct disks *disks, struct disk *disk, const struct disk *other)
{
    if (other->roster) {
        other->roster->uses++;
    }
    release(disks, disk->roster);
    *disk = *other;
}

void disk_wipe(struct disks *disks, struct disk *disk)
{
    release(disks, disk->roster);
    *disk = (struct disk){0};
}

struct bytes disk_roster(const struct disk *disk)
{
    return disk->roster ? BYTES(disk->roster->data, disk->roster->size_bytes) : BYTES(NULL, 0);
}
