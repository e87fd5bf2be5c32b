/* SPDX-License-Identifier: Apache-2.0 */

/* Who may have a key, as somebody said from outside. The table is in the order of the last word
 * about each key; where there is no room, the oldest goes. */

#include <stdlib.h>

#include "base/mem.h"
#include "locate/locate_priv.h"

static struct hint *hint_find(const struct locate *locate, const struct ring_key *key)
{
    struct hint *hint = NULL;
    HASH_FIND(hh, locate->hints, key, sizeof *key, hint);
    return hint;
}

static void forget(struct hint *hint, size_t i)
{
    hint->nodes_count--;
    memmove(hint->nodes + i, hint->nodes + i + 1, (hint->nodes_count - i) * sizeof *hint->nodes);
    memmove(hint->until_us + i, hint->until_us + i + 1,
            (hint->nodes_count - i) * sizeof *hint->until_us);
}

static void hint_free(struct locate *locate, struct hint *hint)
{
    locate->counters.hints_count -= hint->nodes_count;
    HASH_DELETE(hh, locate->hints, hint);
    free(hint);
}

/* The last one of the first hint is the youngest of it. */
static void expire(struct locate *locate)
{
    while (locate->hints && locate->hints->nodes_count > 0 &&
           locate->hints->until_us[locate->hints->nodes_count - 1] <= locate->now_us) {
        hint_free(locate, locate->hints);
    }
}

void locate_hint(struct locate *locate, uint64_t now_us, const struct ring_key *key,
                 const struct node_id *node)
{
    locate->now_us = now_us;
    expire(locate);
    struct hint *hint = hint_find(locate, key);
    if (hint) {
        HASH_DELETE(hh, locate->hints, hint);
        for (size_t i = 0; i < hint->nodes_count; i++) {
            if (node_id_equal(&hint->nodes[i], node)) {
                forget(hint, i);
                locate->counters.hints_count--;
            }
        }
        if (hint->nodes_count == HINT_NODES_MAX) {
            forget(hint, 0);
            locate->counters.hints_count--;
        }
    } else {
        if (locate->counters.hints_count >= LOCATE_HINTS_MAX) {
            hint_free(locate, locate->hints);
        }
        hint = mem_alloc(sizeof *hint);
        hint->key = *key;
    }
    hint->nodes[hint->nodes_count] = *node;
    hint->until_us[hint->nodes_count++] = now_us + LOCATE_HINT_MS * MS;
    locate->counters.hints_count++;
    HASH_ADD(hh, locate->hints, key, sizeof hint->key, hint);
}

size_t hint_nodes(struct locate *locate, const struct ring_key *key,
                  struct node_id ret_nodes[HINT_NODES_MAX])
{
    expire(locate);
    const struct hint *hint = hint_find(locate, key);
    size_t count = 0;
    for (size_t i = 0; hint && i < hint->nodes_count; i++) {
        if (hint->until_us[i] > locate->now_us) {
            ret_nodes[count++] = hint->nodes[i];
        }
    }
    return count;
}

void hint_done(struct locate *locate)
{
    while (locate->hints) {
        hint_free(locate, locate->hints);
    }
}
