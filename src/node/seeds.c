/* SPDX-License-Identifier: Apache-2.0 */
#include "node/seeds.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/mem.h"
#include "node/resolve.h"

struct seed {
    struct seeds *seeds;
    char *text;
    char *host;
    char *port;
    struct address addresses[SEEDS_ADDRESSES_PER_NAME_MAX];
    size_t addresses_count;
    bool is_number;
    bool is_missing; /* the last look-up failed, and that was logged */
    uv_getaddrinfo_t request;
};

struct seeds {
    uv_loop_t *loop;
    seeds_found *found;
    void *context;
    size_t under_way;
    bool is_closed;
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
    seed->seeds = seeds;
    seed->text = mem_copy_string(name);
    CHECK(resolve_split(name, &seed->host, &seed->port) == 0);
    seed->is_number = address_parse(name, &seed->addresses[0]) == 0;
    seed->addresses_count = seed->is_number;
    seed->request.data = seed;
    return true;
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
    return seeds;
}

static void seeds_free(struct seeds *seeds)
{
    for (size_t i = 0; i < seeds->seeds_count; i++) {
        free(seeds->seeds[i].text);
        free(seeds->seeds[i].host);
        free(seeds->seeds[i].port);
    }
    free(seeds);
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
                 KV("error", err ? uv_err_name(err) : "no address"));
    }
}

static void round_ended(struct seeds *seeds)
{
    if (seeds->is_closed) {
        seeds_free(seeds);
    } else {
        tell(seeds);
    }
}

static void on_result(uv_getaddrinfo_t *request, int err, struct addrinfo *found)
{
    struct seed *seed = request->data;
    struct seeds *seeds = seed->seeds;
    if (!seeds->is_closed) {
        take(seed, err, found);
    }
    uv_freeaddrinfo(found);
    if (--seeds->under_way == 0) {
        round_ended(seeds);
    }
}

void seeds_look_up(struct seeds *seeds)
{
    if (seeds->under_way > 0) {
        return;
    }
    const struct addrinfo hints = {.ai_flags = AI_NUMERICSERV, .ai_socktype = SOCK_DGRAM};
    for (size_t i = 0; i < seeds->seeds_count; i++) {
        struct seed *seed = &seeds->seeds[i];
        if (seed->is_number) {
            continue;
        }
        const int err =
            uv_getaddrinfo(seeds->loop, &seed->request, on_result, seed->host, seed->port, &hints);
        seeds->under_way += err == 0;
        if (err) {
            take(seed, err, NULL);
        }
    }
    if (seeds->under_way == 0) {
        round_ended(seeds);
    }
}

void seeds_close(struct seeds *seeds)
{
    if (!seeds) {
        return;
    }
    seeds->is_closed = true;
    if (seeds->under_way == 0) {
        seeds_free(seeds);
        return;
    }
    for (size_t i = 0; i < seeds->seeds_count; i++) {
        if (!seeds->seeds[i].is_number) {
            (void)uv_cancel((uv_req_t *)&seeds->seeds[i].request);
        }
    }
}
