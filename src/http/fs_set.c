/* SPDX-License-Identifier: Apache-2.0 */
#include "http/fs_set_priv.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/hex.h"
#include "base/mem.h"
#include "http/field.h"

void fs_set_done(struct fs_set *set)
{
    for (size_t i = 0; i < set->values_count; i++) {
        free(set->values[i]);
    }
    free(set->values);
    free(set->changes);
}

static int compare_names(const void *left, const void *right)
{
    const struct tree_set_attribute *a = left;
    const struct tree_set_attribute *b = right;
    return bytes_compare(a->attribute.name, b->attribute.name);
}

/* Hex digits, or null: it goes. */
static int read_value(const json_t *json, struct fs_set *set, struct tree_set_attribute *change)
{
    const char *hex = json_string_value(json);
    if (json_is_null(json)) {
        change->is_removed = true;
        return 0;
    }
    if (!hex) {
        return -EPROTO;
    }
    const size_t size = strlen(hex) / 2;
    uint8_t *value = mem_alloc(size + 1);
    set->values[set->values_count++] = value;
    change->attribute.value = BYTES(value, size);
    return hex_parse(bytes_of_string(hex), size, value) ? -EPROTO : 0;
}

static int read_attributes(json_t *json, struct fs_set *set)
{
    const char *name = NULL;
    json_t *value = NULL;
    size_t count = 0;
    if (!json_is_object(json)) {
        return -EPROTO;
    }
    if (json_object_size(json) > TREE_ATTRIBUTES_MAX) {
        return -EFBIG;
    }
    set->changes = mem_alloc_array(json_object_size(json) + 1, sizeof *set->changes);
    set->values = mem_alloc_array(json_object_size(json) + 1, sizeof *set->values);
    json_object_foreach(json, name, value)
    {
        struct tree_set_attribute *change = &set->changes[count++];
        change->attribute.name = bytes_of_string(name);
        const int err = name[0] ? read_value(value, set, change) : -EPROTO;
        if (err) {
            return err;
        }
    }
    qsort(set->changes, count, sizeof *set->changes, compare_names);
    set->set.changes = set->changes;
    set->set.changes_count = count;
    return 0;
}

int fs_set_read(const json_t *body, struct fs_set *set)
{
    const json_t *mode = json_object_get(body, "mode");
    const json_t *mtime = json_object_get(body, "mtime");
    json_t *attributes = json_object_get(body, "attributes");
    set->set.has_mode = mode != NULL;
    set->set.has_mtime = mtime != NULL;
    if ((mode &&
         (!json_is_string(mode) || field_mode_parse(json_string_value(mode), &set->set.mode))) ||
        (mtime && (!json_is_string(mtime) ||
                   field_time_parse(json_string_value(mtime), &set->set.mtime_ns)))) {
        return -EPROTO;
    }
    return attributes ? read_attributes(attributes, set) : 0;
}
