/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Asking everyone, the last resort, and the only way to say that nobody has it. One broadcast asks
 * for all keys that wait; every member answers directly, also if it has nothing, because silence
 * proves nothing. Who has not answered after a while is asked again over a connection. A search is
 * over when all that were alive at its beginning have answered, were lost, or are too late. A few
 * run at a time, and they begin with a pause between them, so that a node that misses a million
 * blocks asks some thousand keys a second.
 */

#include <stdlib.h>

#include "base/mem.h"
#include "locate/locate_priv.h"
#include "wire/datagram.h"

#define SEARCH_PAUSE_US (20 * MS)
/* Directly, in case the broadcast or the answer was lost; so many at a time. */
#define AGAIN_US (500 * MS)
#define AGAIN_COUNT 64u
#define AGAIN_PAUSE_US (10 * MS)
/* Rows of a key that are looked at for an answer. */
#define ANSWER_ROWS_MAX 16384u
/* Of an answer, left to partial holders however many complete ones there are. */
#define PARTIAL_SHARE (LOCATE_ANSWER_HOLDERS / 4)

/* Answering. */

void search_answer(struct locate *locate, const struct locate_message *message)
{
    if (node_id_equal(&message->asker, &locate->id) || !peer_is_alive(locate, &message->asker)) {
        return;
    }
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    locate_message_format(&(struct locate_message){.type = LOCATE_HAVE, .number = message->number},
                          &bytes);
    struct bytes list = message->list;
    struct ring_key key;
    while (locate_message_next_key(&list, &key)) {
        locate_message_put_state(&bytes, locate->host.state(locate->host.context, &key));
    }
    locate_send(locate, &message->asker, buf_bytes(&bytes));
}

/* Some of all, each as likely as any other (Vitter's reservoir). */
struct sample {
    struct locate_held_by holders[LOCATE_ANSWER_HOLDERS];
    size_t seen_count;
};

struct samples {
    struct locate *locate;
    const struct node_id *asker;
    size_t rows_count;
    struct sample complete;
    struct sample partial;
};

static bool sample_row(void *context, const struct locate_held_by *holder)
{
    struct samples *samples = context;
    if (!node_id_equal(&holder->node, samples->asker) &&
        peer_is_alive(samples->locate, &holder->node)) {
        struct sample *sample =
            holder->state == LOCATE_COMPLETE ? &samples->complete : &samples->partial;
        size_t place = sample->seen_count++;
        if (place >= LOCATE_ANSWER_HOLDERS) {
            place = random_below(&samples->locate->random, sample->seen_count);
        }
        if (place < LOCATE_ANSWER_HOLDERS) {
            sample->holders[place] = *holder;
        }
    }
    return ++samples->rows_count < ANSWER_ROWS_MAX;
}

static size_t sampled_count(const struct sample *sample, size_t limit)
{
    return sample->seen_count < limit ? sample->seen_count : limit;
}

void search_answer_find(struct locate *locate, const struct node_id *from,
                        const struct locate_message *message)
{
    struct samples samples = {.locate = locate, .asker = from};
    (void)index_visit(locate, &message->key, sample_row, &samples); /* counted */
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    const struct locate_message found = {
        .type = LOCATE_FOUND,
        .number = message->number,
        .state = locate->host.state(locate->host.context, &message->key),
    };
    locate_message_format(&found, &bytes);
    const size_t partial_least = sampled_count(&samples.partial, PARTIAL_SHARE);
    const size_t complete = sampled_count(&samples.complete, LOCATE_ANSWER_HOLDERS - partial_least);
    const size_t partial = sampled_count(&samples.partial, LOCATE_ANSWER_HOLDERS - complete);
    for (size_t i = 0; i < complete; i++) {
        locate_message_put_holder(&bytes, &samples.complete.holders[i]);
    }
    for (size_t i = 0; i < partial; i++) {
        locate_message_put_holder(&bytes, &samples.partial.holders[i]);
    }
    locate_send(locate, from, buf_bytes(&bytes));
}

/* Asking. */

void search_want(struct locate *locate, struct lookup *lookup)
{
    if (locate->wanted_first > 0 &&
        locate->wanted_first + locate->wanted_count == locate->wanted_capacity) {
        memmove(locate->wanted, locate->wanted + locate->wanted_first,
                locate->wanted_count * sizeof *locate->wanted);
        locate->wanted_first = 0;
    }
    if (locate->wanted_count == locate->wanted_capacity) {
        locate->wanted_capacity = locate->wanted_capacity > 0 ? 2 * locate->wanted_capacity : 64;
        locate->wanted =
            mem_resize_array(locate->wanted, locate->wanted_capacity, sizeof *locate->wanted);
    }
    locate->wanted[locate->wanted_first + locate->wanted_count++] = lookup->serial;
    due_sooner(&locate->searches_due_us, locate->search_us);
}

