/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_SURVEY_PRIV_H
#define NODE_SURVEY_PRIV_H

/*
 *   survey.c          who asks: rounds of questions to all members
 *   survey_measure.c  what this node has of a path, for itself and for those who ask
 */

#include "node/survey.h"
#include "wire/keep_message.h"

/* Of the files that lack, so many are looked at for how their fetches go. */
#define SURVEY_LACKING_MAX 1024u

/* survey_measure.c */

/* The first files that are not held whole. */
struct survey_lacking {
    struct id files[SURVEY_LACKING_MAX];
    size_t count;
};

/* From any thread; blocks for the disk. -ENOENT, -EFBIG, -EIO. */
[[nodiscard]] int survey_measure(const struct fetch *fetch, struct bytes path,
                                 struct survey_measure *ret_measure,
                                 struct survey_lacking *ret_lacking);
/* On the fetch thread: measures by a worker, and calls `done` on the fetch thread, once, not before
 * this returns. */
typedef void (*survey_measured_fn)(struct fetch *fetch, uint64_t number, int err,
                                   const struct survey_measure *measure,
                                   const struct keep_survey *survey);
void survey_measure_own(struct fetch *fetch, uint64_t number, struct bytes path,
                        survey_measured_fn done);
/* Likewise, and answers `from`. */
void survey_measure_for(struct fetch *fetch, const struct node_id *from,
                        const struct keep_message *question);
/* Those that wait for a worker; nobody is told. */
void survey_measures_drop(struct fetch *fetch);

/* survey.c: on the fetch thread. */

/* True: it was one about surveys. */
bool survey_message(struct fetch *fetch, const struct node_id *from, struct bytes bytes);
void survey_due(struct fetch *fetch);
uint64_t survey_next_us(const struct fetch *fetch);
void survey_end_all(struct fetch *fetch);

#endif
