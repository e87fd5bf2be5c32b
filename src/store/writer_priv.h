/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_WRITER_PRIV_H
#define STORE_WRITER_PRIV_H

#include <stdbool.h>

#include "store/writer.h"

struct writer;

/* Starts the thread. -EAGAIN: the system has no thread for us. */
[[nodiscard]] int writer_start(struct store *store, struct writer **ret_writer);

/* Carries out what is queued and ends the thread. NULL is allowed. */
void writer_stop(struct writer *writer);

/* True after a sync failed. */
bool writer_has_failed(const struct writer *writer);

#endif
