/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

/*
 * err: what can go wrong, as a closed list of negative errno values.
 *
 *   -EINVAL  an argument makes no sense         -ENOENT   not here
 *   -EEXIST  is here already                    -EACCES   not permitted
 *   -EBUSY   in use by somebody else            -EAGAIN   not now, try again
 *   -EIO     the disk or the network failed     -ENOSPC   the disk is full
 *   -EROFS   cannot be written here             -EMFILE   too many open files
 *   -ENOTDIR a directory is needed              -EISDIR   a directory is in the way
 *   -ENOTEMPTY  a directory holds something     -EFBIG    larger than its named limit
 *   -ENAMETOOLONG  a name or path is too long   -EILSEQ   text is not UTF-8
 *   -EPROTO  bytes from outside are malformed   -EPROTONOSUPPORT  of another version
 *   -EBADMSG the bytes are not what they were   -ESTALE   changed underneath
 *   -ENOTRECOVERABLE  stopped after a failed sync; only a restart helps
 *   -ETIMEDOUT  took too long                   -ECANCELED  given up on request
 *   -EOVERFLOW  a number does not fit           -EPIPE    the reader has gone
 *   -EOPNOTSUPP the file system cannot do it    -ENOMEM   no address space left
 *   -EHOSTUNREACH  may be there, but who could tell can't be asked
 *
 * Text for people is added once, at the edge, where the request or the command is known.
 */

#include <errno.h>

/* `number` (as errno holds it, positive) as one of the list above; what is not in it is -EIO. */
int err_from_errno(int number);

/* The stable name of `err` ("no_space"), for programs; and a phrase ("no space left on the disk")
 * for people. Both static; 0 is "ok". */
const char *err_name(int err);
const char *err_text(int err);

#endif
