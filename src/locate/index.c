/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What others told us. For each of them sums are kept over all that it told, so that it can ask
 * whether we know what it has without either side saying what that is. They are made anew at the
 * start, from the rows that are there; what is told meanwhile counts at once if it lies where that
 * walk has been, and will be counted by it otherwise.
 *
 * Rows go when their holder went (out of the ring and not alive), and when we are no owner of their
 * key any more, a while after the change: until then we are asked as a former owner.
 */

#include <stdlib.h>

#include "base/mem.h"
#include "locate/locate_priv.h"

/* After the ring changed. Those that ask former owners have stopped by then. */
#define PURGE_US ((LOCATE_FORMER_MS + 5000) * MS)
/* Rows of nodes that are on no list are kept so long after the start: the list may be late. */
#define STRANGER_US (LOCATE_FORMER_MS * MS)
#define RETRY_US SECOND

void index_begin(struct locate *locate)
{
    locate->is_loading = true;
    locate->purge_us = NEVER;
}

static int compare_rows(const struct locate_row *a, const struct locate_row *b)
{
    const int order = ring_key_compare(&a->key, &b->key);
    return order != 0 ? order : node_id_compare(&a->holder, &b->holder);
}

/* The place behind `row`; false: there is none. */
static bool step_over(struct locate_row *row)
{
    struct ring_key holder;
    memcpy(holder.bytes, row->holder.bytes, sizeof holder.bytes);
    const bool is_within = ring_key_increment(&holder);
    memcpy(row->holder.bytes, holder.bytes, sizeof holder.bytes);
    return is_within || ring_key_increment(&row->key);
}

static void count_row(struct locate *locate, struct peer *peer, const struct ring_key *key,
                      enum locate_state old, enum locate_state state)
{
    uint64_t *sum = &peer->told_sums[part_of(key)];
    if (old != LOCATE_NONE) {
        *sum -= held_sum(key, old);
        peer->rows_count--;
        locate->counters.rows_count--;
    }
    if (state != LOCATE_NONE) {
        *sum += held_sum(key, state);
        peer->rows_count++;
        locate->counters.rows_count++;
    }
}

static int set_row(struct locate *locate, struct peer *peer, const struct locate_held *held)
{
    const struct locate_row row = {.key = held->key, .holder = peer->id, .state = held->state};
    enum locate_state old = LOCATE_NONE;
    const int err = locate->host.row_set(locate->host.context, &row, &old);
    if (err) {
        return err;
    }
    if (!locate->is_loading || compare_rows(&row, &locate->load_next) < 0) {
        count_row(locate, peer, &held->key, old, held->state);
    }
    return 0;
}

static void take_row(struct locate *locate, struct peer *peer, const struct locate_held *held)
{
    const bool is_full = locate->counters.rows_count >= LOCATE_ROWS_MAX;
    if ((is_full && held->state != LOCATE_NONE) || set_row(locate, peer, held)) {
        locate->counters.rows_refused++;
    }
}

/* What is told of a range. */

struct told {
    struct locate_held held;
    size_t place;
};

static int compare_told(const void *a, const void *b)
{
    const struct told *one = a;
    const struct told *other = b;
    const int order = ring_key_compare(&one->held.key, &other->held.key);
    return order != 0 ? order : (one->place > other->place) - (one->place < other->place);
}

/* In ascending order, of each key the last word. */
static size_t sort_told(struct bytes list, struct told *told)
{
    size_t count = 0;
    while (locate_message_next_held(&list, &told[count].held)) {
        told[count].place = count;
        count++;
    }
    qsort(told, count, sizeof *told, compare_told);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (i + 1 == count || !ring_key_equal(&told[i].held.key, &told[i + 1].held.key)) {
            told[kept++] = told[i];
        }
    }
    return kept;
}

static int compare_key(const void *key, const void *told)
{
    return ring_key_compare(key, &((const struct told *)told)->held.key);
}

/* Takes away what `peer` told of the range before and is not in `told`. */
static void clear_range(struct locate *locate, struct peer *peer,
                        const struct locate_message *message, const struct told *told,
                        size_t told_count)
{
    struct locate_row from = {.key = message->first, .holder = peer->id};
    struct locate_row rows[STEP_ROWS];
    size_t count = STEP_ROWS;
    while (count == STEP_ROWS) {
        if (locate->host.rows(locate->host.context, &from, &peer->id, rows, STEP_ROWS, &count)) {
            locate->counters.host_errors++;
            return;
        }
        for (size_t i = 0; i < count; i++) {
            if (ring_key_compare(&rows[i].key, &message->last) > 0) {
                return;
            }
            if (told_count == 0 ||
                !bsearch(&rows[i].key, told, told_count, sizeof *told, compare_key)) {
                take_row(locate, peer, &(struct locate_held){.key = rows[i].key});
            }
        }
        if (count == STEP_ROWS) {
            from = rows[count - 1];
            if (!step_over(&from)) {
                return;
            }
        }
    }
}