static int compare_targets(const void *a, const void *b)
{
    return node_id_compare(&((const struct target *)a)->node, &((const struct target *)b)->node);
}

static struct target *find_target(struct search *search, const struct node_id *node)
{
    const struct target wanted = {.node = *node};
    return search->targets_count == 0 ? NULL
                                      : bsearch(&wanted, search->targets, search->targets_count,
                                                sizeof wanted, compare_targets);
}

static void gather_targets(const struct locate *locate, struct search *search)
{
    search->targets = mem_alloc_array(HASH_COUNT(locate->peers) + 1, sizeof *search->targets);
    for (const struct peer *peer = locate->peers; peer; peer = peer->hh.next) {
        if (peer->is_listed) {
            search->targets[search->targets_count++] = (struct target){
                .node = peer->id,
                .is_waiting = peer->is_alive,
                .outcome = peer->is_alive ? LOCATE_SILENT : LOCATE_UNREACHABLE,
            };
            search->waiting_count += peer->is_alive;
        }
    }
    qsort(search->targets, search->targets_count, sizeof *search->targets, compare_targets);
}

static void format_search(const struct locate *locate, const struct search *search,
                          struct buf *ret_bytes)
{
    const struct locate_message message = {
        .type = LOCATE_WHO_HAS, .number = search->number, .asker = locate->id};
    locate_message_format(&message, ret_bytes);
    for (size_t i = 0; i < search->keys_count; i++) {
        locate_message_put_key(ret_bytes, &search->keys[i]);
    }
}

/* Takes keys off those that wait; false: nobody waits any more. */
static bool gather_keys(struct locate *locate, struct search *search)
{
    while (locate->wanted_count > 0 && search->keys_count < LOCATE_SEARCH_KEYS_MAX) {
        const struct lookup *lookup = lookup_find(locate, locate->wanted[locate->wanted_first]);
        locate->wanted_first++;
        locate->wanted_count--;
        if (lookup) {
            search->serials[search->keys_count] = lookup->serial;
            search->keys[search->keys_count++] = lookup->key;
        }
    }
    return search->keys_count > 0;
}

static bool begin(struct locate *locate, struct search *search)
{
    *search = (struct search){0};
    if (!gather_keys(locate, search)) {
        return false;
    }
    search->number = locate->next_number++;
    search->again_us = locate->now_us + AGAIN_US;
    search->end_us = locate->now_us + LOCATE_SEARCH_MS * MS;
    gather_targets(locate, search);
    locate->counters.searches++;
    if (search->waiting_count > 0) {
        CLEANUP_BUF struct buf payload = BUF_INIT;
        format_search(locate, search, &payload);
        CHECK(payload.size <= DATAGRAM_PAYLOAD_BYTES_MAX);
        locate->host.broadcast(locate->host.context, buf_bytes(&payload));
    }
    return true;
}

/* What each said of one key: that it has it is in the lookup. */
static void answer_lookup(const struct search *search, struct lookup *lookup)
{
    free(lookup->answers);
    lookup->answers = mem_alloc_array(search->targets_count + 1, sizeof *lookup->answers);
    lookup->answers_count = search->targets_count;
    for (size_t i = 0; i < search->targets_count; i++) {
        lookup->answers[i] = (struct locate_answer){.node = search->targets[i].node,
                                                    .outcome = search->targets[i].outcome};
    }
    for (size_t i = 0; i < lookup->asked_count; i++) {
        const struct asked *asked = &lookup->asked[i];
        const struct target wanted = {.node = asked->node};
        const struct target *target = bsearch(&wanted, search->targets, search->targets_count,
                                              sizeof wanted, compare_targets);
        if (!asked->is_waiting && asked->outcome <= LOCATE_DENIED && target) {
            lookup->answers[target - search->targets].outcome = asked->outcome;
        }
    }
    lookup->is_searched = true;
}

static void end(struct locate *locate, struct search *search)
{
    locate->counters.searches_silent += search->waiting_count;
    for (size_t i = 0; i < search->keys_count; i++) {
        struct lookup *lookup = lookup_find(locate, search->serials[i]);
        if (lookup) {
            answer_lookup(search, lookup);
            lookup_step(locate, lookup);
        }
    }
    free(search->targets);
    *search = (struct search){0};
    due_sooner(&locate->searches_due_us, locate->search_us);
}

