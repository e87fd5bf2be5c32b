/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_HELD_PRIV_H
#define STORE_HELD_PRIV_H

/*
 * held: the changes of one transaction, gathered while it is made and told when it is committed.
 *
 * Threads: held_note(), held_forget() and held_tell() on the writer thread alone.
 */

#include "store/held.h"

struct held_changes;

struct held_changes *held_changes_new(void);
void held_changes_free(struct held_changes *changes);

/* What the transaction that is being made changes. Cheap while nobody watches. */
void held_note(struct store *store, const struct id *id, bool is_file, enum store_held_state state);
/* The transaction is begun anew, or was not committed. */
void held_forget(struct store *store);
/* It is committed. */
void held_tell(struct store *store);

#endif
