/* SPDX-License-Identifier: Apache-2.0 */
#include "link/crossing.h"

/* The peer took it once. */
static bool is_known(const struct crossing_standing *standing, const struct preamble *incoming)
{
    return incoming->known_nonce == standing->own_nonce &&
           incoming->known_number >= standing->number;
}

bool crossing_takes(const struct crossing_standing *standing, const struct preamble *incoming)
{
    if (standing->is_established && standing->boot_nonce != incoming->boot_nonce) {
        return true; /* The peer was started anew, and knows nothing of what stands. */
    }
    if (!standing->is_outgoing) {
        return incoming->number > standing->number;
    }
    if (!standing->is_asked || is_known(standing, incoming)) {
        return true; /* The peer can't know of ours; or it did, and has lost it. */
    }
    return !standing->is_established && node_id_compare(&incoming->id, &standing->own_id) < 0;
}
