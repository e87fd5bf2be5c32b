/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LINK_CROSSING_H
#define LINK_CROSSING_H

/*
 * crossing: whether a connection that comes in from a peer is taken, when one with that peer
 * stands, or is being made, already. A pure function, so that both ends can be played through.
 *
 * Two nodes may open connections to each other at the same moment; one must remain, and both must
 * find the same one. The one opened by the lower id does. What makes it hard is to tell this case
 * from another: the peer has lost the connection that we believe to stand, and comes again. Then
 * the new one must be taken, or the two stay apart until we notice. So each side numbers the
 * connections that it opens, and says in its preamble which number of the other it took last:
 *
 *   - whoever has our connection n among those it took, and opens one nevertheless, has lost n;
 *   - whoever has not, has not seen it yet: they cross.
 *
 * The loser is refused, or closed, before anything but preambles was sent on it.
 */

#include <stdbool.h>
#include <stdint.h>

#include "link/preamble.h"

/* What stands between us and the peer. */
struct crossing_standing {
    struct node_id own_id;
    uint64_t own_nonce;
    bool is_outgoing;    /* opened by us */
    bool is_asked;       /* outgoing: our preamble may have reached the peer */
    bool is_established; /* both preambles were exchanged */
    uint64_t boot_nonce; /* of the peer, if established */
    uint64_t number;     /* its opener's */
};

/* True: take `incoming` in place of `standing`, false: refuse it. */
bool crossing_takes(const struct crossing_standing *standing, const struct preamble *incoming);

#endif
