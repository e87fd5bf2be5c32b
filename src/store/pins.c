/* SPDX-License-Identifier: Apache-2.0 */
#include "store/pins_priv.h"

#include <pthread.h>

#include "base/codec.h"
#include "base/err.h"
#include "base/map.h"

/* Enough that a few dozen threads seldom meet; ids spread evenly. */
#define SHARDS 64

struct pin {
    struct id id;
    uint64_t count;
    uint64_t until_ms; /* of promises; 0: none */
    bool removal;
    bool candidate;
    UT_hash_handle hh;
};

struct shard {
    pthread_mutex_t lock;
    struct pin *pins;
};

struct pins {
    struct shard shards[SHARDS];
};

struct pins *pins_new(void)
{
    struct pins *pins = mem_alloc(sizeof *pins);
    for (int i = 0; i < SHARDS; i++) {
        pthread_mutex_init(&pins->shards[i].lock, NULL);
    }
    return pins;
}

void pins_free(struct pins *pins)
{
    if (!pins) {
        return;
    }
    for (int i = 0; i < SHARDS; i++) {
        struct pin *pin;
        struct pin *next;
        HASH_ITER(hh, pins->shards[i].pins, pin, next)
        {
            HASH_DEL(pins->shards[i].pins, pin);
            free(pin);
        }
        pthread_mutex_destroy(&pins->shards[i].lock);
    }
    free(pins);
}

static struct shard *lock_shard(struct pins *pins, const struct id *id)
{
    struct shard *shard = &pins->shards[id->bytes[0] % SHARDS];
    pthread_mutex_lock(&shard->lock);
    return shard;
}

static struct pin *find(struct shard *shard, const struct id *id)
{
    struct pin *pin = NULL;
    HASH_FIND(hh, shard->pins, id, sizeof *id, pin);
    return pin;
}

static struct pin *find_or_add(struct shard *shard, const struct id *id)
{
    struct pin *pin = find(shard, id);
    if (!pin) {
        pin = mem_alloc(sizeof *pin);
        pin->id = *id;
        HASH_ADD(hh, shard->pins, id, sizeof pin->id, pin);
    }
    return pin;
}

static void unlock_shard(struct shard *shard, struct pin *pin)
{
    if (pin && pin->count == 0 && pin->until_ms == 0 && !pin->removal && !pin->candidate) {
        HASH_DEL(shard->pins, pin);
        free(pin);
    }
    pthread_mutex_unlock(&shard->lock);
}

/* Nobody is busy with it. */
static bool is_free(struct pin *pin, uint64_t now_ms)
{
    if (pin->until_ms <= now_ms) {
        pin->until_ms = 0;
    }
    return pin->count == 0 && pin->until_ms == 0;
}

/* Looks at two of them in turn, so that promises that are over do not pile up: nobody else may
 * ever come to them. */
static void sweep(struct shard *shard, uint64_t now_ms)
{
    for (int i = 0; i < 2 && shard->pins; i++) {
        struct pin *pin = shard->pins;
        HASH_DEL(shard->pins, pin);
        if (is_free(pin, now_ms) && !pin->removal && !pin->candidate) {
            free(pin);
        } else {
            HASH_ADD(hh, shard->pins, id, sizeof pin->id, pin);
        }
    }
}

bool pins_add(struct pins *pins, const struct id *id)
{
    struct shard *shard = lock_shard(pins, id);
    struct pin *pin = find_or_add(shard, id);
    pin->count++;
    pin->candidate = false;
    const bool stays = !pin->removal;
    unlock_shard(shard, pin);
    return stays;
}

void pins_drop(struct pins *pins, const struct id *id)
{
    struct shard *shard = lock_shard(pins, id);
    struct pin *pin = find(shard, id);
    CHECK(pin && pin->count > 0);
    pin->count--;
    unlock_shard(shard, pin);
}

int pins_add_until(struct pins *pins, const struct id *id, uint64_t now_ms, uint64_t until_ms)
{
    struct shard *shard = lock_shard(pins, id);
    sweep(shard, now_ms);
    struct pin *pin = find_or_add(shard, id);
    int err = 0;
    if (pin->removal || pin->candidate) {
        err = -EBUSY;
    } else if (pin->until_ms < until_ms && until_ms > now_ms) {
        pin->until_ms = until_ms;
    }
    unlock_shard(shard, pin);
    return err;
}

bool pins_is_busy(struct pins *pins, const struct id *id, uint64_t now_ms)
{
    struct shard *shard = lock_shard(pins, id);
    struct pin *pin = find(shard, id);
    const bool busy = pin && !is_free(pin, now_ms);
    unlock_shard(shard, pin);
    return busy;
}

bool pins_begin_removal(struct pins *pins, const struct id *id, uint64_t now_ms)
{
    struct shard *shard = lock_shard(pins, id);
    struct pin *pin = find_or_add(shard, id);
    /* What was marked before stays marked, whoever has pinned it since: a transaction that is
     * begun anew comes here twice. */
    const bool marked = pin->removal || is_free(pin, now_ms);
    pin->removal = marked;
    unlock_shard(shard, pin);
    return marked;
}

void pins_end_removal(struct pins *pins, const struct id *id)
{
    struct shard *shard = lock_shard(pins, id);
    struct pin *pin = find(shard, id);
    if (pin) {
        pin->removal = false;
    }
    unlock_shard(shard, pin);
}

bool pins_mark_candidate(struct pins *pins, const struct id *id, uint64_t now_ms)
{
    struct shard *shard = lock_shard(pins, id);
    struct pin *pin = find_or_add(shard, id);
    const bool marked = is_free(pin, now_ms) && !pin->removal;
    pin->candidate = pin->candidate || marked;
    unlock_shard(shard, pin);
    return marked;
}

bool pins_is_candidate(struct pins *pins, const struct id *id)
{
    struct shard *shard = lock_shard(pins, id);
    struct pin *pin = find(shard, id);
    const bool candidate = pin && pin->candidate;
    unlock_shard(shard, NULL);
    return candidate;
}

void pins_unmark_candidate(struct pins *pins, const struct id *id)
{
    struct shard *shard = lock_shard(pins, id);
    struct pin *pin = find(shard, id);
    if (pin) {
        pin->candidate = false;
    }
    unlock_shard(shard, pin);
}
