/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_SWARM_PRIV_H
#define SIM_SWARM_PRIV_H

/* The state of a swarm: swarm.c (nodes and their story), swarm_wire.c (what they say). */

#include "base/random.h"
#include "sim/pipe.h"
#include "sim/swarm.h"
#include "transfer/status.h"
#include "transfer/transfer.h"
#include "transfer/upload.h"

struct sim_swarm;
struct message;
struct delivery;

struct follower {
    uint32_t node;
    uint32_t told_count; /* of what came */
};

struct node {
    struct sim_swarm *swarm;
    uint32_t index;
    uint32_t part; /* nodes of other parts are out of reach */
    bool is_up;
    bool is_frozen;
    bool is_fetching;
    bool has_ended;
    bool has_list; /* knows the list of blocks */
    int err;
    struct transfer *transfer;
    struct upload *upload;
    uint64_t tick_us; /* of the next tick that is planned */
    uint64_t send_us; /* and of the next look at what is to be sent */
    uint8_t *have;
    uint32_t have_count;
    uint32_t *grown; /* what came, in order */
    uint32_t grown_count;
    struct follower *followers; /* who is told of it, in turns */
    size_t followers_count;
    size_t followers_capacity;
    size_t followers_next;
    bool is_telling;
    uint64_t told_us;
    uint64_t started_us;
    uint64_t took_us;
    uint64_t sent_bytes;
    uint64_t received_bytes;
    uint64_t duplicate_bytes;
    uint64_t raced_bytes;
};

struct sim_swarm {
    struct sim_swarm_options options;
    struct sim_engine *engine;
    struct sim_pipes *pipes;
    struct random random;
    struct node *nodes;
    struct id file;
    struct file_metadata metadata;
    uint32_t *holders; /* nodes that have something, in the order in which they got it */
    size_t holders_count;
    size_t fetching_count;
    struct message *messages; /* under way */
    struct delivery *deliveries;
    uint64_t messages_count;
    uint64_t trace;
};

struct node_id swarm_node_id(uint32_t index);
uint32_t swarm_index(const struct node_id *id);
bool swarm_has(const struct node *node, uint32_t block);
bool swarm_reaches(const struct sim_swarm *swarm, uint32_t from, uint32_t to);
/* A block has come into its store. */
void swarm_hold(struct node *node, uint32_t block);
/* After an input: lets it do what is due, and plans the next time. */
void swarm_pump(struct node *node);
void swarm_at(struct sim_swarm *swarm, uint64_t after_us,
              void (*run)(void *context, uint64_t argument), void *context, uint64_t argument);
/* Something was seen at this time. */
void swarm_note(struct sim_swarm *swarm, uint64_t what);

/* swarm_wire.c */
struct transfer_host swarm_wire_host(struct node *node);
struct sim_pipes_host swarm_wire_pipes(struct sim_swarm *swarm);
void swarm_wire_pump(struct node *node);
/* Its list of blocks is read, or that of another one has come. */
void swarm_wire_open(struct node *node);
void swarm_wire_grew(struct node *node, uint32_t block);
/* All that are connected with it hear that it is not there any more. */
void swarm_wire_cut(struct sim_swarm *swarm, uint32_t node);
/* This one hears it of all that are out of its reach. */
void swarm_wire_give_up(struct sim_swarm *swarm, uint32_t node);
void swarm_wire_done(struct sim_swarm *swarm);

#endif
