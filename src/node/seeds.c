/* SPDX-License-Identifier: Apache-2.0 */
#include "node/seeds.h"

#include <netdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/mem.h"
#include "node/resolve.h"

/* One question to the resolver. It belongs to its thread and to the seeds, and goes with the last
 * of the two. */
struct look_up {
    struct board *board;
    char *host;
    char *port;
    int err; /* of getaddrinfo() */
    struct addrinfo *found;
    bool is_answered;
};

/* Where threads leave their answers. */
struct board {
    pthread_mutex_t lock;
    unsigned references;
    uv_async_t *wake; /* NULL: nobody wants to know any more */
};

struct seed {
    char *text;
    char *host;
    char *port;
    struct address addresses[SEEDS_ADDRESSES_PER_NAME_MAX];
    size_t addresses_count;
    bool is_number;
    bool is_missing;         /* the last look-up failed, and that was logged */
    struct look_up *look_up; /* under way; NULL: none */
};

struct seeds {
    uv_loop_t *loop;
    uv_async_t wake;
    seeds_found *found;
    void *context;
    struct board *board;
    size_t under_way;
    struct address told[CLUSTER_SEEDS_MAX];
    size_t told_count;
    size_t seeds_count;
    struct seed seeds[];
};

/* Calls `visit` for each part of "a,b,c". */
static bool split_list(const char *names, bool (*visit)(void *context, const char *name),
                       void *context)
{
    CLEANUP_FREE char *copy = mem_copy_string(names);
    char *rest = copy;
    bool good = true;
    while (good && rest) {
        const char *name = strsep(&rest, ",");
        good = visit(context, name);
    }
    return good;
}

static bool check_one(void *context, const char *name)
{
    size_t *count = context;
    CLEANUP_FREE char *host = NULL;
    CLEANUP_FREE char *port = NULL;
    return ++*count <= CLUSTER_SEEDS_MAX && resolve_split(name, &host, &port) == 0 &&
           strtoul(port, NULL, 10) != 0;
}

bool seeds_check(const char *names)
{
    size_t count = 0;
    return split_list(names, check_one, &count);
}

static bool add_one(void *context, const char *name)
{
    struct seeds *seeds = context;
    struct seed *seed = &seeds->seeds[seeds->seeds_count++];
    seed->text = mem_copy_string(name);
    CHECK(resolve_split(name, &seed->host, &seed->port) == 0);
    seed->is_number = address_parse(name, &seed->addresses[0]) == 0;
    seed->addresses_count = seed->is_number;
    return true;
}

static void add_address(struct address *addresses, size_t *count, const struct address *address)
{
    for (size_t i = 0; i < *count; i++) {
        if (address_equal(&addresses[i], address)) {
            return;
        }
    }
    if (*count < CLUSTER_SEEDS_MAX) {
        addresses[(*count)++] = *address;
    }
}

/* The round is over. */
static void tell(struct seeds *seeds)
{
    struct address addresses[CLUSTER_SEEDS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < seeds->seeds_count; i++) {
        for (size_t j = 0; j < seeds->seeds[i].addresses_count; j++) {
            add_address(addresses, &count, &seeds->seeds[i].addresses[j]);
        }
    }
    bool is_same = count == seeds->told_count;
    for (size_t i = 0; is_same && i < count; i++) {
        is_same = address_equal(&addresses[i], &seeds->told[i]);
    }
    if (!is_same) {
        memcpy(seeds->told, addresses, count * sizeof addresses[0]);
        seeds->told_count = count;
        seeds->found(seeds->context, addresses, count);
    }
}

static void take(struct seed *seed, int err, const struct addrinfo *found)
{
    struct address addresses[SEEDS_ADDRESSES_PER_NAME_MAX];
    const size_t count = err ? 0 : resolve_found(found, addresses, SEEDS_ADDRESSES_PER_NAME_MAX);
    if (count > 0) {
        memcpy(seed->addresses, addresses, count * sizeof addresses[0]);
        seed->addresses_count = count;
        seed->is_missing = false;
    } else if (!seed->is_missing) {
        seed->is_missing = true;
        log_warn("seed_not_found", KV("seed", (const char *)seed->text),
                 KV("error", err ? gai_strerror(err) : "no address"));
    }
}

static void board_give(struct board *board)
{
    pthread_mutex_lock(&board->lock);
    const bool is_last = --board->references == 0;
    pthread_mutex_unlock(&board->lock);
    if (is_last) {
        pthread_mutex_destroy(&board->lock);
        free(board);
    }
}

