/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_SIM_RESULT_H
#define CLI_SIM_RESULT_H

/*
 * sim_result: what came of one run of a scenario, and of many with different seeds, for people and
 * programs. sim_crew: the runs, in one process or several.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "sim/scenario.h"

#define SIM_PROTOCOLS_MAX 2u

struct sim_plan {
    const struct sim_scenario *scenario;
    const struct sim_protocol *protocols[SIM_PROTOCOLS_MAX];
    size_t protocols_count;
    uint64_t seed; /* the first */
    uint64_t seeds_count;
    uint64_t jobs_count;
    struct sim_scenario_options options; /* protocol and seed are set for each run */
};

struct sim_result {
    uint64_t seed;
    uint32_t protocol; /* index into the plan's */
    uint64_t took_ms;  /* of the processor's time */
    struct sim_report report;
};

/* Runs all of the plan; `take` gets each result as it comes, from the calling thread. Blocks. 0, or
 * the error of a process that could not be started or did not end well. */
[[nodiscard]] int sim_crew_run(const struct sim_plan *plan,
                               void (*take)(void *context, const struct sim_result *result),
                               void *context);

/* One run: a line of JSON, or figures and verdict for people. */
void sim_result_print(const struct sim_plan *plan, const struct sim_result *result, bool is_json);

struct sim_summary;

/* For the results of `plan`, which is borrowed. */
struct sim_summary *sim_summary_new(const struct sim_plan *plan);
void sim_summary_free(struct sim_summary *summary);
void sim_summary_add(struct sim_summary *summary, const struct sim_result *result);
/* Figures over all seeds, and the seeds that failed. */
void sim_summary_print(const struct sim_summary *summary);
/* Whether every run held; of two protocols only the first counts, the other is to compare. */
bool sim_summary_holds(const struct sim_summary *summary);

#endif
