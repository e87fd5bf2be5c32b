/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_MAP_H
#define BASE_MAP_H

/*
 * map: uthash, the hash table that artel uses where a plain array does not do, with memory that
 * cannot fail. Include this, never uthash.h. Its macros raise no warnings under our flags as long
 * as it is found as a system header (<uthash.h> outside our -I). Keys are compared as bytes: a
 * struct as key has no padding or is zeroed first. Iteration is in the order of addition.
 * Its manual: file:///usr/share/doc/uthash-dev, https://troydhanson.github.io/uthash/
 */

#include "base/mem.h"

#define uthash_malloc(size) mem_alloc(size)
#define uthash_free(pointer, size) free(pointer)
#define uthash_fatal(message) mem_out_of_memory()

#include <uthash.h>

#endif
