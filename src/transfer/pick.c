/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Which block from whom. In this order:
 *
 * 1. What readers read next, from the source that has it soonest. When many read the same at the
 *    same pace, a source gives each of these blocks once, too, and the others get it from whom it
 *    was given to: so it is insisted on no sooner than on others, and only on the very next.
 * 2. The source that is soonest, by what is on its way from it over its rate, of TURNS_MAX drawn by
 *    lot, gets the rarest block that it has (Cohen 2003), any of those that are equally rare. Of a
 *    long list not all are looked at, but a sample of SAMPLE from a place drawn by lot: the rarest
 *    of so many is rare enough.
 * 3. When sources have nothing else to give: a block that its holder has given to others lately,
 *    and said so. They should have it by now, or be late; so after INSIST_WAITS it is insisted on.
 * 4. When all that lacks is on its way, the end: what takes longer than usual is asked of a second
 *    source, too. Whoever is first calls the other one off.
 *
 * How much is on its way is limited by WINDOW_GAIN times rate times least wait, as in BBR (Cardwell
 * et al. 2016): enough to find out whether more brings more, but no long queues at the sources.
 */

#include <stdlib.h>

#include "transfer/transfer_priv.h"

#define SAMPLE 64u
/* At least so many blocks are on their way. */
#define WINDOW_BLOCKS_MIN 5u
#define WINDOW_GAIN 2u
/* A redirect is believed for so many mean waits, within bounds. */
#define INSIST_WAITS 3u
#define INSIST_US_MIN (100 * MS)
#define INSIST_US_MAX SECOND
/* Sources that are compared at a time. */
#define TURNS_MAX 16u
/* At the end, a block is raced when it takes this many mean waits. */
#define RACE_WAITS 1u
#define RACE_US_MIN (20 * MS)
/* Flights of which a second one may begin in one look. */
#define RACES_MAX 64u
/* What a reader waits for is asked of a second source when it takes so many mean waits. */
#define URGENT_WAITS 3u
#define URGENT_US_MIN (300 * MS)
/* Ahead of readers: at least so many blocks, at most so many bytes. */
#define AHEAD_BLOCKS 16u
#define AHEAD_BYTES ((uint64_t)16 * 1024 * 1024)
/* Of a source whose rate is not known yet. */
#define RATE_UNKNOWN ((uint64_t)10 * 1000 * 1000)
/* Nothing to do now, and no time known when there is. */
#define LOOK_AGAIN_US (250 * MS)

static uint64_t window_bytes(const struct transfer *transfer, const struct fetch *fetch)
{
    uint64_t rate = transfer->rate.per_s;
    for (size_t i = 0; i < RATES_KEPT; i++) {
        rate = most(rate, transfer->rates[i]);
    }
    const uint64_t seen_us = least(transfer->wait_least_us, transfer->wait_least_before_us);
    const uint64_t wait_us = seen_us == NEVER ? 0 : seen_us;
    const uint64_t fair = WINDOW_GAIN * (rate / MS) * least(wait_us, 10 * SECOND) / MS;
    const uint64_t floor =
        most(TRANSFER_WINDOW_BYTES_MIN, (uint64_t)WINDOW_BLOCKS_MIN * fetch->block_bytes_max);
    return most(floor, least(fair, TRANSFER_WINDOW_BYTES_MAX));
}

/* They are asked for when there is room for many, or there would be a request for each that comes
 * (Clark 1982, RFC 813). */
static bool has_small_blocks(const struct fetch *fetch)
{
    return fetch->block_bytes_max < TRANSFER_BATCHED_BYTES_MAX;
}

bool pick_has_room(const struct transfer *transfer, const struct fetch *fetch)
{
    const uint64_t window = window_bytes(transfer, fetch);
    return transfer->on_way_bytes < (has_small_blocks(fetch) ? window / 2 : window) &&
           !bucket_is_empty(&transfer->limit);
}

