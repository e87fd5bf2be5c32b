/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_FIRST_BYTE_H
#define HTTP_FIRST_BYTE_H

/*
 * first_byte: connections that have not said anything yet. One port serves people and programs
 * (HTTP) and other nodes, and the first byte tells which; until it is here, nobody can take a
 * connection over. It is looked at and left where it is. One thread; nothing here blocks, and a
 * silent connection costs 200 bytes and no time.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* Looked at in one go. */
#define FIRST_BYTE_BATCH 256

struct silent {
    int fd;
    struct sockaddr_storage address;
    socklen_t address_size;
    uint64_t since_ms;
    struct silent *prev;
    struct silent *next;
};

struct first_byte_list {
    int epoll_fd;          /* readable when one of them may have spoken; -1: not open */
    struct silent *silent; /* the oldest first */
};

/* -EMFILE. */
[[nodiscard]] int first_byte_open(struct first_byte_list *list);
/* Closes all. */
void first_byte_close(struct first_byte_list *list);

enum first_byte_state { FIRST_BYTE_HERE, FIRST_BYTE_SILENT, FIRST_BYTE_GONE };
/* Looks, without taking it. GONE: the connection has ended; the caller closes it, as always. */
enum first_byte_state first_byte_look(int fd, uint8_t *ret_byte);

/* Takes `fd`. False: it can't be watched, and is still the caller's. */
bool first_byte_add(struct first_byte_list *list, int fd, const struct sockaddr_storage *address,
                    socklen_t address_size, uint64_t now_ms);

/* Up to FIRST_BYTE_BATCH of those that have spoken or gone, taken out of the list; the caller
 * owns them: their fd, and their memory by free(). Returns how many. */
size_t first_byte_take(struct first_byte_list *list, struct silent *ret_taken[FIRST_BYTE_BATCH]);

/* The oldest, if it is silent since before `since_ms`, taken out likewise; else NULL. */
struct silent *first_byte_take_older(struct first_byte_list *list, uint64_t since_ms);

#endif
