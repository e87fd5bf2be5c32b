/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/tree_run_priv.h"

#include <stdio.h>

#include "base/err.h"

#define LOOK_US SIM_US_PER_S
/* For how long agreement is waited for where it should have come long before. */
#define AGREE_LIMIT_US (300 * SIM_US_PER_S)
#define TOPS 4u
/* Files of a fill that are put before it rests. */
#define FILL_BATCH 100u

/* How far each node is: a line for each. */
static void log_trees(const struct tree_run *tree)
{
    for (uint32_t slot = 0; slot < sim_world_slots_count(tree->world); slot++) {
        struct kv_txn *txn = NULL;
        const struct tree *one = sim_replicas_read(tree->replicas, slot, &txn);
        const struct sim_replica *replica = sim_replicas_find(tree->replicas, slot);
        struct tree_summary summary;
        if (!one) {
            continue;
        }
        const int err = tree_summary(one, txn, &summary);
        CHECK(!err);
        kv_abort(txn);
        const struct tree_sync_counters *counters = replica ? sim_replica_counters(replica) : NULL;
        fprintf(tree->run->options->log, "%.6f %u tree %016llx ops %llu pulls %llu early %llu%s\n",
                (double)sim_world_now_us(tree->world) / (double)SIM_US_PER_S, slot,
                (unsigned long long)summary.vector_sum, (unsigned long long)summary.ops_count,
                (unsigned long long)(counters ? counters->pulls : 0),
                (unsigned long long)(counters ? counters->ops_early : 0),
                summary.is_merging ? " merging" : "");
    }
}

static void look(void *context, uint64_t argument)
{
    (void)argument;
    struct tree_run *tree = context;
    const bool is_anybody_up = run_running_count(tree->run) > 0;
    if (is_anybody_up && tree->run->options->log) {
        log_trees(tree);
    }
    if (is_anybody_up) {
        /* Computing takes the longer the more there is: in large worlds it is left to the end. */
        sim_oracle_look(tree->oracle, tree->run->nodes <= 100);
    }
    sim_world_at(tree->world, sim_world_now_us(tree->world) + LOOK_US, look, tree, 0);
}

bool tree_run_begin(struct tree_run *tree, struct sim_run *run, uint32_t spare)
{
    if (run->options->protocol != sim_protocol_artel()) {
        run_check(run, "has-a-tree", false, "%s has none", run->options->protocol->name);
        return false;
    }
    run->protocol = sim_protocol_artel_tree();
    run_world(run, spare);
    *tree = (struct tree_run){
        .run = run,
        .world = run->world,
        .replicas = sim_artel_replicas(run->world),
        .oracle = sim_oracle_new(run->world, (size_t)run->nodes + spare),
    };
    tree->workload =
        (struct sim_workload){.world = run->world, .oracle = tree->oracle, .tops_count = TOPS};
    random_init(&tree->workload.random, run->options->seed ^ 0xc0de);
    sim_world_at(run->world, 0, look, tree, 0);
    return true;
}

static void add_figures(struct tree_run *tree)
{
    struct sim_run *run = tree->run;
    const struct sim_oracle_figures *figures = sim_oracle_figures(tree->oracle);
    struct tree_sync_counters sum = {0};
    for (uint32_t slot = 0; slot < sim_world_slots_count(tree->world); slot++) {
        const struct sim_replica *replica = sim_replicas_find(tree->replicas, slot);
        if (replica) {
            const struct tree_sync_counters *one = sim_replica_counters(replica);
            sum.ops_early += one->ops_early;
            sum.ops_dropped += one->ops_dropped;
            sum.ops_refused += one->ops_refused;
            sum.ops_forked += one->ops_forked;
            sum.messages_refused += one->messages_refused;
            sum.message_bytes_sent += one->message_bytes_sent;
            sum.pulls += one->pulls;
            sum.snapshots_served += one->snapshots_served;
        }
    }
    run_figure(run, "ops", "", (double)figures->ops);
    run_figure(run, "acknowledged", "", (double)figures->acknowledged);
    run_figure(run, "forks", "", (double)figures->forks);
    run_figure(run, "snapshots-merged", "", (double)figures->merges);
    run_figure(run, "watchers-gaps", "", (double)figures->gaps);
    run_figure(run, "ops-early", "", (double)sum.ops_early);
    run_figure(run, "ops-dropped", "", (double)sum.ops_dropped);
    run_figure(run, "ops-refused", "", (double)(sum.ops_refused + sum.ops_forked));
    run_figure(run, "messages-refused", "", (double)sum.messages_refused);
    run_figure(run, "pulls", "", (double)sum.pulls);
    run_figure(run, "tree-message-bytes", "B", (double)sum.message_bytes_sent);
}

void tree_run_end(struct tree_run *tree)
{
    add_figures(tree);
    sim_oracle_free(tree->oracle);
    run_end_world(tree->run);
}

static bool is_agreed(void *context)
{
    struct tree_run *tree = context;
    if (tree->members_agreed_us == NEVER && run_is_agreed(tree->run)) {
        tree->members_agreed_us = sim_world_now_us(tree->world);
    }
    return sim_oracle_is_agreed(tree->oracle);
}

