/* SPDX-License-Identifier: Apache-2.0 */
#include "follow/hooks_priv.h"

#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/backoff.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/random.h"
#include "client/entry.h"
#include "client/hook.h"

#define RETRY_FIRST_MS 500u
#define RETRY_LIMIT_MS 60000u
/* So long is waited for a command when the follower ends. */
#define END_WAIT_MS 1000u

struct hooks {
    struct hooks_options options;
    pthread_t thread;
    pthread_mutex_t lock; /* over what follows */
    pthread_cond_t changed;
    bool has_news;
    bool is_stopped;
    bool has_ended;
};

/* For clock_wait_until(). */
static uint64_t moment_after(uint64_t ms)
{
    return (clock_monotonic_ms(clock_real()) + ms) * 1000;
}

/* Runs the command once; *ret_why, which the caller frees, tells why not. */
static bool run_once(const struct hooks *hooks, const json_t *arrival, char **ret_why)
{
    const struct hooks_options *options = &hooks->options;
    const char *path = entry_text(arrival, "path");
    CLEANUP_FREE char *file = mem_format("%s/%s", options->dir, path);
    const struct hook_variable variables[] = {
        {"ARTEL_EVENT", entry_text(arrival, "event")},
        {"ARTEL_PATH", path},
        {"ARTEL_FROM", entry_text(arrival, "from")},
        {"ARTEL_ID", entry_text(arrival, "id")},
        {"ARTEL_FILE", file},
        {"ARTEL_DIR", options->dir},
        {"ARTEL_NODE", options->address},
    };
    int status = 0;
    const int err =
        hook_run(options->command, variables, ARRAY_SIZE(variables), options->output_fd, &status);
    if (err || status) {
        *ret_why =
            err ? mem_copy_string(err_text(err)) : mem_format("ended with status %d", status);
    }
    return !err && status == 0;
}

/* Waits until something is new, or so long. True: the end. */
static bool wait_for_news(struct hooks *hooks, uint64_t limit_ms)
{
    const uint64_t until_us = limit_ms ? moment_after(limit_ms) : UINT64_MAX;
    pthread_mutex_lock(&hooks->lock);
    while (!hooks->is_stopped && !hooks->has_news &&
           clock_wait_until(&hooks->changed, &hooks->lock, until_us) == 0) {
    }
    hooks->has_news = false;
    const bool is_stopped = hooks->is_stopped;
    pthread_mutex_unlock(&hooks->lock);
    return is_stopped;
}

/* The same for the whole time, whatever is new. */
static bool wait_before_attempt(struct hooks *hooks, struct backoff *backoff)
{
    uint64_t number = 0;
    random_system(&number, sizeof number);
    const uint64_t until_us = moment_after(backoff_next_ms(backoff, number));
    pthread_mutex_lock(&hooks->lock);
    while (!hooks->is_stopped && clock_wait_until(&hooks->changed, &hooks->lock, until_us) == 0) {
    }
    const bool is_stopped = hooks->is_stopped;
    pthread_mutex_unlock(&hooks->lock);
    return is_stopped;
}

/* Until it succeeds: there is no arrival that may be left out. True: the end. */
static bool run_until_good(struct hooks *hooks, const json_t *arrival)
{
    struct backoff backoff = {.first_ms = RETRY_FIRST_MS, .limit_ms = RETRY_LIMIT_MS};
    for (;;) {
        CLEANUP_FREE char *why = NULL;
        const bool good = run_once(hooks, arrival, &why);
        if (good) {
            return false;
        }
        hooks->options.ended(hooks->options.context, entry_text(arrival, "path"), why);
        if (wait_before_attempt(hooks, &backoff)) {
            return true;
        }
    }
}

static void *run(void *argument)
{
    struct hooks *hooks = argument;
    const struct hooks_options *options = &hooks->options;
    bool is_over = false;
    while (!is_over) {
        uint64_t number = 0;
        CLEANUP_FREE char *text = NULL;
        int err = places_hook_first(options->places, &number, &text);
        if (err == -ENOENT) {
            is_over = wait_for_news(hooks, 0);
            continue;
        }
        json_t *arrival = err ? NULL : json_loads(text, 0, NULL);
        is_over = arrival && run_until_good(hooks, arrival);
        if (!err && !is_over) {
            err = places_hook_done(options->places, number);
        }
        if (!is_over) {
            options->ended(options->context, entry_text(arrival, "path"),
                           err ? err_text(err) : NULL);
        }
        json_decref(arrival);
        if (err) {
            is_over = wait_for_news(hooks, RETRY_LIMIT_MS);
        }
        pthread_mutex_lock(&hooks->lock);
        is_over |= hooks->is_stopped;
        pthread_mutex_unlock(&hooks->lock);
    }
    pthread_mutex_lock(&hooks->lock);
    hooks->has_ended = true;
    pthread_cond_broadcast(&hooks->changed);
    pthread_mutex_unlock(&hooks->lock);
    return NULL;
}

struct hooks *hooks_new(const struct hooks_options *options)
{
    struct hooks *hooks = mem_alloc(sizeof *hooks);
    hooks->options = *options;
    pthread_mutex_init(&hooks->lock, NULL);
    clock_init_condition(&hooks->changed);
    if (pthread_create(&hooks->thread, NULL, run, hooks) != 0) {
        mem_out_of_memory();
    }
    return hooks;
}

void hooks_wake(struct hooks *hooks)
{
    if (hooks) {
        pthread_mutex_lock(&hooks->lock);
        hooks->has_news = true;
        pthread_cond_broadcast(&hooks->changed);
        pthread_mutex_unlock(&hooks->lock);
    }
}

bool hooks_free(struct hooks *hooks)
{
    if (!hooks) {
        return true;
    }
    const uint64_t until_us = moment_after(END_WAIT_MS);
    pthread_mutex_lock(&hooks->lock);
    hooks->is_stopped = true;
    pthread_cond_broadcast(&hooks->changed);
    while (!hooks->has_ended && clock_wait_until(&hooks->changed, &hooks->lock, until_us) == 0) {
    }
    const bool has_ended = hooks->has_ended;
    pthread_mutex_unlock(&hooks->lock);
    if (!has_ended) {
        pthread_detach(hooks->thread);
        return false;
    }
    pthread_join(hooks->thread, NULL);
    pthread_cond_destroy(&hooks->changed);
    pthread_mutex_destroy(&hooks->lock);
    free(hooks);
    return true;
}
