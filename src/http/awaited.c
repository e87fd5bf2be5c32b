/* SPDX-License-Identifier: Apache-2.0 */
#include "http/awaited.h"

void awaited_init(struct awaited *awaited, const struct request *request)
{
    *awaited = (struct awaited){.owners = 1};
    pthread_mutex_init(&awaited->lock, NULL);
    wait_init(&awaited->wait, request);
}

void awaited_ask(struct awaited *awaited, unsigned tellers)
{
    pthread_mutex_lock(&awaited->lock);
    awaited->tellers += tellers;
    awaited->owners += tellers;
    pthread_mutex_unlock(&awaited->lock);
}

void awaited_lock(struct awaited *awaited)
{
    pthread_mutex_lock(&awaited->lock);
}

void awaited_unlock(struct awaited *awaited)
{
    pthread_mutex_unlock(&awaited->lock);
}

/* With the lock, which this gives back. */
static bool let_go(struct awaited *awaited)
{
    const bool is_last = --awaited->owners == 0;
    pthread_mutex_unlock(&awaited->lock);
    if (is_last) {
        pthread_mutex_destroy(&awaited->lock);
    }
    return is_last;
}

bool awaited_told(struct awaited *awaited)
{
    awaited->tellers--;
    if (awaited->tellers == 0 && !awaited->is_gone) {
        wait_wake(&awaited->wait);
    }
    return let_go(awaited);
}

bool awaited_look(struct awaited *awaited)
{
    wait_look(&awaited->wait);
    pthread_mutex_lock(&awaited->lock);
    const bool is_told = awaited->tellers == 0;
    pthread_mutex_unlock(&awaited->lock);
    return is_told;
}

enum wait_outcome awaited_sleep(struct awaited *awaited, struct request *request)
{
    return wait_sleep(&awaited->wait, request);
}

void awaited_leave(struct awaited *awaited, bool *ret_is_told)
{
    pthread_mutex_lock(&awaited->lock);
    awaited->is_gone = true;
    *ret_is_told = awaited->tellers == 0;
    pthread_mutex_unlock(&awaited->lock);
}

bool awaited_end(struct awaited *awaited)
{
    pthread_mutex_lock(&awaited->lock);
    return let_go(awaited);
}
