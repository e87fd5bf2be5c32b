/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_STORE_PRIV_H
#define STORE_STORE_PRIV_H

/* What the files of the store share: the store itself. */

#include <stdatomic.h>

#include "base/clock.h"
#include "kv/kv.h"
#include "store/store.h"

struct store {
    struct layout *layout;
    struct kv *kv;
    struct segments *segments;
    struct pins *pins;
    struct writer *writer; /* NULL: read-only */
    const struct clock *clock;
    uint64_t clock_base_ms;   /* store time at the opening */
    uint64_t clock_opened_ms; /* monotonic time at the opening */
    /* Ranges were given up and could not be named as dead: the next opening looks for them. */
    _Atomic bool has_gaps;
    _Atomic uint64_t corrupt_count;
    _Atomic uint64_t withdrawn_count;
    struct touched *touched;   /* cached blocks read lately */
    struct checked *checked;   /* pieces read lately; NULL: nothing is kept */
    struct arrivals *arrivals; /* blocks of intakes that the index does not name yet */
    struct intakes *intakes;   /* those that are open */
    struct held_changes *held_changes;
};

#endif
