/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Votes. A member that does not answer one node is not therefore lost: the fault may be that
 * node's, or the path's. So whoever finds it silent alerts the member's observers; each probes it
 * at once and gives its verdict. It is unreachable when two at least found it silent (who began the
 * vote is one) and nobody got an answer. An observer that says nothing is replaced by the next
 * member on the ring, at most twice. Where only three members are alive, one node decides alone.
 *
 * Any member may begin a vote, not only an observer: when all observers of a member are lost with
 * it, the random probes of others find it.
 */

#include "cluster/cluster_priv.h"

/* The observer's own probe, and the way there and back. */
#define VERDICT_EXTRA_US (150 * MS)
/* With so few others alive, one finds it alone. */
#define VOTERS_MIN 3u

void vote_end_all(struct cluster *cluster)
{
    cluster->votes_count = 0;
}

static void end(struct cluster *cluster, struct vote *vote)
{
    *vote = cluster->votes[--cluster->votes_count];
}

static bool was_asked(const struct vote *vote, const struct node_id *id)
{
    for (unsigned i = 0; i < vote->asked_count; i++) {
        if (node_id_equal(&vote->asked[i], id)) {
            return true;
        }
    }
    return false;
}

/* Asks the next CLUSTER_OBSERVERS members behind the subject, ourselves left out. */
static void ask_more(struct cluster *cluster, struct vote *vote)
{
    const size_t count = cluster->view.alive_count;
    const size_t rank = view_rank(&cluster->view, &vote->subject);
    unsigned asked = 0;
    for (size_t step = 1; step < count && asked < CLUSTER_OBSERVERS; step++) {
        const struct entry *observer = view_at_rank(&cluster->view, (rank + step) % count);
        if (node_id_equal(&observer->record->id, &cluster->id) ||
            was_asked(vote, &observer->record->id)) {
            continue;
        }
        vote->asked[vote->asked_count] = observer->record->id;
        vote->verdicts[vote->asked_count] = 0;
        vote->asked_count++;
        asked++;
        struct datagram alert = {
            .type = DATAGRAM_ALERT,
            .number = vote->number,
            .subject = vote->subject,
            .subject_version = vote->version,
        };
        cluster_send_to(cluster, observer, &alert);
        if (vote->asked_count == VOTE_ASKED_MAX) {
            break;
        }
    }
    vote->rounds++;
    vote->deadline_us = cluster->now_us + cluster->answer_us + VERDICT_EXTRA_US;
}

void vote_begin(struct cluster *cluster, struct entry *subject)
{
    if (!entry_is_alive(subject) || probe_is_in_doubt(cluster) || cluster->is_leaving) {
        return;
    }
    if (cluster_others(cluster) < VOTERS_MIN) {
        merge_accusation(cluster, subject);
        return;
    }
    for (unsigned i = 0; i < cluster->votes_count; i++) {
        if (node_id_equal(&cluster->votes[i].subject, &subject->record->id)) {
            return;
        }
    }
    if (cluster->votes_count == VOTES_MAX) {
        return; /* found again with the next probe */
    }
    struct vote *vote = &cluster->votes[cluster->votes_count++];
    *vote = (struct vote){
        .number = cluster_number(cluster),
        .subject = subject->record->id,
        .version = entry_version(subject),
    };
    cluster->counters.alerts++;
    ask_more(cluster, vote);
}

/* The vote is over, one way or the other, or goes on with others. True: it ended. */
static bool decide(struct cluster *cluster, struct vote *vote)
{
    unsigned silent = 0;
    for (unsigned i = 0; i < vote->asked_count; i++) {
        silent += vote->verdicts[i] == DATAGRAM_VERDICT_SILENT;
    }
    struct entry *subject = view_find(&cluster->view, &vote->subject);
    const bool is_current = subject && entry_is_alive(subject) &&
                            subject->record->incarnation == vote->version.incarnation &&
                            subject->record->boot_nonce == vote->version.boot_nonce;
    if (is_current && silent == 0 && vote->rounds < VOTE_ROUNDS_MAX &&
        vote->asked_count < VOTE_ASKED_MAX) {
        ask_more(cluster, vote);
        return false;
    }
    end(cluster, vote);
    if (is_current && silent > 0 && !probe_is_in_doubt(cluster)) {
        merge_accusation(cluster, subject);
    }
    return true;
}

