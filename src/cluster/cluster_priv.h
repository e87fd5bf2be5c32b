/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_CLUSTER_PRIV_H
#define CLUSTER_CLUSTER_PRIV_H

/*
 * The state of one node's cluster, and what its parts call of each other. Each part is one file:
 *
 *   view.c, pool.c  the list itself
 *   merge.c         what happens when somebody says something of a member
 *   probe.c         probes and their answers; doubts about oneself
 *   vote.c          several observers agree that a member is unreachable
 *   broadcast.c     telling everybody
 *   sync.c          making two lists equal
 *   join.c          joining, and growing together again
 *   conflict.c      two nodes with one id
 *   ring.c          who is out of the ring, and who is forgotten
 *   roster.c        the list on disk
 *   cluster.c       the public functions: what arrives goes to its part, what is due too
 */

#include "base/mem.h"
#include "base/random.h"
#include "cluster/cluster.h"
#include "cluster/view_priv.h"

#define MS ((uint64_t)1000)
#define SECOND (1000 * MS)
#define NEVER UINT64_MAX

/* Probes under way at once: a node sends two a second, the rest are asked for by others. One that
 * finds no room is not made, and whoever asked asks somebody else. */
#define PROBES_MAX 64u
/* Votes under way here. When half of a large network goes, each member left has some three. */
#define VOTES_MAX 16u
/* Observers asked in one vote: three rounds. */
#define VOTE_ROUNDS_MAX 3u
#define VOTE_ASKED_MAX (VOTE_ROUNDS_MAX * CLUSTER_OBSERVERS)
/* Parts of broadcasts that wait for a receipt: 256 broadcasts at once. The tree begins up to some
 * hundred a second, and waits a tenth of a second where datagrams are lost. Beyond that a part is
 * sent once and not watched, which is counted; where it is lost, digests find the difference. */
#define CARRIES_MAX 2048u
#define BROADCAST_PARTS 8u
/* Broadcasts of some seconds, many a second; one that is forgotten too early goes on again. */
#define BROADCASTS_SEEN 4096u
/* Members to be told of with the next broadcast. More changed at once is a storm. */
#define ANNOUNCE_MAX 128u
#define CHALLENGES_MAX 16u
/* Forgotten members that must not come back by hearsay. */
#define FORGOTTEN_MAX 1024u

enum probe_purpose {
    PROBE_OBSERVE, /* our own, of a member that we watch or of a random one */
    PROBE_RELAY,   /* another member asked us to ask */
    PROBE_VOTE,    /* another member wants our verdict */
    PROBE_CHECK,   /* do we hear anybody? */
    PROBE_CLAIM,   /* somebody's list has it as unreachable for long, ours as alive */
};

struct requester {
    struct node_id id;
    uint32_t number; /* of its request */
};

/* How long answers took, counted by the logarithm of that. */
#define DELAY_STEPS 96u
struct delays {
    uint32_t counts[DELAY_STEPS];
    uint32_t total;
};

/* Its second ping has a number of its own, so that an answer tells which of the two it answers:
 * round trips are measured exactly however many datagrams are lost (the ambiguity that Karn and
 * Partridge 1987 leave out). */
struct probe {
    uint32_t numbers[2];
    enum probe_purpose purpose;
    unsigned attempt;
    struct node_id subject;
    uint64_t sent_us[2];
    uint64_t deadline_us;
    struct requester requester; /* PROBE_RELAY, PROBE_VOTE */
};

struct vote {
    uint32_t number;
    struct node_id subject;
    struct member_version version;
    struct node_id asked[VOTE_ASKED_MAX];
    uint8_t verdicts[VOTE_ASKED_MAX]; /* enum datagram_verdict; 0: none yet */
    unsigned asked_count;
    unsigned rounds;
    uint64_t deadline_us;
};

/* A broadcast, whoever began it; shared by its parts. */
struct news {
    uint64_t origin;
    uint32_t origin_number;
    uint8_t kind;
    struct bytes payload;
    unsigned references;
};

/* One part of a broadcast, until its delegate sent a receipt. */
struct carry {
    uint32_t number;
    struct node_id delegate;
    struct node_id range_end;
    struct news *news;
    uint8_t attempt;
    uint8_t delegates; /* that this part had before this one */
    uint64_t wait_us;
    uint64_t deadline_us;
};

struct challenge {
    struct record *record; /* what the newcomer said; NULL: it has our own id */
    uint32_t number;
    struct node_id id;
    struct address addresses[2]; /* of the one that we know, and of the newcomer */
    uint64_t nonces[2];
    uint64_t uptimes_ms[2];
    bool has_answered[2];
    uint64_t deadline_us;
};

struct forgotten {
    struct node_id id;
    struct member_version version;
    uint64_t until_us;
};