/* Nobody waits for its keys any more. */
static bool is_pointless(const struct locate *locate, const struct search *search)
{
    for (size_t i = 0; i < search->keys_count; i++) {
        if (lookup_find(locate, search->serials[i])) {
            return false;
        }
    }
    return true;
}

static size_t list_size(struct bytes list)
{
    size_t count = 0;
    enum locate_state state;
    while (locate_message_next_state(&list, &state)) {
        count++;
    }
    return count;
}

void search_have(struct locate *locate, const struct node_id *from,
                 const struct locate_message *message)
{
    struct search *search = NULL;
    for (size_t i = 0; i < SEARCHES_MAX; i++) {
        if (message->number != 0 && locate->searches[i].number == message->number) {
            search = &locate->searches[i];
        }
    }
    if (!search) {
        return;
    }
    struct target *target = find_target(search, from);
    if (!target || !target->is_waiting) {
        return;
    }
    if (list_size(message->list) != search->keys_count) {
        locate->counters.messages_refused++;
        return;
    }
    target->is_waiting = false;
    target->outcome = LOCATE_DENIED;
    search->waiting_count--;
    struct bytes list = message->list;
    enum locate_state state;
    for (size_t i = 0; locate_message_next_state(&list, &state); i++) {
        struct lookup *lookup = lookup_find(locate, search->serials[i]);
        if (lookup) {
            const uint64_t version = lookup->version;
            lookup_answered(lookup, from, state);
            if (lookup->version != version) {
                lookup_ready(locate, lookup);
            }
        }
    }
    if (search->waiting_count == 0) {
        end(locate, search);
    }
}

void search_lost(struct locate *locate, const struct node_id *node)
{
    for (size_t i = 0; i < SEARCHES_MAX; i++) {
        struct search *search = &locate->searches[i];
        struct target *target = search->number != 0 ? find_target(search, node) : NULL;
        if (target && target->is_waiting) {
            target->is_waiting = false;
            target->outcome = LOCATE_UNREACHABLE;
            search->waiting_count--;
            due_sooner(&locate->searches_due_us, locate->now_us);
        }
    }
}

static void ask_again(struct locate *locate, struct search *search)
{
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    format_search(locate, search, &bytes);
    size_t count = 0;
    while (search->asked_again < search->targets_count && count < AGAIN_COUNT) {
        const struct target *target = &search->targets[search->asked_again++];
        if (target->is_waiting) {
            count++;
            locate_send(locate, &target->node, buf_bytes(&bytes));
        }
    }
    search->again_us =
        search->asked_again < search->targets_count ? locate->now_us + AGAIN_PAUSE_US : NEVER;
}

/* True while it runs. */
static bool search_step(struct locate *locate, struct search *search)
{
    if (is_pointless(locate, search)) {
        free(search->targets);
        *search = (struct search){0};
        return false;
    }
    if (search->waiting_count == 0 || locate->now_us >= search->end_us) {
        end(locate, search);
        return false;
    }
    if (locate->now_us >= search->again_us) {
        ask_again(locate, search);
    }
    due_sooner(&locate->searches_due_us, search->again_us);
    due_sooner(&locate->searches_due_us, search->end_us);
    return true;
}

void search_due(struct locate *locate)
{
    if (locate->now_us < locate->searches_due_us) {
        return;
    }
    locate->searches_due_us = NEVER;
    for (size_t i = 0; i < SEARCHES_MAX; i++) {
        struct search *search = &locate->searches[i];
        if (search->number != 0 && search_step(locate, search)) {
            continue;
        }
        if (locate->wanted_count > 0 && locate->now_us >= locate->search_us &&
            begin(locate, search)) {
            locate->search_us = locate->now_us + SEARCH_PAUSE_US;
            /* One without anybody to ask is over with the next tick. */
            due_sooner(&locate->searches_due_us,
                       search->waiting_count > 0 ? search->again_us : locate->now_us);
        }
        if (search->number == 0 && locate->wanted_count > 0) {
            due_sooner(&locate->searches_due_us, locate->search_us);
        }
    }
}

void search_done(struct locate *locate)
{
    for (size_t i = 0; i < SEARCHES_MAX; i++) {
        free(locate->searches[i].targets);
    }
    free(locate->wanted);
}
