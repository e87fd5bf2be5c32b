/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "sim/run_priv.h"

#define MISSING 1
#define HAS 2

static void on_news(void *context, uint32_t slot, enum sim_news news, uint32_t identity)
{
    struct notice *notice = context;
    if (identity != notice->identity || !notice->has[slot]) {
        return;
    }
    const bool is_alive = news == SIM_SEES_ALIVE;
    const bool is_gone =
        news == SIM_SEES_UNREACHABLE || news == SIM_SEES_LEFT || news == SIM_SEES_FORGOTTEN;
    if (!is_alive && !is_gone) {
        return;
    }
    const bool is_awaited = is_alive == notice->is_awaited_alive;
    if (is_awaited && notice->has[slot] == MISSING) {
        notice->has[slot] = HAS;
        notice->missing_count--;
        notice->last_us = sim_world_now_us(notice->world);
        notice->first_us = notice->first_us == NEVER ? notice->last_us : notice->first_us;
    } else if (!is_awaited && notice->has[slot] == HAS) {
        notice->has[slot] = MISSING;
        notice->missing_count++;
    }
}

void run_notice_begin(struct sim_run *run, struct notice *notice, uint32_t except,
                      uint32_t identity, bool is_awaited_alive)
{
    const size_t slots = sim_world_slots_count(run->world);
    *notice = (struct notice){.world = run->world,
                              .identity = identity,
                              .is_awaited_alive = is_awaited_alive,
                              .first_us = NEVER};
    notice->has = mem_alloc_array(slots, sizeof *notice->has);
    for (uint32_t slot = 0; slot < slots; slot++) {
        if (slot != except && sim_world_state(run->world, slot) == SIM_RUNNING) {
            notice->has[slot] = MISSING;
            notice->missing_count++;
        }
    }
    const struct sim_observer observer = {.news = on_news, .context = notice};
    sim_world_observe(run->world, &observer);
}

static bool is_noticed(void *context)
{
    const struct notice *notice = context;
    return notice->missing_count == 0;
}

uint64_t run_notice_wait(struct sim_run *run, struct notice *notice, uint64_t limit_us)
{
    const uint64_t begin_us = sim_world_now_us(run->world);
    const bool done =
        sim_world_run_until(run->world, begin_us + limit_us, STEP_US, is_noticed, notice);
    return done ? notice->last_us - begin_us : NEVER;
}

void run_notice_end(struct sim_run *run, struct notice *notice)
{
    sim_world_unobserve(run->world, notice);
    free(notice->has);
    notice->has = NULL;
}
