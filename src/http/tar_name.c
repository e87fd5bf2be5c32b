/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "http/tar_priv.h"

static struct bytes skip(struct bytes name, size_t count)
{
    return BYTES(name.data + count, name.size - count);
}

int tar_clean_name(struct bytes raw, struct bytes *ret_name)
{
    struct bytes name = raw;
    if (name.size == 0 || name.data[0] == '/') {
        return -EINVAL;
    }
    while (name.size > 1 && name.data[0] == '.' && name.data[1] == '/') {
        name = skip(name, 2);
        while (name.size > 0 && name.data[0] == '/') {
            name = skip(name, 1);
        }
    }
    while (name.size > 0 && name.data[name.size - 1] == '/') {
        name.size--;
    }
    if (name.size == 1 && name.data[0] == '.') {
        name.size = 0;
    }
    const int err = name.size > 0 ? path_check(name) : 0;
    if (err) {
        return err;
    }
    *ret_name = name;
    return 0;
}
