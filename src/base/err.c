/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <stddef.h>

#include "base/mem.h"

struct err_entry {
    int number; /* positive, as errno holds it */
    const char *name;
    const char *text;
};

/* The closed list. Names are part of the HTTP interface: add, never rename. */
static const struct err_entry err_list[] = {
    {0, "ok", "no error"},
    {EINVAL, "invalid", "invalid argument"},
    {ENOENT, "not_found", "not found"},
    {EEXIST, "exists", "exists already"},
    {EACCES, "not_permitted", "not permitted"},
    {EBUSY, "busy", "in use by somebody else"},
    {EAGAIN, "try_again", "not possible now, try again"},
    {EIO, "io", "the disk or the network failed"},
    {ENOSPC, "no_space", "no space left on the disk"},
    {EROFS, "read_only", "cannot be written here"},
    {EMFILE, "too_many_files", "too many open files"},
    {ENOTDIR, "not_a_directory", "not a directory"},
    {EISDIR, "is_a_directory", "is a directory"},
    {ENOTEMPTY, "not_empty", "the directory is not empty"},
    {EFBIG, "too_large", "larger than its limit"},
    {ENAMETOOLONG, "name_too_long", "the name or path is too long"},
    {EILSEQ, "not_utf8", "the text is not UTF-8"},
    {EPROTO, "malformed", "malformed data"},
    {EPROTONOSUPPORT, "other_version", "of a version that is not supported"},
    {EOPNOTSUPP, "not_supported", "the file system cannot do it"},
    {EBADMSG, "corrupt", "the data is corrupt"},
    {ESTALE, "stale", "changed in the meantime"},
    {ENOTRECOVERABLE, "stopped", "stopped after a failed sync; restart to recover"},
    {ETIMEDOUT, "timed_out", "took too long"},
    {ECANCELED, "cancelled", "cancelled"},
    {EOVERFLOW, "overflow", "the number does not fit"},
    {ENOMEM, "no_address_space", "the process may have no more memory (see ulimit -v)"},
    {EPIPE, "reader_gone", "the reader has gone"},
    {EHOSTUNREACH, "unreachable", "nodes that may have it cannot be reached"},
};

static const struct err_entry *find(int number)
{
    for (size_t i = 0; i < ARRAY_SIZE(err_list); i++) {
        if (err_list[i].number == number) {
            return &err_list[i];
        }
    }
    return NULL;
}

int err_from_errno(int number)
{
    switch (number) {
    case EPERM:
        return -EACCES;
    case ENFILE:
        return -EMFILE;
    case EDQUOT:
        return -ENOSPC;
    case EINTR:
        return -EAGAIN;
    case ETXTBSY:
    case EDEADLK:
    case EADDRINUSE:
        return -EBUSY;
    case ECONNRESET:
    case ECONNABORTED:
    case ESHUTDOWN:
        return -EPIPE;
    case ENOSYS:
        return -EOPNOTSUPP;
    /* The caller named something that cannot be: a loop of links, another file system, a bad
     * descriptor or address. */
    case ELOOP:
    case EXDEV:
    case EBADF:
    case EFAULT:
    case ERANGE:
    case EDOM:
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:
        return -EINVAL;
    case EMSGSIZE:
    case E2BIG:
        return -EFBIG;
    default:
        /* Never 0: whoever asks has seen something fail. */
        return number > 0 && find(number) ? -number : -EIO;
    }
}

const char *err_name(int err)
{
    const struct err_entry *entry = find(-err);
    return entry ? entry->name : "unknown";
}

const char *err_text(int err)
{
    const struct err_entry *entry = find(-err);
    return entry ? entry->text : "unknown error";
}
