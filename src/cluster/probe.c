/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Probes. In each CLUSTER_PROBE_MS a node probes the three alive members before it on the ring,
 * whose observer it is, and one at random, evenly spread over the time. So every member is watched
 * by three others whatever their number, at the same cost, and each ping also carries digests of
 * what its sender knows: the gossip that makes everything converge.
 *
 * A ping that is not answered is sent again while two others are asked to ask; when that is in vain
 * too, a vote begins (vote.c).
 *
 * A node whose own probes mostly fail first asks eight members at random whether it hears anybody
 * at all. If it hears few, it is its own links that fail, or its processor: then it begins no votes
 * and abstains in those of others (Lifeguard). One that hears nobody for ISOLATED_US is isolated.
 */

#include "cluster/cluster_priv.h"

#define SLOTS (CLUSTER_OBSERVERS + 1)
#define SLOT_US (CLUSTER_PROBE_MS * MS / SLOTS)
/* Others that are asked to ask. */
#define RELAYS 2u
/* For a vote the second ping does not wait for the first to time out. */
#define VOTE_PING_AGAIN_US (100 * MS)
#define ISOLATED_US (10 * SECOND)
/* Of the last 8 probes more than half unanswered: in doubt. */
#define RESULTS 8u
#define CHECK_PROBES 8u
#define CHECK_ANSWERS_MIN 3u
/* Claims of others' lists that are looked into in a second; digests will bring the rest again. */
#define CLAIMS_PER_SECOND 16u
#define DOUBT_US (2 * SECOND)
#define TRUST_US (4 * SECOND)
/* Round-trip times are counted by their logarithm, four steps for each power of two. */
#define STEPS_PER_POWER 4u
#define DELAYS_MAX 4096u
#define DELAYS_MIN 64u

void probe_start(struct cluster *cluster)
{
    cluster->slot_us = cluster->now_us + random_below(&cluster->random, SLOT_US);
    cluster->slot = (unsigned)random_below(&cluster->random, SLOTS);
    cluster->heard_us = cluster->now_us;
    cluster->answer_us = CLUSTER_ANSWER_MS_MIN * MS;
    cluster->receipt_us = CLUSTER_RECEIPT_MS_MIN * MS;
}

static void send_ping(struct cluster *cluster, const struct entry *to, uint32_t number)
{
    struct datagram ping = {
        .type = DATAGRAM_PING,
        .number = number,
        .incarnation = cluster_self(cluster)->record->incarnation,
        .digests = cluster->digests,
    };
    ping.digests.members = cluster->view.digest;
    cluster->counters.probes_sent++;
    cluster_send_to(cluster, to, &ping);
}

static void send_ping_requests(struct cluster *cluster, const struct entry *subject,
                               uint32_t number)
{
    for (unsigned i = 0; i < RELAYS; i++) {
        const struct entry *relay = cluster_random_member(cluster);
        if (!relay || relay == subject) {
            continue;
        }
        struct datagram request = {
            .type = DATAGRAM_PING_REQ,
            .number = number,
            .subject = subject->record->id,
        };
        cluster_send_to(cluster, relay, &request);
    }
}

/* NULL: too many are under way. */
static struct probe *begin(struct cluster *cluster, const struct entry *subject,
                           enum probe_purpose purpose)
{
    if (cluster->probes_count == PROBES_MAX) {
        return NULL;
    }
    struct probe *probe = &cluster->probes[cluster->probes_count++];
    *probe = (struct probe){
        .numbers = {cluster_number(cluster)},
        .purpose = purpose,
        .subject = subject->record->id,
        .sent_us = {cluster->now_us},
        .deadline_us = cluster->now_us + cluster->answer_us,
    };
    send_ping(cluster, subject, probe->numbers[0]);
    return probe;
}

static void end(struct cluster *cluster, struct probe *probe)
{
    *probe = cluster->probes[--cluster->probes_count];
}

/* Round-trip times */

static unsigned delay_step(uint32_t delay_us)
{
    const unsigned log2 = delay_us < 2 ? 0 : 31u - (unsigned)__builtin_clz(delay_us);
    const unsigned quarter = log2 < 2 ? 0 : (delay_us >> (log2 - 2)) & 3u;
    const unsigned step = log2 * STEPS_PER_POWER + quarter;
    return step < DELAY_STEPS - 1 ? step : DELAY_STEPS - 1;
}

