/* SPDX-License-Identifier: Apache-2.0 */
#include "http/wait.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/list.h"
#include "base/mem.h"
#include "http/server_priv.h"

struct waits {
    pthread_mutex_t lock; /* taken before that of the server */
    struct wait *sleeping;
    bool is_stopping;
};

struct waits *waits_new(void)
{
    struct waits *waits = mem_alloc(sizeof *waits);
    pthread_mutex_init(&waits->lock, NULL);
    return waits;
}

void waits_free(struct waits *waits)
{
    if (!waits) {
        return;
    }
    pthread_mutex_destroy(&waits->lock);
    free(waits);
}

/* The lock is held. After this the wait may be gone. */
static void resume(struct waits *waits, struct wait *wait)
{
    DL_DELETE(waits->sleeping, wait);
    wait->is_suspended = false;
    server_resume(wait->server, wait->connection);
}

void waits_stop(struct waits *waits)
{
    pthread_mutex_lock(&waits->lock);
    waits->is_stopping = true;
    while (waits->sleeping) {
        resume(waits, waits->sleeping);
    }
    pthread_mutex_unlock(&waits->lock);
}

void waits_look(struct waits *waits, uint64_t now_ms,
                bool (*has_left)(const struct connection *connection))
{
    pthread_mutex_lock(&waits->lock);
    struct wait *wait;
    struct wait *next;
    DL_FOREACH_SAFE(waits->sleeping, wait, next)
    {
        if (!has_left(wait->peer)) {
            wait->left_since_ms = 0;
        } else if (wait->left_since_ms == 0) {
            wait->left_since_ms = now_ms;
        } else if (now_ms - wait->left_since_ms >= WAIT_LEFT_MS) {
            wait->has_left = true;
            resume(waits, wait);
        }
    }
    pthread_mutex_unlock(&waits->lock);
}

void wait_init(struct wait *wait, const struct request *request)
{
    *wait = (struct wait){
        .server = request->server,
        .connection = request->connection,
        .peer = request->peer,
    };
}

void wait_look(struct wait *wait)
{
    struct waits *waits = wait->server->waits;
    pthread_mutex_lock(&waits->lock);
    wait->has_news = false;
    pthread_mutex_unlock(&waits->lock);
}

enum wait_outcome wait_sleep(struct wait *wait, struct request *request)
{
    struct waits *waits = wait->server->waits;
    enum wait_outcome outcome = WAIT_AGAIN;
    pthread_mutex_lock(&waits->lock);
    if (waits->is_stopping || wait->has_left) {
        outcome = WAIT_OVER;
    } else if (!wait->has_news) {
        outcome = WAIT_SLEEPS;
        wait->is_suspended = true;
        DL_APPEND(waits->sleeping, wait);
        if (request) {
            request_suspend(request);
        } else {
            server_suspend(wait->server, wait->connection);
        }
    }
    pthread_mutex_unlock(&waits->lock);
    return outcome;
}

void wait_moved(struct wait *wait)
{
    struct waits *waits = wait->server->waits;
    pthread_mutex_lock(&waits->lock);
    wait->left_since_ms = 0;
    pthread_mutex_unlock(&waits->lock);
}

void wait_wake(struct wait *wait)
{
    struct waits *waits = wait->server->waits;
    pthread_mutex_lock(&waits->lock);
    wait->has_news = true;
    if (wait->is_suspended) {
        resume(waits, wait);
    }
    pthread_mutex_unlock(&waits->lock);
}
