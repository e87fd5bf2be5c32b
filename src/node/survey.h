/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_SURVEY_H
#define NODE_SURVEY_H

/*
 * survey: how many nodes have a path whole, asked of all of them again and again until enough do.
 *
 * Each node answers for itself: it walks its own tree below the path and looks which of the files
 * its store holds whole. So what is told is what is so, not what others heard; a node counts when
 * its tree shows exactly these files there (a digest over paths and ids) and all are held by it; if
 * followers are asked for, only if all stand in directories of those who follow them there. A
 * question is one message of the size of a path, an answer 54 bytes, however many files there are.
 *
 * What is waited for is what this node's tree shows there: if that changes meanwhile, everybody is
 * asked anew. Unreachable members count among those that lack it, those that left for good do not
 * count. Who has it whole is not asked again.
 *
 * Part of the fetch (node/fetch.h), by whose thread it lives. Threads: any; callbacks come on the
 * fetch thread, never before the call returns that asked for them, and must not block.
 */

#include "node/fetch.h"

#define SURVEY_WAIT_MS_MAX ((uint64_t)60 * 1000)
/* At a time, of this node; beyond: -EBUSY. Each sends a message to every member, again and again.
 */
#define SURVEYS_MAX 64u
/* Files below one path; beyond: -EFBIG. */
#define SURVEY_FILES_MAX 1000000u
/* Questions of others that wait for the disk of this node; beyond, they are told to ask again. */
#define SURVEY_MEASURES_MAX 64u
#define SURVEY_PPM 1000000u

struct survey_options {
    struct bytes path;    /* checked by path_check(); copied */
    const char *zone;     /* only nodes of this zone are asked and counted; NULL: all; copied */
    uint64_t nodes_count; /* at least so many shall have it; 0: not said */
    uint32_t quorum_ppm;  /* at least this part of them; 0: not said. Of neither: all of them */
    bool is_of_followers; /* only what followers have in their directories counts */
    uint64_t wait_ms;     /* each is asked once in any case, and then again until this is over */
};

enum survey_outcome {
    SURVEY_WHOLE = 1,
    SURVEY_PART,
    SURVEY_OTHER, /* its tree shows something else there, or nothing yet */
    SURVEY_BUSY,  /* it could not tell */
    /* Of those that may have it whole, if followers are asked for: */
    SURVEY_NO_FOLLOWER, /* nothing fetches it, and nobody is known to follow it there */
    SURVEY_NOT_LANDED,  /* whole, but not all of it stands in a follower's directory */
    SURVEY_OLDER,       /* its version does not tell of followers */
    SURVEY_SILENT,
    SURVEY_UNREACHABLE,
};

/* What goes on with what lacks, of SURVEY_PART: 0, or an enum fetch_state. */
struct survey_member {
    struct node_id id;
    enum survey_outcome outcome;
    int state;
    uint32_t files_count;
    uint32_t whole_count;
    uint32_t followed_count; /* in the directories of followers */
    uint64_t length_bytes;
    uint64_t here_bytes;
    uint64_t rate_bytes_per_second;
};

/* What this node's tree shows at a path, and how much of it the store holds. */
struct survey_measure {
    bool is_file;
    struct id file;   /* if it is one */
    struct id digest; /* over the relative path and the id of each file, in the order of a walk */
    uint32_t files_count;
    uint32_t whole_count;
    uint32_t followed_count; /* held for STORE_FOLLOW (store/adopt.h) */
    bool has_follower;       /* a follower of this node's settings follows one of them */
    uint64_t length_bytes;
    uint64_t whole_bytes;
};

struct survey_result {
    struct survey_measure measure; /* last seen */
    bool is_replaced;              /* it was something else when the survey began */
    bool is_reached;
    size_t members_count; /* counted: all that did not leave, of the zone */
    size_t wanted_count;  /* at least 1 */
    size_t have_count;
    const struct survey_member *members; /* by their ids; borrowed for the call */
};

/* `result` is NULL with an error: -ENOENT: nothing is there, or a link; -EFBIG; -EBUSY; -EIO;
 * -ECANCELED. */
typedef void (*survey_done_fn)(void *context, int err, const struct survey_result *result);

/* `done` once: enough have it, or the time is over. */
void survey_begin(struct fetch *fetch, const struct survey_options *options, survey_done_fn done,
                  void *context);
/* Nobody waits for the one with this context any more: `done` comes soon, unless it was called. */
void survey_cancel(struct fetch *fetch, void *context);

#endif
