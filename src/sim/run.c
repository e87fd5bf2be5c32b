/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "sim/run_priv.h"

#define BOOT_LIMIT_US (600 * SIM_US_PER_S)
#define BOOT_SPREAD_US (100 * SIM_US_PER_MS)
#define REST_US (10 * SIM_US_PER_S)
#define SAMPLE_US SIM_US_PER_S

const char sim_csv_head[] =
    "protocol,seed,time_s,running,alive_min,alive_mean,alive_max,agreed,datagrams_per_s,"
    "datagram_bytes_per_s,messages_per_s,message_bytes_per_s\n";

static void on_news(void *context, uint32_t slot, enum sim_news news, uint32_t identity)
{
    struct watch *watch = context;
    if (news == SIM_CONFLICT) {
        watch->stopped_count++;
    }
    if (sim_world_identity(watch->world, slot) == identity) {
        return;
    }
    const bool is_false = !watch->is_doubtful[identity] &&
                          !watch->is_doubtful[sim_world_identity(watch->world, slot)];
    if (news == SIM_SEES_UNREACHABLE) {
        watch->accusers[identity]++;
        if (is_false) {
            watch->accused_count += watch->accusers[identity] == 1 ? 1 : 0;
            watch->last_accuser = slot;
            watch->last_accused = identity;
            watch->last_us = sim_world_now_us(watch->world);
        }
    } else if (news == SIM_SEES_ALIVE && watch->accusers[identity] > 0) {
        watch->accusers[identity]--;
    } else if (news == SIM_RING_LEFT && is_false) {
        watch->ring_left_count++;
    }
}

/* A line of the time series. */
static void sample(void *context, uint64_t argument)
{
    (void)argument;
    struct sim_run *run = context;
    struct sim_world *world = run->world;
    const struct sim_protocol *protocol = sim_world_protocol(world);
    size_t running = 0;
    size_t alive_min = SIZE_MAX;
    size_t alive_max = 0;
    uint64_t alive_sum = 0;
    for (uint32_t slot = 0; slot < sim_world_slots_count(world); slot++) {
        if (sim_world_state(world, slot) == SIM_RUNNING) {
            const size_t alive = protocol->alive_count(sim_world_node(world, slot));
            running++;
            alive_sum += alive;
            alive_min = alive < alive_min ? alive : alive_min;
            alive_max = alive > alive_max ? alive : alive_max;
        }
    }
    const struct sim_traffic total = sim_world_traffic_total(world);
    const struct sim_traffic *before = &run->sampled;
    buf_add_format(run->options->csv, "%s,%llu,%llu,%zu,%zu,%.2f,%zu,%d,%llu,%llu,%llu,%llu\n",
                   protocol->name, (unsigned long long)run->options->seed,
                   (unsigned long long)(sim_world_now_us(world) / SIM_US_PER_S), running,
                   running ? alive_min : 0, running ? (double)alive_sum / (double)running : 0.0,
                   alive_max, run_is_agreed(run) ? 1 : 0,
                   (unsigned long long)(total.datagrams_sent - before->datagrams_sent),
                   (unsigned long long)(total.datagram_bytes_sent - before->datagram_bytes_sent),
                   (unsigned long long)(total.messages_sent - before->messages_sent),
                   (unsigned long long)(total.message_bytes_sent - before->message_bytes_sent));
    run->sampled = total;
    sim_world_at(world, sim_world_now_us(world) + SAMPLE_US, sample, run, 0);
}

void run_world(struct sim_run *run, uint32_t spare)
{
    const struct sim_scenario_options *options = run->options;
    const size_t slots = (size_t)options->nodes_count + spare;
    const struct sim_world_options world = {
        .protocol = run->protocol,
        .slots_max = slots,
        .seed = options->seed,
        .network = {.loss_ppm = options->loss_ppm == SIM_LOSS_DEFAULT ? 0 : options->loss_ppm},
    };
    run->world = sim_world_new(&world);
    sim_world_set_log(run->world, options->log);
    run->sampled = (struct sim_traffic){0};
    run->watch = mem_alloc(sizeof *run->watch);
    run->watch->world = run->world;
    run->watch->is_doubtful = mem_alloc_array(slots, sizeof *run->watch->is_doubtful);
    run->watch->accusers = mem_alloc_array(slots, sizeof *run->watch->accusers);
    const struct sim_observer observer = {.news = on_news, .context = run->watch};
    sim_world_observe(run->world, &observer);
    for (uint32_t i = 0; i < run->nodes; i++) {
        const uint32_t slot = sim_world_add(run->world);
        const uint32_t seed = slot == 0 ? 1 : 0;
        sim_world_set_seeds(run->world, slot, &seed, 1);
    }
    if (options->csv) {
        sim_world_at(run->world, 0, sample, run, 0);
    }
}

