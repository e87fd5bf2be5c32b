/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FOLLOW_ENGINE_PRIV_H
#define FOLLOW_ENGINE_PRIV_H

/*
 * engine: what follow.c, round.c, land.c and version.c share. All of it belongs to the thread of
 * follow_run(), but for the queue of items, which the reader of the stream fills.
 *
 * An event says where to look, never what to do: the node is asked what stands there now, that is
 * compared with the places, and the difference is made up. So an event that comes twice, late or
 * never (behind a gap everything is looked at) does no harm.
 *
 * Errors of the functions are those of the directory and of places; the follower ends with them.
 * Of the node they are reported, and tried again.
 */

#include <pthread.h>

#include "base/backoff.h"
#include "client/changes.h"
#include "follow/adopter_priv.h"
#include "follow/arrive_priv.h"
#include "follow/follow.h"
#include "follow/hooks_priv.h"
#include "follow/local_priv.h"
#include "follow/places_priv.h"
#include "follow/wanted_priv.h"

/* Events that were told and not looked at yet; then the stream waits. */
#define ITEMS_MAX 4096u
/* Files that are here without a name, and get theirs together. */
#define STAGED_MAX 256u

enum item_kind { ITEM_EVENT, ITEM_GAP, ITEM_POSITION, ITEM_BROKEN, ITEM_END };

/* What the stream told. */
struct item {
    enum item_kind kind;
    char *event; /* or why the stream broke */
    char *path;
    char *from;
    char *cursor;
    char *token;
    int err;
    struct item *next;
};

/* A set of paths. */
struct path_set {
    UT_hash_handle hh;
    char path[];
};
void path_set_add(struct path_set **set, const char *path);
bool path_set_has(const struct path_set *set, const char *path);
void path_set_free(struct path_set **set);

/* One run of the command for all that an event brought (a rename): due when the last of it is
 * there. */
struct summary {
    char *json;
    char *path;
    char *from;
    size_t left; /* wishes, and one for the round itself */
};

/* A file that is to arrive. */
struct wish {
    UT_hash_handle hh; /* by its place */
    struct id id;
    uint64_t length_bytes;
    mode_t mode;
    struct timespec mtime;
    uint64_t generation; /* of the arrival that is under way, or will be */
    uint64_t version;    /* the directory version that it is for, or 0 */
    bool is_begun;
    bool is_waiting; /* it failed; not before due_ms again */
    uint64_t due_ms;
    unsigned failures;
    struct summary *summary; /* or NULL */
    struct wish *prev;       /* in `todo`, until it is begun */
    struct wish *next;
    char path[];
};

/* A version of a directory that is being put together. */
struct build {
    uint64_t number;
    char *root;
    size_t left;   /* wishes that have not arrived */
    bool is_again; /* the directory has changed since */
    struct build *next;
};

struct follow {
    struct follow_options options;
    char *address;
    char *pattern;
    char *dir; /* absolute */
    char *command;
    struct client *client;
    struct client *watching; /* the reader's */
    struct local *local;
    struct places *places;
    struct arrive *arrive;
    struct hooks *hooks;
    struct adopter *adopter;
    struct changes *changes;
    _Atomic bool is_stopped;
    pthread_t reader;
    bool has_reader;
    pthread_mutex_t report_lock;
    char *trouble; /* the last, until all is well again; under that lock */

    pthread_mutex_t lock; /* over what follows */
    pthread_cond_t changed;
    struct item *items;
    struct item *items_last;
    size_t items_count;
    bool has_arrivals;

    /* The engine's. */
    struct wish *wishes;
    struct wish *todo;
    size_t begun_count;   /* not taken back */
    size_t waiting_count; /* wishes that wait for their time */
    uint64_t generation;
    struct arrival *staged[STAGED_MAX];
    size_t staged_count;
    uint64_t staged_ms; /* when the first of them came */
    struct build *builds;
    struct path_set *touched; /* directories whose names are to be synced, by one path in each */
    struct path_set *later;   /* to be looked at in the next round */
    size_t summaries_count;
    char *cursor; /* to be kept when no summary is open */
    char *token;
    bool is_full_due;
    bool has_compared; /* everything, since the start */
};

/* ---- follow.c ----------------------------------------------------------------------------------
 */

