/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KV_RESCUE_PRIV_H
#define KV_RESCUE_PRIV_H

/*
 * rescue: reads go on when LMDB gives up. When the last write of a commit fails, that of its root,
 * LMDB refuses everything from then on, reads too (MDB_PANIC). But what was committed before is
 * there, and nobody changes it any more: the process that writes is this one. So there is a second,
 * read-only environment on the same file. It takes neither locks nor slots of readers, so that it
 * may stand beside the first; its map costs address space alone.
 */

#include <lmdb.h>
#include <stddef.h>

/* `env` has panicked; `names` (count of them) are its tables. The caller gives *ret_env to
 * mdb_env_close(). Gives an error of LMDB's. */
[[nodiscard]] int rescue_open(MDB_env *env, char *const *names, size_t count, MDB_env **ret_env,
                              MDB_dbi *ret_dbis);

#endif
