/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include "base/mem.h"
#include "helpers.h"

/* The list of err.h. */
static const int listed[] = {
    EINVAL,    ENOENT,     EEXIST,          EACCES,          EBUSY,     EAGAIN, EIO,
    ENOSPC,    EROFS,      EMFILE,          ENOTDIR,         EISDIR,    EFBIG,  ENOTEMPTY,
    EILSEQ,    EPROTO,     EBADMSG,         EPROTONOSUPPORT, ESTALE,    EPIPE,  ENAMETOOLONG,
    ETIMEDOUT, EOPNOTSUPP, ENOTRECOVERABLE, ECANCELED,       EOVERFLOW, ENOMEM, EHOSTUNREACH};

static bool is_listed(int err)
{
    for (size_t i = 0; i < ARRAY_SIZE(listed); i++) {
        if (err == -listed[i]) {
            return true;
        }
    }
    return false;
}

static void what_is_listed_stays(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(listed); i++) {
        assert_int_equal(err_from_errno(listed[i]), -listed[i]);
    }
}

static void the_list_is_closed(void **state)
{
    (void)state;
    for (int number = -200; number < 1000; number++) {
        assert_true(is_listed(err_from_errno(number)));
    }
}

static void close_relatives_are_merged(void **state)
{
    (void)state;
    assert_int_equal(err_from_errno(EPERM), -EACCES);
    assert_int_equal(err_from_errno(ENFILE), -EMFILE);
    assert_int_equal(err_from_errno(EDQUOT), -ENOSPC);
    assert_int_equal(err_from_errno(EWOULDBLOCK), -EAGAIN);
    assert_int_equal(err_from_errno(ELOOP), -EINVAL);
    assert_int_equal(err_from_errno(ECONNRESET), -EPIPE);
    assert_int_equal(err_from_errno(ENOTSUP), -EOPNOTSUPP);
    assert_int_equal(err_from_errno(ENOSYS), -EOPNOTSUPP);
    assert_int_equal(err_from_errno(ETXTBSY), -EBUSY);
}

static void the_unknown_is_io_and_never_success(void **state)
{
    (void)state;
    assert_int_equal(err_from_errno(ENETRESET), -EIO);
    assert_int_equal(err_from_errno(99999), -EIO);
    assert_int_equal(err_from_errno(0), -EIO);
    assert_int_equal(err_from_errno(-ENOENT), -EIO);
}

static void names_are_stable_and_distinct(void **state)
{
    (void)state;
    assert_string_equal(err_name(0), "ok");
    assert_string_equal(err_name(-ENOSPC), "no_space");
    assert_string_equal(err_text(-ENOSPC), "no space left on the disk");
    for (size_t i = 0; i < ARRAY_SIZE(listed); i++) {
        const char *name = err_name(-listed[i]);
        assert_string_not_equal(name, "unknown");
        assert_int_equal(strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_"), strlen(name));
        assert_true(strlen(err_text(-listed[i])) > 0);
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(name, err_name(-listed[j]));
            assert_string_not_equal(err_text(-listed[i]), err_text(-listed[j]));
        }
    }
}

static void what_is_no_error_of_the_list_is_unknown(void **state)
{
    (void)state;
    assert_string_equal(err_name(ENOENT), "unknown");
    assert_string_equal(err_name(-ENETRESET), "unknown");
    assert_string_equal(err_text(-ENETRESET), "unknown error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_listed_stays),
        cmocka_unit_test(the_list_is_closed),
        cmocka_unit_test(close_relatives_are_merged),
        cmocka_unit_test(the_unknown_is_io_and_never_success),
        cmocka_unit_test(names_are_stable_and_distinct),
        cmocka_unit_test(what_is_no_error_of_the_list_is_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