static void take_range(struct locate *locate, struct peer *peer,
                       const struct locate_message *message)
{
    struct told *told = mem_alloc_array(LOCATE_HELD_MAX + 1, sizeof *told);
    const size_t count = sort_told(message->list, told);
    clear_range(locate, peer, message, told, count);
    for (size_t i = 0; i < count; i++) {
        take_row(locate, peer, &told[i].held);
    }
    free(told);
}

static void answer(struct locate *locate, struct peer *peer, const struct locate_message *message,
                   uint16_t parts)
{
    const struct locate_message taken = {
        .type = LOCATE_TAKEN,
        .life = message->life,
        .number = message->number,
        .parts = parts,
    };
    locate_send_message(locate, &peer->id, &taken);
}

/* True if `message` is no older than what was taken before. Messages of one life that overtake each
 * other, by two connections, are told apart by their numbers. */
static bool is_news(struct peer *peer, const struct locate_message *message)
{
    if (peer->teller_life == message->life && message->number <= peer->teller_number) {
        return false;
    }
    peer->teller_life = message->life;
    peer->teller_number = message->number;
    return true;
}

void index_tell(struct locate *locate, struct peer *peer, const struct locate_message *message)
{
    if (peer->drop == DROP_WANTED) {
        return; /* it is told again, when the rows of before are gone */
    }
    if (is_news(peer, message)) {
        if (message->type == LOCATE_ARC) {
            take_range(locate, peer, message);
        } else {
            struct bytes list = message->list;
            struct locate_held held;
            while (locate_message_next_held(&list, &held)) {
                take_row(locate, peer, &held);
            }
        }
    }
    answer(locate, peer, message, 0);
}

void index_compare(struct locate *locate, struct peer *peer, const struct locate_message *message)
{
    if (locate->is_loading || peer->drop == DROP_WANTED) {
        return; /* it asks again */
    }
    (void)is_news(peer, message);
    uint16_t parts = 0;
    for (unsigned i = 0; i < LOCATE_PARTS; i++) {
        if ((message->parts & 1u << i) && message->sums[i] != peer->told_sums[i]) {
            parts |= (uint16_t)(1u << i);
        }
    }
    answer(locate, peer, message, parts);
}

int index_visit(struct locate *locate, const struct ring_key *key,
                bool (*visit)(void *context, const struct locate_held_by *holder), void *context)
{
    struct locate_row rows[64];
    struct locate_row from = {.key = *key};
    size_t count = ARRAY_SIZE(rows);
    while (count == ARRAY_SIZE(rows)) {
        const int err =
            locate->host.rows(locate->host.context, &from, NULL, rows, ARRAY_SIZE(rows), &count);
        if (err) {
            locate->counters.host_errors++;
            return err;
        }
        for (size_t i = 0; i < count; i++) {
            const struct locate_held_by holder = {.node = rows[i].holder, .state = rows[i].state};
            if (!ring_key_equal(&rows[i].key, key) || !visit(context, &holder)) {
                return 0;
            }
        }
        if (count == ARRAY_SIZE(rows)) {
            from = rows[count - 1];
            if (!step_over(&from)) {
                return 0;
            }
        }
    }
    return 0;
}

/* Walks over the index. Each does a step and tells whether it has come to its end. */

static int next_rows(struct locate *locate, struct locate_row *next, const struct node_id *holder,
                     struct locate_row *rows, size_t *ret_count, bool *ret_is_over)
{
    const int err =
        locate->host.rows(locate->host.context, next, holder, rows, STEP_ROWS, ret_count);
    if (err) {
        locate->counters.host_errors++;
        locate->index_due_us = locate->now_us + RETRY_US;
        return err;
    }
    *ret_is_over = *ret_count < STEP_ROWS;
    if (!*ret_is_over) {
        *next = rows[*ret_count - 1];
        *ret_is_over = !step_over(next);
    }
    return 0;
}

