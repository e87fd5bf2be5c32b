/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_SCENARIO_H
#define SIM_SCENARIO_H

/*
 * scenario: a story that a network goes through, the figures that come out, and whether what was
 * promised held.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"
#include "sim/protocol.h"

#define SIM_FIGURES_MAX 48u
#define SIM_CHECKS_MAX 48u
#define SIM_NAME_CHARS 48u
#define SIM_TEXT_CHARS 192u
#define SIM_SCENARIO_NODES_MAX 60000u
/* A default of the scenario's own. */
#define SIM_LOSS_DEFAULT UINT32_MAX

/* Of the scenarios that deliver a file; 0: the default of the scenario. */
struct sim_delivery {
    uint64_t size_bytes;
    uint32_t block_bytes;      /* 0: as files are cut */
    uint64_t rate_bytes_per_s; /* of each link, each way */
    uint64_t delay_us;         /* one way */
    uint32_t holders_count;    /* who have it at the start */
    uint32_t receivers_count;  /* who want it; 0: all others */
    unsigned kill_percent;     /* of the receivers, in the middle */
    uint32_t freeze_count;
};

struct sim_scenario_options {
    const struct sim_protocol *protocol;
    uint32_t nodes_count; /* 3 to SIM_SCENARIO_NODES_MAX */
    uint64_t seed;
    uint64_t duration_s; /* of the part that can be of any length; 0: the default */
    uint32_t loss_ppm;   /* of every datagram all the time; SIM_LOSS_DEFAULT */
    struct sim_delivery delivery;
    struct buf *csv; /* a line a second is added; NULL: none */
    FILE *log;       /* a line for all that happens (sim_world_set_log()); NULL: none */
};

struct sim_figure {
    char name[SIM_NAME_CHARS];
    char unit[16];
    double value;
};

struct sim_check {
    char name[SIM_NAME_CHARS];
    char text[SIM_TEXT_CHARS]; /* what was seen */
    bool holds;
};

struct sim_report {
    struct sim_figure figures[SIM_FIGURES_MAX];
    size_t figures_count;
    struct sim_check checks[SIM_CHECKS_MAX];
    size_t checks_count;
    uint64_t trace;        /* equal for equal inputs */
    uint64_t events_count; /* of the engine */
    uint64_t virtual_us;
};

struct sim_run;

struct sim_scenario {
    const char *name;
    const char *summary;
    void (*run)(struct sim_run *run);
};

/* All of them; *ret_count tells how many. */
const struct sim_scenario *const *sim_scenarios(size_t *ret_count);
/* NULL: there is none. */
const struct sim_scenario *sim_scenario_find(const char *name);

/* Runs it from beginning to end; takes as long as it takes. */
void sim_scenario_run(const struct sim_scenario *scenario,
                      const struct sim_scenario_options *options, struct sim_report *ret_report);

/* True if all its checks hold and there is at least one. */
bool sim_report_holds(const struct sim_report *report);

/* The head of the time series. */
extern const char sim_csv_head[];

#endif
