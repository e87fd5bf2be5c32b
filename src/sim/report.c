/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "sim/run_priv.h"

void run_figure(struct sim_run *run, const char *name, const char *unit, double value)
{
    struct sim_report *report = run->report;
    CHECK(report->figures_count < SIM_FIGURES_MAX);
    struct sim_figure *figure = &report->figures[report->figures_count++];
    snprintf(figure->name, sizeof figure->name, "%s", name);
    snprintf(figure->unit, sizeof figure->unit, "%s", unit);
    figure->value = value;
}

void run_figure_time(struct sim_run *run, const char *name, uint64_t us)
{
    if (us != NEVER) {
        run_figure(run, name, "s", (double)us / (double)SIM_US_PER_S);
    }
}

void run_check(struct sim_run *run, const char *name, bool holds, const char *format, ...)
{
    struct sim_report *report = run->report;
    CHECK(report->checks_count < SIM_CHECKS_MAX);
    struct sim_check *check = &report->checks[report->checks_count++];
    snprintf(check->name, sizeof check->name, "%s", name);
    check->holds = holds;
    va_list values;
    va_start(values, format);
    vsnprintf(check->text, sizeof check->text, format, values);
    va_end(values);
}

void run_check_time(struct sim_run *run, const char *name, uint64_t us, uint64_t limit_us)
{
    const double limit_s = (double)limit_us / (double)SIM_US_PER_S;
    run_figure_time(run, name, us);
    if (us == NEVER) {
        run_check(run, name, false, "never; at most %.1f s", limit_s);
    } else {
        run_check(run, name, us <= limit_us, "%.2f s; at most %.1f s",
                  (double)us / (double)SIM_US_PER_S, limit_s);
    }
}

void run_check_watch(struct sim_run *run, bool also_unreachable)
{
    const struct watch *watch = run->watch;
    if (also_unreachable) {
        char last[64] = "";
        if (watch->accused_count > 0) {
            snprintf(last, sizeof last, " (last: %u by %u at %.3f s)", watch->last_accused,
                     watch->last_accuser, (double)watch->last_us / (double)SIM_US_PER_S);
        }
        run_check(run, "no-healthy-unreachable", watch->accused_count == 0,
                  "%llu times a healthy node was called unreachable%s",
                  (unsigned long long)watch->accused_count, last);
    }
    run_check(run, "no-healthy-leaves-ring", watch->ring_left_count == 0,
              "%llu times a healthy node left a node's ring",
              (unsigned long long)watch->ring_left_count);
}

bool sim_report_holds(const struct sim_report *report)
{
    for (size_t i = 0; i < report->checks_count; i++) {
        if (!report->checks[i].holds) {
            return false;
        }
    }
    return report->checks_count > 0;
}

void samples_add(struct samples *samples, uint64_t value)
{
    if (samples->count == samples->capacity) {
        samples->capacity = samples->capacity ? 2 * samples->capacity : 64;
        samples->values =
            mem_resize_array(samples->values, samples->capacity, sizeof *samples->values);
    }
    samples->values[samples->count++] = value;
}

static int compare(const void *a, const void *b)
{
    const uint64_t left = *(const uint64_t *)a;
    const uint64_t right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

uint64_t samples_percentile(struct samples *samples, unsigned percent)
{
    if (samples->count == 0) {
        return NEVER;
    }
    qsort(samples->values, samples->count, sizeof *samples->values, compare);
    const size_t rank = (samples->count * percent + 99) / 100;
    return samples->values[rank ? rank - 1 : 0];
}

void samples_done(struct samples *samples)
{
    free(samples->values);
    *samples = (struct samples){0};
}
