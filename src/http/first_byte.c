/* SPDX-License-Identifier: Apache-2.0 */
#include "http/first_byte.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/err.h"
#include "base/list.h"
#include "base/mem.h"

int first_byte_open(struct first_byte_list *list)
{
    list->silent = NULL;
    list->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    return list->epoll_fd < 0 ? err_from_errno(errno) : 0;
}

void first_byte_close(struct first_byte_list *list)
{
    while (list->silent) {
        struct silent *silent = list->silent;
        DL_DELETE(list->silent, silent);
        close(silent->fd);
        free(silent);
    }
    if (list->epoll_fd >= 0) {
        close(list->epoll_fd);
    }
    list->epoll_fd = -1;
}

enum first_byte_state first_byte_look(int fd, uint8_t *ret_byte)
{
    const ssize_t size = recv(fd, ret_byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (size > 0) {
        return FIRST_BYTE_HERE;
    }
    return size < 0 && (errno == EAGAIN || errno == EINTR) ? FIRST_BYTE_SILENT : FIRST_BYTE_GONE;
}

bool first_byte_add(struct first_byte_list *list, int fd, const struct sockaddr_storage *address,
                    socklen_t address_size, uint64_t now_ms)
{
    struct silent *silent = mem_alloc(sizeof *silent);
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = silent};
    silent->fd = fd;
    silent->address = *address;
    silent->address_size = address_size;
    silent->since_ms = now_ms;
    if (epoll_ctl(list->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        free(silent);
        return false;
    }
    DL_APPEND(list->silent, silent);
    return true;
}

static void take_out(struct first_byte_list *list, struct silent *silent)
{
    struct epoll_event unused = {0};
    (void)epoll_ctl(list->epoll_fd, EPOLL_CTL_DEL, silent->fd, &unused);
    DL_DELETE(list->silent, silent);
}

size_t first_byte_take(struct first_byte_list *list, struct silent *ret_taken[FIRST_BYTE_BATCH])
{
    struct epoll_event events[FIRST_BYTE_BATCH];
    const int count = epoll_wait(list->epoll_fd, events, FIRST_BYTE_BATCH, 0);
    for (int i = 0; i < count; i++) {
        ret_taken[i] = events[i].data.ptr;
        take_out(list, ret_taken[i]);
    }
    return count > 0 ? (size_t)count : 0;
}

struct silent *first_byte_take_older(struct first_byte_list *list, uint64_t since_ms)
{
    struct silent *oldest = list->silent;
    if (!oldest || oldest->since_ms >= since_ms) {
        return NULL;
    }
    take_out(list, oldest);
    return oldest;
}