static bool all_answered(const struct vote *vote)
{
    for (unsigned i = 0; i < vote->asked_count; i++) {
        if (vote->verdicts[i] == 0) {
            return false;
        }
    }
    return true;
}

void vote_due(struct cluster *cluster)
{
    for (unsigned i = cluster->votes_count; i-- > 0;) {
        struct vote *vote = &cluster->votes[i];
        if (cluster->now_us >= vote->deadline_us) {
            (void)decide(cluster, vote);
        }
    }
}

uint64_t vote_next_us(const struct cluster *cluster)
{
    uint64_t next_us = NEVER;
    for (unsigned i = 0; i < cluster->votes_count; i++) {
        if (cluster->votes[i].deadline_us < next_us) {
            next_us = cluster->votes[i].deadline_us;
        }
    }
    return next_us;
}

void vote_answer(struct cluster *cluster, const struct requester *requester,
                 const struct entry *subject, enum datagram_verdict verdict)
{
    const struct entry *to = view_find(&cluster->view, &requester->id);
    if (!to) {
        return;
    }
    struct datagram answer = {
        .type = DATAGRAM_VERDICT,
        .number = requester->number,
        .subject = subject->record->id,
        .subject_version = entry_version(subject),
        .verdict = verdict,
    };
    cluster_send_to(cluster, to, &answer);
}

void vote_received_alert(struct cluster *cluster, struct entry *sender,
                         const struct datagram *alert)
{
    struct entry *subject = view_find(&cluster->view, &alert->subject);
    if (!subject || node_id_equal(&alert->subject, &cluster->id)) {
        return;
    }
    const struct requester requester = {sender->record->id, alert->number};
    const struct member_version *asked = &alert->subject_version;
    const bool is_other_version = asked->incarnation != subject->record->incarnation ||
                                  asked->boot_nonce != subject->record->boot_nonce;
    if (is_other_version || (entry_is_alive(subject) && probe_is_in_doubt(cluster))) {
        /* One of us has not heard of its last life or refutation; or we hear too little. */
        vote_answer(cluster, &requester, subject, DATAGRAM_VERDICT_ABSTAINS);
    } else if (!entry_is_alive(subject)) {
        vote_answer(cluster, &requester, subject, DATAGRAM_VERDICT_SILENT);
    } else {
        probe_for_vote(cluster, subject, &requester);
    }
}

void vote_received_verdict(struct cluster *cluster, struct entry *sender,
                           const struct datagram *verdict)
{
    for (unsigned i = 0; i < cluster->votes_count; i++) {
        struct vote *vote = &cluster->votes[i];
        if (vote->number != verdict->number || !node_id_equal(&vote->subject, &verdict->subject)) {
            continue;
        }
        const bool is_of_another =
            verdict->subject_version.incarnation != vote->version.incarnation ||
            verdict->subject_version.boot_nonce != vote->version.boot_nonce;
        for (unsigned j = 0; j < vote->asked_count; j++) {
            if (node_id_equal(&vote->asked[j], &sender->record->id)) {
                vote->verdicts[j] =
                    (uint8_t)(is_of_another ? DATAGRAM_VERDICT_ABSTAINS : verdict->verdict);
            }
        }
        if (verdict->verdict == DATAGRAM_VERDICT_ANSWERS) {
            end(cluster, vote);
        } else if (all_answered(vote)) {
            (void)decide(cluster, vote);
        }
        return;
    }
}
