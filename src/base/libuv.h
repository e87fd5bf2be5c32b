/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_LIBUV_H
#define BASE_LIBUV_H

/*
 * libuv: its memory. Out of memory, libuv answers with errors in some places and aborts without a
 * word in others; with this it does as mem.h does everywhere.
 */

/* Once in a process, at the start of main(), before anything else of libuv is called. */
void libuv_use_mem(void);

#endif
