/* SPDX-License-Identifier: Apache-2.0 */
#include "hash/sha256.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>

#include "base/mem.h"

struct sha256 {
    gnutls_hash_hd_t handle;
};

/*
 * One call of gnutls_hash_fast() was measured against a handle kept and used again (GnuTLS 3.7.9,
 * processor with SHA instructions): the same within noise from 4 KiB on, 1.1 times as long for no
 * bytes at all. So nothing is kept between calls.
 */
void sha256_id(struct bytes data, struct id *ret_id)
{
    /* Never a NULL pointer to the library, which copies from it. */
    const void *from = data.size ? (const void *)data.data : "";
    CHECK(gnutls_hash_fast(GNUTLS_DIG_SHA256, from, data.size, ret_id->bytes) == 0);
}

struct sha256 *sha256_new(void)
{
    struct sha256 *state = mem_alloc(sizeof *state);
    /* Fails without memory, or where SHA-256 is forbidden: no node can run there. */
    CHECK(gnutls_hash_init(&state->handle, GNUTLS_DIG_SHA256) == 0);
    return state;
}

void sha256_free(struct sha256 *state)
{
    if (!state) {
        return;
    }
    gnutls_hash_deinit(state->handle, NULL);
    free(state);
}

void sha256_add(struct sha256 *state, struct bytes data)
{
    if (data.size) {
        CHECK(gnutls_hash(state->handle, data.data, data.size) == 0);
    }
}

void sha256_take(struct sha256 *state, struct id *ret_id)
{
    /* Also resets the handle (gnutls_hash_output(3)). */
    gnutls_hash_output(state->handle, ret_id->bytes);
}
