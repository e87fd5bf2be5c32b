/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "sim/swim_priv.h"

static uint64_t hash_of(uint32_t subject, uint32_t incarnation)
{
    uint64_t mixed = ((uint64_t)subject << 32 | incarnation) * 0x9e3779b97f4a7c15;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
    return mixed ^ (mixed >> 27);
}

static bool is_alive(enum swim_state state)
{
    return state == SWIM_ALIVE || state == SWIM_SUSPECT;
}

static void add_dead(struct swim *swim, uint64_t now_ms, uint32_t subject)
{
    if (swim->dead_count == swim->dead_capacity) {
        swim->dead_capacity = swim->dead_capacity ? 2 * swim->dead_capacity : 16;
        swim->dead = mem_resize_array(swim->dead, swim->dead_capacity, sizeof *swim->dead);
    }
    swim->dead[swim->dead_count].subject = subject;
    swim->dead[swim->dead_count++].since_ms = now_ms;
}

/* What is believed from now on; the sums over the view follow. */
static void set(struct swim *swim, uint64_t now_ms, uint32_t subject, enum swim_state state,
                uint32_t incarnation)
{
    const enum swim_state old = swim->states[subject];
    if (is_alive(old)) {
        swim->digest -= hash_of(subject, swim->incarnations[subject]);
        swim->alive_count--;
    }
    if (is_alive(state)) {
        swim->digest += hash_of(subject, incarnation);
        swim->alive_count++;
    }
    swim->states[subject] = (uint8_t)state;
    swim->incarnations[subject] = incarnation;
    if (is_alive(state) != is_alive(old)) {
        if (is_alive(state)) {
            sim_tell(swim->world, swim->slot, SIM_SEES_ALIVE, subject, 0);
        } else if (state != SWIM_UNKNOWN) {
            add_dead(swim, now_ms, subject);
            sim_tell(swim->world, swim->slot,
                     state == SWIM_LEFT ? SIM_SEES_LEFT : SIM_SEES_UNREACHABLE, subject, 0);
        }
    } else if (state == SWIM_UNKNOWN) {
        sim_tell(swim->world, swim->slot, SIM_SEES_FORGOTTEN, subject, 0);
    }
}

void swim_aware(struct swim *swim, int change)
{
    const int score = (int)swim->awareness + change;
    const int limit = (int)SWIM_AWARENESS_MAX - 1;
    swim->awareness = (uint32_t)(score < 0 ? 0 : (score > limit ? limit : score));
}

static void add_member(struct swim *swim, uint32_t subject)
{
    if (swim->members_count == swim->members_capacity) {
        swim->members_capacity = swim->members_capacity ? 2 * swim->members_capacity : 16;
        swim->members =
            mem_resize_array(swim->members, swim->members_capacity, sizeof *swim->members);
    }
    /* At a random place, so that not everybody probes it at the same time. */
    const size_t at = (size_t)random_below(&swim->random, swim->members_count + 1);
    if (at < swim->members_count) {
        swim->members[swim->members_count] = swim->members[at];
    }
    swim->members[at] = subject;
    swim->members_count++;
}

static void refute(struct swim *swim, uint64_t now_ms, uint32_t incarnation)
{
    const uint32_t own = swim->incarnations[swim->self];
    const uint32_t higher = (incarnation > own ? incarnation : own) + 1;
    set(swim, now_ms, swim->self, SWIM_ALIVE, higher);
    swim_aware(swim, 1);
    const struct swim_update alive = {.subject = swim->self,
                                      .incarnation = higher,
                                      .from = swim->self,
                                      .slot = (uint16_t)swim->slot,
                                      .state = SWIM_ALIVE};
    swim_queue_add(&swim->queue, &alive);
}

void swim_begin(struct swim *swim)
{
    add_member(swim, swim->self);
    swim->slots[swim->self] = (uint16_t)swim->slot;
    refute(swim, 0, 0);
    swim->awareness = 0;
}

static struct swim_suspicion *find_suspicion(const struct swim *swim, uint32_t subject)
{
    struct swim_suspicion *suspicion;
    HASH_FIND(hh, swim->suspicions, &subject, sizeof subject, suspicion);
    return suspicion;
}

static void end_suspicion(struct swim *swim, uint32_t subject)
{
    struct swim_suspicion *suspicion = find_suspicion(swim, subject);
    if (suspicion) {
        HASH_DEL(swim->suspicions, suspicion);
        free(suspicion);
    }
}

