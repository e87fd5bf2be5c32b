/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

/*
 * measure: what the programs of this folder share: an end at the first error, times, memory, each
 * printed as a part of a line of JSON.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/random.h"

static inline void must(const char *what, int err)
{
    if (err) {
        fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, err_text(err));
        exit(1);
    }
}

/* A positive number of an argument. */
static inline uint64_t number_of(const char *text)
{
    char *end = NULL;
    errno = 0;
    const uint64_t number = strtoull(text, &end, 10);
    must(text, errno || *end || number == 0 ? -EINVAL : 0);
    return number;
}

static inline double seconds_of(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Runs or stands; what it has counted stays. */
struct stopwatch {
    double begin;
    double begin_cpu;
    double seconds;
    double cpu_seconds;
};

static inline void stopwatch_go(struct stopwatch *stopwatch)
{
    stopwatch->begin = seconds_of(CLOCK_MONOTONIC);
    stopwatch->begin_cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
}

static inline void stopwatch_stop(struct stopwatch *stopwatch)
{
    stopwatch->seconds += seconds_of(CLOCK_MONOTONIC) - stopwatch->begin;
    stopwatch->cpu_seconds += seconds_of(CLOCK_PROCESS_CPUTIME_ID) - stopwatch->begin_cpu;
}

static inline struct stopwatch stopwatch_start(void)
{
    struct stopwatch stopwatch = {0};
    stopwatch_go(&stopwatch);
    return stopwatch;
}

/* "seconds":S,"cpu_seconds":S of one that stands. */
static inline void print_stopwatch(const struct stopwatch *stopwatch)
{
    printf("\"seconds\":%.6f,\"cpu_seconds\":%.6f", stopwatch->seconds, stopwatch->cpu_seconds);
}

/* The same of one that runs, until now. */
static inline void print_times(struct stopwatch stopwatch)
{
    stopwatch_stop(&stopwatch);
    print_stopwatch(&stopwatch);
}

/* The lines of smaps_rollup that tell what is resident, and whose. */
static inline void print_memory(const char *when)
{
    FILE *file = fopen("/proc/self/smaps_rollup", "re");
    if (!file) {
        return;
    }
    printf("{\"memory\":\"%s\"", when);
    char line[256];
    while (fgets(line, sizeof line, file)) {
        char name[64];
        uint64_t kib = 0;
        if (sscanf(line, "%63[A-Za-z_]: %" SCNu64 " kB", name, &kib) == 2) {
            printf(",\"%s\":%" PRIu64, name, kib * 1024);
        }
    }
    puts("}");
    fclose(file);
}

static inline void shuffle(size_t *order, size_t count, uint64_t seed)
{
    struct random random;
    random_init(&random, seed);
    for (size_t i = count; i > 1; i--) {
        const size_t other = (size_t)random_below(&random, i);
        const size_t swapped = order[i - 1];
        order[i - 1] = order[other];
        order[other] = swapped;
    }
}

#endif