bool pick_is_usable(const struct transfer *transfer, const struct source *source)
{
    const struct peer *peer = source->peer;
    const uint64_t limit_bytes =
        has_small_blocks(source->fetch) ? peer->limit_bytes / 2 : peer->limit_bytes;
    return source->state != TRANSFER_NONE && peer->is_alive && !peer->is_late &&
           peer->busy_until_us <= transfer->now_us && !transfer_peer_is_shunned(transfer, peer) &&
           (peer->on_way_count == 0 || peer->on_way_bytes < limit_bytes);
}

/* When it would be through with one more block, in microseconds from now. */
static uint64_t expected_us(const struct transfer *transfer, const struct source *source)
{
    const struct peer *peer = source->peer;
    const uint64_t rate =
        peer->rate.per_s > 0 ? peer->rate.per_s : most(transfer->rate.per_s, RATE_UNKNOWN);
    const uint64_t bytes = peer->on_way_bytes + source->fetch->block_bytes_max;
    const uint64_t us = bytes * MS / most(rate / MS, 1);
    return peer->is_near ? us / 2 : us;
}

/* May `source` be asked for it too? */
static bool is_open(const struct transfer *transfer, const struct source *source, uint32_t index)
{
    const struct flight *flight = flight_find(transfer, &source->fetch->metadata->blocks[index].id);
    return !flight || flight->fetch != source->fetch ||
           (flight->legs_count < ARRAY_SIZE(flight->legs) && flight->legs[0]->peer != source->peer);
}

/* Of the usable ones, the soonest that has `index`. */
/* `was_given`: among those that gave it to others lately, else among those that did not. */
static struct source *soonest(struct transfer *transfer, const struct fetch *fetch, uint32_t index,
                              bool was_given)
{
    struct source *best = NULL;
    uint64_t best_us = NEVER;
    const size_t count = fetch->sources_count;
    const size_t first = count > 0 ? random_below(&transfer->random, count) : 0;
    for (size_t i = 0; i < count; i++) {
        struct source *source = fetch->sources[(first + i) % count];
        if ((source->given && bit_get(source->given, index)) != was_given ||
            !pick_is_usable(transfer, source) || !source_knows(source, index) ||
            !is_open(transfer, source, index)) {
            continue;
        }
        const uint64_t us = expected_us(transfer, source);
        if (us < best_us) {
            best = source;
            best_us = us;
        }
    }
    return best;
}

static uint64_t insist_us(const struct transfer *transfer)
{
    return least(most(INSIST_WAITS * transfer->wait_us, INSIST_US_MIN), INSIST_US_MAX);
}

static uint64_t wanted_word(const struct source *source, uint32_t word, bool insists)
{
    uint64_t bits = source->fetch->need[word];
    if (source->state != TRANSFER_COMPLETE) {
        bits &= word < source->have_words ? source->have[word] : 0;
    }
    if (source->given) {
        bits &= insists ? source->given[word] : ~source->given[word];
    } else if (insists) {
        bits = 0;
    }
    return bits;
}

/* The rarest of a sample of what `source` has and lacks here. */
static uint32_t rarest(struct transfer *transfer, const struct source *source, bool insists)
{
    const struct fetch *fetch = source->fetch;
    const uint64_t refused_before_us = transfer->now_us - insist_us(transfer);
    uint64_t lot = random_u64(&transfer->random);
    const uint32_t first = (uint32_t)(lot % fetch->words_count);
    uint32_t best = NO_BLOCK;
    uint32_t best_holders = UINT32_MAX;
    uint32_t ties = 0;
    uint32_t seen = 0;
    for (uint32_t i = 0; i < fetch->words_count && seen < SAMPLE; i++) {
        const uint32_t word =
            first + i < fetch->words_count ? first + i : first + i - fetch->words_count;
        for (uint64_t bits = wanted_word(source, word, insists); bits; bits &= bits - 1) {
            const uint32_t index = word * 64 + (uint32_t)__builtin_ctzll(bits);
            const uint32_t holders = fetch->holders[index];
            if (insists && fetch->refused_us[index] > refused_before_us) {
                continue;
            }
            seen++;
            if (holders < best_holders) {
                best = index;
                best_holders = holders;
                ties = 1;
            } else if (holders == best_holders) {
                /* Knuth's MMIX generator: a lot for each tie, cheaply. */
                lot = lot * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
                ties++;
                best = (lot >> 33) % ties == 0 ? index : best;
            }
        }
    }
    return best;
}