/* The upper end of a step. */
static uint64_t delay_of_step(unsigned step)
{
    const unsigned log2 = step / STEPS_PER_POWER;
    return ((uint64_t)1 << log2) * (STEPS_PER_POWER + step % STEPS_PER_POWER + 1) / STEPS_PER_POWER;
}

/* Twice the 99.9th percentile, within limits. */
static uint64_t wait_for(const struct delays *delays, uint64_t us_min, uint64_t us_max)
{
    uint32_t above = 0;
    size_t step = DELAY_STEPS;
    while (step > 0 && above <= delays->total / 1000) {
        above += delays->counts[--step];
    }
    const uint64_t wanted_us = 2 * delay_of_step((unsigned)step);
    return wanted_us < us_min ? us_min : wanted_us > us_max ? us_max : wanted_us;
}

/* True if there is enough that is new to look at. What is old counts half in the end. */
static bool count_delay(struct delays *delays, uint64_t delay_us)
{
    delays->counts[delay_step(delay_us < UINT32_MAX ? (uint32_t)delay_us : UINT32_MAX)]++;
    delays->total++;
    const bool is_worth_a_look = delays->total % DELAYS_MIN == 0;
    if (delays->total >= DELAYS_MAX) {
        delays->total = 0;
        for (size_t i = 0; i < DELAY_STEPS; i++) {
            delays->counts[i] /= 2;
            delays->total += delays->counts[i];
        }
        delays->total -= delays->total % DELAYS_MIN;
    }
    return is_worth_a_look;
}

static void count_round_trip(struct cluster *cluster, uint64_t rtt_us)
{
    if (count_delay(&cluster->round_trips, rtt_us)) {
        cluster->answer_us =
            wait_for(&cluster->round_trips, CLUSTER_ANSWER_MS_MIN * MS, CLUSTER_ANSWER_MS_MAX * MS);
        cluster->receipt_us = wait_for(&cluster->round_trips, CLUSTER_RECEIPT_MS_MIN * MS,
                                       CLUSTER_ANSWER_MS_MAX * MS);
    }
}

/* Doubts about oneself */

bool probe_is_in_doubt(const struct cluster *cluster)
{
    return cluster->now_us < cluster->doubt_until_us || cluster->check_left > 0;
}

static void begin_check(struct cluster *cluster)
{
    cluster->check_answers = 0;
    cluster->check_left = 0;
    cluster->check_sent = 0;
    for (unsigned i = 0; i < CHECK_PROBES; i++) {
        const struct entry *member = cluster_random_member(cluster);
        if (member && begin(cluster, member, PROBE_CHECK)) {
            cluster->check_left++;
            cluster->check_sent++;
        }
    }
}

static void end_of_check_probe(struct cluster *cluster, bool was_answered)
{
    cluster->check_answers += was_answered;
    if (cluster->check_left == 0 || --cluster->check_left > 0) {
        return;
    }
    if (cluster->check_answers * CHECK_PROBES >= CHECK_ANSWERS_MIN * cluster->check_sent) {
        cluster->trust_until_us = cluster->now_us + TRUST_US;
    } else {
        cluster->doubt_until_us = cluster->now_us + DOUBT_US;
    }
}

static void count_result(struct cluster *cluster, bool was_answered)
{
    cluster->results = (cluster->results << 1 | !was_answered) & ((1u << RESULTS) - 1);
    cluster->counters.probes_unanswered += !was_answered;
    const bool is_suspicious = __builtin_popcount(cluster->results) > (int)RESULTS / 2;
    /* Among three, nobody is there to ask. */
    if (is_suspicious && cluster_others(cluster) >= CLUSTER_OBSERVERS &&
        cluster->now_us >= cluster->trust_until_us && !probe_is_in_doubt(cluster)) {
        begin_check(cluster);
    }
}

static void look_for_isolation(struct cluster *cluster)
{
    const bool is_isolated =
        cluster_others(cluster) > 0 && cluster->now_us - cluster->heard_us >= ISOLATED_US;
    if (is_isolated == cluster->is_isolated) {
        return;
    }
    cluster->is_isolated = is_isolated;
    cluster->isolated_us = cluster->now_us;
    cluster->change_count++;
    cluster_tell(cluster, is_isolated ? CLUSTER_ISOLATED : CLUSTER_CONNECTED,
                 cluster_self(cluster));
}