void follow_tell(struct follow *follow, const struct follow_report *report);
void follow_tell_trouble(struct follow *follow, const char *path, const char *why);
/* An arrival: the run of the command becomes due with the batch of places; no `event`: none. */
void follow_arrived(struct follow *follow, const char *event, const char *path, const char *from,
                    const struct id *id);

/* ---- round.c -----------------------------------------------------------------------------------
 */

/* Looks at what the items are about. */
[[nodiscard]] int round_run(struct follow *follow, struct item *items, bool is_full);

/* ---- settled.c ---------------------------------------------------------------------------------
 */

/* False: the node has lost its tree, so that what it lacks is no reason to remove anything. */
bool settled_is(struct follow *follow);

/* Waits until it has. False: it is the end. */
bool settled_wait(struct follow *follow);

/* Waits a moment. False: it is the end. */
bool settled_pause(const struct follow *follow, struct backoff *backoff);

/* ---- land.c ------------------------------------------------------------------------------------
 */

/* `wanted` is to arrive at `path`, for the directory version or 0. */
void wish_add(struct follow *follow, const struct wanted *wanted, const char *path,
              uint64_t version, struct summary *summary);
struct wish *wish_find(struct follow *follow, const char *path);
void wish_drop(struct follow *follow, struct wish *wish);
void summary_release(struct follow *follow, struct summary *summary);

/* Begins as many as there is room for. */
void wishes_begin(struct follow *follow);
/* Takes what has arrived; gives it names if it is enough, or nothing else is on its way. */
[[nodiscard]] int wishes_land(struct follow *follow);
/* When the next one that waits is due, or UINT64_MAX. */
uint64_t wishes_due_ms(const struct follow *follow);

/* Decides at the start what became of files that were about to get their names. */
void land_recover(struct follow *follow);

/* Makes room at `path` for what is to come: what is not ours is kept beside. */
[[nodiscard]] int land_clear(struct follow *follow, const char *path);
/* Directories above `path` that stand only because of it. */
void land_note_parents(struct follow *follow, const char *path);
/* And those that nobody wants, when the last of what is in them has gone. */
void land_remove_parents(struct follow *follow, const char *path);
[[nodiscard]] int land_remove(struct follow *follow, struct place *place);
[[nodiscard]] int land_directory(struct follow *follow, const struct wanted *wanted,
                                 const char *path, uint64_t version);
[[nodiscard]] int land_link(struct follow *follow, const struct wanted *wanted, const char *path,
                            uint64_t version);
/* True if just that link stands at `path`. */
bool land_is_link(struct follow *follow, const struct wanted *wanted, const char *path);
/* The same content with another mode or time. */
[[nodiscard]] int land_touch(struct follow *follow, const struct wanted *wanted,
                             struct place *place);
/* A file that stands there already. */
void land_adopt(struct follow *follow, const struct wanted *wanted, const char *path,
                const struct stat *info, uint64_t version);
/* Moves what is aside, and says so. */
[[nodiscard]] int land_keep(struct follow *follow, const char *path);

/* The names in the directory of `path` have changed. */
void land_touched(struct follow *follow, const char *path);
/* Syncs those directories, and commits. */
[[nodiscard]] int land_commit(struct follow *follow);

/* ---- version.c ---------------------------------------------------------------------------------
 */

/* Brings a directory that is switched up to date; begins a version if need be. *ret_begun: that
 * will tell of its arrival. */
[[nodiscard]] int version_look(struct follow *follow, const char *path, bool *ret_begun);
/* A wish of it has arrived. */
[[nodiscard]] int version_landed(struct follow *follow, uint64_t number);
/* A wish of it could not be had: what has replaced it meanwhile is not held up. */
void version_failed(struct follow *follow, uint64_t number);
/* Ends at the start what was begun: half-made versions go, a link that was to be switched is. */
[[nodiscard]] int version_recover(struct follow *follow);
void version_free_builds(struct follow *follow);
/* Where a version of a directory stands; the caller frees it. */
char *version_path(const char *root, uint64_t number);

/* ---- renew.c -----------------------------------------------------------------------------------
 */

/* After a switch, and when versions went: has the files adopted that versions share. */
void version_renew(struct follow *follow);

#endif