/* What was released because it is late still flies: there may be something else to ask this source
 * for. */
static uint32_t first_open(const struct transfer *transfer, const struct source *source)
{
    for (uint32_t word = 0; word < source->fetch->words_count; word++) {
        for (uint64_t bits = wanted_word(source, word, false); bits; bits &= bits - 1) {
            const uint32_t index = word * 64 + (uint32_t)__builtin_ctzll(bits);
            if (is_open(transfer, source, index)) {
                return index;
            }
        }
    }
    return NO_BLOCK;
}

/* It flies for another fetch: wait for that. */
static bool wait_for_other(struct transfer *transfer, struct fetch *fetch, uint32_t index)
{
    struct flight *flight = flight_find(transfer, &fetch->metadata->blocks[index].id);
    if (!flight || flight->fetch == fetch) {
        return false;
    }
    flight_wait(flight, fetch, index);
    bit_clear(fetch->need, index);
    fetch->need_count--;
    return true;
}

/* Small blocks go many to a request. */
static void request_from(struct transfer *transfer, struct source *source, uint32_t index,
                         bool insists)
{
    struct fetch *fetch = source->fetch;
    uint32_t indices[TRANSFER_REQUEST_BLOCKS_MAX] = {index};
    size_t count = 1;
    uint64_t bytes = fetch->metadata->blocks[index].size_bytes;
    const uint64_t bytes_max = source->peer->limit_bytes > source->peer->on_way_bytes
                                   ? source->peer->limit_bytes - source->peer->on_way_bytes
                                   : 0;
    uint32_t next = index;
    const bool is_batch = !insists && bytes < TRANSFER_BATCHED_BYTES_MAX;
    while (is_batch && count < TRANSFER_REQUEST_BLOCKS_MAX && bytes < bytes_max) {
        /* Its neighbours: what is in one directory is often read together. */
        for (next++; next < fetch->blocks_count; next++) {
            if (wanted_word(source, next / 64, false) >> (next % 64) & 1 &&
                fetch->metadata->blocks[next].size_bytes < TRANSFER_BATCHED_BYTES_MAX &&
                !flight_find(transfer, &fetch->metadata->blocks[next].id)) {
                break;
            }
        }
        if (next >= fetch->blocks_count) {
            break;
        }
        indices[count++] = next;
        bytes += fetch->metadata->blocks[next].size_bytes;
    }
    flight_request(transfer, source, indices, count, insists, false);
}

static bool pick_insisting(struct transfer *transfer, struct fetch *fetch)
{
    if (!fetch->refused_us) {
        return false;
    }
    for (size_t i = 0; i < fetch->sources_count; i++) {
        struct source *source = fetch->sources[i];
        if (!source->given || !pick_is_usable(transfer, source)) {
            continue;
        }
        const uint32_t index = rarest(transfer, source, true);
        if (index != NO_BLOCK && wait_for_other(transfer, fetch, index)) {
            return true;
        }
        if (index != NO_BLOCK && is_open(transfer, source, index)) {
            /* Should it be refused again, it is insisted on after as long again. */
            fetch->refused_us[index] = transfer->now_us;
            request_from(transfer, source, index, true);
            return true;
        }
    }
    return false;
}

/* Sources that may have something to give, each with when it would be through with it. They are
 * gathered once for many picks, in an order drawn by lot, and only as many as are worth a
 * comparison: the soonest of TURNS_MAX is hardly later than the soonest of all, and to look at one
 * costs more than to compare it. */
struct turn {
    struct source *source;
    uint64_t us;
};

