/* SPDX-License-Identifier: Apache-2.0 */
#include "http/known.h"

#include <stdlib.h>

#include "base/mem.h"

/* People are told of so many by name. */
#define NAMED_MAX 8u

void known_init(struct known *known, struct network *network)
{
    known->count = network_members(network, &known->members);
    known->shunned_count = fetch_shunned(network_fetch(network), known->shunned);
}

void known_done(struct known *known)
{
    free(known->members);
    *known = (struct known){0};
}

static int order_members(const void *left, const void *right)
{
    const struct member_info *a = left;
    const struct member_info *b = right;
    return node_id_compare(&a->id, &b->id);
}

const struct member_info *known_find(const struct known *known, const struct node_id *id)
{
    const struct member_info key = {.id = *id};
    return bsearch(&key, known->members, known->count, sizeof key, order_members);
}

const struct member_info *known_find_at(const struct known *known, const struct address *address)
{
    for (size_t i = 0; i < known->count; i++) {
        if (address_equal(&known->members[i].address, address)) {
            return &known->members[i];
        }
    }
    return NULL;
}

json_t *known_json(const struct known *known, const struct node_id *id)
{
    char hex[NODE_ID_HEX_CHARS + 1];
    node_id_format(id, hex);
    json_t *object = json_object();
    json_object_set_new(object, "node", json_string(hex));
    const struct member_info *member = known_find(known, id);
    if (member) {
        char address[ADDRESS_TEXT_CHARS + 1];
        address_format(&member->address, address);
        json_object_set_new(object, "name", json_string(member->name));
        json_object_set_new(object, "zone", json_string(member->zone));
        json_object_set_new(object, "address", json_string(address));
        if (member->is_self) {
            json_object_set_new(object, "self", json_true());
        }
    }
    return object;
}

static bool is_shunned(const struct known *known, const struct node_id *id)
{
    for (size_t i = 0; i < known->shunned_count; i++) {
        if (node_id_equal(&known->shunned[i], id)) {
            return true;
        }
    }
    return false;
}

/* It may have gone after it was asked. */
static bool is_unreachable(const struct known *known, const struct node_id *id)
{
    const struct member_info *member = known_find(known, id);
    return member && member->version.status == MEMBER_UNREACHABLE;
}

/* NULL: it was asked. */
static const char *why_not_asked(const struct known *known, const struct locate_answer *answer)
{
    switch (answer->outcome) {
    case LOCATE_UNREACHABLE:
        return "unreachable";
    case LOCATE_SILENT:
        return "silent";
    case LOCATE_HAS_COMPLETE:
    case LOCATE_HAS_PARTIAL:
        return is_shunned(known, &answer->node)       ? "shunned"
               : is_unreachable(known, &answer->node) ? "unreachable"
                                                      : NULL;
    case LOCATE_DENIED:
        break;
    }
    return NULL;
}

json_t *known_not_asked(const struct known *known, const struct locate_answer *answers,
                        size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        const char *why = why_not_asked(known, &answers[i]);
        if (why) {
            json_t *object = known_json(known, &answers[i].node);
            json_object_set_new(object, "why", json_string(why));
            json_array_append_new(list, object);
        }
    }
    return list;
}

static void add_named(const struct known *known, const struct locate_answer *answer,
                      struct buf *text)
{
    char hex[NODE_ID_HEX_CHARS + 1];
    char address[ADDRESS_TEXT_CHARS + 1];
    const struct member_info *member = known_find(known, &answer->node);
    if (member) {
        address_format(&member->address, address);
        buf_add_format(text, "%s (zone %s, %s, %s)", member->name, member->zone, address,
                       why_not_asked(known, answer));
    } else {
        node_id_format(&answer->node, hex);
        buf_add_format(text, "%s (%s)", hex, why_not_asked(known, answer));
    }
}

void known_add_not_asked(const struct known *known, const struct locate_answer *answers,
                         size_t count, struct buf *text)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++) {
        total += why_not_asked(known, &answers[i]) != NULL;
    }
    if (total == 0) {
        return;
    }
    buf_add_format(text, "%zu could not be asked: ", total);
    size_t named = 0;
    for (size_t i = 0; i < count && named < NAMED_MAX; i++) {
        if (why_not_asked(known, &answers[i])) {
            buf_add_string(text, named > 0 ? ", " : "");
            add_named(known, &answers[i], text);
            named++;
        }
    }
    if (total > named) {
        buf_add_format(text, " and %zu more", total - named);
    }
}