static void hear_alive(struct swim *swim, uint64_t now_ms, const struct swim_update *update)
{
    const uint32_t subject = update->subject;
    const enum swim_state state = swim->states[subject];
    const uint32_t known = swim->incarnations[subject];
    if (subject == swim->self) {
        const bool is_same = update->incarnation == known && update->slot == swim->slot;
        if (update->incarnation >= known && !is_same && swim->leave_ms == UINT64_MAX) {
            refute(swim, now_ms, update->incarnation);
        }
        return;
    }
    if (state != SWIM_UNKNOWN) {
        /* Another address of one that is alive is a conflict, which changes nothing. */
        const bool is_conflict = is_alive(state) && update->slot != swim->slots[subject];
        if (update->incarnation <= known || is_conflict) {
            return;
        }
    } else {
        add_member(swim, subject);
    }
    end_suspicion(swim, subject);
    swim->slots[subject] = update->slot;
    swim_queue_add(&swim->queue, update);
    set(swim, now_ms, subject, SWIM_ALIVE, update->incarnation);
}

static void hear_dead(struct swim *swim, uint64_t now_ms, const struct swim_update *update)
{
    const uint32_t subject = update->subject;
    const enum swim_state state = swim->states[subject];
    if (state == SWIM_UNKNOWN || update->incarnation < swim->incarnations[subject]) {
        return;
    }
    if (!is_alive(state)) {
        return;
    }
    if (subject == swim->self && swim->leave_ms == UINT64_MAX) {
        refute(swim, now_ms, update->incarnation);
        return;
    }
    end_suspicion(swim, subject);
    swim_queue_add(&swim->queue, update);
    set(swim, now_ms, subject, update->from == subject ? SWIM_LEFT : SWIM_DEAD,
        update->incarnation);
}

