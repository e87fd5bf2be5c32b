/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_NETWORK_H
#define NODE_NETWORK_H

/*
 * network: this node among others. It owns the core thread, which drives the membership protocol
 * (cluster/cluster.h) by the UDP socket and timers, and the link, over which members exchange what
 * is longer than a datagram. The core thread never waits for disk or network; what it has to keep
 * goes to the file `members` (node/members_file.h) by a worker. The replica (node/replica.h), with
 * a thread of its own, keeps the tree the same as theirs.
 *
 * Threads: all functions from any thread, but for opening, starting and closing.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "link/link.h"
#include "link/udp.h"
#include "node/member_events.h"
#include "node/node.h"

struct network;
struct replica;   /* node/replica.h */
struct fetch;     /* node/fetch.h */
struct followers; /* node/followers.h */

/* Names of --join are looked up again so often: while no other member is known, and later, so that
 * a name that has moved is noticed. */
#define NETWORK_LOOK_UP_ALONE_MS 5000u
#define NETWORK_LOOK_UP_MS 60000u
/* Changes of the roster are written so often at most. */
#define NETWORK_SAVE_MS 5000u

/* Slower, a block would take minutes; faster, nothing is. */
#define NETWORK_RATE_MIN ((uint64_t)64 << 10)
#define NETWORK_RATE_MAX ((uint64_t)1 << 40)

enum network_end {
    NETWORK_LEFT = 1,     /* network_leave(MEMBER_LEFT) is done: the process is to end */
    NETWORK_CONFLICT = 2, /* another node with our id is older: the process is to end */
};

struct network_options {
    struct address listen;    /* for UDP; port 0: any free one */
    struct address advertise; /* where others reach this node; port 0: found out */
    const char *join;         /* as seeds_check() takes it; NULL: nobody */
    unsigned link_threads;    /* 0: one per core */
    /* Bytes a second of content that comes from other nodes, and that goes to them: 0: as fast as
     * it goes, else NETWORK_RATE_MIN to NETWORK_RATE_MAX. */
    uint64_t download_rate;
    uint64_t upload_rate;
    uint64_t cache_bytes; /* of content that is here as cache alone; 0: no limit */
    /* Asked what they follow, as long as the network is open; NULL: nothing. */
    const struct followers *followers;
    /* Called once on the core thread; must not block. `other` is set for a conflict only. */
    void (*ended)(void *context, enum network_end why, const struct address *other);
    void *context;
};

/* Reads what is known from earlier, takes a new incarnation and keeps it, binds the socket. Until
 * network_start() nothing is sent. `node` outlives the network, which the caller gives back to
 * network_close(). -EBUSY: the port is taken; -EINVAL: no address of this machine, or `join` makes
 * no sense; -ENOENT: it listens on all addresses, and none of them is one that others could reach;
 * -EACCES, -EMFILE, -EAGAIN, -EIO. Blocks for the disk. */
[[nodiscard]] int network_open(struct node *node, const struct network_options *options,
                               struct network **ret_network);

/* Where it listens; the port for UDP is that of TCP. */
struct address network_address(const struct network *network);

/* Lets the core thread go, which network_open() made: this can't fail, so whoever was let in
 * meanwhile and wants this node to leave does not wait in vain. */
void network_start(struct network *network);

/* Ends the threads, writes the roster; blocks for that. Nobody else calls here any more. Others
 * are told nothing: that is network_leave(). NULL is allowed. */
void network_close(struct network *network);

/* Takes over a connection whose first byte is LINK_FIRST_BYTE. */
void network_accept(struct network *network, int fd);

/* Tells others good-bye (MEMBER_LEFT: for good; MEMBER_UNREACHABLE: a stop) and calls `done` when
 * they know, or it took CLUSTER_LEAVE_MS; on the core thread, never before this returns. `done` of
 * a network that has left already comes soon. Between network_open() and network_close(); nothing
 * happens before network_start(). */
void network_leave(struct network *network, enum member_status status, void (*done)(void *context),
                   void *context);
/* The same, and waits for it. */
void network_leave_wait(struct network *network, enum member_status status);

/* All members, this node too, in the order of their ids. The caller frees *ret_members. */
size_t network_members(struct network *network, struct member_info **ret_members);

/* The member that writes the log `origin`, and its name; false: no member does that is known. */
bool network_writer(struct network *network, const struct origin_id *origin,
                    struct node_id *ret_id);
bool network_writer_name(struct network *network, const struct origin_id *origin,
                         char ret_name[MEMBER_NAME_BYTES_MAX + 1]);

struct network_summary {
    size_t alive_count; /* this node too */
    size_t unreachable_count;
    size_t left_count;
    bool is_isolated; /* there are others, and none answers */
    /* Every member that spoke to us within NETWORK_AGREE_MS told the list of members that we have;
     * false while isolated. */
    bool agrees;
    bool trees_agree; /* likewise of its version vector and its tree */
};
/* Three rounds of probes; each member hears from its observers in each. */
#define NETWORK_AGREE_MS (3 * CLUSTER_PROBE_MS)

void network_summarise(struct network *network, struct network_summary *ret_summary);

/* Events of membership. */
const struct member_events *network_events(const struct network *network);
/* Called on the core thread after events were added. One listener, which must not block; NULL
 * takes it away, and it is not called any more when that returns. */
void network_listen(struct network *network, void (*changed)(void *context), void *context);

struct network_counters {
    struct cluster_counters cluster;
    struct udp_counters udp;
    struct link_counters link;
    uint64_t messages_dropped;   /* came over the link faster than they were taken */
    uint64_t broadcasts_dropped; /* ops and news of the tree that found no room */
    uint64_t saves;
    uint64_t saves_failed;
};
void network_read_counters(struct network *network, struct network_counters *ret_counters);

/* The part that keeps the tree the same; as long as the network. */
struct replica *network_replica(struct network *network);

/* The part that finds and fetches content; likewise. */
struct fetch *network_fetch(struct network *network);

#endif
