/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/sim_result.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "client/text.h"

/* A seed that fails is worth a look; more lines than these are not. */
#define FAILED_SHOWN_MAX 50u

/* One figure of one protocol over all seeds. */
struct series {
    char name[SIM_NAME_CHARS];
    char unit[16];
    uint64_t count;
    double sum;
    double least;
    double most;
};

struct failure {
    uint64_t seed;
    char name[SIM_NAME_CHARS]; /* of the first check that failed */
    char text[SIM_TEXT_CHARS];
};

struct tally {
    struct series series[SIM_FIGURES_MAX];
    size_t series_count;
    struct failure failures[FAILED_SHOWN_MAX];
    uint64_t failures_count;
    uint64_t runs;
    uint64_t events_count;
    uint64_t virtual_us;
    uint64_t took_ms;
};

struct sim_summary {
    const struct sim_plan *plan;
    struct tally tallies[SIM_PROTOCOLS_MAX];
};

static double seconds(uint64_t us)
{
    return (double)us / 1e6;
}

static void print_json(const struct sim_plan *plan, const struct sim_result *result)
{
    const struct sim_report *report = &result->report;
    json_t *figures = json_object();
    json_t *checks = json_array();
    for (size_t i = 0; i < report->figures_count; i++) {
        const struct sim_figure *figure = &report->figures[i];
        json_object_set_new(figures, figure->name,
                            json_pack("{s:f, s:s}", "value", figure->value, "unit", figure->unit));
    }
    for (size_t i = 0; i < report->checks_count; i++) {
        const struct sim_check *check = &report->checks[i];
        json_array_append_new(checks, json_pack("{s:s, s:b, s:s}", "name", check->name, "holds",
                                                check->holds ? 1 : 0, "text", check->text));
    }
    char trace[17];
    snprintf(trace, sizeof trace, "%016llx", (unsigned long long)report->trace);
    json_t *object =
        json_pack("{s:s, s:s, s:I, s:I, s:b, s:o, s:o, s:s, s:I, s:f, s:f}", "scenario",
                  plan->scenario->name, "protocol", plan->protocols[result->protocol]->name,
                  "nodes", (json_int_t)plan->options.nodes_count, "seed", (json_int_t)result->seed,
                  "holds", sim_report_holds(report) ? 1 : 0, "figures", figures, "checks", checks,
                  "trace", trace, "events", (json_int_t)report->events_count, "simulated_s",
                  seconds(report->virtual_us), "took_s", (double)result->took_ms / 1000);
    CLEANUP_BUF struct buf line = BUF_INIT;
    text_add_json(&line, object);
    fputs(buf_string(&line), stdout);
    json_decref(object);
}

static void print_speed(uint64_t events_count, uint64_t virtual_us, uint64_t took_ms)
{
    printf("  %.0f s simulated in %.1f s of a processor, %llu events, %.2f million a second\n",
           seconds(virtual_us), (double)took_ms / 1000, (unsigned long long)events_count,
           (double)events_count / (double)(took_ms ? took_ms : 1) / 1000);
}

static void print_text(const struct sim_plan *plan, const struct sim_result *result)
{
    const struct sim_report *report = &result->report;
    printf("%s, %s, %u nodes, seed %llu\n", plan->scenario->name,
           plan->protocols[result->protocol]->name, plan->options.nodes_count,
           (unsigned long long)result->seed);
    print_speed(report->events_count, report->virtual_us, result->took_ms);
    for (size_t i = 0; i < report->figures_count; i++) {
        const struct sim_figure *figure = &report->figures[i];
        printf("  %-32s %12.6g %s\n", figure->name, figure->value, figure->unit);
    }
    for (size_t i = 0; i < report->checks_count; i++) {
        const struct sim_check *check = &report->checks[i];
        printf("  %-6s %-32s %s\n", check->holds ? "ok" : "FAILED", check->name, check->text);
    }
    printf("  trace %016llx: %s\n", (unsigned long long)report->trace,
           sim_report_holds(report) ? "holds" : "DOES NOT HOLD");
}

