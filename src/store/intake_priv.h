/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_INTAKE_PRIV_H
#define STORE_INTAKE_PRIV_H

/*
 * intake: what intake.c (blocks) and intake_jobs.c (changes of the index) share.
 */

#include <pthread.h>

#include "base/map.h"
#include "store/arrivals_priv.h"
#include "store/intake.h"
#include "store/writer.h"

/* A list of arrivals; it owns them. */
struct arrival_list {
    struct arrival **items;
    size_t count;
    size_t capacity;
    uint64_t bytes; /* of those that are written */
};

struct store_intake {
    struct store *store;
    struct id id;
    enum store_reason reason;
    struct file_metadata metadata;
    uint32_t *order; /* all indices in the order of their blocks' ids */

    pthread_mutex_t lock; /* over all below */
    pthread_cond_t flushed;
    uint8_t *have; /* a bit a block: it is here, or pending */
    struct store_intake_progress progress;
    struct arrival_list pending; /* not given to the writer yet */
    uint64_t flushed_ms;         /* store time when the last flush began */
    size_t flushes;              /* jobs with arrivals of ours under way */
    int flush_err;               /* of the last that failed, until one is tried again */

    UT_hash_handle hh; /* of the open ones, by file */
};

/* The open intakes of a store. */
struct intakes;
struct intakes *intakes_new(void);
void intakes_free(struct intakes *intakes);
/* -EBUSY: there is one of this file. */
[[nodiscard]] int intakes_add(struct intakes *intakes, struct store_intake *intake);
void intakes_remove(struct intakes *intakes, struct store_intake *intake);

/* Sets the bits of all blocks of this id. With the lock held, or before others know the intake. */
void intake_set_have(struct store_intake *intake, const struct id *id);
/* The first of the indices of a block's id in intake->order, and how many they are. */
const uint32_t *intake_indices(const struct store_intake *intake, const struct id *id,
                               size_t *ret_count);

/* Whether the block counts as here in the snapshot; what is to be kept needs a place that is not in
 * a followed file. Its record, if it has one. */
struct kv_txn;
[[nodiscard]] int intake_is_here(const struct store_intake *intake, struct kv_txn *txn,
                                 const struct id *id, struct block_record *ret_record,
                                 bool *ret_is);

void arrival_list_add(struct arrival_list *list, struct arrival *arrival);
/* Ends those in the list, which the index names now or never will. */
void arrival_list_settle(struct store *store, struct arrival_list *list);
void intake_free(struct store_intake *intake);

/* The jobs. All but the first wait. */

/* Counts the blocks of one part that are here, and marks them so in intake->have. The first part
 * makes the file and the intake known. */
[[nodiscard]] int intake_open_part(struct store_intake *intake, size_t part);

/* Gives the writer what is pending. Without the lock. */
void intake_flush_async(struct store_intake *intake);
/* The same and waits; what fails is pending again. Without the lock. */
[[nodiscard]] int intake_flush_wait(struct store_intake *intake);

#endif