struct turns {
    struct turn turns[TURNS_MAX];
    size_t count;
    size_t next; /* the place that is looked at next */
    size_t left; /* so many have not been looked at */
};

/* Had it nothing to be asked for, and was nothing of it given back since? */
static bool is_dry(struct fetch *fetch, size_t place)
{
    const uint64_t since = fetch->source_dry[place];
    if (since == fetch->version) {
        return true;
    }
    if (since == 0 || fetch->version - since > RETURNED_KEPT) {
        return false;
    }
    for (uint64_t at = since + 1; at <= fetch->version; at++) {
        const uint32_t index = fetch->returned[at % RETURNED_KEPT];
        if (wanted_word(fetch->sources[place], index / 64, false) >> (index % 64) & 1) {
            return false;
        }
    }
    fetch->source_dry[place] = fetch->version;
    return true;
}

static void begin_turns(struct transfer *transfer, const struct fetch *fetch, struct turns *turns)
{
    const size_t count = fetch->sources_count;
    turns->count = 0;
    turns->left = count;
    turns->next = count > 0 ? random_below(&transfer->random, count) : 0;
}

static void gather(struct transfer *transfer, struct fetch *fetch, struct turns *turns)
{
    while (turns->left > 0 && turns->count < TURNS_MAX) {
        const size_t place = turns->next;
        turns->left--;
        turns->next = place + 1 < fetch->sources_count ? place + 1 : 0;
        struct source *source = fetch->sources[place];
        if (!is_dry(fetch, place) && pick_is_usable(transfer, source)) {
            turns->turns[turns->count++] =
                (struct turn){.source = source, .us = expected_us(transfer, source)};
        }
    }
}

static struct turn *soonest_turn(struct turns *turns)
{
    struct turn *turn = &turns->turns[0];
    for (size_t i = 1; i < turns->count; i++) {
        turn = turns->turns[i].us < turn->us ? &turns->turns[i] : turn;
    }
    return turn;
}

/* True: something was done. */
static bool pick_one(struct transfer *transfer, struct fetch *fetch, struct turns *turns)
{
    for (;;) {
        gather(transfer, fetch, turns);
        if (fetch->need_count == 0 || turns->count == 0) {
            break;
        }
        struct turn *turn = soonest_turn(turns);
        struct source *source = turn->source;
        if (!pick_is_usable(transfer, source)) {
            *turn = turns->turns[--turns->count];
            continue;
        }
        uint32_t index = rarest(transfer, source, false);
        if (index != NO_BLOCK && !is_open(transfer, source, index)) {
            index = first_open(transfer, source);
        }
        if (index != NO_BLOCK && wait_for_other(transfer, fetch, index)) {
            return true;
        }
        if (index != NO_BLOCK) {
            request_from(transfer, source, index, false);
            turn->us = expected_us(transfer, source);
            return true;
        }
        fetch->source_dry[source->place] = fetch->version;
        *turn = turns->turns[--turns->count];
    }
    return fetch->need_count > 0 && pick_insisting(transfer, fetch);
}

/* Readers. */

static bool pick_wanted(struct transfer *transfer, struct fetch *fetch, uint32_t index,
                        bool is_urgent)
{
    if (bit_get(fetch->here, index)) {
        return false;
    }
    const struct flight *flight = flight_find(transfer, &fetch->metadata->blocks[index].id);
    const bool is_flying = flight && flight->fetch == fetch;
    if (is_flying) {
        const uint64_t patience_us = most(URGENT_WAITS * transfer->wait_us, URGENT_US_MIN);
        if (!is_urgent || flight->legs_count > 1 ||
            flight->first_us + patience_us > transfer->now_us) {
            return false;
        }
    } else if (!bit_get(fetch->need, index) || wait_for_other(transfer, fetch, index)) {
        return false;
    }
    struct source *source = soonest(transfer, fetch, index, false);
    const bool insists = !source && is_urgent && fetch->refused_us &&
                         fetch->refused_us[index] + insist_us(transfer) <= transfer->now_us;
    if (insists) {
        source = soonest(transfer, fetch, index, true);
    }
    if (!source) {
        return false;
    }
    if (insists) {
        fetch->refused_us[index] = transfer->now_us;
    }
    flight_request(transfer, source, &index, 1, insists, false);
    return true;
}