void sim_result_print(const struct sim_plan *plan, const struct sim_result *result, bool is_json)
{
    if (is_json) {
        print_json(plan, result);
    } else {
        print_text(plan, result);
    }
    fflush(stdout);
}

struct sim_summary *sim_summary_new(const struct sim_plan *plan)
{
    struct sim_summary *summary = mem_alloc(sizeof *summary);
    summary->plan = plan;
    return summary;
}

void sim_summary_free(struct sim_summary *summary)
{
    free(summary);
}

static struct series *find_series(struct tally *tally, const struct sim_figure *figure)
{
    for (size_t i = 0; i < tally->series_count; i++) {
        if (strcmp(tally->series[i].name, figure->name) == 0) {
            return &tally->series[i];
        }
    }
    if (tally->series_count == SIM_FIGURES_MAX) {
        return NULL;
    }
    struct series *series = &tally->series[tally->series_count++];
    memcpy(series->name, figure->name, sizeof series->name);
    memcpy(series->unit, figure->unit, sizeof series->unit);
    series->least = figure->value;
    series->most = figure->value;
    return series;
}

static void add_failure(struct tally *tally, const struct sim_result *result)
{
    if (tally->failures_count++ >= FAILED_SHOWN_MAX) {
        return;
    }
    struct failure *failure = &tally->failures[tally->failures_count - 1];
    failure->seed = result->seed;
    for (size_t i = 0; i < result->report.checks_count; i++) {
        const struct sim_check *check = &result->report.checks[i];
        if (!check->holds) {
            memcpy(failure->name, check->name, sizeof failure->name);
            memcpy(failure->text, check->text, sizeof failure->text);
            return;
        }
    }
}

void sim_summary_add(struct sim_summary *summary, const struct sim_result *result)
{
    struct tally *tally = &summary->tallies[result->protocol];
    const struct sim_report *report = &result->report;
    tally->runs++;
    tally->events_count += report->events_count;
    tally->virtual_us += report->virtual_us;
    tally->took_ms += result->took_ms;
    for (size_t i = 0; i < report->figures_count; i++) {
        const struct sim_figure *figure = &report->figures[i];
        struct series *series = find_series(tally, figure);
        if (series) {
            series->count++;
            series->sum += figure->value;
            series->least = fmin(series->least, figure->value);
            series->most = fmax(series->most, figure->value);
        }
    }
    if (!sim_report_holds(report)) {
        add_failure(tally, result);
    }
}

static void print_tally(const struct sim_plan *plan, const struct tally *tally, const char *name)
{
    printf("%s, %s, %u nodes, %llu seeds from %llu\n", plan->scenario->name, name,
           plan->options.nodes_count, (unsigned long long)tally->runs,
           (unsigned long long)plan->seed);
    print_speed(tally->events_count, tally->virtual_us, tally->took_ms);
    printf("  %-32s %12s %12s %12s\n", "", "least", "mean", "most");
    for (size_t i = 0; i < tally->series_count; i++) {
        const struct series *series = &tally->series[i];
        printf("  %-32s %12.6g %12.6g %12.6g %s\n", series->name, series->least,
               series->sum / (double)series->count, series->most, series->unit);
    }
    for (size_t i = 0; i < tally->failures_count && i < FAILED_SHOWN_MAX; i++) {
        const struct failure *failure = &tally->failures[i];
        printf("  FAILED seed %llu: %s: %s\n", (unsigned long long)failure->seed, failure->name,
               failure->text);
    }
    printf("  %llu of %llu seeds failed: %s\n", (unsigned long long)tally->failures_count,
           (unsigned long long)tally->runs, tally->failures_count ? "DOES NOT HOLD" : "holds");
}

void sim_summary_print(const struct sim_summary *summary)
{
    for (size_t i = 0; i < summary->plan->protocols_count; i++) {
        print_tally(summary->plan, &summary->tallies[i], summary->plan->protocols[i]->name);
    }
}

bool sim_summary_holds(const struct sim_summary *summary)
{
    return summary->tallies[0].failures_count == 0 && summary->tallies[0].runs > 0;
}