struct cluster {
    struct cluster_host host;
    struct member_pool *own_pool;
    struct view view;
    struct node_id id;
    uint64_t boot_nonce;
    struct random random;
    uint64_t now_us;
    uint64_t started_us;
    uint32_t last_number;
    struct digests digests; /* vector and tree; that of members is the view's */
    struct cluster_counters counters;
    uint64_t change_count;
    struct buf out;

    /* probe.c */
    struct probe probes[PROBES_MAX];
    unsigned probes_count;
    unsigned slot;
    uint64_t slot_us;
    uint64_t heard_us; /* when a member last spoke to us */
    bool is_isolated;
    uint64_t isolated_us;
    unsigned results; /* of the last probes, a bit each; 1: no answer */
    uint64_t doubt_until_us;
    uint64_t trust_until_us;
    unsigned claims_left; /* that may be looked into in this second */
    uint64_t claims_us;
    unsigned check_left;
    unsigned check_answers;
    unsigned check_sent;
    struct delays round_trips;
    uint64_t answer_us;
    uint64_t receipt_us;

    /* vote.c */
    struct vote votes[VOTES_MAX];
    unsigned votes_count;

    /* broadcast.c */
    struct carry *carries;
    unsigned carries_count;
    unsigned carries_capacity;
    uint64_t carries_us; /* none is due before */
    uint64_t seen[BROADCASTS_SEEN];
    struct node_id announced[ANNOUNCE_MAX];
    unsigned announced_count;
    uint64_t announce_us;
    uint64_t announced_last_us;
    uint64_t storm_window_us;
    unsigned storm_count;
    uint64_t storm_until_us;

    /* sync.c */
    bool is_eager;
    unsigned calm_count;
    uint64_t sync_us;
    bool sync_is_open;
    struct node_id sync_peer;
    uint64_t sync_deadline_us;
    uint64_t differs_since_us; /* digests of others differed from ours, now and then */
    uint64_t differs_last_us;  /* until then */
    unsigned serve_tokens;
    uint64_t serve_us;
    struct buf message;

    /* join.c */
    struct address seeds[CLUSTER_SEEDS_MAX];
    size_t seeds_count;
    size_t seed_next;
    uint64_t join_us;
    uint64_t join_pause_us;
    uint64_t heal_us;
    uint32_t join_numbers[16];
    unsigned join_next;
    struct node_id sync_after_join;
    bool wants_sync_after_join;
    unsigned greet_tokens;
    uint64_t greet_us;
    unsigned welcome_tokens;
    uint64_t welcome_us;

    /* conflict.c */
    struct challenge challenges[CHALLENGES_MAX];
    unsigned challenges_count;

    /* ring.c */
    uint64_t settle_us;
    uint64_t settled_us; /* when all were last looked at */
    uint64_t woken_us;   /* when this process was last found to have been held up */
    struct forgotten *forgotten;
    size_t forgotten_count;

    /* merge.c */
    unsigned warnings_left;
    uint64_t warnings_us;
    uint64_t refuted_us;
    uint64_t refute_pause_us;
    uint64_t refute_due_us;
    uint64_t refute_above;

    bool is_leaving;
    bool has_left;
    uint64_t leave_us;
};

/* cluster.c */

struct entry *cluster_self(struct cluster *cluster);
uint32_t cluster_number(struct cluster *cluster);
/* Fills in the sender and sends. `receiver_nonce` 0: not known. */
void cluster_send(struct cluster *cluster, const struct address *to, uint64_t receiver_nonce,
                  struct datagram *datagram);
void cluster_send_to(struct cluster *cluster, const struct entry *to, struct datagram *datagram);
/* This process stood still until now, or until just now: what it hears may be old. */
bool cluster_was_held_up(const struct cluster *cluster);
struct cluster_member cluster_member_of(const struct cluster *cluster, const struct entry *entry);
void cluster_tell(struct cluster *cluster, enum cluster_event_kind kind, const struct entry *entry);
struct member_update cluster_update_of(const struct cluster *cluster, const struct entry *entry);
/* A random alive member other than itself, or NULL if there is none. */
struct entry *cluster_random_member(struct cluster *cluster);
static inline size_t cluster_others(const struct cluster *cluster)
{
    return cluster->view.alive_count - (cluster->has_left || cluster->is_leaving ? 0 : 1);
}

/* merge.c */

enum source {
    FROM_ITSELF,    /* the member said it, from its own address */
    FROM_BROADCAST, /* somebody just found it out */
    FROM_LIST,      /* somebody's list has it, who knows since when */
};
/* True if the view changed. */
bool merge_update(struct cluster *cluster, const struct member_update *update, enum source source);
/* The member is unreachable, by our own vote. */
void merge_accusation(struct cluster *cluster, struct entry *entry);
/* Tells the member at `to` that it is said to be unreachable (or what else it is here), so that it
 * can refute before many believe it; so many times a second at most. */
void merge_warn(struct cluster *cluster, const struct entry *entry, const struct address *to,
                uint64_t receiver_nonce);
