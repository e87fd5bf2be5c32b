/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "cli/sim_result.h"

/* A process that runs every jobs_count-th seed and writes its results, as they are in memory, to a
 * pipe: it is a copy of this one, so they mean the same here. */
struct worker {
    pid_t pid;
    int fd; /* -1: it has ended */
};

/* What this process has used, so that a busy machine does not make the simulator look slow. */
static uint64_t processor_ms(void)
{
    struct timespec used;
    CHECK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) == 0);
    return (uint64_t)used.tv_sec * 1000 + (uint64_t)used.tv_nsec / 1000000;
}

static void run_one(const struct sim_plan *plan, uint64_t seed, uint32_t protocol,
                    struct sim_result *ret_result)
{
    struct sim_scenario_options options = plan->options;
    options.protocol = plan->protocols[protocol];
    options.seed = seed;
    const uint64_t begin_ms = processor_ms();
    ret_result->seed = seed;
    ret_result->protocol = protocol;
    sim_scenario_run(plan->scenario, &options, &ret_result->report);
    ret_result->took_ms = processor_ms() - begin_ms;
}

/* Of the worker's process; does not return. */
static void work(const struct sim_plan *plan, uint64_t first, int fd)
{
    struct sim_result *result = mem_alloc(sizeof *result);
    int err = 0;
    for (uint64_t i = first; i < plan->seeds_count && !err; i += plan->jobs_count) {
        for (uint32_t protocol = 0; protocol < plan->protocols_count && !err; protocol++) {
            run_one(plan, plan->seed + i, protocol, result);
            err = file_write_all(fd, BYTES((const uint8_t *)result, sizeof *result));
        }
    }
    free(result);
    _exit(err ? 1 : 0);
}

static int start_worker(const struct sim_plan *plan, uint64_t first, struct worker *ret_worker)
{
    int fds[2];
    if (pipe(fds)) {
        return err_from_errno(errno);
    }
    const pid_t pid = fork();
    if (pid == 0) {
        close(fds[0]);
        work(plan, first, fds[1]);
    }
    const int err = pid < 0 ? err_from_errno(errno) : 0;
    close(fds[1]);
    if (err) {
        close(fds[0]);
        return err;
    }
    *ret_worker = (struct worker){.pid = pid, .fd = fds[0]};
    return 0;
}

/* The next result of a worker, or its end. */
static int read_worker(struct worker *worker, struct sim_result *result, bool *ret_ended)
{
    size_t size_bytes = 0;
    int err = file_read_full(worker->fd, result, sizeof *result, &size_bytes);
    *ret_ended = !err && size_bytes == 0;
    if (!err && size_bytes > 0 && size_bytes < sizeof *result) {
        err = -EIO; /* it died while it wrote */
    }
    return err;
}

static int end_worker(struct worker *worker)
{
    int status = 0;
    close(worker->fd);
    worker->fd = -1;
    while (waitpid(worker->pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return err_from_errno(errno);
        }
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

static int take_results(struct worker *workers, size_t count,
                        void (*take)(void *context, const struct sim_result *result), void *context)
{
    struct sim_result *result = mem_alloc(sizeof *result);
    struct pollfd *polled = mem_alloc_array(count, sizeof *polled);
    size_t open = count;
    int err = 0;
    while (open > 0 && !err) {
        for (size_t i = 0; i < count; i++) {
            polled[i] = (struct pollfd){.fd = workers[i].fd, .events = POLLIN};
        }
        if (poll(polled, count, -1) < 0 && errno != EINTR) {
            err = err_from_errno(errno);
        }
        for (size_t i = 0; i < count && !err; i++) {
            if (workers[i].fd < 0 || polled[i].revents == 0) {
                continue;
            }
            bool ended = false;
            err = read_worker(&workers[i], result, &ended);
            if (!err && ended) {
                err = end_worker(&workers[i]);
                open--;
            } else if (!err) {
                take(context, result);
            }
        }
    }
    free(polled);
    free(result);
    return err;
}

static int run_here(const struct sim_plan *plan,
                    void (*take)(void *context, const struct sim_result *result), void *context)
{
    struct sim_result *result = mem_alloc(sizeof *result);
    for (uint64_t i = 0; i < plan->seeds_count; i++) {
        for (uint32_t protocol = 0; protocol < plan->protocols_count; protocol++) {
            run_one(plan, plan->seed + i, protocol, result);
            take(context, result);
        }
    }
    free(result);
    return 0;
}

int sim_crew_run(const struct sim_plan *plan,
                 void (*take)(void *context, const struct sim_result *result), void *context)
{
    if (plan->jobs_count <= 1) {
        return run_here(plan, take, context);
    }
    /* A worker's copy of what is not written yet would be written again. */
    fflush(NULL);
    struct worker *workers = mem_alloc_array(plan->jobs_count, sizeof *workers);
    size_t started = 0;
    int err = 0;
    while (started < plan->jobs_count && !err) {
        err = start_worker(plan, started, &workers[started]);
        started += err ? 0 : 1;
    }
    if (!err) {
        err = take_results(workers, started, take, context);
    }
    for (size_t i = 0; i < started; i++) {
        if (workers[i].fd >= 0) {
            (void)end_worker(&workers[i]); /* its pipe breaks, and it ends */
        }
    }
    free(workers);
    return err;
}
