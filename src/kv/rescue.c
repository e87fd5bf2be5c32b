/* SPDX-License-Identifier: Apache-2.0 */
#include "kv/rescue_priv.h"

static int open_tables(MDB_env *env, char *const *names, size_t count, MDB_dbi *ret_dbis)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);
    if (rc) {
        return rc;
    }
    for (size_t i = 0; i < count && !rc; i++) {
        rc = mdb_dbi_open(txn, names[i], 0, &ret_dbis[i]);
    }
    if (rc) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

static int open_beside(MDB_env *env, size_t tables_count, MDB_env *ret_env)
{
    MDB_envinfo info;
    const char *path;
    int rc = mdb_env_info(env, &info);
    if (!rc) {
        rc = mdb_env_get_path(env, &path);
    }
    if (!rc) {
        rc = mdb_env_set_maxdbs(ret_env, (MDB_dbi)tables_count);
    }
    if (!rc) {
        rc = mdb_env_set_mapsize(ret_env, info.me_mapsize);
    }
    if (!rc) {
        const unsigned flags = MDB_NOTLS | MDB_NORDAHEAD | MDB_RDONLY | MDB_NOLOCK;
        rc = mdb_env_open(ret_env, path, flags, 0600);
    }
    return rc;
}

int rescue_open(MDB_env *env, char *const *names, size_t count, MDB_env **ret_env,
                MDB_dbi *ret_dbis)
{
    MDB_env *beside;
    int rc = mdb_env_create(&beside);
    if (rc) {
        return rc;
    }
    rc = open_beside(env, count, beside);
    if (!rc) {
        rc = open_tables(beside, names, count, ret_dbis);
    }
    if (rc) {
        mdb_env_close(beside);
        return rc;
    }
    *ret_env = beside;
    return 0;
}
