/* SPDX-License-Identifier: Apache-2.0 */
#include "client/missing.h"

#include "base/mem.h"
#include "client/entry.h"
#include "client/text.h"

/* It is only for people: a node that does not answer has told what matters. */
#define SILENCE_MS_MAX 2000
/* People are told of so many by name. */
#define NAMED_MAX 8u

static void add_node(struct buf *text, const json_t *node)
{
    const char *name = entry_text(node, "name");
    text_add_name(text, *name ? name : entry_text(node, "node"), true);
    if (*name) {
        buf_add_string(text, " (zone ");
        text_add_name(text, entry_text(node, "zone"), true);
        buf_add_format(text, ", %s, %s)", entry_text(node, "address"), entry_text(node, "why"));
    } else {
        buf_add_format(text, " (%s)", entry_text(node, "why"));
    }
}

static void add_nodes(struct buf *text, const json_t *nodes)
{
    const size_t count = json_array_size(nodes);
    if (count == 0) {
        return;
    }
    buf_add_format(text, "; %zu could not be asked: ", count);
    for (size_t i = 0; i < count && i < NAMED_MAX; i++) {
        buf_add_string(text, i > 0 ? ", " : "");
        add_node(text, json_array_get(nodes, i));
    }
    if (count > NAMED_MAX) {
        buf_add_format(text, " and %zu more", count - NAMED_MAX);
    }
}

void missing_add(struct client *client, const struct id *file, struct buf *text)
{
    char hex[ID_HEX_CHARS + 1];
    id_format(file, hex);
    CLEANUP_FREE char *target = mem_format("/why/%s", hex);
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    const struct client_request request = {.target = target, .silence_ms_max = SILENCE_MS_MAX};
    if (!client_perform(client, &request, &response)) {
        return;
    }
    json_t *why = json_loadb(buf_string(&response.body), response.body.size, 0, NULL);
    add_nodes(text, json_object_get(why, "not_asked"));
    json_decref(why);
}
