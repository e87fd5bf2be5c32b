/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who has an op on disk. Some members are asked to tell when they have it: as many as are wanted
 * and one more, others after a while if these are slow. To have everybody tell would drown the
 * publisher.
 */

#include <stdlib.h>

#include "base/mem.h"
#include "tree/sync_priv.h"

#define ASK_AGAIN_US (1 * SECOND)
/* Tries to pick a member that was not asked before. */
#define PICKS_MAX 8u

static bool was_asked(const struct await *await, const struct node_id *member)
{
    for (size_t i = 0; i < await->asked_count; i++) {
        if (node_id_equal(&await->asked[i], member)) {
            return true;
        }
    }
    return false;
}

static void ask(struct tree_sync *sync, const struct await *await, const struct node_id *member)
{
    const struct tree_message question = {
        .type = TREE_MESSAGE_AWAIT,
        .number = await->wire_number,
        .dot = await->dot,
    };
    sync_send_message(sync, member, &question);
}

/* Those that have not answered (they may have been started anew), and as many others as are missing
 * and one. */
static void ask_more(struct tree_sync *sync, struct await *await)
{
    for (size_t i = 0; i < await->asked_count; i++) {
        if (!await->has[i]) {
            ask(sync, await, &await->asked[i]);
        }
    }
    size_t limit = await->asked_count + await->wanted_count - await->has_count + 1;
    limit = limit < SYNC_AWAIT_MEMBERS_MAX ? limit : SYNC_AWAIT_MEMBERS_MAX;
    const size_t picks = PICKS_MAX * (limit - await->asked_count);
    struct node_id member;
    for (size_t i = 0; i < picks && await->asked_count < limit; i++) {
        if (!sync->host.pick(sync->host.context, &member)) {
            break;
        }
        if (!was_asked(await, &member)) {
            await->asked[await->asked_count++] = member;
            ask(sync, await, &member);
        }
    }
    await->ask_us = sync->now_us + ASK_AGAIN_US;
}

static void tell(struct tree_sync *sync, uint64_t number, size_t count)
{
    const struct tree_sync_event event = {
        .kind = TREE_SYNC_AWAITED,
        .number = number,
        .count = count,
    };
    sync->host.event(sync->host.context, &event);
}

void tree_sync_await(struct tree_sync *sync, uint64_t now_us, const struct dot *dot, size_t count,
                     uint64_t deadline_us, uint64_t number)
{
    sync->now_us = now_us;
    CHECK(count <= TREE_SYNC_AWAIT_MAX);
    if (count == 0 || sync->awaits_count == SYNC_AWAITS_MAX) {
        tell(sync, number, 0);
        return;
    }
    if (sync->awaits_count == sync->awaits_capacity) {
        sync->awaits_capacity = sync->awaits_capacity ? 2 * sync->awaits_capacity : 4;
        sync->awaits = mem_resize_array(sync->awaits, sync->awaits_capacity, sizeof *sync->awaits);
    }
    struct await *await = &sync->awaits[sync->awaits_count++];
    *await = (struct await){
        .dot = *dot,
        .number = number,
        .wire_number = sync->next_number++,
        .wanted_count = count,
        .deadline_us = deadline_us,
    };
    ask_more(sync, await);
}

void await_received_has(struct tree_sync *sync, const struct node_id *from, uint64_t number)
{
    for (size_t i = 0; i < sync->awaits_count; i++) {
        struct await *await = &sync->awaits[i];
        if (await->wire_number != number) {
            continue;
        }
        for (size_t j = 0; j < await->asked_count; j++) {
            if (node_id_equal(&await->asked[j], from) && !await->has[j]) {
                await->has[j] = true;
                await->has_count++;
            }
        }
        if (await->has_count >= await->wanted_count) {
            const struct await over = *await;
            *await = sync->awaits[--sync->awaits_count];
            tell(sync, over.number, over.has_count);
        }
        return;
    }
}

void await_due(struct tree_sync *sync)
{
    for (size_t i = sync->awaits_count; i-- > 0;) {
        struct await *await = &sync->awaits[i];
        if (sync->now_us >= await->deadline_us) {
            const struct await over = *await;
            *await = sync->awaits[--sync->awaits_count];
            tell(sync, over.number, over.has_count);
        } else if (sync->now_us >= await->ask_us) {
            ask_more(sync, await);
        }
    }
}

uint64_t await_next_us(const struct tree_sync *sync)
{
    uint64_t next_us = NEVER;
    for (size_t i = 0; i < sync->awaits_count; i++) {
        const struct await *await = &sync->awaits[i];
        next_us = await->ask_us < next_us ? await->ask_us : next_us;
        next_us = await->deadline_us < next_us ? await->deadline_us : next_us;
    }
    return next_us;
}
