/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_ENGINE_H
#define SIM_ENGINE_H

/*
 * engine: a virtual clock and what is to happen when. Time stands still while something runs, and
 * jumps to the next thing after it. What is due at the same time runs in the order in which it was
 * asked for, so a run depends on nothing but its inputs.
 *
 * Threads: one.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_US_PER_MS UINT64_C(1000)
#define SIM_US_PER_S UINT64_C(1000000)
/* Never. */
#define SIM_TIME_MAX UINT64_MAX

struct sim_engine;

/* The time begins at 0. */
struct sim_engine *sim_engine_new(void);
/* What has not happened yet never does. NULL is allowed. */
void sim_engine_free(struct sim_engine *engine);

uint64_t sim_engine_now_us(const struct sim_engine *engine);
/* How much has happened so far, and how much is waiting. */
uint64_t sim_engine_done_count(const struct sim_engine *engine);
size_t sim_engine_waiting_count(const struct sim_engine *engine);

/* Calls `run` at `at_us`, or now if that is over; at most 2^28 may wait at a time. */
void sim_engine_at(struct sim_engine *engine, uint64_t at_us,
                   void (*run)(void *context, uint64_t argument), void *context, uint64_t argument);

/* Lets everything happen that is due up to `until_us`, that included, and sets the clock there. */
void sim_engine_run_until(struct sim_engine *engine, uint64_t until_us);

#endif