static void look_up_free(struct look_up *look_up)
{
    if (look_up->found) {
        freeaddrinfo(look_up->found);
    }
    free(look_up->host);
    free(look_up->port);
    free(look_up);
}

static void *ask_resolver(void *argument)
{
    struct look_up *look_up = argument;
    struct board *board = look_up->board;
    const struct addrinfo hints = {.ai_flags = AI_NUMERICSERV, .ai_socktype = SOCK_DGRAM};
    look_up->err = getaddrinfo(look_up->host, look_up->port, &hints, &look_up->found);
    pthread_mutex_lock(&board->lock);
    const bool is_wanted = board->wake != NULL;
    look_up->is_answered = true;
    if (is_wanted) {
        uv_async_send(board->wake);
    }
    pthread_mutex_unlock(&board->lock);
    if (!is_wanted) {
        look_up_free(look_up);
    }
    board_give(board);
    return NULL;
}

static void begin(struct seeds *seeds, struct seed *seed)
{
    struct look_up *look_up = mem_alloc(sizeof *look_up);
    look_up->board = seeds->board;
    look_up->host = mem_copy_string(seed->host);
    look_up->port = mem_copy_string(seed->port);
    pthread_mutex_lock(&seeds->board->lock);
    seeds->board->references++;
    pthread_mutex_unlock(&seeds->board->lock);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    const int failed = pthread_create(&thread, &attributes, ask_resolver, look_up);
    pthread_attr_destroy(&attributes);
    if (failed) {
        board_give(seeds->board);
        look_up_free(look_up);
        take(seed, EAI_AGAIN, NULL);
        return;
    }
    seed->look_up = look_up;
    if (seeds->under_way++ == 0) {
        uv_ref((uv_handle_t *)&seeds->wake);
    }
}

static void on_answers(uv_async_t *wake)
{
    struct seeds *seeds = wake->data;
    for (size_t i = 0; i < seeds->seeds_count; i++) {
        struct seed *seed = &seeds->seeds[i];
        pthread_mutex_lock(&seeds->board->lock);
        const bool is_answered = seed->look_up && seed->look_up->is_answered;
        pthread_mutex_unlock(&seeds->board->lock);
        if (!is_answered) {
            continue;
        }
        take(seed, seed->look_up->err, seed->look_up->found);
        look_up_free(seed->look_up);
        seed->look_up = NULL;
        if (--seeds->under_way == 0) {
            uv_unref((uv_handle_t *)wake);
            tell(seeds);
        }
    }
}

struct seeds *seeds_new(uv_loop_t *loop, const char *names, seeds_found *found, void *context)
{
    size_t count = 0;
    CHECK(split_list(names, check_one, &count));
    struct seeds *seeds = mem_alloc(sizeof *seeds + count * sizeof seeds->seeds[0]);
    seeds->loop = loop;
    seeds->found = found;
    seeds->context = context;
    split_list(names, add_one, seeds);
    CHECK(uv_async_init(loop, &seeds->wake, on_answers) == 0);
    seeds->wake.data = seeds;
    uv_unref((uv_handle_t *)&seeds->wake);
    seeds->board = mem_alloc(sizeof *seeds->board);
    pthread_mutex_init(&seeds->board->lock, NULL);
    seeds->board->references = 1;
    seeds->board->wake = &seeds->wake;
    return seeds;
}

void seeds_look_up(struct seeds *seeds)
{
    if (seeds->under_way > 0) {
        return;
    }
    for (size_t i = 0; i < seeds->seeds_count; i++) {
        if (!seeds->seeds[i].is_number) {
            begin(seeds, &seeds->seeds[i]);
        }
    }
    if (seeds->under_way == 0) {
        tell(seeds);
    }
}

static void on_closed(uv_handle_t *handle)
{
    struct seeds *seeds = handle->data;
    for (size_t i = 0; i < seeds->seeds_count; i++) {
        free(seeds->seeds[i].text);
        free(seeds->seeds[i].host);
        free(seeds->seeds[i].port);
    }
    free(seeds);
}

void seeds_close(struct seeds *seeds)
{
    if (!seeds) {
        return;
    }
    struct board *board = seeds->board;
    pthread_mutex_lock(&board->lock);
    board->wake = NULL; /* who answers later frees its look-up itself */
    for (size_t i = 0; i < seeds->seeds_count; i++) {
        if (seeds->seeds[i].look_up && seeds->seeds[i].look_up->is_answered) {
            look_up_free(seeds->seeds[i].look_up);
        }
    }
    pthread_mutex_unlock(&board->lock);
    board_give(board);
    uv_close((uv_handle_t *)&seeds->wake, on_closed);
}