static void load(struct locate *locate)
{
    struct locate_row rows[STEP_ROWS];
    size_t count = 0;
    bool is_over = false;
    if (next_rows(locate, &locate->load_next, NULL, rows, &count, &is_over)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct peer *peer = peer_enter(locate, &rows[i].holder);
        count_row(locate, peer, &rows[i].key, LOCATE_NONE, rows[i].state);
    }
    if (is_over) {
        locate->is_loading = false;
        locate->drops_wanted = true; /* of holders that are on no list */
    }
}

/* Of what became another's a moment ago we are still asked. */
static bool is_ours(const struct locate *locate, const struct ring_key *key)
{
    return ring_is_owner(locate->ring, key, &locate->id) ||
           (locate->former && ring_is_owner(locate->former, key, &locate->id));
}

static void purge(struct locate *locate)
{
    struct locate_row rows[STEP_ROWS];
    size_t count = 0;
    bool is_over = false;
    if (next_rows(locate, &locate->purge_next, NULL, rows, &count, &is_over)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (!is_ours(locate, &rows[i].key)) {
            take_row(locate, peer_enter(locate, &rows[i].holder),
                     &(struct locate_held){.key = rows[i].key});
            locate->counters.rows_dropped++;
        }
    }
    locate->is_purging = !is_over;
}

static struct peer *next_drop(struct locate *locate)
{
    for (struct peer *peer = locate->peers; peer && !locate->dropping; peer = peer->hh.next) {
        if (peer->drop == DROP_WANTED) {
            locate->dropping = peer;
            locate->drop_next = (struct locate_row){.holder = peer->id};
        }
    }
    return locate->dropping;
}

static void drop(struct locate *locate, struct peer *peer)
{
    struct locate_row rows[STEP_ROWS];
    size_t count = 0;
    bool is_over = false;
    if (next_rows(locate, &locate->drop_next, &peer->id, rows, &count, &is_over)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        take_row(locate, peer, &(struct locate_held){.key = rows[i].key});
        locate->counters.rows_dropped++;
    }
    if (!is_over) {
        return;
    }
    locate->dropping = NULL;
    peer->drop = DROP_DONE;
    if (!peer->is_listed) {
        peer_remove(locate, peer);
    } else if (peer->is_alive) {
        peer->drop = DROP_NONE;
        locate_send_message(locate, &peer->id,
                            &(struct locate_message){.type = LOCATE_COMPARE_ASK});
    }
}

/* Whose rows are worth nothing any more. */
static void find_drops(struct locate *locate)
{
    locate->drops_wanted = false;
    const bool is_early = locate->now_us < locate->begun_us + STRANGER_US;
    struct peer *peer = NULL;
    struct peer *next = NULL;
    HASH_ITER(hh, locate->peers, peer, next)
    {
        if (peer->is_alive || peer->in_ring || peer->drop == DROP_WANTED) {
            continue;
        }
        if (!peer->is_listed && is_early) {
            locate->drops_wanted = true;
        } else if (peer->rows_count > 0) {
            peer->drop = DROP_WANTED;
        } else if (!peer->is_listed) {
            peer_remove(locate, peer);
        } else {
            peer->drop = DROP_DONE;
        }
    }
}

/* One step; what is next by importance. False: there is nothing to do now. */
static bool index_step(struct locate *locate)
{
    if (locate->is_loading) {
        load(locate);
        return true;
    }
    if (locate->drops_wanted) {
        find_drops(locate);
    }
    struct peer *peer = next_drop(locate);
    if (peer) {
        drop(locate, peer);
        return true;
    }
    if (locate->now_us >= locate->purge_us) {
        locate->purge_us = NEVER;
        locate->is_purging = true;
        locate->purge_next = (struct locate_row){0};
    }
    if (locate->is_purging) {
        purge(locate);
        return true;
    }
    return false;
}

void index_due(struct locate *locate)
{
    if (locate->now_us < locate->index_due_us) {
        return;
    }
    locate->index_due_us = locate->now_us;
    if (!index_step(locate)) {
        locate->index_due_us = locate->purge_us;
        if (locate->drops_wanted) { /* too early still */
            due_sooner(&locate->index_due_us, locate->begun_us + STRANGER_US);
        }
    }
}

void index_members_changed(struct locate *locate, bool ring_changed)
{
    locate->drops_wanted = true;
    if (ring_changed) {
        if (locate->purge_us == NEVER) {
            locate->purge_end_us = locate->now_us + UNQUIET * PURGE_US;
        }
        locate->purge_us = locate->now_us + PURGE_US;
        due_sooner(&locate->purge_us, locate->purge_end_us);
    }
    due_sooner(&locate->index_due_us, locate->now_us);
}
