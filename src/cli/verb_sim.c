/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/sim_result.h"

#define SEEDS_MAX 10000000u
#define JOBS_MAX 1024u
#define SIZE_MAX_BYTES ((uint64_t)1024 * 1024 * 1024 * 1024)
#define BLOCK_MAX_BYTES ((uint64_t)16 * 1024 * 1024)
#define BLOCKS_MAX 150000u
#define RATE_MAX UINT64_C(1000000000000)
#define DURATION_S_MAX (UINT64_C(30) * 24 * 3600)

CLEANUP_DEFINE(sim_summary_free, struct sim_summary)

static void close_file(FILE **file)
{
    if (*file) {
        fclose(*file);
    }
}
#define CLEANUP_FILE __attribute__((cleanup(close_file)))

struct sim_call {
    struct sim_plan plan;
    struct sim_summary *summary;
    bool is_json;
};

static void list_scenarios(void)
{
    size_t count;
    const struct sim_scenario *const *scenarios = sim_scenarios(&count);
    for (size_t i = 0; i < count; i++) {
        printf("%-17s %s\n", scenarios[i]->name, scenarios[i]->summary);
    }
}

/* A number of the command line in [least, most], or says what is wrong with it. */
static bool read_number(const struct invocation *invocation, const char *name, uint64_t least,
                        uint64_t most, uint64_t *ret_number)
{
    uint64_t number = 0;
    if (config_number(invocation->config, name, most, &number) || number < least) {
        (void)cli_usage(invocation, "--%s is a number from %llu to %llu", name,
                        (unsigned long long)least, (unsigned long long)most);
        return false;
    }
    *ret_number = number;
    return true;
}

/* "0.01" or "1%" as millionths. */
static bool read_loss(const struct invocation *invocation, uint32_t *ret_ppm)
{
    const char *text = config_string(invocation->config, "loss");
    *ret_ppm = SIM_LOSS_DEFAULT;
    if (!text) {
        return true;
    }
    char *end = NULL;
    double share = strtod(text, &end);
    if (end != text && strcmp(end, "%") == 0) {
        share /= 100;
        end++;
    }
    if (end == text || *end || !(share >= 0 && share < 1)) {
        (void)cli_usage(invocation,
                        "--loss is a share from 0 to less than 1, or of a hundred: 1%%");
        return false;
    }
    *ret_ppm = (uint32_t)lround(share * 1e6);
    return true;
}

/* "3GB", "300MB/s", "256K": decimal with a B, else powers of 1024. */
static bool read_amount(const struct invocation *invocation, const char *name, uint64_t most,
                        uint64_t *ret_amount)
{
    static const char units[] = "KMGT";
    const char *text = config_string(invocation->config, name);
    *ret_amount = 0;
    if (!text) {
        return true;
    }
    char *end = NULL;
    double amount = strtod(text, &end);
    const bool is_number = end != text;
    const char *unit = is_number && *end ? strchr(units, *end) : NULL;
    if (unit) {
        end++;
        const double step = *end == 'B' ? 1000 : 1024;
        amount *= pow(step, (double)(unit - units + 1));
    }
    end += *end == 'B' ? 1 : 0;
    end += strcmp(end, "/s") == 0 ? 2 : 0;
    if (!is_number || *end || !(amount >= 1 && amount <= (double)most)) {
        (void)cli_usage(invocation, "--%s is a number of bytes, as 64M or 3GB, up to %llu", name,
                        (unsigned long long)most);
        return false;
    }
    *ret_amount = (uint64_t)amount;
    return true;
}

/* "0.5" milliseconds. */
static bool read_delay(const struct invocation *invocation, uint64_t *ret_us)
{
    const char *text = config_string(invocation->config, "delay");
    *ret_us = 0;
    if (!text) {
        return true;
    }
    char *end = NULL;
    const double ms = strtod(text, &end);
    if (end == text || *end || !(ms > 0 && ms <= 10000)) {
        (void)cli_usage(invocation, "--delay is milliseconds, more than 0, up to 10000");
        return false;
    }
    *ret_us = (uint64_t)(ms * 1000) + 1;
    return true;
}

