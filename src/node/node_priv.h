/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_NODE_PRIV_H
#define NODE_NODE_PRIV_H

#include <pthread.h>

#include "node/node.h"

struct node {
    char *data;
    char *name;
    char *zone;
    const struct clock *clock;
    uint64_t scrub_bytes_per_second;
    struct node_id id;
    struct store *store;
    struct tree *tree;
    struct maintenance *maintenance;
    struct node_counters counters;

    void (*own_changed)(void *context); /* set before the first change */
    void *own_changed_context;

    pthread_mutex_t settled_lock; /* over the two below */
    bool (*is_settled)(void *context);
    void *settled_context;

    pthread_mutex_t lock; /* over the two below */
    void (*changed)(void *context);
    void *changed_context;
};

#endif
