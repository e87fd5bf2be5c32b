/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "sim/run_priv.h"

#define MEASURED_S 120u
#define SETTLE_US (30 * SIM_US_PER_S)
#define LIMIT_BYTES_PER_S 500.0

void measure_idle(struct sim_run *run, uint64_t seconds)
{
    sim_world_run(run->world, SETTLE_US);
    struct sim_traffic *before = mem_alloc_array(run->nodes, sizeof *before);
    for (uint32_t slot = 0; slot < run->nodes; slot++) {
        before[slot] = *sim_world_traffic(run->world, slot);
    }
    sim_world_run(run->world, seconds * SIM_US_PER_S);
    double out = 0;
    double in = 0;
    double out_max = 0;
    double in_max = 0;
    double datagrams = 0;
    for (uint32_t slot = 0; slot < run->nodes; slot++) {
        const struct sim_traffic *after = sim_world_traffic(run->world, slot);
        const double sent = (double)(after->datagram_bytes_sent - before[slot].datagram_bytes_sent +
                                     after->message_bytes_sent - before[slot].message_bytes_sent);
        const double received =
            (double)(after->datagram_bytes_received - before[slot].datagram_bytes_received +
                     after->message_bytes_received - before[slot].message_bytes_received);
        out += sent;
        in += received;
        out_max = sent > out_max ? sent : out_max;
        in_max = received > in_max ? received : in_max;
        datagrams += (double)(after->datagrams_sent - before[slot].datagrams_sent);
    }
    free(before);
    const double node_seconds = (double)run->nodes * (double)seconds;
    run_figure(run, "out-per-node", "B/s", out / node_seconds);
    run_figure(run, "in-per-node", "B/s", in / node_seconds);
    run_figure(run, "out-of-busiest", "B/s", out_max / (double)seconds);
    run_figure(run, "in-of-busiest", "B/s", in_max / (double)seconds);
    run_figure(run, "datagrams-out-per-node", "/s", datagrams / node_seconds);
    run_check(run, "idle-out", out / node_seconds <= LIMIT_BYTES_PER_S,
              "%.0f B/s per node; at most %.0f", out / node_seconds, LIMIT_BYTES_PER_S);
    run_check(run, "idle-in", in / node_seconds <= LIMIT_BYTES_PER_S,
              "%.0f B/s per node; at most %.0f", in / node_seconds, LIMIT_BYTES_PER_S);
}

static void run_idle(struct sim_run *run)
{
    run_world(run, 0);
    if (run_ready(run)) {
        measure_idle(run, run->options->duration_s ? run->options->duration_s : MEASURED_S);
        run_check_watch(run, true);
    }
    run_end_world(run);
}

const struct sim_scenario scenario_idle = {
    .name = "idle",
    .summary = "nothing happens: bytes per node and second, headers of IP and UDP included",
    .run = run_idle,
};
