/* SPDX-License-Identifier: Apache-2.0 */
#include "node/identity.h"

#include <fcntl.h>
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "hash/sha256.h"

#define KEY_NAME "node.key"
#define KEY_FILE_BYTES_MAX ((size_t)16 * 1024)

static int generate(gnutls_x509_privkey_t key, int dir_fd)
{
    gnutls_datum_t text = {0};
    if (gnutls_x509_privkey_generate(key, GNUTLS_PK_EDDSA_ED25519, 0, 0) < 0 ||
        gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN,
                                          &text) < 0) {
        return -EIO;
    }
    /* file_replace() makes it readable by its owner alone. */
    const int err = file_replace(dir_fd, KEY_NAME, BYTES(text.data, text.size));
    gnutls_memset(text.data, 0, text.size);
    gnutls_free(text.data);
    return err;
}

static int load(gnutls_x509_privkey_t key, int dir_fd)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    int err = file_read_path(dir_fd, KEY_NAME, KEY_FILE_BYTES_MAX, &text);
    if (err) {
        return err == -EFBIG ? -EPROTO : err;
    }
    const gnutls_datum_t datum = {.data = text.data, .size = (unsigned)text.size};
    if (gnutls_x509_privkey_import2(key, &datum, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN) <
            0 ||
        gnutls_x509_privkey_get_pk_algorithm(key) != GNUTLS_PK_EDDSA_ED25519) {
        err = -EPROTO;
    }
    gnutls_memset(text.data, 0, text.size);
    return err;
}

static int id_of(gnutls_x509_privkey_t key, struct node_id *ret_id)
{
    gnutls_ecc_curve_t curve;
    gnutls_datum_t public_key = {0};
    if (gnutls_x509_privkey_export_ecc_raw(key, &curve, &public_key, NULL, NULL) < 0) {
        return -EIO;
    }
    struct id hash;
    sha256_id(BYTES(public_key.data, public_key.size), &hash);
    memcpy(ret_id->bytes, hash.bytes, NODE_ID_BYTES);
    gnutls_free(public_key.data);
    return 0;
}

int identity_open(const char *path, struct node_id *ret_id)
{
    CLEANUP_FD int dir_fd = -1;
    int err = file_open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0, &dir_fd);
    if (err) {
        return err;
    }
    gnutls_x509_privkey_t key;
    if (gnutls_x509_privkey_init(&key) < 0) {
        mem_out_of_memory();
    }
    err = load(key, dir_fd);
    if (err == -ENOENT) {
        err = generate(key, dir_fd);
    }
    if (!err) {
        err = id_of(key, ret_id);
    }
    gnutls_x509_privkey_deinit(key);
    return err;
}
