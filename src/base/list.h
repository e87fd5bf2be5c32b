/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_LIST_H
#define BASE_LIST_H

/*
 * list: utlist, singly and doubly linked lists of structs that carry their own links
 * (LL_*, DL_*). Include this, never utlist.h. Manual: /usr/share/doc/uthash-dev.
 */

#include <utlist.h>

#endif