void probe_held_up(struct cluster *cluster)
{
    cluster->probes_count = 0;
    cluster->check_left = 0;
    cluster->results = 0;
    cluster->heard_us = cluster->now_us;
    cluster->woken_us = cluster->now_us;
    cluster->slot_us = cluster->now_us;
    cluster->doubt_until_us = cluster->now_us + DOUBT_US;
}

/* Time */

static void probe_in_turn(struct cluster *cluster)
{
    cluster->slot_us += SLOT_US;
    if (cluster->slot_us <= cluster->now_us) {
        cluster->slot_us = cluster->now_us + SLOT_US;
    }
    const unsigned slot = cluster->slot++ % SLOTS;
    const size_t others = cluster_others(cluster);
    const struct entry *subject = NULL;
    if (slot == CLUSTER_OBSERVERS) {
        subject = cluster_random_member(cluster);
    } else if (slot < others) {
        const size_t rank = view_rank(&cluster->view, &cluster->id);
        const size_t count = cluster->view.alive_count;
        subject = view_at_rank(&cluster->view, (rank + count - 1 - slot) % count);
    }
    if (subject && !cluster->is_leaving) {
        (void)begin(cluster, subject, PROBE_OBSERVE);
    }
    look_for_isolation(cluster);
}

/* True if the probe goes on. */
static bool try_again(struct cluster *cluster, struct probe *probe, const struct entry *subject)
{
    if (!subject || probe->attempt > 0 || probe->purpose == PROBE_RELAY) {
        return false;
    }
    probe->attempt++;
    probe->deadline_us = cluster->now_us + cluster->answer_us;
    probe->numbers[1] = cluster_number(cluster);
    probe->sent_us[1] = cluster->now_us;
    send_ping(cluster, subject, probe->numbers[1]);
    if (probe->purpose == PROBE_OBSERVE) {
        send_ping_requests(cluster, subject, probe->numbers[0]);
    }
    return true;
}

static void give_up(struct cluster *cluster, const struct probe *probe, struct entry *subject)
{
    switch (probe->purpose) {
    case PROBE_OBSERVE:
        count_result(cluster, false);
        if (subject) {
            vote_begin(cluster, subject);
        }
        break;
    case PROBE_CLAIM:
        if (subject) {
            vote_begin(cluster, subject);
        }
        break;
    case PROBE_VOTE:
        if (subject) {
            vote_answer(cluster, &probe->requester, subject,
                        probe_is_in_doubt(cluster) ? DATAGRAM_VERDICT_ABSTAINS
                                                   : DATAGRAM_VERDICT_SILENT);
        }
        break;
    case PROBE_CHECK:
        end_of_check_probe(cluster, false);
        break;
    case PROBE_RELAY:
    default:
        break;
    }
}

void probe_due(struct cluster *cluster)
{
    /* Ending one moves the last into its place, and may begin others: behind. */
    for (unsigned i = cluster->probes_count; i-- > 0;) {
        struct probe *probe = &cluster->probes[i];
        if (i >= cluster->probes_count || cluster->now_us < probe->deadline_us) {
            continue;
        }
        struct entry *subject = view_find(&cluster->view, &probe->subject);
        if (try_again(cluster, probe, subject)) {
            continue;
        }
        const struct probe ended = *probe;
        end(cluster, probe);
        give_up(cluster, &ended, subject);
    }
    if (cluster->now_us >= cluster->slot_us) {
        probe_in_turn(cluster);
    }
}

uint64_t probe_next_us(const struct cluster *cluster)
{
    uint64_t next_us = cluster->slot_us;
    for (unsigned i = 0; i < cluster->probes_count; i++) {
        if (cluster->probes[i].deadline_us < next_us) {
            next_us = cluster->probes[i].deadline_us;
        }
    }
    return next_us;
}

/* What arrives */

void probe_received_ping(struct cluster *cluster, const struct address *from, struct entry *sender,
                         const struct datagram *ping)
{
    struct datagram ack = {
        .type = DATAGRAM_ACK,
        .number = ping->number,
        .incarnation = cluster_self(cluster)->record->incarnation,
        .digests = cluster->digests,
    };
    ack.digests.members = cluster->view.digest;
    /* To where it came from: a relay, or a member whose address changed, is answered too. */
    cluster_send(cluster, from, ping->sender_nonce, &ack);
    if (!sender) {
        return;
    }
    sync_saw_digest(cluster, sender, ping->digests.members);
    if (cluster->host.digests) {
        cluster->host.digests(cluster->host.context, &ping->sender, &ping->digests);
    }
}

