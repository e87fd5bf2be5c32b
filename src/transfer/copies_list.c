/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What others want to be kept here. Lists are worked off in the order in which they came, with a
 * bound on the fetches of all of them. A list lives until it is kept, given up or released; who
 * asks for one that is gone asks anew, which is cheap for the files that are here.
 */

#include <errno.h>
#include <stdlib.h>

#include "transfer/copies_priv.h"

static struct list_name name_of(const struct node_id *from, uint64_t number)
{
    struct list_name name;
    memcpy(name.bytes, from->bytes, sizeof from->bytes);
    memcpy(name.bytes + sizeof from->bytes, &number, sizeof number);
    return name;
}

static struct list *find(const struct copies *copies, const struct node_id *from, uint64_t number)
{
    const struct list_name name = name_of(from, number);
    struct list *list = NULL;
    HASH_FIND(hh_name, copies->lists_by_name, &name, sizeof name, list);
    return list;
}

static void tell(struct copies *copies, const struct node_id *to, uint64_t number,
                 enum keep_verdict verdict, uint32_t kept)
{
    const struct keep_message message = {
        .type = KEEP_KEPT,
        .number = number,
        .verdict = verdict,
        .kept = kept,
    };
    copies_send(copies, to, &message);
}

static void list_free(struct copies *copies, struct list *list)
{
    HASH_DELETE(hh, copies->lists, list);
    HASH_DELETE(hh_name, copies->lists_by_name, list);
    copies->fetches_count -= list->running_count;
    copies->counters.lists_running--;
    free(list->files);
    free(list->is_kept);
    free(list);
}

/* Starts as many fetches as there is room for. */
static void work(struct copies *copies)
{
    struct list *list;
    struct list *next;
    HASH_ITER(hh, copies->lists, list, next)
    {
        while (list->begun_count < list->files_count &&
               copies->fetches_count < COPIES_FETCHES_MAX) {
            const uint32_t index = list->begun_count++;
            list->running_count++;
            copies->fetches_count++;
            copies->host.fetch(copies->host.context, list->id, index, &list->from,
                               &list->files[index]);
        }
        if (copies->fetches_count == COPIES_FETCHES_MAX) {
            return;
        }
    }
}

/* The fetches of a list that is given up. */
static void abandon(struct copies *copies, struct list *list)
{
    for (uint32_t i = 0; i < list->begun_count; i++) {
        if (!list->is_kept[i]) {
            copies->host.fetch_end(copies->host.context, list->id, i, &list->files[i]);
        }
    }
    list_free(copies, list);
    work(copies);
}

static bool has_files(const struct list *list, struct bytes files)
{
    return files.size == list->files_count * sizeof *list->files &&
           memcmp(files.data, list->files, files.size) == 0;
}

static bool is_flooded_by(const struct copies *copies, const struct node_id *from)
{
    size_t count = 0;
    for (const struct list *list = copies->lists; list; list = list->hh.next) {
        count += node_id_equal(&list->from, from);
    }
    return count >= COPIES_LISTS_OF_ONE_MAX;
}

void list_take_keep(struct copies *copies, const struct node_id *from,
                    const struct keep_message *message)
{
    struct list *list = find(copies, from, message->number);
    if (list && has_files(list, message->files)) {
        tell(copies, from, message->number, KEEP_WORKING, list->kept_count);
        return;
    }
    if (list) {
        abandon(copies, list);
    }
    if (copies->counters.lists_running >= COPIES_LISTS_MAX || is_flooded_by(copies, from)) {
        copies->counters.lists_refused++;
        tell(copies, from, message->number, KEEP_REFUSED, 0);
        return;
    }
    list = mem_alloc(sizeof *list);
    list->id = copies->next_id++;
    list->name = name_of(from, message->number);
    list->from = *from;
    list->number = message->number;
    list->files = mem_copy(message->files.data, message->files.size);
    list->files_count = (uint32_t)(message->files.size / sizeof *list->files);
    list->is_kept = mem_alloc_array(list->files_count, sizeof *list->is_kept);
    list->news_us = copies->now_us + (uint64_t)COPIES_NEWS_MS * 1000;
    HASH_ADD(hh, copies->lists, id, sizeof list->id, list);
    HASH_ADD(hh_name, copies->lists_by_name, name, sizeof list->name, list);
    copies->counters.lists_running++;
    copies_due_at(copies, list->news_us);
    tell(copies, from, message->number, KEEP_WORKING, 0);
    work(copies);
}

void list_take_release(struct copies *copies, const struct node_id *from, uint64_t number)
{
    struct list *list = find(copies, from, number);
    if (list) {
        abandon(copies, list);
    }
}

void copies_fetched(struct copies *copies, uint64_t now_us, uint64_t id, uint32_t index, int err)
{
    copies->now_us = now_us;
    struct list *list = NULL;
    HASH_FIND(hh, copies->lists, &id, sizeof id, list);
    if (!list || index >= list->begun_count || list->is_kept[index]) {
        return; /* released meanwhile */
    }
    if (err == -EAGAIN) {
        if (!list->is_stuck) {
            tell(copies, &list->from, list->number, KEEP_REFUSED, list->kept_count);
        }
        list->is_stuck = true;
        return;
    }
    list->is_kept[index] = true; /* or not fetched any more, if that failed */
    list->running_count--;
    copies->fetches_count--;
    if (err) {
        copies->counters.lists_refused++;
        tell(copies, &list->from, list->number, KEEP_REFUSED, list->kept_count);
        abandon(copies, list);
        return;
    }
    list->kept_count++;
    if (list->kept_count == list->files_count) {
        copies->counters.lists_kept++;
        tell(copies, &list->from, list->number, KEEP_DONE, list->kept_count);
        list_free(copies, list);
    }
    work(copies);
}

void lists_tick(struct copies *copies)
{
    for (struct list *list = copies->lists; list; list = list->hh.next) {
        if (copies->now_us >= list->news_us) {
            list->news_us = copies->now_us + (uint64_t)COPIES_NEWS_MS * 1000;
            if (!list->is_stuck) {
                tell(copies, &list->from, list->number, KEEP_WORKING, list->kept_count);
            }
        }
        copies_due_at(copies, list->news_us);
    }
}

void lists_free(struct copies *copies)
{
    while (copies->lists) {
        list_free(copies, copies->lists);
    }
}
