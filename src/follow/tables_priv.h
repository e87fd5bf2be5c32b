/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FOLLOW_TABLES_PRIV_H
#define FOLLOW_TABLES_PRIV_H

/*
 * tables: what places.c and adoptions.c share: the tables of DIR/.artel-follow/index.
 */

#include "follow/places_priv.h"

enum follow_table {
    TABLE_PLACES,    /* SHA-256 of the path -> tables_decode_place() */
    TABLE_ROOTS,     /* likewise */
    TABLE_HOOKS,     /* number -> JSON */
    TABLE_ABOUT,     /* name -> text */
    TABLE_ADOPTIONS, /* attempts u8, number u64 -> flags u8, id, size u64, path */
    TABLE_ADOPTED,   /* SHA-256 of the path, id -> the key of that */
    TABLES_COUNT,
};

/* The caller frees *ret_place. -EIO. */
[[nodiscard]] int tables_decode_place(struct bytes value, struct place **ret_place);

#endif
