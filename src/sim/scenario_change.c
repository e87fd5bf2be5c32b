/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/run_priv.h"

#define CHANGES 10u
#define LIMIT_US (120 * SIM_US_PER_S)
/* Not in the table of promises; a joiner that is not seen by then is of no use to anybody. */
#define JOIN_LIMIT_US (5 * SIM_US_PER_S)
#define LEAVE_LIMIT_US (5 * SIM_US_PER_S)

static void run_join_scenario(struct sim_run *run)
{
    struct samples seen = {0};
    struct samples agreed = {0};
    run_world(run, CHANGES);
    if (run_ready(run)) {
        for (size_t i = 0; i < CHANGES; i++) {
            const uint32_t next = (uint32_t)sim_world_slots_count(run->world);
            const uint64_t begin_us = sim_world_now_us(run->world);
            struct notice notice;
            run_notice_begin(run, &notice, next, next, true);
            run_join(run, run_pick(run));
            samples_add(&seen, run_notice_wait(run, &notice, LIMIT_US));
            run_notice_end(run, &notice);
            const uint64_t rest_us = run_until_agreed(run, LIMIT_US);
            samples_add(&agreed,
                        rest_us == NEVER ? NEVER : sim_world_now_us(run->world) - begin_us);
            sim_world_run(run->world, 2 * SIM_US_PER_S);
        }
        run_check_time(run, "seen-by-all-p50", samples_percentile(&seen, 50), JOIN_LIMIT_US);
        run_check_time(run, "agreed-p50", samples_percentile(&agreed, 50), JOIN_LIMIT_US);
        run_check_time(run, "agreed-max", samples_percentile(&agreed, 100), run_heal_limit_us(run));
        run_check_watch(run, true);
    }
    samples_done(&seen);
    samples_done(&agreed);
    run_end_world(run);
}

const struct sim_scenario scenario_join = {
    .name = "join",
    .summary = "new members come, one at a time, each through some other one",
    .run = run_join_scenario,
};

static void run_leave(struct sim_run *run)
{
    struct samples noticed = {0};
    run_world(run, 0);
    if (run_ready(run)) {
        const uint32_t leavers = run->nodes / 2 < CHANGES ? run->nodes / 2 : CHANGES;
        for (uint32_t i = 0; i < leavers; i++) {
            const uint32_t slot = run_pick(run);
            struct notice notice;
            run_doubt(run, slot, true);
            run_notice_begin(run, &notice, slot, slot, false);
            sim_world_leave(run->world, slot);
            samples_add(&noticed, run_notice_wait(run, &notice, LIMIT_US));
            run_notice_end(run, &notice);
            sim_world_run(run->world, 2 * SIM_US_PER_S);
        }
        run_check_time(run, "noticed-by-all-p50", samples_percentile(&noticed, 50), LEAVE_LIMIT_US);
        run_check_time(run, "noticed-by-all-max", samples_percentile(&noticed, 100),
                       LEAVE_LIMIT_US);
        run_check_agreed(run, "agreed-after", run_heal_limit_us(run));
        run_check_watch(run, true);
    }
    samples_done(&noticed);
    run_end_world(run);
}

const struct sim_scenario scenario_leave = {
    .name = "leave",
    .summary = "members say good-bye, one at a time",
    .run = run_leave,
};