static bool read_delivery(const struct invocation *invocation, struct sim_delivery *delivery)
{
    uint64_t block = 0;
    uint64_t holders = 0;
    uint64_t receivers = 0;
    uint64_t kill = 0;
    uint64_t freeze = 0;
    if (!read_amount(invocation, "size", SIZE_MAX_BYTES, &delivery->size_bytes) ||
        !read_amount(invocation, "block", BLOCK_MAX_BYTES, &block) ||
        !read_amount(invocation, "rate", RATE_MAX, &delivery->rate_bytes_per_s) ||
        !read_delay(invocation, &delivery->delay_us) ||
        !read_number(invocation, "holders", 0, SIM_SCENARIO_NODES_MAX, &holders) ||
        !read_number(invocation, "receivers", 0, SIM_SCENARIO_NODES_MAX, &receivers) ||
        !read_number(invocation, "kill", 0, 99, &kill) ||
        !read_number(invocation, "freeze", 0, SIM_SCENARIO_NODES_MAX, &freeze)) {
        return false;
    }
    if (block > 0 && delivery->size_bytes / block >= BLOCKS_MAX) {
        (void)cli_usage(invocation, "--size is at most %u times --block", BLOCKS_MAX);
        return false;
    }
    delivery->block_bytes = (uint32_t)block;
    delivery->holders_count = (uint32_t)holders;
    delivery->receivers_count = (uint32_t)receivers;
    delivery->kill_percent = (unsigned)kill;
    delivery->freeze_count = (uint32_t)freeze;
    return true;
}

static bool read_protocols(const struct invocation *invocation, struct sim_plan *plan)
{
    const char *text = config_string(invocation->config, "protocol");
    const bool both = strcmp(text, "both") == 0;
    if (both || strcmp(text, "artel") == 0) {
        plan->protocols[plan->protocols_count++] = sim_protocol_artel();
    }
    if (both || strcmp(text, "swim") == 0) {
        plan->protocols[plan->protocols_count++] = sim_protocol_swim();
    }
    if (plan->protocols_count == 0) {
        (void)cli_usage(invocation, "'%s' is no protocol: artel, swim or both", text);
    }
    return plan->protocols_count > 0;
}

static bool read_plan(const struct invocation *invocation, struct sim_plan *plan)
{
    if (invocation->arguments_count != 1) {
        (void)cli_usage(invocation, "one scenario; --list tells which there are");
        return false;
    }
    plan->scenario = sim_scenario_find(invocation->arguments[0]);
    if (!plan->scenario) {
        (void)cli_usage(invocation, "'%s' is no scenario; --list tells which there are",
                        invocation->arguments[0]);
        return false;
    }
    uint64_t nodes = 0;
    if (!read_number(invocation, "nodes", 3, SIM_SCENARIO_NODES_MAX, &nodes) ||
        !read_number(invocation, "seed", 0, INT64_MAX - SEEDS_MAX, &plan->seed) ||
        !read_number(invocation, "seeds", 1, SEEDS_MAX, &plan->seeds_count) ||
        !read_number(invocation, "jobs", 1, JOBS_MAX, &plan->jobs_count) ||
        !read_number(invocation, "duration", 0, DURATION_S_MAX, &plan->options.duration_s) ||
        !read_delivery(invocation, &plan->options.delivery) ||
        !read_loss(invocation, &plan->options.loss_ppm) || !read_protocols(invocation, plan)) {
        return false;
    }
    plan->options.nodes_count = (uint32_t)nodes;
    plan->jobs_count = plan->jobs_count < plan->seeds_count ? plan->jobs_count : plan->seeds_count;
    return true;
}

static void take_result(void *context, const struct sim_result *result)
{
    struct sim_call *call = context;
    sim_summary_add(call->summary, result);
    if (call->is_json || call->plan.seeds_count == 1) {
        sim_result_print(&call->plan, result, call->is_json);
    }
}