static void plan(struct swim *swim, uint64_t at_ms, uint32_t subject)
{
    if (swim->deadlines_count == swim->deadlines_capacity) {
        swim->deadlines_capacity = swim->deadlines_capacity ? 2 * swim->deadlines_capacity : 16;
        swim->deadlines =
            mem_resize_array(swim->deadlines, swim->deadlines_capacity, sizeof *swim->deadlines);
    }
    size_t at = swim->deadlines_count++;
    while (at > 0 && swim->deadlines[(at - 1) / 2].at_ms > at_ms) {
        swim->deadlines[at] = swim->deadlines[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    swim->deadlines[at] = (struct swim_deadline){.at_ms = at_ms, .subject = subject};
}

static struct swim_deadline take_deadline(struct swim *swim)
{
    struct swim_deadline *heap = swim->deadlines;
    const struct swim_deadline first = heap[0];
    const size_t count = --swim->deadlines_count;
    const struct swim_deadline moved = heap[count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child + 1 < count && heap[child + 1].at_ms < heap[child].at_ms) {
            child++;
        }
        if (child >= count || heap[child].at_ms >= moved.at_ms) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
    return first;
}

/* Lifeguard: the more say so, the sooner it counts. */
static uint64_t deadline_of(const struct swim_suspicion *suspicion)
{
    if (suspicion->confirmations_wanted == 0) {
        return suspicion->begun_ms + suspicion->min_ms;
    }
    const double share =
        log(suspicion->confirmations + 1.0) / log(suspicion->confirmations_wanted + 1.0);
    const double wait_ms =
        (double)suspicion->max_ms - share * (double)(suspicion->max_ms - suspicion->min_ms);
    const uint64_t rounded_ms = (uint64_t)wait_ms;
    return suspicion->begun_ms + (rounded_ms > suspicion->min_ms ? rounded_ms : suspicion->min_ms);
}

/* Whether `from` says it for the first time, and one more is of use. */
static bool confirm(struct swim *swim, struct swim_suspicion *suspicion, uint32_t from)
{
    if (suspicion->confirmations >= suspicion->confirmations_wanted) {
        return false;
    }
    for (size_t i = 0; i <= suspicion->confirmations; i++) {
        if (suspicion->from[i] == from) {
            return false;
        }
    }
    suspicion->from[++suspicion->confirmations] = from;
    suspicion->deadline_ms = deadline_of(suspicion);
    plan(swim, suspicion->deadline_ms, suspicion->subject);
    return true;
}

void swim_suspect(struct swim *swim, uint64_t now_ms, const struct swim_update *update)
{
    const uint32_t subject = update->subject;
    const enum swim_state state = swim->states[subject];
    if (state == SWIM_UNKNOWN || update->incarnation < swim->incarnations[subject]) {
        return;
    }
    struct swim_suspicion *suspicion = find_suspicion(swim, subject);
    if (suspicion) {
        if (confirm(swim, suspicion, update->from)) {
            swim_queue_add(&swim->queue, update);
        }
        return;
    }
    if (state != SWIM_ALIVE) {
        return;
    }
    if (subject == swim->self) {
        if (swim->leave_ms == UINT64_MAX) {
            refute(swim, now_ms, update->incarnation);
        }
        return;
    }
    swim_queue_add(&swim->queue, update);
    set(swim, now_ms, subject, SWIM_SUSPECT, update->incarnation);
    const size_t others = swim->alive_count > 2 ? swim->alive_count - 2 : 0;
    const double scale = fmax(1.0, log10(fmax(1.0, (double)swim->alive_count)));
    suspicion = mem_alloc(sizeof *suspicion);
    suspicion->subject = subject;
    suspicion->incarnation = update->incarnation;
    suspicion->from[0] = update->from;
    suspicion->confirmations_wanted = others < SWIM_CONFIRMATIONS_MAX ? 0 : SWIM_CONFIRMATIONS_MAX;
    suspicion->begun_ms = now_ms;
    suspicion->min_ms = (uint64_t)(scale * SWIM_SUSPICION_MULT * SWIM_PROBE_MS);
    suspicion->max_ms = suspicion->min_ms * SWIM_SUSPICION_MAX_MULT;
    suspicion->deadline_ms = deadline_of(suspicion);
    HASH_ADD(hh, swim->suspicions, subject, sizeof suspicion->subject, suspicion);
    plan(swim, suspicion->deadline_ms, subject);
}

static bool is_sane(const struct swim *swim, const struct swim_update *update)
{
    return update->subject < swim->nodes_max && update->from < swim->nodes_max;
}

void swim_hear(struct swim *swim, uint64_t now_ms, const struct swim_update *update)
{
    if (!is_sane(swim, update)) {
        return;
    }
    switch (update->state) {
    case SWIM_ALIVE:
        hear_alive(swim, now_ms, update);
        break;
    case SWIM_SUSPECT:
        swim_suspect(swim, now_ms, update);
        break;
    case SWIM_DEAD:
    case SWIM_LEFT:
        hear_dead(swim, now_ms, update);
        break;
    default:
        break;
    }
}

void swim_merge(struct swim *swim, uint64_t now_ms, const struct swim_update *update)
{
    struct swim_update heard = *update;
    if (update->state == SWIM_DEAD) {
        heard.state = SWIM_SUSPECT; /* with a chance to refute */
    }
    heard.from = update->state == SWIM_LEFT ? update->subject : swim->self;
    swim_hear(swim, now_ms, &heard);
}

uint64_t swim_expire_next_ms(const struct swim *swim)
{
    return swim->deadlines_count ? swim->deadlines[0].at_ms : UINT64_MAX;
}

void swim_expire(struct swim *swim, uint64_t now_ms)
{
    while (swim_expire_next_ms(swim) <= now_ms) {
        const struct swim_deadline deadline = take_deadline(swim);
        const struct swim_suspicion *suspicion = find_suspicion(swim, deadline.subject);
        if (suspicion && suspicion->deadline_ms == deadline.at_ms) {
            const struct swim_update dead = {.subject = deadline.subject,
                                             .incarnation = suspicion->incarnation,
                                             .from = swim->self,
                                             .state = SWIM_DEAD};
            hear_dead(swim, now_ms, &dead);
        }
    }
}

static void add_failed(struct swim *swim, uint32_t subject)
{
    if (swim->failed_count == swim->failed_capacity) {
        swim->failed_capacity = swim->failed_capacity ? 2 * swim->failed_capacity : 16;
        swim->failed = mem_resize_array(swim->failed, swim->failed_capacity, sizeof *swim->failed);
    }
    swim->failed[swim->failed_count++] = subject;
}

static void forget_dead(struct swim *swim, uint64_t now_ms)
{
    size_t kept = 0;
    for (size_t i = 0; i < swim->dead_count; i++) {
        const uint32_t subject = swim->dead[i].subject;
        const enum swim_state state = swim->states[subject];
        const bool is_dead = state == SWIM_DEAD || state == SWIM_LEFT;
        if (is_dead && now_ms - swim->dead[i].since_ms <= SWIM_DEAD_MS) {
            swim->dead[kept++] = swim->dead[i];
        } else if (is_dead) {
            set(swim, now_ms, subject, SWIM_UNKNOWN, 0);
            if (state == SWIM_DEAD) {
                add_failed(swim, subject);
            }
        }
    }
    swim->dead_count = kept;
    kept = 0;
    for (size_t i = 0; i < swim->members_count; i++) {
        if (swim->states[swim->members[i]] != SWIM_UNKNOWN) {
            swim->members[kept++] = swim->members[i];
        }
    }
    swim->members_count = kept;
}

void swim_reset_members(struct swim *swim, uint64_t now_ms)
{
    if (swim->dead_count > 0) {
        forget_dead(swim, now_ms);
    }
    for (size_t i = swim->members_count; i > 1; i--) {
        const size_t other = (size_t)random_below(&swim->random, i);
        const uint32_t member = swim->members[i - 1];
        swim->members[i - 1] = swim->members[other];
        swim->members[other] = member;
    }
}

void swim_state_done(struct swim *swim)
{
    struct swim_suspicion *suspicion;
    struct swim_suspicion *next;
    HASH_ITER(hh, swim->suspicions, suspicion, next)
    {
        HASH_DEL(swim->suspicions, suspicion);
        free(suspicion);
    }
    free(swim->deadlines);
    free(swim->dead);
    free(swim->failed);
}
