/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TRANSFER_TRANSFER_H
#define TRANSFER_TRANSFER_H

/*
 * transfer: the receiving side: which block is asked of whom, and when. It brings file versions
 * here from everybody who has parts of them: rarest block first, from the source that is expected
 * to be soonest; again from another when one is late; and never the same twice without need.
 * README.md tells the whole of it.
 *
 * A state machine that gets the time, what arrived and a seed, and calls its host before it
 * returns. It touches no bytes of blocks and knows no connection, store or index. Times are
 * microseconds of the caller's monotonic clock. The order of things is: inputs as they come, then,
 * when transfer_next_us() is due (often at once), transfer_tick(), which does the asking.
 *
 * Threads: one at a time. The host's functions must not call back into it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "hash/id.h"
#include "wire/file_metadata.h"
#include "wire/node_id.h"
#include "wire/transfer_frame.h"

/* Sources of one file that are asked at a time; with those that asked us, and who is known besides
 * (the next ones when one fails). */
#define TRANSFER_SOURCES_MAX 32u
#define TRANSFER_SOURCES_ALL_MAX 48u
#define TRANSFER_CANDIDATES_MAX 256u
/* Fetches at work at a time; the others wait, in the order of priority and start. */
#define TRANSFER_RUNNING_MAX 512u
#define TRANSFER_FETCHES_MAX 1000000u
#define TRANSFER_PRIORITY_MAX 7
/* Somebody waits for the bytes: from this priority on so many more are at work, as there may be
 * many fetches that take long. */
#define TRANSFER_PRIORITY_READER 6
#define TRANSFER_RUNNING_READERS_MAX 256u
/* Larger blocks go one to a request, so that each can be cancelled. */
#define TRANSFER_BATCHED_BYTES_MAX 65536u
/* Bytes asked for and not here, of all fetches: as much as keeps all sources at work, between
 * these. Who holds buffers for them is bounded by the latter, plus one block. */
#define TRANSFER_WINDOW_BYTES_MIN ((uint64_t)1024 * 1024)
#define TRANSFER_WINDOW_BYTES_MAX ((uint64_t)256 * 1024 * 1024)
/* A source that gave so many bad blocks is not asked for so long. */
#define TRANSFER_BAD_BLOCKS_MAX 3u
#define TRANSFER_SHUNNED_MS 600000u
/* Without room on the disk everything waits so long. */
#define TRANSFER_NOSPACE_MS 3000u
/* Searches for single blocks at a time, of one file. */
#define TRANSFER_BLOCK_FINDS_MAX 64u
/* Readers of one file. */
#define TRANSFER_READERS_MAX 64u
#define TRANSFER_MEMBERS_MAX 16384u
/* Members named in one OFFER or refusal that are looked at. */
#define TRANSFER_NAMED_MAX 32u

struct transfer;

/* One block of a request. */
struct transfer_part {
    struct id id;
    uint32_t index; /* in the list of the file */
    uint32_t size_bytes;
};

struct transfer_host {
    /* ASK; answered by transfer_offer() with the same number, or by transfer_peer_lost(). */
    void (*ask)(void *context, const struct node_id *peer, uint32_t number, uint8_t flags,
                const struct id *file);
    /* STOP: no more of it needs to be told. */
    void (*stop)(void *context, const struct node_id *peer, const struct id *file);
    /* REQUEST; each position is answered once, by transfer_block() or transfer_refused(), or all of
     * them by transfer_peer_lost(). Parts are borrowed. */
    void (*request)(void *context, const struct node_id *peer, uint32_t number, bool insists,
                    const struct id *file, const struct transfer_part *parts, size_t parts_count);
    /* CANCEL: what of it has not come is not wanted any more. Its blocks may still come, and may be
     * told by transfer_block() or not. */
    void (*cancel)(void *context, const struct node_id *peer, uint32_t number);

    /* Who has this file, or this block? Told by transfer_found(), never within the call, until it
     * is final or ended. `everyone`: whom the index named did not have it, or not all of it. One at
     * a time for each file and for each block; a block may have the id of a file. */
    void (*find)(void *context, const struct id *id, bool is_block,
                 const struct node_id *publisher_or_null, bool everyone);
    void (*find_end)(void *context, const struct id *id, bool is_block);

    /* Metadata from a peer, to be checked against the file id, and the intake begun (it may be open
     * already). Empty text: look again at what the intake has. Answered by transfer_opened(), once.
     * The text is borrowed. */
    void (*open)(void *context, const struct id *file, struct bytes metadata_text);
    /* A block that another fetch brought is to be put into the intake of this file too. Answered by
     * transfer_copied(), once. */
    void (*copy)(void *context, const struct id *file, uint32_t index);
    /* All blocks are here: make it a file. Answered by transfer_committed(), once. */
    void (*commit)(void *context, const struct id *file);

    /* Its status is another one (blocks that came are not told), or it found the disk full again.
     */
    void (*changed)(void *context, const struct id *file);
    /* It is over, and no longer known here: 0; -ENOENT: nobody has it (all of it), all said so;
     * -EHOSTUNREACH: nobody found, but not all could be asked; other errors of open and commit.
     * transfer_status() and transfer_visit_sources() still know it within this call. */
    void (*ended)(void *context, const struct id *file, int err);
    /* It gave TRANSFER_BAD_BLOCKS_MAX blocks, or lists of them, that were not what they should
     * be. */
    void (*shunned)(void *context, const struct node_id *peer);
    void *context;
};