static enum cli_status run_plan(const struct invocation *invocation, struct sim_call *call, int csv)
{
    CLEANUP_BUF struct buf lines = BUF_INIT;
    if (csv >= 0) {
        buf_add_string(&lines, sim_csv_head);
        call->plan.options.csv = &lines;
    }
    int err = sim_crew_run(&call->plan, take_result, call);
    if (err) {
        cli_error(invocation, "a process of the simulation: %s", err_text(err));
        return CLI_FAILED;
    }
    if (!call->is_json && call->plan.seeds_count > 1) {
        sim_summary_print(call->summary);
    }
    err = csv >= 0 ? file_write_all(csv, buf_bytes(&lines)) : 0;
    if (err) {
        cli_error(invocation, "%s: %s", config_string(invocation->config, "csv"), err_text(err));
        return CLI_FAILED;
    }
    return sim_summary_holds(call->summary) ? CLI_OK : CLI_FAILED;
}

static enum cli_status run_sim(const struct invocation *invocation)
{
    if (config_switch(invocation->config, "list")) {
        list_scenarios();
        return CLI_OK;
    }
    struct sim_call call = {.is_json = config_switch(invocation->config, "json")};
    if (!read_plan(invocation, &call.plan)) {
        return CLI_USAGE;
    }
    const char *path = config_string(invocation->config, "csv");
    CLEANUP_FD int csv = -1;
    const char *log = config_string(invocation->config, "log");
    if ((path || log) && call.plan.jobs_count > 1) {
        return cli_usage(invocation, "--csv and --log are of one process: no --jobs");
    }
    if (path) {
        const int err = file_open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0666, &csv);
        if (err) {
            cli_error(invocation, "%s: %s", path, err_text(err));
            return CLI_FAILED;
        }
    }
    CLEANUP_FILE FILE *log_file = log ? fopen(log, "we") : NULL;
    if (log && !log_file) {
        cli_error(invocation, "%s: %s", log, err_text(err_from_errno(errno)));
        return CLI_FAILED;
    }
    call.plan.options.log = log_file;
    CLEANUP(sim_summary_free) struct sim_summary *summary = sim_summary_new(&call.plan);
    call.summary = summary;
    return run_plan(invocation, &call, csv);
}

static const struct config_key keys[] = {
    {"nodes", "100", "N: how many", false},
    {"seed", "1", "S: of all that is random; the same gives the same run", false},
    {"seeds", "1", "COUNT: runs with seeds S, S + 1 and so on, and sums up", false},
    {"jobs", "1", "J: so many processes", false},
    {"protocol", "artel", "P: artel, swim (memberlist's parameters) or both", false},
    {"duration", "0", "SECONDS: of the part that can be of any length; 0: as the scenario says",
     false},
    {"loss", NULL, "SHARE: of all datagrams, all the time: 0.01 or 1%", false},
    {"size", NULL, "BYTES: of the file (deliver scenarios): 64M, 3GB", false},
    {"block", NULL, "BYTES: of each block; else as files are cut", false},
    {"rate", NULL, "BYTES/s: of each link, each way: 25MB/s", false},
    {"delay", NULL, "MS: from node to node, one way: 0.2", false},
    {"holders", "0", "COUNT: nodes that have the file at the start; 0: one", false},
    {"receivers", "0", "COUNT: nodes that want it; 0: all others", false},
    {"kill", "0", "PERCENT: of the receivers, killed in the middle", false},
    {"freeze", "0", "COUNT: of the receivers, frozen in the middle", false},
    {"csv", NULL, "FILE: write who sees how many, and the traffic, second by second", false},
    {"log", NULL, "FILE: write all that happens to nodes and all that they see", false},
    {"list", NULL, "tell which scenarios there are", true},
    CLI_KEY_JSON,
    CLI_KEYS_ANY,
};

const struct verb verb_sim = {
    .name = "sim",
    .summary = "simulate a network of thousands of nodes",
    .synopsis =
        "SCENARIO [--nodes N] [--seed S] [--seeds COUNT --jobs J] [--size BYTES] [--rate BYTES/s]",
    .about =
        "Runs the code that keeps the nodes' list of members and, in the tree- scenarios, their\n"
        "trees, and in the deliver scenarios, who fetches what from whom, for N nodes on a virtual "
        "clock and network, through one story: crashes, loss,\n"
        "partitions and so on. Prints figures and whether what artel promises held. Exit status 0 "
        "if it did for every seed, 1 if\n"
        "not. With --protocol both, SWIM lives the same story, and does not count.\n",
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .run = run_sim,
};
