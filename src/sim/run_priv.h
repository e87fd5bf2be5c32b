/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_RUN_PRIV_H
#define SIM_RUN_PRIV_H

/*
 * run: what scenarios are written with: a world that has grown together, questions to it, figures
 * and checks.
 */

#include "base/mem.h"
#include "sim/scenario.h"
#include "sim/world.h"

#define NEVER UINT64_MAX
/* How often a condition is looked at. */
#define STEP_US (20 * SIM_US_PER_MS)

struct sim_run {
    const struct sim_scenario_options *options;
    const struct sim_protocol *protocol; /* of the next world */
    struct sim_report *report;
    struct sim_world *world;
    uint32_t nodes; /* that start together; slots 0 to nodes - 1 */
    struct sim_traffic sampled;
    struct watch *watch;
};

/* Watches for healthy nodes that are called unreachable or leave the ring. */
struct watch {
    struct sim_world *world;
    uint8_t *is_doubtful;   /* by identity: something is done to it, so it may be */
    uint32_t *accusers;     /* by identity: how many see it unreachable now */
    uint64_t accused_count; /* healthy nodes that somebody began to see unreachable */
    uint64_t ring_left_count;
    uint64_t stopped_count; /* nodes that were told to stop */
    uint32_t last_accuser;  /* slot and identity, for the text of a check */
    uint32_t last_accused;
    uint64_t last_us;
};

/* A world of `nodes` nodes and room for `spare` more, none started; the watch trusts all. */
void run_world(struct sim_run *run, uint32_t spare);
void run_end_world(struct sim_run *run);

/* Starts all within `spread_us`, each with slot 0 as seed (slot 0 with slot 1); *ret_us: how long
 * it took until all saw all, NEVER if not before `limit_us`. */
uint64_t run_boot(struct sim_run *run, uint64_t spread_us, uint64_t limit_us);
/* The same in whatever time it takes, for scenarios that begin with a network; then lets it rest.
 * False: it never grew together; a check says so. */
bool run_ready(struct sim_run *run);

/* A new node that knows `seed`; started. */
uint32_t run_join(struct sim_run *run, uint32_t seed);

/* Whether all running nodes see just each other, and have equal digests. */
bool run_is_agreed(struct sim_run *run);
/* The same within those slots for which `is_in` holds, as if there were no others. */
bool run_is_agreed_among(struct sim_run *run, bool (*is_in)(void *context, uint32_t slot),
                         void *context);
/* Runs until all agree: how long it took, or NEVER. */
uint64_t run_until_agreed(struct sim_run *run, uint64_t limit_us);

/* In what the views of nodes that run differ from the truth, as far as it fits. */
void run_describe(struct sim_run *run, char ret_text[SIM_TEXT_CHARS]);
/* Runs until all agree, and checks that it took at most `limit_us`; says what differs if not. */
void run_check_agreed(struct sim_run *run, const char *name, uint64_t limit_us);

/* A random slot that runs. */
uint32_t run_pick(struct sim_run *run);
/* From now on `slot` may be called unreachable, or not any more. */
void run_doubt(struct sim_run *run, uint32_t slot, bool is_doubtful);
size_t run_running_count(const struct sim_run *run);

void run_figure(struct sim_run *run, const char *name, const char *unit, double value);
/* In seconds; NEVER leaves it out. */
void run_figure_time(struct sim_run *run, const char *name, uint64_t us);
void run_check(struct sim_run *run, const char *name, bool holds, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* That `us` is at most `limit_us`; also a figure. */
void run_check_time(struct sim_run *run, const char *name, uint64_t us, uint64_t limit_us);
/* That no healthy node was called unreachable, or left the ring, so far. */
void run_check_watch(struct sim_run *run, bool also_unreachable);

/* What issue and design promise for a network of this size. */
uint64_t run_cold_start_limit_us(const struct sim_run *run);
uint64_t run_heal_limit_us(const struct sim_run *run);

/* Times that one figure is made of. */
struct samples {
    uint64_t *values;
    size_t count;
    size_t capacity;
};

void samples_add(struct samples *samples, uint64_t value);
/* The smallest that `percent` of them do not exceed; NEVER if there are none. */
uint64_t samples_percentile(struct samples *samples, unsigned percent);
void samples_done(struct samples *samples);

/* Who has noticed something of one member. */
struct notice {
    struct sim_world *world;
    uint32_t identity;
    bool is_awaited_alive; /* else: unreachable, left or forgotten */
    uint8_t *has;          /* by slot */
    size_t missing_count;  /* of those that ran when it began */
    uint64_t first_us;
    uint64_t last_us;
};

/* Begins to wait for all that run now, but `except`, to notice; ends with run_notice_end(). */
void run_notice_begin(struct sim_run *run, struct notice *notice, uint32_t except,
                      uint32_t identity, bool is_awaited_alive);
/* Runs until all have: how long after the beginning the last one did; NEVER. */
uint64_t run_notice_wait(struct sim_run *run, struct notice *notice, uint64_t limit_us);
void run_notice_end(struct sim_run *run, struct notice *notice);

/* Parts of scenarios that make the table of promises: each measures and checks in a world that has
 * grown together. */
void measure_idle(struct sim_run *run, uint64_t seconds);
void measure_crashes(struct sim_run *run, uint64_t count);
void measure_halves(struct sim_run *run, uint64_t hold_us);

/* All that can go wrong, in an order that the seed decides; then all that can be mended is. In a
 * world with room for CHAOS_JOINERS_MAX more, that chaos_ready() has made to grow together. */
#define CHAOS_JOINERS_MAX 8u
struct chaos_options {
    uint64_t seconds;
    const enum sim_disk *disks; /* of nodes that come back, drawn from these */
    size_t disks_count;
};
bool chaos_ready(struct sim_run *run);
void chaos_live(struct sim_run *run, const struct chaos_options *options);

/* Scenarios, by file. */
extern const struct sim_scenario scenario_cold_start;
extern const struct sim_scenario scenario_idle;
extern const struct sim_scenario scenario_crash;
extern const struct sim_scenario scenario_join;
extern const struct sim_scenario scenario_leave;
extern const struct sim_scenario scenario_loss;
extern const struct sim_scenario scenario_pause;
extern const struct sim_scenario scenario_bad_node;
extern const struct sim_scenario scenario_partition;
extern const struct sim_scenario scenario_skew;
extern const struct sim_scenario scenario_clone;
extern const struct sim_scenario scenario_lost_disk;
extern const struct sim_scenario scenario_mass_restart;
extern const struct sim_scenario scenario_mass_crash;
extern const struct sim_scenario scenario_hostile;
extern const struct sim_scenario scenario_chaos;
extern const struct sim_scenario scenario_table;
extern const struct sim_scenario scenario_broadcast;
extern const struct sim_scenario scenario_tree_spread;
extern const struct sim_scenario scenario_tree_churn;
extern const struct sim_scenario scenario_tree_partition;
extern const struct sim_scenario scenario_tree_absent;
extern const struct sim_scenario scenario_tree_disks;
extern const struct sim_scenario scenario_tree_fork;
extern const struct sim_scenario scenario_tree_forged;
extern const struct sim_scenario scenario_tree_join;
extern const struct sim_scenario scenario_deliver;
extern const struct sim_scenario scenario_deliver_kill;
extern const struct sim_scenario scenario_deliver_freeze;
extern const struct sim_scenario scenario_deliver_holders;
extern const struct sim_scenario scenario_deliver_scattered;
extern const struct sim_scenario scenario_deliver_parts;
extern const struct sim_scenario scenario_deliver_orphans;

#endif