static struct probe *find(struct cluster *cluster, const struct node_id *subject, uint32_t number)
{
    for (unsigned i = 0; i < cluster->probes_count; i++) {
        struct probe *probe = &cluster->probes[i];
        if ((probe->numbers[0] == number || (probe->attempt > 0 && probe->numbers[1] == number)) &&
            node_id_equal(&probe->subject, subject)) {
            return probe;
        }
    }
    return NULL;
}

static void succeed(struct cluster *cluster, const struct probe *probe, struct entry *subject)
{
    subject->proof_us = cluster->now_us;
    subject->is_restored = false;
    switch (probe->purpose) {
    case PROBE_OBSERVE:
        count_result(cluster, true);
        break;
    case PROBE_RELAY: {
        const struct entry *requester = view_find(&cluster->view, &probe->requester.id);
        struct datagram relayed = {
            .type = DATAGRAM_PING_ACK,
            .number = probe->requester.number,
            .subject = probe->subject,
            .subject_version = entry_version(subject),
        };
        if (requester) {
            cluster_send_to(cluster, requester, &relayed);
        }
        break;
    }
    case PROBE_VOTE:
        vote_answer(cluster, &probe->requester, subject, DATAGRAM_VERDICT_ANSWERS);
        break;
    case PROBE_CHECK:
        end_of_check_probe(cluster, true);
        break;
    case PROBE_CLAIM:
    default:
        break;
    }
}

void probe_received_ack(struct cluster *cluster, struct entry *sender, const struct datagram *ack)
{
    struct probe *found = find(cluster, &ack->sender, ack->number);
    if (!found) {
        return; /* late, or answered before by a relay */
    }
    const struct probe probe = *found;
    end(cluster, found);
    const uint64_t rtt_us =
        cluster->now_us - probe.sent_us[ack->number == probe.numbers[0] ? 0 : 1];
    count_round_trip(cluster, rtt_us);
    sender->rtt_us = rtt_us < UINT32_MAX ? (uint32_t)rtt_us : UINT32_MAX;
    succeed(cluster, &probe, sender);
    sync_saw_digest(cluster, sender, ack->digests.members);
    if (cluster->host.digests) {
        cluster->host.digests(cluster->host.context, &ack->sender, &ack->digests);
    }
}

void probe_received_request(struct cluster *cluster, struct entry *sender,
                            const struct datagram *request)
{
    struct entry *subject = view_find(&cluster->view, &request->subject);
    if (!subject || node_id_equal(&request->subject, &cluster->id)) {
        return;
    }
    struct probe *probe = begin(cluster, subject, PROBE_RELAY);
    if (probe) {
        probe->requester = (struct requester){sender->record->id, request->number};
    }
}

void probe_received_relayed(struct cluster *cluster, const struct datagram *relayed)
{
    struct probe *found = find(cluster, &relayed->subject, relayed->number);
    struct entry *subject = view_find(&cluster->view, &relayed->subject);
    if (!found || !subject || subject->record->boot_nonce != relayed->subject_version.boot_nonce) {
        return;
    }
    const struct probe probe = *found;
    end(cluster, found);
    succeed(cluster, &probe, subject);
}

void probe_for_vote(struct cluster *cluster, struct entry *subject,
                    const struct requester *requester)
{
    struct probe *probe = begin(cluster, subject, PROBE_VOTE);
    if (!probe) {
        vote_answer(cluster, requester, subject, DATAGRAM_VERDICT_ABSTAINS);
        return;
    }
    probe->requester = *requester;
    probe->deadline_us = cluster->now_us + VOTE_PING_AGAIN_US;
    send_ping_requests(cluster, subject, probe->numbers[0]);
}

void probe_claim(struct cluster *cluster, struct entry *entry)
{
    if (cluster->now_us - cluster->claims_us >= SECOND) {
        cluster->claims_us = cluster->now_us;
        cluster->claims_left = CLAIMS_PER_SECOND;
    }
    for (unsigned i = 0; i < cluster->probes_count; i++) {
        if (cluster->probes[i].purpose == PROBE_CLAIM &&
            node_id_equal(&cluster->probes[i].subject, &entry->record->id)) {
            return;
        }
    }
    if (cluster->claims_left > 0) {
        cluster->claims_left--;
        merge_warn(cluster, entry, &entry->record->address, entry->record->boot_nonce);
        (void)begin(cluster, entry, PROBE_CLAIM);
    }
}