struct transfer_options {
    struct node_id id; /* this node */
    uint64_t random_seed;
    uint64_t rate_bytes_per_s; /* at most; 0: as fast as it goes */
    struct transfer_host host;
};

struct transfer_member {
    struct node_id id;
    bool is_alive;
    bool is_near; /* of the same zone */
};

struct transfer *transfer_new(const struct transfer_options *options, uint64_t now_us);
/* Fetches end without a word. NULL is allowed. */
void transfer_free(struct transfer *transfer);

/* All members known, in any order, once each; whoever is not in it or not alive is not asked.
 * To be called whenever it changed. Copied. */
void transfer_set_members(struct transfer *transfer, uint64_t now_us,
                          const struct transfer_member *members, size_t members_count);

/* Begins to fetch a file, or gives one that is fetched a higher priority: from 0 to
 * TRANSFER_PRIORITY_MAX, the highest goes first; what is beyond is as the limit. -EBUSY:
 * TRANSFER_FETCHES_MAX. A caller that has its metadata and an intake already calls
 * transfer_opened() after it. */
[[nodiscard]] int transfer_start(struct transfer *transfer, uint64_t now_us, const struct id *file,
                                 const struct node_id *publisher_or_null, int priority);
/* It is forgotten; ended() is not called. Answers that are still to come may be given or not. */
void transfer_stop(struct transfer *transfer, uint64_t now_us, const struct id *file);

/* The answer to open(), or more than was asked for. `metadata` is borrowed until the fetch ended or
 * was stopped; `have` (bit i % 8 of byte i / 8; borrowed for the call): which of its blocks are
 * here. -EBADMSG: the text was wrong. -ENOSPC, -EBUSY, -EAGAIN: tried again; any other error ends
 * the fetch. */
void transfer_opened(struct transfer *transfer, uint64_t now_us, const struct id *file, int err,
                     const struct file_metadata *metadata, const uint8_t *have);
void transfer_copied(struct transfer *transfer, uint64_t now_us, const struct id *file,
                     uint32_t index, int err);
/* -EAGAIN: a block lacks after all; -ENOSPC, -EBUSY: tried again; any other error ends it. */
void transfer_committed(struct transfer *transfer, uint64_t now_us, const struct id *file, int err);

struct transfer_offer {
    enum transfer_state state;
    struct bytes metadata_text; /* unchecked; empty: none */
    struct bytes have; /* of TRANSFER_PARTIAL; shorter or longer than it should be: so be it */
    const struct node_id *others; /* who else fetches it */
    size_t others_count;
};
/* What peers said; lies and nonsense cost a question each. Everything is borrowed for the call. */
void transfer_offered(struct transfer *transfer, uint64_t now_us, const struct node_id *peer,
                      uint32_t number, const struct transfer_offer *offer);
void transfer_more(struct transfer *transfer, uint64_t now_us, const struct node_id *peer,
                   const struct id *file, const uint32_t *indices, size_t indices_count);

/* A block of a request came and was dealt with: 0: it is in the intake. -EBADMSG: wrong bytes.
 * -ENOSPC, -EIO and others: it could not be written. */
void transfer_block(struct transfer *transfer, uint64_t now_us, const struct node_id *peer,
                    uint32_t number, uint16_t position, int err);

/* BUSY and LIMIT: ask later, or those that are named; NOT_HERE and BAD: not any more. */
void transfer_refused(struct transfer *transfer, uint64_t now_us, const struct node_id *peer,
                      uint32_t number, uint16_t position, enum transfer_refusal why,
                      const struct node_id *given_to, size_t given_to_count);

/* So many bytes of blocks arrived from it since the last such call; to be told while a block is on
 * its way too (every 20 ms or so), as proof of life and for rates. */
void transfer_received(struct transfer *transfer, uint64_t now_us, const struct node_id *peer,
                       uint64_t bytes_count);
/* Its stream ended, or could not be opened: what was asked there is not answered any more. */
void transfer_peer_lost(struct transfer *transfer, uint64_t now_us, const struct node_id *peer);

/* `peer` asked us for a file that it fetches itself; ignored unless it is fetched here too. */
void transfer_asked(struct transfer *transfer, uint64_t now_us, const struct node_id *peer,
                    const struct id *file);

struct transfer_holder {
    struct node_id node;
    enum transfer_state state;
};
/* Of find(): all holders known up to now. `unasked_count`: with is_final, members that could not be
 * asked or did not answer. */
void transfer_found(struct transfer *transfer, uint64_t now_us, const struct id *id, bool is_block,
                    const struct transfer_holder *holders, size_t holders_count, bool is_final,
                    size_t unasked_count);

/* A reader of the file (the caller's number) reads from block `first` on, `count` of them; what
 * follows is read ahead. 0 blocks: it has gone. -ENOENT: it is not fetched; -EBUSY: too many. */
[[nodiscard]] int transfer_want(struct transfer *transfer, uint64_t now_us, const struct id *file,
                                uint64_t reader, uint32_t first, uint32_t count);

/* Does what is due: asks, requests, ends. */
void transfer_tick(struct transfer *transfer, uint64_t now_us);
/* When transfer_tick() has something to do; 0: now; UINT64_MAX: never without an input. */
uint64_t transfer_next_us(const struct transfer *transfer);

#endif