void run_end_world(struct sim_run *run)
{
    struct sim_report *report = run->report;
    const uint64_t stormed = sim_world_traffic_total(run->world).datagrams_stormed;
    if (stormed > 0) {
        run_check(run, "no-storm", false, "%llu datagrams beyond %u a second of one node",
                  (unsigned long long)stormed, SIM_STORM_DATAGRAMS);
    }
    report->trace = report->trace * 31 + sim_world_trace(run->world);
    report->events_count += sim_engine_done_count(sim_world_engine(run->world));
    report->virtual_us += sim_world_now_us(run->world);
    sim_world_free(run->world);
    free(run->watch->is_doubtful);
    free(run->watch->accusers);
    free(run->watch);
    run->world = NULL;
    run->watch = NULL;
}

static void start(void *context, uint64_t argument)
{
    struct sim_run *run = context;
    sim_world_start(run->world, (uint32_t)argument, SIM_DISK_KEPT);
}

uint64_t run_boot(struct sim_run *run, uint64_t spread_us, uint64_t limit_us)
{
    struct sim_world *world = run->world;
    const uint64_t begin_us = sim_world_now_us(world);
    for (uint32_t slot = 0; slot < run->nodes; slot++) {
        const uint64_t delay_us = random_below(sim_world_random(world), spread_us + 1);
        sim_world_at(world, begin_us + delay_us, start, run, slot);
    }
    sim_world_run(world, spread_us);
    const uint64_t took_us = run_until_agreed(run, limit_us);
    return took_us == NEVER ? NEVER : took_us + spread_us;
}

bool run_ready(struct sim_run *run)
{
    const uint64_t took_us = run_boot(run, BOOT_SPREAD_US, BOOT_LIMIT_US);
    if (took_us == NEVER) {
        run_check(run, "grows-together", false, "not within %llu s",
                  (unsigned long long)(BOOT_LIMIT_US / SIM_US_PER_S));
        return false;
    }
    sim_world_run(run->world, REST_US);
    return true;
}

uint32_t run_join(struct sim_run *run, uint32_t seed)
{
    const uint32_t slot = sim_world_add(run->world);
    sim_world_set_seeds(run->world, slot, &seed, 1);
    sim_world_start(run->world, slot, SIM_DISK_KEPT);
    return slot;
}

uint32_t run_pick(struct sim_run *run)
{
    struct random *random = sim_world_random(run->world);
    uint32_t slot;
    do {
        slot = (uint32_t)random_below(random, sim_world_slots_count(run->world));
    } while (sim_world_state(run->world, slot) != SIM_RUNNING);
    return slot;
}

void run_doubt(struct sim_run *run, uint32_t slot, bool is_doubtful)
{
    run->watch->is_doubtful[sim_world_identity(run->world, slot)] = is_doubtful ? 1 : 0;
}

size_t run_running_count(const struct sim_run *run)
{
    size_t count = 0;
    for (uint32_t slot = 0; slot < sim_world_slots_count(run->world); slot++) {
        count += sim_world_state(run->world, slot) == SIM_RUNNING ? 1 : 0;
    }
    return count;
}

uint64_t run_cold_start_limit_us(const struct sim_run *run)
{
    return (run->nodes <= 100 ? 5 : (run->nodes <= 1000 ? 10 : 20)) * SIM_US_PER_S;
}

uint64_t run_heal_limit_us(const struct sim_run *run)
{
    return (run->nodes <= 1000 ? 10 : 15) * SIM_US_PER_S;
}