/* Who differs from the first. */
static void describe(const struct tree_run *tree, char text[SIM_TEXT_CHARS])
{
    struct tree_summary first = {0};
    uint32_t first_slot = UINT32_MAX;
    uint32_t last_other = 0;
    struct tree_summary other = {0};
    size_t others = 0;
    size_t merging = 0;
    for (uint32_t slot = 0; slot < sim_world_slots_count(tree->world); slot++) {
        struct kv_txn *txn = NULL;
        const struct tree *one = sim_replicas_read(tree->replicas, slot, &txn);
        struct tree_summary summary;
        if (!one) {
            continue;
        }
        const int err = tree_summary(one, txn, &summary);
        CHECK(!err);
        kv_abort(txn);
        if (sim_world_state(tree->world, slot) != SIM_RUNNING) {
            continue;
        }
        merging += summary.is_merging ? 1 : 0;
        if (first_slot == UINT32_MAX) {
            first_slot = slot;
            first = summary;
        } else if (summary.vector_sum != first.vector_sum) {
            others++;
            last_other = slot;
            other = summary;
        }
    }
    snprintf(text, SIM_TEXT_CHARS,
             "; %zu have another vector than %u (%llu ops), %u the last (%llu ops); %zu merge",
             others, first_slot, (unsigned long long)first.ops_count, last_other,
             (unsigned long long)other.ops_count, merging);
}

void tree_check_agreed(struct tree_run *tree, const char *name, uint64_t limit_us)
{
    struct sim_run *run = tree->run;
    const uint64_t begin_us = sim_world_now_us(tree->world);
    tree->members_agreed_us = NEVER;
    if (sim_world_run_until(tree->world, begin_us + AGREE_LIMIT_US, STEP_US, is_agreed, tree)) {
        run_check_time(run, name, sim_world_now_us(tree->world) - begin_us, limit_us);
        char members[SIM_NAME_CHARS];
        snprintf(members, sizeof members, "%.30s-members", name);
        run_figure_time(run, members,
                        tree->members_agreed_us == NEVER ? NEVER
                                                         : tree->members_agreed_us - begin_us);
        return;
    }
    char text[SIM_TEXT_CHARS];
    describe(tree, text);
    run_check(run, name, false, "never; at most %.1f s%s", (double)limit_us / (double)SIM_US_PER_S,
              text);
}

void tree_check_oracle(struct tree_run *tree)
{
    static const char *const names[SIM_FAULTS] = {
        [SIM_FAULT_FINGERPRINT] = "equal-vectors-equal-trees",
        [SIM_FAULT_MERGE] = "trees-are-what-logs-make",
        [SIM_FAULT_LOST] = "acknowledged-changes-last",
        [SIM_FAULT_NAME] = "one-name-one-op",
        [SIM_FAULT_WATCHER] = "watchers-miss-nothing",
        [SIM_FAULT_SYNC] = "no-alarm",
    };
    sim_oracle_look(tree->oracle, true);
    sim_oracle_judge(tree->oracle);
    for (size_t i = 0; i < SIM_FAULTS; i++) {
        const struct sim_oracle_fault *fault = sim_oracle_faults(tree->oracle, (enum sim_fault)i);
        run_check(tree->run, names[i], fault->count == 0, "%llu times%s%s",
                  (unsigned long long)fault->count, fault->count ? "; " : "", fault->text);
    }
}

static int put(void *context, const struct tree *tree, struct kv_txn *txn, struct dot *ret_dot)
{
    return tree_change_put(tree, txn, context, ret_dot);
}

bool tree_publish(struct tree_run *tree, uint32_t slot, const char *path, struct dot *ret_dot)
{
    struct tree_put file = {.path = bytes_of_string(path),
                            .kind = TREE_FILE,
                            .mode = 0644,
                            .mtime_ns = (int64_t)sim_world_now_us(tree->world) * 1000,
                            .size_bytes = 1};
    random_fill(&tree->workload.random, file.file_id.bytes, sizeof file.file_id.bytes);
    if (sim_artel_change(tree->world, slot, put, &file, ret_dot) != 0) {
        return false;
    }
    sim_oracle_made(tree->oracle, slot, ret_dot);
    return true;
}

void tree_fill(struct tree_run *tree, uint32_t files_count)
{
    for (uint32_t i = 0; i < files_count; i++) {
        char path[32];
        snprintf(path, sizeof path, "fill/%u/%u", i % 16, i);
        struct dot dot;
        const bool is_put = tree_publish(tree, run_pick(tree->run), path, &dot);
        CHECK(is_put);
        if (i % FILL_BATCH == FILL_BATCH - 1) {
            sim_world_run(tree->world, SIM_US_PER_S);
        }
    }
    sim_world_run(tree->world, 5 * SIM_US_PER_S);
}

void tree_expire_all(struct tree_run *tree, uint64_t age_ms)
{
    for (uint32_t slot = 0; slot < sim_world_slots_count(tree->world); slot++) {
        if (sim_world_state(tree->world, slot) == SIM_RUNNING) {
            sim_artel_expire(tree->world, slot, age_ms);
        }
    }
}