/* Raises our incarnation above `incarnation`, now or, when that happens often, soon. */
void merge_refute(struct cluster *cluster, uint64_t incarnation);
void merge_due(struct cluster *cluster);

/* probe.c */

void probe_start(struct cluster *cluster);
void probe_due(struct cluster *cluster);
void probe_held_up(struct cluster *cluster);
uint64_t probe_next_us(const struct cluster *cluster);
void probe_received_ping(struct cluster *cluster, const struct address *from, struct entry *sender,
                         const struct datagram *ping);
void probe_received_ack(struct cluster *cluster, struct entry *sender, const struct datagram *ack);
void probe_received_request(struct cluster *cluster, struct entry *sender,
                            const struct datagram *request);
void probe_received_relayed(struct cluster *cluster, const struct datagram *relayed);
void probe_for_vote(struct cluster *cluster, struct entry *subject,
                    const struct requester *requester);
/* Finds out whether a list that says so is right: `entry` is unreachable. */
void probe_claim(struct cluster *cluster, struct entry *entry);
/* Our own links are in doubt: what we say of others is worth nothing. */
bool probe_is_in_doubt(const struct cluster *cluster);

/* vote.c */

void vote_begin(struct cluster *cluster, struct entry *subject);
void vote_due(struct cluster *cluster);
uint64_t vote_next_us(const struct cluster *cluster);
void vote_received_alert(struct cluster *cluster, struct entry *sender,
                         const struct datagram *alert);
void vote_received_verdict(struct cluster *cluster, struct entry *sender,
                           const struct datagram *verdict);
void vote_answer(struct cluster *cluster, const struct requester *requester,
                 const struct entry *subject, enum datagram_verdict verdict);
void vote_end_all(struct cluster *cluster);

/* broadcast.c */

void broadcast_begin(struct cluster *cluster, uint8_t kind, struct bytes payload);
/* What we know of `entry` goes to everybody soon. */
void broadcast_member(struct cluster *cluster, const struct entry *entry);
/* A change was learnt; many at once are a storm, in which single broadcasts are no use. */
void broadcast_count_change(struct cluster *cluster);
void broadcast_flush(struct cluster *cluster);
void broadcast_due(struct cluster *cluster);
uint64_t broadcast_next_us(const struct cluster *cluster);
void broadcast_received(struct cluster *cluster, struct entry *sender,
                        const struct datagram *broadcast);
void broadcast_received_receipt(struct cluster *cluster, const struct datagram *receipt);
void broadcast_done(struct cluster *cluster);

/* sync.c */

/* A member told its digest of the list. */
void sync_saw_digest(struct cluster *cluster, struct entry *member, uint64_t digest);
/* Much has changed or much is missing: exchange lists until nothing differs. */
void sync_eagerly(struct cluster *cluster);
void sync_with(struct cluster *cluster, struct entry *member);
void sync_due(struct cluster *cluster);
uint64_t sync_next_us(const struct cluster *cluster);
void sync_received(struct cluster *cluster, struct entry *sender, const struct member_sync *sync);

/* join.c */

void join_start(struct cluster *cluster);
/* Introduces us to whoever is at `to`. */
void join_ask(struct cluster *cluster, const struct address *to);
/* The same to somebody who spoke to us and whom we don't know, a few times a second at most. */
void join_greet(struct cluster *cluster, const struct address *to);
void join_due(struct cluster *cluster);
uint64_t join_next_us(const struct cluster *cluster);
void join_received_join(struct cluster *cluster, const struct address *from,
                        const struct datagram *join);
void join_received_welcome(struct cluster *cluster, const struct address *from,
                           const struct datagram *welcome);

/* conflict.c */

/* `newcomer` is another life of a known member that may still be alive elsewhere: both are asked
 * now, and the newcomer is taken if it answers and the old one is silent. */
void conflict_check(struct cluster *cluster, const struct entry *known,
                    const struct member_record *newcomer);
/* Somebody with our own id may be at `address`. */
void conflict_check_self(struct cluster *cluster, const struct address *address);
void conflict_due(struct cluster *cluster);
uint64_t conflict_next_us(const struct cluster *cluster);
void conflict_received_challenge(struct cluster *cluster, const struct address *from,
                                 const struct datagram *challenge);
void conflict_received_response(struct cluster *cluster, const struct address *from,
                                const struct datagram *response);
void conflict_received_conflict(struct cluster *cluster, const struct datagram *conflict);
void conflict_done(struct cluster *cluster);

/* ring.c */

/* A member was heard of for the first time, and is not alive for so long already. */
void ring_added_lost(struct entry *entry, uint32_t age_s);
/* The status of `entry` changed. */
void ring_changed(struct cluster *cluster, struct entry *entry);
void ring_due(struct cluster *cluster);
bool ring_was_forgotten(const struct cluster *cluster, const struct node_id *id,
                        const struct member_version *version);

#endif
