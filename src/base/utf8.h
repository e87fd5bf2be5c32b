/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

/*
 * utf8: characters in a run of bytes (RFC 3629: no overlong forms, no surrogates, nothing above
 * U+10FFFF).
 */

#include "base/bytes.h"

#define UTF8_CHAR_BYTES_MAX 4

/* How many bytes the first character of `text` takes; 0 if it is none or `text` is empty. */
size_t utf8_char_size(struct bytes text);

/* True if `text` begins with a control character: U+0000 to U+001F and U+007F to U+009F, which
 * terminals obey. */
bool utf8_is_control(struct bytes text);

#endif