static bool pick_for_readers(struct transfer *transfer, struct fetch *fetch)
{
    for (size_t i = 0; i < fetch->readers_count; i++) {
        const struct reader *reader = &fetch->readers[i];
        const uint64_t ahead =
            most(AHEAD_BLOCKS, AHEAD_BYTES / most(fetch->block_bytes_max, 65536));
        const uint64_t urgent_end =
            least((uint64_t)reader->first + reader->count, fetch->blocks_count);
        const uint64_t end = least(urgent_end + ahead, fetch->blocks_count);
        for (uint64_t at = reader->first; at < least(end, reader->first + 4 * ahead); at++) {
            uint32_t index = (uint32_t)at;
            if (fetch->first_same) {
                index = fetch->first_same[index];
            }
            if (pick_wanted(transfer, fetch, index, at < urgent_end)) {
                return true;
            }
        }
    }
    return false;
}

/* The end. */

static uint64_t race_us(const struct transfer *transfer)
{
    return most(RACE_WAITS * transfer->wait_us, RACE_US_MIN);
}

static void race(struct transfer *transfer, struct fetch *fetch)
{
    const uint64_t patience_us = race_us(transfer);
    size_t count = 0;
    struct flight *flight;
    struct flight *next;
    DL_FOREACH_SAFE(fetch->flights, flight, next)
    {
        if (count++ == RACES_MAX || !pick_has_room(transfer, fetch)) {
            return;
        }
        if (flight->legs_count > 1) {
            continue;
        }
        if (flight->first_us + patience_us > transfer->now_us) {
            transfer_fetch_wake(transfer, fetch, flight->first_us + patience_us);
            return;
        }
        struct source *source = soonest(transfer, fetch, flight->index, false);
        if (!source) {
            source = soonest(transfer, fetch, flight->index, true);
        }
        if (source) {
            const uint32_t index = flight->index;
            flight_request(transfer, source, &index, 1, false, true);
        } else {
            transfer_fetch_wake(transfer, fetch, transfer->now_us + patience_us);
        }
    }
}

/* When there may be something to ask for, without anything coming in. */
static void set_wake(struct transfer *transfer, struct fetch *fetch)
{
    uint64_t at_us = transfer->now_us + LOOK_AGAIN_US;
    for (size_t i = 0; i < fetch->sources_count; i++) {
        const struct source *source = fetch->sources[i];
        if (source->peer->busy_until_us > transfer->now_us) {
            at_us = least(at_us, source->peer->busy_until_us);
        } else if (source->given && source->state != TRANSFER_NONE) {
            at_us = least(at_us, transfer->now_us + insist_us(transfer) / 4);
        }
    }
    transfer_fetch_wake(transfer, fetch, at_us);
}

void pick_blocks(struct transfer *transfer, struct fetch *fetch)
{
    if (!bucket_has(&transfer->limit, transfer->now_us)) {
        transfer_fetch_wake(transfer, fetch, bucket_next_us(&transfer->limit));
    }
    bool is_going_on = true;
    struct turns turns;
    begin_turns(transfer, fetch, &turns);
    while (is_going_on && pick_has_room(transfer, fetch)) {
        is_going_on = pick_for_readers(transfer, fetch) || pick_one(transfer, fetch, &turns);
    }
    transfer->counters.window_bytes = window_bytes(transfer, fetch);
    fetch->wants_room = fetch->need_count > 0;
    if (fetch->need_count > 0 && !is_going_on) {
        set_wake(transfer, fetch);
    } else if (fetch->need_count == 0) {
        race(transfer, fetch);
    }
    if (fetch->readers_count > 0) {
        transfer_fetch_wake(transfer, fetch,
                            transfer->now_us + most(transfer->wait_us, INSIST_US_MIN));
    }
}
